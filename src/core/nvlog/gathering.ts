/**
 * When a batch of the log begins. A batch costs both filers as much as many records do, and callers that were just answered come again soon: begun
 * with the first of them, every other batch would hold a record or two, and all others would wait for two batches.
 *
 * So the next batch waits for as many records as were waiting, or had just been answered, when the last one ended: for half of a batch's time, and only
 * while that pays. If they did not come in time, the next batches begin at once, twice as many as the last time.
 */
import type { Clock } from '../env/env.ts'

const WAIT_MS_MIN = 1
const WAIT_MS_MAX = 4
const AT_ONCE_MAX = 256
/** So much is worth a batch, whatever follows. */
export const BYTES_ENOUGH = 256 << 10

export class Gathering {
  readonly #clock: Clock
  readonly #begin: () => void
  /** Records that are waited for; 0: a batch begins at once. */
  #expected = 0
  #sinceMs = 0
  #batchMs = 0
  #timer: { cancel(): void } | undefined
  /** So many batches begin at once after the next time in vain; of the last time so many are left. */
  #penalty = 1
  #atOnce = 0

  /** `begin` is called when what was waited for does not come. */
  constructor(clock: Clock, begin: () => void) {
    this.#clock = clock
    this.#begin = begin
  }

  /** A batch of `records` has ended, which took so long; `pending` wait already. */
  ended(records: number, batchMs: number, pending: number): void {
    this.stop()
    if (records + pending < 2) return
    if (this.#atOnce > 0) {
      this.#atOnce -= 1
      return
    }
    this.#expected = records + pending
    this.#batchMs = batchMs
    this.#sinceMs = this.#clock.now()
    const waitMs = Math.min(Math.max(batchMs / 2, WAIT_MS_MIN), WAIT_MS_MAX)
    this.#timer = this.#clock.after(waitMs, () => {
      this.#over(false)
      this.#begin()
    })
  }

  /** May a batch begin with what is pending? */
  enough(records: number, bytes: number): boolean {
    if (this.#expected === 0) return true
    if (records < this.#expected && bytes < BYTES_ENOUGH) return false
    this.#over(this.#clock.now() - this.#sinceMs <= this.#batchMs / 2)
    return true
  }

  stop(): void {
    this.#expected = 0
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #over(paid: boolean): void {
    this.stop()
    if (paid) this.#penalty = Math.max(1, this.#penalty - 1)
    else {
      this.#atOnce = this.#penalty
      this.#penalty = Math.min(2 * this.#penalty, AT_ONCE_MAX)
    }
  }
}
