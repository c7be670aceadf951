/**
 * A `BlockStore` in memory for tests. It checks the contract while it serves it: blocks that are not fresh never change (by
 * checksum), nothing is read after it was freed or as another kind, nothing is freed twice, no operation allocates more than it
 * asked room for, and fresh blocks never miss. It can forget blocks, so that reading them misses first.
 */
import { BLOCK_BYTES } from '../../env/device.ts'
import { assert } from '../../std/assert.ts'
import { DamagedBlock, Miss } from '../block-store.ts'
import type { BlockKind, BlockStore, PointerFormat } from '../block-store.ts'

interface Stored {
  readonly kind: BlockKind
  readonly content: Uint8Array
  fresh: boolean
  loaded: boolean
  /** Of the content, once it is not fresh. */
  checksum: number
}

/** For operations that give space back. */
const RESERVE_BLOCKS = 64

/** Looked up once: in a test's realm a global costs much more than here. */
const { imul } = Math

/** FNV-1a over 32-bit words: quick, and enough to notice a change. */
function checksumOf(content: Uint8Array): number {
  const words = new Int32Array(content.buffer, content.byteOffset, BLOCK_BYTES / 4)
  let hash = 0x811c9dc5 | 0
  for (let i = 0; i < words.length; i++) hash = imul(hash ^ words[i]!, 0x01000193)
  return hash
}

export class MemoryStore implements BlockStore {
  readonly format: PointerFormat
  /** Blocks that may be in use; what was freed since the last freeze counts until the next one. */
  capacity: number
  loads = 0
  readonly damaged = new Set<number>()
  private readonly blocks: Map<number, Stored>
  private freedLater: number[] = []
  private nextBn = 1
  private room = Infinity
  /** With a reservation for each change: allocate asserts that canAllocate was asked. */
  strict = false

  constructor(format: PointerFormat, capacity = Infinity, blocks = new Map<number, Stored>()) {
    this.format = format
    this.capacity = capacity
    this.blocks = blocks
    for (const bn of blocks.keys()) this.nextBn = Math.max(this.nextBn, bn + 1)
  }

  get(bn: number, _hint: number, kind: BlockKind): Uint8Array {
    const block = this.blocks.get(bn)
    assert(block !== undefined, `block ${bn} read as ${kind} is not allocated`)
    assert(block.kind === kind, `block ${bn} read as ${kind} is ${block.kind}`)
    if (this.damaged.has(bn)) throw new DamagedBlock(bn)
    if (!block.loaded) {
      throw new Miss(async () => {
        this.loads += 1
        block.loaded = true
      })
    }
    return block.content
  }

  isFresh(bn: number): boolean {
    return this.blocks.get(bn)?.fresh === true
  }

  allocate(kind: BlockKind, content?: Uint8Array): { bn: number; content: Uint8Array } {
    const bn = this.nextBn++
    if (this.strict) {
      this.room -= 1
      assert(this.room >= 0, 'more blocks allocated than asked room for')
    }
    assert(content === undefined || content.length === BLOCK_BYTES, 'content of a block is 4096 bytes')
    const bytes = content ?? new Uint8Array(BLOCK_BYTES)
    this.blocks.set(bn, { kind, content: bytes, fresh: true, loaded: true, checksum: 0 })
    return { bn, content: bytes }
  }

  free(bn: number): void {
    const block = this.blocks.get(bn)
    assert(block !== undefined, `block ${bn} freed twice`)
    if (!block.fresh) {
      this.verify(bn, block)
      this.freedLater.push(bn)
    }
    this.blocks.delete(bn)
  }

  canAllocate(blocks: number, releasing = false): boolean {
    const capacity = releasing ? this.capacity + RESERVE_BLOCKS : this.capacity
    const fits = this.blocks.size + this.freedLater.length + blocks <= capacity
    this.room = fits ? blocks : 0
    return fits
  }

  /** Forgets the room asked for, so that the next change has to ask. */
  endOperation(): void {
    this.room = 0
  }

  get used(): number {
    return this.blocks.size
  }

  numbers(): ReadonlySet<number> {
    return new Set(this.blocks.keys())
  }

  /** From here on nothing that is allocated now may change. */
  freeze(): void {
    for (const [bn, block] of this.blocks) {
      if (block.fresh) block.checksum = checksumOf(block.content)
      else this.verify(bn, block)
      block.fresh = false
    }
    this.freedLater = []
  }

  /** A store with the blocks as the last freeze left them; call it right behind `freeze`. Contents are shared, as they never change. */
  image(): MemoryStore {
    const blocks = new Map<number, Stored>()
    for (const [bn, block] of this.blocks) {
      assert(!block.fresh, 'an image is taken at a freeze')
      blocks.set(bn, { ...block })
    }
    return new MemoryStore(this.format, this.capacity, blocks)
  }

  /** Forgets the contents of blocks that `choose` names (fresh ones stay). */
  forget(choose: (bn: number) => boolean = () => true): void {
    for (const [bn, block] of this.blocks) if (!block.fresh && choose(bn)) block.loaded = false
  }

  /** Asserts that no block changed that may not. */
  verifyAll(): void {
    for (const [bn, block] of this.blocks) if (!block.fresh) this.verify(bn, block)
  }

  private verify(bn: number, block: Stored): void {
    assert(
      block.checksum === checksumOf(block.content),
      `block ${bn} (${block.kind}) changed after the freeze`,
    )
  }
}
