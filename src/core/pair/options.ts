/** What a pair is made with, and the deliberately broken builds that only the tests switch on. */

import type { BrokenStorage } from '../block/broken-storage.ts'
import type { BrokenMirror } from '../mirror/broken-mirror.ts'

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
  /** A standby takes a side whose record says that its copy is out of date. */
  readonly takeStale?: boolean
  /** Hello does not look whether the roots are equal. */
  readonly assumeEqualRoots?: boolean
  /** A root is written before both logs have what it covers. */
  readonly rootAhead?: boolean
  /** A filer whose mailbox was lost goes on as if it had promised nothing and missed nothing. */
  readonly trustLost?: boolean
  /** A copy whose newest root is lost is opened by the one before. */
  readonly olderRoot?: boolean
  /** Rules of the block layer that are left out. */
  readonly storage?: BrokenStorage
  /** Rules of mirrors that are left out. */
  readonly mirror?: BrokenMirror
}

/** All times of the pair protocol, in milliseconds. `checkTimes` says what must hold between them; docs/high-availability.md says why. */
export interface PairTimes {
  /** Silence after which an owner asks for ALONE, and a standby for TAKE: the owner first, so that a cut link moves nothing. */
  readonly aloneAfterMs: number
  readonly takeAfterMs: number
  /** A partner that has not answered a log or plex write for so long is dropped. */
  readonly slowAfterMs: number
  /** An owner answers for so long from sending the heartbeat that was granted last. */
  readonly leaseMs: number
  /** A filer starts to serve no sooner than this after its last grant or its start. */
  readonly grantWaitMs: number
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
  /** Automatic takeovers from an owner that turned out to live, in an hour. */
  readonly takeoversAnHour: number
}
export const DEFAULT_PAIR_TIMES: PairTimes = {
  aloneAfterMs: 300,
  takeAfterMs: 400,
  slowAfterMs: 5000,
  leaseMs: 400,
  grantWaitMs: 500,
  heartbeatMs: 100,
  tickMs: 50,
  startGraceMs: 5000,
  helloMs: 5000,
  handoverMs: 2000,
  resyncPauseMs: 5000,
  resyncPauseMaxMs: 600_000,
  voteRetryMs: 500,
  beatMs: 10_000,
  takeoversAnHour: 3,
}
/** The two clocks of a pair may run so differently without harm: one at most so many times as fast as the other (H6). */
export const CLOCK_RATIO = 1.25
/** Without another filer's beat for so many periods, that filer is taken to serve nothing. */
export const BEATS_MISSED = 2.5

/** Throws when times contradict each other: with such the protocol would be unsafe, or never come to rest. */
export function checkTimes(times: PairTimes): PairTimes {
  const must = (holds: boolean, what: string): void => {
    if (!holds) throw new Error(`times of the pair: ${what}; they are ${JSON.stringify(times)}`)
  }
  for (const [name, value] of Object.entries(times)) {
    must(Number.isFinite(value) && value > 0, `${name} must be a positive number`)
  }
  const { tickMs, heartbeatMs, aloneAfterMs, takeAfterMs, leaseMs, grantWaitMs } = times
  must(tickMs <= heartbeatMs, 'tickMs must not exceed heartbeatMs')
  must(2 * heartbeatMs + tickMs <= aloneAfterMs, 'aloneAfterMs must span two heartbeats and a tick')
  must(
    takeAfterMs >= aloneAfterMs + tickMs,
    'takeAfterMs must exceed aloneAfterMs by a tick: the owner asks first',
  )
  must(2 * heartbeatMs + tickMs <= leaseMs, 'leaseMs must span two heartbeats and a tick')
  must(
    grantWaitMs >= CLOCK_RATIO * leaseMs,
    `grantWaitMs must be ${CLOCK_RATIO} times leaseMs or more: clocks may differ`,
  )
  must(times.slowAfterMs > takeAfterMs, 'slowAfterMs must exceed takeAfterMs')
  must(times.resyncPauseMs <= times.resyncPauseMaxMs, 'resyncPauseMs must not exceed resyncPauseMaxMs')
  return times
}
