/** The watchdog's thread: see watchdog.ts. */
import { writeSync } from 'node:fs'
import { workerData } from 'node:worker_threads'
import type { WatchdogInput } from './watchdog.ts'

const { rounds, everyMs, patience } = workerData as WatchdogInput
const counter = new Int32Array(rounds)
let seen = 0
let missed = 0

setInterval(() => {
  const now = Atomics.load(counter, 0)
  missed = now === seen ? missed + 1 : 0
  seen = now
  if (missed < patience) return
  // The loop that would write a log line is the one that hangs.
  const line = {
    time: new Date().toISOString(),
    level: 'error',
    event: 'event loop hangs; the process is ended',
    missed,
  }
  writeSync(2, `${JSON.stringify(line)}\n`)
  process.kill(process.pid, 'SIGKILL')
}, everyMs)
