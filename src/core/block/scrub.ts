/**
 * Reads everything in use on both plexes by and by, so that damage is found while the other plex can still mend it: also in what nobody reads, and also
 * lost writes, which leave an older block that is whole in itself.
 *
 * Group by group it compares the entry of each block in use with the owner map and with the block's bytes, and the plexes with each other. A block that
 * is right on one plex only is written to the other (repairs.ts); of two that are both right the one of the later consistency point wins.
 *
 * - It looks only while the other plex takes part: without it nothing could be mended.
 * - It stands still while a consistency point writes, and a group that was read into one is read again.
 * - It finds its place by chance when it begins, so that restarts do not make it read the same part again and again; a pass is over when it has
 *   come round.
 *
 * Memory: one group of both plexes. It does not look at roots and labels, which have two copies each and are checked whenever they are read.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Env, Timer } from '../env/env.ts'
import { DamagedBlock } from '../fs/block-store.ts'
import { loaded } from '../fs/tree.ts'
import type { Tree } from '../fs/tree.ts'
import type { BlockIo } from './block-io.ts'
import { CONTEXT_BYTES, isOwned } from './context.ts'
import type { Context, OwnerEntry } from './context.ts'
import type { AggregateType } from './label.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'
import { OWNER_FANOUT, ownerIn } from './leaf-editor.ts'
import type { MetaStore } from './meta-store.ts'
import type { Plex } from './plex.ts'
import { MAP_LEAF_BITS } from './space-map.ts'
import type { SpaceMap } from './space-map.ts'

/** What it needs of an aggregate. */
export interface Scrubbed {
  readonly env: Env
  readonly name: string
  readonly io: BlockIo
  readonly meta: MetaStore
  readonly space: SpaceMap
  readonly layout: Layout
  readonly type: AggregateType
  readonly activeMap: Tree
  readonly ownerMap: Tree
  /** Number of the consistency point that wrote last, or is writing. */
  readonly newestCp: number
}

export interface ScrubOptions {
  /** A pass over what is in use takes about so long, if that is possible without PAUSE_MIN_MS being undercut. */
  readonly intervalMs: number
  /** Asked before each group: true puts it off. */
  readonly busy?: () => boolean
}

export const SCRUB_INTERVAL_MS = 7 * 24 * 3600 * 1000
/** Between two groups: at most 100 groups (50 MiB of each plex) a second. */
const PAUSE_MIN_MS = 10
const PAUSE_MAX_MS = 600_000
/** When it is put off. */
const BUSY_MS = 100
/** A group that consistency points got in the way of so often is left to the next pass. */
const ATTEMPTS = 5

/** One block of one plex. */
interface Found {
  readonly context: Context
  readonly entry: Uint8Array
  readonly content: Uint8Array
}

interface Mending {
  readonly found: Found
  readonly target: 'own' | 'mirror'
}

export interface ScrubResult {
  /** Blocks in use that were compared; each counts once though it is on both plexes. */
  readonly blocks: number
  readonly damaged: number
  readonly repaired: number
  readonly unrepairable: number
  /** Groups that consistency points got in the way of too often: they are left to the next pass. */
  readonly left: number
}

const NOTHING: ScrubResult = { blocks: 0, damaged: 0, repaired: 0, unrepairable: 0, left: 0 }

export class Scrub {
  private readonly aggregate: Scrubbed
  private readonly options: ScrubOptions
  private group: number
  private timer: Timer | undefined
  private running = false
  /** Groups still to be read before it has come round. */
  private left = 0
  private passStarted = 0
  private sum: { -readonly [K in keyof ScrubResult]: number } = { ...NOTHING }
  passes = 0

  constructor(aggregate: Scrubbed, options: ScrubOptions) {
    this.aggregate = aggregate
    this.options = options
    this.group = aggregate.env.random.u32() % aggregate.io.layout.groups
  }

  /** From now on, in the background, until `stop`. */
  start(): void {
    this.running = true
    this.left = this.aggregate.io.layout.groups
    this.passStarted = this.aggregate.env.clock.now()
    this.later(PAUSE_MIN_MS)
  }

  stop(): void {
    this.running = false
    this.timer?.cancel()
  }

  /** Everything once, now, as fast as it goes: resolves when it has come round. */
  async pass(): Promise<ScrubResult> {
    const { groups } = this.aggregate.io.layout
    this.sum = { ...NOTHING }
    for (let group = 0; group < groups; group++) await this.scrub(group)
    return this.sum
  }

  private later(delayMs: number): void {
    if (!this.running) return
    this.timer = this.aggregate.env.clock.after(delayMs, () => {
      this.step().catch((error: unknown) => {
        this.aggregate.env.log('warn', 'scrub stopped', {
          aggregate: this.aggregate.name,
          cause: error instanceof Error ? error.message : String(error),
        })
      })
    })
  }

  private async step(): Promise<void> {
    const { io, space } = this.aggregate
    if (io.mirror === undefined || io.repairing.isHeld || this.options.busy?.() === true) {
      this.later(BUSY_MS)
      return
    }
    // An aggregate that has grown has more groups than there were.
    const { groups } = io.layout
    this.group %= groups
    while (this.left > 1 && space.busyIn(this.group) === 0) this.forward(groups)
    await this.scrub(this.group)
    this.forward(groups)
    if (this.left <= 0) this.ended(groups)
    const used = groups * GROUP_BLOCKS - space.free
    const pause = (this.options.intervalMs * GROUP_BLOCKS) / Math.max(1, used)
    this.later(Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, pause)))
  }

  private forward(groups: number): void {
    this.group = (this.group + 1) % groups
    this.left -= 1
  }

  private ended(groups: number): void {
    const { env, name } = this.aggregate
    this.passes += 1
    this.left = groups
    const labels = { aggregate: name }
    const seconds = (env.clock.now() - this.passStarted) / 1000
    this.passStarted = env.clock.now()
    env.metrics.set('tandem_scrub_pass_seconds', seconds, labels)
    env.metrics.add('tandem_scrub_passes_total', 1, labels)
    env.log('info', 'scrub has read everything', {
      aggregate: name,
      seconds: Math.round(seconds),
      ...this.sum,
    })
    this.sum = { ...NOTHING }
  }

  private async scrub(group: number): Promise<void> {
    const told = new Set<number>()
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) if (await this.scrubOnce(group, told)) return
    this.sum.left += 1
  }

  /**
   * False if a consistency point came in between: what was read may be of two images, or what was found was not mended. `told`: places whose damage was told
   * in an earlier attempt.
   */
  private async scrubOnce(group: number, told: Set<number>): Promise<boolean> {
    const { io, space, env, name } = this.aggregate
    const { mirror, repairing } = io
    const until = repairing.writesBegun
    if (mirror === undefined || space.busyIn(group) === 0) return true
    if (repairing.isHeld) {
      await new Promise<void>((resolve) => env.clock.after(BUSY_MS, resolve))
      return false
    }
    const blocks = await this.blocks(group)
    if (blocks.length === 0) return true
    const [own, other] = await Promise.all([readGroup(io.own, group), readGroup(mirror, group)])
    if (repairing.isHeld || repairing.writesBegun !== until || io.mirror !== mirror)
      return io.mirror !== mirror
    const repairs: Promise<boolean>[] = []
    for (const { pvbn, owner } of blocks) {
      const from = this.compare(pvbn, owner, this.found(own, pvbn), this.found(other, pvbn))
      if (from !== undefined) repairs.push(this.mend(pvbn, from, until, told))
    }
    if ((await Promise.all(repairs)).includes(false)) return false
    this.sum.blocks += blocks.length
    env.metrics.add('tandem_scrub_blocks_total', blocks.length, { aggregate: name })
    return true
  }

  /** The blocks of a group that the image has, with their owners; none if the maps cannot be read, which is told as damage of its own. */
  private async blocks(group: number): Promise<{ readonly pvbn: number; readonly owner: OwnerEntry }[]> {
    const { activeMap, ownerMap, layout, type } = this.aggregate
    const first = group * GROUP_BLOCKS
    try {
      const active = await loaded(() => activeMap.get(Math.floor(first / MAP_LEAF_BITS)))
      const owners = await loaded(() => ownerMap.get(Math.floor(first / OWNER_FANOUT)))
      const blocks: { readonly pvbn: number; readonly owner: OwnerEntry }[] = []
      if (active === undefined || owners === undefined) return blocks
      for (let pvbn = first; pvbn < first + layout.groupSize(group); pvbn++) {
        const bit = pvbn % MAP_LEAF_BITS
        if (pvbn === 0 || (active[bit >> 3]! & (1 << (bit & 7))) === 0) continue
        blocks.push({ pvbn, owner: ownerIn(owners, pvbn, type) })
      }
      return blocks
    } catch (error) {
      if (error instanceof DamagedBlock) return []
      throw error
    }
  }

  /** The block at a place if its entry, its bytes and the place belong together. */
  private found(group: GroupBytes, pvbn: number): Found | undefined {
    const { env, newestCp } = this.aggregate
    const slot = pvbn % GROUP_BLOCKS
    const context = this.aggregate.io.contextOf(group.sums, pvbn)
    const content = group.content(slot)
    if (context === undefined || content === undefined || context.crc !== env.crc32(content)) return undefined
    if (context.pvbn !== pvbn || context.generation > newestCp) return undefined
    return { context, content, entry: group.sums.subarray(slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES) }
  }

  /** What is to be written where; undefined if nothing is, or nothing can be. */
  private compare(
    pvbn: number,
    owner: OwnerEntry,
    own: Found | undefined,
    other: Found | undefined,
  ): Mending | undefined {
    const isOurs = own !== undefined && isOwned(own.context, owner, pvbn)
    const isTheirs = other !== undefined && isOwned(other.context, owner, pvbn)
    if (own !== undefined && other !== undefined) {
      const later = own.context.generation - other.context.generation
      if (later !== 0) {
        // What was written there last is what is in use, whatever an owner map says that may have lost a write itself.
        const ownWins = later > 0 === !(this.aggregate.io.broken.scrubPrefersOlder ?? false)
        return ownWins ? { found: own, target: 'mirror' } : { found: other, target: 'own' }
      }
      if (isOurs && isTheirs && own.context.crc === other.context.crc) return undefined
    }
    if (isOurs) return { found: own, target: 'mirror' }
    if (isTheirs) return { found: other, target: 'own' }
    const number = owner.volume === 0 ? pvbn : owner.number
    const kind = own?.context.kind ?? other?.context.kind ?? 'data'
    const reason = 'on neither plex as the owner map has it'
    this.aggregate.io.noteUnrepairable({ volume: owner.volume, number, kind }, pvbn, reason)
    this.sum.unrepairable += 1
    return undefined
  }

  /** False if it was not written: a consistency point came first, or the plex failed. */
  private mend(
    pvbn: number,
    { found: from, target }: Mending,
    until: number,
    told: Set<number>,
  ): Promise<boolean> {
    const { io } = this.aggregate
    if (!told.has(pvbn)) {
      told.add(pvbn)
      io.noteDamage(target === 'own' ? io.own : io.mirror!)
      this.sum.damaged += 1
      const { volume, number, kind } = from.context
      io.env.log('warn', 'damaged block found by the scrub', { pvbn, volume, number, kind, target })
    }
    return new Promise((resolve) => {
      io.repairing.add({
        pvbn,
        content: from.content.slice(),
        context: from.entry.slice(),
        target,
        until,
        done: (written) => {
          if (written) this.sum.repaired += 1
          // What is in memory may be what lay there before.
          if (written && target === 'own' && from.context.volume === 0) this.aggregate.meta.drop(pvbn)
          resolve(written)
        },
      })
    })
  }
}

interface GroupBytes {
  readonly sums: Uint8Array
  /** Undefined if it cannot be read. */
  content(slot: number): Uint8Array | undefined
}

/** A whole group in one read; block by block if that fails, so that one bad place does not hide the others. */
async function readGroup(plex: Plex, group: number): Promise<GroupBytes> {
  try {
    const bytes = await plex.readGroup(group)
    return {
      sums: bytes.subarray(0, BLOCK_BYTES),
      content: (slot) => bytes.subarray((1 + slot) * BLOCK_BYTES, (2 + slot) * BLOCK_BYTES),
    }
  } catch {
    const sums = await plex.readChecksums(group).catch(() => new Uint8Array(BLOCK_BYTES))
    const blocks: (Uint8Array | undefined)[] = []
    for (let slot = 0; slot < plex.layout.groupSize(group); slot++) {
      const block = new Uint8Array(BLOCK_BYTES)
      const read = plex.readData(group * GROUP_BLOCKS + slot, block)
      blocks.push(
        await read.then(
          () => block,
          () => undefined,
        ),
      )
    }
    return { sums, content: (slot) => blocks[slot] }
  }
}
