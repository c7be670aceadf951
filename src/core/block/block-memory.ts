/**
 * Memory of file data, used again and again: blocks are parts of slabs. An allocation for each block would leave 4 KiB of garbage with each that
 * is written or evicted, and holes all over the process's memory that the host never gets back.
 *
 * Only blocks of kind 'data': operations look at these within one turn and copy what they need, so a block that is clean or fresh is
 * referred to by its buffer alone. Content of other kinds may be held over a pause by whoever walks a tree, and is left to the
 * collector. A buffer that has given its memory away holds none: a use after that is an error and not another block's bytes.
 *
 * The lowest free block of a slab is taken first: what is written in sequence lies in sequence, and can be copied and sent in runs (std/adjacent.ts).
 *
 * Whoever takes a block and does not put it into a buffer gives it back (`giveBack`). Bounded: beyond KEPT_BLOCKS a slab without a block in use is left to
 * the collector, so that a cache that has come to hold other things keeps little for data.
 */
import { assert } from '../std/assert.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { GROUP_BLOCKS } from './layout.ts'

/** 8 MiB. */
const KEPT_BLOCKS = 2048
/** Large enough for a mapping of its own, which goes back to the host as a whole; small enough to become empty when its blocks grow old. A bit each. */
const SLAB_BLOCKS = 32
const ALL_FREE = -1
/** Runs read at a time: 8 MiB of memory for them, which is all kept. */
export const RUNS_AT_ONCE = 16
/** The longest is a group. */
const RUN_BYTES = GROUP_BLOCKS * BLOCK_BYTES
const NOTHING = new Uint8Array(0)

interface Holder {
  readonly kind: BlockKind
  readonly lent: boolean
  content: Uint8Array
}

interface Slab {
  readonly blocks: readonly Uint8Array[]
  /** A bit for each block. */
  free: number
  /** Among those with free blocks. */
  at: number
  /** Somebody may still read what was a block of it: none is given out again. */
  retired: boolean
}

export class BlockMemory {
  private readonly slabs = new WeakMap<ArrayBufferLike, Slab>()
  /** With free blocks. */
  private readonly open: Slab[] = []
  private freeBlocks = 0
  private readonly runs: Uint8Array[] = []
  /** Of slabs, in the hands of buffers or of who has just taken them. */
  blocksInUse = 0

  /** Not in use, and kept. */
  get keptBytes(): number {
    return this.freeBlocks * BLOCK_BYTES + this.runs.length * RUN_BYTES
  }

  /** Memory for a read of so many blocks, whatever it held before; what is wanted of it is copied out, then it is given back. */
  takeRun(blocks: number): Uint8Array {
    return (this.runs.pop() ?? new Uint8Array(RUN_BYTES)).subarray(0, blocks * BLOCK_BYTES)
  }

  /** Nobody reads it, and no read into it is under way. */
  giveRun(run: Uint8Array): void {
    if (this.runs.length < RUNS_AT_ONCE) this.runs.push(new Uint8Array(run.buffer as ArrayBuffer))
  }

  /** Memory for a block: zero, or with `unfilled` whatever it held before. */
  take(kind: BlockKind, unfilled: boolean): Uint8Array {
    if (kind !== 'data') return new Uint8Array(BLOCK_BYTES)
    const slab = this.open.at(-1) ?? this.newSlab()
    const lowest = slab.free & -slab.free
    const content = slab.blocks[31 - Math.clz32(lowest)]!
    slab.free &= ~lowest
    if (slab.free === 0) this.open.pop()
    this.freeBlocks -= 1
    this.blocksInUse += 1
    return unfilled ? content : content.fill(0)
  }

  /** The holder's block is gone, and nobody else reads its content. */
  give(holder: Holder): void {
    const { kind, content, lent } = holder
    if (kind !== 'data') return
    if (lent) this.retire(content)
    else holder.content = NOTHING
    this.giveBack(content)
  }

  /** Nobody reads it. What does not come from here is left to the collector. */
  giveBack(content: Uint8Array): void {
    const slab = this.slabs.get(content.buffer)
    if (slab === undefined) return
    this.blocksInUse -= 1
    if (slab.retired) return
    const bit = 1 << (content.byteOffset / BLOCK_BYTES)
    assert((slab.free & bit) === 0, 'block given back twice')
    if (slab.free === 0) slab.at = this.open.push(slab) - 1
    slab.free |= bit
    this.freeBlocks += 1
    if (slab.free === ALL_FREE && this.freeBlocks > KEPT_BLOCKS) this.close(slab)
  }

  private newSlab(): Slab {
    const buffer = new ArrayBuffer(SLAB_BLOCKS * BLOCK_BYTES)
    const blocks = Array.from(
      { length: SLAB_BLOCKS },
      (_, i) => new Uint8Array(buffer, i * BLOCK_BYTES, BLOCK_BYTES),
    )
    const slab = { blocks, free: ALL_FREE, at: 0, retired: false }
    this.slabs.set(buffer, slab)
    slab.at = this.open.push(slab) - 1
    this.freeBlocks += SLAB_BLOCKS
    return slab
  }

  private retire(content: Uint8Array): void {
    const slab = this.slabs.get(content.buffer)
    if (slab === undefined || slab.retired) return
    slab.retired = true
    if (slab.free !== 0) this.close(slab)
  }

  /** Its free blocks are not given out any more. */
  private close(slab: Slab): void {
    const last = this.open.pop()!
    if (last !== slab) {
      this.open[slab.at] = last
      last.at = slab.at
    }
    for (; slab.free !== 0; slab.free &= slab.free - 1) this.freeBlocks -= 1
  }
}
