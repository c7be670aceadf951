/**
 * One end of one generation of one channel: what its client sends (operations under a window of bytes, spread over the lanes of
 * its drivers) and what the far client sends here (incoming.ts).
 *
 * Invariants:
 * - Operations are taken in READY only; a dead end rejects everything at once: NOT_READY if nothing of it was sent,
 *   UNKNOWN_OUTCOME otherwise. Late completions find a dead end and are dropped.
 * - What is under way is bounded by the far client's memory, what waits by `WAITING_MAX`.
 * - Work begun in a region may outlive the end; the slot opens no newer generation and releases no memory before it is over.
 *
 * Not here: opening, moving and closing (slots.ts), retransmission (there is none: clients know what they lack).
 */
import type { Channel, ChannelClient, Fence, RegionDescriptor } from './client.ts'
import { ChannelError } from './client.ts'
import type { ChannelOffer, DataFrame, Frame, ReplyFrame } from './frames.ts'
import { frameBytes } from './frames.ts'
import type { IncomingEnd } from './incoming.ts'
import { Incoming, join, NOTHING, OPERATION_BYTES, windowBytes } from './incoming.ts'
import type { LaneEnd, Operation } from './lane.ts'
import { Lane } from './lane.ts'
import type { Link } from './link.ts'
import type { BrokenConnection } from './options.ts'
import { noTraffic } from './traffic.ts'

/** Operations that wait for room at the far end; a client that asks for more has not waited for any of them. */
export const WAITING_MAX = 4096

/** What an end needs of its slot. */
export interface EndOwner {
  readonly frameBytes: number
  readonly broken: BrokenConnection
  /** Runs a callback of the client after the present input is processed. */
  defer(task: () => void): void
  begun(): void
  ended(): void
  /** Outstanding operations have become fewer, maybe none. */
  drained(end: ChannelEnd): void
}

export type EndState = 'OPENING' | 'OPEN' | 'READY' | 'CLOSING' | 'DEAD'

const NO_FENCE: Fence = { epoch: 0, incarnation: 0 }

export class ChannelEnd implements Channel, LaneEnd, IncomingEnd {
  readonly clientId: string
  readonly index: number
  readonly generation: number
  readonly port: number
  readonly links: readonly Link[]
  readonly traffic = noTraffic()
  readonly #owner: EndOwner
  state: EndState = 'OPENING'
  /** `up` has been promised to the client: exactly one `error` or `down` is due. */
  announced = false
  remotePort = 0
  remoteRegions: readonly RegionDescriptor[] = []
  /** While it asks whether it may move, nothing new is sent. */
  held = false
  readonly #lanes: readonly Lane[]
  readonly #incoming: Incoming
  #window = 0
  #outstanding = 0
  #waiting: Operation[] = []
  #barriers: {
    left: Set<Operation>
    failed: ChannelError | undefined
    resolve: () => void
    reject: (e: ChannelError) => void
  }[] = []

  constructor(
    owner: EndOwner,
    client: ChannelClient,
    index: number,
    generation: number,
    port: number,
    links: readonly Link[],
  ) {
    this.#owner = owner
    this.clientId = client.id
    this.index = index
    this.generation = generation
    this.port = port
    this.links = links
    this.#lanes = links.map((link) => new Lane(this, link))
    this.#incoming = new Incoming(this, client, links)
  }

  get dead(): boolean {
    return this.state === 'DEAD'
  }

  get frameBytes(): number {
    return this.#owner.frameBytes
  }

  /** Nothing of ours is under way, and nothing of the far client's here. */
  get idle(): boolean {
    return this.quiet && this.#incoming.idle
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
    this.#incoming.ready()
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
    if (left.size === 0 || this.#owner.broken.noBarrier === true) return Promise.resolve()
    if (this.#barriers.length >= WAITING_MAX) return Promise.reject(this.#tooMany())
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
    this.#incoming.die()
    const unknown = new ChannelError('UNKNOWN_OUTCOME', cause)
    const unsent = new ChannelError('NOT_READY', cause)
    const waiting = this.#waiting
    this.#waiting = []
    for (const lane of this.#lanes) {
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
    if (this.state === 'OPENING') {
      link.fail('frame for a channel that is not open yet')
      return
    }
    this.#received(frame)
    this.#incoming.receive(link, frame)
  }

  /** An answer of the far end. */
  reply(link: Link, frame: ReplyFrame): void {
    const lane = this.#lanes.find((candidate) => candidate.link === link)
    const operation = lane?.outstanding.get(frame.seq)
    if (lane === undefined || operation === undefined) {
      link.fail(`answer to nothing that was asked (${this.clientId} ${frame.seq})`)
      return
    }
    this.#received(frame)
    if (frame.kind === 'data') {
      for (const chunk of frame.payload) {
        operation.parts.push(chunk)
        operation.partsBytes += chunk.byteLength
      }
      if (operation.partsBytes > operation.bytes) {
        link.fail('read returned more than was asked')
        return
      }
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
    if (this.quiet) this.#owner.drained(this)
  }

  sent(frame: Frame): void {
    this.traffic.framesSent++
    this.traffic.bytesSent += frameBytes(frame)
  }

  defer(task: () => void): void {
    this.#owner.defer(task)
  }

  begun(): void {
    this.#owner.begun()
  }

  ended(): void {
    this.#owner.ended()
  }

  #received(frame: DataFrame | ReplyFrame): void {
    this.traffic.framesReceived++
    this.traffic.bytesReceived += frameBytes(frame)
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
    if (this.#waiting.length >= WAITING_MAX) return Promise.reject(this.#tooMany())
    return new Promise((resolve, reject) => {
      const operation = { kind, region, offset, bytes, fence, chunks, cost, resolve, reject }
      this.#waiting.push({ ...operation, parts: [], partsBytes: 0 })
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

  #tooMany(): ChannelError {
    return new ChannelError('NOT_READY', `${WAITING_MAX} operations of ${this.clientId} wait already`)
  }

  #notReady(): ChannelError {
    return new ChannelError(
      'NOT_READY',
      `channel ${this.clientId}/${this.index} generation ${this.generation} is ${this.state}`,
    )
  }
}
