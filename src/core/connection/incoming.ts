/**
 * The receiving half of a channel's end: takes what the far client sends here, hands it to our client's regions and to our
 * client, and answers.
 *
 * Invariants:
 * - Per driver, requests carry consecutive numbers; a hole or a repetition is a fault of the driver, which then fails.
 * - What is here for the far client and not answered, parts of operations included, is bounded by the memory that our client
 *   has claimed; the far end keeps to it, one that does not is cut off.
 * - What came before both READY waits, in order; nothing of it reaches the client before `up`.
 * - Work begun in a region may outlive the end; the slot counts it (`begun`, `ended`).
 */
import type { Channel, ChannelClient, Region } from './client.ts'
import { ChannelError } from './client.ts'
import type { DataFrame, ReplyFrame } from './frames.ts'
import type { Link } from './link.ts'
import type { Source } from './outbox.ts'

/** Charged for every operation beside its payload, so that small ones are bounded as well. */
export const OPERATION_BYTES = 64
/** A window is at least this large, whatever a client claims. */
const MIN_WINDOW_BYTES = 65536
export const NOTHING = new Uint8Array(0)

export function windowBytes(memoryBytes: number): number {
  return Math.max(memoryBytes, MIN_WINDOW_BYTES)
}

/** What the receiving half needs of its end, and that of its slot. */
export interface IncomingEnd extends Channel {
  readonly frameBytes: number
  readonly remotePort: number
  readonly dead: boolean
  sent(frame: ReplyFrame): void
  /** Runs a callback of the client after the present input is processed. */
  defer(task: () => void): void
  begun(): void
  ended(): void
}

type Finish = (error: unknown, result: Uint8Array | undefined) => void

/** What one driver brings. */
interface Inlet {
  expected: number
  /** Of the operation whose frames are arriving. */
  parts: Uint8Array[]
  bytes: number
  charged: number
  placed: (() => void)[]
}

export class Incoming {
  readonly #end: IncomingEnd
  readonly #client: ChannelClient
  readonly #regions = new Map<number, Region>()
  readonly #inlets = new Map<Link, Inlet>()
  /** Bytes taken and not yet answered. */
  #taken = 0
  #placing = new Set<Promise<unknown>>()
  /** Operations that came before both READY. */
  #early: (() => void)[] | undefined = []

  constructor(end: IncomingEnd, client: ChannelClient, links: readonly Link[]) {
    this.#end = end
    this.#client = client
    for (const region of client.regions) this.#regions.set(region.key, region)
    for (const link of links)
      this.#inlets.set(link, { expected: 1, parts: [], bytes: 0, charged: 0, placed: [] })
  }

  /** Nothing of the far client is here. */
  get idle(): boolean {
    return this.#taken === 0
  }

  /** Both READY are exchanged. */
  ready(): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const operation of early) operation()
  }

  die(): void {
    this.#early = undefined
    this.#inlets.clear()
  }

  receive(link: Link, frame: DataFrame): void {
    const inlet = this.#inlets.get(link)
    if (inlet === undefined) {
      link.fail('frame for a channel that is not on this driver')
      return
    }
    if (frame.seq !== inlet.expected) {
      link.fail(`frame ${frame.seq} of ${this.#client.id} where ${inlet.expected} was due`)
      return
    }
    const carries = frame.kind === 'write' || frame.kind === 'message'
    let bytes = frame.kind === 'read' ? frame.bytes : 0
    if (carries) {
      for (const chunk of frame.payload) {
        bytes += chunk.byteLength
        inlet.parts.push(chunk)
      }
      inlet.bytes += bytes
      if (frame.kind === 'write' && frame.placed !== undefined) inlet.placed.push(frame.placed)
      if (inlet.bytes > frame.bytes || frame.more === (inlet.bytes === frame.bytes)) {
        link.fail('payload differs from the length announced')
        return
      }
    }
    const cost = bytes + (inlet.charged === 0 ? OPERATION_BYTES : 0)
    if (this.#taken + cost > windowBytes(this.#client.memoryBytes)) {
      link.fail(`partner exceeds the memory of ${this.#client.id}`)
      return
    }
    this.#taken += cost
    inlet.charged += cost
    if (carries && frame.more) return
    const { parts: chunks, charged, placed } = inlet
    inlet.expected++
    inlet.parts = []
    inlet.bytes = 0
    inlet.charged = 0
    inlet.placed = []
    const finish: Finish = (error, result) => {
      for (const tell of placed) tell()
      this.#answer(link, frame, charged, error, result)
    }
    const operation = () =>
      frame.kind === 'message' ? this.#message(chunks, finish) : this.#region(frame, chunks, finish)
    if (this.#early === undefined) operation()
    else this.#early.push(operation)
  }

  #message(chunks: readonly Uint8Array[], finish: Finish): void {
    this.#end.defer(() => {
      if (this.#end.dead) return
      let pending: void | Promise<void>
      try {
        pending = this.#client.message(this.#end, join(chunks))
      } catch (error) {
        finish(error, undefined)
        return
      }
      if (pending === undefined) finish(undefined, undefined)
      else
        this.#track(
          pending.then(() => NOTHING),
          finish,
        )
    })
  }

  #region(
    frame: Exclude<DataFrame, { kind: 'message' }>,
    chunks: readonly Uint8Array[],
    finish: Finish,
  ): void {
    const region = this.#regions.get(frame.region)
    const end = frame.kind === 'flush' ? 0 : frame.offset + frame.bytes
    if (region === undefined || end > region.bytes) {
      finish(
        new ChannelError('REFUSED', region === undefined ? 'no such region' : 'beyond the end of the region'),
        undefined,
      )
      return
    }
    if (frame.kind === 'read') {
      this.#track(region.read(frame.offset, frame.bytes, frame.fence), finish)
      return
    }
    if (frame.kind === 'write') {
      const placed = region.place(frame.offset, chunks, frame.fence)
      this.#placing.add(placed)
      const forget = () => this.#placing.delete(placed)
      placed.then(forget, forget)
      this.#track(
        placed.then(() => NOTHING),
        finish,
      )
      return
    }
    const { fence } = frame
    if (this.#placing.size === 0) {
      this.#track(
        region.flush(fence).then(() => NOTHING),
        finish,
      )
      return
    }
    // What was placed before counts as placed only when it is over.
    const before = Promise.allSettled([...this.#placing])
    this.#track(
      before.then(() => region.flush(fence)).then(() => NOTHING),
      finish,
    )
  }

  #track(work: Promise<Uint8Array>, finish: Finish): void {
    this.#end.begun()
    work.then(
      (result) => {
        finish(undefined, result)
        this.#end.ended()
      },
      (error: unknown) => {
        finish(error, undefined)
        this.#end.ended()
      },
    )
  }

  #answer(
    link: Link,
    frame: DataFrame,
    charged: number,
    error: unknown,
    result: Uint8Array | undefined,
  ): void {
    if (error instanceof Error && error.name === 'AssertionError') throw error
    if (this.#end.dead) return
    const place = { port: this.#end.remotePort, generation: this.#end.generation, seq: frame.seq }
    if (error === undefined && frame.kind === 'read' && result !== undefined) {
      const sent = () => {
        this.#taken -= charged
      }
      link.replies?.wake(new ReadReply(this.#end, place, result, sent))
      return
    }
    this.#taken -= charged
    const known = error instanceof ChannelError ? error : undefined
    const code = error === undefined ? undefined : (known?.code ?? 'REFUSED')
    const message = error === undefined ? '' : error instanceof Error ? error.message : 'failed'
    const done: ReplyFrame = { kind: 'done', ...place, code, message, fence: known?.fence }
    this.#end.sent(done)
    link.reply(done)
  }
}

/** What a read found, cut into frames while the stream has room. */
class ReadReply implements Source {
  readonly #end: IncomingEnd
  readonly #place: { readonly port: number; readonly generation: number; readonly seq: number }
  readonly #result: Uint8Array
  readonly #whole: () => void
  #sent = 0
  #over = false

  constructor(
    end: IncomingEnd,
    place: { port: number; generation: number; seq: number },
    result: Uint8Array,
    whole: () => void,
  ) {
    this.#end = end
    this.#place = place
    this.#result = result
    this.#whole = whole
  }

  next(): ReplyFrame | undefined {
    if (this.#over || this.#end.dead) return undefined
    const piece = this.#result.subarray(this.#sent, this.#sent + this.#end.frameBytes)
    this.#sent += piece.byteLength
    this.#over = this.#sent >= this.#result.byteLength
    if (this.#over) this.#whole()
    const frame: ReplyFrame = { kind: 'data', ...this.#place, more: !this.#over, payload: [piece] }
    this.#end.sent(frame)
    return frame
  }
}

export function join(chunks: readonly Uint8Array[]): Uint8Array {
  const [only] = chunks
  if (only === undefined) return NOTHING
  if (chunks.length === 1) return only
  let bytes = 0
  for (const chunk of chunks) bytes += chunk.byteLength
  const joined = new Uint8Array(bytes)
  let at = 0
  for (const chunk of chunks) {
    joined.set(chunk, at)
    at += chunk.byteLength
  }
  return joined
}
