/**
 * Brings blocks of a volume into memory. An operation often misses many blocks at once: those asked for in one turn of the event loop are
 * read together, neighbours on disk in one read.
 *
 * What can be guessed without waiting is tried first: the hint in a pointer, or what the volume's maps in memory say. The context of what lies there tells
 * whether it is right. If it is not, the volume's maps are asked, and the other plex. A block
 * that is freed while it is being read is of no account (`cancel`), so that its number can be used again.
 */
import { DamagedBlock, Miss } from '../fs/block-store.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { loaded } from '../fs/tree.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Place } from './numbering.ts'
import type { Pool } from './pool.ts'

/** Blocks nobody asked for that a read may take along, between two that were asked for. */
const GAP_BLOCKS = 4

interface Load {
  readonly bn: number
  readonly hint: number
  readonly kind: BlockKind
  readonly promise: Promise<void>
  readonly resolve: () => void
}

interface PlacedLoad extends Place {
  readonly load: Load
}

export interface LoadTarget {
  /** Where a block is (0: nowhere) and what it must be; with a `hint` other than 0 at a guess. Throws Miss, DamagedBlock. */
  locate(bn: number, hint: number, kind: BlockKind): Place
  /** A block is here. */
  loaded(bn: number, kind: BlockKind, content: Uint8Array, pvbn: number): void
  /** No plex can give it back. */
  unreadable(bn: number): void
}

export class VolumeLoader {
  private readonly pool: Pool
  private readonly target: LoadTarget
  private readonly underWay = new Map<number, Load>()
  private waiting: Load[] = []

  constructor(pool: Pool, target: LoadTarget) {
    this.pool = pool
    this.target = target
  }

  /** Resolves when the block was told to the target, as loaded or unreadable, or cancelled. */
  load(bn: number, hint: number, kind: BlockKind): Promise<void> {
    const known = this.underWay.get(bn)
    if (known !== undefined) return known.promise
    const { promise, resolve } = Promise.withResolvers<void>()
    const load: Load = { bn, hint, kind, promise, resolve }
    this.underWay.set(bn, load)
    this.waiting.push(load)
    if (this.waiting.length === 1) soon(() => this.start())
    return promise
  }

  cancel(bn: number): void {
    if (this.underWay.size > 0) this.underWay.delete(bn)
  }

  private start(): void {
    const loads = this.waiting
    this.waiting = []
    const placed: PlacedLoad[] = []
    for (const load of loads) {
      const place = this.guess(load)
      if (place !== undefined && this.pool.isUsable(place.pvbn)) placed.push({ ...place, load })
      else void this.find(load)
    }
    placed.sort((a, b) => a.pvbn - b.pvbn)
    for (let from = 0; from < placed.length;) {
      const group = Math.floor(placed[from]!.pvbn / GROUP_BLOCKS)
      let to = from + 1
      while (
        to < placed.length &&
        Math.floor(placed[to]!.pvbn / GROUP_BLOCKS) === group &&
        placed[to]!.pvbn - placed[to - 1]!.pvbn <= GAP_BLOCKS + 1
      ) {
        to += 1
      }
      void this.run(placed.slice(from, to))
      from = to
    }
  }

  private guess({ bn, hint, kind }: Load): Place | undefined {
    try {
      return this.target.locate(bn, hint, kind)
    } catch (error) {
      if (!(error instanceof Miss) && !(error instanceof DamagedBlock)) throw error
      return undefined
    }
  }

  /** Reads neighbours in one piece; what is not as it should be then goes its own way. */
  private async run(placed: readonly PlacedLoad[]): Promise<void> {
    const first = placed[0]!.pvbn
    const blocks = placed.at(-1)!.pvbn - first + 1
    const contents = await this.pool.io.readMany(first, blocks, placed)
    for (const [i, { load, pvbn }] of placed.entries()) {
      const content = contents[i]
      if (content === undefined) void this.find(load)
      else this.finish(load, content, pvbn)
    }
  }

  /** For certain, with repair. */
  private async find(load: Load): Promise<void> {
    let content: Uint8Array | undefined
    let pvbn = 0
    try {
      const place = await loaded(() => this.target.locate(load.bn, 0, load.kind))
      // A block freed meanwhile may have a place that is being written: nothing to find, and no damage.
      if (this.underWay.get(load.bn) === load && this.pool.isUsable(place.pvbn)) {
        pvbn = place.pvbn
        content = await this.pool.io.read(place.identity, pvbn)
      }
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
    }
    this.finish(load, content, pvbn)
  }

  private finish(load: Load, content: Uint8Array | undefined, pvbn: number): void {
    if (this.underWay.get(load.bn) === load) {
      this.underWay.delete(load.bn)
      if (content === undefined) this.target.unreadable(load.bn)
      else this.target.loaded(load.bn, load.kind, content, pvbn)
    } else if (content !== undefined) this.pool.cache.memory.giveBack(content)
    load.resolve()
  }
}

/** Runs `task` when the present turn has come to its end. */
function soon(task: () => void): void {
  void Promise.resolve().then(task)
}
