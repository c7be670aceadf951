/**
 * Records of a mirrored volume that its source keeps until the destination has acknowledged them, beyond their consistency point too, and the frames in which they go.
 */
import type { Crc32 } from '../env/env.ts'
import { encodeFrame } from './frames.ts'
import type { MirrorRecord } from './frames.ts'

const FRAME_BYTES = 256 << 10

interface Kept extends MirrorRecord {
  readonly epoch: number
  readonly previous: number
  readonly at: number
  sent: boolean
}

export class KeptRecords {
  readonly #crc32: Crc32
  #kept: Kept[] = []
  bytes = 0
  /** Epochs with records that the destination's durable image does not hold. */
  epochs: number[] = []
  /** The next frame is chained to this record, whatever was before it here. */
  #resendFrom: number | undefined
  /** The first frame that goes is the first after a time without. */
  started = false

  constructor(crc32: Crc32) {
    this.#crc32 = crc32
  }

  get count(): number {
    return this.#kept.length
  }
  /** The oldest that is not acknowledged. */
  get first(): { readonly seq: number; readonly previous: number; readonly at: number } | undefined {
    return this.#kept[0]
  }

  keep(
    record: MirrorRecord & { readonly epoch: number; readonly previous: number; readonly at: number },
  ): void {
    if (this.epochs.at(-1) !== record.epoch) this.epochs.push(record.epoch)
    this.#kept.push({ ...record, sent: false })
    this.bytes += record.body.length
  }

  acknowledged(last: number): void {
    let count = 0
    for (const kept of this.#kept) {
      if (kept.seq > last) break
      this.bytes -= kept.body.length
      count += 1
    }
    this.#kept.splice(0, count)
  }

  /** The destination's durable image has these epochs. */
  durable(image: number): void {
    this.epochs = this.epochs.filter((epoch) => epoch > image)
  }

  /** All are to be sent, behind record `last`. `broken`: only in tests, nothing is sent again. */
  resend(last: number, broken = false): void {
    if (!broken) for (const kept of this.#kept) kept.sent = false
    this.#resendFrom = last
  }

  clear(): void {
    this.#kept = []
    this.bytes = 0
    this.epochs = []
    this.started = false
  }

  /** What was not sent yet, as frames of one epoch each. */
  *frames(): Generator<{ readonly start: boolean; readonly frame: Uint8Array }> {
    let from = this.#kept.findIndex((kept) => !kept.sent)
    while (from >= 0 && from < this.#kept.length) {
      const { epoch, previous } = this.#kept[from]!
      let to = from
      let bytes = 0
      while (
        to < this.#kept.length &&
        this.#kept[to]!.epoch === epoch &&
        (to === from || bytes < FRAME_BYTES)
      ) {
        bytes += this.#kept[to]!.body.length
        to += 1
      }
      const records = this.#kept.slice(from, to)
      for (const kept of records) kept.sent = true
      const frame = { epoch, previous: this.#resendFrom ?? previous, last: records.at(-1)!.seq, records }
      this.#resendFrom = undefined
      const start = !this.started
      this.started = true
      yield { start, frame: encodeFrame(this.#crc32, frame) }
      from = to
    }
  }
}
