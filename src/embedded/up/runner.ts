/**
 * One pod's process: started, started again `restartDelayMs` after it ended (unless it is held), probed, ended. It decides nothing
 * about which pods there are (kubelet.ts) and knows the API not at all; it reports through `changed`.
 */
import type { ChildProcess } from 'node:child_process'
import { get } from 'node:http'
import { end, exited, hasExited } from './processes.ts'

export interface RunnerState {
  readonly running: boolean
  readonly ready: boolean
  readonly restarts: number
  readonly startedAt: string | undefined
  readonly lastEnd: string | undefined
  readonly held: boolean
}

export interface RunnerOptions {
  readonly start: () => ChildProcess
  readonly probe: { readonly host: string; readonly port: number; readonly path: string }
  readonly changed: () => void
  readonly log: (message: string) => void
  readonly held: boolean
  readonly restartDelayMs?: number
  /** A stopped process that still answers nothing is not ready after so many probes. */
  readonly probeFailures?: number
}

const PROBE_FAST_MS = 150
const PROBE_SLOW_MS = 1000
const PROBE_TIMEOUT_MS = 1000

export class Runner {
  readonly #options: RunnerOptions
  #child: ChildProcess | undefined
  #ready = false
  #restarts = -1
  #startedAt: string | undefined
  #lastEnd: string | undefined
  #held: boolean
  #ending = false
  #timer: NodeJS.Timeout | undefined
  #failures = 0

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#held = options.held
    if (!this.#held) this.#start()
  }

  get state(): RunnerState {
    return {
      running: this.#child !== undefined,
      ready: this.#ready,
      restarts: Math.max(0, this.#restarts),
      startedAt: this.#startedAt,
      lastEnd: this.#lastEnd,
      held: this.#held,
    }
  }

  /** The process as long as it runs. */
  get child(): ChildProcess | undefined {
    return this.#child
  }

  hold(): void {
    this.#held = true
    if (this.#child === undefined) clearTimeout(this.#timer)
    this.#options.changed()
  }

  release(): void {
    if (!this.#held) return
    this.#held = false
    if (this.#child === undefined && !this.#ending) this.#start()
    this.#options.changed()
  }

  async end(graceMs: number): Promise<void> {
    this.#ending = true
    clearTimeout(this.#timer)
    if (this.#child !== undefined) await end(this.#child, graceMs)
  }

  #start(): void {
    let child: ChildProcess
    try {
      child = this.#options.start()
    } catch (error) {
      this.#options.log(`cannot be started: ${(error as Error).message}`)
      this.#startLater()
      return
    }
    this.#child = child
    this.#restarts++
    this.#startedAt = new Date().toISOString()
    this.#setReady(false)
    void exited(child).then((how) => this.#ended(how))
    this.#probeLater(PROBE_FAST_MS)
    this.#options.changed()
  }

  #ended(how: string): void {
    this.#child = undefined
    this.#lastEnd = how
    clearTimeout(this.#timer)
    this.#setReady(false)
    this.#options.changed()
    if (this.#ending) return
    this.#options.log(`ended (${how})${this.#held ? '; held, not started again' : ''}`)
    if (!this.#held) this.#startLater()
  }

  #startLater(): void {
    this.#timer = setTimeout(() => {
      if (!this.#held && !this.#ending) this.#start()
    }, this.#options.restartDelayMs ?? 1000)
  }

  #probeLater(delayMs: number): void {
    this.#timer = setTimeout(() => {
      const child = this.#child
      if (child === undefined || hasExited(child)) return
      probe(this.#options.probe).then(
        (ok) => {
          if (this.#child !== child) return
          this.#failures = ok ? 0 : this.#failures + 1
          if (ok || this.#failures >= (this.#options.probeFailures ?? 2)) this.#setReady(ok)
          this.#probeLater(this.#ready ? PROBE_SLOW_MS : PROBE_FAST_MS)
        },
        () => undefined,
      )
    }, delayMs)
  }

  #setReady(ready: boolean): void {
    if (ready === this.#ready) return
    this.#ready = ready
    this.#options.changed()
  }
}

function probe(target: { host: string; port: number; path: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ ...target, timeout: PROBE_TIMEOUT_MS, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.once('timeout', () => request.destroy())
    request.once('error', () => resolve(false))
  })
}
