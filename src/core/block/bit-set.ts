/**
 * Sets of block numbers as bits, for checking: one as large as an aggregate, which threads may share, and one that is sparse.
 */

/** Numbers 0 … 8·bytes-1. Adding is atomic: the bytes may be shared memory. */
export class BitSet {
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  static bytesFor(end: number): number {
    return Math.ceil(end / 8)
  }

  has(number: number): boolean {
    return (this.bytes[Math.floor(number / 8)]! & (1 << (number % 8))) !== 0
  }

  /** False if it was in already. */
  add(number: number): boolean {
    const bit = 1 << (number % 8)
    return (Atomics.or(this.bytes, Math.floor(number / 8), bit) & bit) === 0
  }
}

const CHUNK_BITS = 32768

/** Any numbers; memory for the ranges that occur. */
export class SparseSet {
  private readonly chunks = new Map<number, Uint8Array>()
  size = 0

  /** False if it was in already. */
  add(number: number): boolean {
    const index = Math.floor(number / CHUNK_BITS)
    let chunk = this.chunks.get(index)
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK_BITS / 8)
      this.chunks.set(index, chunk)
    }
    const bit = number % CHUNK_BITS
    if ((chunk[bit >> 3]! & (1 << (bit & 7))) !== 0) return false
    chunk[bit >> 3]! |= 1 << (bit & 7)
    this.size += 1
    return true
  }

  has(number: number): boolean {
    const chunk = this.chunks.get(Math.floor(number / CHUNK_BITS))
    const bit = number % CHUNK_BITS
    return chunk !== undefined && (chunk[bit >> 3]! & (1 << (bit & 7))) !== 0
  }
}
