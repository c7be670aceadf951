/**
 * Orders about snapshots that are under way: each is asked of a filer beside the passes, and what became of it is there for the next
 * pass. It forgets nothing by itself; what the status says of a finished order is the memory that lasts.
 */
import type { SnapshotRequest } from '../api/v1alpha1/filer-config.ts'
import type { SnapshotAnswer } from './admin-client.ts'
import { outcomeKey } from './filer-volume/snapshot-request.ts'
import type { SnapshotOutcome } from './filer-volume/snapshot-request.ts'

const RETRY_MS = 1000
/** The next pass asks somebody else, or the same later. */
const PASSING = ['NotServedHere']

export class SnapshotOrders {
  readonly #ask: (key: string, filer: string, request: SnapshotRequest) => Promise<SnapshotAnswer>
  readonly #changed: (key: string) => void
  readonly #outcomes = new Map<string, Map<string, SnapshotOutcome>>()
  readonly #running = new Set<string>()

  /** `changed` is told the pair's key when there is an answer, or when it is time to ask again. */
  constructor(
    ask: (key: string, filer: string, request: SnapshotRequest) => Promise<SnapshotAnswer>,
    changed: (key: string) => void,
  ) {
    this.#ask = ask
    this.#changed = changed
  }

  /** By `outcomeKey`. */
  outcomes(key: string): ReadonlyMap<string, SnapshotOutcome> {
    return this.#outcomes.get(key) ?? new Map<string, SnapshotOutcome>()
  }

  /** Nothing happens while it is being asked already, or has been answered. */
  start(key: string, filer: string, request: SnapshotRequest): void {
    const order = outcomeKey(request.volumeId, request.requestId)
    const running = `${key} ${order}`
    const known = this.#outcomes.get(key)?.get(order)
    if (this.#running.has(running) || (known !== undefined && known.state !== 'Pending')) return
    this.#running.add(running)
    void this.#ask(key, filer, request)
      .then(
        ({ accepted, reason, message }): SnapshotOutcome => {
          if (accepted) return { state: 'Done', reason: '', message: '' }
          return { state: PASSING.includes(reason) ? 'Pending' : 'Failed', reason, message }
        },
        (error: unknown): SnapshotOutcome => ({
          state: 'Pending',
          reason: '',
          message: `filer ${filer} did not answer (${error instanceof Error ? error.message : String(error)}); asking again`,
        }),
      )
      .then(async (outcome) => {
        const outcomes = this.#outcomes.get(key) ?? new Map<string, SnapshotOutcome>()
        outcomes.set(order, outcome)
        this.#outcomes.set(key, outcomes)
        if (outcome.state === 'Pending') await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref())
        this.#running.delete(running)
        this.#changed(key)
      })
  }

  /** The order's end is in the status. */
  forget(key: string, order: string): void {
    const outcomes = this.#outcomes.get(key)
    outcomes?.delete(order)
    if (outcomes?.size === 0) this.#outcomes.delete(key)
  }

  forgetAll(key: string): void {
    this.#outcomes.delete(key)
  }
}
