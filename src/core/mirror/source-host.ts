/** What a mirror's source is handed, its limits, and what it tells (source.ts). */
import type { Crc32 } from '../env/env.ts'
import type { BrokenMirror } from './broken-mirror.ts'
import type { ToDestination } from './messages.ts'
import type { Pin, SourceRecord } from './records.ts'
import type { MirrorReason } from './status.ts'

/** A pin at the source: with when it was made, in seconds of the clock, and how many blocks are in it. */
export interface SourcePin extends Pin {
  readonly seconds: number
  readonly blocks: number
}

export interface SourceHost {
  readonly crc32: Crc32
  /** Only in tests. */
  readonly broken: BrokenMirror
  now(): number
  /** Seconds of the clock. */
  seconds(): number
  /** A number that no other session has. */
  newSession(): number
  after(ms: number, task: () => void): { cancel(): void }
  send(head: ToDestination, body?: Uint8Array): void
  fence(): readonly [number, number]
  /** Unlike that of any other opening of the side. */
  readonly opening: number
  /** Logs a change of the record; resolves when it is durable on both filers, never if this filer loses the side. */
  record(change: Partial<Pick<SourceRecord, 'state' | 'generation' | 'base' | 'strict'>>): Promise<void>
  wantCp(): void
  /** Those of the mirror's history, in order. */
  pins(): readonly SourcePin[]
  unpin(image: number): void
  /** Sends what `to` has and `from` has not, then the end; asks `room` before each batch of blocks, and stops when it says no. */
  stream(from: Pin | undefined, to: Pin, room: (blocks: number) => Promise<boolean>): Promise<void>
  /** Mirrors to the same pair leave sync together; resolves when all have recorded it. */
  leaving(reason: MirrorReason, message: string): Promise<void>
  /** The volume is served, or no more: the mirror is being reversed. */
  serve(yes: boolean): void
  log(event: string, fields: Readonly<Record<string, unknown>>): void
}

export interface SourceLimits {
  readonly logFiles: number
  readonly incompleteEpochs: number
  /** What may be unacknowledged before calls wait. */
  readonly creditBytes: number
  /** Blocks of an image that may be on their way. */
  readonly blocks: number
  /** An epoch with more than this is ended early, so that a break is quick. */
  readonly epochBytes: number
  /** L3: nothing waits longer for the destination. */
  readonly patienceMs: number
}
export const SOURCE_LIMITS: SourceLimits = {
  logFiles: 16,
  incompleteEpochs: 2,
  creditBytes: 8 << 20,
  blocks: 256,
  epochBytes: 64 << 20,
  patienceMs: 5000,
}
