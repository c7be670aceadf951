/**
 * Memory for what comes from and goes to sockets: blocks that are filled from the front and used again when nobody refers to them.
 *
 * A slab is held by its connection while bytes are added to it, by each call whose arguments lie in it, and by each output
 * that the socket has not taken; the last `release` gives it back to the pool. So a steady stream allocates nothing, and
 * what connections hold altogether is known (`liveBytes`).
 */
import { assert } from '../../core/std/assert.ts'

export const SMALL_SLAB_BYTES = 256 * 1024
/** Holds the largest record (and the largest reply) whole. */
export const LARGE_SLAB_BYTES = (1 << 20) + 16 * 1024

export class Slab {
  readonly bytes: Buffer
  readonly view: DataView
  /** First byte that is still of interest (input), or not yet handed out (output). */
  head = 0
  /** End of what is filled. */
  tail = 0
  #references = 1
  readonly #pool: SlabPool

  constructor(pool: SlabPool, bytes: number) {
    this.#pool = pool
    this.bytes = Buffer.allocUnsafeSlow(bytes)
    this.view = new DataView(this.bytes.buffer)
  }

  get room(): number {
    return this.bytes.length - this.tail
  }

  /** Nobody but the connection that fills it refers to it. */
  get sole(): boolean {
    return this.#references === 1
  }

  retain(): void {
    this.#references++
  }

  release(): void {
    assert(this.#references > 0, 'slab released once too often')
    if (--this.#references === 0) this.#pool.give(this)
  }

  /** Back from the pool. */
  renew(): void {
    assert(this.#references === 0, 'slab taken while in use')
    this.#references = 1
    this.head = this.tail = 0
  }
}

export class SlabPool {
  liveBytes = 0
  readonly #small: Slab[] = []
  readonly #large: Slab[] = []
  readonly #keepSmall: number
  readonly #keepLarge: number

  /** At most so many unused slabs are kept. */
  constructor(keepSmall = 32, keepLarge = 16) {
    this.#keepSmall = keepSmall
    this.#keepLarge = keepLarge
  }

  /** A slab with room for `bytes`. */
  take(bytes: number): Slab {
    assert(bytes <= LARGE_SLAB_BYTES, 'no slab is that large')
    const large = bytes > SMALL_SLAB_BYTES
    const size = large ? LARGE_SLAB_BYTES : SMALL_SLAB_BYTES
    this.liveBytes += size
    const slab = (large ? this.#large : this.#small).pop()
    if (!slab) return new Slab(this, size)
    slab.renew()
    return slab
  }

  give(slab: Slab): void {
    this.liveBytes -= slab.bytes.length
    const large = slab.bytes.length > SMALL_SLAB_BYTES
    const free = large ? this.#large : this.#small
    if (free.length < (large ? this.#keepLarge : this.#keepSmall)) free.push(slab)
  }
}
