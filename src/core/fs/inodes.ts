/**
 * The volume's root and its inode file: which inodes exist, which are free, which have surplus blocks.
 *
 * The root (FS_ROOT_BYTES) is kept in memory, changed by operations, and copied at a freeze; the aggregate stores it. It holds the trees of
 * the inode file and of the duplicate-request ring, the heads of two lists, and counters.
 *
 * - *Free inodes* are linked through `next`, the last freed one first; behind the list, inode numbers grow. So finding one
 *   costs nothing, however many there are, and is the same on every filer.
 * - *Shrinking inodes* are linked too: objects without a name, and files cut short, whose blocks are freed in bounded slices. An
 *   inode that finished early stays on the list until it comes to its head.
 *
 * Reading a view may throw Miss; `change` needs `prepare` of the same inode in the same operation. It knows no permissions and no directories.
 */
import type { Time } from '../env/env.ts'
import { assert } from '../std/assert.ts'
import type { FileType } from '../vfs/vfs.ts'
import { sound } from './block-store.ts'
import type { BlockStore } from './block-store.ts'
import { getU32, getU48, getU64, putU16, putU32, putU48, putU64 } from './bytes.ts'
import { Inode, INODES_PER_BLOCK, LISTED, SHRINKING } from './inode.ts'
import { initTreeRoot, isTreeRoot, Tree } from './tree.ts'

const { floor } = Math

export const FS_ROOT_BYTES = 512
export const ROOT_INO = 2
export const ROOT_GENERATION = 1
/** Numbers below are never given to an object. */
const FIRST_INO = ROOT_INO
/** Blocks that one operation, or one step of reclaiming, frees at most. */
export const SLICE_BLOCKS = 1024

const MAGIC = 0x46444e54
const VERSION = 1
const AT_MAGIC = 0
const AT_VERSION = 4
const AT_FSID = 8
const AT_HASH_SEED = 16
const AT_INO_END = 24
const AT_FREE_HEAD = 32
const AT_SHRINK_HEAD = 40
const AT_FILES = 48
const AT_RING_NEXT = 56
const AT_GENERATION_MAX = 64
const AT_GENERATION_FLOOR = 68
const AT_RING_FLOOR = 72
const AT_CTIME_FLOOR = 80
export const AT_INODE_TREE = 128
export const AT_RING_TREE = 256

export interface NewVolume {
  /** File-system id, 48 bits, unlike any other volume's. */
  readonly fsid: number
  /** Chance, 32 bits: so that nobody outside can choose names that collide in a directory's index. */
  readonly hashSeed: number
  readonly time: Time
  /** Of the root directory. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

export class Inodes {
  readonly store: BlockStore
  /** Changed in place by operations. */
  readonly root: Uint8Array
  readonly fsid: number
  readonly hashSeed: number
  readonly tree: Tree

  constructor(store: BlockStore, root: Uint8Array) {
    const problem = rootProblem(store, root)
    sound(problem === undefined)
    this.store = store
    this.root = root.slice()
    this.fsid = getU48(root, AT_FSID)
    this.hashSeed = getU32(root, AT_HASH_SEED)
    this.tree = new Tree(store, this.root, 'inode', AT_INODE_TREE)
  }

  /** Number behind the highest inode ever used. */
  get inoEnd(): number {
    return getU64(this.root, AT_INO_END)
  }
  get freeHead(): number {
    return getU64(this.root, AT_FREE_HEAD)
  }
  get shrinkHead(): number {
    return getU64(this.root, AT_SHRINK_HEAD)
  }
  /** Inodes in use. */
  get files(): number {
    return getU64(this.root, AT_FILES)
  }
  /** Entries ever written to the duplicate-request ring. */
  get ringNext(): number {
    return getU64(this.root, AT_RING_NEXT)
  }
  set ringNext(value: number) {
    putU64(this.root, AT_RING_NEXT, value)
  }

  /** Kept replies before this one, counted like `ringNext`, are not to be found: the volume was restored since. */
  get ringFloor(): number {
    return getU64(this.root, AT_RING_FLOOR)
  }
  /** `root` with no kept replies. */
  static withoutReplies(root: Uint8Array): Uint8Array {
    const bytes = root.slice()
    putU64(bytes, AT_RING_FLOOR, getU64(root, AT_RING_NEXT))
    return bytes
  }
  /** Seconds of the last restore: no change shows an earlier time. 0 if there was none. */
  get ctimeFloor(): number {
    return getU64(this.root, AT_CTIME_FLOOR)
  }

  /** True for a number that may have an inode, in use or free. */
  has(ino: number): boolean {
    return ino >= FIRST_INO && ino < this.inoEnd
  }

  /** For reading only. Throws Miss, DamagedBlock. */
  get(ino: number): Inode {
    sound(this.has(ino))
    const block = this.tree.get(floor(ino / INODES_PER_BLOCK))
    sound(block !== undefined)
    return new Inode(ino, block, this.ctimeFloor)
  }

  /** Loads what `change(ino)` needs; returns how many blocks it allocates at most. */
  prepare(ino: number): number {
    return this.tree.prepare(floor(ino / INODES_PER_BLOCK))
  }

  /** For changing, until the next freeze. */
  change(ino: number): Inode {
    return new Inode(ino, this.tree.put(floor(ino / INODES_PER_BLOCK)), this.ctimeFloor)
  }

  /** The inode that the next new object gets. Throws Miss. */
  nextFree(): { ino: number; generation: number } {
    const head = this.freeHead
    // What lives in the image of a restored snapshot is older than handles that clients may hold: no generation is given twice.
    const least = Math.max(1, getU32(this.root, AT_GENERATION_FLOOR))
    if (head === 0) return { ino: this.inoEnd, generation: least }
    const free = this.get(head)
    sound(free.type === undefined)
    return { ino: head, generation: Math.max(least, (free.generation + 1) >>> 0 || 1) }
  }

  /** Modify phase: takes the inode that `nextFree` named. */
  take(ino: number, generation: number, type: FileType, rdevMajor: number, rdevMinor: number): Inode {
    const head = this.freeHead
    assert(ino === (head === 0 ? this.inoEnd : head), 'another inode than the next free one')
    const inode = this.change(ino)
    if (head === 0) putU64(this.root, AT_INO_END, ino + 1)
    else putU64(this.root, AT_FREE_HEAD, inode.next)
    inode.init(this.store, type, generation, rdevMajor, rdevMinor)
    putU64(this.root, AT_FILES, this.files + 1)
    if (generation > getU32(this.root, AT_GENERATION_MAX)) putU32(this.root, AT_GENERATION_MAX, generation)
    return inode
  }

  /** What `shrink` of the inode to `blocks` needs. */
  prepareShrink(inode: Inode, blocks: number): number {
    return inode.blocks === 0 ? 0 : inode.tree(this.store).prepareTruncate(blocks, SLICE_BLOCKS)
  }

  /** Modify phase: frees leaves from fbn `blocks` on: one slice at once, the rest later. */
  shrink(inode: Inode, blocks: number): void {
    if (inode.blocks === 0 || inode.tree(this.store).truncate(blocks, SLICE_BLOCKS)) {
      inode.flags &= ~SHRINKING
      if (inode.type !== 'DIR') inode.trim = 0
      return
    }
    inode.flags |= SHRINKING
    inode.trim = blocks
    if ((inode.flags & LISTED) !== 0) return
    inode.flags |= LISTED
    inode.next = this.shrinkHead
    putU64(this.root, AT_SHRINK_HEAD, inode.ino)
  }

  /** Modify phase: the object has no name any more. `prepareShrink(inode, 0)` came first. */
  discard(inode: Inode): void {
    assert(inode.nlink === 0, 'discard of an inode that has a name')
    if (inode.type === 'DIR') inode.entries = 0
    this.shrink(inode, 0)
    if ((inode.flags & LISTED) === 0) this.release(inode)
  }

  /** What the next step of `reclaim(ino)` needs. */
  prepareReclaim(ino: number): number {
    const inode = this.get(ino)
    const room = this.prepare(ino)
    return (inode.flags & SHRINKING) !== 0 ? room + this.prepareShrink(inode, inode.trim) : room
  }

  /** Modify phase: frees one slice of surplus blocks of an inode on the list. */
  reclaim(ino: number): void {
    const inode = this.change(ino)
    assert((inode.flags & LISTED) !== 0, 'reclaim of an inode without surplus')
    if ((inode.flags & SHRINKING) !== 0) this.shrink(inode, inode.trim)
    if ((inode.flags & SHRINKING) !== 0 || this.shrinkHead !== ino) return
    putU64(this.root, AT_SHRINK_HEAD, inode.next)
    inode.flags &= ~LISTED
    inode.next = 0
    if (inode.nlink === 0) this.release(inode)
  }

  /** Modify phase, for repair only: a free inode that is on no list joins the list of those. */
  relinkFree(ino: number): void {
    const inode = this.change(ino)
    assert(inode.type === undefined, 'an inode in use is not put on the free list')
    inode.next = this.freeHead
    putU64(this.root, AT_FREE_HEAD, ino)
  }

  /** Modify phase, for repair only: an object without a name that is on no list joins the list of those to be freed. */
  relinkOrphan(ino: number): void {
    const inode = this.change(ino)
    assert(inode.nlink === 0 && (inode.flags & LISTED) === 0, 'an object that has a name is not freed')
    if (inode.type === 'DIR') inode.entries = 0
    inode.flags |= LISTED | SHRINKING
    inode.trim = 0
    inode.next = this.shrinkHead
    putU64(this.root, AT_SHRINK_HEAD, ino)
  }

  private release(inode: Inode): void {
    inode.clear(this.freeHead)
    putU64(this.root, AT_FREE_HEAD, inode.ino)
    putU64(this.root, AT_FILES, this.files - 1)
  }
}

/**
 * The root of a volume that goes on, at `seconds` of the clock, from a snapshot's root in place of `current`: handles of objects made since then never lead to another
 * object, replies kept before are not found, and times of change go on growing.
 */
export function restoredRoot(snapshot: Uint8Array, current: Uint8Array, seconds: number): Uint8Array {
  const root = snapshot.slice()
  const highest = Math.max(getU32(current, AT_GENERATION_MAX), getU32(snapshot, AT_GENERATION_MAX))
  // Images of an earlier version do not know their highest generation; it is far below the seconds of any clock.
  const least = Math.max(highest + 1, seconds, getU32(current, AT_GENERATION_FLOOR))
  putU48(root, AT_FSID, getU48(current, AT_FSID))
  putU32(root, AT_GENERATION_MAX, highest)
  putU32(root, AT_GENERATION_FLOOR, Math.min(least, 0xffffffff))
  putU64(root, AT_RING_FLOOR, getU64(snapshot, AT_RING_NEXT))
  putU64(root, AT_CTIME_FLOOR, Math.max(seconds + 1, getU64(current, AT_CTIME_FLOOR)))
  return root
}

/** Why these bytes are no root of a volume in this store; undefined if they are one. */
export function rootProblem(store: BlockStore, root: Uint8Array): string | undefined {
  if (root.length < FS_ROOT_BYTES) return 'volume root is too short'
  if (getU32(root, AT_MAGIC) !== MAGIC) return 'no volume root'
  if (root[AT_VERSION] !== VERSION) return `volume root of version ${root[AT_VERSION]}`
  if (!isTreeRoot(store.format, root, AT_INODE_TREE)) return 'inode file with an impossible root'
  if (!isTreeRoot(store.format, root, AT_RING_TREE)) return 'duplicate-request ring with an impossible root'
  return undefined
}

/**
 * Makes an empty volume in the store, with a root directory, and returns its root. Allocates one block, which the caller has made room
 * for. The same parameters give the same volume.
 */
export function makeVolume(store: BlockStore, spec: NewVolume): Uint8Array {
  const inodes = new Inodes(store, emptyRoot(store, spec))
  const directory = inodes.take(ROOT_INO, ROOT_GENERATION, 'DIR', 0, 0)
  directory.mode = spec.mode
  directory.uid = spec.uid
  directory.gid = spec.gid
  directory.nlink = 2
  directory.parent = ROOT_INO
  directory.atime = spec.time
  directory.mtime = spec.time
  directory.ctime = spec.time
  return inodes.root
}

/** The root of a volume without inodes. */
export function emptyRoot(store: BlockStore, spec: NewVolume): Uint8Array {
  const root = new Uint8Array(FS_ROOT_BYTES)
  putU32(root, AT_MAGIC, MAGIC)
  putU16(root, AT_VERSION, VERSION)
  putU48(root, AT_FSID, spec.fsid)
  putU32(root, AT_HASH_SEED, spec.hashSeed)
  putU64(root, AT_INO_END, FIRST_INO)
  initTreeRoot(store.format, root, AT_INODE_TREE)
  initTreeRoot(store.format, root, AT_RING_TREE)
  return root
}
