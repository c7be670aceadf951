/**
 * What the pair protocol needs of the data that it protects: this filer's copy of one side (plexes of the side's aggregates), and
 * the side opened for service. core/filer implements it over aggregates, the protocol's own tests over a toy.
 *
 * A copy's content is its root's image plus the log beyond the root's `covers`. Several aggregates of a side have a root each; they
 * freeze at one instant, and records are skipped by each up to its own `covers`.
 */
import type { Device } from '../env/device.ts'
import type { Journal } from '../fs/journal.ts'
import type { LogRecord } from '../nvlog/batch.ts'

/** A root on some plex; two roots are equal when all of it is. */
export interface RootFacts {
  readonly aggregate: string
  readonly cp: number
  readonly epoch: number
  readonly covers: number
  /** Names the image: equal roots, equal images. */
  readonly digest: string | number
}

export type Inspection =
  | { readonly state: 'Complete'; readonly roots: readonly RootFacts[] }
  /** Blank: no label at all. Foreign: of another pair or aggregate. Damaged: labels or roots contradict each other. */
  | { readonly state: 'Blank' | 'Foreign' | 'Damaged'; readonly message: string }

export interface CopyDevice {
  /** Names the device on both filers: `<aggregate>-<set>-<n>`. */
  readonly name: string
  readonly device: Device
}

export interface SideCopy {
  readonly devices: readonly CopyDevice[]
  /** Reads labels and roots; changes nothing. */
  inspect(): Promise<Inspection>
  /** Makes empty aggregates on blank devices (the first copy of a new side). May be repeated after a crash. */
  format(): Promise<void>
  /**
   * Before it is filled: what stands on the devices is worth nothing. Makes devices that are partly new (one was lost) all new; gives the
   * reason when they are another's and must not be touched.
   */
  prepareTarget(): Promise<string | undefined>
  /** Opens the newest root of each own plex. */
  open(): Promise<SideStore>
}

export interface StoreCp {
  /** Blocks to every attached plex, flushed. */
  write(): Promise<void>
  /** The root to plex 0 (own) or 1 (partner), flushed. */
  commitRoot(plex: 0 | 1): Promise<void>
  /** Every plex that must have the root has it: freed blocks may be used again. */
  complete(): void
}

/** How a partner's device is reached while it is attached. */
export type PartnerDevices = (name: string, blocks: number) => Device

export interface SideStore {
  /** Lowest `covers` of the side's roots; replay begins behind it. */
  readonly covers: number
  /** Epoch and CP number of the newest root. */
  readonly epoch: number
  readonly cp: number
  roots(): readonly RootFacts[]
  /** Repeats a record through the ordinary path; skipped where the aggregate's root covers it. */
  replay(record: LogRecord): Promise<void>
  /** From here on operations run, writing their records to `journal`. */
  /** `wantCp` asks for a consistency point soon, whether or not operations changed anything. */
  serve(journal: SideJournalFactory, wantCp: () => void): void
  attachPartner(devices: PartnerDevices, state: 'Current' | 'Resyncing'): Promise<void>
  detachPartner(): void
  /** Copies everything in use to the attached plex; a consistency point to both must follow. */
  resync(onProgress: (percent: number) => void): Promise<void>
  /** SOON: a consistency point would free memory or space. FULL: new operations wait for one. */
  pressure(): 'NONE' | 'SOON' | 'FULL'
  /** Synchronous and instant. */
  freeze(covers: number, epoch: number): StoreCp
  /** Stops at once; what is under way on the own devices ends before this resolves, and nothing is written after. */
  close(): Promise<void>
}

/** The journal of one aggregate of the side. */
export type SideJournalFactory = (aggregate: string) => Journal
