/** Mirrors to other pairs, as the store of a side sees them (store-mirrors.ts). */
import type { Journal } from '../fs/journal.ts'
import type { LogRecord } from '../nvlog/batch.ts'
import type { VolumeOperation } from './volume-operation.ts'
import type { FilerVolume } from './volumes.ts'

export interface StoreMirroring {
  /** All records of the side come by when it is opened, those that an image has too. */
  replayed(aggregate: string, record: LogRecord): void
  /** An operation on the aggregate's volumes was applied: what the end of a mirror is may be another thing in the same turn. */
  applied(aggregate: string, operation: VolumeOperation, seq: number): void
  /** What is open is served from now on. */
  serve(): void
  /** The journal of a volume's operations. */
  journal(volume: FilerVolume, own: Journal): Journal
  /** The least number that the next consistency point may have. */
  readonly cpLeast: number
  /** Synchronously before and behind the freeze of all aggregates. */
  freezing(cp: number, covers: number): void
  frozen(): void
  /** The own copy has the root, the partner's not yet. */
  rooted(): void
  /** Complete on every copy. */
  committed(): void
  close(): void
}

export const NO_MIRRORS: StoreMirroring = {
  replayed: () => undefined,
  applied: () => undefined,
  serve: () => undefined,
  journal: (_, own) => own,
  cpLeast: 0,
  freezing: () => undefined,
  frozen: () => undefined,
  rooted: () => undefined,
  committed: () => undefined,
  close: () => undefined,
}
