/**
 * A set of block numbers: bits, in chunks of what one leaf of an active map covers, for the ranges that occur.
 */
import { MAP_LEAF_BITS } from './space-map.ts'

const CHUNK_BYTES = MAP_LEAF_BITS / 8

export class NumberSet {
  private readonly chunks = new Map<number, Uint8Array>()

  /** How many there are; it counts all of them. */
  get size(): number {
    let size = 0
    for (const chunk of this.chunks.values()) size += countWithout(chunk)
    return size
  }

  has(number: number): boolean {
    const chunk = this.chunks.get(Math.floor(number / MAP_LEAF_BITS))
    const bit = number % MAP_LEAF_BITS
    return chunk !== undefined && (chunk[bit >> 3]! & (1 << (bit & 7))) !== 0
  }

  /** False if it was in already. */
  add(number: number): boolean {
    const index = Math.floor(number / MAP_LEAF_BITS)
    let chunk = this.chunks.get(index)
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK_BYTES)
      this.chunks.set(index, chunk)
    }
    const bit = number % MAP_LEAF_BITS
    if ((chunk[bit >> 3]! & (1 << (bit & 7))) !== 0) return false
    chunk[bit >> 3]! |= 1 << (bit & 7)
    return true
  }

  /** Indexes of the chunks that there are. */
  indexes(): IterableIterator<number> {
    return this.chunks.keys()
  }

  /** The numbers of one chunk as a leaf of an active map has them; not to be changed. */
  chunk(index: number): Uint8Array | undefined {
    return this.chunks.get(index)
  }

  /** Adds the numbers of a leaf. */
  merge(index: number, leaf: Uint8Array): void {
    const chunk = this.chunks.get(index)
    if (chunk === undefined) this.chunks.set(index, leaf.slice())
    else orInto(chunk, leaf)
  }

  /** What the chunk holds is `bits`, and nothing else. */
  replace(index: number, bits: Uint8Array | undefined): void {
    if (bits === undefined) this.chunks.delete(index)
    else this.chunks.set(index, bits)
  }
}

export function orInto(target: Uint8Array, bits: Uint8Array): void {
  for (let i = 0; i < target.length; i++) target[i]! |= bits[i]!
}

const BITS_SET = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0
  for (let b = byte; b !== 0; b &= b - 1) count += 1
  return count
})

/** How many bits `bits` has that neither of the others has. */
export function countWithout(bits: Uint8Array, ...without: readonly (Uint8Array | undefined)[]): number {
  let count = 0
  for (let i = 0; i < bits.length; i++) {
    let byte = bits[i]!
    if (byte === 0) continue
    for (const other of without) if (other !== undefined) byte &= ~other[i]!
    count += BITS_SET[byte]!
  }
  return count
}
