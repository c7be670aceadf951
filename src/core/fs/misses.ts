/** What an operation that needs many blocks does about those that are not in memory. */
import { Miss } from './block-store.ts'

/** Blocks being loaded for operations that need many: 8 MiB. */
const BLOCKS_AT_ONCE = 2048

/**
 * Lets some operations load at a time, and the others wait before they ask for anything: loads that stand in a row hold memory, and
 * what they brought would be evicted before the last of them is in.
 */
export class LoadGate {
  private blocks = 0
  private readonly waiting: { readonly blocks: number; readonly resolve: () => void }[] = []

  isOpenFor(blocks: number): boolean {
    return this.blocks === 0 || this.blocks + blocks <= BLOCKS_AT_ONCE
  }

  /** Resolves when there is room for so many blocks; whoever waits looks again at what it needs. */
  wait(blocks: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.waiting.push({ blocks, resolve })
    // Two steps later, so behind who waits: if it needs nothing any more, it is the next one's turn.
    void promise.then().then(() => this.wake())
    return promise
  }

  async load(blocks: number, task: () => Promise<unknown>): Promise<void> {
    this.blocks += blocks
    try {
      await task()
    } finally {
      this.blocks -= blocks
      this.wake()
    }
  }

  private wake(): void {
    if (this.waiting.length > 0 && this.isOpenFor(this.waiting[0]!.blocks)) this.waiting.shift()!.resolve()
  }
}

/** Collects the misses of several independent reads, so that their loads run at once. */
export class Misses {
  private readonly misses: Miss[] = []

  /** The value, or undefined if it missed. */
  try<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof Miss)) throw error
      this.misses.push(error)
      return undefined
    }
  }

  /** Throws one Miss for all that missed, if any did; while the gate is shut one that waits for it. */
  throw(gate?: LoadGate): void {
    const { misses } = this
    const { length } = misses
    if (length === 0) return
    const load = (): Promise<unknown> => Promise.all(misses.map((miss) => miss.load()))
    if (gate === undefined) throw new Miss(async () => void (await load()))
    throw new Miss(() => (gate.isOpenFor(length) ? gate.load(length, load) : gate.wait(length)))
  }
}
