/**
 * The way out of a connection: replies are encoded into slabs, one behind the other, and leave as few chunks. A reply's slab is held until
 * the socket has taken it.
 */
import type { Region } from './call.ts'
import type { Slab, SlabPool } from './slab.ts'
import { SMALL_SLAB_BYTES } from './slab.ts'

/** Larger replies get a slab of their own. */
const DEDICATED_BYTES = 64 * 1024

interface Segment {
  readonly slab: Slab
  readonly start: number
  end: number
}

export class ReplyQueue {
  /** Queued or given to the socket, and not yet taken by it. */
  unsentBytes = 0
  readonly #pool: SlabPool
  #out: Slab | undefined
  #segments: Segment[] = []

  constructor(pool: SlabPool) {
    this.#pool = pool
  }

  get empty(): boolean {
    return this.#segments.length === 0
  }

  /** The slab in which the next reply of at most `bytes` is to be encoded, at its `tail`. */
  room(bytes: number): Slab {
    const slab = this.#out
    if (slab && slab.room >= bytes) return slab
    if (slab?.sole && slab.bytes.length >= bytes) {
      slab.head = slab.tail = 0
      return slab
    }
    slab?.release()
    return (this.#out = this.#pool.take(Math.max(bytes, SMALL_SLAB_BYTES)))
  }

  /** Room for a reply that is encoded later; it brings a reference to its slab. */
  reserve(bytes: number): Region {
    if (bytes > DEDICATED_BYTES) {
      const slab = this.#pool.take(bytes)
      slab.tail = bytes
      return { slab, start: 0, bytes }
    }
    const slab = this.room(bytes)
    const start = slab.tail
    slab.tail += bytes
    slab.retain()
    return { slab, start, bytes }
  }

  /** A reply lies in `slab` from its `tail` up to `end`. */
  push(slab: Slab, end: number): void {
    const start = slab.tail
    slab.tail = end
    if (!this.#extend(slab, start, end)) {
      slab.retain()
      this.#segments.push({ slab, start, end })
    }
  }

  /** A reply lies in a reserved region, up to `end`. */
  pushReserved({ slab, start, bytes }: Region, end: number): void {
    // What was reserved and not needed is given back if nothing came behind it.
    if (slab.tail === start + bytes) slab.tail = end
    if (this.#extend(slab, start, end)) slab.release()
    else this.#segments.push({ slab, start, end })
  }

  #extend(slab: Slab, start: number, end: number): boolean {
    this.unsentBytes += end - start
    const last = this.#segments.at(-1)
    if (last?.slab !== slab || last.end !== start) return false
    last.end = end
    return true
  }

  /** Everything queued; `taken` is to be called once the chunks may be changed. */
  flush(): { chunks: Uint8Array[]; taken: () => void } {
    const segments = this.#segments
    this.#segments = []
    let bytes = 0
    const chunks = segments.map(({ slab, start, end }) => {
      bytes += end - start
      return slab.bytes.subarray(start, end)
    })
    const taken = (): void => {
      for (const { slab } of segments) slab.release()
      this.unsentBytes -= bytes
      if (!this.#out?.sole) return
      this.#out.release()
      this.#out = undefined
    }
    return { chunks, taken }
  }

  release(): void {
    this.#out?.release()
    for (const { slab } of this.#segments) slab.release()
    this.#segments = []
    this.#out = undefined
  }
}
