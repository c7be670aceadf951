/**
 * The read lease: an owner of a mirrored side answers only while its standby has promised not to serve.
 *
 * The owner's heartbeat carries its own clock; the standby's reply echoes it. The owner counts from *sending*, the standby from
 * *granting*, which is later; so with leaseMs < grantWaitMs no clock of one filer is ever compared with the other's. Safe while neither
 * clock runs grantWaitMs / leaseMs = 1.25 times as fast as the other (H6; options.ts checks it).
 */
import type { PairTimes } from './options.ts'

/** The owner's half. */
export class Lease {
  readonly #leaseMs: number
  #until = -Infinity

  constructor({ leaseMs }: Pick<PairTimes, 'leaseMs'>) {
    this.#leaseMs = leaseMs
  }
  granted(sentAt: number): void {
    this.#until = Math.max(this.#until, sentAt + this.#leaseMs)
  }
  /** Given up: a hand-over begins, or ownership is lost. */
  drop(): void {
    this.#until = -Infinity
  }
  valid(now: number): boolean {
    return now < this.#until
  }
  get until(): number {
    return this.#until
  }
}

/** The standby's half: milliseconds still to wait before it may serve. */
export function grantWaitMs(
  times: Pick<PairTimes, 'grantWaitMs'>,
  now: number,
  startedAt: number,
  lastGrantAt: number | undefined,
): number {
  return Math.max(0, Math.max(startedAt, lastGrantAt ?? -Infinity) + times.grantWaitMs - now)
}
