/**
 * Frames to bytes and back, as src/proto/interconnect.proto has them. Everything but payload goes through the generated
 * code; payload, which the message numbers last, is appended from the chunks as they are, with one copy into the batch,
 * and handed out as views of what was received, in the chunks in which it came, with none. The bytes are those of the generated
 * encoder (codec.test.ts).
 */
import type { ChannelErrorCode } from '../../core/connection/client.ts'
import type { ChannelName, ChannelOffer, Frame } from '../../core/connection/frames.ts'
import { Outcome, Frame as Wire } from '../../proto/gen/interconnect.ts'
import type { Fence, Offer } from '../../proto/gen/interconnect.ts'

const EMPTY: Uint8Array = new Uint8Array(0)
/** Batch.frames and Frame.payload, as tag bytes. */
const FRAME_TAG = 0x0a
const PAYLOAD_TAG = [0xfa, 0x01] as const
const PAYLOAD_TAG_NUMBER = 0xfa

/** No channel lives through so many; the next one must still be a number that can be told from it. */
const GENERATION_MAX = 2 ** 48

export class WireError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'WireError'
  }
}

/** A batch measured, to be written into a buffer of its length. */
export class EncodedBatch {
  readonly length: number
  readonly #parts: readonly Part[]

  constructor(frames: readonly Frame[]) {
    let total = 0
    this.#parts = frames.map((frame) => {
      const head = Wire.encode({ body: toBody(frame), payload: EMPTY }).finish()
      const payload = 'payload' in frame ? frame.payload : []
      let bytes = 0
      for (const chunk of payload) bytes += chunk.byteLength
      const length = head.byteLength + (bytes > 0 ? PAYLOAD_TAG.length + varintBytes(bytes) + bytes : 0)
      total += 1 + varintBytes(length) + length
      return { head, payload, bytes, length }
    })
    this.length = total
  }

  /** Writes `length` bytes from `at` on. */
  writeTo(target: Uint8Array, at = 0): void {
    for (const { head, payload, bytes, length } of this.#parts) {
      target[at++] = FRAME_TAG
      at = putVarint(target, at, length)
      target.set(head, at)
      at += head.byteLength
      if (bytes === 0) continue
      for (const byte of PAYLOAD_TAG) target[at++] = byte
      at = putVarint(target, at, bytes)
      for (const chunk of payload) {
        target.set(chunk, at)
        at += chunk.byteLength
      }
    }
  }
}

interface Part {
  readonly head: Uint8Array
  readonly payload: readonly Uint8Array[]
  readonly bytes: number
  /** Of head and payload with its tag. */
  readonly length: number
}

/**
 * The frames of a batch that came in these chunks. Throws WireError for anything that is not a batch. Payload is views of the chunks.
 */
export function decodeBatch(chunks: readonly Uint8Array[]): Frame[] {
  const cursor = new Cursor(chunks)
  const frames: Frame[] = []
  while (cursor.left > 0) {
    const tag = cursor.varint()
    if (tag === FRAME_TAG) frames.push(readFrame(cursor))
    else cursor.skipField(tag)
  }
  return frames
}

function readFrame(cursor: Cursor): Frame {
  const length = cursor.varint()
  if (length > cursor.left) throw new WireError('frame beyond its batch')
  const end = cursor.left - length
  let head = EMPTY
  let payload: readonly Uint8Array[] = []
  let from = cursor.place()
  while (cursor.left > end) {
    const before = cursor.left
    const tag = cursor.varint()
    if (tag !== PAYLOAD_TAG_NUMBER) {
      cursor.skipField(tag)
      if (cursor.left === end) head = joined(head, cursor.bytesFrom(from, from.left - end))
      continue
    }
    head = joined(head, cursor.bytesFrom(from, from.left - before))
    payload = cursor.views(cursor.varint())
    from = cursor.place()
  }
  if (cursor.left < end) throw new WireError('field beyond its frame')
  const frame = fromWire(decodeHead(head), payload)
  if ('generation' in frame && frame.generation > GENERATION_MAX) throw new WireError('generation beyond all')
  return frame
}

/** The generated decoder, whose errors are of several kinds. */
function decodeHead(head: Uint8Array): Wire {
  try {
    return Wire.decode(head)
  } catch (error) {
    throw new WireError(error instanceof Error ? error.message : String(error))
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.byteLength === 0) return b
  if (b.byteLength === 0) return a
  const bytes = new Uint8Array(a.byteLength + b.byteLength)
  bytes.set(a)
  bytes.set(b, a.byteLength)
  return bytes
}

interface Place {
  readonly index: number
  readonly at: number
  readonly left: number
}

/** Protobuf's basic types over a list of chunks. */
class Cursor {
  readonly #chunks: readonly Uint8Array[]
  #index = 0
  #at = 0
  /** Bytes not read yet. */
  left = 0

  constructor(chunks: readonly Uint8Array[]) {
    this.#chunks = chunks
    for (const chunk of chunks) this.left += chunk.byteLength
  }

  place(): Place {
    return { index: this.#index, at: this.#at, left: this.left }
  }

  varint(): number {
    let value = 0
    for (let scale = 1; scale < 2 ** 63; scale *= 128) {
      const byte = this.#byte()
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
    throw new WireError('number without end')
  }

  skipField(tag: number): void {
    switch (tag & 7) {
      case 0:
        this.varint()
        return
      case 1:
        this.views(8)
        return
      case 2:
        this.views(this.varint())
        return
      case 5:
        this.views(4)
        return
      default:
        throw new WireError(`field of wire type ${tag & 7}`)
    }
  }

  /** The next `bytes` bytes where they lie. */
  views(bytes: number): Uint8Array[] {
    if (bytes > this.left) throw new WireError('field beyond its batch')
    const views: Uint8Array[] = []
    this.left -= bytes
    for (let missing = bytes; missing > 0;) {
      const view = this.#chunks[this.#index]!.subarray(this.#at, this.#at + missing)
      this.#at += view.byteLength
      missing -= view.byteLength
      if (view.byteLength > 0) views.push(view)
      if (missing > 0) {
        this.#index += 1
        this.#at = 0
      }
    }
    return views
  }

  /** `bytes` bytes from an earlier place on, in one piece. */
  bytesFrom({ index, at }: Place, bytes: number): Uint8Array {
    const first = this.#chunks[index]?.subarray(at, at + bytes) ?? EMPTY
    if (first.byteLength === bytes) return first
    const whole = new Uint8Array(bytes)
    let filled = 0
    for (let next = index, from = at; filled < bytes; next++, from = 0) {
      const part = this.#chunks[next]!.subarray(from, from + bytes - filled)
      whole.set(part, filled)
      filled += part.byteLength
    }
    return whole
  }

  #byte(): number {
    if (this.left === 0) throw new WireError('batch ends within a field')
    while (this.#at === this.#chunks[this.#index]!.byteLength) {
      this.#index += 1
      this.#at = 0
    }
    this.left -= 1
    return this.#chunks[this.#index]![this.#at++]!
  }
}

function varintBytes(value: number): number {
  let bytes = 1
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) bytes++
  return bytes
}

function putVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value
  while (rest > 127) {
    into[at++] = (rest % 128) | 0x80
    rest = Math.floor(rest / 128)
  }
  into[at++] = rest
  return at
}

const name = ({ client, index, generation }: ChannelName): ChannelName => ({ client, index, generation })

function toOffer(frame: ChannelName & ChannelOffer): Offer {
  const { port, memoryBytes } = frame
  return { name: name(frame), port, memoryBytes, regions: [...frame.regions] }
}

function toBody(frame: Frame): NonNullable<Wire['body']> {
  switch (frame.kind) {
    case 'write':
      return { $case: 'write', value: frame }
    case 'read':
      return { $case: 'read', value: frame }
    case 'flush':
      return { $case: 'flush', value: frame }
    case 'message':
      return { $case: 'message', value: frame }
    case 'done':
      return {
        $case: 'done',
        value: { ...frame, outcome: frame.code === undefined ? Outcome.DONE : OUTCOMES[frame.code] },
      }
    case 'data':
      return { $case: 'data', value: frame }
    case 'heartbeat':
      return { $case: 'heartbeat', value: frame }
    case 'heartbeat-reply':
      return { $case: 'heartbeatReply', value: frame }
    case 'status-read':
      return { $case: 'statusRead', value: frame }
    case 'status-page':
      return { $case: 'statusPage', value: frame }
    case 'status-write':
      return { $case: 'statusWrite', value: { ...frame, live: frame.state === 'LIVE' } }
    case 'status-written':
      return { $case: 'statusWritten', value: frame }
    case 'hello':
      return { $case: 'hello', value: { ...frame, addresses: [...frame.addresses] } }
    case 'link-ready':
      return { $case: 'linkReady', value: {} }
    case 'clients': {
      const clients = frame.clients.map((client) => ({ ...client, mayStripe: client.policy === 'striped' }))
      return { $case: 'clients', value: { revision: frame.revision, clients } }
    }
    case 'open':
      return { $case: 'open', value: { offer: toOffer(frame), links: [...frame.links] } }
    case 'opened':
      return { $case: 'opened', value: toOffer(frame) }
    case 'refused':
      return { $case: 'refused', value: { name: name(frame), reason: frame.reason } }
    case 'ready':
      return { $case: 'ready', value: { name: name(frame), regions: [...frame.regions] } }
    case 'failed':
      return { $case: 'failed', value: { name: name(frame), cause: frame.cause } }
    case 'close':
      return { $case: 'close', value: name(frame) }
    case 'closed':
      return { $case: 'closed', value: name(frame) }
    case 'move':
      return { $case: 'move', value: name(frame) }
    case 'moved':
      return { $case: 'moved', value: { name: name(frame), agreed: frame.agreed } }
  }
}

const OUTCOMES = {
  FENCED: Outcome.FENCED,
  REFUSED: Outcome.REFUSED,
  NOT_READY: Outcome.NOT_READY,
  UNKNOWN_OUTCOME: Outcome.UNKNOWN,
} as const satisfies Record<ChannelErrorCode, Outcome>

function codeOf(outcome: Outcome): ChannelErrorCode | undefined {
  switch (outcome) {
    case Outcome.DONE:
      return undefined
    case Outcome.FENCED:
      return 'FENCED'
    case Outcome.REFUSED:
      return 'REFUSED'
    case Outcome.NOT_READY:
      return 'NOT_READY'
    default:
      return 'UNKNOWN_OUTCOME'
  }
}

function need<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new WireError(`frame without ${what}`)
  return value
}

const fence = (value: Fence | undefined) => need(value, 'fence')

function fromOffer(offer: Offer | undefined) {
  const { name, port, memoryBytes, regions } = need(offer, 'offer')
  return { ...need(name, 'name'), port, memoryBytes, regions }
}

function fromWire(wire: Wire, payload: readonly Uint8Array[]): Frame {
  const body = need(wire.body, 'body')
  switch (body.$case) {
    case 'write':
      return { kind: 'write', ...body.value, fence: fence(body.value.fence), payload }
    case 'read':
      return { kind: 'read', ...body.value, fence: fence(body.value.fence) }
    case 'flush':
      return { kind: 'flush', ...body.value, fence: fence(body.value.fence) }
    case 'message':
      return { kind: 'message', ...body.value, payload }
    case 'done': {
      const { port, generation, seq, outcome, message } = body.value
      return { kind: 'done', port, generation, seq, code: codeOf(outcome), message, fence: body.value.fence }
    }
    case 'data':
      return { kind: 'data', ...body.value, payload }
    case 'heartbeat':
      return { kind: 'heartbeat', ...body.value }
    case 'heartbeatReply':
      return { kind: 'heartbeat-reply', ...body.value }
    case 'statusRead':
      return { kind: 'status-read', ...body.value }
    case 'statusPage':
      return { kind: 'status-page', ...body.value }
    case 'statusWrite': {
      const { live, ...rest } = body.value
      return { kind: 'status-write', ...rest, state: live ? 'LIVE' : 'BOOT' }
    }
    case 'statusWritten':
      return { kind: 'status-written', ...body.value }
    case 'hello':
      return { kind: 'hello', ...body.value }
    case 'linkReady':
      return { kind: 'link-ready' }
    case 'clients': {
      const clients = body.value.clients.map(
        ({ mayStripe, ...client }) => ({ ...client, policy: mayStripe ? 'striped' : 'ordered' }) as const,
      )
      return { kind: 'clients', revision: body.value.revision, clients }
    }
    case 'open':
      return { kind: 'open', ...fromOffer(body.value.offer), links: body.value.links }
    case 'opened':
      return { kind: 'opened', ...fromOffer(body.value) }
    case 'refused':
      return { kind: 'refused', ...need(body.value.name, 'name'), reason: body.value.reason }
    case 'ready':
      return { kind: 'ready', ...need(body.value.name, 'name'), regions: body.value.regions }
    case 'failed':
      return { kind: 'failed', ...need(body.value.name, 'name'), cause: body.value.cause }
    case 'close':
      return { kind: 'close', ...body.value }
    case 'closed':
      return { kind: 'closed', ...body.value }
    case 'move':
      return { kind: 'move', ...body.value }
    case 'moved':
      return { kind: 'moved', ...need(body.value.name, 'name'), agreed: body.value.agreed }
  }
}
