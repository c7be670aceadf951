/**
 * One long call of either end as the connection manager's `Stream`: batches of frames in gRPC's framing.
 *
 * What is sent is bounded by what the connection has not yet taken (`QUEUE_BYTES`): beyond it `send` says no and pressure reaches the channels.
 * What is received is bounded by the channels' windows, so the stream is always read.
 */
import type { Refusal } from '../../core/connection/client.ts'
import type { Http2Stream } from 'node:http2'
import type { Stream, StreamHandler } from '../../core/connection/driver.ts'
import type { Frame } from '../../core/connection/frames.ts'
import { assert } from '../../core/std/assert.ts'
import { decodeBatch, EncodedBatch } from './codec.ts'
import { MessageReader, PREFIX_BYTES, putPrefix } from './message-stream.ts'
import { lend } from './received-memory.ts'

const MAX_MESSAGE_BYTES = 16 << 20
/** Taken by the stream and not yet by the connection. Half a heartbeat's delay on a slow network, enough to keep a fast one busy. */
const QUEUE_BYTES = 1 << 20
/** Holds a batch of the manager's usual size. */
const SCRATCH_BYTES = 320 << 10
const SCRATCH_KEPT = 8

export class WireStream implements Stream {
  handler: StreamHandler | undefined
  readonly #call: Http2Stream
  readonly #release: (reason: string) => void
  /** Buffers whose batch the connection has taken: most of the cost of a large batch is the garbage that it leaves. */
  #scratch: Buffer[] = []
  #queued = 0
  #full = false
  #over = false

  constructor(call: Http2Stream, release: (reason: string) => void) {
    this.#call = call
    this.#release = release
  }

  attach(handler: StreamHandler): void {
    this.handler = handler
    const reader = new MessageReader(MAX_MESSAGE_BYTES)
    this.#call.on('error', (error: Error) => this.ended(error.message))
    this.#call.on('end', () => this.#soonEnded())
    this.#call.on('aborted', () => this.#soonEnded())
    this.#call.on('close', () => this.#soonEnded())
    this.#call.on('data', (bytes: Buffer) => {
      assert(bytes.byteLength > 0, 'received memory was given back too early')
      let batches: (readonly Frame[])[]
      try {
        batches = reader.push(bytes).map(({ chunks, memory }) => lend(decodeBatch(chunks), memory))
      } catch (error) {
        this.ended(`not a batch of frames: ${describe(error)}`)
        return
      }
      for (const frames of batches) if (!this.#over) this.handler?.received(frames)
    })
  }

  send(frames: readonly Frame[]): boolean {
    if (this.#over) return true
    const batch = new EncodedBatch(frames)
    const length = PREFIX_BYTES + batch.length
    const scratch =
      length <= SCRATCH_BYTES ? (this.#scratch.pop() ?? Buffer.allocUnsafeSlow(SCRATCH_BYTES)) : undefined
    const bytes = scratch?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length)
    putPrefix(bytes)
    batch.writeTo(bytes, PREFIX_BYTES)
    this.#queued += length
    this.#call.write(bytes, () => {
      this.#queued -= length
      if (scratch !== undefined && this.#scratch.length < SCRATCH_KEPT) this.#scratch.push(scratch)
      if (!this.#full || this.#queued > QUEUE_BYTES / 2 || this.#over) return
      this.#full = false
      this.handler?.drained()
    })
    if (this.#queued < QUEUE_BYTES) return true
    this.#full = true
    return false
  }

  close(reason: string): void {
    if (this.#over) return
    this.#over = true
    this.handler = undefined
    this.#release(reason)
  }

  /** Ended by the other side or by a fault. */
  ended(reason: string, refusal?: Refusal): void {
    if (this.#over) return
    const { handler } = this
    this.close(reason)
    handler?.closed(reason, refusal)
  }

  /** Who knows why (trailers, the connection's error) is heard first. */
  #soonEnded(): void {
    setImmediate(() => this.ended('closed by the partner'))
  }
}

export function describe(error: unknown): string {
  return error instanceof Error ? error.message : 'failed'
}
