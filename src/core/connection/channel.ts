/**
 * One end of one generation of one channel: what its client sends (operations under a window of bytes, cut into frames,
 * in order per driver) and what the far client sends here (regions, messages).
 *
 * Invariants:
 * - Operations are taken in READY only; a dead end rejects everything at once: NOT_READY if nothing of it was sent,
 *   UNKNOWN_OUTCOME otherwise. Late completions find a dead end and are dropped.
 * - Per driver, requests carry consecutive numbers; a hole or a repetition is a fault of the driver, which then fails.
 * - What is under way here for the far client is bounded by the memory our client has claimed; the far end keeps to it,
 *   an end that does not is cut off.
 * - Work begun in a region may outlive the end; the slot counts it (`begun`, `ended`) and opens no newer generation and
 *   releases no memory before it is over.
 *
 * Not here: opening, moving and closing (slots.ts), retransmission (there is none: clients know what they lack).
 */
import type { Channel, ChannelClient, Fence, Region, RegionDescriptor } from './client.ts'
import { ChannelError } from './client.ts'
import type { ChannelOffer, DataFrame, ReplyFrame } from './frames.ts'
import type { Link } from './link.ts'
import type { Source } from './outbox.ts'

/** Charged for every operation beside its payload, so that small ones are bounded as well. */
const OPERATION_BYTES = 64
/** A window is at least this large, whatever a client claims. */
const MIN_WINDOW_BYTES = 65536

export function windowBytes(memoryBytes: number): number {
  return Math.max(memoryBytes, MIN_WINDOW_BYTES)
}

/** What an end needs of its slot. */
export interface EndOwner {
  readonly frameBytes: number
  /** Runs a callback of the client after the present input is processed. */
  defer(task: () => void): void
  begun(): void
  ended(): void
  /** Outstanding operations have become fewer, maybe none. */
  drained(end: ChannelEnd): void
}

export type EndState = 'OPENING' | 'OPEN' | 'READY' | 'CLOSING' | 'DEAD'

interface Operation {
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
}

const NO_FENCE: Fence = { epoch: 0, incarnation: 0 }
const NOTHING = new Uint8Array(0)

/** An end's share of one driver. */
class Lane implements Source {
  readonly link: Link
  readonly #end: ChannelEnd
  /** Assigned to this driver, not yet completely sent. */
  #out: Operation[] = []
  #seq = 0
  /** Position in the first of `#out`. */
  #chunk = 0
  #within = 0
  readonly outstanding = new Map<number, Operation>()
  outstandingBytes = 0
  /** Receiving side. */
  expected = 1
  partial: Uint8Array[] = []
  partialBytes = 0
  readySent = false
  readyReceived = false

  constructor(end: ChannelEnd, link: Link) {
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
    if (operation === undefined || this.#end.state === 'DEAD') return undefined
    if (this.#chunk === 0 && this.#within === 0) {
      this.#seq++
      this.outstanding.set(this.#seq, operation)
    }
    const place = { port: this.#end.remotePort, generation: this.#end.generation, seq: this.#seq }
    const { region, offset, bytes, fence } = operation
    if (operation.kind === 'read') return this.#sent({ kind: 'read', ...place, region, offset, bytes, fence })
    if (operation.kind === 'flush') return this.#sent({ kind: 'flush', ...place, region, fence })
    const payload = this.#cut(operation.chunks)
    const more = this.#chunk < operation.chunks.length
    const frame: DataFrame =
      operation.kind === 'write'
        ? { kind: 'write', ...place, region, offset, bytes, fence, more, payload }
        : { kind: 'message', ...place, bytes, more, payload }
    return more ? frame : this.#sent(frame)
  }

  /** What was assigned and of which no byte has left. */
  unsent(): readonly Operation[] {
    return this.#chunk === 0 && this.#within === 0 ? this.#out : this.#out.slice(1)
  }

  #sent(frame: DataFrame): DataFrame {
    this.#out.shift()
    this.#chunk = 0
    this.#within = 0
    return frame
  }

  /** The next frame's worth of payload, by reference. */
  #cut(chunks: readonly Uint8Array[]): Uint8Array[] {
    let room = this.#end.owner.frameBytes
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

export class ChannelEnd implements Channel {
  readonly clientId: string
  readonly index: number
  readonly generation: number
  readonly port: number
  readonly owner: EndOwner
  readonly #client: ChannelClient
  state: EndState = 'OPENING'
  /** `up` has been promised to the client: exactly one `error` or `down` is due. */
  announced = false
  remotePort = 0
  remoteRegions: readonly RegionDescriptor[] = []
  /** While it asks whether it may move, nothing new is sent. */
  held = false
  lastUseMs = 0
  readonly #lanes: readonly Lane[]
  readonly #regions = new Map<number, Region>()
  #window = 0
  #outstanding = 0
  #waiting: Operation[] = []
  #barriers: {
    left: Set<Operation>
    failed: ChannelError | undefined
    resolve: () => void
    reject: (e: ChannelError) => void
  }[] = []
  /** Receiving side: bytes taken and not yet answered, work begun, frames that came before `up`. */
  #taken = 0
  #placing = new Set<Promise<unknown>>()
  #early: { link: Link; frame: DataFrame }[] = []
  #handling = 0

  constructor(
    owner: EndOwner,
    client: ChannelClient,
    index: number,
    generation: number,
    port: number,
    links: readonly Link[],
  ) {
    this.owner = owner
    this.#client = client
    this.clientId = client.id
    this.index = index
    this.generation = generation
    this.port = port
    this.#lanes = links.map((link) => new Lane(this, link))
    for (const region of client.regions) this.#regions.set(region.key, region)
  }

  get links(): readonly Link[] {
    return this.#lanes.map((lane) => lane.link)
  }

  /** Nothing of ours is under way, and nothing of the far client's here. */
  get idle(): boolean {
    return this.quiet && this.#taken === 0 && this.#handling === 0
  }

  /** Nothing of ours is under way. */
  get quiet(): boolean {
    return this.#outstanding === 0 && this.#waiting.length === 0
  }

  /** The far end's offer has arrived. */
  bind(offer: ChannelOffer): void {
    this.remotePort = offer.port
    this.remoteRegions = offer.regions
    this.#window = windowBytes(offer.memoryBytes)
    this.state = 'OPEN'
  }

  readyReceived(link: Link): boolean {
    for (const lane of this.#lanes) if (lane.link === link) lane.readyReceived = true
    return this.#lanes.every((lane) => lane.readyReceived)
  }

  /** Both READY are exchanged. */
  ready(): void {
    this.state = 'READY'
    const early = this.#early
    this.#early = []
    for (const { link, frame } of early) this.receive(link, frame)
  }

  send(message: Uint8Array): Promise<void> {
    return this.#submit(
      'message',
      0,
      0,
      message.byteLength,
      NO_FENCE,
      message.byteLength > 0 ? [message] : [],
    ).then(() => undefined)
  }

  write(region: number, offset: number, chunks: readonly Uint8Array[], fence: Fence): Promise<void> {
    let bytes = 0
    for (const chunk of chunks) bytes += chunk.byteLength
    // An empty chunk would be a frame of its own.
    const full = chunks.some((chunk) => chunk.byteLength === 0)
      ? chunks.filter((chunk) => chunk.byteLength > 0)
      : chunks
    return this.#submit('write', region, offset, bytes, fence, full).then(() => undefined)
  }

  read(region: number, offset: number, bytes: number, fence: Fence): Promise<Uint8Array> {
    return this.#submit('read', region, offset, bytes, fence, [])
  }

  async flush(region: number, fence: Fence): Promise<void> {
    if (this.#lanes.length > 1) await this.barrier()
    await this.#submit('flush', region, 0, 0, fence, [])
  }

  barrier(): Promise<void> {
    if (this.state !== 'READY') return Promise.reject(this.#notReady())
    const left = new Set<Operation>()
    for (const operation of this.#waiting) if (operation.kind === 'write') left.add(operation)
    for (const lane of this.#lanes) {
      for (const operation of lane.outstanding.values()) if (operation.kind === 'write') left.add(operation)
      for (const operation of lane.unsent()) if (operation.kind === 'write') left.add(operation)
    }
    if (left.size === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#barriers.push({ left, failed: undefined, resolve, reject })
    })
  }

  /** No new operations; those accepted drain. */
  closing(): void {
    if (this.state === 'READY') this.state = 'CLOSING'
  }

  /** The generation is over. */
  die(cause: string): void {
    if (this.state === 'DEAD') return
    this.state = 'DEAD'
    this.#early = []
    const unknown = new ChannelError('UNKNOWN_OUTCOME', cause)
    const unsent = new ChannelError('NOT_READY', cause)
    const waiting = this.#waiting
    this.#waiting = []
    for (const lane of this.#lanes) {
      lane.partial = []
      const left = lane.unsent()
      for (const operation of left) operation.reject(unsent)
      for (const operation of lane.outstanding.values()) operation.reject(unknown)
      lane.outstanding.clear()
    }
    for (const operation of waiting) operation.reject(unsent)
    for (const barrier of this.#barriers) barrier.reject(unknown)
    this.#barriers = []
    this.#outstanding = 0
  }

  /** A `held` end that was told to stay. */
  release(): void {
    this.held = false
    this.#pump()
  }

  /** From the far client. */
  receive(link: Link, frame: DataFrame): void {
    const lane = this.#lanes.find((candidate) => candidate.link === link)
    if (lane === undefined || this.state === 'OPENING') {
      link.fail('frame for a channel that is not on this driver')
      return
    }
    if (this.state === 'OPEN') {
      this.#early.push({ link, frame })
      return
    }
    if (frame.seq !== lane.expected) {
      link.fail(`frame ${frame.seq} of ${this.clientId} where ${lane.expected} was due`)
      return
    }
    if (frame.kind === 'write' || frame.kind === 'message') {
      for (const chunk of frame.payload) {
        lane.partialBytes += chunk.byteLength
        lane.partial.push(chunk)
      }
      if (lane.partialBytes > frame.bytes || frame.more === (lane.partialBytes === frame.bytes)) {
        link.fail('payload differs from the length announced')
        return
      }
    }
    const bytes = frame.kind === 'read' ? frame.bytes : lane.partialBytes
    if (this.#taken + bytes > windowBytes(this.#client.memoryBytes)) {
      link.fail(`partner exceeds the memory of ${this.clientId}`)
      return
    }
    if ((frame.kind === 'write' || frame.kind === 'message') && frame.more) return
    lane.expected++
    const chunks = lane.partial
    lane.partial = []
    lane.partialBytes = 0
    this.#taken += bytes
    const finish = (error: unknown, result: Uint8Array | undefined) => {
      this.#taken -= bytes
      this.#answer(link, frame, error, result)
    }
    if (frame.kind === 'message') this.#message(chunks, finish)
    else this.#region(frame, chunks, finish)
  }

  /** An answer of the far end. */
  reply(link: Link, frame: ReplyFrame): void {
    const lane = this.#lanes.find((candidate) => candidate.link === link)
    const operation = lane?.outstanding.get(frame.seq)
    if (lane === undefined || operation === undefined) {
      link.fail(`answer to nothing that was asked (${this.clientId} ${frame.seq})`)
      return
    }
    if (frame.kind === 'data') {
      operation.parts.push(...frame.payload)
      if (frame.more) return
    }
    lane.outstanding.delete(frame.seq)
    lane.outstandingBytes -= operation.cost
    this.#outstanding -= operation.cost
    let error: ChannelError | undefined
    if (frame.kind === 'done' && frame.code !== undefined)
      error = new ChannelError(frame.code, frame.message, frame.fence)
    const result = operation.kind === 'read' ? join(operation.parts) : NOTHING
    if (operation.kind === 'read' && error === undefined && result.byteLength !== operation.bytes) {
      link.fail('read returned another length than was asked')
      operation.reject(new ChannelError('UNKNOWN_OUTCOME', 'short read'))
      return
    }
    if (error === undefined) operation.resolve(result)
    else operation.reject(error)
    if (this.#barriers.length > 0 && operation.kind === 'write') this.#passBarriers(operation, error)
    this.#pump()
    if (this.quiet) this.owner.drained(this)
  }

  #submit(
    kind: Operation['kind'],
    region: number,
    offset: number,
    bytes: number,
    fence: Fence,
    chunks: readonly Uint8Array[],
  ): Promise<Uint8Array> {
    if (this.state !== 'READY') return Promise.reject(this.#notReady())
    const cost = bytes + OPERATION_BYTES
    if (cost > this.#window) {
      return Promise.reject(
        new ChannelError('REFUSED', `${bytes} bytes exceed the partner's memory for ${this.clientId}`),
      )
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ kind, region, offset, bytes, fence, chunks, cost, resolve, reject, parts: [] })
      this.#pump()
    })
  }

  #pump(): void {
    if (this.held) return
    while (this.#waiting.length > 0) {
      const operation = this.#waiting[0]!
      if (this.#outstanding + operation.cost > this.#window) return
      this.#waiting.shift()
      this.#outstanding += operation.cost
      this.#lane(operation).add(operation)
    }
  }

  /** Data of a striped channel goes where least is outstanding; what has an order stays on the first driver. */
  #lane(operation: Operation): Lane {
    let best = this.#lanes[0]!
    if (operation.kind === 'message' || operation.kind === 'flush') return best
    for (const lane of this.#lanes) if (lane.outstandingBytes < best.outstandingBytes) best = lane
    return best
  }

  #passBarriers(operation: Operation, error: ChannelError | undefined): void {
    for (const barrier of this.#barriers) {
      if (!barrier.left.delete(operation)) continue
      barrier.failed ??= error
      if (barrier.left.size > 0) continue
      if (barrier.failed === undefined) barrier.resolve()
      else barrier.reject(barrier.failed)
    }
    this.#barriers = this.#barriers.filter((barrier) => barrier.left.size > 0)
  }

  #message(
    chunks: readonly Uint8Array[],
    finish: (error: unknown, result: Uint8Array | undefined) => void,
  ): void {
    this.#handling++
    this.owner.defer(() => {
      this.#handling--
      if (this.state === 'DEAD') return
      let pending: void | Promise<void>
      try {
        pending = this.#client.message(this, join(chunks))
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
    finish: (error: unknown, result: Uint8Array | undefined) => void,
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

  #track(work: Promise<Uint8Array>, finish: (error: unknown, result: Uint8Array | undefined) => void): void {
    this.owner.begun()
    work.then(
      (result) => {
        finish(undefined, result)
        this.owner.ended()
      },
      (error: unknown) => {
        finish(error, undefined)
        this.owner.ended()
      },
    )
  }

  #answer(link: Link, frame: DataFrame, error: unknown, result: Uint8Array | undefined): void {
    if (error instanceof Error && error.name === 'AssertionError') throw error
    if (this.state === 'DEAD') return
    const place = { port: this.remotePort, generation: this.generation, seq: frame.seq }
    if (error !== undefined) {
      const known = error instanceof ChannelError ? error : undefined
      const message = error instanceof Error ? error.message : 'failed'
      link.reply({ kind: 'done', ...place, code: known?.code ?? 'REFUSED', message, fence: known?.fence })
      return
    }
    if (frame.kind !== 'read' || result === undefined) {
      link.reply({ kind: 'done', ...place, code: undefined, message: '', fence: undefined })
      return
    }
    link.replies?.wake(new ReadReply(this, place, result))
  }

  #notReady(): ChannelError {
    return new ChannelError(
      'NOT_READY',
      `channel ${this.clientId}/${this.index} generation ${this.generation} is ${this.state}`,
    )
  }
}

/** What a read found, cut into frames while the stream has room. */
class ReadReply implements Source {
  readonly #end: ChannelEnd
  readonly #place: { readonly port: number; readonly generation: number; readonly seq: number }
  readonly #result: Uint8Array
  #sent = 0
  #over = false

  constructor(end: ChannelEnd, place: { port: number; generation: number; seq: number }, result: Uint8Array) {
    this.#end = end
    this.#place = place
    this.#result = result
  }

  next(): ReplyFrame | undefined {
    if (this.#over || this.#end.state === 'DEAD') return undefined
    const piece = this.#result.subarray(this.#sent, this.#sent + this.#end.owner.frameBytes)
    this.#sent += piece.byteLength
    this.#over = this.#sent >= this.#result.byteLength
    return { kind: 'data', ...this.#place, more: !this.#over, payload: [piece] }
  }
}

function join(chunks: readonly Uint8Array[]): Uint8Array {
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
