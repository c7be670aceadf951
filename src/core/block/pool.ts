/**
 * What a volume asks of its aggregate: shared space, metafiles, memory.
 */
import type { Tree } from '../fs/tree.ts'
import type { BlockIo } from './block-io.ts'
import type { BufferCache } from './buffer-cache.ts'
import type { MetaStore } from './meta-store.ts'
import type { OldBlocks } from './old-blocks.ts'
import type { SpaceMap } from './space-map.ts'

export interface Pool {
  readonly io: BlockIo
  readonly cache: BufferCache
  readonly meta: MetaStore
  readonly space: SpaceMap
  readonly ownerMap: Tree
  /** What one of its volumes was converted from; undefined if none was. */
  readonly old: OldBlocks | undefined
  /** Blocks that files can have in all, in an aggregate that is one traditional volume's alone. */
  readonly capacityBlocks: number
  /** Blocks that files can still get. */
  readonly freeBlocks: number
  /** The volume has something for the next consistency point; `delta` fresh blocks more (or less). */
  dirtied(volume: { readonly index: number }, delta: number): void
  /** True if `blocks` further dirty blocks certainly get a place at the consistency point, with all the metadata that this costs. */
  fits(blocks: number, releasing: boolean): boolean
  /** A place that holds a block of the live image, or may: worth reading. */
  isUsable(pvbn: number): boolean
}
