/**
 * Gives back the blocks of removed volumes, a slice at each consistency point, so that removing a large volume makes none of them long.
 *
 * First its snapshots (volume-snapshots.ts), then every number in use, in ascending order (`reclaimed` in the volume table says how far), then the
 * volume's maps, then the entry.
 */
import { loaded, TRUNCATE_LIMIT_MIN } from '../fs/tree.ts'
import type { Tree } from '../fs/tree.ts'
import { Contradiction, Miss } from '../fs/block-store.ts'
import { getU48 } from '../fs/bytes.ts'
import type { AggregateCore, RemovedVolume } from './aggregate-core.ts'
import type { LeafEditor } from './leaf-editor.ts'
import { CONTAINER_ENTRY_BYTES, CONTAINER_FANOUT } from './numbering.ts'
import { MAP_LEAF_BITS } from './space-map.ts'
import type { Returned } from './volume-snapshots.ts'
import { encodeEntry } from './volume-table.ts'

/** Blocks that a consistency point gives back at most, of removed volumes and deleted snapshots together. */
export const SLICE_BLOCKS = 16384

/** One slice of the volumes that were removed before the freeze: at most `slice` blocks. */
export async function reclaim(
  core: AggregateCore,
  removed: readonly RemovedVolume[],
  table: LeafEditor,
  slice: number,
  returned: Returned,
): Promise<void> {
  let budget = slice
  for (const volume of removed) {
    if (budget <= 0) break
    const { index } = volume.entry
    // What only snapshots hold comes first: they are compared with the active map, which must be whole for that.
    budget = await volume.snapshots.reclaimAll(budget, returned)
    if (budget > 0) budget = await reclaimBlocks(core, volume, budget, returned.places)
    if (volume.emptied && budget > TRUNCATE_LIMIT_MIN) {
      const { container, active } = volume
      const unmapped = container === undefined || (await empty(container, budget))
      const done = unmapped && (await empty(active, budget))
      if (done) {
        await table.punch(index)
        core.removed.splice(core.removed.indexOf(volume), 1)
        continue
      }
    }
    const leaf = await table.edit(index)
    encodeEntry({ ...volume.entry, state: 'removing', reclaimed: volume.reclaimed }, leaf)
  }
}

async function reclaimBlocks(
  core: AggregateCore,
  volume: RemovedVolume,
  slice: number,
  freed: number[],
): Promise<number> {
  let budget = slice
  while (!volume.emptied && budget > 0) {
    const fbn = await loaded(() => volume.active.next(Math.floor(volume.reclaimed / MAP_LEAF_BITS)))
    if (fbn === undefined) {
      volume.emptied = true
      break
    }
    const leaf = (await loaded(() => volume.active.get(fbn)))!.slice()
    let number = Math.max(volume.reclaimed, fbn * MAP_LEAF_BITS)
    for (; number < (fbn + 1) * MAP_LEAF_BITS && budget > 0; number++) {
      const bit = number % MAP_LEAF_BITS
      if ((leaf[bit >> 3]! & (1 << (bit & 7))) === 0) continue
      const pvbn = volume.container === undefined ? number : await placeIn(volume.container, number)
      core.meta.changes.push(-pvbn)
      freed.push(pvbn)
      budget -= 1
    }
    volume.reclaimed = number
  }
  return budget
}

async function placeIn(container: Tree, number: number): Promise<number> {
  const places = await loaded(() => container.get(Math.floor(number / CONTAINER_FANOUT)))
  if (places === undefined) throw new Contradiction(`block number ${number} of a removed volume has no place`)
  return getU48(places, (number % CONTAINER_FANOUT) * CONTAINER_ENTRY_BYTES)
}

/** Frees the blocks of a map, at most `limit` of them. */
async function empty(map: Tree, limit: number): Promise<boolean> {
  for (;;) {
    try {
      map.prepareTruncate(0, limit)
      return map.truncate(0, limit)
    } catch (error) {
      if (!(error instanceof Miss)) throw error
      await error.load()
    }
  }
}
