/**
 * The mirrors of one side that is open here: one end of each mirror, found again when the side is opened, and made what the operator wants it to be. What volumes, log records, consistency
 * points and messages have to do with mirrors goes from here to the end that it concerns.
 */
import type { Journal } from '../fs/journal.ts'
import { TryLater } from '../fs/journal.ts'
import type { MirrorRecord } from '../mirror/frames.ts'
import type { Message, ToSource } from '../mirror/messages.ts'
import type { MirrorReason, MirrorStatus } from '../mirror/status.ts'
import { isKnown } from '../mirror/records.ts'
import type { LogRecord } from '../nvlog/batch.ts'
import { decodeJson } from '../std/ascii-json.ts'
import { isPromise } from '../std/maybe.ts'
import type { MaybePromise } from '../std/maybe.ts'
import type { AggregateStore } from './aggregate-store.ts'
import { BrokenEnd } from './mirror-broken-end.ts'
import { DestinationEnd } from './mirror-destination-end.ts'
import { MirrorDirections } from './mirror-directions.ts'
import type { EndContext, EndPlace, MirrorEnd, recordOf } from './mirror-end.ts'
import { volumeOf } from './mirror-end.ts'
import { SourceEnd } from './mirror-source-end.ts'
import { UnknownEnd } from './mirror-unknown-end.ts'
import type { MirrorsContext } from './mirrors-context.ts'
import type { DesiredMirror } from './served-volumes.ts'
import type { StoreMirroring } from './store-mirroring.ts'
import type { VolumeOperation } from './volume-operation.ts'
import { NotServedError } from '../vfs/vfs.ts'
import { isDestination } from './volumes.ts'
import type { FilerVolume } from './volumes.ts'

/** Between two attempts to find the filer that serves the other end. */
const GREET_MS = 200

export class StoreMirrors implements StoreMirroring, EndContext {
  readonly mirrors: MirrorsContext
  readonly side: string
  readonly store: AggregateStore
  readonly opening: number
  openedAt = 0
  newestSeq = 0
  served = false
  closed = false
  readonly #hooks: { served(): void; closed(): void }
  readonly #ends = new Map<string, MirrorEnd>()
  readonly #byVolume = new Map<string, MirrorEnd>()
  readonly #directions: MirrorDirections
  /** Records of volumes beyond the image. What their mirrors are in the end, records behind them may say. */
  readonly #replayed = new Map<string, MirrorRecord[]>()
  readonly #restores = new Map<string, number>()
  #cpLeast = 0
  #cpEnded: (() => void)[] = []
  #timer: { cancel(): void } | undefined

  constructor(
    mirrors: MirrorsContext,
    side: string,
    store: AggregateStore,
    hooks: { served(): void; closed(): void },
  ) {
    this.mirrors = mirrors
    this.side = side
    this.store = store
    this.#hooks = hooks
    this.opening = mirrors.options.env.random.u32()
    this.#directions = new MirrorDirections(this)
  }

  // What the store asks.

  get cpLeast(): number {
    let least = this.#cpLeast
    for (const end of this.#ends.values()) least = Math.max(least, end.cpLeast)
    return least
  }

  replayed(aggregate: string, record: LogRecord): void {
    this.openedAt = Math.max(this.openedAt, record.seq)
    const store = this.store.aggregates.get(aggregate)!
    if (record.seq <= store.root.covers) return
    if (record.volume === 0) {
      const operation = decodeJson(record.body) as VolumeOperation
      if (operation.op === 'restore') this.#restores.set(operation.id, record.seq)
      return
    }
    const volume = store.volumeAt(record.volume)
    if (volume === undefined || volume.properties['mirror'] === undefined) return
    const kept = this.#replayed.get(volume.id) ?? []
    kept.push({ seq: record.seq, body: record.body.slice() })
    this.#replayed.set(volume.id, kept)
  }

  /** What is open here is served from now on. */
  serve(): void {
    this.openedAt = Math.max(this.openedAt, this.store.covers)
    this.newestSeq = this.openedAt
    for (const [name, aggregate] of this.store.aggregates) {
      for (const volume of aggregate.volumes()) this.#enter(name, volume)
    }
    // Behind a takeover the destination may have operations of two epochs that this filer's image does not know.
    for (const end of this.#ends.values())
      if (end instanceof SourceEnd) this.#cpLeast = Math.max(this.#cpLeast, end.mirror.epoch)
    this.served = true
    for (const end of this.#ends.values()) if (end instanceof SourceEnd) end.mirror.start()
    this.#hooks.served()
    this.#greet()
  }

  applied(aggregate: string, operation: VolumeOperation, seq: number): void {
    this.newestSeq = seq
    if (operation.op === 'restore') return this.#restored(this.#byVolume.get(operation.id), seq)
    const turned =
      operation.op === 'unmirror' || (operation.op === 'mirror' && operation.mirror.role !== undefined)
    const volume = turned ? this.store.aggregates.get(aggregate)?.volume(operation.id) : undefined
    if (volume === undefined || this.closed) return
    const before = this.#byVolume.get(volume.id)
    before?.closed()
    this.#byVolume.delete(volume.id)
    if (before !== undefined) this.#ends.delete(before.id)
    this.#enter(aggregate, volume)
    const end = this.#byVolume.get(volume.id)
    if (end instanceof SourceEnd) end.mirror.start()
  }

  /** No log file says what a restore changes: a source has images only until the destination has one of behind it. */
  #restored(end: MirrorEnd | undefined, seq: number): void {
    if (end instanceof BrokenEnd) end.tally.add(seq, 0)
    if (end instanceof SourceEnd) end.mirror.restored(seq)
  }

  #enter(aggregate: string, volume: FilerVolume): void {
    const { mirror: record } = volume.properties as unknown as {
      mirror?: NonNullable<ReturnType<typeof recordOf>>
    }
    if (record === undefined) return
    const place = { id: record.id, aggregate, volumeId: volume.id }
    const end = !isKnown(record)
      ? new UnknownEnd(this, place, record)
      : record.role === 'Source'
        ? new SourceEnd(this, place, record)
        : record.broken !== undefined
          ? new BrokenEnd(this, place, record.broken)
          : new DestinationEnd(this, place, record)
    this.#ends.set(place.id, end)
    this.#byVolume.set(place.volumeId, end)
    for (const { seq, body } of this.#replayed.get(place.volumeId) ?? []) end.replayed(seq, body)
    this.#replayed.delete(place.volumeId)
    const restore = this.#restores.get(place.volumeId)
    if (restore !== undefined) this.#restored(end, restore)
    this.#restores.delete(place.volumeId)
  }

  journal(volume: FilerVolume, own: Journal): Journal {
    const end = (): MirrorEnd | undefined => this.#byVolume.get(volume.id)
    const admit = (bytes: number): MaybePromise<void> => {
      // What waited for blocks while the volume became a destination does not go on.
      if (isDestination(volume)) return Promise.reject(new TryLater())
      const one = end()
      const first = one instanceof SourceEnd ? one.mirror.admit() : undefined
      if (isPromise(first)) return first.then(() => admit(bytes))
      const second = own.admit(bytes)
      return isPromise(second) && one instanceof SourceEnd ? second.then(() => admit(bytes)) : second
    }
    return {
      admit,
      append: (index, record) => {
        const seq = own.append(index, record)
        this.newestSeq = seq
        const one = end()
        if (one instanceof SourceEnd) one.mirror.appended(seq, record)
        else if (one instanceof BrokenEnd) one.appended(seq, record)
        return seq
      },
      answer: (seq) => {
        const answered = own.answer(seq)
        const one = end()
        if (one === undefined || one instanceof BrokenEnd) return answered
        return isPromise(answered) ? answered.then(() => answer(end(), seq)) : answer(one, seq)
      },
    }
  }

  freezing(cp: number, covers: number): void {
    this.newestSeq = Math.max(this.newestSeq, covers)
    for (const end of this.#ends.values()) end.freezing(cp, covers)
  }

  frozen(): void {
    for (const end of this.#ends.values()) end.frozen()
  }

  rooted(): void {
    if (this.mirrors.options.broken?.endEarly !== true) return
    for (const end of this.#ends.values()) if (end instanceof SourceEnd) end.committed()
  }

  committed(): void {
    for (const end of this.#ends.values()) end.committed()
    for (const resolve of this.#cpEnded.splice(0)) resolve()
  }

  close(): void {
    this.closed = true
    this.#timer?.cancel()
    for (const end of this.#ends.values()) end.closed()
    for (const resolve of this.#cpEnded.splice(0)) resolve()
    this.#hooks.closed()
  }

  // Messages.

  #greet(): void {
    if (this.closed) return
    for (const end of this.#ends.values()) if (end instanceof SourceEnd) end.greet()
    this.#timer = this.mirrors.options.env.clock.after(GREET_MS, () => this.#greet())
  }

  fromDestination(peer: string, head: ToSource): void {
    const end = this.#ends.get(head.mirror)
    if (end instanceof SourceEnd) end.message(peer, head)
  }

  /** False: this side has no end of that mirror. */
  fromSource(peer: string, message: Message): boolean {
    const end = this.#ends.get(message.head.mirror)
    if (end === undefined) return false
    if (end instanceof DestinationEnd) end.message(peer, message)
    else if (message.head.type === 'resume') this.#directions.greeted(end, peer, message)
    return true
  }

  lost(peer: string): void {
    for (const end of this.#ends.values()) end.lost(peer)
  }

  // What the ends ask.

  wanted(id: string): DesiredMirror | undefined {
    return this.mirrors.desired.find((one) => one.id === id)
  }

  change(aggregate: string, operation: VolumeOperation & { readonly id: string }): Promise<void> {
    return this.store.change(aggregate, (store) => (store.volume(operation.id) ? operation : undefined))
  }

  nextCp(): Promise<void> {
    if (this.closed) return new Promise(() => undefined)
    return new Promise((resolve) => this.#cpEnded.push(resolve))
  }

  async wholeCp(): Promise<void> {
    const from = this.store.newestCp
    while (!this.closed && this.store.cp <= from) {
      this.store.wantCp()
      await this.nextCp()
    }
  }

  async publish(place: EndPlace): Promise<void> {
    const volume = volumeOf(this, place)
    if (volume !== undefined)
      await this.mirrors.options.volumes().publish(volume, this.store, place.aggregate)
  }

  async leaveTogether({ id }: EndPlace, reason: MirrorReason, message: string): Promise<void> {
    const peersOf = (one: string): string => [...(this.wanted(one)?.peers ?? [])].sort().join()
    const peers = peersOf(id)
    const others = [...this.#ends.values()].filter(
      (end): end is SourceEnd => end instanceof SourceEnd && end.id !== id && peersOf(end.id) === peers,
    )
    await Promise.all(others.map(({ mirror }) => mirror.leave(reason, message)))
  }

  ends(): Iterable<MirrorEnd> {
    return this.#ends.values()
  }

  end(id: string): MirrorEnd | undefined {
    return this.#ends.get(id)
  }

  async reconcile(desired: readonly DesiredMirror[]): Promise<void> {
    for (const wanted of desired) if (!this.closed) await this.#directions.reconcile(wanted)
  }

  status(): MirrorStatus[] {
    const refused = this.#directions.refused(this.mirrors.desired)
    return [...[...this.#ends.values()].map((end) => this.#directions.status(end)), ...refused]
  }
}

function answer(end: MirrorEnd | undefined, seq: number): MaybePromise<void> {
  if (end instanceof SourceEnd) return end.mirror.answer(seq)
  // The volume became a destination while a call waited: the other pair serves it.
  if (end instanceof DestinationEnd) return Promise.reject(new NotServedError())
  return undefined
}
