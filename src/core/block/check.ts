/**
 * Proves an aggregate consistent, from one plex, without changing it:
 *
 * 1. the metafiles' trees are whole, and no block is in two places;
 * 2. for every VVBN in use: container(VVBN) = PVBN ⇔ owner(PVBN) = (volume, VVBN);
 * 3. every block in use holds what its context and its owner entry say;
 * 4. the active map is exactly the set of blocks in use, and the root counts them;
 * 5. the files of each volume, by `checkFiles` (core/fs knows them).
 *
 * Memory: a bit per PVBN and the cache. It reports at most PROBLEMS_MAX problems.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { DamagedBlock } from '../fs/block-store.ts'
import { getU48 } from '../fs/bytes.ts'
import { loaded } from '../fs/tree.ts'
import type { Tree } from '../fs/tree.ts'
import type { Aggregate } from './aggregate.ts'
import { getContext, isOwned } from './context.ts'
import type { OwnerEntry } from './context.ts'
import { CONTAINER_ENTRY_BYTES, CONTAINER_FANOUT } from './flexible-volume.ts'
import type { FlexibleVolume, VolumeContent } from './flexible-volume.ts'
import { GROUP_BLOCKS } from './layout.ts'
import { OWNER_FANOUT, ownerIn } from './leaf-editor.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

const PROBLEMS_MAX = 1000

export interface CheckResult {
  readonly problems: readonly string[]
  readonly blocksUsed: number
  readonly volumes: number
  readonly cp: number
  readonly covers: number
}

export interface CheckOptions<C extends VolumeContent> {
  /** What is wrong with the files of a volume; `inUse` tells which VVBNs the volume's active map has. */
  readonly checkFiles?: (
    volume: FlexibleVolume<C>,
    inUse: (vvbn: number) => boolean,
  ) => Promise<readonly string[]>
}

class Checker<C extends VolumeContent> {
  readonly problems: string[] = []
  private readonly aggregate: Aggregate<C>
  /** Blocks that something refers to. */
  private readonly seen: Uint8Array
  private seenBlocks = 0

  constructor(aggregate: Aggregate<C>) {
    this.aggregate = aggregate
    this.seen = new Uint8Array(Math.ceil(aggregate.layout.end / 8))
  }

  problem(text: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(text)
  }

  async run(options: CheckOptions<C>): Promise<CheckResult> {
    const { aggregate } = this
    await this.metafile('active map', aggregate.activeMap)
    await this.metafile('owner map', aggregate.ownerMap)
    await this.metafile('volume table', aggregate.volumeTable)
    for (const volume of aggregate.volumes()) {
      await this.metafile(`active map of volume ${volume.id}`, volume.active)
      await this.metafile(`container map of volume ${volume.id}`, volume.container)
      const inUse = await this.numbers(volume.id, volume.index, volume.active, volume.container, 0)
      if (inUse !== volume.used) {
        this.problem(`volume ${volume.id}: ${inUse} VVBNs in use, its entry says ${volume.used}`)
      }
    }
    for (const { entry, active, container, reclaimed } of aggregate.removed) {
      await this.metafile(`active map of removed volume ${entry.id}`, active)
      await this.metafile(`container map of removed volume ${entry.id}`, container)
      await this.numbers(entry.id, entry.index, active, container, reclaimed)
    }
    await this.blocks()
    if (options.checkFiles !== undefined) {
      for (const volume of aggregate.volumes()) {
        const found = await options.checkFiles(volume, (vvbn) => volume.numbers.isTaken(vvbn))
        for (const text of found) this.problem(`volume ${volume.id}: ${text}`)
      }
    }
    return {
      problems: this.problems,
      blocksUsed: this.seenBlocks,
      volumes: [...aggregate.volumes()].length,
      cp: aggregate.root.cp,
      covers: aggregate.root.covers,
    }
  }

  private isSeen(pvbn: number): boolean {
    return (this.seen[Math.floor(pvbn / 8)]! & (1 << (pvbn % 8))) !== 0
  }

  private see(pvbn: number, what: string): void {
    if (!this.aggregate.layout.exists(pvbn)) this.problem(`${what}: no block ${pvbn}`)
    else if (this.isSeen(pvbn)) this.problem(`${what}: block ${pvbn} is in use twice`)
    else {
      this.seen[Math.floor(pvbn / 8)]! |= 1 << (pvbn % 8)
      this.seenBlocks += 1
    }
  }

  private async metafile(what: string, tree: Tree): Promise<void> {
    let blocks = 0
    await this.guarded(what, () =>
      tree.walk((entry) => {
        blocks += 1
        this.see(entry.bn, what)
      }),
    )
    if (blocks !== tree.blocks) this.problem(`${what}: ${blocks} blocks, its root says ${tree.blocks}`)
  }

  /** VVBNs in use, and what the container map and the owner map say of each. */
  private async numbers(
    id: string,
    index: number,
    active: Tree,
    container: Tree,
    from: number,
  ): Promise<number> {
    let inUse = 0
    for (let next = Math.floor(from / MAP_LEAF_BITS); ; next++) {
      const start = next
      const fbn = await this.guarded(`active map of ${id}`, () => loaded(() => active.next(start)))
      if (fbn === undefined) return inUse
      next = fbn
      const leaf = await this.guarded(`active map of ${id}`, () => loaded(() => active.get(fbn)))
      if (leaf === undefined) continue
      const bits = leaf.slice()
      for (let number = Math.max(from, fbn * MAP_LEAF_BITS); number < (fbn + 1) * MAP_LEAF_BITS; number++) {
        const bit = number % MAP_LEAF_BITS
        if ((bits[bit >> 3]! & (1 << (bit & 7))) === 0) continue
        inUse += 1
        await this.number(id, index, container, number)
      }
    }
  }

  private async number(id: string, index: number, container: Tree, number: number): Promise<void> {
    const what = `volume ${id}, VVBN ${number}`
    const leaf = await this.leaf(what, container, Math.floor(number / CONTAINER_FANOUT))
    const pvbn = leaf === undefined ? 0 : getU48(leaf, (number % CONTAINER_FANOUT) * CONTAINER_ENTRY_BYTES)
    if (pvbn === 0) return this.problem(`${what}: no place in the container map`)
    this.see(pvbn, what)
    const owner = await this.owner(pvbn)
    if (owner === undefined || owner.volume !== index || owner.number !== number) {
      this.problem(`${what}: block ${pvbn} is owned by ${owner?.volume ?? 'nobody'}/${owner?.number ?? ''}`)
    }
  }

  /** A leaf if it is there; at once if it is in memory. */
  private leaf(
    what: string,
    tree: Tree,
    fbn: number,
  ): Promise<Uint8Array | undefined> | Uint8Array | undefined {
    try {
      return tree.get(fbn)
    } catch {
      return this.guarded(what, () => loaded(() => tree.get(fbn)))
    }
  }

  private async owner(pvbn: number): Promise<OwnerEntry | undefined> {
    const leaf = await this.leaf('owner map', this.aggregate.ownerMap, Math.floor(pvbn / OWNER_FANOUT))
    return leaf === undefined ? undefined : ownerIn(leaf, pvbn)
  }

  /** Group by group: the active map against what was seen, contexts and contents against the owner map. */
  private async blocks(): Promise<void> {
    const { layout, space, own, root, usedBlocks } = this.aggregate
    let active = 0
    for (let group = 0; group < layout.groups; group++) {
      const first = group * GROUP_BLOCKS
      const busy: number[] = []
      for (let pvbn = Math.max(1, first); pvbn < first + layout.groupSize(group); pvbn++) {
        if (space.isBusy(pvbn) !== this.isSeen(pvbn)) {
          this.problem(
            this.isSeen(pvbn)
              ? `block ${pvbn} is in use but the active map says free`
              : `block ${pvbn} is lost: the active map says in use, nothing refers to it`,
          )
        }
        if (space.isBusy(pvbn)) active += 1
        if (this.isSeen(pvbn)) busy.push(pvbn)
      }
      if (busy.length === 0) continue
      const bytes = await this.guarded(`group ${group}`, () => own.readGroup(group))
      if (bytes !== undefined) for (const pvbn of busy) await this.block(pvbn, first, bytes, root.cp)
    }
    if (active !== usedBlocks) this.problem(`${active} blocks in use, the root says ${usedBlocks}`)
  }

  private async block(pvbn: number, first: number, bytes: Uint8Array, cp: number): Promise<void> {
    const { env } = this.aggregate
    const slot = pvbn - first
    const context = getContext(env.crc32, bytes.subarray(0, BLOCK_BYTES), slot)
    if (context === undefined) return this.problem(`block ${pvbn}: its context is damaged`)
    const content = bytes.subarray((1 + slot) * BLOCK_BYTES, (2 + slot) * BLOCK_BYTES)
    if (context.pvbn !== pvbn) this.problem(`block ${pvbn}: its context is that of block ${context.pvbn}`)
    if (context.crc !== env.crc32(content)) this.problem(`block ${pvbn}: checksum error`)
    if (context.generation > cp) this.problem(`block ${pvbn}: written by a later consistency point`)
    const owner = await this.owner(pvbn)
    if (owner === undefined || !isOwned({ ...context, pvbn }, owner, pvbn)) {
      this.problem(`block ${pvbn}: context and owner map differ`)
    }
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

/** Checks an aggregate that was just opened, read-only, and has no dirty block. */
export async function checkAggregate<C extends VolumeContent>(
  aggregate: Aggregate<C>,
  options: CheckOptions<C> = {},
): Promise<CheckResult> {
  return await new Checker(aggregate).run(options)
}
