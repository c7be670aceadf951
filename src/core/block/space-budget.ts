/**
 * Room in an aggregate: what is accepted must fit at the consistency point, with all the metadata that it costs.
 *
 * Headroom = free PVBNs + what the consistency point under way gives back − dirty blocks − a reserve for metafiles. The reserve is safe because a
 * consistency point copies each block of a metafile at most once (owner and active map are counted in full, the volumes' maps as they
 * are), and because what comes up anew is a bounded part of what is dirty. A small part of the rest is kept for operations that give space back.
 *
 * Blocks of a traditional volume take their places when they are allocated: none is dirty without one, and of what the consistency point under way gives back
 * only the metafiles' blocks count, because those of files cannot be had before it is complete. The volume's active map is counted in full like the
 * aggregate's maps, so that its capacity depends on the devices alone.
 */
import { SINGLE } from '../fs/block-store.ts'
import type { AggregateType } from './label.ts'
import type { Layout } from './layout.ts'
import { OWNER_FANOUT } from './leaf-editor.ts'
import type { SpaceMap } from './space-map.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

/** Of ordinary operations withheld, for those that give space back. */
const RELEASING_SHARE = 100
const RELEASING_MIN = 16
const RELEASING_MAX = 1024
/** Metafile blocks that may come up anew for each volume with changes, beyond those that exist. */
const GROWTH_PER_VOLUME = 8
/** One new metafile block for so many dirty blocks, at most: 682 entries of a container map, 512 of the owner map. */
const GROWTH_SHARE = 300

export interface Demand {
  /** Blocks without a place yet, those asked for included. */
  readonly dirty: number
  /** What the consistency point under way has freed: back before these get their places. */
  readonly returning: number
  readonly changedVolumes: number
}

export class SpaceBudget {
  private readonly layout: Layout
  private readonly space: SpaceMap
  private readonly activeMaps: number
  /** Blocks of a volume that is converted: any of its maps' leaves for these may come up at any time. */
  private readonly converted: number
  private maps = 0
  private metafiles = 0
  /** Blocks kept for operations that give space back. */
  releasing = 0

  constructor(layout: Layout, space: SpaceMap, type: AggregateType, converted = 0) {
    this.converted = converted
    this.layout = layout
    this.space = space
    this.activeMaps = type === 'Traditional' ? 2 : 1
    this.grow()
  }

  /** What follows from the size of the aggregate. */
  grow(): void {
    const { data } = this.layout
    const { end } = this.space
    const full = (leaves: number): number => leaves + Math.ceil(leaves / SINGLE.fanout) + 2
    this.maps = full(Math.ceil(end / OWNER_FANOUT)) + this.activeMaps * full(Math.ceil(end / MAP_LEAF_BITS))
    if (this.converted > 0) {
      this.maps +=
        full(Math.ceil(this.converted / SINGLE.fanout)) + full(Math.ceil(this.converted / MAP_LEAF_BITS))
    }
    const share = Math.floor(data / RELEASING_SHARE)
    this.releasing = Math.min(RELEASING_MAX, Math.max(RELEASING_MIN, share))
  }

  /**
   * Blocks that the files of a traditional volume can have: all but its maps at full size and their copies at a consistency point, the table's block and
   * its copy, what may come up anew, and what is kept for operations that give space back.
   */
  get capacity(): number {
    return Math.max(0, this.layout.data - 1 - 2 * (this.maps + 1) - 2 * GROWTH_PER_VOLUME - this.releasing)
  }

  /** Blocks of the volume table and of the volumes' maps that are not counted in full, as they are since the last consistency point. */
  reckon(metafiles: number): void {
    this.metafiles = metafiles
  }

  /** Blocks left when the demand is met; below 0 it does not fit. */
  headroom({ dirty, returning, changedVolumes }: Demand): number {
    const growth = GROWTH_PER_VOLUME * (changedVolumes + 1) + Math.ceil(dirty / GROWTH_SHARE)
    return this.space.free + returning - dirty - this.maps - this.metafiles - growth
  }
}
