/**
 * The sending half of a channel's end on one driver: the operations assigned to it, cut into frames, in order, each with its
 * number; and those that wait for their answer.
 */
import type { ChannelError, Fence } from './client.ts'
import type { DataFrame } from './frames.ts'
import type { Link } from './link.ts'
import type { Source } from './outbox.ts'

export interface Operation {
  readonly kind: 'write' | 'read' | 'flush' | 'message'
  readonly region: number
  readonly offset: number
  readonly bytes: number
  readonly fence: Fence
  readonly chunks: readonly Uint8Array[]
  readonly cost: number
  readonly resolve: (result: Uint8Array) => void
  readonly reject: (error: ChannelError) => void
  /** Of a read: what has arrived. */
  parts: Uint8Array[]
  partsBytes: number
}

/** The end that a lane belongs to. */
export interface LaneEnd {
  readonly frameBytes: number
  readonly generation: number
  readonly remotePort: number
  readonly dead: boolean
  sent(frame: DataFrame): void
}

export class Lane implements Source {
  readonly link: Link
  readonly #end: LaneEnd
  /** Assigned to this driver, not yet completely sent. */
  #out: Operation[] = []
  #seq = 0
  /** Position in the first of `#out`. */
  #chunk = 0
  #within = 0
  readonly outstanding = new Map<number, Operation>()
  outstandingBytes = 0
  readyReceived = false

  constructor(end: LaneEnd, link: Link) {
    this.#end = end
    this.link = link
  }

  add(operation: Operation): void {
    this.#out.push(operation)
    this.outstandingBytes += operation.cost
    this.link.requests?.wake(this)
  }

  next(): DataFrame | undefined {
    const operation = this.#out[0]
    if (operation === undefined || this.#end.dead) return undefined
    const frame = this.#frame(operation)
    this.#end.sent(frame)
    return frame
  }

  /** What was assigned and of which no byte has left. */
  unsent(): readonly Operation[] {
    return this.#chunk === 0 && this.#within === 0 ? this.#out : this.#out.slice(1)
  }

  #frame(operation: Operation): DataFrame {
    if (this.#chunk === 0 && this.#within === 0) {
      this.#seq++
      this.outstanding.set(this.#seq, operation)
    }
    const place = { port: this.#end.remotePort, generation: this.#end.generation, seq: this.#seq }
    const { region, offset, bytes, fence } = operation
    if (operation.kind === 'read')
      return this.#whole({ kind: 'read', ...place, region, offset, bytes, fence })
    if (operation.kind === 'flush') return this.#whole({ kind: 'flush', ...place, region, fence })
    const payload = this.#cut(operation.chunks)
    const more = this.#chunk < operation.chunks.length
    const frame: DataFrame =
      operation.kind === 'write'
        ? { kind: 'write', ...place, region, offset, bytes, fence, more, payload }
        : { kind: 'message', ...place, bytes, more, payload }
    return more ? frame : this.#whole(frame)
  }

  /** That was the last frame of the operation. */
  #whole(frame: DataFrame): DataFrame {
    this.#out.shift()
    this.#chunk = 0
    this.#within = 0
    return frame
  }

  /** The next frame's worth of payload, by reference. */
  #cut(chunks: readonly Uint8Array[]): Uint8Array[] {
    let room = this.#end.frameBytes
    const payload: Uint8Array[] = []
    while (room > 0) {
      const chunk = chunks[this.#chunk]
      if (chunk === undefined) break
      const piece = chunk.subarray(this.#within, this.#within + room)
      if (piece.byteLength > 0) payload.push(piece)
      room -= piece.byteLength
      this.#within += piece.byteLength
      if (this.#within === chunk.byteLength) {
        this.#chunk++
        this.#within = 0
      }
    }
    return payload
  }
}
