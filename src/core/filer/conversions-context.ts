/** What a filer is told of conversions, and what it tells of them. */
import type { SnapshotsAtConversion } from '../conversion/check.ts'
import type { Env } from '../env/env.ts'
import type { AggregateStore, FilerVolume } from './aggregate-store.ts'

/** As the operator hands it over (api/v1alpha1/filer-config.ts). */
export interface DesiredConversion {
  readonly id: string
  /** Of the traditional volume; the flexible one has the same. */
  readonly volumeId: string
  /** Of the same side, of flexible volumes, with nothing in it. */
  readonly aggregate: string
  readonly state: 'Checked' | 'Paused' | 'Converted' | 'RolledBack'
  /** RequireNone if not said. */
  readonly snapshots?: SnapshotsAtConversion
  readonly scanBlocksPerSecond: number
  /** Consent to lose what was changed since the cut-over of this name. */
  readonly discardChanges: string
}

export const CONVERSION_PHASES = [
  'Checking',
  'Refused',
  'Checked',
  'CuttingOver',
  'Scanning',
  'Paused',
  'Joining',
  'Complete',
  'RollingBack',
  'RolledBack',
] as const
export type ConversionPhase = (typeof CONVERSION_PHASES)[number]

export interface ConversionCondition {
  readonly type: 'Checked' | 'CutOver' | 'Complete' | 'RolledBack'
  readonly status: 'True' | 'False' | 'Unknown'
  /** Empty when it is True. */
  readonly reason: string
  readonly message: string
}

export interface ConversionStatus {
  readonly id: string
  readonly volumeId: string
  readonly aggregate: string
  readonly phase: ConversionPhase
  /** Of the scan. */
  readonly percent: number
  readonly inodesDone: number
  readonly inodesTotal: number
  readonly metadataEstimatedBytes: number
  readonly metadataActualBytes: number
  readonly dataBlocksCopied: number
  /** At most so many metadata blocks are still to be built. */
  readonly absentLeft: number
  readonly rollback: { readonly possible: boolean; readonly changedBytes: number }
  /** Empty before the cut-over. */
  readonly cutOverId: string
  readonly conditions: readonly ConversionCondition[]
}

export interface ConversionsOptions {
  readonly env: Env
  /** The aggregate has its new devices, and is one like any other: what waited for that can be done. */
  readonly completed: (store: AggregateStore) => void
  /** The volume is served from its new home. */
  readonly moved: (volume: FilerVolume, store: AggregateStore, aggregate: string) => Promise<void>
}
