/**
 * A volume as the file layer's `BlockStore`, flexible or traditional: these differ in how blocks are numbered and found (numbering.ts), and in nothing else.
 *
 * States of a buffer here: *fresh* (allocated since the last freeze, changeable) → *frozen* (in the image being written,
 * immutable) → *clean* (written, may be dropped). Freeing a fresh block gives everything back at once; freeing any other notes it for
 * the next consistency point, and its number and place are reusable when that is complete.
 *
 * It knows nothing of files. `content` is whatever lives in it (the file layer's FileSystem), made by a factory that the opener passes.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { DamagedBlock, Miss, SINGLE } from '../fs/block-store.ts'
import type { BlockKind, BlockStore, PointerFormat, Resolved } from '../fs/block-store.ts'
import { newTreeRoot, Tree } from '../fs/tree.ts'
import { assert } from '../std/assert.ts'
import { AbsentLoader, keyOfAbsent } from './absent-loader.ts'
import { BlockBuffer, CLEAN, DIRTY, GONE, NEVER } from './buffer-cache.ts'
import type { Json } from './codec.ts'
import { DamageNotes } from './damage-notes.ts'
import { numberingOf } from './numbering.ts'
import type { Numbering, Place } from './numbering.ts'
import type { Pool } from './pool.ts'
import { VolumeLoader } from './volume-loader.ts'
import type { LoadTarget } from './volume-loader.ts'
import { VolumeSnapshots } from './volume-snapshots.ts'
import type { FrozenSnapshots, Snapshot } from './volume-snapshots.ts'
import type { VolumeEntry, VolumeType } from './volume-table.ts'

export interface VolumeContent {
  /** The file layer's root of the image as it is now. Called once per consistency point, at the freeze; it may still allocate. */
  freeze(): Uint8Array
  /** It holds what it held when `freeze` gave this root, from `seconds` of the clock on: blocks made or freed since are of no account. Synchronous. */
  restored(root: Uint8Array, seconds: number): void
}

export type BareEntry = Omit<VolumeEntry, 'active' | 'container' | 'snapshots'>

/** What one consistency point writes of a volume. */
export interface FrozenVolume {
  /** With some, perhaps, that were freed while they were fresh (epoch NEVER). */
  readonly blocks: readonly BlockBuffer[]
  /** Without those. */
  readonly count: number
  /** Number and PVBN (0 if not known) by turns. */
  readonly freed: number[]
  /** Old blocks of a converted volume that came into its maps. */
  readonly marked: readonly number[]
  /** How many of these a snapshot holds, as far as is known: they do not come back. May be too high, never too low. */
  readonly kept: number
  readonly snapshots: FrozenSnapshots
  /** What the volume table says of it, tree roots apart. */
  readonly entry: BareEntry
}

export class Volume<C extends VolumeContent = VolumeContent> implements BlockStore, LoadTarget {
  readonly type: VolumeType
  readonly format: PointerFormat
  readonly index: number
  readonly id: string
  name: string
  fsid: number
  properties: Json
  content!: C
  /** Only the consistency point changes it. */
  readonly activeRoot: Uint8Array
  readonly active: Tree
  readonly numbers: Numbering
  readonly snapshots: VolumeSnapshots
  private readonly pool: Pool
  private readonly buffers = new Map<number, BlockBuffer>()
  private readonly loader: VolumeLoader
  private readonly absentLoader: AbsentLoader
  private readonly damaged: DamageNotes
  private fresh: BlockBuffer[] = []
  private epoch = 1
  private freed: number[] = []
  private marked: number[] = []
  private lastRoot: Uint8Array
  /** VVBNs in use in the last image. */
  private lastUsed: number
  private touched = false
  /** Numbers in use by the active file system, fresh ones included, freed ones not. */
  used: number
  freshBlocks = 0
  /** Blocks that files, directories and links got since the volume was opened. */
  contentBlocks = 0
  /** In the volume table on disk, or in the image being written. */
  persistent: boolean
  removed = false

  constructor(pool: Pool, entry: VolumeEntry, persistent: boolean) {
    this.pool = pool
    this.index = entry.index
    this.id = entry.id
    this.name = entry.name
    this.fsid = entry.fsid
    this.properties = entry.properties
    this.used = entry.used
    this.persistent = persistent
    this.lastRoot = entry.contentRoot
    this.lastUsed = entry.used
    this.activeRoot = entry.active ?? newTreeRoot(SINGLE)
    this.snapshots = new VolumeSnapshots(this, pool.meta, entry)
    this.active = new Tree(this.snapshots.maps.store, this.activeRoot, 'meta')
    this.numbers = numberingOf(pool, entry)
    this.type = this.numbers.type
    this.format = this.numbers.format
    this.loader = new VolumeLoader(pool, this)
    this.absentLoader = new AbsentLoader(pool, this)
    this.damaged = new DamageNotes(pool.io.env.clock)
  }

  /** Of a traditional volume what its devices hold for files. */
  get sizeBytes(): number {
    return this.numbers.quotaBlocks * BLOCK_BYTES
  }

  /** Undefined in a traditional volume. */
  get container(): Tree | undefined {
    return this.numbers.container?.tree
  }

  get(bn: number, hint: number, kind: BlockKind): Uint8Array {
    const buffer = this.buffers.get(bn)
    if (buffer !== undefined) {
      buffer.used = true
      return buffer.content
    }
    if (this.damaged.take(bn)) throw new DamagedBlock(bn)
    throw new Miss(() => this.loader.load(bn, hint, kind))
  }

  absent(code: number, kind: BlockKind): Resolved {
    const key = keyOfAbsent(code)
    const buffer = this.buffers.get(key)
    if (buffer !== undefined) {
      buffer.used = true
      return buffer
    }
    if (this.damaged.take(key)) throw new DamagedBlock(key)
    throw new Miss(() => this.absentLoader.load(code, kind))
  }

  resolved(code: number, kind: BlockKind, { content, gain }: Resolved): void {
    const key = keyOfAbsent(code)
    if (this.buffers.has(key)) return
    const buffer = new BlockBuffer(this.buffers, this.index, key, kind, content, CLEAN, 0)
    buffer.gain = gain
    this.buffers.set(key, buffer)
    this.pool.cache.keep(buffer)
  }

  /** An old block that a file still has is in the volume's maps from the next consistency point on; false if it was already. */
  mark(bn: number): boolean {
    const { old } = this.pool
    if (old?.isOld(this.index, bn) !== true || !this.numbers.claim(bn)) return false
    this.marked.push(bn)
    this.used += 1
    old.pending = Math.max(0, old.pending - 1)
    this.pool.dirtied(this, 0)
    return true
  }

  /** Old blocks that may still come into its maps. */
  private get pending(): number {
    const { old } = this.pool
    return old?.record.volume === this.index ? old.pending : 0
  }

  /** For a checker: a block that a file has, and that the maps need not have yet. */
  mayBeUnmarked(bn: number): boolean {
    return this.pool.old?.state === 'absent' && this.isUnmarked(bn)
  }

  private isUnmarked(bn: number): boolean {
    return this.pool.old?.isOld(this.index, bn) === true && this.numbers.isFree(bn)
  }

  isFresh(bn: number): boolean {
    const buffer = this.buffers.get(bn)
    if (this.pool.io.broken.oldInPlace === true && buffer !== undefined && this.isUnmarked(bn)) {
      const { content } = buffer
      void Promise.resolve().then(() => this.pool.io.overwrite(this.lookup(bn), content))
      return true
    }
    return buffer?.state === DIRTY && buffer.epoch === this.epoch
  }

  allocate(kind: BlockKind, content?: Uint8Array, unfilled = false): BlockBuffer {
    assert(content === undefined || content.length === BLOCK_BYTES, 'content of a block is 4096 bytes')
    return this.enter(this.numbers.take(), kind, content, unfilled)
  }

  /** Takes in a block of another volume's image, under its number there. False while the number is in use: by and by consistency points give it back. */
  receive(bn: number, kind: BlockKind, content: Uint8Array): boolean {
    if (!this.numbers.claim(bn)) return false
    this.enter(bn, kind, content, false)
    return true
  }

  private enter(
    bn: number,
    kind: BlockKind,
    content: Uint8Array | undefined,
    unfilled: boolean,
  ): BlockBuffer {
    this.damaged.forget(bn)
    const stale = this.buffers.get(bn)
    if (stale !== undefined) this.discard(stale)
    const buffer = new BlockBuffer(
      this.buffers,
      this.index,
      bn,
      kind,
      content ?? this.pool.cache.memory.take(kind, unfilled),
      DIRTY,
      this.numbers.placeOfNew(bn),
    )
    buffer.epoch = this.epoch
    this.buffers.set(bn, buffer)
    this.fresh.push(buffer)
    if (kind !== 'indirect' && kind !== 'inode') this.contentBlocks += 1
    this.freshBlocks += 1
    this.used += 1
    this.pool.dirtied(this, 1)
    return buffer
  }

  free(bn: number): void {
    this.loader.cancel(bn)
    this.damaged.forget(bn)
    const buffer = this.buffers.get(bn)
    if (this.isUnmarked(bn)) {
      // It was never this volume's to give back: the join makes free what is not marked.
      const { old } = this.pool
      old!.pending = Math.max(0, old!.pending - 1)
      if (buffer !== undefined) this.discard(buffer)
      return
    }
    this.used -= 1
    if (buffer?.state === DIRTY && buffer.epoch === this.epoch) {
      buffer.state = GONE
      buffer.epoch = NEVER
      this.buffers.delete(bn)
      this.freshBlocks -= 1
      this.numbers.release(bn)
      this.pool.dirtied(this, -1)
      this.pool.cache.memory.give(buffer)
      return
    }
    this.freed.push(bn, buffer?.pvbn ?? 0)
    this.pool.dirtied(this, 0)
    if (this.snapshots.holds(bn)) this.snapshots.kept()
    else if (buffer !== undefined) this.discard(buffer)
  }

  canAllocate(blocks: number, releasing = false): boolean {
    if (this.removed) return false
    if (
      !releasing &&
      this.used + this.pending + this.snapshots.heldBlocks + blocks > this.numbers.quotaBlocks
    )
      return false
    return this.pool.fits(blocks, releasing)
  }

  /** For FSSTAT: what the quota allows, and what of it is free, given the aggregate's free space. */
  space(): { readonly totalBlocks: number; readonly freeBlocks: number } {
    const totalBlocks = this.numbers.quotaBlocks
    const free = Math.max(0, totalBlocks - this.used - this.pending - this.snapshots.heldBlocks)
    return { totalBlocks, freeBlocks: Math.min(free, this.pool.freeBlocks) }
  }

  /** The next consistency point takes the content's root and the entry even if no block changed. */
  touch(): void {
    this.touched = true
    this.pool.dirtied(this, 0)
  }

  /** The files are those of a snapshot from now on; what they were instead comes back by and by. */
  restore(snapshot: Snapshot, requestId: string, seconds: number): void {
    this.dropFresh()
    this.freed = []
    this.used = snapshot.used
    this.snapshots.restore(snapshot.id, requestId, this.lastUsed)
    this.content.restored(snapshot.content, seconds)
    this.touch()
  }

  /** Like `restore`, but the files are exactly those of the snapshot: for an image of another volume, of which a part of the next one came and was given up. */
  reset(snapshot: Snapshot): void {
    this.dropFresh()
    this.freed = []
    this.used = snapshot.used
    this.snapshots.restore(snapshot.id, '', this.lastUsed)
    this.touch()
  }

  /** The block `bn` of an image, if it is in memory. Not to be changed. */
  inMemory(bn: number): { readonly kind: BlockKind; readonly content: Uint8Array } | undefined {
    return this.buffers.get(bn)
  }

  resize(quotaBlocks: number): void {
    this.numbers.resize(quotaBlocks)
    this.touch()
  }

  /** Freed numbers, not yet in the hands of a consistency point, that it will give back. */
  get freedBlocks(): number {
    return this.freed.length / 2 - this.snapshots.keptBlocks
  }

  get isDirty(): boolean {
    return (
      this.freshBlocks > 0 ||
      this.freed.length > 0 ||
      this.marked.length > 0 ||
      this.touched ||
      !this.persistent
    )
  }

  /** The image as of now; operations go on with nothing fresh. Synchronous, and it looks at no block. */
  freeze(cp: number): FrozenVolume {
    this.lastRoot = this.content.freeze()
    const { fresh: blocks, freed, marked, freshBlocks: count } = this
    const kept = freed.length / 2 - this.freedBlocks
    const snapshots = this.snapshots.freeze(cp, this.used, this.lastRoot, this.lastUsed)
    this.lastUsed = this.used
    this.epoch += 1
    this.fresh = []
    this.freed = []
    this.marked = []
    this.freshBlocks = 0
    this.touched = false
    this.persistent = true
    return { blocks, count, freed, marked, kept, snapshots, entry: this.describe() }
  }

  /** What the volume table says of it, tree roots apart. */
  describe(): BareEntry {
    return {
      state: 'ordinary',
      type: this.type,
      index: this.index,
      id: this.id,
      name: this.name,
      fsid: this.fsid,
      properties: this.properties,
      quotaBlocks: this.type === 'Flexible' ? this.numbers.quotaBlocks : 0,
      used: this.used,
      nextNumber: this.numbers.cursor,
      reclaimed: 0,
      contentRoot: this.lastRoot,
      nextSnapshot: this.snapshots.nextSnapshot,
      lastRestore: this.snapshots.lastRestore,
      lastDelete: this.snapshots.lastDelete,
    }
  }

  /** The content's root in the last image. */
  get contentRoot(): Uint8Array {
    return this.lastRoot
  }

  /** The frozen block `bn` has its place: true if a pointer to it may carry it as a hint. 0 if it has none yet. */
  placeOf(bn: number): number {
    return this.buffers.get(bn)?.pvbn ?? 0
  }

  /** A frozen block is on disk. */
  written(buffer: BlockBuffer): void {
    this.pool.cache.dirty(-1)
    if (buffer.state === GONE) this.pool.cache.memory.give(buffer)
    else this.pool.cache.keep(buffer)
  }

  /** Nothing of it is in memory any more; blocks that a consistency point is writing stay until it has. */
  forget(): void {
    for (const buffer of this.buffers.values()) {
      if (this.isFresh(buffer.bn)) this.numbers.release(buffer.bn)
      this.discard(buffer)
    }
    this.pool.dirtied(this, -this.freshBlocks)
    this.buffers.clear()
    this.fresh = []
    this.freed = []
    this.freshBlocks = 0
  }

  /** The PVBN of a block that is not fresh. Throws Miss, DamagedBlock. */
  lookup(bn: number): number {
    return this.numbers.lookup(bn)
  }

  locate(bn: number, hint: number, kind: BlockKind): Place {
    return this.numbers.locate(bn, hint, kind)
  }

  /** The loader has a block. */
  loaded(bn: number, kind: BlockKind, content: Uint8Array, pvbn: number): void {
    if (this.buffers.has(bn)) {
      this.pool.cache.memory.giveBack(content)
      return
    }
    const buffer = new BlockBuffer(this.buffers, this.index, bn, kind, content, CLEAN, pvbn)
    this.buffers.set(bn, buffer)
    this.pool.cache.keep(buffer)
  }

  /** No plex can give the block back: the next `get` says so, the one after it tries again. */
  unreadable(bn: number): void {
    this.damaged.note(bn)
  }

  private dropFresh(): void {
    for (const buffer of this.fresh) {
      if (buffer.epoch === NEVER) continue
      buffer.state = GONE
      buffer.epoch = NEVER
      this.buffers.delete(buffer.bn)
      this.numbers.release(buffer.bn)
    }
    this.pool.dirtied(this, -this.freshBlocks)
    this.fresh = []
    this.freshBlocks = 0
  }

  private discard(buffer: BlockBuffer): void {
    const { state } = buffer
    buffer.state = GONE
    this.buffers.delete(buffer.bn)
    // What a consistency point is writing is given back when it has (`written`).
    if (state !== CLEAN) return
    this.pool.cache.remove(buffer)
    this.pool.cache.memory.give(buffer)
  }
}
