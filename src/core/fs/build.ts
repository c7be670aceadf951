/**
 * Makes what is absent lasting: visits every inode block, inode and indirect block of a volume that was converted, builds what still stands in the old form, and tells the observer of each
 * old block that is still in use.
 *
 * A step is synchronous, changes no content and no attribute, and writes no log record: after a crash the pointers are absent again, or were built by the
 * consistency point that also kept the cursor. A step that misses is run again; what it had done before is done. Behind the cursor nothing is
 * absent, because operations build and let go, but never make anything absent.
 */
import { sound } from './block-store.ts'
import { INLINE, INODES_PER_BLOCK } from './inode.ts'
import { AT_RING_TREE } from './inodes.ts'
import type { Inodes } from './inodes.ts'
import { Tree } from './tree.ts'

/** Block of the inode file (-1: the ring of kept replies), inode in it, leaf of its file: what is visited next. */
export type BuildCursor = readonly [block: number, slot: number, fbn: number]
export const BUILD_START: BuildCursor = [-1, 0, 0]

export interface BuildStep {
  /** Undefined when all was visited. */
  readonly cursor: BuildCursor | undefined
  /** The aggregate has no room for what comes next. */
  readonly noSpace: boolean
}

/** Is told at once, also by a step that misses and is run again. */
export interface BuildObserver {
  /** A block that a file has. */
  leaf(bn: number): void
  built(): void
  /** So many blocks of content were allocated: there should be none. */
  copied(blocks: number): void
}

/** Blocks that building one may take besides its path: the block of its inode, and that block's path. */
const ROOM = 8

/** Visits about `limit` pointers from `cursor` on. Throws Miss, DamagedBlock. */
export function buildStep(
  inodes: Inodes,
  cursor: BuildCursor,
  limit: number,
  observer: BuildObserver,
): BuildStep {
  const { store } = inodes
  const blocks = Math.ceil(inodes.inoEnd / INODES_PER_BLOCK)
  let [block, slot, fbn] = cursor
  let left = limit
  const room = (): boolean => store.canAllocate(ROOM + Math.ceil(limit / 64))
  const leaf = (bn: number): void => {
    left -= 1
    observer.leaf(bn)
  }
  const build = (tree: Tree, at: number, level: number): void => {
    const before = store.contentBlocks ?? 0
    tree.build(at, level)
    observer.built()
    observer.copied((store.contentBlocks ?? 0) - before)
  }
  if (!room()) return { cursor, noSpace: true }
  while (block < blocks && left > 0) {
    if (block >= 0 && slot === 0 && fbn === 0) {
      const absent = inodes.tree.nextAbsent(block, 0, () => undefined)
      sound(absent !== undefined)
      if (absent.level !== undefined) {
        if (!room()) return { cursor: [block, slot, fbn], noSpace: true }
        const at = Math.max(block, absent.fbn)
        if (absent.level === 0) inodes.tree.prepare(at)
        build(inodes.tree, at, absent.level)
        left -= 1
        continue
      }
    }
    const ino = block * INODES_PER_BLOCK + slot
    const tree = block < 0 ? new Tree(store, inodes.root, 'meta', AT_RING_TREE) : treeOf(inodes, ino)
    const absent = tree?.nextAbsent(fbn, Math.max(1, left), leaf)
    left -= 1
    if (absent === undefined) {
      fbn = 0
      slot = block < 0 ? INODES_PER_BLOCK : slot + 1
      if (slot === INODES_PER_BLOCK) [block, slot] = [block + 1, 0]
    } else if (absent.level === undefined) {
      fbn = absent.fbn
    } else {
      if (!room()) return { cursor: [block, slot, fbn], noSpace: true }
      fbn = Math.max(fbn, absent.fbn)
      if (block < 0) build(tree!, fbn, absent.level)
      else {
        inodes.prepare(ino)
        build(inodes.change(ino).tree(store), fbn, absent.level)
      }
    }
  }
  return { cursor: block < blocks ? [block, slot, fbn] : undefined, noSpace: false }
}

/** Undefined of what has no tree. */
function treeOf(inodes: Inodes, ino: number): Tree | undefined {
  if (!inodes.has(ino)) return undefined
  const inode = inodes.get(ino)
  if (inode.type === undefined || (inode.flags & INLINE) !== 0 || !inode.hasTreeRoot(inodes.store))
    return undefined
  return inode.tree(inodes.store)
}
