/**
 * Frames to bytes and back, as src/proto/interconnect.proto has them. Everything but payload goes through the generated
 * code; payload, which the message numbers last, is appended from the chunks as they are, with one copy into the batch,
 * and handed out as views of the batch received, with none. The bytes are those of the generated encoder (codec.test.ts).
 */
import type { ChannelErrorCode } from '../../core/connection/client.ts'
import type { ChannelName, ChannelOffer, Frame } from '../../core/connection/frames.ts'
import { Batch, Outcome, Frame as Wire } from '../../proto/gen/interconnect.ts'
import type { Fence, Offer } from '../../proto/gen/interconnect.ts'

const EMPTY = new Uint8Array(0)
/** Batch.frames and Frame.payload, as tag bytes. */
const FRAME_TAG = 0x0a
const PAYLOAD_TAG = [0xfa, 0x01] as const

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

  writeTo(target: Uint8Array): void {
    let at = 0
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

/** Throws WireError (or what the generated decoder throws) for anything that is not a batch. Payload is a view of `bytes`. */
export function decodeBatch(bytes: Uint8Array): Frame[] {
  // A plain view: a Buffer's slice() would be a view where everybody expects a copy.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Batch.decode(plain).frames.map(fromWire)
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
      const clients = frame.clients.map((client) => ({ ...client, striped: client.policy === 'striped' }))
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

function fromWire(wire: Wire): Frame {
  const body = need(wire.body, 'body')
  switch (body.$case) {
    case 'write':
      return { kind: 'write', ...body.value, fence: fence(body.value.fence), payload: payloadOf(wire) }
    case 'read':
      return { kind: 'read', ...body.value, fence: fence(body.value.fence) }
    case 'flush':
      return { kind: 'flush', ...body.value, fence: fence(body.value.fence) }
    case 'message':
      return { kind: 'message', ...body.value, payload: payloadOf(wire) }
    case 'done': {
      const { port, generation, seq, outcome, message } = body.value
      return { kind: 'done', port, generation, seq, code: codeOf(outcome), message, fence: body.value.fence }
    }
    case 'data':
      return { kind: 'data', ...body.value, payload: payloadOf(wire) }
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
        ({ striped, ...client }) => ({ ...client, policy: striped ? 'striped' : 'ordered' }) as const,
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

function payloadOf(wire: Wire): readonly Uint8Array[] {
  return wire.payload.byteLength > 0 ? [wire.payload] : []
}
