/**
 * A file's buffer tree: file block number (fbn) → block, over a copy-on-write `BlockStore`.
 *
 * The root is 128 bytes inside a 256-byte inode image (or a metafile's inode in the aggregate's root): a level and
 * `inInode` pointers. At level 0 these point at the file's blocks; at level n each covers `fanout^n` of them
 * through indirect blocks. A tree grows a level when a block beyond its reach is put; it never moves a leaf for that.
 *
 * Invariants
 * - A block that is not fresh is never changed: `put`, `overwrite`, `punch` and `truncate` copy the path first and free the old one.
 *   So the bytes that hold the root must be changeable when one of these is called (a fresh inode block, or memory).
 * - `prepare*` touches all that the call of the same arguments needs: after it, the change neither misses nor fails,
 *   and allocates at most as many blocks as `prepare*` said.
 * - No indirect block is empty of pointers once a change is complete, so an empty tree owns no block.
 * - The count of blocks in the root is that of all leaves and indirect blocks.
 *
 * It knows nothing of file sizes, inodes or locks, and it never reads a leaf that is overwritten or freed.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { assert } from '../std/assert.ts'
import { ABSENT, HOLE, Miss, sound } from './block-store.ts'
import type { BlockKind, BlockStore, PointerFormat, Resolved } from './block-store.ts'
import { getU48, putU48 } from './bytes.ts'

const { floor, min, max } = Math

/** Bytes of a tree's root: level, format, count of blocks, and 120 bytes of pointers (20 single or 10 dual ones). */
export const TREE_ROOT_BYTES = 128
const AT_LEVEL = 0
const AT_POINTER_BYTES = 1
const AT_BLOCKS = 2
const AT_POINTERS = 8
/** Deeper than any file needs (10·341^5 blocks); a root that says more is damaged. */
const LEVEL_MAX = 5
export const TRUNCATE_LIMIT_MIN = 16

export interface TreeRootFields {
  readonly level: number
  /** Leaves and indirect blocks of the tree. */
  readonly blocks: number
  /** Block numbers and hints of the pointers, `inInode` of them. */
  readonly pointers: readonly { readonly bn: number; readonly hint: number }[]
}

/** Makes `bytes[at …]` the root of an empty tree. */
export function initTreeRoot(format: PointerFormat, bytes: Uint8Array, at = 0): void {
  bytes.fill(0, at, at + TREE_ROOT_BYTES)
  bytes[at + AT_POINTER_BYTES] = format.bytes
}

/** The root of an empty tree, in bytes of its own. */
export function newTreeRoot(format: PointerFormat): Uint8Array {
  const bytes = new Uint8Array(TREE_ROOT_BYTES)
  initTreeRoot(format, bytes)
  return bytes
}

export function decodeTreeRoot(format: PointerFormat, bytes: Uint8Array, at = 0): TreeRootFields {
  const pointers = []
  for (let i = 0; i < format.inInode; i++) {
    const p = at + AT_POINTERS + i * format.bytes
    pointers.push({ bn: getU48(bytes, p), hint: format.bytes === 12 ? getU48(bytes, p + 6) : 0 })
  }
  return { level: bytes[at + AT_LEVEL]!, blocks: getU48(bytes, at + AT_BLOCKS), pointers }
}

export function encodeTreeRoot(
  format: PointerFormat,
  fields: TreeRootFields,
  bytes: Uint8Array,
  at = 0,
): void {
  initTreeRoot(format, bytes, at)
  bytes[at + AT_LEVEL] = fields.level
  putU48(bytes, at + AT_BLOCKS, fields.blocks)
  fields.pointers.forEach((pointer, i) => {
    const p = at + AT_POINTERS + i * format.bytes
    putU48(bytes, p, pointer.bn)
    if (format.bytes === 12) putU48(bytes, p + 6, pointer.hint)
  })
}

/** True if `bytes[at …]` can be a root of this format: what a checker asks before it walks. */
export function isTreeRoot(format: PointerFormat, bytes: Uint8Array, at = 0): boolean {
  return bytes[at + AT_POINTER_BYTES] === format.bytes && bytes[at + AT_LEVEL]! <= LEVEL_MAX
}

/** Leaves and indirect blocks below the root at `bytes[at …]`. */
export function treeBlocks(bytes: Uint8Array, at = 0): number {
  return getU48(bytes, at + AT_BLOCKS)
}

/** One allocated block of a tree. Level 0 is a leaf; a higher one is an indirect block whose first leaf is `fbn`. */
export interface TreeEntry {
  readonly level: number
  readonly fbn: number
  readonly bn: number
  readonly hint: number
  readonly kind: BlockKind
  /** Of one that is absent: by how much the count in the root grows when it is built. 0 of any other. */
  readonly gain: number
}

/** Runs `read` until it no longer misses. */
export async function loaded<T>(read: () => T): Promise<T> {
  for (;;) {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof Miss)) throw error
      await error.load()
    }
  }
}

const powers = new Map<number, readonly number[]>()
function spansOf(fanout: number): readonly number[] {
  let spans = powers.get(fanout)
  if (spans === undefined) {
    spans = Array.from({ length: LEVEL_MAX + 1 }, (_, level) => fanout ** level)
    powers.set(fanout, spans)
  }
  return spans
}

export type TreeVisitor = (entry: TreeEntry) => boolean | void | Promise<boolean | void>

/** What a bounded truncate has left to do. */
interface Slice {
  left: number
  /** Copies of indirect blocks that it makes or would make. */
  copies: number
  readonly apply: boolean
}

export class Tree {
  readonly store: BlockStore
  readonly leafKind: BlockKind
  private readonly bytes: Uint8Array
  private readonly at: number
  private readonly pointers: number
  private readonly pointerBytes: number
  private readonly fanout: number
  private readonly inInode: number
  private readonly spans: readonly number[]

  /** `bytes[at …]` is the root (TREE_ROOT_BYTES); it is read and changed in place. */
  constructor(store: BlockStore, bytes: Uint8Array, leafKind: BlockKind, at = 0) {
    this.store = store
    this.leafKind = leafKind
    this.bytes = bytes
    this.at = at
    this.pointers = at + AT_POINTERS
    this.pointerBytes = store.format.bytes
    this.fanout = store.format.fanout
    this.inInode = store.format.inInode
    this.spans = spansOf(store.format.fanout)
    sound(isTreeRoot(store.format, bytes, at))
  }

  get level(): number {
    return this.bytes[this.at + AT_LEVEL]!
  }

  /** Leaves and indirect blocks. */
  get blocks(): number {
    return getU48(this.bytes, this.at + AT_BLOCKS)
  }

  /** Content of the leaf at `fbn`; undefined for a hole. Not to be changed. Throws Miss, DamagedBlock. */
  get(fbn: number): Uint8Array | undefined {
    let level = this.level
    if (fbn >= this.inInode * this.spans[level]!) return undefined
    let table = this.bytes
    let p = this.pointers + floor(fbn / this.spans[level]!) * this.pointerBytes
    for (;;) {
      const bn = getU48(table, p)
      if (bn === HOLE) return undefined
      const content = this.fetch(bn, this.hintAt(table, p), level === 0 ? this.leafKind : 'indirect')
      if (level === 0) return content
      table = content
      level -= 1
      p = (floor(fbn / this.spans[level]!) % this.fanout) * this.pointerBytes
    }
  }

  /** The pointer to the leaf at `fbn`, which is not read; undefined for a hole. Throws Miss, DamagedBlock. */
  lookup(fbn: number): { bn: number; hint: number } | undefined {
    let level = this.level
    if (fbn >= this.inInode * this.spans[level]!) return undefined
    let table = this.bytes
    let p = this.pointers + floor(fbn / this.spans[level]!) * this.pointerBytes
    for (;;) {
      const bn = getU48(table, p)
      if (bn === HOLE) return undefined
      const hint = this.hintAt(table, p)
      if (level === 0) return { bn, hint }
      table = this.fetch(bn, hint, 'indirect')
      level -= 1
      p = (floor(fbn / this.spans[level]!) % this.fanout) * this.pointerBytes
    }
  }

  /**
   * Loads what `put(fbn)` needs, or with `overwrite` what `put(fbn, content)`, `overwrite(fbn)` and `punch(fbn)` need: these do not
   * read the leaf. Returns how many blocks the change allocates at most. Throws Miss, DamagedBlock.
   */
  prepare(fbn: number, overwrite = false): number {
    let level = this.level
    let needed = 0
    let reach = level
    while (fbn >= this.inInode * this.spans[reach]!) reach += 1
    if (reach > level) {
      // Growth moves the present pointers into one new block per level; the new leaf's path then shares the topmost at most.
      return reach - level + reach + 1
    }
    let table = this.bytes
    let p = this.pointers + floor(fbn / this.spans[level]!) * this.pointerBytes
    for (;;) {
      const bn = getU48(table, p)
      if (bn === HOLE) return needed + level + 1
      if (!this.store.isFresh(bn)) needed += 1
      if (level === 0) {
        if (!overwrite) this.fetch(bn, this.hintAt(table, p), this.leafKind)
        return needed
      }
      table = this.fetch(bn, this.hintAt(table, p), 'indirect')
      level -= 1
      p = (floor(fbn / this.spans[level]!) % this.fanout) * this.pointerBytes
    }
  }

  /**
   * Loads what changes of all blocks from `first` to `last` need: all but the first and the last are overwritten, these two only where
   * `keepFirst` or `keepLast` does not ask for their content. Returns how many blocks that allocates at most; closer than the sum of `prepare`s.
   */
  prepareRun(first: number, last: number, keepFirst: boolean, keepLast: boolean): number {
    let sum = 0
    for (let fbn = first; fbn <= last; fbn++) {
      const keep = (fbn === first && keepFirst) || (fbn === last && keepLast)
      sum += this.prepare(fbn, !keep)
    }
    if (first === last) return sum
    let bound = last - first + 1
    let level = this.level
    while (last >= this.inInode * this.spans[level]!) {
      level += 1
      bound += 1
    }
    for (; level > 0; level--) {
      bound += floor(last / this.spans[level]!) - floor(first / this.spans[level]!) + 1
    }
    return min(sum, bound)
  }

  /**
   * The fresh block at `fbn`, which may be changed until the next freeze: a new one for a hole, else with the present content, else with
   * `content` (4096 bytes, taken over). `prepare(fbn)` came first, in the same operation.
   */
  put(fbn: number, content?: Uint8Array): Uint8Array {
    return this.change(fbn, content === undefined, content, false)
  }

  /** Like `put`, but what the block holds is of no account: the caller writes all of it. The old leaf is not read. */
  overwrite(fbn: number): Uint8Array {
    return this.change(fbn, false, undefined, true)
  }

  /** Makes `fbn` a hole. `prepare(fbn, true)` came first. Returns false if it was one. */
  punch(fbn: number): boolean {
    if (this.lookup(fbn) === undefined) return false
    this.punchBelow(this.bytes, this.pointers + this.rootSlot(fbn) * this.pointerBytes, this.level, fbn)
    if (this.blocks === 0) this.clear()
    return true
  }

  /**
   * Loads what `truncate(blocks, limit)` needs; returns how many blocks that allocates at most. Throws Miss, DamagedBlock.
   */
  prepareTruncate(blocks: number, limit = Infinity): number {
    const slice = { left: limit, copies: 0, apply: false }
    this.truncateRoot(blocks, slice)
    return slice.copies
  }

  /**
   * Frees the leaves from fbn `blocks` on, from the end backwards, at most `limit` blocks in this call (indirect ones counted; at
   * least TRUNCATE_LIMIT_MIN, so that each call gets on). Returns true when none is left. `prepareTruncate` came first, with the same arguments.
   */
  truncate(blocks: number, limit = Infinity): boolean {
    assert(limit >= TRUNCATE_LIMIT_MIN, 'truncate in slices too thin to get on')
    const slice = { left: limit, copies: 0, apply: true }
    const done = this.truncateRoot(blocks, slice)
    // Of what was dropped unbuilt nobody knows how many blocks it had.
    if (done && (blocks === 0 || this.blocks === 0)) this.clear()
    return done
  }

  /**
   * Visits every allocated block, parents before children, in order of fbn; loads indirect blocks itself. What is below a block of which `visit`
   * says false is left out: in a damaged tree a block may be below itself.
   */
  async walk(visit: TreeVisitor): Promise<void> {
    await this.walkTable(this.bytes, this.pointers, this.inInode, this.level, 0, visit)
  }

  /** The first allocated leaf at or behind `fbn`; undefined if there is none. Throws Miss, DamagedBlock. */
  next(fbn: number): number | undefined {
    if (fbn >= this.inInode * this.spans[this.level]!) return undefined
    return this.nextIn(this.bytes, this.pointers, this.inInode, this.level, 0, fbn)
  }

  /**
   * The first block at or behind leaf `fbn` that is absent: undefined if there is none. Leaves before it are told to `leaf`, at most `limit` of them; where that
   * ends the search, `level` is undefined and `fbn` the next leaf. Throws Miss, DamagedBlock.
   */
  nextAbsent(
    fbn: number,
    limit: number,
    leaf: (bn: number) => void,
  ): { readonly fbn: number; readonly level: number | undefined } | undefined {
    if (fbn >= this.inInode * this.spans[this.level]!) return undefined
    const search = { from: fbn, left: limit, leaf }
    return this.nextAbsentIn(this.bytes, this.pointers, this.inInode, this.level, 0, search)
  }

  /** Builds the absent block of `level` that has leaf `fbn`. Its path was loaded (`nextAbsent`), and there is room for `level` of the root + 1 blocks. */
  build(fbn: number, level: number): void {
    if (level === 0) this.put(fbn)
    else {
      const p = this.pointers + this.rootSlot(fbn) * this.pointerBytes
      this.buildBelow(this.bytes, p, this.level, level, fbn)
      if (this.blocks === 0) this.clear()
    }
  }

  private nextAbsentIn(
    table: Uint8Array,
    at: number,
    slots: number,
    level: number,
    first: number,
    search: { readonly from: number; left: number; readonly leaf: (bn: number) => void },
  ): { readonly fbn: number; readonly level: number | undefined } | undefined {
    const span = this.spans[level]!
    for (let slot = max(0, floor((search.from - first) / span)); slot < slots; slot++) {
      const p = at + slot * this.pointerBytes
      const bn = getU48(table, p)
      const fbn = first + slot * span
      if (bn === HOLE) continue
      if (bn === ABSENT) {
        this.absent(this.hintAt(table, p), level === 0 ? this.leafKind : 'indirect')
        return { fbn, level }
      }
      if (level > 0) {
        const child = this.fetch(bn, this.hintAt(table, p), 'indirect')
        const found = this.nextAbsentIn(child, 0, this.fanout, level - 1, fbn, search)
        if (found !== undefined) return found
        continue
      }
      if (search.left === 0) return { fbn, level: undefined }
      search.left -= 1
      search.leaf(bn)
    }
    return undefined
  }

  private buildBelow(table: Uint8Array, p: number, level: number, target: number, fbn: number): void {
    const child = this.freshIndirect(table, p)
    if (level > target) {
      const slot = floor(fbn / this.spans[level - 1]!) % this.fanout
      this.buildBelow(child, slot * this.pointerBytes, level - 1, target, fbn)
    }
    if (isEmpty(child, 0, BLOCK_BYTES)) this.release(table, p)
  }

  private rootSlot(fbn: number): number {
    return floor(fbn / this.spans[this.level]!)
  }

  private hintAt(table: Uint8Array, p: number): number {
    return this.pointerBytes === 12 ? getU48(table, p + 6) : 0
  }

  private fetch(bn: number, hint: number, kind: BlockKind): Uint8Array {
    return bn === ABSENT ? this.absent(hint, kind).content : this.store.get(bn, hint, kind)
  }

  /** A block that is still to be built, as it will be. */
  private absent(code: number, kind: BlockKind): Resolved {
    const resolved = this.store.absent?.(code, kind)
    // Only in a volume under conversion, and this is none.
    sound(resolved !== undefined)
    return resolved
  }

  /** What is absent is no block of the volume, and costs nothing to let go. */
  private freeBlock(bn: number): void {
    if (bn !== ABSENT) this.store.free(bn)
  }

  private setPointer(table: Uint8Array, p: number, bn: number): void {
    putU48(table, p, bn)
    if (this.pointerBytes === 12) putU48(table, p + 6, 0)
  }

  private count(delta: number): void {
    putU48(this.bytes, this.at + AT_BLOCKS, this.blocks + delta)
  }

  private allocate(
    table: Uint8Array,
    p: number,
    kind: BlockKind,
    content?: Uint8Array,
    unfilled = false,
  ): Uint8Array {
    const block = this.store.allocate(kind, content, unfilled)
    this.setPointer(table, p, block.bn)
    return block.content
  }

  private change(fbn: number, keep: boolean, content: Uint8Array | undefined, unfilled: boolean): Uint8Array {
    while (fbn >= this.inInode * this.spans[this.level]!) this.grow()
    let level = this.level
    let table = this.bytes
    let p = this.pointers + this.rootSlot(fbn) * this.pointerBytes
    while (level > 0) {
      table = this.freshIndirect(table, p)
      level -= 1
      p = (floor(fbn / this.spans[level]!) % this.fanout) * this.pointerBytes
    }
    const bn = getU48(table, p)
    if (bn === HOLE) {
      this.count(1)
      return this.allocate(table, p, this.leafKind, content, unfilled)
    }
    if (this.store.isFresh(bn)) {
      const block = this.fetch(bn, 0, this.leafKind)
      if (content !== undefined) block.set(content)
      return block
    }
    const old = keep ? this.fetch(bn, this.hintAt(table, p), this.leafKind) : undefined
    const block = this.allocate(table, p, this.leafKind, content, unfilled || keep)
    if (old !== undefined) block.set(old)
    this.freeBlock(bn)
    return block
  }

  /** The changeable indirect block at a pointer: as it is if fresh, else a copy, or a new one for a hole. */
  private freshIndirect(table: Uint8Array, p: number): Uint8Array {
    const bn = getU48(table, p)
    if (bn === HOLE) {
      this.count(1)
      return this.allocate(table, p, 'indirect')
    }
    if (this.store.isFresh(bn)) return this.fetch(bn, 0, 'indirect')
    const hint = this.hintAt(table, p)
    if (bn === ABSENT) this.count(this.absent(hint, 'indirect').gain)
    const block = this.allocate(table, p, 'indirect', this.fetch(bn, hint, 'indirect').slice())
    this.freeBlock(bn)
    return block
  }

  private grow(): void {
    const from = this.pointers
    const bytes = this.inInode * this.pointerBytes
    assert(this.level < LEVEL_MAX, 'file block number out of reach')
    this.bytes[this.at + AT_LEVEL] = this.level + 1
    if (isEmpty(this.bytes, from, from + bytes)) return
    const block = this.store.allocate('indirect')
    block.content.set(this.bytes.subarray(from, from + bytes))
    this.bytes.fill(0, from, from + bytes)
    this.setPointer(this.bytes, from, block.bn)
    this.count(1)
  }

  private punchBelow(table: Uint8Array, p: number, level: number, fbn: number): void {
    if (level === 0) {
      this.release(table, p)
      return
    }
    const child = this.freshIndirect(table, p)
    const slot = floor(fbn / this.spans[level - 1]!) % this.fanout
    this.punchBelow(child, slot * this.pointerBytes, level - 1, fbn)
    if (isEmpty(child, 0, BLOCK_BYTES)) this.release(table, p)
  }

  private release(table: Uint8Array, p: number): void {
    this.freeBlock(getU48(table, p))
    this.setPointer(table, p, HOLE)
    this.count(-1)
  }

  /** Nothing is in it any more, but for pointers to parts of old blocks in which nothing is. */
  private clear(): void {
    initTreeRoot(this.store.format, this.bytes, this.at)
  }

  private truncateRoot(blocks: number, slice: Slice): boolean {
    return this.truncateTable(this.bytes, this.pointers, this.inInode, this.level, 0, blocks, slice)
  }

  /**
   * Frees the leaves ≥ `blocks` below the pointers of one table, from the last backwards, while the slice lasts. `first` is the table's
   * first fbn. The table is changed only with `slice.apply`, and then it is fresh. Returns true if none is left.
   */
  private truncateTable(
    table: Uint8Array,
    from: number,
    slots: number,
    level: number,
    first: number,
    blocks: number,
    slice: Slice,
  ): boolean {
    const span = this.spans[level]!
    const low = max(0, floor((blocks - first) / span))
    for (let slot = slots - 1; slot >= low; slot--) {
      const p = from + slot * this.pointerBytes
      const bn = getU48(table, p)
      if (bn === HOLE) continue
      if (slice.left <= 0) return false
      if (level > 0 && !this.truncateChild(table, p, level, first + slot * span, blocks, slice)) return false
      else if (level === 0) {
        slice.left -= 1
        if (slice.apply) this.release(table, p)
      }
    }
    return true
  }

  private truncateChild(
    table: Uint8Array,
    p: number,
    level: number,
    first: number,
    blocks: number,
    slice: Slice,
  ): boolean {
    const bn = getU48(table, p)
    if (bn === ABSENT && blocks === 0) {
      // Nothing below it was ever this volume's to free.
      if (slice.apply) this.setPointer(table, p, HOLE)
      return true
    }
    const before = slice.left
    let child = this.fetch(bn, this.hintAt(table, p), 'indirect')
    // The block itself goes when nothing is left in it; it is counted, so that a slice is bounded by what it frees.
    slice.left -= 1
    if (!this.hasLeafFrom(child, level - 1, first, blocks)) {
      slice.left = before
      return true
    }
    if (!this.store.isFresh(bn)) slice.copies += 1
    if (slice.apply) child = this.freshIndirect(table, p)
    const done = this.truncateTable(child, 0, this.fanout, level - 1, first, blocks, slice)
    if (done && slice.apply && isEmpty(child, 0, BLOCK_BYTES)) this.release(table, p)
    return done
  }

  /** True if a pointer of an indirect block leads to fbn `blocks` or behind: else the block stays as it is. */
  private hasLeafFrom(table: Uint8Array, level: number, first: number, blocks: number): boolean {
    const low = max(0, floor((blocks - first) / this.spans[level]!))
    return !isEmpty(table, min(low, this.fanout) * this.pointerBytes, this.fanout * this.pointerBytes)
  }

  private nextIn(
    table: Uint8Array,
    from: number,
    slots: number,
    level: number,
    first: number,
    fbn: number,
  ): number | undefined {
    const span = this.spans[level]!
    for (let slot = max(0, floor((fbn - first) / span)); slot < slots; slot++) {
      const p = from + slot * this.pointerBytes
      const bn = getU48(table, p)
      if (bn === HOLE) continue
      const start = first + slot * span
      if (level === 0) return start
      const child = this.fetch(bn, this.hintAt(table, p), 'indirect')
      const found = this.nextIn(child, 0, this.fanout, level - 1, start, fbn)
      if (found !== undefined) return found
    }
    return undefined
  }

  private async walkTable(
    table: Uint8Array,
    from: number,
    slots: number,
    level: number,
    first: number,
    visit: TreeVisitor,
  ): Promise<void> {
    for (let slot = 0; slot < slots; slot++) {
      const p = from + slot * this.pointerBytes
      const bn = getU48(table, p)
      if (bn === HOLE) continue
      const hint = this.hintAt(table, p)
      const fbn = first + slot * this.spans[level]!
      const kind = level === 0 ? this.leafKind : 'indirect'
      const gain = bn === ABSENT ? (await loaded(() => this.absent(hint, kind))).gain : 0
      const pending = visit({ level, fbn, bn, hint, kind, gain })
      const wanted = typeof pending === 'object' ? await pending : pending
      if (level === 0 || wanted === false) continue
      const child = await loaded(() => this.fetch(bn, hint, 'indirect'))
      await this.walkTable(child, 0, this.fanout, level - 1, fbn, visit)
    }
  }
}

function isEmpty(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false
  return true
}
