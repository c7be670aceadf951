/**
 * Fuzzing: cases of all targets in turn, in a thread of their own that is watched from here: a case that takes too long, or memory that grows beyond its bound, is a
 * finding like an exception, and each finding is told with the one command that repeats it.
 */
import { Worker } from 'node:worker_threads'
import type { FuzzInput, FuzzReport } from './worker.ts'

export interface FuzzOptions {
  readonly targets: readonly string[]
  readonly inputs: number
  readonly seed: number
  readonly seconds?: number
  readonly print: (line: string) => void
}

export interface FuzzResult {
  readonly inputs: number
  readonly findings: number
  readonly peakBytes: number
  readonly byTarget: ReadonlyMap<string, number>
}

/** A case takes milliseconds; on a loaded machine perhaps seconds. */
const HANG_MS = 60_000
/** Of the whole process. */
const MEMORY_BYTES = 1.5 * 2 ** 30
const WATCH_MS = 1000
const FINDINGS_MAX = 20
const PROGRESS_MS = 30_000

export function replayOf(target: string, seed: number): string {
  return `bin/tandem fuzz --target ${target} --seed ${seed} --inputs 1`
}

export function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { print } = options
  const byTarget = new Map<string, number>()
  const started = performance.now()
  let inputs = 0
  let findings = 0
  let peakBytes = 0
  let told = started
  let current = { target: '', seed: options.seed, since: started }
  return new Promise((resolve) => {
    let worker: Worker
    let over = false
    const end = (): void => {
      if (over) return
      over = true
      clearInterval(watch)
      void worker.terminate()
      resolve({ inputs, findings, peakBytes, byTarget })
    }
    const found = (target: string, seed: number, message: string): void => {
      findings += 1
      print(`FINDING ${target} seed ${seed}: ${message}`)
      print(`repeat it: ${replayOf(target, seed)}`)
      if (findings >= FINDINGS_MAX) end()
    }
    const isEnough = (): boolean => {
      const seconds = (performance.now() - started) / 1000
      return inputs >= options.inputs || (options.seconds !== undefined && seconds >= options.seconds)
    }
    const start = (seed: number): void => {
      const workerData: FuzzInput = { targets: options.targets, seed }
      worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData })
      current = { target: '', seed, since: performance.now() }
      worker.on('message', (report: FuzzReport) => {
        if (over) return
        if (report.kind === 'begin') {
          // All targets of a seed, so that a replay of one seed is one round.
          if (report.seed !== current.seed && isEnough()) end()
          current = { target: report.target, seed: report.seed, since: performance.now() }
        } else if (report.kind === 'done') {
          inputs += report.inputs
          byTarget.set(report.target, (byTarget.get(report.target) ?? 0) + report.inputs)
        } else found(report.target, report.seed, report.message)
      })
      worker.on('error', (error: Error) => {
        if (over) return
        found(current.target, current.seed, `the thread died: ${error.stack ?? error.message}`)
        if (isEnough()) end()
        else start(current.seed + 1)
      })
    }
    start(options.seed)
    const watch = setInterval(() => {
      const now = performance.now()
      const { rss } = process.memoryUsage()
      peakBytes = Math.max(peakBytes, rss)
      if (rss > MEMORY_BYTES) {
        found(current.target, current.seed, `the process has ${Math.round(rss / 2 ** 20)} MiB of memory`)
        end()
      } else if (now - current.since > HANG_MS) {
        found(current.target, current.seed, `no end after ${HANG_MS / 1000} s`)
        const next = current.seed + 1
        void worker.terminate()
        if (!over) start(next)
      }
      if (now - told > PROGRESS_MS) {
        told = now
        print(
          `${inputs} inputs, ${findings} findings, ${Math.round(rss / 2 ** 20)} MiB, seed ${current.seed}`,
        )
      }
    }, WATCH_MS)
  })
}
