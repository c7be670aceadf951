/**
 * Which PVBNs may be written: one bit per PVBN in memory, loaded from the active map when the aggregate is opened.
 *
 * A bit is set while the block is in use in the live root, in the image being written, or both; so a block freed by an image stays
 * busy until that image's roots are durable (`release` is called then, not before). The bits of an image on disk are another matter: the consistency
 * point keeps them in the active map.
 *
 * Allocation goes forward through the groups and takes all free blocks of one before the next, emptiest groups first: long runs make
 * long writes, and few checksum blocks have to be rewritten. How empty a group must be follows from how many groups are: a
 * consistency point starts with those that together have room for it (`plan`), and when they are used up, the next best follow.
 */
import { sound } from '../fs/block-store.ts'
import { assert } from '../std/assert.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'

/** Places `first` … `end`-1, from the beginning of a group on. */
export interface Range {
  readonly first: number
  readonly end: number
}

/** Bits in a leaf of an active map. */
export const MAP_LEAF_BITS = 32768
const WORDS_PER_GROUP = GROUP_BLOCKS / 32
/** A group with at least this many free blocks is as good as an empty one. */
const ROOMY = 64

function bitsSet(word: number): number {
  let w = word - ((word >>> 1) & 0x55555555)
  w = (w & 0x33333333) + ((w >>> 2) & 0x33333333)
  return Math.imul((w + (w >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

export class SpaceMap {
  private readonly layout: Layout
  private words = new Uint32Array(0)
  private bytes = new Uint8Array(0)
  private freeInGroup = new Uint8Array(0)
  private groups = 0
  /** May be in use, and is not handed out: blocks of a converted volume whose devices have not joined. */
  private away: Range | undefined
  private group = 0
  private at = 0
  private threshold = ROOMY
  /** How many groups have so many free blocks. */
  private readonly groupsWith = new Uint32Array(GROUP_BLOCKS + 1)
  /** Blocks that can be allocated now. */
  free = 0

  constructor(layout: Layout, away?: Range) {
    this.layout = layout
    this.away = away
    this.grow()
  }

  /** One more than the last PVBN that may ever be in use, as things are. */
  get end(): number {
    return Math.max(this.layout.end, this.away?.end ?? 0)
  }

  /** These may be marked as in use, and none is handed out until it is said again: undefined. */
  setAway(away: Range | undefined): void {
    this.away = away
    this.grow()
  }

  /** A block that was never handed out is in use from now on. */
  mark(pvbn: number): void {
    assert(this.isAway(pvbn) && !this.isBusy(pvbn), 'a mark on a block of its own')
    this.setBit(pvbn)
  }

  /** The layout has more devices: all their blocks are free from now on. */
  grow(): void {
    const { words } = this
    const leaves = Math.ceil(this.end / MAP_LEAF_BITS)
    this.groups = this.layout.groups
    this.words = new Uint32Array((leaves * MAP_LEAF_BITS) / 32)
    this.words.set(words)
    this.bytes = new Uint8Array(this.words.buffer)
    this.freeInGroup = new Uint8Array(this.groups)
    this.threshold = ROOMY
    this.reckon()
  }

  /** Takes over leaf `index` of the active map; `reckon` follows when all are in. Throws DamagedBlock for one behind the end. */
  load(index: number, leaf: Uint8Array): void {
    // Behind the end there is nothing, but there may have been.
    if ((index + 1) * (MAP_LEAF_BITS / 8) > this.bytes.length) return sound(leaf.every((byte) => byte === 0))
    this.bytes.set(leaf, index * (MAP_LEAF_BITS / 8))
  }

  /** Counts anew; numbers that belong to no block, and PVBN 0, are busy for ever. */
  reckon(): void {
    this.free = 0
    this.groupsWith.fill(0)
    for (let group = 0; group < this.groups; group++) {
      if (this.isAway(group * GROUP_BLOCKS)) {
        this.groupsWith[0]! += 1
        continue
      }
      const size = this.layout.groupSize(group)
      if (group === 0) this.setBit(0)
      for (let i = size; i < GROUP_BLOCKS; i++) this.setBit(group * GROUP_BLOCKS + i)
      let busy = 0
      for (let w = 0; w < WORDS_PER_GROUP; w++) busy += bitsSet(this.words[group * WORDS_PER_GROUP + w]!)
      this.freeInGroup[group] = GROUP_BLOCKS - busy
      this.groupsWith[GROUP_BLOCKS - busy]! += 1
      this.free += GROUP_BLOCKS - busy
    }
  }

  isBusy(pvbn: number): boolean {
    return pvbn < this.end && (this.words[Math.floor(pvbn / 32)]! & (1 << (pvbn % 32))) !== 0
  }

  /** Busy blocks of a group, numbers that belong to no block apart. */
  busyIn(group: number): number {
    const never = GROUP_BLOCKS - this.layout.groupSize(group) + (group === 0 ? 1 : 0)
    return GROUP_BLOCKS - this.freeInGroup[group]! - never
  }

  /** The next free PVBN, busy from now on. There is one: space was reserved. */
  take(): number {
    assert(this.free > 0, 'aggregate is full although space was reserved')
    for (;;) {
      while (this.at < GROUP_BLOCKS) {
        const index = this.group * WORDS_PER_GROUP + (this.at >> 5)
        const open = ~this.words[index]! & (0xffffffff << (this.at & 31))
        if (open === 0) {
          this.at = (this.at | 31) + 1
          continue
        }
        const bit = 31 - Math.clz32(open & -open)
        this.words[index]! |= 1 << bit
        this.at = (this.at & ~31) + bit + 1
        this.count(this.group, -1)
        return this.group * GROUP_BLOCKS + (this.at - 1)
      }
      this.nextGroup()
    }
  }

  /** A block may be written again. */
  release(pvbn: number): void {
    assert(this.isBusy(pvbn), 'released a block that is free')
    this.words[Math.floor(pvbn / 32)]! &= ~(1 << (pvbn % 32))
    if (!this.isAway(pvbn)) this.count(Math.floor(pvbn / GROUP_BLOCKS), 1)
  }

  /** Before a consistency point of about `blocks` blocks: which groups it begins with. */
  plan(blocks: number): void {
    let found = 0
    let least = GROUP_BLOCKS
    for (; least > 1; least--) {
      found += least * this.groupsWith[least]!
      if (found >= blocks) break
    }
    this.threshold = Math.min(ROOMY, least)
  }

  private isAway(pvbn: number): boolean {
    return this.away !== undefined && pvbn >= this.away.first && pvbn < this.away.end
  }

  private count(group: number, delta: number): void {
    const before = this.freeInGroup[group]!
    this.free += delta
    this.freeInGroup[group] = before + delta
    this.groupsWith[before]! -= 1
    this.groupsWith[before + delta]! += 1
  }

  private setBit(pvbn: number): void {
    this.words[Math.floor(pvbn / 32)]! |= 1 << (pvbn % 32)
  }

  private nextGroup(): void {
    this.at = 0
    for (;;) {
      for (let step = 1; step <= this.groups; step++) {
        const group = (this.group + step) % this.groups
        if (this.freeInGroup[group]! >= this.threshold) {
          this.group = group
          return
        }
      }
      assert(this.threshold > 1, 'free blocks are counted but not found')
      let best = this.threshold - 1
      while (best > 1 && this.groupsWith[best] === 0) best -= 1
      this.threshold = best
    }
  }
}
