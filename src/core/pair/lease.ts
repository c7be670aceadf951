/**
 * The read lease: an owner of a mirrored side answers only while its standby has promised not to serve.
 *
 * The owner's heartbeat carries its own clock; the standby's reply echoes it. The owner counts from *sending*, the standby from
 * *granting*, which is later; so with LEASE < WAIT no clock of one filer is ever compared with the other's. Safe while neither clock
 * runs WAIT / LEASE = 1.25 times as fast as the other (H6).
 */
export const LEASE_MS = 400
/** A filer starts to serve (unless by hello, where the other has stopped) no sooner than this after its last grant or its start. */
export const GRANT_WAIT_MS = 500

/** The owner's half. */
export class Lease {
  #until = -Infinity

  granted(sentAt: number): void {
    this.#until = Math.max(this.#until, sentAt + LEASE_MS)
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
export function grantWaitMs(now: number, startedAt: number, lastGrantAt: number | undefined): number {
  return Math.max(0, Math.max(startedAt, lastGrantAt ?? -Infinity) + GRANT_WAIT_MS - now)
}
