/**
 * Where a volume's operations become durable: the contract between the file layer, which writes one record for each change, and
 * the log of the side (core/nvlog, core/pair), which keeps the records on both filers.
 *
 * An operation calls `admit` before it starts, `append` once in its modify phase, together with its change in memory (so no
 * freeze comes between the two), and `answer` before its caller sees anything. A record repeats the operation exactly when it is replayed over
 * the image that precedes it: everything that was decided (inode number, generation, times, cookie, reply) is in it, or follows from the image.
 */
import type { MaybePromise } from '../std/maybe.ts'

/** What `admit` rejects with when a change cannot begin now, and nothing was changed: the caller tries again later (JUKEBOX). */
export class TryLater {}

export interface Journal {
  /** Before an operation starts: waits while the log has no room for a record of `bytes`. */
  admit(bytes: number): MaybePromise<void>
  /** Modify phase; never fails. Returns the record's sequence number, dense per side. The chunks are copied before it returns. */
  append(volume: number, record: readonly Uint8Array[]): number
  /**
   * Resolves when everything up to `seq` may be shown to a client: durable as the pair's policy asks, and this filer may answer.
   * Reads call it with the seq of the last change of what they show; 0 asks only whether this filer may answer.
   */
  answer(seq: number): MaybePromise<void>
}

/** Largest record besides the data of a WRITE, in bytes: names, a link's path, a kept reply and the fields around them. */
export const RECORD_BYTES_MAX = 4096
