/**
 * What waits to be sent on one stream: control frames first, then the channels in turn, so that neither a heartbeat nor
 * a small channel waits behind a large one for more than the batch under way.
 *
 * Invariants: a channel's frames leave in the order in which its source gives them; a batch is bounded by `batchBytes`
 * (one frame may exceed it); while the stream is full nothing is taken from the sources, so that pressure reaches the
 * channels' own bounded windows.
 */
import type { Stream } from './driver.ts'
import type { Frame } from './frames.ts'
import { frameBytes } from './frames.ts'
import type { Traffic } from './traffic.ts'

/** A channel with something to send. */
export interface Source {
  /** The next frame, or undefined when there is none; after that the source must be woken again. */
  next(): Frame | undefined
}

export class Outbox {
  readonly #stream: Stream
  readonly #traffic: Traffic
  readonly #batchBytes: number
  #control: Frame[] = []
  #sources: Source[] = []
  #full = false
  #scheduled = false
  #closed = false

  constructor(stream: Stream, batchBytes: number, traffic: Traffic) {
    this.#stream = stream
    this.#traffic = traffic
    this.#batchBytes = batchBytes
  }

  /** Control frames that the stream has not taken. */
  get waiting(): number {
    return this.#control.length
  }

  control(frame: Frame): void {
    this.#control.push(frame)
    this.#schedule()
  }

  wake(source: Source): void {
    if (!this.#sources.includes(source)) this.#sources.push(source)
    this.#schedule()
  }

  drained(): void {
    this.#full = false
    this.#flush()
  }

  close(): void {
    this.#closed = true
    this.#control = []
    this.#sources = []
  }

  /** At the end of the running turn: what it produces together leaves together. */
  #schedule(): void {
    if (this.#scheduled || this.#full) return
    this.#scheduled = true
    void Promise.resolve().then(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    while (!this.#closed && !this.#full) {
      let bytes = 0
      let count = 0
      while (count < this.#control.length && bytes < this.#batchBytes)
        bytes += frameBytes(this.#control[count++]!)
      const batch = this.#control.splice(0, count)
      while (bytes < this.#batchBytes) {
        const source = this.#sources.shift()
        if (source === undefined) break
        const frame = source.next()
        if (frame === undefined) continue
        bytes += frameBytes(frame)
        batch.push(frame)
        this.#sources.push(source)
      }
      if (batch.length === 0) return
      this.#traffic.bytesSent += bytes
      this.#traffic.framesSent += batch.length
      this.#full = !this.#stream.send(batch)
    }
  }
}
