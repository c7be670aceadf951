/**
 * What one pinned image of a volume has that another one has not, and the blocks of an image in the form in which another filer can use them.
 *
 * Maps of two images share the leaves in which they do not differ, so the cost follows what changed. Blocks travel without places: a pointer keeps the number and
 * loses the hint, for the other filer has its own places.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { DamagedBlock, DUAL } from '../fs/block-store.ts'
import { putU48 } from '../fs/bytes.ts'
import { AT_TREE, INLINE, INODE_BYTES } from '../fs/inode.ts'
import { loaded } from '../fs/tree.ts'
import type { Aggregate } from './aggregate.ts'
import { getContext } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import { MAP_LEAF_BITS } from './space-map.ts'
import type { Volume, VolumeContent } from './volume.ts'
import type { SnapshotImage } from './volume-snapshots.ts'

export interface ImageChange {
  /** Numbers that the later image has and the earlier one has not. */
  readonly added: readonly number[]
  readonly removed: readonly number[]
}

/** Leaf by leaf. Ends early when one of the images goes. */
export async function* imageDifference(
  from: SnapshotImage | undefined,
  to: SnapshotImage,
): AsyncGenerator<ImageChange> {
  for (let next = 0; ;) {
    const start = next
    const [theirs, ours] = [
      await loaded(() => from?.tree.next(start)),
      await loaded(() => to.tree.next(start)),
    ]
    if (theirs === undefined && ours === undefined) return
    const index = Math.min(theirs ?? Infinity, ours ?? Infinity)
    next = index + 1
    const before = await loaded(() => from?.tree.lookup(index))
    const after = await loaded(() => to.tree.lookup(index))
    if (before?.bn === after?.bn) continue
    const old = before && (await loaded(() => from!.tree.get(index)))!.slice()
    const fresh = after && (await loaded(() => to.tree.get(index)))!.slice()
    yield { added: without(fresh, old, index), removed: without(old, fresh, index) }
  }
}

/** The numbers that the first leaf has and the second has not. */
function without(one: Uint8Array | undefined, two: Uint8Array | undefined, index: number): number[] {
  const numbers: number[] = []
  for (let byte = 0; one !== undefined && byte < one.length; byte++) {
    const bits = one[byte]! & ~(two?.[byte] ?? 0)
    for (let bit = 0; bits >> bit !== 0; bit++) {
      if (((bits >> bit) & 1) === 1) numbers.push(index * MAP_LEAF_BITS + byte * 8 + bit)
    }
  }
  return numbers
}

export interface ImageBlock {
  readonly number: number
  readonly kind: BlockKind
  /** A copy. */
  readonly content: Uint8Array
}

/** A block of a pinned image. Throws DamagedBlock if no plex can give it back. */
export async function imageBlock<C extends VolumeContent>(
  aggregate: Aggregate<C>,
  volume: Volume<C>,
  number: number,
): Promise<ImageBlock> {
  const known = volume.inMemory(number)
  if (known !== undefined) return canonical(number, known.kind, known.content.slice())
  const pvbn = await loaded(() => volume.lookup(number))
  if (pvbn === 0) throw new DamagedBlock(number)
  const { content: checksums } = await aggregate.io.checksums(Math.floor(pvbn / GROUP_BLOCKS))
  const told = getContext(aggregate.env.crc32, checksums, pvbn % GROUP_BLOCKS)?.kind
  // A context that cannot be read does not say the kind: the other plex has the right one.
  const kinds: readonly BlockKind[] =
    told === undefined ? ['data', 'indirect', 'inode', 'directory', 'symlink'] : [told]
  for (const kind of kinds) {
    // A block of a volume that was converted has the context of what it was.
    const { identity } = volume.numbers.locate(number, pvbn, kind)
    const content = await aggregate.io.read(identity, pvbn)
    if (content !== undefined) return canonical(number, kind, content)
  }
  throw new DamagedBlock(number)
}

function canonical(number: number, kind: BlockKind, content: Uint8Array): ImageBlock {
  if (kind === 'indirect') forgetPlaces(content, 0, DUAL.fanout)
  else if (kind === 'inode') {
    for (let at = 0; at < BLOCK_BYTES; at += INODE_BYTES) {
      if (content[at] === 0 || (content[at + 1]! & INLINE) !== 0) continue
      forgetPlaces(content, at + AT_TREE + 8, DUAL.inInode)
    }
  }
  return { number, kind, content }
}

function forgetPlaces(table: Uint8Array, at: number, pointers: number): void {
  for (let i = 0, p = at; i < pointers; i++, p += DUAL.bytes) putU48(table, p + 6, 0)
}
