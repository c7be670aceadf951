/**
 * Keys whose objects are to be looked at. A key is worked on by one worker at a time; added meanwhile, it is worked on once more. What
 * fails comes again after a pause that doubles; `later` brings a key back at a given time.
 */
export interface QueueOptions {
  readonly workers: number
  readonly work: (key: string) => Promise<void>
  readonly onError: (key: string, error: unknown, againInMs: number) => void
  readonly backoffMinMs?: number
  readonly backoffMaxMs?: number
}

export class KeyedQueue {
  readonly #options: QueueOptions
  readonly #waiting = new Set<string>()
  readonly #working = new Set<string>()
  readonly #again = new Set<string>()
  readonly #failures = new Map<string, number>()
  readonly #timers = new Map<string, { readonly atMs: number; readonly timer: NodeJS.Timeout }>()
  readonly #idle: (() => void)[] = []
  #stopped = false

  constructor(options: QueueOptions) {
    this.#options = options
  }

  add(key: string): void {
    if (this.#stopped) return
    if (this.#working.has(key)) this.#again.add(key)
    else this.#waiting.add(key)
    this.#start()
  }

  /** The earlier of two times counts. */
  later(key: string, inMs: number): void {
    if (this.#stopped) return
    const atMs = performance.now() + inMs
    const before = this.#timers.get(key)
    if (before !== undefined && before.atMs <= atMs) return
    clearTimeout(before?.timer)
    const timer = setTimeout(() => {
      this.#timers.delete(key)
      this.add(key)
    }, inMs)
    timer.unref()
    this.#timers.set(key, { atMs, timer })
  }

  /** Resolves when nothing is waiting or being worked on; keys that come later do not count. */
  idle(): Promise<void> {
    if (this.#waiting.size + this.#working.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#waiting.clear()
    this.#again.clear()
    for (const { timer } of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
    await this.idle()
  }

  #start(): void {
    for (const key of this.#waiting) {
      if (this.#working.size >= this.#options.workers) return
      this.#waiting.delete(key)
      this.#working.add(key)
      void this.#work(key)
    }
  }

  async #work(key: string): Promise<void> {
    try {
      await this.#options.work(key)
      this.#failures.delete(key)
    } catch (error) {
      const count = this.#failures.get(key) ?? 0
      this.#failures.set(key, count + 1)
      const { backoffMinMs = 250, backoffMaxMs = 60_000 } = this.#options
      const againInMs = Math.min(backoffMinMs * 2 ** Math.min(count, 20), backoffMaxMs)
      this.#options.onError(key, error, againInMs)
      this.later(key, againInMs)
    }
    this.#working.delete(key)
    if (this.#again.delete(key)) this.#waiting.add(key)
    this.#start()
    if (this.#waiting.size + this.#working.size === 0) for (const done of this.#idle.splice(0)) done()
  }
}
