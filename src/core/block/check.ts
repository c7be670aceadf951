/**
 * Proves an aggregate consistent, from one plex, without changing it:
 *
 * 1. the metafiles' trees are whole, and no block is in two places;
 * 2. for every VVBN in use: container(VVBN) = PVBN ⇔ owner(PVBN) = (volume, VVBN); in a traditional volume VVBN = PVBN, and the owner is the volume;
 * 3. every block in use holds what its context and its owner entry say;
 * 4. the active map is exactly the set of blocks in use, and the root counts them;
 * 5. the files of each volume and of each of its snapshots, by `checkFiles` (core/fs knows them).
 *
 * A number is in use if the map of the volume or of a snapshot has it. These maps share blocks, each of which stands at one place of all their trees.
 *
 * The work is cut into jobs that may run in any order within two rounds: `first` finds what refers to blocks (1, 2), `then` looks at the blocks and the
 * files (3-5). Threads run them side by side, each over an `Aggregate` of its own; they share only the set of blocks seen. `conclude` sums up.
 *
 * Memory: a bit per PVBN, the cache, and what `checkFiles` takes. A job tells at most PROBLEMS_MAX problems.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { DamagedBlock } from '../fs/block-store.ts'
import { getU48 } from '../fs/bytes.ts'
import { loaded } from '../fs/tree.ts'
import type { Tree } from '../fs/tree.ts'
import type { Aggregate } from './aggregate.ts'
import { BitSet } from './bit-set.ts'
import { isOwned } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import { OWNER_FANOUT, ownerIn } from './leaf-editor.ts'
import { CONTAINER_ENTRY_BYTES, CONTAINER_FANOUT } from './numbering.ts'
import { countWithout, NumberSet, orInto } from './number-set.ts'
import { MAP_LEAF_BITS } from './space-map.ts'
import type { Volume, VolumeContent } from './volume.ts'
import type { VolumeSnapshots } from './volume-snapshots.ts'

export const PROBLEMS_MAX = 1000
/** Groups of one job: 64 MiB of data. */
const JOB_GROUPS = 128
/** Leaves of a volume's active map of one job: 2^19 numbers. */
const JOB_LEAVES = 16

/** Something that is taken but that nothing uses: it costs space, and no data. */
export type Leak =
  /** The active map says in use, nothing refers to it. */
  | { readonly kind: 'block'; readonly pvbn: number }
  /** The volume's active map says in use, no file has it. */
  | { readonly kind: 'number'; readonly volume: number; readonly number: number }
  | { readonly kind: 'free-inode' | 'orphan'; readonly volume: number; readonly ino: number }
  /** In a snapshot's image: it goes with the snapshot, not by itself. */
  | { readonly kind: 'held'; readonly volume: number; readonly snapshot: number }
  /** So many are in use by a volume's active map (volume 0: by the aggregate's), another number is counted. */
  | { readonly kind: 'count'; readonly volume: number; readonly inUse: number }

export interface FilesResult {
  readonly problems: readonly string[]
  /** Those of the problems that are but leaks. */
  readonly leaks: readonly Leak[]
}

export interface CheckResult {
  readonly problems: readonly string[]
  /** Those of the problems that are but leaks. */
  readonly leaks: readonly Leak[]
  readonly blocksUsed: number
  readonly volumes: number
  readonly cp: number
  readonly covers: number
}

export interface CheckOptions<C extends VolumeContent> {
  /** What is wrong with the files of one image of a volume. */
  readonly checkFiles?: (volume: Volume<C>, image: CheckedImage) => Promise<FilesResult | readonly string[]>
  /** Bits for the PVBNs (`BitSet.bytesFor(space.end)` bytes, all 0), when threads share them. */
  readonly seen?: Uint8Array
}

/** The files of a volume as they are, or as a snapshot has them. */
export interface CheckedImage {
  /** Of the snapshot; 0 for the files as they are. */
  readonly snapshot: number
  /** The file layer's root. */
  readonly root: Uint8Array
  /** Numbers in use, by the entry of the volume or of the snapshot. */
  readonly used: number
  /** The numbers in use, by the image's own active map. */
  readonly numbers: NumberSet
}

export type CheckJob =
  | { readonly kind: 'metafiles' }
  /** Numbers in use in leaves `from` … `to`-1 of a volume's active maps; `volume` is its index. */
  | { readonly kind: 'numbers'; readonly volume: number; readonly from: number; readonly to: number }
  /** Blocks of groups `from` … `to`-1. */
  | { readonly kind: 'groups'; readonly from: number; readonly to: number }
  /** Blocks that lie on devices of another aggregate, which has its own check: what the maps say of them. */
  | { readonly kind: 'away' }
  /** `snapshot`: 0 for the files as they are. */
  | { readonly kind: 'files'; readonly volume: number; readonly snapshot: number }

export interface JobResult {
  readonly job: CheckJob
  readonly problems: readonly string[]
  readonly leaks: readonly Leak[]
  /** Blocks seen for the first time. */
  readonly seen: number
  /** Of 'numbers': numbers in use by the volume's own map. Of 'groups': blocks in use by the active map. */
  readonly inUse: number
  /** Of blocks read and compared. */
  readonly bytes: number
}

/** A volume, or what is left of a removed one. */
interface Numbered {
  readonly id: string
  readonly index: number
  readonly active: Tree
  /** Undefined of a traditional volume. */
  readonly container: Tree | undefined
  readonly snapshots: VolumeSnapshots
  readonly from: number
}

export class AggregateCheck<C extends VolumeContent> {
  private readonly aggregate: Aggregate<C>
  private readonly options: CheckOptions<C>
  /** Blocks that something refers to. */
  private readonly seen: BitSet
  private problems: string[] = []
  private leaks: Leak[] = []
  private seenBlocks = 0
  private bytes = 0
  private readonly ownerLeaf = { fbn: -1, bytes: undefined as Uint8Array | undefined }

  /** `aggregate` was just opened, read-only, and has no dirty block. */
  constructor(aggregate: Aggregate<C>, options: CheckOptions<C> = {}) {
    this.aggregate = aggregate
    this.options = options
    this.seen = new BitSet(options.seen ?? new Uint8Array(BitSet.bytesFor(aggregate.space.end)))
  }

  /** All jobs of `first` are done before one of `then` begins. */
  async jobs(): Promise<{ readonly first: readonly CheckJob[]; readonly then: readonly CheckJob[] }> {
    const first: CheckJob[] = [{ kind: 'metafiles' }]
    const then: CheckJob[] = []
    for (const { index, active, snapshots, from } of this.numbered()) {
      const maps = [active, ...snapshots.images().map(({ tree }) => tree)]
      let start = Math.floor(from / MAP_LEAF_BITS)
      for (;;) {
        const at = start
        let next: number | undefined
        for (const map of maps) {
          const found = await this.guarded('active map', () => loaded(() => map.next(at)))
          if (found !== undefined && (next === undefined || found < next)) next = found
        }
        if (next === undefined) break
        first.push({ kind: 'numbers', volume: index, from: next, to: next + JOB_LEAVES })
        start = next + JOB_LEAVES
      }
    }
    if (this.options.checkFiles !== undefined) {
      for (const { index: volume, snapshots } of this.aggregate.volumes()) {
        then.push({ kind: 'files', volume, snapshot: 0 })
        for (const { id: snapshot, deleting } of snapshots.images()) {
          if (!deleting) then.push({ kind: 'files', volume, snapshot })
        }
      }
    }
    const { groups } = this.aggregate.layout
    for (let from = 0; from < groups; from += JOB_GROUPS) {
      then.push({ kind: 'groups', from, to: Math.min(groups, from + JOB_GROUPS) })
    }
    if (this.aggregate.old?.away !== undefined) then.push({ kind: 'away' })
    this.problems = []
    return { first, then }
  }

  async run(job: CheckJob): Promise<JobResult> {
    this.problems = []
    this.leaks = []
    this.seenBlocks = 0
    this.bytes = 0
    let inUse = 0
    switch (job.kind) {
      case 'metafiles':
        await this.metafiles()
        break
      case 'numbers':
        inUse = await this.numbers(job.volume, job.from, job.to)
        break
      case 'groups':
        inUse = await this.groups(job.from, job.to)
        break
      case 'away':
        inUse = this.away()
        break
      case 'files':
        await this.files(job.volume, job.snapshot)
    }
    const { problems, leaks, seenBlocks: seen, bytes } = this
    return { job, problems, leaks, seen, inUse, bytes }
  }

  /** What all jobs found, and whether their sums are those that the image counts. */
  conclude(results: readonly JobResult[]): CheckResult {
    const { aggregate } = this
    const problems = results.flatMap((result) => result.problems)
    const leaks = results.flatMap((result) => result.leaks)
    const used = new Map<number, number>()
    let active = 0
    let seen = 0
    for (const { job, inUse, seen: blocks } of results) {
      seen += blocks
      if (job.kind === 'groups' || job.kind === 'away') active += inUse
      if (job.kind === 'numbers') used.set(job.volume, (used.get(job.volume) ?? 0) + inUse)
    }
    for (const volume of aggregate.volumes()) {
      const inUse = used.get(volume.index) ?? 0
      if (inUse !== volume.used) {
        problems.push(`volume ${volume.id}: ${inUse} blocks in use, its entry says ${volume.used}`)
        leaks.push({ kind: 'count', volume: volume.index, inUse })
      }
    }
    if (active !== aggregate.usedBlocks) {
      problems.push(`${active} blocks in use, the root says ${aggregate.usedBlocks}`)
      leaks.push({ kind: 'count', volume: 0, inUse: active })
    }
    return {
      problems,
      leaks,
      blocksUsed: seen,
      volumes: [...aggregate.volumes()].length,
      cp: aggregate.root.cp,
      covers: aggregate.root.covers,
    }
  }

  private problem(text: string, leak?: Leak): void {
    if (this.problems.length >= PROBLEMS_MAX) return
    this.problems.push(text)
    if (leak !== undefined) this.leaks.push(leak)
  }

  private *numbered(): Generator<Numbered> {
    for (const { id, index, active, container, snapshots } of this.aggregate.volumes()) {
      yield { id, index, active, container, snapshots, from: 0 }
    }
    for (const { entry, active, container, snapshots, reclaimed } of this.aggregate.removed) {
      const { id, index } = entry
      yield { id: `${id} (removed)`, index, active, container, snapshots, from: reclaimed }
    }
  }

  private see(pvbn: number, what: () => string): boolean {
    const { layout, old } = this.aggregate
    if (!layout.exists(pvbn) && old?.exists(pvbn) !== true) this.problem(`${what()}: no block ${pvbn}`)
    else if (!this.seen.add(pvbn)) this.problem(`${what()}: block ${pvbn} is in use twice`)
    else {
      this.seenBlocks += 1
      return true
    }
    return false
  }

  private async metafiles(): Promise<void> {
    const { aggregate } = this
    await this.metafile('active map', aggregate.activeMap)
    await this.metafile('owner map', aggregate.ownerMap)
    await this.metafile('volume table', aggregate.volumeTable)
    for (const { id, active, container, snapshots } of this.numbered()) {
      if (container !== undefined) await this.metafile(`container map of volume ${id}`, container)
      await this.metafile(`snapshot table of volume ${id}`, snapshots.tableTree)
      const shared = new Map<number, string>()
      await this.metafile(`active map of volume ${id}`, active, shared)
      for (const { id: snapshot, tree } of snapshots.images()) {
        await this.metafile(`active map of snapshot ${snapshot} of volume ${id}`, tree, shared)
      }
    }
  }

  /** `shared`: blocks of trees that may have blocks in common, and where each of these stands. */
  private async metafile(what: string, tree: Tree, shared?: Map<number, string>): Promise<void> {
    let blocks = 0
    await this.guarded(what, () =>
      tree.walk(({ bn, level, fbn }) => {
        blocks += 1
        const place = `${level}/${fbn}`
        const known = shared?.get(bn)
        if (known === place) return true
        shared?.set(bn, place)
        return this.see(bn, () => what)
      }),
    )
    if (blocks !== tree.blocks) this.problem(`${what}: ${blocks} blocks, its root says ${tree.blocks}`)
  }

  /** Numbers in use in some leaves of the active maps, and what the container map and the owner map say of each. */
  private async numbers(index: number, fromLeaf: number, toLeaf: number): Promise<number> {
    const numbered = [...this.numbered()].find((one) => one.index === index)
    if (numbered === undefined) return 0
    const { id, active, container, snapshots, from } = numbered
    let inUse = 0
    for (let fbn = fromLeaf; fbn < toLeaf; fbn++) {
      const what = `active map of volume ${id}`
      const own = await this.guarded(what, () => loaded(() => active.get(fbn)))
      const bits = new Uint8Array(BLOCK_BYTES)
      if (own !== undefined) orInto(bits, own)
      inUse += countWithout(bits)
      for (const { tree, cursor } of snapshots.images()) {
        if (fbn < cursor) continue
        const leaf = await this.guarded(what, () => loaded(() => tree.get(fbn)))
        if (leaf !== undefined) orInto(bits, leaf)
      }
      const places = { fbn: -1, bytes: undefined as Uint8Array | undefined }
      for (let at = 0; at < BLOCK_BYTES; at++) {
        if (bits[at] === 0) continue
        for (let bit = 0; bit < 8; bit++) {
          const number = fbn * MAP_LEAF_BITS + 8 * at + bit
          if ((bits[at]! & (1 << bit)) === 0 || number < from) continue
          const wanted = Math.floor(number / CONTAINER_FANOUT)
          if (container !== undefined && places.fbn !== wanted) {
            places.fbn = wanted
            places.bytes = await this.leaf(`container map of volume ${id}`, container, wanted)
          }
          const pvbn = container === undefined ? number : placeIn(places.bytes, number)
          const done = this.number(numbered, number, pvbn)
          if (done !== undefined) await done
        }
      }
    }
    return inUse
  }

  private number({ id, index }: Numbered, number: number, pvbn: number): Promise<void> | undefined {
    const what = (): string => `volume ${id}, block ${number}`
    if (pvbn === 0) {
      this.problem(`${what()}: no place in the container map`)
      return undefined
    }
    if (!this.see(pvbn, what)) return undefined
    const compare = (leaf: Uint8Array | undefined): void => {
      const owner = leaf === undefined ? undefined : ownerIn(leaf, pvbn, this.aggregate.type)
      if (owner === undefined || owner.volume !== index || owner.number !== number) {
        this.problem(
          `${what()}: block ${pvbn} is owned by ${owner?.volume ?? 'nobody'}/${owner?.number ?? ''}`,
        )
      }
    }
    const leaf = this.owners(pvbn)
    if (leaf instanceof Promise) return leaf.then(compare)
    compare(leaf)
    return undefined
  }

  /** The leaf of the owner map for a block: at once if it is the one of the block before. */
  private owners(pvbn: number): Promise<Uint8Array | undefined> | Uint8Array | undefined {
    const fbn = Math.floor(pvbn / OWNER_FANOUT)
    const { ownerLeaf } = this
    if (ownerLeaf.fbn === fbn) return ownerLeaf.bytes
    return this.leaf('owner map', this.aggregate.ownerMap, fbn).then((bytes) => {
      ownerLeaf.fbn = fbn
      ownerLeaf.bytes = bytes
      return bytes
    })
  }

  private leaf(what: string, tree: Tree, fbn: number): Promise<Uint8Array | undefined> {
    return this.guarded(what, () => loaded(() => tree.get(fbn)))
  }

  /** Group by group: the active map against what was seen, contexts and contents against the owner map. */
  private async groups(from: number, to: number): Promise<number> {
    const { layout, own, root } = this.aggregate
    let active = 0
    let ahead: Promise<Uint8Array | undefined> | undefined
    const isAsked = (group: number): boolean => {
      const end = group * GROUP_BLOCKS + layout.groupSize(group)
      for (let pvbn = group * GROUP_BLOCKS; pvbn < end; pvbn++) if (this.seen.has(pvbn)) return true
      return false
    }
    const read = (group: number): Promise<Uint8Array | undefined> | undefined =>
      group < to && isAsked(group) ? this.guarded(`group ${group}`, () => own.readGroup(group)) : undefined
    ahead = read(from)
    for (let group = from; group < to; group++) {
      const first = group * GROUP_BLOCKS
      const bytes = await ahead
      ahead = read(group + 1)
      for (let pvbn = Math.max(1, first); pvbn < first + layout.groupSize(group); pvbn++) {
        const { seen, busy } = this.usage(pvbn)
        if (busy) active += 1
        if (!seen || bytes === undefined) continue
        const leaf = this.owners(pvbn)
        this.block(pvbn, first, bytes, root.cp, leaf instanceof Promise ? await leaf : leaf)
      }
    }
    return active
  }

  /** What refers to a block against the active map. */
  private usage(pvbn: number): { readonly seen: boolean; readonly busy: boolean } {
    const seen = this.seen.has(pvbn)
    const busy = this.aggregate.space.isBusy(pvbn)
    if (seen && !busy) this.problem(`block ${pvbn} is in use but the active map says free`)
    if (busy && !seen) {
      this.problem(`block ${pvbn} is lost: the active map says in use, nothing refers to it`, {
        kind: 'block',
        pvbn,
      })
    }
    return { seen, busy }
  }

  private away(): number {
    let active = 0
    const { first } = this.aggregate.old!.record
    for (let pvbn = first; pvbn < this.aggregate.old!.end; pvbn++) if (this.usage(pvbn).busy) active += 1
    return active
  }

  private block(
    pvbn: number,
    first: number,
    bytes: Uint8Array,
    cp: number,
    owners: Uint8Array | undefined,
  ): void {
    const { env } = this.aggregate
    const slot = pvbn - first
    this.bytes += BLOCK_BYTES
    const context = this.aggregate.io.contextOf(bytes.subarray(0, BLOCK_BYTES), pvbn)
    if (context === undefined) return this.problem(`block ${pvbn}: its context is damaged`)
    const content = bytes.subarray((1 + slot) * BLOCK_BYTES, (2 + slot) * BLOCK_BYTES)
    if (context.pvbn !== pvbn) this.problem(`block ${pvbn}: its context is that of block ${context.pvbn}`)
    if (context.crc !== env.crc32(content)) this.problem(`block ${pvbn}: checksum error`)
    if (context.generation > cp) this.problem(`block ${pvbn}: written by a later consistency point`)
    const owner = owners === undefined ? undefined : ownerIn(owners, pvbn, this.aggregate.type)
    if (owner === undefined || !isOwned({ ...context, pvbn }, owner, pvbn)) {
      this.problem(`block ${pvbn}: context and owner map differ`)
    }
  }

  private async files(index: number, snapshot: number): Promise<void> {
    const volume = this.aggregate.volumeAt(index)
    const { checkFiles } = this.options
    if (volume === undefined || checkFiles === undefined) return
    const held = volume.snapshots.images().find(({ id }) => id === snapshot)
    const what = held === undefined ? `volume ${volume.id}` : `volume ${volume.id}, snapshot ${held.name}`
    const { used } = held ?? volume
    const root = held?.content ?? volume.contentRoot
    const numbers = new NumberSet()
    const map = held?.tree ?? volume.active
    await this.guarded(`active map of ${what}`, () =>
      map.walk(async ({ level, fbn }) => {
        if (level === 0) numbers.merge(fbn, (await loaded(() => map.get(fbn)))!)
        return true
      }),
    )
    const found = await checkFiles(volume, { snapshot, root, used, numbers })
    const { problems, leaks } = 'problems' in found ? found : { problems: found, leaks: [] }
    for (const text of problems) this.problem(`${what}: ${text}`)
    this.leaks.push(...leaks)
  }

  private async guarded<T>(what: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read()
    } catch (error) {
      if (error instanceof DamagedBlock) this.problem(`${what}: block ${error.bn} is damaged`)
      else this.problem(`${what}: ${error instanceof Error ? error.message : String(error)}`)
      return undefined
    }
  }
}

function placeIn(places: Uint8Array | undefined, number: number): number {
  if (places === undefined) return 0
  return getU48(places, (number % CONTAINER_FANOUT) * CONTAINER_ENTRY_BYTES)
}

/** Checks an aggregate that was just opened, read-only, and has no dirty block: all jobs, one after the other. */
export async function checkAggregate<C extends VolumeContent>(
  aggregate: Aggregate<C>,
  options: CheckOptions<C> = {},
): Promise<CheckResult> {
  const check = new AggregateCheck(aggregate, options)
  const { first, then } = await check.jobs()
  const results: JobResult[] = []
  for (const job of [...first, ...then]) results.push(await check.run(job))
  return check.conclude(results)
}
