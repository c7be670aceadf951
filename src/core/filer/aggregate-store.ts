/**
 * A side's aggregates, opened: replayed, served, frozen at one instant, mirrored to the partner's plexes.
 */
import { Aggregate } from '../block/aggregate.ts'
import type { BrokenStorage } from '../block/broken-storage.ts'
import type { BufferCache } from '../block/buffer-cache.ts'
import type { Env } from '../env/env.ts'
import type { CopyDevice } from '../pair/side-copy.ts'
import { AggregateError } from '../block/errors.ts'
import { SnapshotLost } from '../block/snapshot-queue.ts'
import { readPlex } from '../block/plex-info.ts'
import { Scrub, SCRUB_INTERVAL_MS } from '../block/scrub.ts'
import type { Device } from '../env/device.ts'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { Journal } from '../fs/journal.ts'
import { FileSystem } from '../fs/volume.ts'
import type { FileSystemOptions } from '../fs/volume.ts'
import type { LogRecord } from '../nvlog/batch.ts'
import { OlderCopy } from '../pair/side-copy.ts'
import type { PartnerDevices, RootFacts, SideJournalFactory, SideStore, StoreCp } from '../pair/side-copy.ts'
import { asciiBytes, decodeJson, encodeJson } from '../std/ascii-json.ts'
import { assert } from '../std/assert.ts'
import type { MaybePromise } from '../std/maybe.ts'
import { GatedDevice } from './gated-device.ts'
import { imageDevices, sourcesOn, StoreConversions } from './store-conversions.ts'
import { StoreGrowth } from './store-growth.ts'
import { NO_MIRRORS } from './store-mirroring.ts'
import type { StoreMirroring } from './store-mirroring.ts'
import type { VolumeOperation } from './volume-operation.ts'
import { applyOperation, isServed, newContent } from './volumes.ts'
import type { FilerAggregate, FilerVolume } from './volumes.ts'

export type { FilerAggregate, FilerVolume } from './volumes.ts'

export interface AggregateDevices {
  readonly name: string
  /** Of one traditional volume alone; of flexible volumes if not said. */
  readonly type?: 'Traditional'
  /** `<aggregate>-<set>-<n>`, in order. */
  readonly devices: readonly CopyDevice[]
}

export interface AggregateCopyOptions {
  readonly env: Env
  readonly side: string
  /** This filer is the side's home. */
  readonly home: boolean
  readonly pairUid: string
  readonly cache: BufferCache
  readonly aggregates: readonly AggregateDevices[]
  /** What mirrors to other pairs do with the side while this store is open. */
  readonly mirroring?: (store: AggregateStore) => StoreMirroring
  /** Told when the side is opened, and when it is closed again. */
  readonly opened: (store: AggregateStore) => void
  readonly closed: (store: AggregateStore) => void
  /** An aggregate joined: volumes can be made in it. */
  readonly joined: () => void
  readonly onPartnerFailed: (error: Error) => void
  /** Changed blocks in memory beyond which operations wait for a consistency point. */
  readonly dirtyBytesMax: number
  /** How long a pass of the scrub may take; a week unless something else is said. */
  readonly scrubIntervalMs?: number
  /** Only in tests. */
  readonly broken?: BrokenStorage
}

/** A volume operation is shorter than this. */
const OPERATION_BYTES = 4096
/** Between consistency points that only give back what snapshots and removed volumes held. */
const BUSY_CP_MS = 200
/**
 * With less than this free (or this share of a small aggregate), a consistency point is worth waiting for if it gives blocks back. With
 * some times as much one begins early, so that nobody has to wait.
 */
const SCARCE_BLOCKS = 2048
const SCARCE_SHARE = 100
/** The largest operation fits into it twice: it must wait rather than hear that there is no space. */
const SCARCE_LEAST = 640
const EARLY = 4

/** Property of an aggregate: epoch of the last accepted loss, part of every write verifier. */
const LOSS = 'lossEpoch'
const lossOf = ({ properties }: FilerAggregate): number => Number(properties[LOSS] ?? 0)

export class AggregateStore implements SideStore {
  readonly aggregates = new Map<string, FilerAggregate>()
  /** By aggregate, while the side is served. */
  readonly scrubs = new Map<string, Scrub>()
  readonly growth: StoreGrowth
  readonly mirroring: StoreMirroring
  readonly conversions: StoreConversions
  readonly #options: AggregateCopyOptions
  /** All configured devices as this store uses them, by aggregate. */
  readonly #gates = new Map<string, readonly { readonly name: string; readonly device: GatedDevice }[]>()
  readonly #byTag = new Map<number, FilerAggregate>()
  readonly #journals = new Map<string, Journal>()
  /** Sequence number of the last volume operation, by aggregate. */
  readonly #operations = new Map<string, number>()
  /** Of the last operation that removed a volume. */
  #removedSeq = 0
  /** Volumes whose changes are held, by id. */
  readonly #holds = new Map<string, Promise<void>>()
  /** Who waits for a consistency point that begins later. */
  #cpWaiters: { readonly after: number; readonly resolve: () => void }[] = []
  #freezes = 0
  /** Tags of the aggregates that the side has; undefined if its mailbox does not say. */
  #known: ReadonlySet<number> | undefined
  readonly #lost = Promise.withResolvers<never>()
  #wantCp: () => void = () => undefined
  #cpTimer: { cancel(): void } | undefined
  /** Nothing is put into them any more. */
  readonly #leaving = new Set<string>()
  /** The side's no longer; closed with it, for a consistency point may still be writing them. */
  readonly #gone: FilerAggregate[] = []
  /** Of an aggregate that has just joined: until then nothing is logged about it. */
  readonly #durable = new Map<string, Promise<void>>()
  #makeJournal: SideJournalFactory | undefined
  #closed = false
  #detachments = 0

  constructor(options: AggregateCopyOptions) {
    this.#options = options
    this.#lost.promise.catch(() => undefined)
    this.mirroring = options.mirroring?.(this) ?? NO_MIRRORS
    this.conversions = new StoreConversions({
      aggregates: this.aggregates,
      surroundings: (aggregate, volume, root) => this.#surroundings(aggregate, volume, root),
    })
    for (const { name, devices } of options.aggregates) {
      const gates = devices.map((one) => ({ name: one.name, device: new GatedDevice(one.device) }))
      this.#gates.set(name, gates)
    }
    this.growth = new StoreGrowth({
      env: options.env,
      side: options.side,
      home: options.home,
      pairUid: options.pairUid,
      configured: options.aggregates.map(({ name, type }) => ({
        name,
        type: type ?? 'Flexible',
        devices: this.#gates.get(name)!,
      })),
      aggregates: this.aggregates,
      open: (name, devices) => this.#open(name, devices),
      converted: (name) => this.conversions.isSource(name),
      present: () => ({ cp: this.cp, epoch: this.epoch, covers: this.covers }),
      admitted: (name, aggregate, durable) => {
        this.#durable.set(name, durable)
        this.#enter(name, aggregate)
        if (this.#makeJournal) this.#journals.set(name, this.#makeJournal(name))
        this.#startScrub(aggregate)
        void durable.then(() => this.#options.joined())
      },
    })
  }

  /** Opens the aggregates that the side has; without `known` those that have labels. */
  async load(known?: readonly string[]): Promise<void> {
    this.#known = known && new Set(known.map((name) => this.#options.env.crc32(asciiBytes(name))))
    const sources = await sourcesOn(this.#options.env, this.#options.aggregates)
    for (const [name, gates] of await imageDevices(this.#options.env, this.#gates)) {
      // The blocks of a volume that is here may be on its devices, whether or not the side's mailbox still names it.
      if (known && !known.includes(name) && !sources.has(name)) continue
      const devices = gates.map(({ device }) => device)
      if (!known && (await readPlex(this.#options.env, devices)) === undefined) continue
      this.#enter(name, await this.#open(name, devices))
    }
    this.conversions.loaded()
  }

  #open(name: string, devices: readonly Device[]): Promise<FilerAggregate> {
    const { env, cache, onPartnerFailed } = this.#options
    return Aggregate.open<FileSystem>(env, devices, {
      cache,
      content: (volume, root) => this.#fileSystem(name, volume, root),
      onMirrorFailed: onPartnerFailed,
      broken: this.#options.broken ?? {},
    })
  }

  #enter(name: string, aggregate: FilerAggregate): void {
    this.aggregates.set(name, aggregate)
    this.#byTag.set(this.#options.env.crc32(asciiBytes(name)), aggregate)
  }

  get covers(): number {
    return Math.min(...this.#roots().map((root) => root.covers), this.#nothing)
  }
  get epoch(): number {
    return Math.max(0, ...this.#roots().map((root) => root.epoch))
  }
  get cp(): number {
    return Math.max(0, ...[...this.#all()].map(({ root }) => root.cp))
  }
  /** Of the consistency point that is under way, or was the last. */
  get newestCp(): number {
    return Math.max(0, ...[...this.#all()].map((aggregate) => aggregate.newestCp))
  }
  /** A side without aggregates has no record that could matter. */
  get #nothing(): number {
    return this.aggregates.size === 0 ? 0 : Infinity
  }
  /** All that take part in consistency points. */
  *#all(): Generator<FilerAggregate> {
    yield* this.aggregates.values()
    for (const source of this.conversions.sources.values()) if (source.joinsPlex) yield source
    yield* this.growth.joining()
  }
  #roots() {
    return [...this.aggregates.values()].map((aggregate) => aggregate.root)
  }
  /**
   * The images know of every removal. Before that the log may have operations on a volume that is gone, and its aggregate must not be
   * taken away: it could not be replayed.
   */
  get removalsInImage(): boolean {
    return this.covers >= this.#removedSeq
  }
  roots(): readonly RootFacts[] {
    return [...this.aggregates].map(([aggregate, { root }]) => ({
      aggregate,
      cp: root.cp,
      epoch: root.epoch,
      covers: root.covers,
      digest: root.image,
    }))
  }

  /** Names of the devices of an aggregate's image, in its order; none before it has joined. */
  devices(name: string): readonly string[] {
    const gates = [...this.#gates.values()].flat()
    const own = this.#copied().get(name)?.own.devices ?? []
    return own.map((device) => gates.find((one) => one.device === device)!.name)
  }

  async replay(record: LogRecord): Promise<string | undefined> {
    const aggregate = this.#byTag.get(record.aggregate)
    if (!aggregate) {
      // Nothing was in it when it left, and the images knew.
      if (this.#known?.has(record.aggregate) === false) return undefined
      return `it has operations on an aggregate that is not configured here (${this.#have()}): put it back, with its devices`
    }
    this.mirroring.replayed(aggregate.name, record)
    if (record.seq <= aggregate.root.covers) return undefined
    if (record.volume === 0) {
      const operation = decodeJson(record.body) as VolumeOperation
      if (operation.op === 'remove') this.#removedSeq = record.seq
      if (operation.op === 'adopt' || operation.op === 'undo')
        return this.conversions.apply(aggregate, operation)
      applyOperation(aggregate, operation)
      return undefined
    }
    const volume = aggregate.volumeAt(record.volume)
    assert(volume !== undefined, 'a log record is of a volume that does not exist')
    aggregate.countChange(record.volume, record.body.length)
    await volume.content.replay(record.body)
    return undefined
  }

  /** All whose devices are on both filers, by name. */
  #copied(): ReadonlyMap<string, FilerAggregate> {
    const sources = [...this.conversions.sources.values()].map((source) => [source.name, source] as const)
    return new Map([...this.aggregates, ...sources])
  }

  #have(): string {
    return `configured: ${[...this.#gates.keys()].join(', ') || 'none'}`
  }

  lossAccepted(epoch: number): void {
    for (const aggregate of this.aggregates.values()) {
      aggregate.setProperties({ ...aggregate.properties, [LOSS]: epoch })
    }
  }

  serve(journal: SideJournalFactory, wantCp: () => void): void {
    this.#wantCp = wantCp
    this.#makeJournal = journal
    this.conversions.served()
    for (const name of this.#copied().keys()) this.#journals.set(name, journal(name))
    for (const aggregate of this.aggregates.values()) {
      for (const volume of aggregate.volumes()) this.startContent(aggregate, volume)
    }
    for (const aggregate of this.#copied().values()) this.#startScrub(aggregate)
    this.mirroring.serve()
    this.#options.opened(this)
    this.#continue()
  }

  /** What takes in images of another pair's volume has no files of its own. */
  startContent(aggregate: FilerAggregate, volume: FilerVolume): void {
    if (isServed(volume)) volume.content.start(lossOf(aggregate))
  }

  /** A consistency point at once: somebody waits for it. */
  wantCp(): void {
    if (!this.#closed) this.#wantCp()
  }

  /** What consistency points give back slice by slice goes on without anybody's operations. */
  #continue(): void {
    if (this.#closed || this.#cpTimer !== undefined) return
    if (![...this.aggregates.values()].some((aggregate) => aggregate.isBusy)) return
    this.#cpTimer = this.#options.env.clock.after(BUSY_CP_MS, () => {
      this.#cpTimer = undefined
      this.wantCp()
    })
  }

  /** What `task` resolves to; rejects with SnapshotLost when the side is closed first. */
  async orLost<T>(task: MaybePromise<T>): Promise<T> {
    return await Promise.race([task, this.#lost.promise])
  }

  /** Resolves when the last volume operation of an aggregate is durable and this filer may answer; rejects as `orLost` does. */
  async answered(name: string): Promise<void> {
    if (this.#leaving.has(name)) return
    const journal = this.#journals.get(name)
    assert(journal !== undefined, 'an answer about an aggregate that is not served')
    await this.orLost(journal.answer(this.#operations.get(name) ?? 0))
  }

  /** Asks whether this filer may answer, for what is no file of a volume. */
  answerOf(name: string): Pick<Journal, 'answer'> {
    return { answer: (seq) => this.#journals.get(name)!.answer(seq) }
  }

  #startScrub(aggregate: FilerAggregate): void {
    const scrub = new Scrub(aggregate, {
      intervalMs: this.#options.scrubIntervalMs ?? SCRUB_INTERVAL_MS,
      busy: () => this.pressure() !== 'NONE',
    })
    this.scrubs.set(aggregate.name, scrub)
    scrub.start()
  }

  /** Changes an aggregate's volumes as `decide` says, in memory and in the log at once. Resolves when it is durable. */
  async change(
    name: string,
    decide: (aggregate: FilerAggregate) => VolumeOperation | undefined,
  ): Promise<void> {
    const aggregate = this.aggregates.get(name)
    const journal = this.#journals.get(name)
    assert(aggregate !== undefined && journal !== undefined, 'change of an aggregate that is not served')
    await this.#durable.get(name)
    await journal.admit(OPERATION_BYTES)
    const operation = this.#closed || this.#leaving.has(name) ? undefined : decide(aggregate)
    if (!operation) return
    const body = encodeJson(operation)
    applyOperation(aggregate, operation)
    if (operation.op === 'create') this.startContent(aggregate, aggregate.volume(operation.id)!)
    const seq = journal.append(0, [body])
    this.mirroring.applied(name, operation, seq)
    this.#operations.set(name, seq)
    if (operation.op === 'remove') this.#removedSeq = seq
    if (operation.op === 'restore') aggregate.volume(operation.id)!.content.changedAll(seq)
    await journal.answer(seq)
  }

  get #sourceCp(): number {
    return Math.max(0, ...[...this.conversions.sources.values()].map(({ newestCp }) => newestCp))
  }

  /** Resolves when a consistency point that begins after this call is complete; rejects as `orLost` does. */
  async nextCp(): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#cpWaiters.push({ after: this.#freezes, resolve: done.resolve })
    this.wantCp()
    await this.orLost(done.promise)
  }

  /** Changes of a volume wait until the returned function is called; what it shows goes on. */
  hold(volumeId: string): () => void {
    const held = Promise.withResolvers<void>()
    this.#holds.set(volumeId, held.promise)
    return () => {
      this.#holds.delete(volumeId)
      held.resolve()
    }
  }

  /** An operation that concerns two aggregates, in memory and in the log of the new one at once. Resolves when it is durable; undefined if it is not possible any more. */
  async convert(
    name: string,
    decide: (target: FilerAggregate) => (VolumeOperation & { readonly op: 'adopt' | 'undo' }) | undefined,
  ): Promise<boolean> {
    const target = this.aggregates.get(name)
    const journal = this.#journals.get(name)
    assert(target !== undefined && journal !== undefined, 'a conversion of what is not served')
    await this.#durable.get(name)
    // The root of the old volume and its properties are in it.
    await journal.admit(2 * OPERATION_BYTES)
    const operation = this.#closed || this.#leaving.has(name) ? undefined : decide(target)
    if (operation === undefined) return false
    const problem = this.conversions.apply(target, operation)
    assert(problem === undefined, problem ?? '')
    const seq = journal.append(0, [encodeJson(operation)])
    this.#operations.set(name, seq)
    const home = operation.op === 'adopt' ? target : this.aggregates.get(target.old!.record.aggregate)!
    for (const volume of home.volumes()) volume.content.changedAll(seq)
    await journal.answer(seq)
    return true
  }

  /** The devices of a source have joined: it is no aggregate any more. */
  forget(name: string): void {
    const source = this.conversions.joined(name)
    if (source === undefined) return
    this.#gone.push(source)
    this.scrubs.get(source.name)?.stop()
    this.scrubs.delete(source.name)
  }

  async attachPartner(devices: PartnerDevices, state: 'Current' | 'Resyncing'): Promise<string | undefined> {
    const detachments = this.#detachments
    try {
      for (const [name, aggregate] of this.#copied()) {
        if (detachments !== this.#detachments) {
          throw new DeviceError('EDETACHED', 'the other filer was given up meanwhile')
        }
        const names = this.devices(name)
        const remote = aggregate.own.devices.map((own, i) => {
          const device = devices(names[i]!, own.blocks)
          if (!device) throw new AggregateError('LABELS', `the other filer does not have ${names[i]}`)
          return device
        })
        await aggregate.attachPlex(remote, state === 'Current' ? 'mirrored' : 'stale')
      }
      return undefined
    } catch (error) {
      if (!(error instanceof AggregateError)) throw error
      this.detachPartner()
      if (error.code === 'OLDER') throw new OlderCopy(error.message)
      return error.message
    }
  }

  leaving(isOffered: (device: string) => boolean): readonly string[] {
    for (const [name, aggregate] of this.aggregates) {
      const isEmpty = aggregate.volumes()[Symbol.iterator]().next().done === true
      if (isEmpty && this.removalsInImage && !this.devices(name).some(isOffered)) this.#leaving.add(name)
    }
    return [...this.#leaving].filter((name) => this.aggregates.has(name))
  }

  left(names: readonly string[]): void {
    for (const name of names) {
      const aggregate = this.aggregates.get(name)
      if (!aggregate) continue
      this.aggregates.delete(name)
      this.#byTag.delete(this.#options.env.crc32(asciiBytes(name)))
      this.#journals.delete(name)
      this.scrubs.get(name)?.stop()
      this.scrubs.delete(name)
      this.#gone.push(aggregate)
    }
  }

  detachPartner(): void {
    this.#detachments += 1
    for (const aggregate of this.#copied().values()) aggregate.detachPlex()
    this.growth.detached()
  }

  async resync(onProgress: (percent: number) => void): Promise<void> {
    let done = 0
    const all = this.#copied()
    for (const aggregate of all.values()) {
      await aggregate.resync({
        onProgress: (copied, left) => {
          const share = copied + left === 0 ? 1 : copied / (copied + left)
          onProgress(Math.floor((100 * (done + share)) / all.size))
        },
        cancelled: () => this.#closed,
      })
      done += 1
    }
  }

  freeze(covers: number, epoch: number): StoreCp {
    const cp = Math.max(this.cp + 1, this.#sourceCp + 1, this.mirroring.cpLeast)
    this.#freezes += 1
    const freeze = this.#freezes
    this.mirroring.freezing(cp, covers)
    const parts = [...this.#all()].map((aggregate) => ({
      aggregate,
      point: aggregate.freeze({ cp, epoch, covers }),
    }))
    this.mirroring.frozen()
    return {
      write: async () => {
        await Promise.all(parts.map(({ point }) => point.write()))
      },
      commitRoot: async (plex) => {
        if (plex === 0) {
          await Promise.all(parts.map(({ point }) => point.commitRoot(0)))
          this.mirroring.rooted()
        } else {
          const attached = parts.filter(({ aggregate }) => aggregate.partner !== undefined)
          await Promise.all(attached.map(({ point }) => point.commitRoot(1)))
        }
      },
      complete: async () => {
        await Promise.all(parts.map(({ point }) => point.complete()))
        if (this.#closed) return
        this.growth.completed(parts.map(({ aggregate }) => aggregate))
        this.mirroring.committed()
        this.#continue()
        const due = this.#cpWaiters.filter(({ after }) => after < freeze)
        this.#cpWaiters = this.#cpWaiters.filter(({ after }) => after >= freeze)
        for (const { resolve } of due) resolve()
      },
    }
  }

  pressure(): 'NONE' | 'SOON' | 'FULL' {
    let dirty = 0
    let soon = false
    for (const aggregate of this.aggregates.values()) {
      dirty += aggregate.dirtyBytes
      const { freeBlocks } = aggregate
      const share = Math.floor(aggregate.layout.data / SCARCE_SHARE)
      const scarce = Math.min(SCARCE_BLOCKS, Math.max(SCARCE_LEAST, share))
      if (freeBlocks >= EARLY * scarce) continue
      const { returningBlocks } = aggregate
      if (freeBlocks < scarce && returningBlocks > 0) return 'FULL'
      // What is left lasts about as long as what has come together did.
      if (returningBlocks > freeBlocks) soon = true
    }
    const limit = this.#options.dirtyBytesMax
    if (dirty >= limit) return 'FULL'
    return soon || dirty >= limit / 2 ? 'SOON' : 'NONE'
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.mirroring.close()
    for (const scrub of this.scrubs.values()) scrub.stop()
    this.#cpTimer?.cancel()
    this.#lost.reject(new SnapshotLost())
    if (this.#makeJournal) this.#options.closed(this)
    const gates = [...this.#gates.values()].flat()
    await Promise.all(gates.map(({ device }) => device.shut()))
    for (const aggregate of [...this.#copied().values(), ...this.growth.joining(), ...this.#gone]) {
      // Not waited for: what it still wants to read never comes.
      aggregate.close().catch((error: unknown) => {
        this.#options.env.log('warn', 'aggregate closed with an error', { cause: String(error) })
      })
    }
  }

  #fileSystem(aggregate: string, volume: FilerVolume, root: Uint8Array | undefined): FileSystem {
    const { env, broken = {} } = this.#options
    return new FileSystem({
      env,
      ...this.#surroundings(aggregate, volume, root ?? newContent(volume)),
      broken,
    })
  }

  /** What the files of a volume use. */
  #surroundings(aggregate: string, volume: FilerVolume, root: Uint8Array): Omit<FileSystemOptions, 'env'> {
    const journal = (): Journal => {
      const found = this.#journals.get(aggregate)
      assert(found !== undefined, 'an operation before the side is served')
      return found
    }
    return {
      store: volume,
      journal: this.mirroring.journal(volume, {
        admit: (bytes) => {
          const held = this.#holds.get(volume.id)
          // Where it goes on may be another volume by then.
          return held === undefined ? journal().admit(bytes) : held.then(() => journal().admit(bytes))
        },
        append: (index, record) => {
          const bytes = record.reduce((sum, chunk) => sum + chunk.length, 0)
          this.aggregates.get(aggregate)!.countChange(index, bytes)
          return journal().append(index, record)
        },
        answer: (seq) => journal().answer(seq),
      }),
      volume: volume.index,
      root,
      space: () => {
        const { totalBlocks, freeBlocks } = volume.space()
        return { totalBytes: totalBlocks * BLOCK_BYTES, freeBytes: freeBlocks * BLOCK_BYTES }
      },
    }
  }
}
