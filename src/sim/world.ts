/**
 * One simulated world: virtual time, a scheduler, chance, processes. The production core runs in it unchanged, many
 * filers in one operating-system process, and a seed repeats a whole history.
 *
 * Invariants: nothing here reads a real clock or real chance; events run one at a time, in the order of their time, and
 * in a seeded order where the times are equal; between two events every microtask has run. What is due for a killed
 * process never happens, what is due for a paused one waits.
 *
 * It does not simulate: devices (sim/device), networks (sim/network), votes.
 */
import { crc32 } from 'node:zlib'
import type { Env, LogLevel, Random, Timer } from '../core/env/env.ts'

interface Event {
  readonly at: number
  readonly tie: number
  readonly seq: number
  task: (() => void) | undefined
}

/** Small, fast, seeded chance (splitmix32). */
export class SimRandom implements Random {
  #state: number
  constructor(seed: number) {
    this.#state = seed >>> 0
  }
  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let z = this.#state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
  /** Whole number in 0 .. below-1. */
  below(below: number): number {
    return Math.floor((this.u32() / 0x100000000) * below)
  }
  between(low: number, high: number): number {
    return low + (this.u32() / 0x100000000) * (high - low)
  }
  chance(probability: number): boolean {
    return this.u32() / 0x100000000 < probability
  }
  pick<T>(list: readonly T[]): T {
    const value = list[this.below(list.length)]
    if (value === undefined) throw new Error('nothing to pick from')
    return value
  }
  fork(): SimRandom {
    return new SimRandom(this.u32())
  }
}

export interface LogLine {
  readonly at: number
  readonly process: string
  readonly level: LogLevel
  readonly event: string
  readonly fields: Readonly<Record<string, unknown>> | undefined
}

export class World {
  readonly seed: number
  readonly random: SimRandom
  /** Everything that processes logged; the tests' eyes. */
  readonly lines: LogLine[] = []
  /** Changes with everything that happens: equal seeds give equal hashes. */
  traceHash = 0
  #now = 0
  #seq = 0
  #heap: Event[] = []
  #failure: { readonly error: unknown } | undefined
  readonly #watchers: (() => void)[] = []

  constructor(seed: number) {
    this.seed = seed
    this.random = new SimRandom(seed)
  }

  /** Milliseconds since the world began; true time, which no process sees. */
  get now(): number {
    return this.#now
  }

  /** Starts a process; `rate` is how fast its monotonic clock runs (1.1 = 10 % fast). */
  process(name: string, options: { readonly rate?: number } = {}): SimProcess {
    return new SimProcess(this, name, options.rate ?? 1)
  }

  after(delayMs: number, task: () => void): Timer {
    const event: Event = {
      at: this.#now + Math.max(0, delayMs),
      tie: this.random.u32(),
      seq: this.#seq++,
      task,
    }
    this.#push(event)
    return {
      cancel: () => {
        event.task = undefined
      },
    }
  }

  /** Makes `text` part of the trace. */
  note(text: string): void {
    let hash = this.traceHash ^ 0x811c9dc5
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
    this.traceHash = hash >>> 0
  }

  /** Ends the run with `error`: for checkers, and for what a process must die of. */
  fail(error: unknown): void {
    this.#failure ??= { error }
  }

  /** `look` is called behind every event, and ends the run by throwing. */
  watch(look: () => void): void {
    this.#watchers.push(look)
  }

  /** Lets `durationMs` of virtual time pass. */
  async run(durationMs: number): Promise<void> {
    const end = this.#now + durationMs
    await settle()
    for (;;) {
      this.#check()
      const next = this.#heap[0]
      if (next === undefined || next.at > end) break
      await this.#step()
    }
    this.#now = end
  }

  /** Lets time pass until `condition` holds; throws after `limitMs` of virtual time. */
  async until(condition: () => boolean, limitMs: number, what = 'condition'): Promise<void> {
    const end = this.#now + limitMs
    await settle()
    for (;;) {
      this.#check()
      if (condition()) return
      const next = this.#heap[0]
      if (next === undefined || next.at > end)
        throw new Error(`seed ${this.seed}: ${what} not reached in ${limitMs} ms`)
      await this.#step()
    }
  }

  /** The promise's result, letting time pass as long as it takes (at most `limitMs`). */
  async wait<T>(promise: Promise<T>, limitMs = 60_000, what = 'promise'): Promise<T> {
    let settled = false
    const done = () => {
      settled = true
    }
    promise.then(done, done)
    await this.until(() => settled, limitMs, what)
    return promise
  }

  #check(): void {
    if (this.#failure === undefined) return
    const { error } = this.#failure
    this.#failure = undefined
    throw error
  }

  async #step(): Promise<void> {
    const event = this.#pop()
    this.#now = Math.max(this.#now, event.at)
    const task = event.task
    if (task === undefined) return
    event.task = undefined
    this.traceHash = Math.imul(this.traceHash ^ event.seq ^ (event.at * 1000), 0x01000193) >>> 0
    task()
    await settle()
    for (const look of this.#watchers) look()
  }

  #push(event: Event): void {
    const heap = this.#heap
    let i = heap.length
    heap.push(event)
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(event, heap[parent]!)) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = event
  }

  #pop(): Event {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length > 0) {
      let i = 0
      for (;;) {
        let child = 2 * i + 1
        if (child >= heap.length) break
        if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
        if (!before(heap[child]!, last)) break
        heap[i] = heap[child]!
        i = child
      }
      heap[i] = last
    }
    return top
  }
}

function before(a: Event, b: Event): boolean {
  if (a.at !== b.at) return a.at < b.at
  if (a.tie !== b.tie) return a.tie < b.tie
  return a.seq < b.seq
}

/** Every microtask that is due, and those that they make due, have run when this resolves. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** One filer's process: an `Env` for the core, and a switch for its fate. */
export class SimProcess {
  readonly world: World
  readonly name: string
  readonly env: Env
  readonly random: SimRandom
  /** Metric values by name and labels, as last set or added up. */
  readonly metrics = new Map<string, number>()
  #rate: number
  #alive = true
  #paused = false
  #waiting: (() => void)[] = []
  #onKill: ((silent: boolean) => void)[] = []
  /** Added to the monotonic clock so that a change of rate makes no jump. */
  #offset: number
  #wallSkewMs = 0

  constructor(world: World, name: string, rate: number) {
    this.world = world
    this.name = name
    this.#rate = rate
    this.random = world.random.fork()
    this.#offset = this.random.between(0, 1e6) - world.now * rate
    const key = (metric: string, labels: Readonly<Record<string, string>> | undefined) =>
      labels === undefined ? metric : `${metric}${JSON.stringify(labels)}`
    this.env = {
      clock: {
        now: () => world.now * this.#rate + this.#offset,
        wall: () => {
          const ms = 1_700_000_000_000 + world.now + this.#wallSkewMs
          return { seconds: Math.floor(ms / 1000), nanoseconds: Math.floor((ms % 1000) * 1e6) }
        },
        after: (delayMs, task) => world.after(delayMs / this.#rate, () => this.post(task)),
      },
      random: this.random,
      crc32: (data, seed) => crc32(data, seed),
      log: (level, event, fields) => {
        if (!this.#alive) return
        world.lines.push({ at: world.now, process: name, level, event, fields })
        world.note(`${name} ${event}`)
      },
      metrics: {
        add: (metric, value = 1, labels) => {
          const k = key(metric, labels)
          this.metrics.set(k, (this.metrics.get(k) ?? 0) + value)
        },
        set: (metric, value, labels) => {
          this.metrics.set(key(metric, labels), value)
        },
        observe: (metric, value, labels) => {
          this.metrics.set(key(metric, labels), value)
        },
      },
    }
  }

  get alive(): boolean {
    return this.#alive
  }

  /** Runs `task` in this process: now, when it is resumed, or never. For devices and networks to hand over completions. */
  post(task: () => void): void {
    if (!this.#alive) return
    if (this.#paused) this.#waiting.push(task)
    else task()
  }

  /** Crash. Streams are reset, unless `silent` (the node is gone and nobody says so). */
  kill(silent = false): void {
    if (!this.#alive) return
    this.#alive = false
    this.#waiting = []
    for (const listener of this.#onKill) listener(silent)
  }

  onKill(listener: (silent: boolean) => void): void {
    this.#onKill.push(listener)
  }

  /** Stops the process's loop (SIGSTOP, a paused VM): what falls due waits, and its clock goes on. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    const waiting = this.#waiting
    this.#waiting = []
    for (const task of waiting) this.world.after(0, () => this.post(task))
  }

  setRate(rate: number): void {
    this.#offset += this.world.now * (this.#rate - rate)
    this.#rate = rate
  }

  jumpWall(byMs: number): void {
    this.#wallSkewMs += byMs
  }
}
