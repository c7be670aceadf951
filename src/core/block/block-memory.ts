/**
 * Memory of file data that nobody refers to any more, kept to be used again: what is written over and over would else leave 4 KiB of
 * garbage with each block, and finding that costs more than the writing.
 *
 * Only blocks of kind 'data': operations look at these within one turn and copy what they need, so a block that is clean or fresh is
 * referred to by its buffer alone. Content of other kinds may be held over a pause by whoever walks a tree, and is left to the
 * collector. A buffer that has given its memory away holds none: a use after that is an error and not another block's bytes.
 *
 * Bounded: beyond KEPT_BLOCKS memory goes back to the host, so a cache that holds less keeps less.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { GROUP_BLOCKS } from './layout.ts'

/** 8 MiB. */
const KEPT_BLOCKS = 2048
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

export class BlockMemory {
  private readonly kept: Uint8Array[] = []
  private readonly runs: Uint8Array[] = []

  get keptBytes(): number {
    return this.kept.length * BLOCK_BYTES + this.runs.length * RUN_BYTES
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
    const content = kind === 'data' ? this.kept.pop() : undefined
    if (content === undefined) return new Uint8Array(BLOCK_BYTES)
    return unfilled ? content : content.fill(0)
  }

  /** The holder's block is gone, and nobody else reads its content. */
  give(holder: Holder): void {
    const { kind, content, lent } = holder
    if (kind !== 'data' || lent || this.kept.length >= KEPT_BLOCKS) return
    // A view of something larger would keep all of that.
    if (content.buffer.byteLength !== BLOCK_BYTES) return
    holder.content = NOTHING
    this.kept.push(content)
  }
}
