/** What a filer tells of the end of a mirror that it serves. */
import type { Divergence } from './records.ts'

/** One word why the mirror is not as it is wanted; the message says more. */
export type MirrorReason =
  | ''
  | 'Baseline'
  | 'Resyncing'
  | 'Switching'
  | 'NotInSync'
  | 'WouldDiscardChanges'
  | 'LinkLost'
  | 'DestinationDown'
  | 'LogFilesExhausted'
  | 'CatchingUp'
  | 'Broken'
  | 'DestinationNotEmpty'
  | 'VersionMismatch'

export type MirrorState =
  'Baseline' | 'CatchUp' | 'Joining' | 'InSync' | 'OutOfSync' | 'Reversing' | 'Breaking' | 'Broken'

export interface MirrorStatus {
  readonly id: string
  readonly volumeId: string
  /** What the end is, not what it is wanted to be. */
  readonly role: 'Source' | 'Destination'
  readonly state: MirrorState
  readonly reason: MirrorReason
  readonly message: string
  /** The two ends have greeted each other. */
  readonly connected: boolean
  readonly generation: number
  /** Of a source: how old the oldest change is that the destination has not, and the bytes of all such operations. 0 in sync. */
  readonly lagSeconds: number
  readonly lagBytes: number
  /** Of a source without an image at the destination. */
  readonly baselinePercent?: number
  readonly logFiles: number
  readonly logFilesMax: number
  /** Records of a source that the destination has not acknowledged. */
  readonly unacknowledged: number
  readonly durableImage: number
  /** Sent by a source since it was opened here: operations, images. */
  readonly sentBytes: number
  /** What this end would lose by becoming the destination. */
  readonly divergence?: Divergence
  /** Seconds of the clock: since when a destination is a volume of its own, and when it heard of the source last. */
  readonly brokenSinceSeconds?: number
  readonly heardSeconds?: number
}

/** Of an end that talks to nobody. */
export const IDLE = {
  connected: false,
  lagSeconds: 0,
  lagBytes: 0,
  logFiles: 0,
  logFilesMax: 0,
  unacknowledged: 0,
  sentBytes: 0,
} as const
