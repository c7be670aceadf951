/**
 * The aggregate's own metafiles as a `BlockStore`: numbers are PVBNs, assigned at once. Only a consistency point changes them, so *fresh* means
 * allocated by the consistency point under way.
 *
 * Every allocation and every free is noted in order (`changes`), because the active map itself lies in such blocks: the consistency point works
 * the notes into the maps until there are none left, which ends, since each leaf becomes fresh once.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { Miss, DamagedBlock, SINGLE } from '../fs/block-store.ts'
import type { BlockKind, BlockStore } from '../fs/block-store.ts'
import { loaded } from '../fs/tree.ts'
import type { Tree } from '../fs/tree.ts'
import type { BlockIo } from './block-io.ts'
import { BlockBuffer, CLEAN, DIRTY, GONE, NEVER } from './buffer-cache.ts'
import type { BufferCache } from './buffer-cache.ts'
import { DamageNotes } from './damage-notes.ts'
import { OWNER_FANOUT, ownerIn } from './leaf-editor.ts'
import type { SpaceMap } from './space-map.ts'

export class MetaStore implements BlockStore {
  readonly format = SINGLE
  private readonly io: BlockIo
  private readonly cache: BufferCache
  private readonly space: SpaceMap
  private readonly buffers = new Map<number, BlockBuffer>()
  /** The same store for the owner map, whose blocks cannot be judged by it. */
  readonly unjudged: BlockStore
  /**
   * The owner map while an aggregate is opened: it knows the generation of every block of a metafile, so that one whose last write was lost
   * shows though the other plex is not there yet.
   */
  judge: Tree | undefined
  /**
   * What was read without another plex, until the first freeze: pointers to metafiles do not carry the generation, so a write that was lost shows when the other
   * plex comes, if at all.
   */
  private unproven: Map<number, BlockKind> | undefined = new Map()
  private readonly loading = new Map<number, Promise<void>>()
  private readonly damaged: DamageNotes
  private fresh: BlockBuffer[] = []
  private epoch = 1
  /** PVBNs that came into use (positive) or went out of it (negative) and are not in the active map yet. */
  changes: number[] = []
  /** Fresh blocks whose owner entry is to be written. */
  unowned: number[] = []
  /** Blocks of the previous image that the new one does not use. */
  freed: number[] = []

  constructor(io: BlockIo, cache: BufferCache, space: SpaceMap) {
    this.io = io
    this.cache = cache
    this.space = space
    this.damaged = new DamageNotes(io.env.clock)
    this.unjudged = {
      format: this.format,
      get: (bn, _hint, kind) => this.find(bn, kind, false),
      isFresh: (bn) => this.isFresh(bn),
      allocate: (kind, content) => this.allocate(kind, content),
      free: (bn) => this.free(bn),
      canAllocate: () => true,
    }
  }

  get(bn: number, _hint: number, kind: BlockKind): Uint8Array {
    return this.find(bn, kind, true)
  }

  private find(bn: number, kind: BlockKind, judged: boolean): Uint8Array {
    const buffer = this.buffers.get(bn)
    if (buffer !== undefined) {
      buffer.used = true
      return buffer.content
    }
    if (this.damaged.take(bn)) throw new DamagedBlock(bn)
    throw new Miss(() => this.load(bn, kind, judged))
  }

  isFresh(bn: number): boolean {
    const buffer = this.buffers.get(bn)
    return buffer?.state === DIRTY && buffer.epoch === this.epoch
  }

  allocate(kind: BlockKind, content?: Uint8Array): BlockBuffer {
    const bn = this.space.take()
    this.damaged.forget(bn)
    const stale = this.buffers.get(bn)
    if (stale !== undefined && stale.state === CLEAN) this.cache.remove(stale)
    const buffer = new BlockBuffer(
      this.buffers,
      0,
      bn,
      kind,
      content ?? new Uint8Array(BLOCK_BYTES),
      DIRTY,
      bn,
    )
    buffer.epoch = this.epoch
    this.buffers.set(bn, buffer)
    this.fresh.push(buffer)
    this.changes.push(bn)
    this.unowned.push(bn)
    this.cache.dirty(1)
    return buffer
  }

  free(bn: number): void {
    this.loading.delete(bn)
    this.damaged.forget(bn)
    const buffer = this.buffers.get(bn)
    this.changes.push(-bn)
    if (buffer?.state === DIRTY && buffer.epoch === this.epoch) {
      buffer.epoch = NEVER
      this.space.release(bn)
      this.cache.dirty(-1)
    } else {
      this.freed.push(bn)
      if (buffer?.state === CLEAN) this.cache.remove(buffer)
    }
    if (buffer !== undefined) {
      buffer.state = GONE
      this.buffers.delete(bn)
    }
  }

  /** Metafiles have a reserve of their own; see Aggregate.fits. */
  canAllocate(): boolean {
    return true
  }

  /** The other plex, with the same image, is here: a block that was read before, and of which it has a later one. */
  async disproven(): Promise<number | undefined> {
    const { unproven } = this
    return unproven === undefined ? undefined : await this.io.olderThanMirror(unproven)
  }

  /** The blocks of this consistency point, which nothing changes any more. */
  freeze(): BlockBuffer[] {
    this.unproven = undefined
    const frozen = this.fresh.filter((buffer) => buffer.epoch !== NEVER)
    this.epoch += 1
    this.fresh = []
    return frozen
  }

  written(buffer: BlockBuffer): void {
    this.cache.dirty(-1)
    this.cache.keep(buffer)
  }

  /** The block is read anew when it is needed next. */
  drop(bn: number): void {
    const buffer = this.buffers.get(bn)
    if (buffer?.state !== CLEAN) return
    this.cache.remove(buffer)
    buffer.state = GONE
    this.buffers.delete(bn)
  }

  forget(): void {
    for (const buffer of this.buffers.values()) if (buffer.state === CLEAN) this.cache.remove(buffer)
    this.buffers.clear()
  }

  private load(bn: number, kind: BlockKind, judged: boolean): Promise<void> {
    let loading = this.loading.get(bn)
    if (loading === undefined) {
      loading = this.fetch(bn, kind, judged)
      this.loading.set(bn, loading)
    }
    return loading
  }

  private async fetch(bn: number, kind: BlockKind, judged: boolean): Promise<void> {
    await Promise.resolve()
    const mine = this.loading.get(bn)
    const content = this.io.layout.exists(bn) ? await this.read(bn, kind, judged) : undefined
    if (this.loading.get(bn) !== mine) return
    this.loading.delete(bn)
    if (content === undefined) {
      this.damaged.note(bn)
      return
    }
    if (this.buffers.has(bn)) return
    if (this.io.mirror === undefined) this.unproven?.set(bn, kind)
    const buffer = new BlockBuffer(this.buffers, 0, bn, kind, content, CLEAN, bn)
    this.buffers.set(bn, buffer)
    this.cache.keep(buffer)
  }

  private async read(bn: number, kind: BlockKind, judged: boolean): Promise<Uint8Array | undefined> {
    const identity = { volume: 0, number: bn, kind }
    const content = await this.io.readMeta(identity, bn)
    const { judge } = this
    if (content === undefined || judge === undefined || !judged) return content
    const wanted = await this.generationIn(judge, bn)
    const found = await this.io.generationOf(bn)
    if (wanted === undefined || found === undefined || found >= wanted) return content
    return await this.io.read({ ...identity, generation: wanted }, bn)
  }

  private async generationIn(judge: Tree, bn: number): Promise<number | undefined> {
    try {
      const leaf = await loaded(() => judge.get(Math.floor(bn / OWNER_FANOUT)))
      const owner = leaf === undefined ? undefined : ownerIn(leaf, bn, 'Flexible')
      return owner?.volume === 0 ? owner.generation : undefined
    } catch (error) {
      if (error instanceof DamagedBlock) return undefined
      throw error
    }
  }
}
