/**
 * Brings blocks of a flexible volume into memory. An operation often misses many blocks at once: those asked for in one turn of the event loop are
 * read together, neighbours on disk in one read.
 *
 * The hint in a pointer is tried first: the context of what lies there says whether it is right. If it is not, the container map knows the place. A block
 * that is freed while it is being read is of no account (`cancel`), so that its number can be used again.
 */
import { DamagedBlock } from '../fs/block-store.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { loaded } from '../fs/tree.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Pool } from './pool.ts'

/** Blocks nobody asked for that a read may take along, between two that were asked for. */
const GAP_BLOCKS = 4

interface Load {
  readonly bn: number
  readonly kind: BlockKind
  readonly promise: Promise<void>
  readonly resolve: () => void
  pvbn: number
}

export interface LoadTarget {
  readonly index: number
  /** The place of a VVBN by the container map, 0 if it has none. Throws Miss, DamagedBlock. */
  lookup(bn: number): number
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
    const load: Load = { bn, kind, promise, resolve, pvbn: hint }
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
    const placed: Load[] = []
    for (const load of loads) {
      if (this.pool.isUsable(load.pvbn)) placed.push(load)
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

  /** Reads neighbours in one piece; what is not as it should be then goes its own way. */
  private async run(loads: readonly Load[]): Promise<void> {
    const first = loads[0]!.pvbn
    const blocks = loads.at(-1)!.pvbn - first + 1
    const identities = loads.map(({ bn, kind, pvbn }) => ({
      pvbn,
      identity: { volume: this.target.index, number: bn, kind },
    }))
    const contents = await this.pool.io.readMany(first, blocks, identities)
    for (const [i, load] of loads.entries()) {
      const content = contents[i]
      if (content === undefined) void this.find(load)
      else this.finish(load, content)
    }
  }

  /** By the container map, with repair. */
  private async find(load: Load): Promise<void> {
    let content: Uint8Array | undefined
    try {
      const pvbn = await loaded(() => this.target.lookup(load.bn))
      // A block freed meanwhile may have a place that is being written: nothing to find, and no damage.
      if (this.underWay.get(load.bn) === load && this.pool.isUsable(pvbn)) {
        load.pvbn = pvbn
        const identity = { volume: this.target.index, number: load.bn, kind: load.kind }
        content = await this.pool.io.read(identity, pvbn)
      }
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
    }
    this.finish(load, content)
  }

  private finish(load: Load, content: Uint8Array | undefined): void {
    if (this.underWay.get(load.bn) === load) {
      this.underWay.delete(load.bn)
      if (content === undefined) this.target.unreadable(load.bn)
      else this.target.loaded(load.bn, load.kind, content, load.pvbn)
    }
    load.resolve()
  }
}

/** Runs `task` when the present turn has come to its end. */
function soon(task: () => void): void {
  void Promise.resolve().then(task)
}
