/**
 * Blocks in memory, for all aggregates of a filer together, bounded in bytes.
 *
 * A buffer lives in the map of its home (a volume, the metafiles, the checksum blocks of an aggregate), where `get` finds it with one lookup. Clean
 * ones also stand in one queue here and are dropped from its front, those that were used since they came there
 * getting a second turn (CLOCK as a queue). Dirty buffers (fresh, frozen) stand in no queue and cannot be dropped; they count, so that much dirty
 * memory leaves less for clean blocks, but never less than an eighth of the capacity.
 *
 * It does no I/O and knows no devices: dropping a clean buffer is forgetting it.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { BlockMemory } from './block-memory.ts'

export const CLEAN = 0
/** Not on disk yet: it stands in no queue. Fresh while its epoch is its home's, frozen from then on. */
export const DIRTY = 1
/** Freed: nobody finds it any more. */
export const GONE = 2
export type BufferState = typeof CLEAN | typeof DIRTY | typeof GONE

/** Epoch of a buffer that was freed while it was fresh: it belongs to no image. */
export const NEVER = -1

export class BlockBuffer {
  readonly home: Map<number, BlockBuffer>
  /** Index of the volume; 0 for what belongs to the aggregate. */
  readonly volume: number
  readonly bn: number
  readonly kind: BlockKind
  content: Uint8Array
  state: BufferState
  /** Somebody else may still read the content: a transport that was given up. */
  lent = false
  /** In which epoch of its home it was allocated; counts for dirty ones only. */
  epoch = 0
  /** The place on disk; 0 until one is assigned. */
  pvbn: number
  /** Of what was built from an old block: see absent.ts. */
  gain = 0
  /** Used since it came to the back of the queue. */
  used = true
  previous: BlockBuffer | undefined = undefined
  next: BlockBuffer | undefined = undefined

  constructor(
    home: Map<number, BlockBuffer>,
    volume: number,
    bn: number,
    kind: BlockKind,
    content: Uint8Array,
    state: BufferState,
    pvbn: number,
  ) {
    this.home = home
    this.volume = volume
    this.bn = bn
    this.kind = kind
    this.content = content
    this.state = state
    this.pvbn = pvbn
  }
}

export class BufferCache {
  private capacityBlocks: number
  private cleanBlocks = 0
  private dirtyBlocks = 0
  private first: BlockBuffer | undefined
  private last: BlockBuffer | undefined
  readonly memory = new BlockMemory()
  /** Since the start; misses are counted by who loads. */
  evictions = 0

  constructor(capacityBytes: number) {
    this.capacityBlocks = Math.max(64, Math.floor(capacityBytes / BLOCK_BYTES))
  }

  get capacityBytes(): number {
    return this.capacityBlocks * BLOCK_BYTES
  }

  resize(capacityBytes: number): void {
    this.capacityBlocks = Math.max(64, Math.floor(capacityBytes / BLOCK_BYTES))
    this.evict()
  }

  get cleanBytes(): number {
    return this.cleanBlocks * BLOCK_BYTES
  }

  get dirtyBytes(): number {
    return this.dirtyBlocks * BLOCK_BYTES
  }

  /** Blocks that became dirty (or, negative, no longer are). */
  dirty(delta: number): void {
    this.dirtyBlocks += delta
    if (delta > 0) this.evict()
  }

  /** Takes in a clean buffer, which its home already holds. */
  keep(buffer: BlockBuffer): void {
    buffer.state = CLEAN
    this.cleanBlocks += 1
    this.push(buffer)
    this.evict()
  }

  /** A clean buffer leaves the queue: its home forgets it, or it is about to be changed. */
  remove(buffer: BlockBuffer): void {
    this.cleanBlocks -= 1
    this.unlink(buffer)
  }

  private evict(): void {
    const room = Math.max(this.capacityBlocks - this.dirtyBlocks, this.capacityBlocks >> 3)
    while (this.cleanBlocks > room) {
      const buffer = this.first!
      this.unlink(buffer)
      if (buffer.used) {
        buffer.used = false
        this.push(buffer)
        continue
      }
      this.cleanBlocks -= 1
      this.evictions += 1
      buffer.state = GONE
      if (buffer.home.get(buffer.bn) === buffer) buffer.home.delete(buffer.bn)
      this.memory.give(buffer)
    }
  }

  private push(buffer: BlockBuffer): void {
    buffer.previous = this.last
    buffer.next = undefined
    if (this.last === undefined) this.first = buffer
    else this.last.next = buffer
    this.last = buffer
  }

  private unlink(buffer: BlockBuffer): void {
    if (buffer.previous === undefined) this.first = buffer.next
    else buffer.previous.next = buffer.next
    if (buffer.next === undefined) this.last = buffer.previous
    else buffer.next.previous = buffer.previous
    buffer.previous = undefined
    buffer.next = undefined
  }
}
