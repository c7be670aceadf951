/**
 * Ends a process whose event loop does not come round: a filer that hangs answers nobody, and only its end lets it start again. (Its partner
 * has taken over long before, for want of a heartbeat.)
 *
 * A thread of its own looks whether the loop has moved. It counts its own rounds, not the clock's: a process that was stopped as a whole, or a machine that
 * was, hangs no more than its watchdog does.
 */
import { Worker } from 'node:worker_threads'

export interface WatchdogInput {
  readonly rounds: SharedArrayBuffer
  readonly everyMs: number
  readonly patience: number
}
export interface Watchdog {
  stop(): Promise<void>
}

const EVERY_MS = 500
/** Rounds of the thread without one of the loop: 10 s. */
const PATIENCE = 20

export function startWatchdog(everyMs = EVERY_MS, patience = PATIENCE): Watchdog {
  const input: WatchdogInput = { rounds: new SharedArrayBuffer(4), everyMs, patience }
  const rounds = new Int32Array(input.rounds)
  const timer = setInterval(() => Atomics.add(rounds, 0, 1), everyMs)
  timer.unref()
  const worker = new Worker(new URL('./watchdog-worker.ts', import.meta.url), {
    workerData: input,
    // Flags of the process are not a thread's.
    execArgv: [],
  })
  worker.unref()
  return {
    stop: async () => {
      clearInterval(timer)
      await worker.terminate()
    },
  }
}
