/**
 * Which VVBNs of a volume are taken: a sparse bitmap in memory, loaded from the volume's active map. A number that was freed stays
 * taken until the roots of the image without it are durable.
 *
 * Numbers are handed out in ascending order, round and round through a space some times as large as the quota, so numbers that
 * are written together stand together in the container map.
 */
import { assert, AssertionError } from '../std/assert.ts'
import { orInto } from './number-set.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

const WORDS = MAP_LEAF_BITS / 32
/** Number 0 is a hole: in memory it counts as taken, so that it is never handed out. */
const HOLE_BIT = 1
const SPACE_MIN = 2 ** 17
const SPACE_FACTOR = 4

interface Chunk {
  readonly words: Uint32Array
  taken: number
}

export class NumberMap {
  private readonly chunks = new Map<number, Chunk>()
  private limit: number
  /** No lower one is ever handed out. */
  private readonly floor: number
  /** The next number to try. */
  cursor: number

  constructor(quotaBlocks: number, cursor: number, floor = 1) {
    this.limit = 0
    this.floor = floor
    this.cursor = Math.max(floor, cursor)
    this.resize(quotaBlocks)
  }

  resize(quotaBlocks: number): void {
    const limit = this.floor - 1 + Math.max(SPACE_MIN, SPACE_FACTOR * quotaBlocks)
    this.limit = Math.max(this.limit, Math.ceil(limit / MAP_LEAF_BITS) * MAP_LEAF_BITS)
  }

  load(index: number, leaf: Uint8Array): void {
    const words = new Uint32Array(WORDS)
    new Uint8Array(words.buffer).set(leaf)
    if (index === 0) words[0]! |= HOLE_BIT
    let taken = 0
    for (const word of words) for (let w = word; w !== 0; w &= w - 1) taken += 1
    this.chunks.set(index, { words, taken })
    this.limit = Math.max(this.limit, (index + 1) * MAP_LEAF_BITS)
  }

  /** Adds the numbers of a leaf to those that are taken. */
  merge(index: number, leaf: Uint8Array): void {
    const union = leaf.slice()
    const chunk = this.chunks.get(index)
    if (chunk !== undefined) orInto(union, new Uint8Array(chunk.words.buffer))
    this.load(index, union)
  }

  isTaken(number: number): boolean {
    const chunk = this.chunks.get(Math.floor(number / MAP_LEAF_BITS))
    const bit = number % MAP_LEAF_BITS
    return chunk !== undefined && (chunk.words[bit >> 5]! & (1 << (bit & 31))) !== 0
  }

  take(): number {
    for (let visited = 0; visited <= this.limit / MAP_LEAF_BITS; visited++) {
      const index = Math.floor(this.cursor / MAP_LEAF_BITS)
      const chunk = this.chunk(index)
      if (chunk.taken < MAP_LEAF_BITS) {
        for (let at = this.cursor % MAP_LEAF_BITS; at < MAP_LEAF_BITS;) {
          const open = ~chunk.words[at >> 5]! & (0xffffffff << (at & 31))
          if (open === 0) {
            at = (at | 31) + 1
            continue
          }
          const bit = 31 - Math.clz32(open & -open)
          chunk.words[at >> 5]! |= 1 << bit
          chunk.taken += 1
          const number = index * MAP_LEAF_BITS + (at & ~31) + bit
          this.advance(number + 1)
          return number
        }
      }
      this.advance((index + 1) * MAP_LEAF_BITS)
    }
    throw new AssertionError('no virtual block number left although the quota is kept')
  }

  /** Takes a number that somebody else chose; false if it is taken. */
  claim(number: number): boolean {
    if (this.isTaken(number)) return false
    const index = Math.floor(number / MAP_LEAF_BITS)
    const bit = number % MAP_LEAF_BITS
    const chunk = this.chunk(index)
    chunk.words[bit >> 5]! |= 1 << (bit & 31)
    chunk.taken += 1
    this.limit = Math.max(this.limit, (index + 1) * MAP_LEAF_BITS)
    return true
  }

  release(number: number): void {
    const index = Math.floor(number / MAP_LEAF_BITS)
    const chunk = this.chunks.get(index)
    const bit = number % MAP_LEAF_BITS
    assert(chunk !== undefined && this.isTaken(number), 'released a number that is free')
    chunk.words[bit >> 5]! &= ~(1 << (bit & 31))
    chunk.taken -= 1
    const first = index === 0 ? 1 : 0
    if (chunk.taken === first && index !== Math.floor(this.cursor / MAP_LEAF_BITS)) this.chunks.delete(index)
  }

  private chunk(index: number): Chunk {
    let chunk = this.chunks.get(index)
    if (chunk === undefined) {
      chunk = { words: new Uint32Array(WORDS), taken: 0 }
      if (index === 0) {
        chunk.words[0]! |= HOLE_BIT
        chunk.taken = 1
      }
      this.chunks.set(index, chunk)
    }
    return chunk
  }

  private advance(to: number): void {
    this.cursor = to >= this.limit ? this.floor : to
  }
}
