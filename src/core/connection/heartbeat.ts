/**
 * The heartbeats of one driver: which await their answer, how long answers take, and whether that is too long compared with the
 * other drivers (a grey failure). A round trip behind a queue of our own data says nothing about the network, so what the
 * driver has carried meanwhile is allowed for.
 */

/** Heartbeats whose answer is awaited, at most; more than fit in any tolerated silence. */
const AWAITED_MAX = 64
/** Weight of a new measurement. */
const WEIGHT = 0.3
/** What any network that is worth having carries in a millisecond. */
const CARRIED_PER_MS = 50_000
/** A driver is demoted after so many ticks in a row, */
const DEMOTE_TICKS = 10
/** and trusted again after so many: one that fails under load only would else be tried again at once. */
const TRUST_TICKS = 100

export class Heartbeats {
  roundTripMs = 0
  /** Of the round trip, what the load does not explain. */
  unexplainedMs = 0
  /** What we say of this driver, by comparison with the others; */
  measuredSlow = false
  /** what the partner says of it. */
  peerSlow = false
  /** The manager has acted upon `slow`. */
  demoted = false
  #ticks = 0
  #seq = 0
  #awaited = new Map<number, { readonly sentMs: number; readonly carried: number }>()
  #carriedBefore = 0

  get slow(): boolean {
    return this.measuredSlow || this.peerSlow
  }

  /** The number of the next heartbeat. `carried`: bytes in both directions so far. */
  next(nowMs: number, carried: number): number {
    this.#seq++
    this.#awaited.set(this.#seq, { sentMs: nowMs, carried: this.#carriedBefore })
    this.#carriedBefore = carried
    if (this.#awaited.size > AWAITED_MAX) this.#awaited.delete(this.#seq - AWAITED_MAX)
    return this.#seq
  }

  answered(seq: number, nowMs: number, carried: number): void {
    const sent = this.#awaited.get(seq)
    if (sent === undefined) return
    this.#awaited.delete(seq)
    const tripMs = nowMs - sent.sentMs
    const unexplainedMs = Math.max(0, tripMs - (carried - sent.carried) / CARRIED_PER_MS)
    const first = this.roundTripMs === 0
    this.roundTripMs = first ? tripMs : mix(this.roundTripMs, tripMs)
    this.unexplainedMs = first ? unexplainedMs : mix(this.unexplainedMs, unexplainedMs)
  }

  /** One tick's verdict. */
  judge(slow: boolean): void {
    if (slow === this.measuredSlow) this.#ticks = 0
    else if (++this.#ticks >= (slow ? DEMOTE_TICKS : TRUST_TICKS)) {
      this.measuredSlow = slow
      this.#ticks = 0
    }
  }

  reset(carried: number): void {
    this.#awaited.clear()
    this.#carriedBefore = carried
    this.#ticks = 0
    this.measuredSlow = false
    this.peerSlow = false
    this.demoted = false
    this.roundTripMs = 0
    this.unexplainedMs = 0
  }
}

function mix(before: number, now: number): number {
  return before * (1 - WEIGHT) + now * WEIGHT
}
