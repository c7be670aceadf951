/** What a pair is made with, and the deliberately broken builds that only the tests switch on. */

import type { BrokenStorage } from '../block/broken-storage.ts'

/** Each leaves out one rule; the simulation must catch every one of them (checkers are tested too). */
export interface BrokenBuild {
  /** A standby serves at once, without waiting out its last grant; and an owner reads without a lease. */
  readonly noLeaseWait?: boolean
  readonly noLease?: boolean
  /** An owner drops its partner as soon as it asks for ALONE, before that is recorded. */
  readonly ackBeforeAlone?: boolean
  /** Half and blocks are reused before the partner has the root. */
  readonly freeEarly?: boolean
  /** Frames of older owners are placed. */
  readonly noFence?: boolean
  /** An undecided JOIN does not bind. */
  readonly joinLoose?: boolean
  /** A restarted owner serves alone without a new ALONE. */
  readonly restartWithoutAlone?: boolean
  /** Changes are shown before they are durable. */
  readonly showUnlogged?: boolean
  /** Rules of the block layer that are left out. */
  readonly storage?: BrokenStorage
}

export interface PairTimes {
  readonly heartbeatMs: number
  readonly tickMs: number
  /** A starting filer waits this long for its partner before it asks the vote for rights. */
  readonly startGraceMs: number
  readonly helloMs: number
  readonly handoverMs: number
  readonly resyncPauseMs: number
  readonly resyncPauseMaxMs: number
  readonly voteRetryMs: number
  readonly beatMs: number
}
export const DEFAULT_PAIR_TIMES: PairTimes = {
  heartbeatMs: 100,
  tickMs: 50,
  startGraceMs: 5000,
  helloMs: 5000,
  handoverMs: 2000,
  resyncPauseMs: 1000,
  resyncPauseMaxMs: 600_000,
  voteRetryMs: 500,
  beatMs: 10_000,
}
