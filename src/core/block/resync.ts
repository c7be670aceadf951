/**
 * Filling the other plex, in rounds, beside operations and consistency points.
 *
 * A group is copied unless all its blocks in use have the same contexts on both plexes and are of an image that was flushed on the target, or older: the last one
 * that both had, or that of a pass which was interrupted behind this group (`Had`). Since none of these blocks was free in between, nothing wrote over them there but
 * themselves. Without such an image all is copied.
 *
 * What the first round has copied is flushed and noted in the target's label now and then, for a resync that must go on later.
 *
 * `changed` has every group whose content on the own plex may differ from the copy: at first all that are in use, later those that a consistency
 * point wrote. A group is taken out *before* it is read and put in *after* it was written, so what changes while it is copied is copied again.
 * When little is left the copy is ready to join: the next consistency point copies the rest, then writes its own blocks to both plexes, and its root on
 * both makes the copies equal. Until then the labels of the target say `resyncing` and it has no root.
 *
 * Memory: a few groups at a time.
 */
import type { Env } from '../env/env.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import type { BrokenStorage } from './broken-storage.ts'
import { CONTEXT_BYTES, getContext } from './context.ts'
import type { Context } from './context.ts'
import type { Had } from './filling.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'
import type { Plex } from './plex.ts'
import type { SpaceMap } from './space-map.ts'

/** Groups that the joining consistency point may copy itself: 64 MiB at most. */
const JOIN_GROUPS = 128
const COPIES_UNDER_WAY = 4
/** The label is written after so many groups (256 MiB), on small plexes so many times in all. */
const NOTE_GROUPS = 512
const NOTES = 64
/** Against writers faster than the copy; then the joining consistency point has more to do. */
const ROUNDS_MAX = 20

export interface ResyncOptions {
  /** Bytes copied so far, and bytes still to be copied as known now. */
  readonly onProgress?: (copiedBytes: number, leftBytes: number) => void
  /** Asked between groups; true ends the resync with a rejection. */
  readonly cancelled?: () => boolean
}

export class ResyncCancelled extends Error {
  constructor() {
    super('resync cancelled')
    this.name = 'ResyncCancelled'
  }
}

export class Resync {
  readonly target: Plex
  private readonly env: Env
  private readonly source: Plex
  private readonly space: SpaceMap
  private readonly layout: Layout
  private readonly changed: Uint8Array
  /** What the target has as far as its label tells. */
  had: Had
  private readonly start: Had
  private readonly broken: BrokenStorage
  private readonly pass: Had
  private left = 0
  private copied = 0
  /** The next consistency point goes to both. */
  ready = false

  /** `pass`: 16 hexadecimal digits, which the source's image has from `cp` on. */
  constructor(
    env: Env,
    source: Plex,
    target: Plex,
    space: SpaceMap,
    had: Had,
    { pass, cp }: Pick<Had, 'pass' | 'cp'>,
    broken: BrokenStorage = {},
  ) {
    this.broken = broken
    this.had = had
    this.start = had
    this.pass = { base: had.base, pass, cp, groups: 0 }
    this.env = env
    this.source = source
    this.target = target
    this.space = space
    this.layout = source.layout
    this.changed = new Uint8Array(this.layout.groups)
  }

  /** A group was written on the own plex only. */
  mark(group: number): void {
    if (this.changed[group] === 1) return
    this.changed[group] = 1
    this.left += 1
  }

  async run(options: ResyncOptions): Promise<void> {
    await this.note(this.had.groups > 0 ? this.had : this.pass)
    await this.target.relabel({ state: 'resyncing' })
    await this.target.clearRoots()
    for (let group = 0; group < this.layout.groups; group++) {
      if (this.space.busyIn(group) > 0) this.mark(group)
    }
    const { groups } = this.layout
    for (let round = 0; round < ROUNDS_MAX; round++) {
      await this.round(options, round === 0 ? Math.min(NOTE_GROUPS, Math.ceil(groups / NOTES)) : Infinity)
      if (this.left <= JOIN_GROUPS) break
    }
    await this.target.flush()
    this.ready = true
  }

  /** What is left, copied by the consistency point that joins. */
  async finish(): Promise<void> {
    await this.round({})
  }

  private async note(had: Had): Promise<void> {
    const { base, pass, groups } = had
    await this.target.fill({ ...(base === undefined ? {} : { base }), pass, groups })
    this.had = had
  }

  private async round(options: ResyncOptions, noteEvery = Infinity): Promise<void> {
    let noted = 0
    const underWay: Promise<void>[] = []
    let failure: unknown
    for (let group = 0; group < this.changed.length && failure === undefined; group++) {
      if (this.changed[group] === 0) continue
      if (options.cancelled?.() === true) failure = new ResyncCancelled()
      if (failure !== undefined) break
      if (group - noted >= noteEvery && group > this.had.groups) {
        await Promise.all(underWay.splice(0))
        if (failure !== undefined) break
        if (this.broken.notedBeforeFlush !== true) await this.target.flush()
        await this.note({ ...this.pass, groups: group })
        noted = group
      }
      this.changed[group] = 0
      this.left -= 1
      underWay.push(
        this.copy(group).catch((error: unknown) => {
          failure ??= error
        }),
      )
      if (underWay.length >= COPIES_UNDER_WAY) await underWay.shift()
      options.onProgress?.(this.copied * BLOCK_BYTES, this.left * (GROUP_BLOCKS + 1) * BLOCK_BYTES)
    }
    await Promise.all(underWay)
    if (failure !== undefined) throw failure
    options.onProgress?.(this.copied * BLOCK_BYTES, this.left * (GROUP_BLOCKS + 1) * BLOCK_BYTES)
  }

  private async copy(group: number): Promise<void> {
    const latest = this.latestIn(group)
    if (latest > 0 && (await this.isEqual(group, latest))) return
    const bytes = await this.source.readGroup(group)
    const damaged = this.damagedIn(group, bytes)
    if (damaged.length > 0 && latest > 0)
      this.keep(damaged, bytes, await this.target.readGroup(group), latest)
    const { device, block } = this.layout.locateChecksums(group)
    const used = bytes.subarray(0, (1 + this.lastUsed(group) + 1) * BLOCK_BYTES)
    await this.target.write(device, block, [used])
    this.copied += used.length / BLOCK_BYTES
  }

  /** The consistency point up to which equal contexts mean equal blocks. */
  private latestIn(group: number): number {
    const { base, cp, groups } = this.start
    if (group >= groups) return base?.cp ?? 0
    return this.broken.passNotDated === true ? Infinity : Math.max(base?.cp ?? 0, cp)
  }

  private async isEqual(group: number, latest: number): Promise<boolean> {
    const [ours, theirs] = await Promise.all([
      this.source.readChecksums(group),
      this.target.readChecksums(group),
    ])
    for (let slot = 0; slot < this.layout.groupSize(group); slot++) {
      if (!this.space.isBusy(group * GROUP_BLOCKS + slot)) continue
      const context = getContext(this.env.crc32, ours, slot)
      if (context === undefined || context.generation > latest) return false
      if (!isSame(ours, theirs, entryOf(slot))) return false
    }
    return true
  }

  private lastUsed(group: number): number {
    let slot = this.layout.groupSize(group) - 1
    while (slot > 0 && !this.space.isBusy(group * GROUP_BLOCKS + slot)) slot -= 1
    return slot
  }

  /**
   * Slots of blocks in use that are not whole. Those that the target does not have either are copied as they are, and stay visible as damage. A block that a
   * consistency point is writing just now looks the same; it is copied again.
   */
  private damagedIn(group: number, bytes: Uint8Array): number[] {
    const damaged: number[] = []
    for (let slot = 0; slot < this.layout.groupSize(group); slot++) {
      if (!this.space.isBusy(group * GROUP_BLOCKS + slot)) continue
      if (this.contextIn(bytes, slot) !== undefined) continue
      damaged.push(slot)
      this.env.log('debug', 'block not whole while it was copied', { pvbn: group * GROUP_BLOCKS + slot })
    }
    return damaged
  }

  /**
   * Puts whole blocks of the target in the place of damaged ones: of `latest` or older, and proven to be the same block, by an equal context (the content
   * rotted) or by equal content (the context did). An older block in the same place would pass neither.
   */
  private keep(damaged: readonly number[], bytes: Uint8Array, theirs: Uint8Array, latest: number): void {
    const { crc32 } = this.env
    for (const slot of damaged) {
      const context = this.contextIn(theirs, slot)
      if (context === undefined || context.generation > latest) continue
      const [entry, content] = [entryOf(slot), contentOf(slot)]
      const sameContext = isSame(bytes, theirs, entry)
      if (!sameContext && (getContext(crc32, bytes, slot) !== undefined || !isSame(bytes, theirs, content)))
        continue
      bytes.set(theirs.subarray(...entry), entry[0])
      bytes.set(theirs.subarray(...content), content[0])
    }
  }

  /** Context of a block of a whole group; undefined if the block is damaged. */
  private contextIn(bytes: Uint8Array, slot: number): Context | undefined {
    const { crc32 } = this.env
    const context = getContext(crc32, bytes, slot)
    return context?.crc === crc32(bytes.subarray(...contentOf(slot))) ? context : undefined
  }
}

type Range = [from: number, to: number]

/** Where a group has a block's context, and its content. */
const entryOf = (slot: number): Range => [slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES]
const contentOf = (slot: number): Range => [(1 + slot) * BLOCK_BYTES, (2 + slot) * BLOCK_BYTES]

function isSame(a: Uint8Array, b: Uint8Array, [from, to]: Range): boolean {
  for (let at = from; at < to; at++) if (a[at] !== b[at]) return false
  return true
}
