/**
 * What the pure centre is handed instead of importing it: time, chance, checksums, devices, words for people.
 * In a pod and in embedded mode `edge/` implements these on Node; in the simulator `sim/` does, so the very same
 * centre runs under a seeded scheduler. Nothing here performs I/O itself.
 */

/** Wall-clock time as NFSv3 nfstime3 has it (RFC 1813, 2.5): seconds and nanoseconds since the epoch. */
export interface Time {
  readonly seconds: number
  readonly nanoseconds: number
}

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Monotonic milliseconds, fractional, from an arbitrary start; never compared between filers. */
  now(): number
  /** Wall clock, for times that people and files see; may jump. */
  wall(): Time
  /** Runs `task` once, no sooner than `delayMs` from now. */
  after(delayMs: number, task: () => void): Timer
}

export interface Random {
  /** Uniform in 0 .. 2^32-1. */
  u32(): number
}

/** CRC-32 (IEEE 802.3) of `data`, continuing from `seed` (0 to start). */
export type Crc32 = (data: Uint8Array, seed?: number) => number

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** One line for people and machines. `event` is a fixed short text, what varies goes into `fields`. Never a secret. */
export type Log = (level: LogLevel, event: string, fields?: Readonly<Record<string, unknown>>) => void

export type Labels = Readonly<Record<string, string>>

/** Metrics by name; names carry the `tandem_` prefix and base units (see docs/metrics.md, made from telemetry/catalogue.ts). */
export interface Metrics {
  add(name: string, value?: number, labels?: Labels): void
  set(name: string, value: number, labels?: Labels): void
  /** `times` observations of the same value (1 if not given). */
  observe(name: string, value: number, labels?: Labels, times?: number): void
}

export interface Env {
  readonly clock: Clock
  readonly random: Random
  readonly crc32: Crc32
  readonly log: Log
  readonly metrics: Metrics
}
