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

/** Of the consistency points that all aggregates have in their images the newest; 0 without aggregates. */
export function oldestCp(roots: readonly RootFacts[]): number {
  return roots.length === 0 ? 0 : Math.min(...roots.map((root) => root.cp))
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

/** What a filer has for one aggregate of a side, as it tells the other. */
export interface AggregateOffer {
  readonly name: string
  readonly devices: readonly DeviceSize[]
  /**
   * Blank: no labels. Empty: made by this pair, and nothing was ever in it. Image: whole, named by `digest`. Other: not to be touched,
   * `message` says why.
   */
  readonly content: 'Blank' | 'Empty' | 'Image' | 'Other'
  readonly digest: string
  readonly message: string
}
export interface DeviceSize {
  readonly name: string
  readonly blocks: number
}

export interface SideCopy {
  /** All that are configured, whether or not they belong to an image. */
  readonly devices: readonly CopyDevice[]
  /** Names of the aggregates that are configured. */
  readonly aggregates: readonly string[]
  /**
   * Reads labels and roots; changes nothing. `known`: aggregates that the side has; a blank one among them was lost, others are no part of the
   * copy. Without it those that have labels count.
   */
  inspect(known?: readonly string[]): Promise<Inspection>
  /** What there is for each configured aggregate; of those that the side has (`known`) the devices only, and nothing is read. */
  offer(known?: readonly string[]): Promise<readonly AggregateOffer[]>
  /** Makes empty aggregates on blank devices (the first copy of a new side). May be repeated after a crash. */
  format(): Promise<void>
  /**
   * Before it is filled: what stands on the devices is worth nothing. Makes devices that are partly new (one was lost) all new; gives the
   * reason when they are another's and must not be touched. `damaged`: the copy could not be
   * used as it was, so nothing of it is kept. `known` as for `inspect`; the devices of other aggregates are left alone.
   */
  prepareTarget(damaged: boolean, known?: readonly string[]): Promise<string | undefined>
  /** Opens the newest root of each own plex, of `known` aggregates as for `inspect`. */
  open(known?: readonly string[]): Promise<SideStore>
}

export interface StoreCp {
  /** Blocks to every attached plex, flushed. */
  write(): Promise<void>
  /** The root to plex 0 (own) or 1 (partner), flushed. */
  commitRoot(plex: 0 | 1): Promise<void>
  /** Every plex that must have the root has it: freed blocks may be used again. */
  complete(): Promise<void>
}

/** How a partner's device is reached while it is attached; undefined if the partner does not have it. `blocks`: if it does not say its size. */
export type PartnerDevices = (name: string, blocks: number) => Device | undefined

/** Thrown by `attachPartner`: what was opened is not the image that its root names, and the partner has that one. */
export class OlderCopy extends Error {}

export interface SideStore {
  readonly growth: SideGrowth
  /** Lowest `covers` of the side's roots; replay begins behind it. */
  readonly covers: number
  /** Epoch and CP number of the newest root. */
  readonly epoch: number
  readonly cp: number
  /** Of the aggregates that the side has. */
  roots(): readonly RootFacts[]
  /**
   * Repeats a record through the ordinary path; skipped where the aggregate's root covers it, or when the aggregate has left the side. Gives the reason
   * when it is of an aggregate that the side has and that is not here: then the copy cannot be used.
   */
  replay(record: LogRecord): Promise<string | undefined>
  /** Acknowledged changes are missing: what clients keep to send again must be sent again (write verifiers change), from the next image on for good. */
  lossAccepted(epoch: number): void
  /** From here on operations run, writing their records to `journal`. */
  /** `wantCp` asks for a consistency point soon, whether or not operations changed anything. */
  serve(journal: SideJournalFactory, wantCp: () => void): void
  /** Gives the reason when the partner's devices are not those of the image; then nothing is attached. Throws OlderCopy. */
  attachPartner(devices: PartnerDevices, state: 'Current' | 'Resyncing'): Promise<string | undefined>
  /**
   * Aggregates in which nothing is and of which the other filer has no device, for it is configured without them: from now on nothing is put into
   * them. They are the side's until `left`, before which the own mailbox no longer names them.
   */
  leaving(isOffered: (device: string) => boolean): readonly string[]
  left(names: readonly string[]): void
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

/** How a side gets devices and aggregates that are configured and not in its image yet, while it is served and mirrored. */
export interface SideGrowth {
  /** There are such. */
  readonly waits: boolean
  /**
   * Prepares what the partner offers as well; true if the next consistency point is to take something in. What cannot join keeps waiting, and the
   * reason is kept for status.
   */
  prepare(offers: readonly AggregateOffer[], devices: PartnerDevices): Promise<boolean>
  /** Why nothing can join just now. */
  refused(reason: string): void
  /** New aggregates that a consistency point made equal on both copies; the side does not have them before `admit`. */
  readonly joined: readonly string[]
  /** The side has them from now on; nothing is logged about them before `durable` resolves. */
  admit(names: readonly string[], durable: Promise<void>): void
}

/** The journal of one aggregate of the side. */
export type SideJournalFactory = (aggregate: string) => Journal
