/**
 * What the two ends of a mirror keep in the properties of their volumes, and the pinned images that they have of it. Changed by logged operations, so that a takeover inherits it.
 *
 * A mirror has two ends for ever; which of them is the source may change. Images of all times are in one order: who becomes the source numbers its consistency points above what it has. An image is
 * known by its number and by the generation in which it was pinned, for after a break both ends may make images of the same number.
 */
import type { Extent } from './tally.ts'

export type SourceState = 'Baseline' | 'OutOfSync' | 'InSync' | 'Reversing' | 'Broken'
export type DestinationState = 'Baseline' | 'OutOfSync' | 'InSync' | 'Breaking' | 'Broken'

/** Of the property of a volume, and of its pins: written when it is another than 1. */
export const RECORD_VERSION = 1

interface Common {
  readonly version?: number
  readonly id: string
  /** Raised whenever the mirror begins to go another way: by a break, a reverse, a resync. */
  readonly generation: number
  /** Images up to this one are of the history that both ends share, whatever their generation. */
  readonly base: number
}

export interface SourceRecord extends Common, Extent {
  readonly role: 'Source'
  /** Broken: the other end is a volume of its own. Reversing: no call changes the volume any more, the other end is about to be the source. */
  readonly state: SourceState
  /** The last record of the other end, as long as that was the source, which this volume has. */
  readonly has: number
  /** Its own log and tally as it became the source. */
  readonly from: Extent
  /** What one end alone would have is not acknowledged: clients are told to try later. */
  readonly strict: boolean
}

export interface DestinationRecord extends Common {
  readonly role: 'Destination'
  readonly state: DestinationState
  /** Epoch and incarnation of the newest source that was listened to. */
  readonly fence: readonly [number, number]
  /** Which opening of the source's side the records in the log files are of. */
  readonly opening: number
  /** Breaking, to be the source. */
  readonly reversing?: boolean
  readonly broken?: BrokenRecord
}

/** Of a destination that is a volume of its own. */
export interface BrokenRecord extends Extent {
  /** The last record of the source that it has. */
  readonly has: number
  /** Its own log and tally as it became a volume of its own: what is beyond nobody else has. */
  readonly from: Extent
  /** Seconds of the clock. */
  readonly since: number
}

export type MirrorProperties = SourceRecord | DestinationRecord

/** False: a later release wrote it, and this one would take it for what it is not. */
export const isKnown = (record: MirrorProperties): boolean => (record.version ?? 1) === RECORD_VERSION

/** An image that is pinned and durable here. */
export interface Pin {
  readonly image: number
  /** The last record of the source's side in it. */
  readonly covers: number
  readonly generation: number
  /** Of the records up to it. */
  readonly bytes: number
  /** Of the volume. */
  readonly sizeBytes: number
}

/** What pins say in the properties of their snapshot. */
export const noteOf = ({ covers, generation, bytes, sizeBytes }: Pin): string =>
  [covers, generation, bytes, sizeBytes].join(' ')

export function pinOf(image: number, note: string): Pin {
  const [covers = 0, generation = 0, bytes = 0, sizeBytes = 0] = note.split(' ').map(Number)
  return { image, covers, generation, bytes, sizeBytes }
}

/** Of the pins those that belong to the mirror's history; the others were made when it already went another way. */
export function isOfHistory({ image, generation }: Pin, record: MirrorProperties): boolean {
  return image <= record.base || generation === record.generation
}

/** The newest image that both ends have. */
export function newestCommon(
  ours: readonly Pin[],
  theirs: readonly (readonly [image: number, generation: number])[],
): Pin | undefined {
  return ours.findLast((pin) =>
    theirs.some(([image, generation]) => image === pin.image && generation === pin.generation),
  )
}

/** What an end would lose by taking over the images of the other end. */
export interface Divergence {
  readonly id: string
  /** Of the operations. */
  readonly bytes: number
  readonly sinceSeconds: number
}

/**
 * What this end has beyond the common image that the other end has not; undefined: nothing. `has`: the last record of this end that the other one repeated. `cut`: the other end lost records that
 * this end has repeated, because they were never acknowledged. The id changes with every change: a consent is to exactly what was shown.
 */
export function divergenceOf(
  record: MirrorProperties,
  now: Extent,
  common: Pin & { readonly seconds: number },
  other: { readonly has: number; readonly cut: boolean },
): Divergence | undefined {
  const broken = record.role === 'Source' ? undefined : record.broken
  const from = record.role === 'Source' ? record.from : (broken?.from ?? now)
  const own = now.last > Math.max(other.has, from.last) || (broken !== undefined && other.cut)
  if (!own) return undefined
  return {
    id: `${record.generation}-${now.last}`,
    bytes: now.bytes - (broken === undefined ? common.bytes : from.bytes),
    sinceSeconds: broken?.since ?? common.seconds,
  }
}
