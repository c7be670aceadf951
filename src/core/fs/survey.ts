/**
 * How many blocks of pointers the files of a traditional volume would have in a flexible one, whose blocks and inodes hold half as many pointers: by looking at some inodes, spread over all,
 * and taking the rest to be like them. With so few inodes that all are looked at it is exact, but for holes.
 */
import { INLINE, INODES_PER_BLOCK } from './inode.ts'
import type { Inode } from './inode.ts'
import type { Inodes } from './inodes.ts'

const OLD_FANOUT = 682
const NEW_FANOUT = 341
const NEW_ROOTS = 10

/** Indirect blocks of a file with so many leaves. */
export function indirectOf(leaves: number): number {
  let sum = 0
  for (let blocks = leaves; blocks > NEW_ROOTS;) {
    blocks = Math.ceil(blocks / NEW_FANOUT)
    sum += blocks
  }
  return sum
}

function leavesOf({ blocks }: Inode): number {
  return blocks <= 2 * NEW_ROOTS ? blocks : blocks - Math.ceil(blocks / (OLD_FANOUT + 1))
}

/** Blocks of the inode file to look at: one in each of `samples` equal parts, each at another place of its part. */
export function samplePlaces(blocks: number, samples: number): number[] {
  if (blocks <= samples) return Array.from({ length: blocks }, (_, n) => n)
  return Array.from({ length: samples }, (_, n) =>
    Math.floor(((n + ((n * Math.SQRT1_2) % 1)) * blocks) / samples),
  )
}

export interface Trees {
  /** Blocks of their objects, and of pointers that they would have. */
  readonly leaves: number
  readonly indirect: number
}

/** Of the inodes in one block. Throws Miss, DamagedBlock. */
export function treesIn(inodes: Inodes, block: number): Trees {
  let [leaves, indirect] = [0, 0]
  for (let ino = block * INODES_PER_BLOCK; ino < (block + 1) * INODES_PER_BLOCK; ino++) {
    if (!inodes.has(ino)) continue
    const inode = inodes.get(ino)
    if (inode.type === undefined || (inode.flags & INLINE) !== 0) continue
    leaves += leavesOf(inode)
    indirect += indirectOf(leavesOf(inode))
  }
  return { leaves, indirect }
}
