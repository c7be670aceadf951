/**
 * A directory: names with the inode numbers of what they name, in one sparse file of three kinds of blocks.
 *
 * - *Entry block* e (fbn 2e): records that never move, so the position of an entry (e, granule) is its cookie for ever.
 * - *Map block* (the entry blocks with e mod 4096 = 1): one byte for each of 4096 entry blocks, the longest free record in it. It is there as soon as
 *   the first of them is, one before its own turn.
 * - *Bucket* b (fbn 2b+1): linear hashing from a name's hash to positions; a bucket splits as names are added, one per insertion at most,
 *   so no operation ever rebuilds the index.
 *
 * A *small* directory is one entry block, searched in order; the first name that does not fit makes the map and two buckets.
 * So a name is found in two blocks, room for one in two more, at 10 names or at 10^7.
 *
 * Invariants: every record of an entry block is in use or free, and no two free ones are neighbours; a map byte tells exactly the longest free
 * record (in granules, at most 255); each name in a large directory is in the one bucket that its hash names.
 * `.` and `..` are not stored: the inode knows its parent.
 *
 * Lookups may throw Miss. `insert` and `remove` need their `prepare…` in the same operation, and a directory of a fresh inode.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { assert } from '../std/assert.ts'
import { getBytes, getU16, getU32, getU48, putBytes, putU16, putU32, putU48 } from './bytes.ts'
import type { Inode } from './inode.ts'
import type { Tree } from './tree.ts'
import { sound } from './block-store.ts'
import type { BlockStore } from './block-store.ts'

const { imul, clz32, floor, ceil, min, max } = Math

export const GRANULE_BYTES = 16
export const GRANULES = BLOCK_BYTES / GRANULE_BYTES
const RECORD_HEADER_BYTES = 14
export const MAP_SPAN = 4096
const MAP_AT = 1
export const FIRST_BUCKETS = 2
/** A bucket is split when there are more names than this for each; those not yet split in a round hold twice as many. */
const BUCKET_LOAD = 180
const BUCKET_HEADER_BYTES = 8
const SLOT_BYTES = 8
export const BUCKET_SLOTS = (BLOCK_BYTES - BUCKET_HEADER_BYTES) / SLOT_BYTES
/** A position is 32 bits in the index: 2^24 entry blocks. */
const ENTRY_BLOCKS_MAX = 2 ** 24

/** Cookies: 1 is behind `.`, 2 behind `..`, position + 3 behind the entry there. */
export const COOKIE_OF_SELF = 1
export const COOKIE_OF_PARENT = 2
export const COOKIE_OF_FIRST = 3

export interface Entry {
  readonly name: string
  readonly ino: number
  readonly position: number
  /** As in the inode, inode.ts TYPE_CODES. */
  readonly typeCode: number
}

/** Hash of a name: FNV-1a from a secret seed, then mixed so that the low bits depend on all. */
export function hashName(name: string, seed: number): number {
  let hash = seed ^ 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = imul(hash ^ name.charCodeAt(i), 0x01000193)
  hash = imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

export function granulesOf(nameBytes: number): number {
  return ceil((RECORD_HEADER_BYTES + nameBytes) / GRANULE_BYTES)
}

export function isMapBlock(e: number): boolean {
  return e % MAP_SPAN === MAP_AT
}
/** Made with the entry block in front of it, and not counted in `entryBlocks` before its turn. */
export function isEarlyMapBlock(e: number): boolean {
  return isMapBlock(e) && e > MAP_SPAN
}
export function mapBlockOf(e: number): number {
  return e - (e % MAP_SPAN) + MAP_AT
}
export const entryFbn = (e: number): number => 2 * e
export const bucketFbn = (b: number): number => 2 * b + 1

/** The bucket of a hash among `buckets`: its low bits, one fewer where that bucket is not yet split off. */
export function bucketOf(hash: number, buckets: number): number {
  const bits = 32 - clz32(buckets - 1)
  const mask = bits === 32 ? 0xffffffff : 2 ** bits - 1
  const bucket = (hash & mask) >>> 0
  return bucket < buckets ? bucket : (hash & (mask >>> 1)) >>> 0
}

/** The bucket whose names are divided when bucket number `buckets` is added. */
function splitSource(buckets: number): number {
  return buckets - 2 ** (31 - clz32(buckets))
}

// Records of an entry block: ino 6, granules 2, hash 4, name length 1, type 1, name.
export const recordIno = (block: Uint8Array, at: number): number => getU48(block, at)
export const recordGranules = (block: Uint8Array, at: number): number => getU16(block, at + 6)
export const recordHash = (block: Uint8Array, at: number): number => getU32(block, at + 8)
export function recordName(block: Uint8Array, at: number): string {
  return getBytes(block, at + RECORD_HEADER_BYTES, block[at + 12]!)
}
export const recordType = (block: Uint8Array, at: number): number => block[at + 13]!

/** Where the record behind the one at `at` is. Throws DamagedBlock if records do not fill the block. */
function behind(block: Uint8Array, at: number): number {
  const next = at + recordGranules(block, at) * GRANULE_BYTES
  sound(next > at && next <= BLOCK_BYTES)
  return next
}

function nameEquals(block: Uint8Array, at: number, name: string): boolean {
  if (block[at + 12] !== name.length) return false
  for (let i = 0; i < name.length; i++) {
    if (block[at + RECORD_HEADER_BYTES + i] !== name.charCodeAt(i)) return false
  }
  return true
}

/** Granules of the longest free record, at most 255: what the map says. */
export function longestFree(block: Uint8Array): number {
  let longest = 0
  for (let at = 0; at < BLOCK_BYTES;) {
    const granules = recordGranules(block, at)
    if (recordIno(block, at) === 0 && granules > longest) longest = granules
    at = behind(block, at)
  }
  return min(longest, 255)
}

export class Directory {
  private readonly inode: Inode
  private readonly tree: Tree
  private readonly seed: number

  constructor(store: BlockStore, inode: Inode, seed: number) {
    assert(inode.type === 'DIR', 'directory of an inode of another type')
    this.inode = inode
    this.tree = inode.tree(store)
    this.seed = seed
  }

  /** The entry of a name; undefined if there is none. */
  find(name: string): Entry | undefined {
    if (this.inode.entryBlocks === 0) return undefined
    const hash = hashName(name, this.seed)
    if (this.inode.buckets === 0) {
      const block = this.block(entryFbn(0))
      for (let at = 0; at < BLOCK_BYTES; at = behind(block, at)) {
        if (recordIno(block, at) !== 0 && recordHash(block, at) === hash && nameEquals(block, at, name)) {
          return this.entryAt(block, at, at / GRANULE_BYTES)
        }
      }
      return undefined
    }
    const bucket = this.block(bucketFbn(bucketOf(hash, this.inode.buckets)))
    const slots = getU32(bucket, 0)
    sound(slots <= BUCKET_SLOTS)
    const end = BUCKET_HEADER_BYTES + slots * SLOT_BYTES
    for (let slot = BUCKET_HEADER_BYTES; slot < end; slot += SLOT_BYTES) {
      if (getU32(bucket, slot) !== hash) continue
      const position = getU32(bucket, slot + 4)
      const block = this.block(entryFbn(floor(position / GRANULES)))
      const at = (position % GRANULES) * GRANULE_BYTES
      if (nameEquals(block, at, name)) return this.entryAt(block, at, position)
    }
    return undefined
  }

  /** Where a new name goes; undefined if the directory cannot take it (its bucket or its positions are used up). Throws Miss. */
  findRoom(name: string): number | undefined {
    const granules = granulesOf(name.length)
    const { buckets, entryBlocks, insertHint } = this.inode
    if (entryBlocks === 0) return 0
    if (buckets === 0) {
      const room = roomIn(this.block(entryFbn(0)), granules)
      return room ?? 2 * GRANULES
    }
    const bucket = this.block(bucketFbn(bucketOf(hashName(name, this.seed), buckets)))
    if (getU32(bucket, 0) >= BUCKET_SLOTS) return undefined
    const e = this.searchMap(insertHint, entryBlocks, granules) ?? this.searchMap(0, insertHint, granules)
    if (e !== undefined) {
      const room = roomIn(this.block(entryFbn(e)), granules)
      // The map promises room.
      sound(room !== undefined)
      return e * GRANULES + room
    }
    const added = isMapBlock(entryBlocks) ? entryBlocks + 1 : entryBlocks
    return added < ENTRY_BLOCKS_MAX ? added * GRANULES : undefined
  }

  /** Loads what `insert` at this position needs; returns how many blocks it allocates at most. */
  prepareInsert(name: string, position: number): number {
    const e = floor(position / GRANULES)
    const { buckets, entries } = this.inode
    assert(e <= this.inode.entryBlocks + 1, 'a name far behind the end of its directory')
    // What is to be added must not be there yet, but for a map block.
    for (let added = this.inode.entryBlocks; added <= e; added++)
      if (!isEarlyMapBlock(added)) this.requireHole(entryFbn(added))
    let room = this.tree.prepare(entryFbn(e))
    if (e === 0 && buckets === 0) return room
    room += this.tree.prepare(entryFbn(mapBlockOf(e)))
    if (buckets === 0) {
      room += this.tree.prepare(entryFbn(0))
      for (let b = 0; b < FIRST_BUCKETS; b++) {
        this.requireHole(bucketFbn(b))
        room += this.tree.prepare(bucketFbn(b))
      }
      return room
    }
    room += this.tree.prepare(bucketFbn(bucketOf(hashName(name, this.seed), buckets)))
    if (entries + 1 > buckets * BUCKET_LOAD) {
      this.requireHole(bucketFbn(buckets))
      room += this.tree.prepare(bucketFbn(splitSource(buckets))) + this.tree.prepare(bucketFbn(buckets))
    }
    return room
  }

  /** Modify phase: adds a name at the position that `findRoom` gave. */
  insert(name: string, position: number, ino: number, typeCode: number): void {
    const e = floor(position / GRANULES)
    const hash = hashName(name, this.seed)
    if (this.inode.buckets === 0 && e > 0) this.enlarge()
    while (this.inode.entryBlocks <= e) this.appendEntryBlock()
    const block = this.tree.put(entryFbn(e))
    fillRecord(block, (position % GRANULES) * GRANULE_BYTES, name, hash, ino, typeCode)
    this.inode.entries += 1
    this.inode.insertHint = e
    if (this.inode.buckets === 0) return
    this.setMap(e, longestFree(block))
    addSlot(this.tree.put(bucketFbn(bucketOf(hash, this.inode.buckets))), hash, position)
    if (this.inode.entries > this.inode.buckets * BUCKET_LOAD) this.split()
  }

  prepareRemove(name: string, position: number): number {
    const e = floor(position / GRANULES)
    let room = this.tree.prepare(entryFbn(e))
    if (this.inode.buckets === 0) return room
    room += this.tree.prepare(entryFbn(mapBlockOf(e)))
    return room + this.tree.prepare(bucketFbn(bucketOf(hashName(name, this.seed), this.inode.buckets)))
  }

  /** Modify phase: removes the entry at a position, which has this name. */
  remove(name: string, position: number): void {
    const e = floor(position / GRANULES)
    const at = (position % GRANULES) * GRANULE_BYTES
    const block = this.tree.put(entryFbn(e))
    assert(recordIno(block, at) !== 0 && nameEquals(block, at, name), 'removed entry is not where it was')
    const hash = recordHash(block, at)
    freeRecord(block, at)
    this.inode.entries -= 1
    if (this.inode.buckets === 0) return
    this.setMap(e, longestFree(block))
    removeSlot(this.tree.put(bucketFbn(bucketOf(hash, this.inode.buckets))), hash, position)
  }

  /** What `repoint` of the entry at a position needs. */
  prepareRepoint(position: number): number {
    return this.tree.prepare(entryFbn(floor(position / GRANULES)))
  }

  /** Modify phase: the entry names another object from now on. */
  repoint(position: number, ino: number, typeCode: number): void {
    const block = this.tree.put(entryFbn(floor(position / GRANULES)))
    const at = (position % GRANULES) * GRANULE_BYTES
    putU48(block, at, ino)
    block[at + 13] = typeCode
  }

  /** At most `limit` entries at or behind `cookie` (COOKIE_OF_PARENT for the first), in order of position. Throws Miss. */
  list(cookie: number, limit: number): { entries: Entry[]; eof: boolean } {
    const from = max(0, cookie + 1 - COOKIE_OF_FIRST)
    const entries: Entry[] = []
    for (let e = floor(from / GRANULES); e < this.inode.entryBlocks; e++) {
      if (isMapBlock(e) && this.inode.buckets > 0) continue
      const block = this.block(entryFbn(e))
      for (let at = 0; at < BLOCK_BYTES; at = behind(block, at)) {
        const position = e * GRANULES + at / GRANULE_BYTES
        if (recordIno(block, at) === 0 || position < from) continue
        if (entries.length === limit) return { entries, eof: false }
        entries.push(this.entryAt(block, at, position))
      }
    }
    return { entries, eof: true }
  }

  private requireHole(fbn: number): void {
    sound(this.tree.lookup(fbn) === undefined)
  }

  private block(fbn: number): Uint8Array {
    const block = this.tree.get(fbn)
    sound(block !== undefined)
    return block
  }

  private entryAt(block: Uint8Array, at: number, position: number): Entry {
    return {
      name: recordName(block, at),
      ino: recordIno(block, at),
      position,
      typeCode: recordType(block, at),
    }
  }

  /** The first entry block in [from, to) with a free record of so many granules. */
  private searchMap(from: number, to: number, granules: number): number | undefined {
    for (let e = from; e < to;) {
      const map = this.block(entryFbn(mapBlockOf(e)))
      const end = min(to, e - (e % MAP_SPAN) + MAP_SPAN)
      for (; e < end; e++) if (map[e % MAP_SPAN]! >= granules) return e
    }
    return undefined
  }

  private setMap(e: number, longest: number): void {
    const map = this.tree.put(entryFbn(mapBlockOf(e)))
    map[e % MAP_SPAN] = longest
  }

  private appendEntryBlock(): void {
    const e = this.inode.entryBlocks
    const block = this.tree.put(entryFbn(e))
    if (e === 0 || !isMapBlock(e)) {
      putU16(block, 6, GRANULES)
      if (this.inode.buckets > 0) this.setMap(e, 255)
    }
    this.inode.entryBlocks = e + 1
    this.inode.size = (e + 1) * BLOCK_BYTES
  }

  /** From small to large: the map and the first buckets. */
  private enlarge(): void {
    const first = this.tree.put(entryFbn(0))
    this.inode.buckets = FIRST_BUCKETS
    this.appendEntryBlock()
    this.setMap(0, longestFree(first))
    for (let b = 0; b < FIRST_BUCKETS; b++) this.tree.put(bucketFbn(b))
    for (let at = 0; at < BLOCK_BYTES; at = behind(first, at)) {
      if (recordIno(first, at) === 0) continue
      const hash = recordHash(first, at)
      addSlot(this.tree.put(bucketFbn(bucketOf(hash, FIRST_BUCKETS))), hash, at / GRANULE_BYTES)
    }
  }

  private split(): void {
    const { buckets } = this.inode
    const source = this.tree.put(bucketFbn(splitSource(buckets)))
    const added = this.tree.put(bucketFbn(buckets))
    const slots = source.slice(BUCKET_HEADER_BYTES, BUCKET_HEADER_BYTES + getU32(source, 0) * SLOT_BYTES)
    source.fill(0)
    for (let slot = 0; slot < slots.length; slot += SLOT_BYTES) {
      const hash = getU32(slots, slot)
      addSlot(bucketOf(hash, buckets + 1) === buckets ? added : source, hash, getU32(slots, slot + 4))
    }
    this.inode.buckets = buckets + 1
  }
}

/** Granule of the first free record of at least so many granules. */
function roomIn(block: Uint8Array, granules: number): number | undefined {
  for (let at = 0; at < BLOCK_BYTES; at = behind(block, at)) {
    if (recordIno(block, at) === 0 && recordGranules(block, at) >= granules) return at / GRANULE_BYTES
  }
  return undefined
}

/** Turns the front of a free record into an entry; the rest stays free. */
function fillRecord(
  block: Uint8Array,
  at: number,
  name: string,
  hash: number,
  ino: number,
  typeCode: number,
): void {
  const granules = granulesOf(name.length)
  const free = recordGranules(block, at)
  assert(recordIno(block, at) === 0 && free >= granules, 'no free record where a name is to go')
  if (free > granules) putU16(block, at + granules * GRANULE_BYTES + 6, free - granules)
  putU48(block, at, ino)
  putU16(block, at + 6, granules)
  putU32(block, at + 8, hash)
  block[at + 12] = name.length
  block[at + 13] = typeCode
  putBytes(block, at + RECORD_HEADER_BYTES, name)
}

/** Frees a record and joins it with free neighbours. What a free record holds besides its length is zero. */
function freeRecord(block: Uint8Array, at: number): void {
  let from = at
  for (let before = 0; before < at; before = behind(block, before)) {
    if (behind(block, before) === at && recordIno(block, before) === 0) from = before
  }
  let to = at + recordGranules(block, at) * GRANULE_BYTES
  if (to < BLOCK_BYTES && recordIno(block, to) === 0) to += recordGranules(block, to) * GRANULE_BYTES
  block.fill(0, from, to)
  putU16(block, from + 6, (to - from) / GRANULE_BYTES)
}

function addSlot(bucket: Uint8Array, hash: number, position: number): void {
  const count = getU32(bucket, 0)
  assert(count < BUCKET_SLOTS, 'bucket of a directory is full')
  putU32(bucket, 0, count + 1)
  putU32(bucket, BUCKET_HEADER_BYTES + count * SLOT_BYTES, hash)
  putU32(bucket, BUCKET_HEADER_BYTES + count * SLOT_BYTES + 4, position)
}

function removeSlot(bucket: Uint8Array, hash: number, position: number): void {
  const last = BUCKET_HEADER_BYTES + (getU32(bucket, 0) - 1) * SLOT_BYTES
  for (let slot = BUCKET_HEADER_BYTES; slot <= last; slot += SLOT_BYTES) {
    if (getU32(bucket, slot) !== hash || getU32(bucket, slot + 4) !== position) continue
    bucket.copyWithin(slot, last, last + SLOT_BYTES)
    bucket.fill(0, last, last + SLOT_BYTES)
    putU32(bucket, 0, getU32(bucket, 0) - 1)
    return
  }
  assert(false, 'name is missing from the index of its directory')
}

/** Positions in a bucket with their hashes, for the checker. */
export function* bucketSlots(bucket: Uint8Array): Generator<{ hash: number; position: number }> {
  const count = min(getU32(bucket, 0), BUCKET_SLOTS)
  for (let i = 0; i < count; i++) {
    const slot = BUCKET_HEADER_BYTES + i * SLOT_BYTES
    yield { hash: getU32(bucket, slot), position: getU32(bucket, slot + 4) }
  }
}
