/** Logged operations on an aggregate's volumes (records of volume 0, as JSON), and what a volume's properties hold. */
import type { Adoption } from '../conversion/in-place.ts'
import type { MirrorProperties } from '../mirror/records.ts'

export interface ExportProperties {
  readonly path: string
  readonly rules: readonly {
    readonly clients: readonly string[]
    readonly access: 'ReadWrite' | 'ReadOnly'
    readonly squash: 'None' | 'Root' | 'All'
  }[]
}

/** Name, cron, how many stay, and the seconds of the clock since when it is in force: so short because a volume's properties have little room. */
export type KeptSchedule = readonly [name: string, cron: string, keep: number, since: number]

export interface VolumeProperties {
  readonly export: ExportProperties
  /** Chance and time of the creation: replay makes the same volume. */
  readonly seed: number
  readonly seconds: number
  /** Snapshots that the serving filer makes and deletes by itself; absent: none. */
  readonly schedules?: readonly KeptSchedule[]
  /** It is the source or the destination of a mirror to another pair. */
  readonly mirror?: MirrorProperties
  /** It holds log files of a mirror: nobody sees it. */
  readonly hidden?: boolean
  /** No FilerVolume asks for it any more, but its data stays: it is not served. */
  readonly retained?: boolean
}

export type VolumeOperation =
  | {
      /** What is known of the volume's mirror. */
      readonly op: 'mirror'
      readonly id: string
      /** What changes of it; all of it, if it says the role. */
      readonly mirror: Partial<MirrorProperties>
      /** The volume goes on as this file system: the mirror was broken. */
      readonly fsid?: number
      /** The empty volume begins anew under this index, without a root directory: images of another one come. */
      readonly index?: number
      /** Its files are those of this pinned image, and its other pins go: it takes in images of the other end. */
      readonly image?: number
    }
  | { readonly op: 'unmirror'; readonly id: string }
  | {
      readonly op: 'create'
      readonly id: string
      readonly name: string
      /** Flexible if not said. */
      readonly type?: 'Traditional'
      readonly sizeBytes: number
      readonly fsid: number
      readonly index: number
      readonly properties: VolumeProperties
    }
  | {
      readonly op: 'change'
      readonly id: string
      readonly name: string
      readonly sizeBytes: number
      readonly properties: VolumeProperties
    }
  | { readonly op: 'remove'; readonly id: string }
  | {
      /** The traditional volume of another aggregate is this one's from now on, as a flexible one. */
      readonly op: 'adopt'
      readonly adoption: Adoption
      readonly properties: VolumeProperties
    }
  | {
      /** The opposite. `seconds`: of the clock, as for a restore. */
      readonly op: 'undo'
      readonly seconds: number
    }
  | {
      /** The volume's files become those of a snapshot. */
      readonly op: 'restore'
      readonly id: string
      readonly snapshot: number
      readonly requestId: string
      /** Of the clock: what floors of generations and times of change follow from. */
      readonly seconds: number
    }
