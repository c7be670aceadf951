/** When a partner is filled again: at once, unless it failed at that, or was dropped for being slow; then ever more rarely. */
import type { Clock } from '../env/env.ts'
import type { PairTimes } from './options.ts'

export class ResyncPace {
  readonly #clock: Clock
  readonly #times: Pick<PairTimes, 'resyncPauseMs' | 'resyncPauseMaxMs'>
  #failures = 0
  #notBefore = -Infinity
  #mirroredAt = -Infinity

  constructor(clock: Clock, times: Pick<PairTimes, 'resyncPauseMs' | 'resyncPauseMaxMs'>) {
    this.#clock = clock
    this.#times = times
  }

  get allowed(): boolean {
    return this.#clock.now() >= this.#notBefore
  }
  /** Both copies count from now on. */
  mirrored(): void {
    this.#mirroredAt = this.#clock.now()
  }
  /** They no longer do. A partner that was good for long begins with a clean slate. */
  left(wasSlow: boolean): void {
    if (this.#clock.now() - this.#mirroredAt > this.#times.resyncPauseMaxMs) this.#failures = 0
    if (wasSlow) this.#failures += 1
    this.#pause()
  }
  failed(): void {
    this.#failures += 1
    this.#pause()
  }

  #pause(): void {
    if (this.#failures === 0) return
    const { resyncPauseMs, resyncPauseMaxMs } = this.#times
    const pause = Math.min(resyncPauseMs * 2 ** (this.#failures - 1), resyncPauseMaxMs)
    this.#notBefore = this.#clock.now() + pause
  }
}
