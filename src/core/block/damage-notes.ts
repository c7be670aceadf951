/**
 * Numbers of blocks that no plex could give back, for whoever waited for them: the load of a block cannot fail, so the next look at it is told.
 *
 * A note holds for the turn in which it is first taken, since one operation may ask for the block several times (many inodes in one block) and must get the same
 * answer, or it would never end; and it grows old: afterwards the block is read again, because it may have been repaired meanwhile. A number that is allocated or
 * freed has no note, since it names another block from then on.
 */
import type { Clock } from '../env/env.ts'

/** Longer than an operation waits for the other blocks that it missed together with this one. */
const VALID_MS = 10_000

export class DamageNotes {
  private readonly clock: Clock
  private readonly notedAt = new Map<number, number>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  note(bn: number): void {
    this.notedAt.set(bn, this.clock.now())
  }

  forget(bn: number): void {
    if (this.notedAt.size > 0) this.notedAt.delete(bn)
  }

  /** True if the block was found damaged just now; a question in a later turn reads it again. */
  take(bn: number): boolean {
    const at = this.notedAt.size > 0 ? this.notedAt.get(bn) : undefined
    if (at === undefined) return false
    void Promise.resolve().then(() => {
      if (this.notedAt.get(bn) === at) this.notedAt.delete(bn)
    })
    return this.clock.now() - at < VALID_MS
  }
}
