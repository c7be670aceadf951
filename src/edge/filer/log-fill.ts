/**
 * Fills the holes of a new log file with zeros, behind what is written anyway: a batch that goes into a hole makes the host's file system allocate
 * and journal, and takes a multiple of the time.
 *
 * Zeros go only where nothing was written yet, as holes read: a range shrinks before a write into it is begun, and a write that meets zeros
 * under way waits for them. While batches come to any log of the filer, only what the log will need soon is filled quickly, and even then half of the time is
 * left to it. A file that was closed before the end keeps its holes, which cost time and nothing else.
 */
import fs from 'node:fs'

const STEP_BYTES = 1 << 20
const PAUSE_MS_MIN = 1
/** Of the time that a step took. */
const PAUSE = 1
const PAUSE_IN_USE = 30
/** So far ahead of the log is soon. */
const NEAR_BYTES = 64 << 20

/** Batches of all logs on the same disk. */
export class LogUse {
  batches = 0
}

/** From `at` up to `end`, in bytes. */
export interface Hole {
  at: number
  readonly end: number
}

export class LogFill {
  readonly #fd: number
  readonly #holes: Hole[]
  readonly #use: LogUse
  readonly #zeros = Buffer.alloc(STEP_BYTES)
  /** Where the last batch ended, and how many there were at the last step. */
  #end = 0
  #seen = 0
  #step: { at: number; end: number; over: Promise<void> } | undefined
  #timer: NodeJS.Timeout | undefined
  #stopped = false
  readonly #done = Promise.withResolvers<void>()

  /** Takes over `fd`, and closes it. */
  constructor(fd: number, holes: readonly Hole[], use: LogUse) {
    this.#fd = fd
    this.#use = use
    this.#holes = holes.filter(({ at, end }) => at < end)
    this.#next(0)
  }

  /** Resolves when there are no holes any more, or it was stopped. */
  get done(): Promise<void> {
    return this.#done.promise
  }

  /** Before bytes from `at` up to `end` are written: a promise if zeros are under way there. */
  before(at: number, end: number): Promise<void> | undefined {
    this.#use.batches += 1
    this.#end = end
    for (const hole of this.#holes) if (at < hole.end && end > hole.at) hole.at = end
    const step = this.#step
    return step !== undefined && at < step.end && end > step.at ? step.over : undefined
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#step?.over
    fs.closeSync(this.#fd)
    this.#done.resolve()
  }

  /** The log comes to this hole soon. */
  #isNear({ at }: Hole): boolean {
    return at >= this.#end && at - this.#end < NEAR_BYTES
  }

  #next(pauseMs: number): void {
    this.#timer = setTimeout(() => this.#fill(), pauseMs)
    this.#timer.unref()
  }

  #fill(): void {
    const left = this.#holes.filter(({ at, end }) => at < end)
    const hole = left.find((candidate) => this.#isNear(candidate)) ?? left[0]
    if (hole === undefined) return void this.stop()
    const near = this.#isNear(hole)
    const { at } = hole
    const bytes = Math.min(STEP_BYTES, hole.end - at)
    hole.at = at + bytes
    const began = performance.now()
    const over = new Promise<void>((resolve) => {
      // Written out step by step: else the host would do it all at once, while a batch waits.
      fs.write(this.#fd, this.#zeros, 0, bytes, at, (error) => {
        // The volume is full or broken: whoever writes into the hole will say so.
        if (error !== null) this.#holes.length = 0
        fs.fdatasync(this.#fd, () => resolve())
      })
    })
    this.#step = { at, end: at + bytes, over }
    void over.then(() => {
      this.#step = undefined
      if (this.#stopped) return
      const inUse = this.#use.batches > this.#seen
      this.#seen = this.#use.batches
      const pause = inUse && !near ? PAUSE_IN_USE : PAUSE
      this.#next(Math.max(PAUSE_MS_MIN, pause * (performance.now() - began)))
    })
  }
}
