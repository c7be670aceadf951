/**
 * Verified reads of data blocks from the plexes of an aggregate.
 *
 * Every block that is read is compared with its context (docs/SPEC.md, 1.2); one that is not good is read from the other plex, and the good content is
 * written back (repairs.ts). Checksum blocks are cached like any block; the cached one is what the next write of the group starts from.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { BlockKind } from '../fs/block-store.ts'
import type { Env } from '../env/env.ts'
import { BlockBuffer, CLEAN, DIRTY } from './buffer-cache.ts'
import { RUNS_AT_ONCE } from './block-memory.ts'
import type { BufferCache } from './buffer-cache.ts'
import type { BrokenStorage } from './broken-storage.ts'
import { CONTEXT_BYTES, getContext, isGood, isOwned } from './context.ts'
import type { Context, Identity, OwnerEntry } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'
import type { OldBlocks, OldReader } from './old-blocks.ts'
import type { Plex } from './plex.ts'
import { Repairs } from './repairs.ts'

const UNREPAIRABLE_MAX = 100

export class BlockIo {
  readonly env: Env
  readonly layout: Layout
  readonly own: Plex
  /** The other plex while its content equals ours; undefined while there is none, or while it is being filled. */
  mirror: Plex | undefined
  /** Blocks that have the contexts of another aggregate's, and may lie on its devices. */
  old: OldBlocks | undefined
  /** False for a checker: damage is reported, nothing is written. */
  repairs = true
  /** Runs being read, and those that wait for their turn. */
  private reading = 0
  private readonly readers: (() => void)[] = []
  private readonly cache: BufferCache
  private readonly checksumBlocks = new Map<number, BlockBuffer>()
  private readonly loading = new Map<number, Promise<BlockBuffer>>()
  readonly repairing: Repairs
  readonly broken: BrokenStorage
  /** Checksum blocks in memory of which every entry in use is known to be right. */
  private readonly healed = new WeakSet<BlockBuffer>()
  /** Blocks that no plex has as they should be, as far as is known, by PVBN; the first UNREPAIRABLE_MAX of them. */
  readonly unrepairable = new Map<number, Identity>()
  damaged = 0

  constructor(env: Env, cache: BufferCache, layout: Layout, own: Plex, broken: BrokenStorage = {}) {
    this.env = env
    this.cache = cache
    this.layout = layout
    this.own = own
    this.broken = broken
    this.repairing = new Repairs(this)
  }

  get repaired(): number {
    return this.repairing.repaired
  }

  /** The block at `pvbn` if it, or its copy on the other plex, is what `identity` asks for; undefined if neither is. */
  async read(identity: Identity, pvbn: number): Promise<Uint8Array | undefined> {
    const away = this.away(pvbn)
    if (away !== undefined) return await away.io.read(identity, pvbn - away.first)
    const content = new Uint8Array(BLOCK_BYTES)
    const slot = pvbn % GROUP_BLOCKS
    let reason = 'not the block asked for'
    // What is asked for now may be freed by the next consistency point, and be used again by the one after it.
    const until = this.repairing.writesBegun + 1
    try {
      const [checksums] = await Promise.all([
        this.checksums(Math.floor(pvbn / GROUP_BLOCKS)),
        this.own.readData(pvbn, content),
      ])
      if (this.isGood(checksums.content, slot, identity, pvbn, content)) return content
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error)
    }
    return await this.readMirror(identity, pvbn, reason, until)
  }

  /**
   * A block of a metafile. Pointers to such blocks do not carry the generation, so a write that was lost would leave an older block with the same
   * name: while there is another plex its entry is looked at too, and the later one wins.
   */
  async readMeta(identity: Identity, pvbn: number): Promise<Uint8Array | undefined> {
    const generation = await this.laterOnMirror(identity, pvbn)
    return await this.read(generation === undefined ? identity : { ...identity, generation }, pvbn)
  }

  /** The generation on the other plex if that is later than on the own one. */
  private async laterOnMirror(identity: Identity, pvbn: number): Promise<number | undefined> {
    const { mirror } = this
    if (mirror === undefined) return undefined
    const group = Math.floor(pvbn / GROUP_BLOCKS)
    try {
      const [own, other] = await Promise.all([this.checksums(group), mirror.readChecksums(group)])
      return this.laterIn(identity, pvbn, own.content, other)
    } catch {
      return undefined
    }
  }

  private laterIn(identity: Identity, pvbn: number, own: Uint8Array, other: Uint8Array): number | undefined {
    const { crc32 } = this.env
    const theirs = getContext(crc32, other, pvbn % GROUP_BLOCKS)
    if (theirs?.volume !== identity.volume || theirs.number !== identity.number) return undefined
    if (theirs.kind !== identity.kind || theirs.pvbn !== pvbn) return undefined
    const ours = getContext(crc32, own, pvbn % GROUP_BLOCKS)
    return ours === undefined || ours.generation < theirs.generation ? theirs.generation : undefined
  }

  /** One of these blocks of metafiles of which the other plex has a later one, if there is any. */
  async olderThanMirror(blocks: ReadonlyMap<number, BlockKind>): Promise<number | undefined> {
    const { mirror } = this
    if (mirror === undefined) return undefined
    const groups = Map.groupBy(blocks, ([pvbn]) => Math.floor(pvbn / GROUP_BLOCKS))
    for (const [group, those] of groups) {
      // A place that cannot be read proves nothing.
      const sums = await Promise.all([this.checksums(group), mirror.readChecksums(group)]).catch(
        () => undefined,
      )
      if (sums === undefined) continue
      const [own, other] = sums
      for (const [pvbn, kind] of those)
        if (this.laterIn({ volume: 0, number: pvbn, kind }, pvbn, own.content, other) !== undefined)
          return pvbn
    }
    return undefined
  }

  /** The generation of a block as the own plex has it; undefined if its entry is damaged. */
  async generationOf(pvbn: number): Promise<number | undefined> {
    const { content } = await this.checksums(Math.floor(pvbn / GROUP_BLOCKS))
    return getContext(this.env.crc32, content, pvbn % GROUP_BLOCKS)?.generation
  }

  /**
   * Reads `blocks` blocks from `first` on, all in one group, in one piece. Returns the content of each that was `asked` for and is what it should be; the
   * others are left to `read`.
   */
  async readMany(
    first: number,
    blocks: number,
    asked: readonly { readonly pvbn: number; readonly identity: Identity }[],
  ): Promise<(Uint8Array | undefined)[]> {
    const away = this.away(first)
    if (away !== undefined) {
      const there = asked.map(({ pvbn, identity }) => ({ pvbn: pvbn - away.first, identity }))
      return await away.io.readMany(first - away.first, blocks, there)
    }
    // More would only stand in the host's queue, with their memory, and then all come in one turn of the event loop.
    if (this.reading >= RUNS_AT_ONCE) await new Promise<void>((resolve) => this.readers.push(resolve))
    else this.reading += 1
    try {
      return await this.readRun(first, blocks, asked)
    } finally {
      // The place goes to the next one in the row, if there is one.
      const next = this.readers.shift()
      if (next === undefined) this.reading -= 1
      else next()
    }
  }

  private async readRun(
    first: number,
    blocks: number,
    asked: readonly { readonly pvbn: number; readonly identity: Identity }[],
  ): Promise<(Uint8Array | undefined)[]> {
    const { memory } = this.cache
    // A block on its own: in the cache it must not keep its neighbours in memory.
    const alone = blocks === 1 ? memory.take(asked[0]!.identity.kind, true) : undefined
    const bytes = alone ?? memory.takeRun(blocks)
    let checksums: Uint8Array
    try {
      const group = Math.floor(first / GROUP_BLOCKS)
      const known = this.checksumBlocks.get(group)
      if (known !== undefined) {
        known.used = true
        await this.own.readData(first, bytes)
        checksums = known.content
      } else {
        const [buffer] = await Promise.all([this.checksums(group), this.own.readData(first, bytes)])
        checksums = buffer.content
      }
    } catch {
      if (alone !== undefined) memory.giveBack(alone)
      return asked.map(() => undefined)
    }
    const contents = asked.map(({ pvbn, identity }) => {
      const at = (pvbn - first) * BLOCK_BYTES
      const content = bytes.subarray(at, at + BLOCK_BYTES)
      if (!this.isGood(checksums, pvbn % GROUP_BLOCKS, identity, pvbn, content)) {
        if (alone !== undefined) memory.giveBack(alone)
        return undefined
      }
      if (alone !== undefined) return alone
      const own = memory.take(identity.kind, true)
      own.set(content)
      return own
    })
    if (alone === undefined) memory.giveRun(bytes)
    return contents
  }

  /** Where a block is that lies on devices of another aggregate. */
  private away(pvbn: number): { readonly io: OldReader; readonly first: number } | undefined {
    const { old } = this
    return old?.io !== undefined && old.has(pvbn) ? { io: old.io, first: old.record.first } : undefined
  }

  /** Only in a broken build: what no rule allows. */
  async overwrite(pvbn: number, content: Uint8Array): Promise<void> {
    const away = this.away(pvbn)
    if (away !== undefined) return await away.io.overwrite(pvbn - away.first, content)
    const { device, block } = this.layout.locate(pvbn)
    await this.own.write(device, block, [content])
  }

  /** The context of the block at `pvbn`, in the form of this aggregate. */
  contextOf(sums: Uint8Array, pvbn: number): Context | undefined {
    const context = getContext(this.env.crc32, sums, pvbn % GROUP_BLOCKS)
    return context === undefined || this.old === undefined ? context : this.old.translate(context, pvbn)
  }

  /** The checksum block of a group, from memory or from the own plex. */
  async checksums(group: number): Promise<BlockBuffer> {
    const known = this.checksumBlocks.get(group)
    if (known !== undefined) {
      known.used = true
      return known
    }
    let loading = this.loading.get(group)
    if (loading === undefined) {
      loading = this.loadChecksums(group).finally(() => this.loading.delete(group))
      this.loading.set(group, loading)
    }
    return await loading
  }

  /**
   * The checksum block of a group that is going to be written, pinned until `unpin`. `fresh`: no block of the group is in use, so what lies
   * on the device does not matter.
   */
  async pinChecksums(group: number, fresh: boolean): Promise<BlockBuffer> {
    let buffer = this.checksumBlocks.get(group)
    if (buffer === undefined && fresh && !this.loading.has(group)) {
      buffer = new BlockBuffer(this.checksumBlocks, 0, group, 'meta', new Uint8Array(BLOCK_BYTES), DIRTY, 0)
      this.checksumBlocks.set(group, buffer)
      this.healed.add(buffer)
      this.cache.dirty(1)
      return buffer
    }
    buffer ??= await this.checksums(group)
    if (buffer.state === CLEAN) this.cache.remove(buffer)
    if (buffer.state !== DIRTY) this.cache.dirty(1)
    buffer.state = DIRTY
    // It may have been dropped between its loading and now; a second one must not come up beside it.
    this.checksumBlocks.set(group, buffer)
    return buffer
  }

  /**
   * Before a pinned checksum block is written: entries that are not those of the blocks in use (rot, or a write of it that was lost) are taken from
   * the other plex, so that damage does not spread to it. `ownerOf`: the owner map, new blocks included; undefined for what is not in use.
   */
  async heal(
    group: number,
    buffer: BlockBuffer,
    ownerOf: (pvbn: number) => OwnerEntry | undefined,
  ): Promise<void> {
    const { mirror } = this
    if (mirror === undefined || this.healed.has(buffer) || this.broken.entryNotHealed === true) return
    let other: Uint8Array | undefined
    for (let slot = 0; slot < this.layout.groupSize(group); slot++) {
      const pvbn = group * GROUP_BLOCKS + slot
      const owner = ownerOf(pvbn)
      if (owner === undefined || isOwned(this.contextOf(buffer.content, pvbn), owner, pvbn)) continue
      try {
        other ??= await mirror.readChecksums(group)
      } catch {
        return
      }
      if (!isOwned(this.contextOf(other, pvbn), owner, pvbn)) continue
      const at = slot * CONTEXT_BYTES
      buffer.content.set(other.subarray(at, at + CONTEXT_BYTES), at)
    }
    this.healed.add(buffer)
  }

  unpin(buffer: BlockBuffer): void {
    this.cache.dirty(-1)
    this.cache.keep(buffer)
  }

  /** Forgets everything that is in memory of this aggregate. */
  forget(): void {
    for (const buffer of this.checksumBlocks.values()) if (buffer.state === CLEAN) this.cache.remove(buffer)
    this.checksumBlocks.clear()
  }

  private async loadChecksums(group: number): Promise<BlockBuffer> {
    const content = await this.readChecksums(group)
    const known = this.checksumBlocks.get(group)
    if (known !== undefined) return known
    const buffer = new BlockBuffer(this.checksumBlocks, 0, group, 'meta', content, CLEAN, 0)
    this.checksumBlocks.set(group, buffer)
    this.cache.keep(buffer)
    return buffer
  }

  /** Of a checksum block that the own device cannot read the other plex has the same. */
  private async readChecksums(group: number): Promise<Uint8Array> {
    try {
      return await this.own.readChecksums(group)
    } catch (error) {
      if (this.mirror === undefined) throw error
      this.env.log('warn', 'checksum block cannot be read', { group, cause: String(error) })
      return await this.mirror.readChecksums(group)
    }
  }

  private async readMirror(
    identity: Identity,
    pvbn: number,
    reason: string,
    until: number,
  ): Promise<Uint8Array | undefined> {
    this.noteDamage(this.own)
    const mirror = this.mirror
    let content: Uint8Array | undefined
    if (mirror !== undefined) content = await this.readFrom(mirror, identity, pvbn, until)
    if (content === undefined) this.noteUnrepairable(identity, pvbn, reason)
    else {
      const { volume, number, kind } = identity
      this.env.log('warn', 'damaged block', { pvbn, volume, number, kind, reason })
    }
    return content
  }

  /** Counts a block that is not what it should be on one plex. */
  noteDamage(plex: Plex): void {
    this.damaged += 1
    this.env.metrics.add('tandem_blocks_damaged_total', 1, { plex: String(plex.label.plex) })
  }

  /** A block that no plex has as it should be: counted and logged when it is found first. */
  noteUnrepairable(identity: Identity, pvbn: number, reason: string): void {
    if (this.unrepairable.has(pvbn)) return
    if (this.unrepairable.size < UNREPAIRABLE_MAX) this.unrepairable.set(pvbn, identity)
    const { volume, number, kind } = identity
    this.env.metrics.add('tandem_blocks_unrepairable_total')
    this.env.log('error', 'block cannot be repaired', { pvbn, volume, number, kind, reason })
  }

  /** How many blocks are known that no plex has, of all or of those of one volume; a place that is not in use has lost nothing. */
  unrepairableBlocks(isBusy: (pvbn: number) => boolean, volume?: number): number {
    let count = 0
    for (const [pvbn, identity] of this.unrepairable)
      if ((volume === undefined || identity.volume === volume) && isBusy(pvbn)) count += 1
    return count
  }

  /** A block was written, or repaired: what was known of damage there is out of date. */
  noteWritten(pvbn: number): void {
    if (this.unrepairable.size > 0) this.unrepairable.delete(pvbn)
  }

  private isGood(
    checksums: Uint8Array,
    slot: number,
    identity: Identity,
    pvbn: number,
    content: Uint8Array,
  ): boolean {
    const { crc32 } = this.env
    if (this.broken.contextNotVerified === true) {
      return getContext(crc32, checksums, slot)?.crc === crc32(content)
    }
    return isGood(crc32, checksums, slot, identity, pvbn, content)
  }

  private async readFrom(
    mirror: Plex,
    identity: Identity,
    pvbn: number,
    until: number,
  ): Promise<Uint8Array | undefined> {
    const content = new Uint8Array(BLOCK_BYTES)
    const slot = pvbn % GROUP_BLOCKS
    try {
      const [checksums] = await Promise.all([
        mirror.readChecksums(Math.floor(pvbn / GROUP_BLOCKS)),
        mirror.readData(pvbn, content),
      ])
      if (!this.isGood(checksums, slot, identity, pvbn, content)) return undefined
      if (this.repairs) {
        const context = checksums.slice(slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES)
        this.repairing.add({ pvbn, content: content.slice(), context, target: 'own', until })
      }
      return content
    } catch (error) {
      this.env.log('warn', 'other plex cannot be read', { pvbn, error })
      return undefined
    }
  }
}
