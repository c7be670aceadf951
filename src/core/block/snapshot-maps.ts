/**
 * The active maps of a volume's snapshots: trees that share blocks with each other and with the volume's own map, which changes by copy on write.
 *
 * A block of such a tree stands at one place of it (level, first leaf) for ever. For each block that a snapshot's tree has, `counts` has the number of
 * pointers to it, from the roots of snapshots and from blocks that are counted themselves; the volume's own tree is not counted. So
 * a block that the volume's map no longer needs is free exactly if it is not counted (`store`), and a block that the last snapshot leaves is
 * free exactly if the volume's map does not have it at its place. Order of making, deleting and restoring is of no account.
 *
 * It knows no numbers of blocks of files: whoever adds a map is told of the leaves that no snapshot had before.
 */
import { Contradiction, SINGLE } from '../fs/block-store.ts'
import type { BlockStore } from '../fs/block-store.ts'
import { getU48 } from '../fs/bytes.ts'
import { decodeTreeRoot, loaded } from '../fs/tree.ts'
import type { MetaStore } from './meta-store.ts'

/** A leaf of a map, or a whole part that is not looked into. */
export interface MapStep {
  /** Undefined: leaves from the cursor to `next` are another snapshot's too, or none. */
  readonly leaf: number | undefined
  readonly next: number
}

interface Table {
  readonly level: number
  /** Leaf of the first pointer. */
  readonly first: number
  readonly pointers: readonly number[]
}

const span = (level: number): number => SINGLE.fanout ** level

export class SnapshotMaps {
  /** What the volume's own active map lives in: a block that a snapshot has is not freed. */
  readonly store: BlockStore
  private readonly meta: MetaStore
  private readonly counts = new Map<number, number>()

  constructor(meta: MetaStore) {
    this.meta = meta
    this.store = {
      format: meta.format,
      get: (bn, hint, kind) => meta.get(bn, hint, kind),
      isFresh: (bn) => meta.isFresh(bn) && !this.counts.has(bn),
      allocate: (kind, content) => meta.allocate(kind, content),
      free: (bn) => {
        if (!this.counts.has(bn)) meta.free(bn)
      },
      canAllocate: () => meta.canAllocate(),
    }
  }

  /** A snapshot has the tree at `root` from now on. `fresh` is told each leaf that no snapshot had. */
  async add(root: Uint8Array, fresh: (index: number, leaf: Uint8Array) => void): Promise<void> {
    await this.addAll(tableOf(root), fresh)
  }

  private async addAll(table: Table, fresh: (index: number, leaf: Uint8Array) => void): Promise<void> {
    for (const [i, bn] of table.pointers.entries()) {
      if (bn === 0) continue
      const count = this.counts.get(bn) ?? 0
      this.counts.set(bn, count + 1)
      if (count > 0) continue
      const first = table.first + i * span(table.level)
      if (table.level === 0) fresh(first, await this.load(bn, 0))
      else await this.addAll(await this.below(bn, table.level, first), fresh)
    }
  }

  /** A snapshot's tree is gone: frees the blocks that neither another one nor the tree at `active` has. */
  async remove(root: Uint8Array, active: Uint8Array): Promise<void> {
    await this.removeAll(tableOf(root), active)
  }

  private async removeAll(table: Table, active: Uint8Array): Promise<void> {
    for (const [i, bn] of table.pointers.entries()) {
      if (bn === 0) continue
      const count = this.counts.get(bn)
      if (count === undefined) throw new Contradiction(`block ${bn} of a snapshot's map is not counted`)
      if (count > 1) {
        this.counts.set(bn, count - 1)
        continue
      }
      const first = table.first + i * span(table.level)
      if (table.level > 0) await this.removeAll(await this.below(bn, table.level, first), active)
      this.counts.delete(bn)
      if ((await this.at(active, table.level, first)) !== bn) this.meta.free(bn)
    }
  }

  /** The first leaf of a snapshot's tree at or behind `cursor` that no other snapshot has; undefined behind the last. */
  async step(root: Uint8Array, cursor: number): Promise<MapStep | undefined> {
    let table = tableOf(root)
    for (let top = true; ; top = false) {
      const size = span(table.level)
      let slot = Math.max(0, Math.floor((cursor - table.first) / size))
      while (slot < table.pointers.length && table.pointers[slot] === 0) slot += 1
      const first = table.first + slot * size
      if (slot >= table.pointers.length) return top ? undefined : { leaf: undefined, next: first }
      const bn = table.pointers[slot]!
      if (this.counts.get(bn)! > 1) return { leaf: undefined, next: first + size }
      if (table.level === 0) return { leaf: first, next: first + 1 }
      table = await this.below(bn, table.level, first)
    }
  }

  /** The block that a tree has at a place. */
  private async at(root: Uint8Array, level: number, first: number): Promise<number | undefined> {
    let table = tableOf(root)
    while (table.level >= level) {
      const slot = Math.floor((first - table.first) / span(table.level))
      const bn = table.pointers[slot]
      if (bn === undefined || bn === 0) return undefined
      if (table.level === level) return bn
      table = await this.below(bn, table.level, table.first + slot * span(table.level))
    }
    return undefined
  }

  private async below(bn: number, level: number, first: number): Promise<Table> {
    const content = await this.load(bn, level)
    const pointers = Array.from({ length: SINGLE.fanout }, (_, i) => getU48(content, i * SINGLE.bytes))
    return { level: level - 1, first, pointers }
  }

  private async load(bn: number, level: number): Promise<Uint8Array> {
    return await loaded(() => this.meta.get(bn, 0, level === 0 ? 'meta' : 'indirect'))
  }
}

function tableOf(root: Uint8Array): Table {
  const { level, pointers } = decodeTreeRoot(SINGLE, root)
  return { level, first: 0, pointers: pointers.map(({ bn }) => bn) }
}
