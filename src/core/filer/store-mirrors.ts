/**
 * The mirrors of one side that is open here: joins the protocol (core/mirror) to log records, consistency points, pins and blocks of the store.
 *
 * - At a freeze, in the same turn: the source's images and the destination's complete ones are pinned.
 * - `cpLeast`: behind a takeover the destination may have operations of two epochs that this filer's image does not know; the next consistency point is numbered above both.
 * - Breaking: the generation is raised, the newest pin becomes the files, log files behind it are repeated in the order of their records up to the first gap, and a consistency point makes it
 *   durable. Until then a crash begins all of it anew.
 */
import type { SnapshotImage } from '../block/volume-snapshots.ts'
import type { Journal } from '../fs/journal.ts'
import type { DestinationHost, DestinationRecord, Image } from '../mirror/destination.ts'
import { MirrorDestination } from '../mirror/destination.ts'
import { MirrorLogFiles } from '../mirror/log-files.ts'
import type { Message, ToSource } from '../mirror/messages.ts'
import type { MirrorRecord } from '../mirror/frames.ts'
import type { Pin, SourceHost } from '../mirror/source-host.ts'
import { SOURCE_LIMITS } from '../mirror/source-host.ts'
import { MirrorSource } from '../mirror/source.ts'
import type { LogRecord } from '../nvlog/batch.ts'
import { assert } from '../std/assert.ts'
import { then } from '../std/maybe.ts'
import type { AggregateStore } from './aggregate-store.ts'
import type { StoreMirroring } from './store-mirroring.ts'
import type { FilerAggregate, FilerVolume } from './volumes.ts'
import { streamImage } from './image-stream.ts'
import type { MirrorsContext, MirrorStatus } from './mirrors-context.ts'
import { freeIndex, propertiesOf } from './served-volumes.ts'
import type { DesiredMirror } from './served-volumes.ts'
import type { MirrorProperties, VolumeOperation } from './volume-operation.ts'

/** Between two attempts to find the filer that serves the destination. */
const GREET_MS = 200
const SOURCE_PIN = ':source.'
const IMAGE_PIN = ':image.'

interface Source {
  readonly mirror: MirrorSource
  readonly aggregate: string
  readonly volumeId: string
  peer: string | undefined
  peers: readonly string[]
}

interface Destination {
  readonly mirror: MirrorDestination
  readonly aggregate: string
  readonly volumeId: string
  peer: string | undefined
  breaking: Promise<void> | undefined
}

export class StoreMirrors implements StoreMirroring {
  readonly sources = new Map<string, Source>()
  readonly destinations = new Map<string, Destination>()
  /** Destinations that are volumes of their own now. */
  readonly #broken = new Set<string>()
  readonly #mirrors: MirrorsContext
  readonly #side: string
  readonly #store: AggregateStore
  readonly #hooks: { served(): void; closed(): void }
  readonly #opening: number
  #openedAt = 0
  /** Records of sources beyond the image. What the mirror is in the end, records behind them may say. */
  readonly #replayed = new Map<string, MirrorRecord[]>()
  #replayedAny = false
  #served = false
  #closed = false
  #cpEnded: (() => void)[] = []
  #timer: { cancel(): void } | undefined

  constructor(
    mirrors: MirrorsContext,
    side: string,
    store: AggregateStore,
    hooks: { served(): void; closed(): void },
  ) {
    this.#mirrors = mirrors
    this.#side = side
    this.#store = store
    this.#hooks = hooks
    this.#opening = mirrors.options.env.random.u32()
  }

  get #env() {
    return this.#mirrors.options.env
  }

  // What the store asks.

  get cpLeast(): number {
    return this.#replayedAny ? this.#epochAtOpening : 0
  }
  #epochAtOpening = 0

  replayed(aggregate: string, record: LogRecord): void {
    this.#openedAt = Math.max(this.#openedAt, record.seq)
    const store = this.#store.aggregates.get(aggregate)!
    if (record.volume === 0 || record.seq <= store.root.covers) return
    const volume = store.volumeAt(record.volume)
    if (volume === undefined || propertiesOf(volume).mirror?.role !== 'Source') return
    const kept = this.#replayed.get(volume.id) ?? []
    kept.push({ seq: record.seq, body: record.body.slice() })
    this.#replayed.set(volume.id, kept)
  }

  served(): void {
    this.#openedAt = Math.max(this.#openedAt, this.#store.covers)
    for (const [name, aggregate] of this.#store.aggregates) {
      for (const volume of aggregate.volumes()) this.#enter(name, volume)
    }
    this.#served = true
    for (const { mirror } of this.sources.values()) mirror.start()
    this.#hooks.served()
    this.#greet()
  }

  #enter(aggregate: string, volume: FilerVolume): void {
    const { mirror } = propertiesOf(volume)
    if (mirror?.role === 'Source') this.#source(aggregate, volume)
    else if (mirror?.state === 'Broken') this.#broken.add(mirror.id)
    else if (mirror?.role === 'Destination') this.#destination(aggregate, volume, mirror)
  }

  journal(volume: FilerVolume, own: Journal): Journal {
    const source = (): MirrorSource | undefined => {
      const id = volume.id
      for (const one of this.sources.values()) if (one.volumeId === id) return one.mirror
      return undefined
    }
    return {
      admit: (bytes) => {
        const mirror = source()
        return mirror === undefined ? own.admit(bytes) : then(mirror.admit(), () => own.admit(bytes))
      },
      append: (index, record) => {
        const seq = own.append(index, record)
        source()?.appended(seq, record)
        return seq
      },
      answer: (seq) => {
        const mirror = source()
        return mirror === undefined ? own.answer(seq) : then(own.answer(seq), () => mirror.answer(seq))
      },
    }
  }

  freezing(cp: number, covers: number): void {
    for (const { mirror, aggregate, volumeId } of this.sources.values()) {
      const volume = this.#store.aggregates.get(aggregate)?.volume(volumeId)
      if (volume === undefined) continue
      const pin = mirror.freezing(cp)
      const properties = propertiesOf(volume)
      if (properties.mirror?.role === 'Source' && properties.mirror.last !== mirror.last) {
        volume.properties = {
          ...volume.properties,
          mirror: { ...properties.mirror, last: mirror.last },
        }
        volume.touch()
      }
      if (pin) volume.snapshots.pin(`${SOURCE_PIN}${cp}`, String(covers), this.#env.clock.wall().seconds)
    }
    for (const { mirror } of this.destinations.values()) mirror.freezing()
  }

  frozen(): void {
    for (const { mirror } of this.destinations.values()) mirror.frozen()
  }

  committed(): void {
    for (const { mirror } of this.sources.values()) mirror.committed()
    for (const { mirror } of this.destinations.values()) mirror.committed()
    for (const resolve of this.#cpEnded.splice(0)) resolve()
  }

  closed(): void {
    this.#closed = true
    this.#timer?.cancel()
    for (const { mirror } of this.sources.values()) mirror.close()
    for (const { mirror, peer } of this.destinations.values()) {
      void mirror.close()
      if (peer !== undefined)
        this.#mirrors.link.send(peer, { type: 'elsewhere', mirror: mirror.id, session: mirror.session })
    }
    for (const resolve of this.#cpEnded.splice(0)) resolve()
    this.#hooks.closed()
  }

  // Sources.

  #source(aggregate: string, volume: FilerVolume): Source | undefined {
    const { mirror: record } = propertiesOf(volume)
    if (record?.role !== 'Source') return undefined
    const known = this.sources.get(record.id)
    if (known !== undefined) return known
    const { id: volumeId } = volume
    const { env } = this.#mirrors.options
    const there = (): FilerVolume | undefined => this.#store.aggregates.get(aggregate)?.volume(volumeId)
    const pinned = (): readonly SnapshotImage[] => there()?.snapshots.pins(SOURCE_PIN) ?? []
    const pinOf = (image: SnapshotImage): Pin => ({
      image: numberIn(image.name),
      covers: Number(image.requestId),
    })
    const host: SourceHost = {
      crc32: env.crc32,
      broken: this.#mirrors.options.broken ?? {},
      now: () => env.clock.now(),
      after: (ms, task) => env.clock.after(ms, task),
      newSession: () => env.random.u32() || 1,
      fence: () => this.#mirrors.options.fence(this.#side),
      opening: this.#opening,
      send: (head, body) => {
        if (source.peer !== undefined) this.#mirrors.link.send(source.peer, head, body)
      },
      record: (state) => this.#change(aggregate, { op: 'mirror', id: volumeId, mirror: { state } }),
      wantCp: () => this.#store.wantCp(),
      pins: () => pinned().map(pinOf),
      unpin: (image) => {
        const found = pinned().find((one) => numberIn(one.name) === image)
        if (found !== undefined) there()?.snapshots.unpin(found.id)
      },
      stream: async (from, to, room) => {
        const images = pinned()
        const find = (pin: Pin | undefined) => images.find((one) => numberIn(one.name) === pin?.image)
        const ends = { from: find(from), to: find(to)! }
        await streamImage(this.#store.aggregates.get(aggregate)!, there()!, ends, to, source.mirror, room)
      },
      log: (event, fields) => env.log('info', event, { volume: there()?.name, ...fields }),
    }
    const bound = record.state === 'InSync'
    if (bound && !this.#served) this.#replayedAny = true
    this.#epochAtOpening = Math.max(this.#epochAtOpening, this.#store.cp + (bound ? 2 : 1))
    const at = {
      last: record.last,
      openedAt: () => this.#openedAt,
      epoch: this.#served ? this.#store.newestCp + 1 : this.#store.cp + 2,
    }
    const source: Source = {
      mirror: new MirrorSource(host, record, at, this.#mirrors.options.limits),
      aggregate,
      volumeId,
      peer: undefined,
      peers: [],
    }
    this.sources.set(record.id, source)
    for (const { seq, body } of this.#replayed.get(volumeId) ?? []) source.mirror.replayed(seq, body)
    this.#replayed.delete(volumeId)
    return source
  }

  #greet(): void {
    if (this.#closed) return
    for (const source of this.sources.values()) {
      source.peers = this.#mirrors.desired.find(({ id }) => id === source.mirror.id)?.peers ?? []
      if (source.mirror.connected) continue
      const reachable = source.peers.filter((peer) => this.#mirrors.link.isUp(peer))
      if (reachable.length === 0) continue
      const before = source.peer === undefined ? -1 : reachable.indexOf(source.peer)
      source.peer = reachable[(before + 1) % reachable.length]
      source.mirror.greet()
    }
    this.#timer = this.#env.clock.after(GREET_MS, () => this.#greet())
  }

  fromDestination(peer: string, head: ToSource): void {
    const source = this.sources.get(head.mirror)
    if (source?.peer === peer) source.mirror.message(head)
  }

  lost(peer: string): void {
    for (const source of this.sources.values()) if (source.peer === peer) source.mirror.disconnected()
  }

  // Destinations.

  #destination(aggregate: string, volume: FilerVolume, record: DestinationRecord): void {
    if (this.destinations.has(record.id)) return
    const { id: volumeId } = volume
    const { env } = this.#mirrors.options
    const hidden = this.#store.aggregates.get(aggregate)?.volume(logVolumeOf(volumeId))
    assert(hidden !== undefined, 'a mirror without a volume for its log files')
    const logs = new MirrorLogFiles(env.crc32, hidden.content)
    const host: DestinationHost = {
      crc32: env.crc32,
      broken: this.#mirrors.options.broken ?? {},
      send: (head) => {
        if (destination.peer !== undefined) this.#mirrors.link.send(destination.peer, head)
      },
      record: (change) => this.#change(aggregate, { op: 'mirror', id: volumeId, mirror: change }),
      wantCp: () => this.#store.wantCp(),
      isFree: (number) => volume.numbers.isFree(number),
      receive: ({ number, kind, content }) => {
        assert(volume.receive(number, kind, content), 'a block of an image has a number that is in use')
      },
      free: (number) => volume.free(number),
      become: (root) => {
        volume.content.become(root)
        volume.touch()
      },
      room: async (blocks) => {
        const store = this.#store.aggregates.get(aggregate)!
        for (let tries = 0; !this.#closed; tries++) {
          const fits = store.fits(blocks)
          if (fits && this.#store.pressure() !== 'FULL') return
          if (!fits && tries > 2) throw new Error('no space for an image')
          this.#store.wantCp()
          await this.#nextCp()
        }
      },
      consistencyPoint: () => this.#nextCp(),
      pin: ({ image, covers }) =>
        volume.snapshots.pin(`${IMAGE_PIN}${image}`, String(covers), env.clock.wall().seconds),
      unpinBelow: (image) => {
        for (const pin of volume.snapshots.pins(IMAGE_PIN))
          if (numberIn(pin.name) < image) volume.snapshots.unpin(pin.id)
      },
      reset: () => {
        this.#reset(volume)
        return Promise.resolve()
      },
      log: (event, fields) => env.log('info', event, { volume: volume.name, ...fields }),
    }
    const durable = imageOf(newestImage(volume))
    const mirror = new MirrorDestination(host, logs, record, durable)
    const destination: Destination = { mirror, aggregate, volumeId, peer: undefined, breaking: undefined }
    this.destinations.set(record.id, destination)
    const opened = mirror.open()
    opened.catch((error: unknown) =>
      this.#env.log('error', 'log files cannot be opened', { cause: String(error) }),
    )
    if (record.state === 'Breaking')
      destination.breaking = opened.then(() => this.#finishBreaking(destination))
  }

  /** The files are those of the newest pin; what came of the next image is given back. */
  #reset(volume: FilerVolume): SnapshotImage {
    const pin = newestImage(volume)
    assert(pin !== undefined, 'a destination without a pin')
    volume.reset(pin)
    volume.content.become(pin.content)
    return pin
  }

  fromSource(peer: string, message: Message): boolean {
    const { mirror, session, type } = message.head
    if (this.#broken.has(mirror)) {
      // Whoever still takes himself for the source must not go on as if there were a second copy.
      if (type === 'resume')
        this.#mirrors.link.send(peer, { type: 'refused', mirror, session, reason: 'Broken' })
      return true
    }
    const destination = this.destinations.get(mirror)
    if (destination === undefined) return false
    if (type === 'resume') destination.peer = peer
    if (destination.peer === peer) destination.mirror.message(message, this.#env.clock.now())
    return true
  }

  /** Makes the destination a volume of its own. */
  async #break(destination: Destination): Promise<void> {
    const { mirror, aggregate, volumeId } = destination
    const record = propertiesOf(this.#volume(destination)).mirror as DestinationRecord
    const change = { state: 'Breaking' as const, generation: record.generation + 1 }
    await this.#change(aggregate, { op: 'mirror', id: volumeId, mirror: change })
    await mirror.close()
    await this.#finishBreaking(destination)
  }

  async #finishBreaking(destination: Destination): Promise<void> {
    const { mirror, aggregate, volumeId } = destination
    const volume = this.#volume(destination)
    // An image that is complete becomes a pin first.
    await this.#wholeCp()
    const pin = this.#reset(volume)
    let last = Number(pin.requestId)
    let repeated = 0
    for (const frame of await mirror.logs.frames(numberIn(pin.name) + 1)) {
      if (frame.last <= last) continue
      if (frame.previous > last) break
      for (const { seq, body } of frame.records) {
        if (seq <= last) continue
        await volume.content.replay(body)
        repeated += 1
      }
      last = frame.last
    }
    await this.#wholeCp()
    if (this.#closed) return
    const { fsid } = volume.content
    await this.#change(aggregate, { op: 'mirror', id: volumeId, mirror: { state: 'Broken' }, fsid })
    this.destinations.delete(mirror.id)
    this.#broken.add(mirror.id)
    for (const { id } of volume.snapshots.pins(IMAGE_PIN)) volume.snapshots.unpin(id)
    this.#store.startContent(this.#store.aggregates.get(aggregate)!, volume)
    this.#env.log('info', 'mirror broken', { volume: volume.name, image: numberIn(pin.name), repeated })
    await this.#store.change(aggregate, () => {
      const id = logVolumeOf(volumeId)
      return this.#store.aggregates.get(aggregate)?.volume(id) ? { op: 'remove', id } : undefined
    })
    await this.#mirrors.options.volumes().publish(volume, this.#store, aggregate)
  }

  #volume({ aggregate, volumeId }: Destination): FilerVolume {
    return this.#store.aggregates.get(aggregate)!.volume(volumeId)!
  }

  // Both.

  /** A consistency point that freezes after now is complete. */
  async #wholeCp(): Promise<void> {
    const from = this.#store.newestCp
    while (!this.#closed && this.#store.cp <= from) {
      this.#store.wantCp()
      await this.#nextCp()
    }
  }

  #nextCp(): Promise<void> {
    if (this.#closed) return new Promise(() => undefined)
    return new Promise((resolve) => this.#cpEnded.push(resolve))
  }

  #change(aggregate: string, operation: VolumeOperation & { readonly op: 'mirror' }): Promise<void> {
    return this.#store.change(aggregate, (store) => (store.volume(operation.id) ? operation : undefined))
  }

  async reconcile(desired: readonly DesiredMirror[]): Promise<void> {
    for (const wanted of desired) {
      if (this.#closed) return
      if (wanted.role === 'Source') await this.#reconcileSource(wanted)
      else await this.#reconcileDestination(wanted)
    }
  }

  async #reconcileSource({ id, volumeId }: DesiredMirror): Promise<void> {
    for (const [name, aggregate] of this.#store.aggregates) {
      const volume = aggregate.volume(volumeId)
      if (volume === undefined || volume.type !== 'Flexible' || propertiesOf(volume).mirror !== undefined)
        continue
      const mirror: MirrorProperties = { id, role: 'Source', state: 'Baseline', generation: 1, last: 0 }
      await this.#change(name, { op: 'mirror', id: volumeId, mirror })
      this.#enter(name, volume)
      this.sources.get(id)?.mirror.start()
    }
  }

  async #reconcileDestination({ id, volumeId, volume: wanted, state }: DesiredMirror): Promise<void> {
    const aggregate = wanted && this.#store.aggregates.get(wanted.aggregate)
    if (aggregate === undefined) return
    if (aggregate.volume(volumeId) === undefined && state === 'Mirrored')
      await this.#makeDestination(aggregate, id, volumeId, wanted!)
    const known = this.destinations.get(id)
    if (state !== 'Broken' || known === undefined) return
    known.breaking ??= this.#break(known)
    await known.breaking
  }

  async #makeDestination(
    aggregate: FilerAggregate,
    id: string,
    volumeId: string,
    { name, sizeBytes, export: exported }: NonNullable<DesiredMirror['volume']>,
  ): Promise<void> {
    const { env, volumes, limits } = this.#mirrors.options
    const { logFiles, epochBytes } = { ...SOURCE_LIMITS, ...limits }
    const made =
      (operation: { id: string; name: string; sizeBytes: number }, more: object): (() => VolumeOperation) =>
      () => ({
        op: 'create',
        ...operation,
        fsid: volumes().fsidOf(operation.id),
        index: freeIndex(aggregate),
        properties: { export: exported, seed: env.random.u32(), seconds: env.clock.wall().seconds, ...more },
      })
    const log = { id: logVolumeOf(volumeId), name: `${name}.log`, sizeBytes: 2 * logFiles * epochBytes }
    if (aggregate.volume(log.id) === undefined)
      await this.#store.change(aggregate.name, made(log, { hidden: true }))
    const mirror: DestinationRecord = {
      id,
      role: 'Destination',
      state: 'Baseline',
      generation: 1,
      fence: [0, 0],
      opening: 0,
    }
    await this.#store.change(aggregate.name, made({ id: volumeId, name, sizeBytes }, { mirror }))
    this.#enter(aggregate.name, aggregate.volume(volumeId)!)
  }

  status(): MirrorStatus[] {
    const sources = [...this.sources.values()].map(({ mirror }): MirrorStatus => {
      return { id: mirror.id, role: 'Source', ...mirror.status() }
    })
    const destinations = [...this.destinations.values()].map(({ mirror }): MirrorStatus => {
      const { id, state, durableImage } = mirror
      return { id, role: 'Destination', state, reason: '', durableImage, logFiles: mirror.logs.epochs.length }
    })
    return [...sources, ...destinations]
  }
}

const logVolumeOf = (volumeId: string): string => `${volumeId}.log`
const numberIn = (name: string): number => Number(name.slice(name.lastIndexOf('.') + 1))

function newestImage(volume: FilerVolume): SnapshotImage | undefined {
  return volume.snapshots.pins(IMAGE_PIN).at(-1)
}

function imageOf(pin: SnapshotImage | undefined): Image | undefined {
  return pin && { image: numberIn(pin.name), covers: Number(pin.requestId) }
}
