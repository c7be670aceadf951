/**
 * The third voter: one record per pair, changed by compare-and-swap only (a Lease in a cluster, an object of the store in
 * embedded mode, an object with faults in the simulator). What the fields mean and who may change them: docs/high-availability.md.
 */
export interface SideRecord {
  /** Grows by one with every change of this side's record: one epoch names one configuration for ever. */
  readonly epoch: number
  /** Name of the filer that owns the side. */
  readonly owner: string
  /** Both copies are complete. */
  readonly mirrored: boolean
  /** `<filer>/<incarnation>/<attempt>` of the change, so that a filer knows its own write again. */
  readonly writer: string
}

export interface VoteRecord {
  readonly pairUid: string
  /** +1 every 10 s by a serving filer. */
  readonly beat: number
  /** By side, that is, by the filer whose home the side is. */
  readonly sides: Readonly<Record<string, SideRecord>>
}

/** The vote cannot be reached, or did not answer in time: whether a swap was applied is unknown. */
export class VoteUnreachable extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'VoteUnreachable'
  }
}

export interface Vote {
  /** A quorum read; undefined if there is no record. Throws VoteUnreachable. */
  read(): Promise<{ readonly version: string; readonly record: VoteRecord } | undefined>
  /** Applies `record` only if the version is still `version` (undefined: only if there is none). Throws VoteUnreachable: outcome unknown. */
  swap(
    version: string | undefined,
    record: VoteRecord,
  ): Promise<{ readonly applied: true; readonly version: string } | { readonly applied: false }>
}
