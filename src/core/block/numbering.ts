/**
 * What makes a volume flexible or traditional: how its blocks are numbered, and where on the devices a number is.
 *
 * - Flexible: numbers are VVBNs of a sparse space of the volume's own. A block gets its place at the consistency point; the container map has it from
 *   then on, and pointers carry it as a hint. The owner map leads back from the place to the number.
 * - Traditional: the number (VBN) is the place, taken from the aggregate's free space when the block is allocated. The owner map, free of the number, has the
 *   generation of the block (the consistency point that wrote it); a read compares it, so that a write which a device lost on a place that held an
 *   older block of the same number is found.
 *
 * A number that was freed is not handed out before the image without it is on all plexes. It knows nothing of buffers (Volume).
 */
import { DUAL, SINGLE } from '../fs/block-store.ts'
import type { BlockKind, PointerFormat } from '../fs/block-store.ts'
import { getU48 } from '../fs/bytes.ts'
import { newTreeRoot, Tree } from '../fs/tree.ts'
import type { Identity } from './context.ts'
import { OWNER_FANOUT, ownerIn } from './leaf-editor.ts'
import { NumberMap } from './number-map.ts'
import type { Pool } from './pool.ts'
import type { VolumeEntry, VolumeType } from './volume-table.ts'

/** VVBNs in a leaf of the container map. */
export const CONTAINER_FANOUT = SINGLE.fanout
export const CONTAINER_ENTRY_BYTES = 6

/** Where a block lies, and what must be there. */
export interface Place {
  readonly pvbn: number
  readonly identity: Identity
}

export interface Numbering {
  readonly type: VolumeType
  readonly format: PointerFormat
  /** Blocks that the volume's files may have. */
  readonly quotaBlocks: number
  /** The container map and its root; undefined where a number is a place. Only consistency points change it. */
  readonly container: { readonly root: Uint8Array; readonly tree: Tree } | undefined
  /** For the volume table: the next number to try. */
  readonly cursor: number
  resize(quotaBlocks: number): void
  /** Takes over leaf `index` of the volume's active map, at opening. */
  load(index: number, leaf: Uint8Array): void
  /** The numbers of a leaf are taken, too, because snapshots have them; at opening, behind `load`. */
  hold(index: number, leaf: Uint8Array): void
  take(): number
  /** Neither files nor a snapshot have the number. Only where numbers are not places. */
  isFree(bn: number): boolean
  /** Takes a number that somebody else chose; false if it is in use, by files or by a snapshot. Only where numbers are not places. */
  claim(bn: number): boolean
  /** The place of a number just taken; 0 if the consistency point gives it one. */
  placeOfNew(bn: number): number
  /** The fresh block with this number was freed. */
  release(bn: number): void
  /** The image without this number, which was not fresh when it was freed, is on all plexes; its place is given back beside. */
  returned(bn: number): void
  /** The PVBN of a number that is not fresh; 0 if it has none. Throws Miss, DamagedBlock. */
  lookup(bn: number): number
  /** Like `lookup`, with what must be there. A `hint` other than 0 is a guess that saves the look into the container map. */
  locate(bn: number, hint: number, kind: BlockKind): Place
  /** What the owner map has for a block, beside the index of the volume, when consistency point `cp` writes it. */
  owned(bn: number, cp: number): number
}

export class FlexibleNumbering implements Numbering {
  readonly type = 'Flexible'
  readonly format = DUAL
  readonly container: { readonly root: Uint8Array; readonly tree: Tree }
  quotaBlocks: number
  private readonly pool: Pool
  private readonly index: number
  private readonly numbers: NumberMap

  constructor(pool: Pool, entry: VolumeEntry) {
    this.index = entry.index
    this.quotaBlocks = entry.quotaBlocks
    const root = entry.container ?? newTreeRoot(SINGLE)
    this.container = { root, tree: new Tree(pool.meta, root, 'meta') }
    this.pool = pool
    const converted = pool.old?.record.volume === entry.index && pool.io.broken.oldNumbersReused !== true
    this.numbers = new NumberMap(entry.quotaBlocks, entry.nextNumber, converted ? pool.old.total : 1)
  }

  get cursor(): number {
    return this.numbers.cursor
  }

  resize(quotaBlocks: number): void {
    this.quotaBlocks = quotaBlocks
    this.numbers.resize(quotaBlocks)
  }

  load(index: number, leaf: Uint8Array): void {
    this.numbers.load(index, leaf)
  }

  hold(index: number, leaf: Uint8Array): void {
    this.numbers.merge(index, leaf)
  }

  take(): number {
    return this.numbers.take()
  }

  isFree(bn: number): boolean {
    return !this.numbers.isTaken(bn)
  }

  claim(bn: number): boolean {
    return this.numbers.claim(bn)
  }

  placeOfNew(): number {
    return 0
  }

  release(bn: number): void {
    this.numbers.release(bn)
  }

  returned(bn: number): void {
    this.numbers.release(bn)
  }

  lookup(bn: number): number {
    const { old } = this.pool
    if (old?.isOld(this.index, bn) === true) return old.record.first + bn
    const leaf = this.container.tree.get(Math.floor(bn / CONTAINER_FANOUT))
    return leaf === undefined ? 0 : getU48(leaf, (bn % CONTAINER_FANOUT) * CONTAINER_ENTRY_BYTES)
  }

  locate(bn: number, hint: number, kind: BlockKind): Place {
    const { old } = this.pool
    if (old?.isOld(this.index, bn) === true) return old.place(bn, kind)
    return { pvbn: hint || this.lookup(bn), identity: { volume: this.index, number: bn, kind } }
  }

  owned(bn: number): number {
    return bn
  }
}

export class TraditionalNumbering implements Numbering {
  readonly type = 'Traditional'
  readonly format = SINGLE
  readonly container = undefined
  readonly cursor = 0
  private readonly pool: Pool
  private readonly index: number

  constructor(pool: Pool, entry: VolumeEntry) {
    this.pool = pool
    this.index = entry.index
  }

  get quotaBlocks(): number {
    return this.pool.capacityBlocks
  }

  /** Its size is that of its devices, whatever is asked for. */
  resize(): void {}

  /** The aggregate's map of free space has all of its numbers. */
  load(): void {}

  hold(): void {}

  take(): number {
    return this.pool.space.take()
  }

  isFree(): boolean {
    return false
  }

  claim(): boolean {
    return false
  }

  placeOfNew(bn: number): number {
    return bn
  }

  release(bn: number): void {
    this.pool.space.release(bn)
  }

  returned(): void {}

  lookup(bn: number): number {
    return bn
  }

  locate(bn: number, _hint: number, kind: BlockKind): Place {
    const leaf = this.pool.ownerMap.get(Math.floor(bn / OWNER_FANOUT))
    const generation = leaf === undefined ? undefined : ownerIn(leaf, bn, this.type).generation
    return { pvbn: bn, identity: { volume: this.index, number: bn, kind, generation: generation ?? 0 } }
  }

  owned(_bn: number, cp: number): number {
    return cp
  }
}

export function numberingOf(pool: Pool, entry: VolumeEntry): Numbering {
  return entry.type === 'Flexible'
    ? new FlexibleNumbering(pool, entry)
    : new TraditionalNumbering(pool, entry)
}
