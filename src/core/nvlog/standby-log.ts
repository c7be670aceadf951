/**
 * The partner's side of log mirroring: a durable region whose frames are batches, written at the same place of this filer's own log
 * file. It refuses what is older than the fence (H5), what would leave a gap (H3), and never writes a placed batch again.
 *
 * The fence itself, and learning of a higher one, belong to the side (pair/side.ts), which hands in `guard`.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { lastSeqOf, readBatchHeader } from './batch.ts'
import type { LogDevice } from './log-device.ts'

export type PlaceResult = 'PLACED' | 'ALREADY_PLACED' | 'GAP' | 'NOT_A_BATCH'

export class StandbyLog {
  readonly #device: LogDevice
  readonly #origin: number
  /** Last seq placed here; undefined: the log was emptied and takes any first batch. */
  #lastSeq: number | undefined
  #acknowledged = 0

  constructor(device: LogDevice, origin: number, lastSeq: number | undefined) {
    this.#device = device
    this.#origin = origin
    this.#lastSeq = lastSeq
  }

  get lastSeq(): number | undefined {
    return this.#lastSeq
  }
  get acknowledged(): number {
    return this.#acknowledged
  }
  reset(lastSeq: number | undefined): void {
    this.#lastSeq = lastSeq
  }

  /** Resolves when the batch is durable. Frames come one at a time. */
  async place(offset: number, chunks: readonly Uint8Array[]): Promise<PlaceResult> {
    const header = chunks[0] && readBatchHeader(chunks[0], this.#origin)
    if (!header || offset % BLOCK_BYTES !== 0) return 'NOT_A_BATCH'
    const last = lastSeqOf(header)
    if (this.#lastSeq !== undefined) {
      if (last <= this.#lastSeq) return 'ALREADY_PLACED'
      if (header.firstSeq !== this.#lastSeq + 1) return 'GAP'
    }
    await this.#device.write(offset / BLOCK_BYTES, chunks)
    this.#lastSeq = last
    this.#acknowledged = header.acknowledged
    return 'PLACED'
  }
}
