/** What a mirror's source is handed, its limits, and what it tells (source.ts). */
import type { Crc32 } from '../env/env.ts'
import type { BrokenMirror } from './broken-mirror.ts'
import type { ToDestination } from './messages.ts'

export type SourceState = 'Baseline' | 'OutOfSync' | 'InSync' | 'Broken'

/** Kept in the volume's properties, changed by logged operations. */
export interface SourceRecord {
  readonly id: string
  readonly role: 'Source'
  readonly state: SourceState
  readonly generation: number
}

/** A pinned image that is durable here. */
export interface Pin {
  readonly image: number
  readonly covers: number
}

export type Body<T> = T extends unknown ? Omit<T, 'mirror' | 'session'> : never

export interface SourceHost {
  readonly crc32: Crc32
  /** Only in tests. */
  readonly broken: BrokenMirror
  now(): number
  /** A number that no other session has. */
  newSession(): number
  after(ms: number, task: () => void): { cancel(): void }
  send(head: ToDestination, body?: Uint8Array): void
  fence(): readonly [number, number]
  /** Unlike that of any other opening of the side. */
  readonly opening: number
  /** Logs a change of the record; resolves when it is durable on both filers, never if this filer loses the side. */
  record(state: SourceState): Promise<void>
  wantCp(): void
  pins(): readonly Pin[]
  unpin(image: number): void
  /** Sends what `to` has and `from` has not, then the end; asks `room` before each batch of blocks, and stops when it says no. */
  stream(from: Pin | undefined, to: Pin, room: (blocks: number) => Promise<boolean>): Promise<void>
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
  logFiles: 8,
  incompleteEpochs: 2,
  creditBytes: 8 << 20,
  blocks: 256,
  epochBytes: 64 << 20,
  patienceMs: 5000,
}
export interface SourceStatus {
  readonly state: 'Baseline' | 'CatchUp' | 'Joining' | 'InSync' | 'OutOfSync' | 'Broken'
  readonly reason: string
  readonly connected: boolean
  readonly logFiles: number
  readonly logFilesMax: number
  readonly unacknowledged: number
  readonly durableImage: number
}
