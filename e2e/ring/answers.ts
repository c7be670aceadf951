/** The times between answers to a client that always waits for some. */
export class Answers {
  longestMs = 0
  #last: number | undefined
  readonly #gaps: number[] = []

  reset(): void {
    this.longestMs = 0
    this.#gaps.length = 0
    this.#last = performance.now()
  }

  heard(nowMs: number): void {
    this.end(nowMs)
  }

  /** The time that runs counts too. */
  end(nowMs: number): void {
    if (this.#last !== undefined) this.#gaps.push(nowMs - this.#last)
    this.#last = nowMs
    this.longestMs = Math.max(this.longestMs, this.#gaps.at(-1) ?? 0)
  }

  longerThan(ms: number): number {
    return this.#gaps.filter((gap) => gap > ms).length
  }
}
