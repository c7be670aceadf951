/**
 * R2: whatever a client sends costs it an error or its connection, never the server. Valid calls of every procedure are damaged (bits, words,
 * lengths, cuts, splices) and sent in streams of several; each stream must end with its connection closed or all its whole records
 * answered, nothing may throw, and no memory may stay. The seed is in the message of a failure.
 */
import { expect } from '@jest/globals'
import type { Vfs } from '../../core/vfs/vfs.ts'
import { MOUNT_PROGRAM } from '../mount/mount3.ts'
import { corpus, damage, generator, HEADER_BYTES } from './call-corpus.ts'
import { Wire, marked } from './wire.ts'

export const CALLS_PER_STREAM = 6
/** MNT of a path below the export's is answered a little later. */
const pendingMounts = (parts: readonly Buffer[]): number =>
  parts.filter((part) => part.length > 24 && part.readUInt32BE(16) === MOUNT_PROGRAM).length

/** `answersAtOnce`: the file system never makes a call wait, so every stream's replies can be counted. */
export async function sendDamagedCalls(
  vfs: Vfs,
  path: string,
  root: Uint8Array,
  file: Uint8Array,
  streams: number,
  answersAtOnce: boolean,
): Promise<void> {
  const seed = Date.now() >>> 0
  const random = generator(seed)
  const calls = corpus(path, root, file)
  const first = new Wire(vfs)
  const { server } = first
  let answered = 0
  let closed = 0
  for (let i = 0; i < streams; i++) {
    const wire = new Wire(vfs, {}, { server })
    const parts = Array.from({ length: CALLS_PER_STREAM }, () => {
      const call = calls[random(calls.length)]!
      const other = calls[random(calls.length)]!
      // Mostly the arguments: a damaged header ends the stream at once.
      if (random(10) === 0) return marked(damage(random, call, other))
      const header = call.subarray(0, HEADER_BYTES)
      return marked(
        Buffer.concat([header, damage(random, call.subarray(HEADER_BYTES), other.subarray(HEADER_BYTES))]),
      )
    })
    let stream = Buffer.concat(parts)
    const cutMark = random(8) === 0
    if (cutMark) stream[4 * random(2)]! ^= 1 << random(8)
    const cut = random(10) === 0
    if (cut) stream = stream.subarray(0, random(stream.length))
    try {
      wire.feed(stream, 1 + random(400))
      if (answersAtOnce) await Promise.resolve()
      else await new Promise((resolve) => setImmediate(resolve))
      const replies = wire.replies().length
      answered += replies
      if (wire.closed) closed++
      else if (answersAtOnce && !cutMark && !cut)
        expect(replies + pendingMounts(parts)).toBeGreaterThanOrEqual(CALLS_PER_STREAM)
      wire.connection.close()
    } catch (error) {
      throw new Error(`seed ${seed}, stream ${i}`, { cause: error })
    }
  }
  first.connection.close()
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
  expect(server.connections).toBe(0)
  expect(server.memoryBytes).toBe(0)
  expect(answered).toBeGreaterThan(streams)
  expect(closed).toBeGreaterThan(streams / 20)
}
