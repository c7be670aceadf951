import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { decodeHandle, encodeHandle } from './handle.ts'
import { decodeRecord, encodeRecord } from './record.ts'
import type { Change } from './record.ts'
import { env } from './testing/harness.ts'

const ino = fc.integer({ min: 0, max: 2 ** 48 - 1 })
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const big = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const mode = fc.integer({ min: 0, max: 0o7777 })
const time = fc.record({ seconds: big, nanoseconds: fc.integer({ min: 0, max: 999_999_999 }) })
const name = fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => String.fromCharCode(...bytes))
const data = fc.uint8Array({ maxLength: 5000 })
const owner = { mode, uid: u32, gid: u32, size: big, atime: time, mtime: time, ctime: time }

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ type: fc.constant('write' as const), ino, offset: big, mode, time, data }),
  fc.record({ type: fc.constant('setattr' as const), ino, ...owner }),
  fc.record(
    {
      type: fc.constant('make' as const),
      directory: ino,
      position: big,
      name,
      ino,
      generation: u32,
      kind: fc.constantFrom('REG', 'DIR', 'BLK', 'CHR', 'LNK', 'SOCK', 'FIFO'),
      rdevMajor: u32,
      rdevMinor: u32,
      ...owner,
      verifier: fc.uint8Array({ minLength: 8, maxLength: 8 }),
      path: name,
    },
    {
      requiredKeys: [
        'type',
        'directory',
        'position',
        'name',
        'ino',
        'generation',
        'kind',
        'rdevMajor',
        'rdevMinor',
        'mode',
        'uid',
        'gid',
        'size',
        'atime',
        'mtime',
        'ctime',
      ],
    },
  ),
  fc.record({ type: fc.constant('remove' as const), directory: ino, position: big, name, ino, time }),
  fc.record({
    type: fc.constant('rename' as const),
    from: ino,
    fromPosition: big,
    fromName: name,
    to: ino,
    toPosition: big,
    toName: name,
    ino,
    replaced: ino,
    time,
  }),
  fc.record({ type: fc.constant('link' as const), ino, directory: ino, position: big, name, time }),
  fc.record({ type: fc.constant('reclaim' as const), ino }),
  fc.record({ type: fc.constant('reply' as const) }),
)
const kept = fc.option(
  fc.record({
    key: fc.record({ machine: u32, xid: u32, procedure: u32, checksum: u32 }),
    reply: fc.uint8Array({ maxLength: 400 }),
  }),
  { nil: undefined },
)

describe('log records', () => {
  test('survive encoding', () => {
    fc.assert(
      fc.property(change, kept, (made, reply) => {
        const record = new Uint8Array(Buffer.concat(encodeRecord(made, reply)))
        expect(decodeRecord(record)).toEqual({ change: made, kept: reply })
      }),
      { numRuns: 300 },
    )
  })

  test('that are cut short, or of another version, are never taken for good', () => {
    const [bytes] = encodeRecord(
      { type: 'remove', directory: 2, position: 0, name: 'x', ino: 3, time: { seconds: 1, nanoseconds: 2 } },
      undefined,
    )
    for (let length = 0; length < bytes!.length; length++) {
      expect(() => decodeRecord(bytes!.subarray(0, length))).toThrow()
    }
    expect(() => decodeRecord(bytes!.with(1, 2))).toThrow('version 2')
  })
})

test('handles survive encoding, and no other bytes are a handle', () => {
  fc.assert(
    fc.property(
      ino,
      big,
      u32,
      u32,
      fc.nat(31),
      fc.integer({ min: 1, max: 255 }),
      (fsid, number, generation, snapshot, at, flip) => {
        const bytes = encodeHandle(env.crc32, fsid, number, generation, snapshot)
        expect(decodeHandle(env.crc32, bytes)).toEqual({ fsid, ino: number, generation, snapshot })
        bytes[at]! ^= flip
        expect(decodeHandle(env.crc32, bytes)).toBeUndefined()
      },
    ),
  )
})
