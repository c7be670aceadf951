/**
 * The way in of a connection: cuts the byte stream into records (record marking, RFC 5531, 11), received straight into slabs.
 *
 * - `space` says where the next bytes belong, `filled` that they are there; the place does not move in between.
 * - `next` gives the next whole record as a part of a slab: arguments are views of it. A record is copied only when the slab that it
 *   began in has no room for the rest of it, and when it came in several fragments.
 * - While the connection is stalled, whole records wait here; no further bytes are read.
 */
import { IO_BYTES_MAX } from '../../core/vfs/vfs.ts'
import { LAST_FRAGMENT } from '../rpc/rpc.ts'
import { XdrError } from '../xdr.ts'
import type { Slab, SlabPool } from './slab.ts'
import { LARGE_SLAB_BYTES, SMALL_SLAB_BYTES } from './slab.ts'

/** The largest record: a full WRITE with the longest credential, handle and verifier. */
export const RECORD_BYTES_MAX = IO_BYTES_MAX + 4096
/** Less room than this is not worth a read. */
const ROOM_MIN = 64 * 1024
const LENGTH_MASK = LAST_FRAGMENT - 1

export class RecordReader {
  /** Where the record that `next` found lies. */
  slab: Slab
  at = 0
  end = 0
  readonly #pool: SlabPool
  /** Where bytes are read to. */
  #in: Slab
  /** Slabs that filled up while stalled, with whole records left in them, oldest first. */
  #waiting: Slab[] = []
  /** A record of several fragments. */
  #assembly: Slab | undefined
  /** The slab of an assembled record, held until the next one is asked for. */
  #assembled: Slab | undefined
  #lastRecordBytes = 0

  constructor(pool: SlabPool) {
    this.#pool = pool
    this.slab = this.#in = pool.take(SMALL_SLAB_BYTES)
  }

  /** In the middle of a record. */
  get partial(): boolean {
    return this.#in.head < this.#in.tail || this.#assembly !== undefined
  }

  /** Where the next bytes belong; `stalled`: whole records may be left. */
  space(stalled: boolean): Uint8Array {
    const slab = this.#in
    if (slab.head === slab.tail && slab.sole) slab.head = slab.tail = 0
    const from = stalled ? wholeRecordsEnd(slab) : slab.head
    const have = slab.tail - from
    if (have === 0) return this.#spaceForNextRecord(slab)
    const need = have < 4 ? 4 : 4 + (slab.view.getUint32(from) & LENGTH_MASK)
    const fits = from + need <= slab.bytes.length
    const { bytes, tail } = fits ? slab : this.#nextSlab(slab, from, need)
    // A long record is read up to its end, so that the next one begins a slab.
    const missing = need > ROOM_MIN ? need - have : bytes.length
    return bytes.subarray(tail, tail + missing)
  }

  /** All records are whole: the next one probably looks like the last. */
  #spaceForNextRecord(slab: Slab): Uint8Array {
    const expected = this.#lastRecordBytes > ROOM_MIN ? this.#lastRecordBytes + 4 : ROOM_MIN
    const tooLarge = expected === ROOM_MIN && slab.bytes.length > SMALL_SLAB_BYTES
    const { bytes, tail } =
      slab.room >= expected && !tooLarge ? slab : this.#nextSlab(slab, slab.tail, expected)
    return bytes.subarray(tail)
  }

  /** Moves the unfinished record at `from` to a slab with room for `expected` bytes. */
  #nextSlab(slab: Slab, from: number, expected: number): Slab {
    const next = this.#pool.take(Math.min(Math.max(expected, SMALL_SLAB_BYTES), LARGE_SLAB_BYTES))
    slab.bytes.copy(next.bytes, 0, from, slab.tail)
    next.tail = slab.tail - from
    slab.tail = from
    if (slab.head < from) this.#waiting.push(slab)
    else slab.release()
    this.#in = next
    return next
  }

  /** `bytes` bytes have arrived at the place that `space` gave. */
  filled(bytes: number): void {
    this.#in.tail += bytes
  }

  /** Whether a whole record, or a whole fragment of one, is there. Throws XdrError for a record that is too long. */
  ready(): boolean {
    for (;;) {
      const slab = this.#waiting[0] ?? this.#in
      const have = slab.tail - slab.head
      if (have >= 4) {
        const bytes = slab.view.getUint32(slab.head) & LENGTH_MASK
        if (bytes > RECORD_BYTES_MAX) throw new XdrError('record is longer than allowed')
        if (have >= 4 + bytes) return true
      }
      if (slab === this.#in) return false
      this.#waiting.shift()
      slab.release()
    }
  }

  /** Goes to the next record, which is `ready`; false if that was but a fragment. */
  next(): boolean {
    this.#assembled?.release()
    this.#assembled = undefined
    const slab = this.#waiting[0] ?? this.#in
    const mark = slab.view.getUint32(slab.head)
    const at = slab.head + 4
    const end = at + (mark & LENGTH_MASK)
    slab.head = end
    const last = mark >= LAST_FRAGMENT
    if (!last || this.#assembly) return this.#append(slab, at, end, last)
    this.slab = slab
    this.at = at
    this.end = end
    this.#lastRecordBytes = end - at
    return true
  }

  #append(from: Slab, at: number, end: number, last: boolean): boolean {
    const bytes = end - at
    let whole = this.#assembly
    const total = (whole?.tail ?? 0) + bytes
    if (total > RECORD_BYTES_MAX) throw new XdrError('record is longer than allowed')
    if (!whole || whole.room < bytes) {
      const larger = this.#pool.take(total)
      if (whole) {
        whole.bytes.copy(larger.bytes, 0, 0, whole.tail)
        larger.tail = whole.tail
        whole.release()
      }
      this.#assembly = whole = larger
    }
    from.bytes.copy(whole.bytes, whole.tail, at, end)
    whole.tail += bytes
    if (!last) return false
    this.#assembly = undefined
    this.#assembled = this.slab = whole
    this.at = 0
    this.end = whole.tail
    return true
  }

  release(): void {
    for (const slab of [this.#in, this.#assembly, this.#assembled, ...this.#waiting]) slab?.release()
    this.#waiting = []
    this.#assembly = this.#assembled = undefined
  }
}

/** Where the last whole record of a slab ends. */
function wholeRecordsEnd(slab: Slab): number {
  let at = slab.head
  for (;;) {
    if (slab.tail - at < 4) return at
    const end = at + 4 + (slab.view.getUint32(at) & LENGTH_MASK)
    if (end > slab.tail) return at
    at = end
  }
}
