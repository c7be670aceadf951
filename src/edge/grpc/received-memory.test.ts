import { expect, test } from '@jest/globals'
import type { Frame } from '../../core/connection/frames.ts'
import { decodeBatch, EncodedBatch } from './codec.ts'
import { MessageReader, PREFIX_BYTES, putPrefix } from './message-stream.ts'
import { lend } from './received-memory.ts'

const READ_BYTES = 16 << 10
const FENCE = { epoch: 1, incarnation: 1 }

function write(seq: number, bytes: number): Frame {
  const payload = [new Uint8Array(bytes).fill(seq)]
  const place = { port: 1, generation: 1, seq }
  return { kind: 'write', ...place, region: 1, offset: 0, bytes, fence: FENCE, more: false, payload }
}
function message(seq: number, bytes: number): Frame {
  const payload = [new Uint8Array(bytes).fill(seq)]
  return { kind: 'message', port: 1, generation: 1, seq, bytes, more: false, payload }
}

/** These batches as reads of `READ_BYTES`, each in memory of its own. */
function reads(...batches: Frame[][]): Uint8Array[] {
  const stream = Buffer.concat(
    batches.map((frames) => {
      const batch = new EncodedBatch(frames)
      const bytes = Buffer.alloc(PREFIX_BYTES + batch.length)
      putPrefix(bytes)
      batch.writeTo(bytes, PREFIX_BYTES)
      return bytes
    }),
  )
  const cut: Uint8Array[] = []
  for (let at = 0; at < stream.length; at += READ_BYTES)
    cut.push(Uint8Array.from(stream.subarray(at, at + READ_BYTES)))
  return cut
}

function receiver(): (read: Uint8Array) => Frame[] {
  const reader = new MessageReader(1 << 20)
  return (read) => reader.push(read).flatMap(({ chunks, memory }) => lend(decodeBatch(chunks), memory))
}

function place(frame: Frame | undefined): void {
  if (frame?.kind !== 'write') throw new Error(`not a write: ${frame?.kind}`)
  for (const chunk of frame.payload) expect(chunk.every((byte) => byte === frame.seq)).toBe(true)
  frame.placed?.()
}
const given = (read: Uint8Array): boolean => read.buffer.byteLength === 0

test('memory goes back when all writes in it are placed, and not before', () => {
  const receive = receiver()
  const received = reads([write(1, 30_000)], [write(2, 30_000)], [write(3, 30_000)])
  const frames = received.flatMap(receive)
  expect(frames.map((frame) => frame.kind)).toEqual(['write', 'write', 'write'])
  expect(received.map(given)).toEqual([false, false, false, false, false, false])
  place(frames[1])
  // The second lies in reads 1 to 3, of which only 2 holds nothing else.
  expect(received.map(given)).toEqual([false, false, true, false, false, false])
  place(frames[0])
  expect(received.map(given)).toEqual([true, true, true, false, false, false])
})

test('memory of the newest read stays: what follows may be cut from it', () => {
  const receive = receiver()
  const [first, second] = reads([write(1, 16_000)], [write(2, 16_000)]) as [Uint8Array, Uint8Array]
  // Twice the same memory, as when a read has to wait in the middle.
  const frames = [...receive(first.subarray(0, 16_100)), ...receive(first.subarray(16_100))]
  place(frames[0])
  expect(given(first)).toBe(false)
  const rest = receive(second)
  expect(given(first)).toBe(false)
  place(rest[0])
  expect(given(first)).toBe(true)
  expect(given(second)).toBe(false)
})

test('a message may be kept: its memory is left to the collector', () => {
  const receive = receiver()
  const received = reads([write(1, 20_000), message(2, 20_000)], [write(3, 40_000)])
  const frames = received.flatMap(receive)
  for (const frame of frames) if (frame.kind === 'write') frame.placed?.()
  expect(received.slice(0, 3).map(given)).toEqual([false, false, false])
})

test('Node’s own pool is left alone', () => {
  const receive = receiver()
  const [read] = reads([write(1, 2000)]) as [Uint8Array]
  const pooled = Buffer.from(read)
  place(receive(pooled)[0])
  receive(Uint8Array.from(read))
  expect(pooled.buffer.byteLength).toBeGreaterThan(0)
})
