/**
 * Verified reads of data blocks from the plexes of an aggregate, and repair.
 *
 * Every block that is read is compared with its context (docs/SPEC.md, 1.2); one that is not good is read from the other plex, and the good content is
 * written back. Checksum blocks are cached like any block; the cached one is what the next write of the group starts from.
 *
 * Repairs run one after the other and never beside a consistency point's writes (`holdRepairs`): a repair writes a block of the live root
 * with the bytes that belong there, and a block found damaged while image n was live is not reused before consistency point n+2 writes, so a
 * repair older than that is dropped.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { BlockBuffer, CLEAN, DIRTY } from './buffer-cache.ts'
import type { BufferCache } from './buffer-cache.ts'
import { CONTEXT_BYTES, isEntryWhole, isGood } from './context.ts'
import type { Identity } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'
import type { Plex } from './plex.ts'

interface Repair {
  readonly identity: Identity
  readonly pvbn: number
  readonly content: Uint8Array
  readonly context: Uint8Array
  /** Count of consistency points that had begun to write when the damage was found. */
  readonly found: number
}

export class BlockIo {
  readonly env: Env
  readonly layout: Layout
  readonly own: Plex
  /** The other plex while its content equals ours; undefined while there is none, or while it is being filled. */
  mirror: Plex | undefined
  /** False for a checker: damage is reported, nothing is written. */
  repairs = true
  private readonly cache: BufferCache
  private readonly checksumBlocks = new Map<number, BlockBuffer>()
  private readonly loading = new Map<number, Promise<BlockBuffer>>()
  private queue: Repair[] = []
  private repairing: Promise<void> | undefined
  private held = false
  private writesBegun = 0
  damaged = 0
  repaired = 0

  constructor(env: Env, cache: BufferCache, layout: Layout, own: Plex) {
    this.env = env
    this.cache = cache
    this.layout = layout
    this.own = own
  }

  /** The block at `pvbn` if it, or its copy on the other plex, is what `identity` asks for; undefined if neither is. */
  async read(identity: Identity, pvbn: number): Promise<Uint8Array | undefined> {
    const content = new Uint8Array(BLOCK_BYTES)
    const slot = pvbn % GROUP_BLOCKS
    let reason = 'not the block asked for'
    try {
      const [checksums] = await Promise.all([
        this.checksums(Math.floor(pvbn / GROUP_BLOCKS)),
        this.own.readData(pvbn, content),
      ])
      if (isGood(this.env.crc32, checksums.content, slot, identity, pvbn, content)) return content
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error)
    }
    return await this.readMirror(identity, pvbn, reason)
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
    const bytes = new Uint8Array(blocks * BLOCK_BYTES)
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
      return asked.map(() => undefined)
    }
    return asked.map(({ pvbn, identity }) => {
      const at = (pvbn - first) * BLOCK_BYTES
      const content = bytes.subarray(at, at + BLOCK_BYTES)
      if (!isGood(this.env.crc32, checksums, pvbn % GROUP_BLOCKS, identity, pvbn, content)) return undefined
      // A block on its own: in the cache it must not keep its neighbours in memory.
      return blocks === 1 ? bytes : content.slice()
    })
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
   * on the device does not matter. Entries that are damaged here are taken from the other plex, so that damage does not spread to it.
   */
  async pinChecksums(group: number, fresh: boolean, isUsed: (pvbn: number) => boolean): Promise<BlockBuffer> {
    let buffer = this.checksumBlocks.get(group)
    if (buffer === undefined && fresh && !this.loading.has(group)) {
      buffer = new BlockBuffer(this.checksumBlocks, 0, group, 'meta', new Uint8Array(BLOCK_BYTES), DIRTY, 0)
      this.checksumBlocks.set(group, buffer)
      this.cache.dirty(1)
      return buffer
    }
    buffer ??= await this.checksums(group)
    if (buffer.state === CLEAN) this.cache.remove(buffer)
    if (buffer.state !== DIRTY) this.cache.dirty(1)
    buffer.state = DIRTY
    // It may have been dropped between its loading and now; a second one must not come up beside it.
    this.checksumBlocks.set(group, buffer)
    if (this.mirror !== undefined) await this.heal(group, buffer, this.mirror, isUsed)
    return buffer
  }

  unpin(buffer: BlockBuffer): void {
    this.cache.dirty(-1)
    this.cache.keep(buffer)
  }

  /** Before a consistency point writes: repairs under way end, new ones wait. */
  async holdRepairs(): Promise<void> {
    this.held = true
    this.writesBegun += 1
    await this.repairing
  }

  resumeRepairs(): void {
    this.held = false
    this.startRepairs()
  }

  /** When nothing is to be repaired any more (tests, closing). */
  async settled(): Promise<void> {
    while (this.repairing !== undefined) await this.repairing
  }

  /** Forgets everything that is in memory of this aggregate. */
  forget(): void {
    for (const buffer of this.checksumBlocks.values()) if (buffer.state === CLEAN) this.cache.remove(buffer)
    this.checksumBlocks.clear()
  }

  private async loadChecksums(group: number): Promise<BlockBuffer> {
    const content = await this.own.readChecksums(group)
    const known = this.checksumBlocks.get(group)
    if (known !== undefined) return known
    const buffer = new BlockBuffer(this.checksumBlocks, 0, group, 'meta', content, CLEAN, 0)
    this.checksumBlocks.set(group, buffer)
    this.cache.keep(buffer)
    return buffer
  }

  private async heal(
    group: number,
    buffer: BlockBuffer,
    mirror: Plex,
    isUsed: (pvbn: number) => boolean,
  ): Promise<void> {
    let other: Uint8Array | undefined
    for (let slot = 0; slot < this.layout.groupSize(group); slot++) {
      if (isEntryWhole(this.env.crc32, buffer.content, slot) || !isUsed(group * GROUP_BLOCKS + slot)) continue
      try {
        other ??= await mirror.readChecksums(group)
      } catch {
        return
      }
      if (!isEntryWhole(this.env.crc32, other, slot)) continue
      buffer.content.set(
        other.subarray(slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES),
        slot * CONTEXT_BYTES,
      )
    }
  }

  private async readMirror(
    identity: Identity,
    pvbn: number,
    reason: string,
  ): Promise<Uint8Array | undefined> {
    this.damaged += 1
    this.env.metrics.add('tandem_blocks_damaged_total', 1, { plex: String(this.own.label.plex) })
    const mirror = this.mirror
    let content: Uint8Array | undefined
    if (mirror !== undefined) content = await this.readFrom(mirror, identity, pvbn)
    this.env.log(content === undefined ? 'error' : 'warn', 'damaged block', {
      pvbn,
      volume: identity.volume,
      number: identity.number,
      kind: identity.kind,
      reason,
      repairable: content !== undefined,
    })
    return content
  }

  private async readFrom(mirror: Plex, identity: Identity, pvbn: number): Promise<Uint8Array | undefined> {
    const content = new Uint8Array(BLOCK_BYTES)
    const slot = pvbn % GROUP_BLOCKS
    try {
      const [checksums] = await Promise.all([
        mirror.readChecksums(Math.floor(pvbn / GROUP_BLOCKS)),
        mirror.readData(pvbn, content),
      ])
      if (!isGood(this.env.crc32, checksums, slot, identity, pvbn, content)) return undefined
      if (this.repairs) {
        const context = checksums.slice(slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES)
        this.queue.push({ identity, pvbn, content: content.slice(), context, found: this.writesBegun })
        this.startRepairs()
      }
      return content
    } catch (error) {
      this.env.log('warn', 'other plex cannot be read', { pvbn, error })
      return undefined
    }
  }

  private startRepairs(): void {
    if (this.held || this.repairing !== undefined || this.queue.length === 0) return
    this.repairing = this.runRepairs().finally(() => {
      this.repairing = undefined
      this.startRepairs()
    })
  }

  private async runRepairs(): Promise<void> {
    while (!this.held) {
      const repair = this.queue.shift()
      if (repair === undefined) return
      if (this.writesBegun - repair.found > 1) continue
      try {
        await this.repair(repair)
      } catch (error) {
        this.env.log('warn', 'repair failed', { pvbn: repair.pvbn, error })
      }
    }
  }

  private async repair(repair: Repair): Promise<void> {
    const slot = repair.pvbn % GROUP_BLOCKS
    const buffer = await this.checksums(Math.floor(repair.pvbn / GROUP_BLOCKS))
    const entry = buffer.content.subarray(slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES)
    const data = this.layout.locate(repair.pvbn)
    const sums = this.layout.locateChecksums(Math.floor(repair.pvbn / GROUP_BLOCKS))
    entry.set(repair.context)
    await this.own.write(data.device, data.block, [repair.content])
    await this.own.write(sums.device, sums.block, [buffer.content])
    await this.own.devices[data.device]!.flush()
    this.repaired += 1
    this.env.metrics.add('tandem_blocks_repaired_total', 1, { plex: String(this.own.label.plex) })
    this.env.log('info', 'block repaired from the other plex', { pvbn: repair.pvbn })
  }
}
