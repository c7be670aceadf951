/**
 * The environment of a real process: monotonic and wall clock, timers, the host's random numbers, zlib's CRC-32, and a
 * logger that writes one JSON object a line. Metrics come from telemetry/; without it `noMetrics` swallows them.
 */
import { randomFillSync } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { Clock, Env, Log, LogLevel, Metrics, Random, Time } from '../../core/env/env.ts'

export const nodeClock: Clock = {
  now: () => performance.now(),
  wall(): Time {
    const microseconds = Math.round((performance.timeOrigin + performance.now()) * 1000)
    const drift = Date.now() * 1000 - microseconds
    // performance.now() does not follow steps of the wall clock: beyond a second the step wins over the resolution.
    const now = Math.abs(drift) > 1_000_000 ? Date.now() * 1000 : microseconds
    const seconds = Math.floor(now / 1_000_000)
    return { seconds, nanoseconds: (now - seconds * 1_000_000) * 1000 }
  },
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs)
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Random numbers of the host, drawn in batches. */
export function nodeRandom(): Random {
  const pool = new Uint32Array(1024)
  let next = pool.length
  return {
    u32() {
      if (next === pool.length) {
        randomFillSync(pool)
        next = 0
      }
      return pool[next++]!
    },
  }
}

const LEVELS: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 }

function plain(value: unknown): unknown {
  if (value instanceof Error) {
    const code: unknown = (value as { code?: unknown }).code
    return { name: value.name, message: value.message, ...(code === undefined ? {} : { code }) }
  }
  if (typeof value === 'bigint') return Number(value)
  return value
}

/** A logger that hands each line (with its newline) to `write`; lines below `least` are dropped. `fixed` goes into every line. */
export function jsonLog(
  write: (line: string) => void,
  least: LogLevel = 'info',
  fixed: Readonly<Record<string, unknown>> = {},
): Log {
  return (level, event, fields) => {
    if (LEVELS[level] < LEVELS[least]) return
    const line: Record<string, unknown> = { time: new Date().toISOString(), level, event, ...fixed }
    for (const [key, value] of Object.entries(fields ?? {})) line[key] = plain(value)
    write(`${JSON.stringify(line)}\n`)
  }
}

export const noMetrics: Metrics = {
  add() {},
  set() {},
  observe() {},
}

export interface NodeEnvOptions {
  readonly level?: LogLevel
  readonly fields?: Readonly<Record<string, unknown>>
  readonly metrics?: Metrics
  readonly write?: (line: string) => void
}

export function nodeEnv(options: NodeEnvOptions = {}): Env {
  return {
    clock: nodeClock,
    random: nodeRandom(),
    crc32,
    log: jsonLog(options.write ?? ((line) => process.stderr.write(line)), options.level, options.fields),
    metrics: options.metrics ?? noMetrics,
  }
}
