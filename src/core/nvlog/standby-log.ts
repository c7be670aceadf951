/**
 * The partner's side of log mirroring: a durable region whose frames are batches, written at the same place of this filer's own log
 * file. It refuses what is older than the fence (H5), what would leave a gap (H3), and never writes a placed batch again.
 *
 * The fence itself, and learning of a higher one, belong to the side (pair/side.ts), which hands in `guard`.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { BATCH_HEADER_BYTES, lastSeqOf, readBatchHeader } from './batch.ts'
import type { LogDevice } from './log-device.ts'

/** The transport may have cut the batch anywhere. */
function headOf(chunks: readonly Uint8Array[]): Uint8Array {
  const first = chunks[0]
  if (first && first.length >= BATCH_HEADER_BYTES) return first
  const head = new Uint8Array(BATCH_HEADER_BYTES)
  let at = 0
  for (const chunk of chunks) {
    const part = chunk.subarray(0, BATCH_HEADER_BYTES - at)
    head.set(part, at)
    at += part.length
  }
  return head.subarray(0, at)
}

export type PlaceResult = 'PLACED' | 'ALREADY_PLACED' | 'GAP' | 'NOT_A_BATCH'

export class StandbyLog {
  readonly #device: LogDevice
  readonly #origin: number
  /** Last seq placed here; undefined: the log was emptied and takes any first batch. */
  #lastSeq: number | undefined
  #covers: number | undefined
  #acknowledged = 0

  constructor(device: LogDevice, origin: number, lastSeq: number | undefined) {
    this.#device = device
    this.#origin = origin
    this.#lastSeq = lastSeq
  }

  /** Of the last batch placed here, or what the own root covers when the log is empty. */
  get lastSeq(): number | undefined {
    return this.#lastSeq ?? this.#covers
  }
  get acknowledged(): number {
    return this.#acknowledged
  }
  reset(lastSeq: number | undefined): void {
    this.#lastSeq = lastSeq
    this.#covers = undefined
  }
  /** A resync ended with a root that covers everything up to here; the first batch may begin before, but not beyond. */
  covered(covers: number): void {
    this.#covers = covers
  }

  /** Resolves when the batch is durable. Frames come one at a time. */
  async place(offset: number, chunks: readonly Uint8Array[]): Promise<PlaceResult> {
    const header = readBatchHeader(headOf(chunks), this.#origin)
    if (!header || offset % BLOCK_BYTES !== 0) return 'NOT_A_BATCH'
    const last = lastSeqOf(header)
    if (this.#lastSeq !== undefined) {
      if (last <= this.#lastSeq) return 'ALREADY_PLACED'
      if (header.firstSeq !== this.#lastSeq + 1) return 'GAP'
    } else if (this.#covers !== undefined && header.firstSeq > this.#covers + 1) return 'GAP'
    await this.#device.write(offset / BLOCK_BYTES, chunks)
    this.#lastSeq = last
    this.#acknowledged = header.acknowledged
    return 'PLACED'
  }
}
