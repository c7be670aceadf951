/** One end of a mirror on a side that is open here, and what it is handed. */
import type { Message } from '../mirror/messages.ts'
import type { DestinationRecord, MirrorProperties, SourceRecord } from '../mirror/records.ts'
import type { MirrorReason, MirrorStatus } from '../mirror/status.ts'
import type { AggregateStore } from './aggregate-store.ts'
import type { MirrorsContext } from './mirrors-context.ts'
import { allPins } from './mirror-pins.ts'
import type { DesiredMirror } from './served-volumes.ts'
import type { VolumeOperation } from './volume-operation.ts'
import type { FilerVolume } from './volumes.ts'

/** Where the volume is. */
export interface EndPlace {
  readonly id: string
  readonly aggregate: string
  readonly volumeId: string
}

export interface MirrorEnd extends EndPlace {
  /** Synchronously at a freeze; `covers`: the last record of the side in its image. */
  freezing(cp: number, covers: number): void
  frozen(): void
  committed(): void
  closed(): void
  /** The connection to a filer of the other pair is lost. */
  lost(peer: string): void
  status(): MirrorStatus
  /** The volume's records are those of a source, or of a volume of its own. */
  replayed(seq: number, body: Uint8Array): void
  /** The next consistency point is numbered no lower. */
  readonly cpLeast: number
}

export interface EndContext {
  readonly mirrors: MirrorsContext
  readonly side: string
  readonly store: AggregateStore
  readonly closed: boolean
  /** This opening of the side. */
  readonly opening: number
  /** The last record of its log when it was opened. */
  readonly openedAt: number
  /** The last record now, as far as it is known. */
  readonly newestSeq: number
  /** Calls are carried out. */
  readonly served: boolean
  wanted(id: string): DesiredMirror | undefined
  /** What this side has of a mirror. */
  end(id: string): MirrorEnd | undefined
  change(aggregate: string, operation: VolumeOperation & { readonly id: string }): Promise<void>
  /** Resolves at the end of the next consistency point. */
  nextCp(): Promise<void>
  /** Resolves when one is complete that freezes after now. */
  wholeCp(): Promise<void>
  /** The volume is served, or not any more, as its properties say. */
  publish(place: EndPlace): Promise<void>
  /** The other sources to the same pair leave sync, too; resolves when that is recorded. */
  leaveTogether(place: EndPlace, reason: MirrorReason, message: string): Promise<void>
}

export function volumeOf({ store }: EndContext, { aggregate, volumeId }: EndPlace): FilerVolume | undefined {
  return store.aggregates.get(aggregate)?.volume(volumeId)
}

export function recordOf(context: EndContext, place: EndPlace): MirrorProperties | undefined {
  return (volumeOf(context, place)?.properties as { mirror?: MirrorProperties } | undefined)?.mirror
}

/** The property that says how far the records of the volume go in the image of this freeze. */
export function noteExtent(
  volume: FilerVolume,
  change: Partial<SourceRecord> | Partial<DestinationRecord>,
): void {
  const { mirror } = volume.properties as unknown as { mirror: MirrorProperties }
  volume.properties = { ...volume.properties, mirror: { ...mirror, ...change } }
  volume.touch()
}

/** All pins go: the mirror is forgotten. */
export function unpinAll(volume: FilerVolume | undefined): void {
  for (const { snapshot } of allPins(volume)) volume!.snapshots.unpin(snapshot.id)
}

export const logVolumeOf = (volumeId: string): string => `${volumeId}.log`

export type Resume = Message['head'] & { readonly type: 'resume' }
