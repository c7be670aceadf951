/** Whose turn it is to have its pods replaced: one pair at a time, so that a version that does not come up stops at the first. */
import type { UpdateTurn } from './filer-pair/observed.ts'
import type { Plan } from './runtime/actions.ts'

export class UpdateTurns {
  readonly #wake: (key: string) => void
  readonly #waiting = new Set<string>()
  #holder: string | undefined

  constructor(wake: (key: string) => void) {
    this.#wake = wake
  }

  /** A pair whose status says that it is being updated began under an earlier operator. */
  resume(keys: Iterable<string>): void {
    for (const key of keys) this.#holder ??= key
  }

  of(key: string): UpdateTurn {
    return { mine: this.#holder === key, other: this.#holder === key ? undefined : this.#holder }
  }

  /** To be told in the same turn of the event loop in which the plan was made. */
  planned(key: string, update: Plan['update']): void {
    if (update === 'Waits') this.#waiting.add(key)
    else this.#waiting.delete(key)
    if (update === 'Holds') this.#holder = key
    else if (this.#holder === key) {
      this.#holder = undefined
      for (const next of this.#waiting) this.#wake(next)
      this.#waiting.clear()
    }
  }
}
