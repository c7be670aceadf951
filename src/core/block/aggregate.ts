/**
 * An aggregate: one space of PVBNs on the devices of one plex, or of two with equal content, and the volumes in it: flexible ones, or one traditional
 * volume that owns the devices alone, as the aggregate's type says.
 *
 * Opened from its newest root; from then on memory is ahead of the disk by what consistency points have not written yet. Volumes are made, changed and removed in
 * memory at once (the caller logs it); the volume table follows at the next consistency point.
 *
 * Not here: who owns the side, when consistency points run, what the log covers (pair), files (core/fs).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { DamagedBlock, SINGLE } from '../fs/block-store.ts'
import { loaded, newTreeRoot, Tree } from '../fs/tree.ts'
import { assert } from '../std/assert.ts'
import type { AggregateCore, FrozenPart, RemovedVolume } from './aggregate-core.ts'
import { BlockIo } from './block-io.ts'
import type { BrokenStorage } from './broken-storage.ts'
import type { BufferCache } from './buffer-cache.ts'
import type { Json } from './codec.ts'
import { ConsistencyPoint } from './consistency-point.ts'
import type { CpSpec } from './consistency-point.ts'
import { AggregateError } from './errors.ts'
import { prepareGrowth } from './growth.ts'
import type { Growth } from './growth.ts'
import { GAPS_VERSION } from './label.ts'
import type { AggregateType, Label } from './label.ts'
import { DEVICE_BLOCKS_MIN, DEVICES_MAX, Layout } from './layout.ts'
import { MetaStore } from './meta-store.ts'
import { joinAs, OldBlocks } from './old-blocks.ts'
import type { OldBlocksRecord, OldReader } from './old-blocks.ts'
import { assertSizes, OtherPlex } from './other-plex.ts'
import type { MirrorState, OtherPlexHost } from './other-plex.ts'
import { formatPlex, newLabels, Plex } from './plex.ts'
import type { LabelSpec, PreparedDevice } from './plex.ts'
import { readPlex } from './plex-info.ts'
import type { PlexInfo, WaitingDevice } from './plex-info.ts'
import type { Pool } from './pool.ts'
import type { ResyncOptions } from './resync.ts'
import { encodeRoot, lineage } from './root.ts'
import type { Root, RootInfo, RootName } from './root.ts'
import { SpaceBudget } from './space-budget.ts'
import { SpaceMap } from './space-map.ts'
import { Volume } from './volume.ts'
import type { VolumeContent } from './volume.ts'
import type { MakeOrder } from './snapshot-queue.ts'
import type { SnapshotRefusal } from './volume-snapshots.ts'
import { decodeEntry, propertiesProblem, VOLUME_INDEX_MAX } from './volume-table.ts'
import type { VolumeType } from './volume-table.ts'

export interface AggregateSpec extends LabelSpec {
  readonly properties?: Json
}

export interface VolumeSpec {
  readonly id: string
  readonly name: string
  /** That of the aggregate, if not said. */
  readonly type?: VolumeType
  /** Of no account for a traditional volume: it has what the devices hold. */
  readonly sizeBytes: number
  /** Below 2^48. */
  readonly fsid: number
  readonly properties?: Json
  /** As in the log record when the creation is replayed; else the lowest that is free. */
  readonly index?: number
}

export type VolumeChange = Partial<Pick<VolumeSpec, 'name' | 'sizeBytes' | 'fsid' | 'properties'>>

export interface OpenOptions<C extends VolumeContent> {
  readonly cache: BufferCache
  /** Makes what lives in a volume: from the root of the last image, or new (`root` undefined). */
  readonly content: (volume: Volume<C>, root: Uint8Array | undefined) => C
  /** Devices of the other plex, known to hold the same image: damage found while opening is repaired from them. */
  readonly mirror?: readonly Device[]
  /** The first error of the other plex: it takes no part from then on. */
  readonly onMirrorFailed?: (error: Error) => void
  /** Nothing is written: for checking. */
  readonly readOnly?: boolean
  /** Accepts a plex that a resync did not finish; for checking. */
  readonly unfinished?: boolean
  /** Only in tests. */
  readonly broken?: BrokenStorage
}

/** Metafile blocks that one more snapshot may cost. */
const SNAPSHOT_BLOCKS = 12

export class Aggregate<C extends VolumeContent = VolumeContent>
  implements AggregateCore, Pool, OtherPlexHost
{
  readonly env: Env
  readonly id: string
  readonly name: string
  readonly side: string
  readonly type: AggregateType
  readonly layout: Layout
  readonly io: BlockIo
  readonly cache: BufferCache
  readonly meta: MetaStore
  readonly space: SpaceMap
  readonly own: Plex
  private readonly other: OtherPlex
  readonly activeRoot: Uint8Array
  readonly ownerRoot: Uint8Array
  readonly volumesRoot: Uint8Array
  readonly activeMap: Tree
  readonly ownerMap: Tree
  readonly volumeTable: Tree
  readonly removed: RemovedVolume[] = []
  properties: Json
  old: OldBlocks | undefined
  usedBlocks: number
  /** Of the live image. */
  root: RootInfo
  lineage: readonly RootName[]
  /** Configured devices that the image does not have. */
  waiting: readonly WaitingDevice[]
  /** Prepared; the next freeze takes it, if the other plex still takes part. */
  private growth: Growth | undefined
  /** Devices that joined and whose labels are still those of before. */
  private unlabelled: Growth | undefined
  private rootBytes: Uint8Array | undefined
  private readonly options: OpenOptions<C>
  private readonly byIndex = new Map<number, Volume<C>>()
  private readonly byId = new Map<string, Volume<C>>()
  private readonly changedVolumes = new Set<number>()
  private running: ConsistencyPoint | undefined
  private dirtyBlocks = 0
  private budget: SpaceBudget
  /** Whose snapshots have something for a consistency point to do. */
  private readonly busySnapshots = new Set<number>()
  /** Metafile blocks of the volumes, as last reckoned, and their sum: a consistency point looks at those that it changed. */
  private readonly reserves = new Map<number, number>()
  private reserved = 0

  private constructor(env: Env, info: PlexInfo, root: Root, slot: number, options: OpenOptions<C>) {
    const label = info.labels[0]!
    this.env = env
    this.id = root.aggregateId
    this.name = label.aggregateName
    this.side = label.side
    this.type = label.type
    this.options = options
    this.layout = new Layout(root.devices)
    this.waiting = info.waiting
    this.own = new Plex(env, info.devices, this.layout, [...info.labels], slot)
    this.cache = options.cache
    this.io = new BlockIo(env, options.cache, this.layout, this.own, options.broken)
    this.io.repairs = options.readOnly !== true
    this.old = OldBlocks.in(root.properties)
    this.io.old = this.old
    this.space = new SpaceMap(this.layout, this.old?.away)
    this.budget = new SpaceBudget(this.layout, this.space, this.type, this.old?.total)
    this.meta = new MetaStore(this.io, options.cache, this.space)
    this.activeRoot = root.active
    this.ownerRoot = root.owners
    this.volumesRoot = root.volumes
    this.activeMap = new Tree(this.meta, this.activeRoot, 'meta')
    this.ownerMap = new Tree(this.meta.unjudged, this.ownerRoot, 'meta')
    this.volumeTable = new Tree(this.meta, this.volumesRoot, 'meta')
    this.properties = root.properties
    this.usedBlocks = root.used
    this.lineage = lineage(root)
    this.root = { cp: root.cp, epoch: root.epoch, covers: root.covers, image: root.image }
    this.other = new OtherPlex(this)
  }

  /** Makes devices a new, empty aggregate; with two lists of devices both plexes, complete and with equal roots. */
  static async format(
    env: Env,
    spec: AggregateSpec,
    plexes: readonly (readonly Device[])[],
    first: CpSpec = { cp: 0, epoch: 0, covers: 0 },
  ): Promise<void> {
    const sizes = plexes[0]!.map((_, i) => Math.min(...plexes.map((devices) => devices[i]?.blocks ?? 0)))
    assert(sizes.length > 0 && sizes.length <= DEVICES_MAX, 'a plex has 1 to 64 devices')
    for (const blocks of sizes) {
      if (blocks < DEVICE_BLOCKS_MIN) throw new AggregateError('SIZE', 'a device is too small')
    }
    const layout = new Layout(sizes)
    const root = encodeRoot(env.crc32, {
      ...first,
      random: [env.random.u32(), env.random.u32()],
      shared: plexes.length > 1,
      ancestors: [],
      used: 0,
      aggregateId: spec.id,
      active: newTreeRoot(SINGLE),
      owners: newTreeRoot(SINGLE),
      volumes: newTreeRoot(SINGLE),
      devices: layout.devices,
      properties: spec.properties ?? {},
    })
    for (const [index, devices] of plexes.entries()) {
      assertSizes(layout, devices)
      await formatPlex(env, devices, layout, newLabels(spec, index, 'complete', layout), root)
    }
  }

  /** Opens the newest image on `devices`, the own plex. Throws AggregateError. */
  static async open<C extends VolumeContent>(
    env: Env,
    devices: readonly Device[],
    options: OpenOptions<C>,
  ): Promise<Aggregate<C>> {
    const info = await readPlex(env, devices)
    if (info === undefined) throw new AggregateError('BLANK', 'the devices have no labels')
    if (options.unfinished !== true && info.labels.some((label) => label.state !== 'complete')) {
      throw new AggregateError('RESYNCING', 'a resync of these devices did not end')
    }
    const newest = info.roots.find(({ root }) => root.aggregateId === info.labels[0]!.aggregateId)
    if (newest === undefined) throw new AggregateError('NO_ROOT', 'no valid root')
    const { devices: places } = newest.root
    const isListed = ({ blocks, firstPvbn }: Label, i: number): boolean =>
      blocks === places[i]?.blocks && firstPvbn === places[i].first
    if (places.length !== info.labels.length || !info.labels.every(isListed)) {
      throw new AggregateError('LABELS', 'the root lists devices of other sizes or places than their labels')
    }
    const aggregate = new Aggregate(env, info, newest.root, newest.slot, options)
    if (info.unlabelled && options.readOnly !== true) await aggregate.own.relabel({})
    if (options.mirror !== undefined) await aggregate.attachPlex(options.mirror, 'mirrored')
    aggregate.meta.judge = aggregate.ownerMap
    try {
      await aggregate.load()
      aggregate.meta.judge = undefined
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
      const what =
        error.bn === 0 ? 'what a volume holds makes no sense' : `block ${error.bn} of a metafile is damaged`
      throw new AggregateError('DAMAGED', what)
    }
    return aggregate
  }

  volumes(): IterableIterator<Volume<C>> {
    return this.byIndex.values()
  }

  volume(id: string): Volume<C> | undefined {
    return this.byId.get(id)
  }

  volumeAt(index: number): Volume<C> | undefined {
    return this.byIndex.get(index)
  }

  /**
   * A new, empty volume, in memory at once. The caller has asked `fits`, and logs it with the index chosen. Throws AggregateError, with nothing
   * changed, if the volume is not of the aggregate's type, or if the properties are too large; `changeVolume` for the latter, too.
   */
  createVolume(
    spec: VolumeSpec,
    make = (volume: Volume<C>): C => this.options.content(volume, undefined),
  ): Volume<C> {
    assertProperties(spec.properties)
    this.assertType(spec)
    assert(!this.byId.has(spec.id), 'a volume with this id exists')
    const volume = new Volume<C>(
      this,
      {
        state: 'ordinary',
        type: this.type,
        index: spec.index ?? this.freeIndex(),
        id: spec.id,
        name: spec.name,
        fsid: spec.fsid,
        properties: spec.properties ?? {},
        quotaBlocks: Math.floor(spec.sizeBytes / BLOCK_BYTES),
        used: 0,
        nextNumber: 1,
        reclaimed: 0,
        contentRoot: new Uint8Array(0),
        active: undefined,
        container: undefined,
        snapshots: undefined,
        nextSnapshot: 0,
        lastRestore: '',
        lastDelete: '',
      },
      false,
    )
    assert(!this.byIndex.has(volume.index), 'a volume with this index exists')
    this.enter(volume)
    volume.content = make(volume)
    volume.touch()
    return volume
  }

  /**
   * A volume made from a traditional one, in place: `record` says where the blocks of that are, `make` gives what lives in it.
   * The caller logs it; `attachOld` says how the old blocks are read.
   */
  adoptVolume(spec: VolumeSpec, record: OldBlocksRecord, make: (volume: Volume<C>) => C): Volume<C> {
    assert(this.byIndex.size === 0 && this.removed.length === 0, 'an aggregate takes in one volume')
    assert(!this.growing, 'an aggregate that grows takes in no volume')
    this.old = new OldBlocks(record)
    this.io.old = this.old
    assert(this.layout.behind([1])[0]!.first === record.first, 'the place for the old blocks is taken')
    this.space.setAway(this.old.away)
    this.budget = new SpaceBudget(this.layout, this.space, this.type, this.old.total)
    const volume = this.createVolume(spec, make)
    this.reckon([volume])
    return volume
  }

  /** The opposite: the volume goes, and what it has of its own comes back by and by. */
  undoAdoption(): void {
    const { old } = this
    assert(
      old !== undefined && old.state !== 'joined' && this.growth?.joins !== true,
      'devices that joined stay',
    )
    const volume = this.byIndex.get(old.record.volume)!
    this.removeVolume(volume.id)
    old.state = 'undone'
    old.io = undefined
  }

  /** A log record of a volume, as it is written or repeated: counts what would be lost if the volume became the old one again. */
  countChange(volume: number, bytes: number): void {
    if (this.old?.record.volume === volume) this.old.changed += bytes
  }

  /** Devices of a converted volume are on their way in: the next root, or the present one, has them, and they have no space to give yet. */
  get joining(): boolean {
    return (
      this.growth?.joins === true || this.running?.growth?.joins === true || this.unlabelled !== undefined
    )
  }

  /** Only programs that know this version of the format may touch the devices of both plexes. */
  async requireVersion(version: number): Promise<void> {
    for (const plex of [this.own, this.partner]) {
      if (plex !== undefined && (plex.label.version ?? 0) < version) await plex.relabel({ version })
    }
  }

  /** Its resync is so far that the next consistency point makes both plexes equal. */
  get joinsPlex(): boolean {
    return this.other.joins
  }

  /** How old blocks are read that lie on devices of another aggregate; undefined: not at all. */
  attachOld(io: OldReader | undefined): void {
    assert(this.old !== undefined, 'no volume of this aggregate was converted')
    this.old.io = io
  }

  /** The old devices become this aggregate's: the next consistency point, if it goes to both plexes, has them in its root. False if it is not possible now. */
  prepareJoin(source: Aggregate<C>): boolean {
    const { partner, old } = this
    const theirs = source.partner
    const built = old?.state === 'built' || this.io.broken.joinUnbuilt === true
    assert(old !== undefined && built, 'devices join when nothing is absent any more')
    const current = this.mirrorState === 'mirrored' && source.mirrorState === 'mirrored'
    if (!current || partner === undefined || theirs === undefined || this.growing) return false
    if (partner.failure !== undefined || theirs.failure !== undefined) return false
    const offset = this.layout.devices.length
    const prepare = (from: Plex, to: Plex): PreparedDevice[] =>
      from.devices.map((device, i) => ({
        device,
        label: joinAs(from.labelOf(i), to.label, offset, old.record.first),
      }))
    this.growth = {
      places: old.layout.devices.map((place) => ({ ...place, first: old.record.first + place.first })),
      own: prepare(source.own, this.own),
      partner,
      theirs: prepare(theirs, partner),
      joins: true,
    }
    return true
  }

  changeVolume(id: string, change: VolumeChange): void {
    assertProperties(change.properties)
    const volume = this.byId.get(id)
    assert(volume !== undefined, 'no such volume')
    if (change.name !== undefined) volume.name = change.name
    if (change.fsid !== undefined) volume.fsid = change.fsid
    if (change.properties !== undefined) volume.properties = change.properties
    if (change.sizeBytes !== undefined) volume.resize(Math.floor(change.sizeBytes / BLOCK_BYTES))
    volume.touch()
  }

  /** The volume is gone at once; its blocks come back at later consistency points, slice by slice. */
  removeVolume(id: string): void {
    const volume = this.byId.get(id)
    assert(volume !== undefined, 'no such volume')
    const entry = volume.describe()
    volume.removed = true
    this.byId.delete(id)
    this.byIndex.delete(volume.index)
    volume.forget()
    this.changedVolumes.delete(volume.index)
    this.busySnapshots.delete(volume.index)
    this.reserve(volume.index, 0)
    volume.snapshots.removeAll()
    if (volume.persistent) {
      const { activeRoot: active, numbers } = volume
      this.removed.push({
        entry: {
          ...entry,
          state: 'removing',
          active,
          container: numbers.container?.root,
          snapshots: volume.snapshots.tableRoot,
        },
        active: volume.active,
        container: volume.container,
        snapshots: volume.snapshots,
        reclaimed: 0,
        emptied: false,
      })
    }
  }

  /**
   * A snapshot of a volume, by the next freeze. The promise resolves when it is durable, and rejects with SnapshotLost. Asking again with the same request is
   * the same order.
   */
  makeSnapshot(id: string, order: MakeOrder): Promise<void> | SnapshotRefusal | 'NoSpace' {
    const volume = this.byId.get(id)
    assert(volume !== undefined, 'no such volume')
    const { snapshots } = volume
    if (snapshots.named(order.name) === undefined) {
      // From now on copies of the volume's active map bring nothing back: there must be room for these.
      const more = snapshots.none ? volume.active.blocks + SNAPSHOT_BLOCKS : SNAPSHOT_BLOCKS
      if (!this.fits(more)) return 'NoSpace'
    }
    const made = snapshots.make(order)
    this.reckon([volume])
    return made
  }

  /** The snapshot is invisible at once; the promise is as that of `makeSnapshot`. Its blocks come back at later consistency points. */
  removeSnapshot(id: string, name: string, requestId: string): Promise<void> | SnapshotRefusal {
    const volume = this.byId.get(id)
    assert(volume !== undefined, 'no such volume')
    const removed = volume.snapshots.remove(name, requestId)
    this.reckon([volume])
    return removed
  }

  /** The files of a volume are those of a snapshot, in memory at once. The caller logs it, and makes sure that no operation is half done. */
  restoreVolume(id: string, snapshot: number, requestId: string, seconds: number): void {
    const volume = this.byId.get(id)
    const from = volume?.snapshots.get(snapshot)
    assert(volume !== undefined && from !== undefined, 'no such volume or snapshot')
    volume.restore(from, requestId, seconds)
  }

  /** Freezes all volumes at this instant. Synchronous. One consistency point at a time. */
  freeze(spec: CpSpec): ConsistencyPoint {
    assert(this.running === undefined, 'a consistency point is under way')
    assert(spec.cp > this.root.cp, 'consistency points are numbered upwards')
    const parts: FrozenPart[] = []
    for (const index of this.busySnapshots) this.changedVolumes.add(index)
    for (const index of [...this.changedVolumes].sort((a, b) => a - b)) {
      const volume = this.byIndex.get(index)!
      parts.push({ volume, frozen: volume.freeze(spec.cp) })
    }
    this.changedVolumes.clear()
    const reaches = this.other.takesPart()
    const growth = reaches && this.mirrorState === 'mirrored' ? this.growth : undefined
    this.growth = undefined
    if (this.old !== undefined)
      this.properties = { ...this.properties, converted: this.old.toJson(growth?.joins) }
    const cp = new ConsistencyPoint(this, spec, parts, reaches, growth)
    this.dirtyBlocks -= cp.unplaced
    this.running = cp
    return cp
  }

  /** See OtherPlex.attach. Throws AggregateError GROWING while devices are joining. */
  async attachPlex(devices: readonly Device[], state: 'mirrored' | 'stale'): Promise<void> {
    if (this.running?.growth !== undefined) {
      throw new AggregateError('GROWING', 'devices are joining the aggregate')
    }
    await this.other.attach(devices, state)
  }

  /** The other plex takes no part from now on; a consistency point under way goes on without it. Its devices are not closed. */
  detachPlex(): void {
    this.growth = undefined
    this.other.detach()
  }

  /** See OtherPlex.resync. */
  resync(options: ResyncOptions = {}): Promise<void> {
    return this.other.resync(options)
  }

  get partner(): Plex | undefined {
    return this.other.plex
  }

  get mirrorState(): MirrorState {
    return this.other.state
  }

  get isWritingImage(): boolean {
    return this.running !== undefined
  }

  /** Devices were prepared, and their consistency point is not complete. */
  get growing(): boolean {
    return this.growth !== undefined || this.running?.growth !== undefined
  }

  /**
   * Labels waiting devices and their twins at the other plex for the end of the image; the next consistency point takes them in, unless the other plex is
   * lost before. Throws AggregateError: GROWING while it is not possible, else see `prepareGrowth`.
   */
  async prepareGrowth(own: readonly Device[], theirs: readonly Device[]): Promise<void> {
    const { partner } = this
    if (this.mirrorState !== 'mirrored' || partner === undefined || partner.failure !== undefined) {
      throw new AggregateError('GROWING', 'an aggregate grows while both plexes are current')
    }
    if (this.growing) throw new AggregateError('GROWING', 'devices are joining already')
    if (this.old?.away !== undefined) await this.requireVersion(GAPS_VERSION)
    const { layout, space, env } = this
    const growth = await prepareGrowth(env, layout, space.end, [this.own, partner], own, theirs)
    // What was prepared for an image that grew or took in a volume meanwhile, or for a plex that left, is prepared again another time.
    const current = this.partner === partner && growth.places[0]!.first >= space.end
    if (current && !this.growing) this.growth = growth
  }

  /** Writes the live root to the other plex again, when it is not sure whether it got there. */
  async resendRoot(): Promise<void> {
    assert(this.partner !== undefined && this.rootBytes !== undefined, 'no root to send again')
    await this.partner.writeRoot(this.rootBytes)
  }

  /** Sets the aggregate's properties, in the root from the next consistency point on. */
  setProperties(properties: Json): void {
    this.properties = properties
  }

  /** Memory that only a consistency point makes droppable. */
  get dirtyBytes(): number {
    return (this.dirtyBlocks + (this.running?.pinned ?? 0)) * BLOCK_BYTES
  }

  /** Of the consistency point that is under way, or was the last. */
  get newestCp(): number {
    return this.running?.spec.cp ?? this.root.cp
  }

  /** Something changed since the last freeze. */
  get isDirty(): boolean {
    return this.changedVolumes.size > 0 || this.isBusy
  }

  /** There is work for consistency points beyond what operations change: snapshots to make or delete, removed volumes. */
  get isBusy(): boolean {
    return this.removed.length > 0 || this.busySnapshots.size > 0
  }

  /** Blocks freed since the last complete consistency point: one more brings them back. */
  get returningBlocks(): number {
    let blocks = this.running?.freedSoFar ?? 0
    for (const index of this.changedVolumes) blocks += this.byIndex.get(index)!.freedBlocks
    return blocks
  }

  get freeBlocks(): number {
    return Math.max(0, this.headroom(0) - this.budget.releasing)
  }

  sizes(): { readonly totalBytes: number; readonly usedBytes: number; readonly freeBytes: number } {
    return {
      totalBytes: (this.layout.data - 1) * BLOCK_BYTES,
      usedBytes: (this.layout.data - 1 - this.space.free) * BLOCK_BYTES,
      freeBytes: this.freeBlocks * BLOCK_BYTES,
    }
  }

  get capacityBlocks(): number {
    return this.budget.capacity
  }

  fits(blocks: number, releasing = false): boolean {
    return (
      this.io.broken.noBudget === true || this.headroom(blocks) >= (releasing ? 0 : this.budget.releasing)
    )
  }

  isUsable(pvbn: number): boolean {
    if (this.old !== undefined && this.old.state !== 'joined' && this.old.has(pvbn))
      return this.old.exists(pvbn)
    return pvbn !== 0 && this.layout.exists(pvbn) && this.space.isBusy(pvbn)
  }

  isUnwritten(pvbn: number): boolean {
    if (this.type === 'Flexible') return false
    for (const volume of this.byIndex.values()) if (volume.isFresh(pvbn)) return true
    return false
  }

  dirtied(volume: { readonly index: number }, delta: number): void {
    this.changedVolumes.add(volume.index)
    this.dirtyBlocks += delta
    this.cache.dirty(delta)
  }

  catchUpMirror(): Promise<void> {
    return this.other.catchUp()
  }

  mirrorFailed(error: unknown): void {
    this.other.failed(error)
  }

  groupWritten(group: number, mirrored: boolean): void {
    if (!mirrored) this.other.missed(group)
  }

  mirrorLost(error: Error): void {
    this.options.onMirrorFailed?.(error)
  }

  committed(root: Root, bytes: Uint8Array): void {
    this.root = { cp: root.cp, epoch: root.epoch, covers: root.covers, image: root.image }
    this.rootBytes = bytes
    this.lineage = lineage(root)
  }

  completed(mirrored: boolean, changed: readonly { readonly index: number }[]): void {
    const growth = this.running?.growth
    this.running = undefined
    if (growth?.joins === true) this.join(growth)
    else if (growth !== undefined) this.grow(growth)
    if (mirrored) this.other.joined()
    this.reckon(changed.flatMap(({ index }) => this.byIndex.get(index) ?? []))
  }

  /** The live root has the old devices. Their space is there when they have their labels, so that no block of theirs is written under another name. */
  private join(growth: Growth): void {
    const { old } = this
    this.extend(growth)
    old!.state = 'joined'
    old!.io = undefined
    this.unlabelled = growth
    if (this.io.broken.rangeBeforeLabels === true) this.space.setAway(undefined)
  }

  /** Labels devices that joined, on both plexes; then their free space is the aggregate's. Repeated until it resolves. */
  async finishJoin(): Promise<void> {
    const growth = this.unlabelled
    if (growth === undefined) return
    await this.own.relabel({ devices: this.layout.devices.length })
    if (this.partner === growth.partner && this.partner.failure === undefined) {
      try {
        await this.partner.relabel({ devices: this.layout.devices.length })
      } catch (error) {
        this.mirrorFailed(error)
      }
    }
    this.unlabelled = undefined
    this.space.setAway(undefined)
    this.budget.grow()
    this.env.log('info', 'devices of a converted volume joined', { aggregate: this.name })
  }

  private extend({ places, own, partner, theirs }: Growth): void {
    this.layout.append(places)
    this.own.extend(own)
    if (this.partner === partner) this.partner.extend(theirs)
    this.space.grow()
    this.budget.grow()
  }

  /** The live root lists the prepared devices: their space is there. */
  private grow(growth: Growth): void {
    this.extend(growth)
    this.waiting = this.waiting.filter(({ device }) => !growth.own.some((one) => one.device === device))
    this.env.log('info', 'aggregate grew', { aggregate: this.name, devices: this.layout.devices.length })
  }

  /** Forgets everything in memory. The devices stay open: they belong to whoever opened them. */
  async close(): Promise<void> {
    for (const volume of this.byIndex.values()) volume.snapshots.lose()
    await this.io.repairing.settled()
    for (const volume of this.byIndex.values()) volume.forget()
    this.meta.forget()
    this.io.forget()
  }

  private headroom(blocks: number): number {
    const { running } = this
    const placed = this.type === 'Traditional'
    return this.budget.headroom({
      dirty: blocks + (placed ? 0 : this.dirtyBlocks + (running?.unplaced ?? 0)),
      returning: (placed ? running?.metaFreedSoFar : running?.freedSoFar) ?? 0,
      changedVolumes: this.changedVolumes.size,
    })
  }

  /** The maps or the snapshots of these volumes changed. */
  private reckon(changed: Iterable<Volume<C>>): void {
    for (const volume of changed) {
      this.reserve(volume.index, this.mapBlocks(volume))
      if (volume.snapshots.busy) this.busySnapshots.add(volume.index)
      else this.busySnapshots.delete(volume.index)
    }
    let blocks = this.volumeTable.blocks + this.reserved
    for (const volume of this.removed) blocks += this.mapBlocks(volume)
    this.budget.reckon(blocks)
  }

  private reserve(index: number, blocks: number): void {
    this.reserved += blocks - (this.reserves.get(index) ?? 0)
    if (blocks === 0) this.reserves.delete(index)
    else this.reserves.set(index, blocks)
  }

  private mapBlocks({
    active,
    container,
    snapshots,
  }: Pick<RemovedVolume, 'active' | 'container' | 'snapshots'>): number {
    return snapshots.reserve + (this.type === 'Flexible' ? active.blocks + (container?.blocks ?? 0) : 0)
  }

  private assertType({ type, name }: VolumeSpec): void {
    const kind = this.type === 'Traditional' ? 'of one traditional volume' : 'of flexible volumes'
    if (type !== undefined && type !== this.type) {
      throw new AggregateError('TYPE', `${name} does not belong in ${this.name}, an aggregate ${kind}`)
    }
    const [there] = this.byIndex.values()
    if (this.type === 'Traditional' && there !== undefined) {
      throw new AggregateError(
        'TYPE',
        `the devices of ${this.name} hold volume ${there.name} (${there.id}) already`,
      )
    }
  }

  private freeIndex(): number {
    const taken = (index: number): boolean =>
      this.byIndex.has(index) || this.removed.some(({ entry }) => entry.index === index)
    for (let index = 1; index <= VOLUME_INDEX_MAX; index++) if (!taken(index)) return index
    assert(false, 'no volume index left')
    return 0
  }

  private enter(volume: Volume<C>): void {
    this.byIndex.set(volume.index, volume)
    this.byId.set(volume.id, volume)
  }

  private async load(): Promise<void> {
    await eachLeaf(this.activeMap, (index, leaf) => this.space.load(index, leaf))
    this.space.reckon()
    const entries: Uint8Array[] = []
    await eachLeaf(this.volumeTable, (_, leaf) => entries.push(leaf))
    for (const bytes of entries) {
      const entry = decodeEntry(bytes)
      if (entry === undefined)
        throw new AggregateError('DAMAGED', 'an entry of the volume table makes no sense')
      if (entry.type !== this.type)
        throw new AggregateError('DAMAGED', 'an entry of the volume table is of another type')
      const volume = new Volume<C>(this, entry, true)
      const { active, container, numbers, snapshots } = volume
      if (!(await snapshots.load()))
        throw new AggregateError('DAMAGED', 'an entry of a snapshot table makes no sense')
      if (entry.state === 'removing') {
        snapshots.removeAll()
        const roots = { active: volume.activeRoot, container: numbers.container?.root }
        const removed = { ...entry, ...roots, snapshots: snapshots.tableRoot }
        const { reclaimed } = entry
        this.removed.push({ entry: removed, active, container, snapshots, reclaimed, emptied: false })
        continue
      }
      await eachLeaf(active, (index, leaf) => numbers.load(index, leaf))
      for (const index of snapshots.heldLeaves()) numbers.hold(index, snapshots.heldLeaf(index)!)
      this.enter(volume)
    }
    for (const volume of this.byIndex.values())
      volume.content = this.options.content(volume, volume.contentRoot)
    this.reckon(this.byIndex.values())
  }
}

function assertProperties(properties: Json | undefined): void {
  const problem = properties === undefined ? undefined : propertiesProblem(properties)
  if (problem !== undefined) throw new AggregateError('PROPERTIES', problem)
}

async function eachLeaf(tree: Tree, visit: (index: number, leaf: Uint8Array) => void): Promise<void> {
  for (let from = 0; ;) {
    const start = from
    const index = await loaded(() => tree.next(start))
    if (index === undefined) return
    visit(index, (await loaded(() => tree.get(index)))!)
    from = index + 1
  }
}
