/**
 * Inodes: 256 bytes each, 16 to a block of the inode file. The first 128 bytes are attributes, the last 128 the root of
 * the object's buffer tree, or the path of a short symbolic link. docs/SPEC-files.md has the fields one by one.
 *
 * An `Inode` is a view into the block: reading one costs no copy, and what a setter writes is in the block at once. So setters
 * are for views of fresh blocks only (Inodes.change).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Time } from '../env/env.ts'
import type { Attributes, FileType, PreAttributes } from '../vfs/vfs.ts'
import { sound } from './block-store.ts'
import type { BlockKind, BlockStore } from './block-store.ts'
import { getBytes, getU16, getU32, getU64, putBytes, putU16, putU32, putU64 } from './bytes.ts'
import { initTreeRoot, isTreeRoot, Tree, treeBlocks } from './tree.ts'

export const INODE_BYTES = 256
export const INODES_PER_BLOCK = BLOCK_BYTES / INODE_BYTES
/** Bytes of a symbolic link's path that fit into the inode. */
export const INLINE_BYTES = 128
export const VERIFIER_BYTES = 8

/** The codes of RFC 1813, ftype3; 0 is a free inode. */
const TYPES: readonly (FileType | undefined)[] = [
  undefined,
  'REG',
  'DIR',
  'BLK',
  'CHR',
  'LNK',
  'SOCK',
  'FIFO',
]
export const TYPE_CODES: Readonly<Record<FileType, number>> = {
  REG: 1,
  DIR: 2,
  BLK: 3,
  CHR: 4,
  LNK: 5,
  SOCK: 6,
  FIFO: 7,
}
export function typeOfCode(code: number): FileType | undefined {
  return TYPES[code]
}

/** The inode is on the volume's list of inodes with surplus blocks (`next` links it). */
export const LISTED = 1
/** Leaves from fbn `trim` on are surplus and not yet freed; they lie behind the end of the file. */
export const SHRINKING = 2
/** A symbolic link whose path is where a tree's root would be. */
export const INLINE = 4
/** Made by an exclusive create; `verifier` is its. */
export const EXCLUSIVE = 8

const AT_TYPE = 0
const AT_FLAGS = 1
const AT_MODE = 2
const AT_GENERATION = 4
const AT_NLINK = 8
const AT_UID = 12
const AT_GID = 16
const AT_RDEV_MAJOR = 20
const AT_RDEV_MINOR = 24
const AT_ATIME_NS = 28
const AT_SIZE = 32
const AT_ATIME = 40
const AT_MTIME = 48
const AT_CTIME = 56
const AT_MTIME_NS = 64
const AT_CTIME_NS = 68
const AT_VERIFIER = 72
const AT_PARENT = 80
const AT_NEXT = 88
const AT_ENTRIES_OR_TRIM = 96
const AT_BUCKETS = 104
const AT_ENTRY_BLOCKS = 108
const AT_INSERT_HINT = 112
export const AT_TREE = 128

const LEAF_KINDS: Readonly<Record<FileType, BlockKind>> = {
  REG: 'data',
  DIR: 'directory',
  LNK: 'symlink',
  BLK: 'data',
  CHR: 'data',
  SOCK: 'data',
  FIFO: 'data',
}

export class Inode {
  readonly ino: number
  private readonly bytes: Uint8Array
  private readonly at: number
  private readonly ctimeFloor: number

  /** `ctimeFloor`: seconds; no time of change that is shown is earlier. */
  constructor(ino: number, block: Uint8Array, ctimeFloor = 0) {
    this.ino = ino
    this.bytes = block
    this.ctimeFloor = ctimeFloor
    this.at = (ino % INODES_PER_BLOCK) * INODE_BYTES
  }

  /** Undefined for a free inode. */
  get type(): FileType | undefined {
    return TYPES[this.bytes[this.at + AT_TYPE]!]
  }
  get flags(): number {
    return this.bytes[this.at + AT_FLAGS]!
  }
  set flags(value: number) {
    this.bytes[this.at + AT_FLAGS] = value
  }
  /** Permission bits with set-user-id, set-group-id and sticky (07777). */
  get mode(): number {
    return getU16(this.bytes, this.at + AT_MODE)
  }
  set mode(value: number) {
    putU16(this.bytes, this.at + AT_MODE, value)
  }
  get generation(): number {
    return getU32(this.bytes, this.at + AT_GENERATION)
  }
  get nlink(): number {
    return getU32(this.bytes, this.at + AT_NLINK)
  }
  set nlink(value: number) {
    putU32(this.bytes, this.at + AT_NLINK, value)
  }
  get uid(): number {
    return getU32(this.bytes, this.at + AT_UID)
  }
  set uid(value: number) {
    putU32(this.bytes, this.at + AT_UID, value)
  }
  get gid(): number {
    return getU32(this.bytes, this.at + AT_GID)
  }
  set gid(value: number) {
    putU32(this.bytes, this.at + AT_GID, value)
  }
  /** Bytes. */
  get size(): number {
    return getU64(this.bytes, this.at + AT_SIZE)
  }
  set size(value: number) {
    putU64(this.bytes, this.at + AT_SIZE, value)
  }
  get atime(): Time {
    return this.time(AT_ATIME, AT_ATIME_NS)
  }
  set atime(value: Time) {
    this.setTime(AT_ATIME, AT_ATIME_NS, value)
  }
  get mtime(): Time {
    return this.time(AT_MTIME, AT_MTIME_NS)
  }
  set mtime(value: Time) {
    this.setTime(AT_MTIME, AT_MTIME_NS, value)
  }
  get ctime(): Time {
    const time = this.time(AT_CTIME, AT_CTIME_NS)
    return time.seconds < this.ctimeFloor ? { seconds: this.ctimeFloor, nanoseconds: 0 } : time
  }
  set ctime(value: Time) {
    this.setTime(AT_CTIME, AT_CTIME_NS, value)
  }
  get verifier(): Uint8Array {
    return this.bytes.slice(this.at + AT_VERIFIER, this.at + AT_VERIFIER + VERIFIER_BYTES)
  }
  /** Of a directory: the inode number of the directory that it is in; the root's is its own. */
  get parent(): number {
    return getU64(this.bytes, this.at + AT_PARENT)
  }
  set parent(value: number) {
    putU64(this.bytes, this.at + AT_PARENT, value)
  }
  /** The next inode on the list of free or of shrinking inodes; 0 at its end. */
  get next(): number {
    return getU64(this.bytes, this.at + AT_NEXT)
  }
  set next(value: number) {
    putU64(this.bytes, this.at + AT_NEXT, value)
  }
  /** Of an inode that shrinks: leaves from this fbn on are surplus. */
  get trim(): number {
    return getU64(this.bytes, this.at + AT_ENTRIES_OR_TRIM)
  }
  set trim(value: number) {
    putU64(this.bytes, this.at + AT_ENTRIES_OR_TRIM, value)
  }
  /** Of a directory: names in it. */
  get entries(): number {
    return getU64(this.bytes, this.at + AT_ENTRIES_OR_TRIM)
  }
  set entries(value: number) {
    putU64(this.bytes, this.at + AT_ENTRIES_OR_TRIM, value)
  }
  /** Of a directory: buckets of its index; 0 while it has none. */
  get buckets(): number {
    return getU32(this.bytes, this.at + AT_BUCKETS)
  }
  set buckets(value: number) {
    putU32(this.bytes, this.at + AT_BUCKETS, value)
  }
  /** Of a directory: entry blocks, maps of free space counted. */
  get entryBlocks(): number {
    return getU32(this.bytes, this.at + AT_ENTRY_BLOCKS)
  }
  set entryBlocks(value: number) {
    putU32(this.bytes, this.at + AT_ENTRY_BLOCKS, value)
  }
  /** Of a directory: the entry block where the search for room begins. */
  get insertHint(): number {
    return getU32(this.bytes, this.at + AT_INSERT_HINT)
  }
  set insertHint(value: number) {
    putU32(this.bytes, this.at + AT_INSERT_HINT, value)
  }

  /** The object's buffer tree; its root is in this view. Not for a link whose path is inline. */
  tree(store: BlockStore): Tree {
    const type = this.type
    sound(type !== undefined && (this.flags & INLINE) === 0)
    return new Tree(store, this.bytes, LEAF_KINDS[type], this.at + AT_TREE)
  }

  hasTreeRoot(store: BlockStore): boolean {
    return isTreeRoot(store.format, this.bytes, this.at + AT_TREE)
  }

  /** Blocks of the object's tree. */
  get blocks(): number {
    return (this.flags & INLINE) !== 0 ? 0 : treeBlocks(this.bytes, this.at + AT_TREE)
  }

  get inlinePath(): string {
    sound(this.size <= INLINE_BYTES)
    return getBytes(this.bytes, this.at + AT_TREE, this.size)
  }
  set inlinePath(path: string) {
    putBytes(this.bytes, this.at + AT_TREE, path)
  }

  /** Makes this a new object with an empty tree (or an empty inline path) and zero in all that is not set here. */
  init(store: BlockStore, type: FileType, generation: number, rdevMajor: number, rdevMinor: number): void {
    this.bytes.fill(0, this.at, this.at + INODE_BYTES)
    this.bytes[this.at + AT_TYPE] = TYPE_CODES[type]
    putU32(this.bytes, this.at + AT_GENERATION, generation)
    putU32(this.bytes, this.at + AT_RDEV_MAJOR, rdevMajor)
    putU32(this.bytes, this.at + AT_RDEV_MINOR, rdevMinor)
    initTreeRoot(store.format, this.bytes, this.at + AT_TREE)
  }

  setVerifier(verifier: Uint8Array): void {
    this.bytes.set(verifier.subarray(0, VERIFIER_BYTES), this.at + AT_VERIFIER)
    this.flags |= EXCLUSIVE
  }

  makeInline(path: string): void {
    this.bytes.fill(0, this.at + AT_TREE, this.at + INODE_BYTES)
    this.flags |= INLINE
    this.inlinePath = path
  }

  /** Makes this a free inode; the generation stays, so that the next object gets a higher one. */
  clear(next: number): void {
    const generation = this.generation
    this.bytes.fill(0, this.at, this.at + INODE_BYTES)
    putU32(this.bytes, this.at + AT_GENERATION, generation)
    this.next = next
  }

  attributes(fsid: number): Attributes {
    const type = this.type
    sound(type !== undefined)
    return {
      type,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      size: this.size,
      used: this.blocks * BLOCK_BYTES,
      rdevMajor: getU32(this.bytes, this.at + AT_RDEV_MAJOR),
      rdevMinor: getU32(this.bytes, this.at + AT_RDEV_MINOR),
      fsid,
      fileid: this.ino,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
    }
  }

  preAttributes(): PreAttributes {
    return { size: this.size, mtime: this.mtime, ctime: this.ctime }
  }

  private time(at: number, atNanoseconds: number): Time {
    return {
      seconds: getU64(this.bytes, this.at + at),
      nanoseconds: getU32(this.bytes, this.at + atNanoseconds),
    }
  }

  private setTime(at: number, atNanoseconds: number, value: Time): void {
    putU64(this.bytes, this.at + at, value.seconds)
    putU32(this.bytes, this.at + atNanoseconds, value.nanoseconds)
  }
}
