import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { Frame } from '../../core/connection/frames.ts'
import { Batch, Frame as Wire } from '../../proto/gen/interconnect.ts'
import { decodeBatch, EncodedBatch } from './codec.ts'

const u32 = fc.nat({ max: 0xffffffff })
const u53 = fc.maxSafeNat()
const text = fc.string({ maxLength: 20 })
const fence = fc.record({ epoch: u53, incarnation: u53 })
const regions = fc.array(fc.record({ key: u32, bytes: u53 }), { maxLength: 3 })
const name = { client: text, index: u32, generation: u32 }
const place = { port: u32, generation: u32, seq: u53 }
const offer = { port: u32, memoryBytes: u53, regions }
const payload = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 4 })
const kind = <K extends Frame['kind']>(value: K) => fc.constant(value)

const frames: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ kind: kind('status-read'), id: u32, link: text, systemId: text }),
  fc.record({
    kind: kind('status-page'),
    id: u32,
    link: text,
    systemId: text,
    version: u32,
    incarnation: u53,
    session: u32,
    echoIncarnation: u53,
    echoSession: u32,
  }),
  fc.record({
    kind: kind('status-write'),
    id: u32,
    incarnation: u53,
    session: u32,
    state: fc.constantFrom('BOOT' as const, 'LIVE' as const),
    peerIncarnation: u53,
    peerSession: u32,
  }),
  fc.record({ kind: kind('status-written'), id: u32, accepted: fc.boolean() }),
  fc.record({
    kind: kind('hello'),
    systemId: text,
    version: u32,
    incarnation: u53,
    logBytes: u53,
    addresses: fc.array(fc.record({ link: text, address: text }), { maxLength: 3 }),
  }),
  fc.record({ kind: kind('link-ready') }),
  fc.record({ kind: kind('heartbeat'), seq: u53, incarnation: u53, slow: fc.boolean() }),
  fc.record({ kind: kind('heartbeat-reply'), seq: u53, incarnation: u53 }),
  fc.record({
    kind: kind('clients'),
    revision: u53,
    clients: fc.array(
      fc.record({
        id: text,
        version: u32,
        ports: u32,
        memoryBytes: u53,
        policy: fc.constantFrom('ordered' as const, 'striped' as const),
      }),
      { maxLength: 3 },
    ),
  }),
  fc.record({ kind: kind('open'), ...name, ...offer, links: fc.array(text, { maxLength: 3 }) }),
  fc.record({ kind: kind('opened'), ...name, ...offer }),
  fc.record({ kind: kind('refused'), ...name, reason: text }),
  fc.record({ kind: kind('ready'), ...name, regions }),
  fc.record({ kind: kind('failed'), ...name, cause: text }),
  fc.record({ kind: kind('close'), ...name }),
  fc.record({ kind: kind('closed'), ...name }),
  fc.record({ kind: kind('move'), ...name }),
  fc.record({ kind: kind('moved'), ...name, agreed: fc.boolean() }),
  fc.record({
    kind: kind('write'),
    ...place,
    region: u32,
    offset: u53,
    bytes: u53,
    fence,
    more: fc.boolean(),
    payload,
  }),
  fc.record({ kind: kind('read'), ...place, region: u32, offset: u53, bytes: u53, fence }),
  fc.record({ kind: kind('flush'), ...place, region: u32, fence }),
  fc.record({ kind: kind('message'), ...place, bytes: u53, more: fc.boolean(), payload }),
  fc.record({
    kind: kind('done'),
    ...place,
    code: fc.constantFrom(
      undefined,
      'FENCED' as const,
      'REFUSED' as const,
      'NOT_READY' as const,
      'UNKNOWN_OUTCOME' as const,
    ),
    message: text,
    fence: fc.option(fence, { nil: undefined }),
  }),
  fc.record({ kind: kind('data'), ...place, more: fc.boolean(), payload }),
)

function encode(batch: readonly Frame[]): Buffer {
  const encoded = new EncodedBatch(batch)
  const bytes = Buffer.alloc(encoded.length)
  encoded.writeTo(bytes)
  return bytes
}

/** The bytes as they may arrive: cut anywhere. */
function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const chunks: Uint8Array[] = []
  let at = 0
  for (const size of sizes) {
    chunks.push(bytes.subarray(at, at + size))
    at += size
  }
  return [...chunks, bytes.subarray(at)]
}
const cuts = fc.array(fc.nat({ max: 40 }), { maxLength: 20 })

/** Payload comes back in other chunks. */
function joined(frame: Frame): unknown {
  if (!('payload' in frame)) return { ...frame }
  const bytes = Buffer.concat(frame.payload)
  return { ...frame, payload: bytes.toString('hex') }
}

describe('codec', () => {
  test('what is encoded is decoded', () => {
    fc.assert(
      fc.property(fc.array(frames, { maxLength: 5 }), cuts, (batch, sizes) => {
        expect(decodeBatch(cut(encode(batch), sizes)).map(joined)).toEqual(batch.map(joined))
      }),
    )
  })

  test('fields in any order, and fields of later versions, are read as protobuf has them', () => {
    const message = { kind: 'message' as const, port: 1, generation: 2, seq: 3, bytes: 4, more: false }
    const [frame] = Batch.decode(encode([{ ...message, payload: [new Uint8Array([9, 8])] }])).frames
    const body = Wire.encode({ ...frame!, payload: new Uint8Array(0) }).finish()
    const later = [
      0xf8, 0x02, 0x05, 0xfd, 0x02, 1, 2, 3, 4, 0xf9, 0x02, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 0x02, 1, 7,
    ]
    const inner = Uint8Array.from([0xfa, 0x01, 2, 9, 8, ...later, ...body])
    const batch = Uint8Array.from([0x10, 1, 0x0a, inner.length, ...inner, 0x1a, 1, 0])
    for (let at = 0; at <= batch.length; at++) {
      expect(decodeBatch([batch.subarray(0, at), batch.subarray(at)]).map(joined)).toEqual([
        { ...message, payload: '0908' },
      ])
    }
  })

  test('the bytes are those of the generated encoder', () => {
    fc.assert(
      fc.property(fc.array(frames, { maxLength: 5 }), (batch) => {
        const bytes = encode(batch)
        expect(Buffer.compare(bytes, Batch.encode(Batch.decode(bytes)).finish())).toBe(0)
      }),
    )
  })

  test('R2: mutated batches are decoded or refused, never anything else', () => {
    const mutation = fc.record({ at: fc.nat(), byte: fc.nat({ max: 255 }), end: fc.option(fc.nat()) })
    fc.assert(
      fc.property(
        fc.array(frames, { minLength: 1, maxLength: 3 }),
        fc.array(mutation, { minLength: 1 }),
        cuts,
        (batch, mutations, sizes) => {
          let bytes = encode(batch)
          for (const { at, byte, end } of mutations) {
            if (bytes.length > 0) bytes[at % bytes.length] = byte
            if (end !== null) bytes = bytes.subarray(0, end % (bytes.length + 1))
          }
          try {
            decodeBatch(cut(bytes, sizes))
          } catch (error) {
            expect(error).toBeInstanceOf(Error)
          }
        },
      ),
      { numRuns: 2000 },
    )
  })
})
