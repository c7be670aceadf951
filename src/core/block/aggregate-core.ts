/**
 * An aggregate as its own parts (consistency point, reclaim, resync) see it.
 */
import type { Env } from '../env/env.ts'
import type { Tree } from '../fs/tree.ts'
import type { BlockIo } from './block-io.ts'
import type { Json } from './codec.ts'
import type { AggregateType } from './label.ts'
import type { Layout } from './layout.ts'
import type { MetaStore } from './meta-store.ts'
import type { Plex } from './plex.ts'
import type { Root, RootName } from './root.ts'
import type { SpaceMap } from './space-map.ts'
import type { FrozenVolume, Volume } from './volume.ts'
import type { VolumeSnapshots } from './volume-snapshots.ts'
import type { VolumeEntry } from './volume-table.ts'

/** A volume that was removed and whose blocks come back slice by slice, some at each consistency point. */
export interface RemovedVolume {
  readonly entry: VolumeEntry
  readonly active: Tree
  /** Undefined of a traditional volume. */
  readonly container: Tree | undefined
  readonly snapshots: VolumeSnapshots
  /** Numbers below it are freed. */
  reclaimed: number
  /** All numbers are freed: its maps are next. */
  emptied: boolean
}

export interface FrozenPart {
  readonly volume: Volume
  readonly frozen: FrozenVolume
}

export interface AggregateCore {
  readonly env: Env
  readonly id: string
  readonly type: AggregateType
  readonly layout: Layout
  readonly io: BlockIo
  readonly meta: MetaStore
  readonly space: SpaceMap
  readonly own: Plex
  /** The other plex, whatever its state. */
  readonly partner: Plex | undefined
  readonly activeRoot: Uint8Array
  readonly ownerRoot: Uint8Array
  readonly volumesRoot: Uint8Array
  readonly activeMap: Tree
  readonly ownerMap: Tree
  readonly volumeTable: Tree
  readonly removed: RemovedVolume[]
  readonly properties: Json
  /** Roots of the live image's history that the other plex may have had. */
  readonly lineage: readonly RootName[]
  /** Blocks in use in the image being written. */
  usedBlocks: number
  /** The place of a block that was allocated after the freeze: what lies there is of no account. */
  isUnwritten(pvbn: number): boolean
  /** Copies to a mirror that has just joined what it still lacks, before the consistency point's own writes. */
  catchUpMirror(): Promise<void>
  mirrorFailed(error: unknown): void
  groupWritten(group: number, mirrored: boolean): void
  committed(root: Root, bytes: Uint8Array): void
  /** The consistency point under way is over; it changed these volumes. */
  completed(mirrored: boolean, changed: readonly { readonly index: number }[]): void
}
