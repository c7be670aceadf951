/**
 * The order of waits. A filer of one pair may need something of a filer of another pair that needs something of the first, round any ring. What keeps such rings from
 * standing still is one rule: every wait that holds something says what rank it holds, and may only be for something of a lower rank, on whichever filer that is. A cycle
 * of waits would need one that goes upwards. docs/mirroring.md says what has which rank.
 *
 * The rule is asserted where a wait begins, in production too: a new wait that breaks it ends the process in its first test.
 */
import { assert } from './assert.ts'
import type { MaybePromise } from './maybe.ts'

export const RANKS = {
  /** Own devices, own timers, the vote: they come back by themselves. */
  device: 0,
  /** The partner's plex and log: they come back, or the partner is recorded as out of date. */
  partner: 1,
  /** Log space, dirty memory, freed blocks: the own consistency point and the own group commit return them. */
  space: 2,
  /** At a mirror's destination: receive memory, appending, staging, acknowledgements. */
  destination: 3,
  /** At a mirror's source: what is not acknowledged, images on their way, pins, log files. */
  source: 4,
  /** A client's call. */
  call: 5,
} as const

export type Rank = keyof typeof RANKS

/** Who holds something of rank `holder` may wait for something of rank `awaited`. */
export function mayWait(holder: Rank, awaited: Rank): boolean {
  return RANKS[awaited] < RANKS[holder]
}

/** Declares a wait: `task` is what is awaited. What is there already is no wait, but must be allowed to be one. */
export function waiting<T>(holder: Rank, awaited: Rank, task: MaybePromise<T>): MaybePromise<T> {
  assert(mayWait(holder, awaited), `who holds ${holder} waits for ${awaited}`)
  return task
}
