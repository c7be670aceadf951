/**
 * What stands behind an ABSENT pointer: a metadata block of a flexible volume that still has to be built from one of the traditional volume which it was.
 *
 * Fan-outs are exactly 2:1 (682 and 341 pointers, 20 and 10 in an inode), so an old block of level n covers what 2^n new ones of level n cover, and a new one
 * never needs more than one old block. A pointer therefore names its source itself: `hint` holds the VBN of the old block, which level is wanted, and which of
 * its 2^n parts. Nothing else is asked: not the inode, nor where the pointer stands. So `resolve` is a pure function of the code and of an old block that
 * never changes again; asked twice, at the same time or in a replay, it gives equal bytes (C3). It reads nothing, writes nothing, and knows no devices.
 *
 * Blocks of files, directories and links hold no block numbers. They stay where they are: VVBN = VBN, PVBN = `base` + VBN.
 *
 * The count in a tree's root. An old tree counts leaves and old indirect blocks. `gain` says by how much it changes when one new block is made
 * lasting: the first part of an old block that has anything in it takes over its count, every other one adds 1. So the count is exact at any time, without
 * a look at the whole tree; a part that turns out to be empty adds 1 and is given back at once.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { ABSENT, DUAL, HOLE, SINGLE, sound } from './block-store.ts'
import type { Resolved } from './block-store.ts'
import { getU48, putU48 } from './bytes.ts'
import { AT_TREE, INLINE, INODE_BYTES, INODES_PER_BLOCK } from './inode.ts'
import { AT_INODE_TREE, AT_RING_TREE } from './inodes.ts'
import { initTreeRoot, isTreeRoot, treeBlocks, TREE_ROOT_BYTES } from './tree.ts'

/** Numbers of blocks that fit into a code: 2^38 blocks are 1 PiB. */
export const VBN_END = 2 ** 38
const LEVELS = 8
const PARTS = 32
const SOURCES = 4
const AT_POINTERS = 8
/** The highest level of an old tree: a new one may need one more. */
const OLD_LEVEL_MAX = 4

/** What the old block is. */
type Source =
  /** An indirect block: part `part` of 2^level. */
  | 'indirect'
  /** The same, of the inode file: its leaves are to be built, too. */
  | 'inode-file'
  /** A block of the inode file. */
  | 'inodes'
  /** A block of the inode file, of whose inode number `part` the pointers no longer fit into the inode. */
  | 'inode'
const SOURCE_NAMES: readonly Source[] = ['indirect', 'inode-file', 'inodes', 'inode']

export interface AbsentCode {
  readonly source: Source
  /** The old block. */
  readonly vbn: number
  /** Of the new block; 0 for a block of the inode file. */
  readonly level: number
  readonly part: number
}

export function encodeAbsent({ source, vbn, level, part }: AbsentCode): number {
  return ((vbn * SOURCES + SOURCE_NAMES.indexOf(source)) * LEVELS + level) * PARTS + part
}

/** Throws DamagedBlock for what cannot be one. */
export function decodeAbsent(code: number): AbsentCode {
  const part = code % PARTS
  const level = Math.floor(code / PARTS) % LEVELS
  const source = SOURCE_NAMES[Math.floor(code / (PARTS * LEVELS)) % SOURCES]!
  const vbn = Math.floor(code / (PARTS * LEVELS * SOURCES))
  sound(vbn > 0 && part < (source === 'inode' ? INODES_PER_BLOCK : 2 ** level))
  return { source, vbn, level, part }
}

/** The new block, from the old one that its code names. `base`: PVBN of the old VBN 0. */
export function resolve(code: number, old: Uint8Array, base: number): Resolved {
  const { source, vbn, level, part } = decodeAbsent(code)
  const content = new Uint8Array(BLOCK_BYTES)
  switch (source) {
    case 'inodes':
      content.set(old)
      for (let slot = 0; slot < INODES_PER_BLOCK; slot++) convertInode(content, old, slot, vbn, base)
      return { content, gain: 0 }
    case 'inode': {
      const at = part * INODE_BYTES + AT_TREE
      sound(isTreeRoot(SINGLE, old, at) && old[at]! + 1 === level, vbn)
      const table = { bytes: old, at: at + AT_POINTERS, slots: SINGLE.inInode }
      fill(content, 0, DUAL.fanout, table, level - 1, 0, base, 'indirect')
      return { content, gain: 1 }
    }
    case 'indirect':
    case 'inode-file': {
      const table = { bytes: old, at: 0, slots: SINGLE.fanout }
      fill(content, 0, DUAL.fanout, table, level - 1, part * DUAL.fanout, base, source)
      return { content, gain: part === firstPart(old, level) ? 0 : 1 }
    }
  }
}

/** The first part of an old indirect block that has a pointer; undefined if none has. */
function firstPart(old: Uint8Array, level: number): number | undefined {
  for (let slot = 0; slot < SINGLE.fanout; slot++) {
    if (getU48(old, slot * SINGLE.bytes) !== HOLE) return Math.floor((slot * 2 ** (level - 1)) / DUAL.fanout)
  }
  return undefined
}

interface Table {
  readonly bytes: Uint8Array
  readonly at: number
  readonly slots: number
}

/** `count` new pointers to blocks of `level`, from those of an old table to blocks of the same level; the first one is number `from` of all. */
function fill(
  out: Uint8Array,
  outAt: number,
  count: number,
  table: Table,
  level: number,
  from: number,
  base: number,
  source: 'indirect' | 'inode-file',
): void {
  const parts = 2 ** level
  for (let i = 0; i < count; i++) {
    const slot = Math.floor((from + i) / parts)
    if (slot >= table.slots) return
    const vbn = getU48(table.bytes, table.at + slot * SINGLE.bytes)
    if (vbn === HOLE) continue
    sound(vbn < VBN_END)
    const p = outAt + i * DUAL.bytes
    if (level === 0 && source === 'indirect') {
      putU48(out, p, vbn)
      putU48(out, p + 6, base + vbn)
    } else {
      const code = { source: level === 0 ? 'inodes' : source, vbn, level, part: (from + i) % parts } as const
      putU48(out, p, ABSENT)
      putU48(out, p + 6, encodeAbsent(code))
    }
  }
}

function convertInode(out: Uint8Array, old: Uint8Array, slot: number, vbn: number, base: number): void {
  const inode = slot * INODE_BYTES
  const at = inode + AT_TREE
  if (old[inode] === 0 || (old[inode + 1]! & INLINE) !== 0) return
  // What is no root stays none, and is found by whoever reads the file.
  if (!isTreeRoot(SINGLE, old, at) || old[at]! > OLD_LEVEL_MAX) return
  const top = convertRoot(old, at, out, at, base, 'indirect')
  if (!top) return
  putU48(out, at + AT_POINTERS, ABSENT)
  putU48(out, at + AT_POINTERS + 6, encodeAbsent({ source: 'inode', vbn, level: old[at]! + 1, part: slot }))
}

/**
 * The root of a tree with the new pointers. True if these do not fit into it: then it is one level higher, and its first pointer is left to the caller,
 * to a block over all of them.
 */
function convertRoot(
  old: Uint8Array,
  at: number,
  out: Uint8Array,
  outAt: number,
  base: number,
  source: 'indirect' | 'inode-file',
): boolean {
  const level = old[at]!
  const parts = 2 ** level
  let end = 0
  for (let slot = 0; slot < SINGLE.inInode; slot++) {
    if (getU48(old, at + AT_POINTERS + slot * SINGLE.bytes) !== HOLE) end = (slot + 1) * parts
  }
  initTreeRoot(DUAL, out, outAt)
  putU48(out, outAt + 2, treeBlocks(old, at))
  const fits = end <= DUAL.inInode
  out[outAt] = fits ? level : level + 1
  const table = { bytes: old, at: at + AT_POINTERS, slots: SINGLE.inInode }
  if (fits) fill(out, outAt + AT_POINTERS, DUAL.inInode, table, level, 0, base, source)
  return !fits
}

/**
 * The root of a tree that stands in a volume's root, converted in place. `allocate` gives the one block that it may need at once: nothing that it could be built from
 * later has the old pointers.
 */
function convertRootTree(
  bytes: Uint8Array,
  at: number,
  base: number,
  source: 'indirect' | 'inode-file',
  allocate: (content: Uint8Array) => number,
): void {
  const old = bytes.slice(at, at + TREE_ROOT_BYTES)
  sound(isTreeRoot(SINGLE, old) && old[0]! <= OLD_LEVEL_MAX)
  if (!convertRoot(old, 0, bytes, at, base, source)) return
  const content = new Uint8Array(BLOCK_BYTES)
  const table = { bytes: old, at: AT_POINTERS, slots: SINGLE.inInode }
  fill(content, 0, DUAL.fanout, table, old[0]!, 0, base, source)
  putU48(bytes, at + AT_POINTERS, allocate(content))
  putU48(bytes, at + 2, treeBlocks(old) + 1)
}

/** The root of a traditional volume as that of a flexible one: nothing of it is built but what the root itself may ask for. */
export function convertVolumeRoot(
  old: Uint8Array,
  base: number,
  allocate: (content: Uint8Array) => number,
): Uint8Array {
  const root = old.slice()
  convertRootTree(root, AT_INODE_TREE, base, 'inode-file', allocate)
  convertRootTree(root, AT_RING_TREE, base, 'indirect', allocate)
  return root
}
