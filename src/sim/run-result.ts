/** What one run of the simulator says. */
import { Violation } from './caller.ts'

export interface RunResult {
  readonly operations: number
  readonly repeated: number
  readonly refused: number
  readonly crashes: number
  /** Blocks and log records that devices lost, misdirected or let rot. */
  readonly damage: number
  readonly takeovers: number
  readonly virtualMs: number
  /** What was done at the moment of a stretch when the power failed; undefined if there was no such moment. */
  readonly struck: string | undefined
  readonly traceHash: number
  readonly failure: { readonly message: string; readonly story: string } | undefined
}

export function failureOf(error: unknown, story: string): NonNullable<RunResult['failure']> {
  const message = error instanceof Error ? error.message : String(error)
  const stack = error instanceof Error && !(error instanceof Violation) ? (error.stack ?? '') : ''
  return { message, story: [story, stack].join('\n') }
}
