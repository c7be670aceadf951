/**
 * What the checker (check.ts) remembers of a volume, in columns instead of objects: so that 10^7 inodes fit into memory.
 */
import { GRANULES } from './directory.ts'

/** Stands for a number that is no inode's here. */
export const OUTSIDE = 0xffffffff

/** What is known of each inode, in columns. Numbers that are no inode's here are OUTSIDE. */
export class Facts {
  readonly size: number
  /** 0: free. */
  readonly typeCode: Uint8Array
  readonly flags: Uint8Array
  readonly nlink: Uint32Array
  readonly parent: Uint32Array
  readonly next: Uint32Array
  /** Names found, `.` and `..` of directories among them. */
  readonly names: Uint32Array
  readonly mark: Uint8Array

  constructor(size: number) {
    this.size = size
    this.typeCode = new Uint8Array(size)
    this.flags = new Uint8Array(size)
    this.nlink = new Uint32Array(size)
    this.parent = new Uint32Array(size)
    this.next = new Uint32Array(size)
    this.names = new Uint32Array(size)
    this.mark = new Uint8Array(size)
  }

  link(ino: number): number {
    return ino < this.size ? ino : OUTSIDE
  }
}

export const FREE = 1
export const ON_LIST = 2
export const REACHED = 4
export const ON_PATH = 8

/** The names of a directory by position, with their hashes. */
export class Positions {
  private readonly blocks = new Map<number, { hashes: Uint32Array; there: Uint8Array }>()
  count = 0

  add(e: number, granule: number, hash: number): void {
    let block = this.blocks.get(e)
    if (block === undefined) {
      block = { hashes: new Uint32Array(GRANULES), there: new Uint8Array(GRANULES) }
      this.blocks.set(e, block)
    }
    block.hashes[granule] = hash
    block.there[granule] = 1
    this.count += 1
  }

  has(position: number, hash: number): boolean {
    const block = this.blocks.get(Math.floor(position / GRANULES))
    const granule = position % GRANULES
    return block !== undefined && block.there[granule] === 1 && block.hashes[granule] === hash
  }

  delete(position: number): void {
    this.blocks.get(Math.floor(position / GRANULES))!.there[position % GRANULES] = 0
    this.count -= 1
  }

  *left(): Generator<number> {
    for (const [e, { there }] of this.blocks) {
      for (let granule = 0; granule < GRANULES; granule++)
        if (there[granule] === 1) yield e * GRANULES + granule
    }
  }
}
