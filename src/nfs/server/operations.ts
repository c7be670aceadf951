/**
 * Counts and times of operations. Calls that complete within one burst of input are counted and reported together, so that the
 * clock and the metrics cost once per burst, not once per call.
 */
import type { Labels, Metrics } from '../../core/env/env.ts'
import { STATUS_NAMES } from '../v3/constants.ts'

const MS_PER_SECOND = 1000

export class Operations {
  readonly #metrics: Metrics
  /** The same object each time, by which the metrics find a series quickest. */
  readonly #labels = new Map<string, Labels>()
  readonly #burst = new Map<string, number>()

  constructor(metrics: Metrics) {
    this.#metrics = metrics
  }

  /** A call was answered at once; `report` follows. */
  count(procedure: string): void {
    this.#burst.set(procedure, (this.#burst.get(procedure) ?? 0) + 1)
  }

  /** All calls counted since the last report took so long. */
  report(elapsedMs: number): void {
    if (this.#burst.size === 0) return
    for (const [procedure, times] of this.#burst) this.observe(procedure, elapsedMs, times)
    this.#burst.clear()
  }

  observe(procedure: string, elapsedMs: number, times = 1): void {
    this.#metrics.observe(
      'tandem_nfs_operation_duration_seconds',
      elapsedMs / MS_PER_SECOND,
      this.#labelsOf(procedure),
      times,
    )
  }

  /** Bytes of file data read or written. */
  moved(procedure: string, bytes: number): void {
    this.#metrics.add(
      procedure === 'READ' ? 'tandem_nfs_read_bytes_total' : 'tandem_nfs_written_bytes_total',
      bytes,
    )
  }

  failed(procedure: string, status: number): void {
    const key = `${procedure} ${status}`
    let labels = this.#labels.get(key)
    if (!labels) {
      labels = { procedure, status: STATUS_NAMES.get(status) ?? String(status) }
      this.#labels.set(key, labels)
    }
    this.#metrics.add('tandem_nfs_errors_total', 1, labels)
  }

  #labelsOf(procedure: string): Labels {
    let labels = this.#labels.get(procedure)
    if (!labels) this.#labels.set(procedure, (labels = { procedure }))
    return labels
  }
}
