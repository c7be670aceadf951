/**
 * The space of 4 KiB blocks that a file tree lives in: the contract between the file layer (core/fs: trees, inodes,
 * directories, operations) and the block layer (core/block: cache, allocation, consistency points, devices).
 *
 * Copy on write, at modification time: a block number names one content for ever. Within an epoch a *fresh* block (allocated
 * since the last freeze) may be changed in place; any other is immutable: to change it, allocate a new one, copy, point the
 * parent at it, free the old one. So a freeze is instant, a consistency point works on blocks that nobody changes, and
 * operations of the next epoch never touch what is being written.
 *
 * - Flexible volume: numbers are VVBNs, pointers are {VVBN, PVBN hint} of 12 bytes; the container map gives the place.
 * - Traditional volume, and the aggregate's own metafiles: numbers are places (VBN/PVBN), pointers have 6 bytes.
 *
 * Operations run to completion: `get` on a block that is not in memory throws `Miss`; the operation's driver awaits
 * `miss.load()` and runs the operation again from the top. In the modify phase nothing may miss or fail: whatever is needed is
 * touched (got, or its path prepared) and space reserved before the first change.
 */

/** What a block holds: becomes part of its stored context, so that a misdirected block is found. */
export type BlockKind = 'data' | 'indirect' | 'inode' | 'directory' | 'symlink' | 'meta'

/** 0 as a block number is a hole. The all-ones 48-bit number is ABSENT: to be fetched elsewhere (a volume under conversion). */
export const HOLE = 0
export const ABSENT = 2 ** 48 - 1

export interface PointerFormat {
  readonly name: 'single' | 'dual'
  /** Bytes of a pointer: 6, or 12 ({VVBN, PVBN}). */
  readonly bytes: number
  /** Pointers in an indirect block: 682 or 341. */
  readonly fanout: number
  /** Pointers in the 256-byte inode: 20 or 10. */
  readonly inInode: number
}
export const SINGLE: PointerFormat = { name: 'single', bytes: 6, fanout: 682, inInode: 20 }
export const DUAL: PointerFormat = { name: 'dual', bytes: 12, fanout: 341, inInode: 10 }

/** Thrown by `get`: the block must be loaded first. The driver awaits `load()` and runs the whole operation again. */
export class Miss {
  readonly load: () => Promise<void>
  constructor(load: () => Promise<void>) {
    this.load = load
  }
}

/** Thrown by `get` for a block that no plex can give back undamaged; becomes EIO for what needs it. */
export class DamagedBlock {
  readonly bn: number
  constructor(bn: number) {
    this.bn = bn
  }
  get message(): string {
    return `block ${this.bn} is damaged on every plex`
  }
}

/**
 * What an image says in two places, and differently, though all its blocks are whole: no further image can be made from it. Disks do not do that; a fault of this
 * program does, in memory or long ago.
 */
export class Contradiction extends DamagedBlock {
  private readonly what: string
  constructor(what: string) {
    super(0)
    this.what = what
  }
  override get message(): string {
    return `the image contradicts itself: ${this.what}; see what tandem check tells of it`
  }
}

/**
 * What stands on disk must be so; if it is not, although its checksum holds, it is damage like any other: EIO for what needs it, and the rest of the volume
 * goes on. For content that was read, never for what the running program made.
 */
export function sound(condition: unknown, bn = 0): asserts condition {
  if (!condition) throw new DamagedBlock(bn)
}

/** A block behind an ABSENT pointer, as it will be once it is built. */
export interface Resolved {
  readonly content: Uint8Array
  /** By how much the count of blocks in its tree's root grows then (absent.ts). */
  readonly gain: number
}

export interface BlockStore {
  readonly format: PointerFormat
  /** Content of block `bn` (4096 bytes, not to be changed unless fresh). `hint`: the PVBN in the parent, 0 if unknown. Throws Miss, DamagedBlock. */
  get(bn: number, hint: number, kind: BlockKind): Uint8Array
  /** The block behind an ABSENT pointer, which holds `code` in place of a hint (absent.ts). Throws Miss, DamagedBlock. Only in a volume under conversion. */
  absent?(code: number, kind: BlockKind): Resolved
  /** Blocks allocated so far for what files, directories and links hold, where that is counted. */
  readonly contentBlocks?: number
  /** True if `bn` was allocated in this epoch: its content may be changed in place. */
  isFresh(bn: number): boolean
  /**
   * A new fresh block, zero-filled, or holding `content` (taken over, not copied), or with `unfilled` anything: the caller writes all of it.
   * Cannot fail: space was reserved.
   */
  allocate(
    kind: BlockKind,
    content?: Uint8Array,
    unfilled?: boolean,
  ): { readonly bn: number; readonly content: Uint8Array }
  /** The active file system no longer refers to `bn`. A fresh block returns at once, another after the next consistency point. */
  free(bn: number): void
  /**
   * True if an operation that dirties up to `blocks` further blocks certainly fits, now and at its consistency point
   * (aggregate, volume quota, and dirty memory); else the operation answers NOSPC, before it is logged. `releasing`: the operation gives space
   * back (remove, truncate); it may use a small reserve and exceed the quota for a moment, so that what is full can be emptied.
   */
  canAllocate(blocks: number, releasing?: boolean): boolean
}
