/** The on-disk records: what goes in comes out, and bytes from nowhere are refused without harm. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { crc32 } from 'node:zlib'
import { BLOCK_BYTES } from '../env/device.ts'
import { putU48 } from '../fs/bytes.ts'
import { SINGLE } from '../fs/block-store.ts'
import { newTreeRoot } from '../fs/tree.ts'
import { seededRandom } from '../../sim/device.ts'
import { seal } from './codec.ts'
import { getContext, isGood, putContext } from './context.ts'
import { decodeLabel, encodeLabel } from './label.ts'
import { GROUP_BLOCKS, Layout } from './layout.ts'
import { NumberMap } from './number-map.ts'
import { decodeRoot, encodeRoot } from './root.ts'
import { SpaceMap } from './space-map.ts'
import { decodeSnapshot, encodeSnapshot } from './snapshot-table.ts'
import { decodeEntry, encodeEntry } from './volume-table.ts'

const u48 = fc.integer({ min: 0, max: 2 ** 48 - 1 })
const name = fc.stringMatching(/^[a-z0-9-]{1,60}$/)
const properties = fc.dictionary(
  name,
  fc.oneof(fc.string({ unit: 'grapheme', maxLength: 20 }), fc.integer()),
  {
    maxKeys: 5,
  },
)
const block = fc.uint8Array({ minLength: 600, maxLength: 600 }).map((bytes) => {
  const whole = new Uint8Array(BLOCK_BYTES)
  for (let at = 0; at < BLOCK_BYTES; at += bytes.length) whole.set(bytes.subarray(0, BLOCK_BYTES - at), at)
  return whole
})

describe('records on disk', () => {
  const rootName = { cp: u48, epoch: u48, random: fc.tuple(fc.nat(), fc.nat()) }
  test('labels', () => {
    const label = fc.record({
      plex: fc.integer({ min: 0, max: 1 }),
      state: fc.constantFrom('complete' as const, 'resyncing' as const),
      generation: u48,
      position: fc.integer({ min: 0, max: 63 }),
      devices: fc.integer({ min: 1, max: 64 }),
      blocks: u48,
      firstPvbn: u48,
      dataBlocks: u48,
      incarnation: u48,
      pairUid: name,
      aggregateId: name,
      aggregateName: name,
      side: name,
      type: fc.constantFrom('Flexible' as const, 'Traditional' as const),
    })
    const filling = fc.record(
      { base: fc.record(rootName), pass: fc.stringMatching(/^[0-9a-f]{16}$/), groups: u48 },
      { requiredKeys: ['pass', 'groups'] },
    )
    fc.assert(
      fc.property(label, filling, (value, one) => {
        const filled = { ...value, filling: one }
        expect(decodeLabel(crc32, encodeLabel(crc32, filled))).toEqual(filled)
      }),
    )
    fc.assert(
      fc.property(label, (value) => expect(decodeLabel(crc32, encodeLabel(crc32, value))).toEqual(value)),
    )
  })

  test('roots, with properties in any language', () => {
    const root = fc.record({
      ...rootName,
      covers: u48,
      aggregateId: name,
      used: u48,
      shared: fc.boolean(),
      ancestors: fc.array(fc.record(rootName), { maxLength: 2 }),
      properties,
    })
    fc.assert(
      fc.property(root, (value) => {
        const tree = newTreeRoot(SINGLE)
        const { devices } = new Layout([500, 700])
        const bytes = encodeRoot(crc32, { ...value, active: tree, owners: tree, volumes: tree, devices })
        expect(decodeRoot(crc32, bytes)).toMatchObject({
          ...value,
          devices: devices.map(({ first, blocks }) => ({ first, blocks })),
        })
      }),
    )
  })

  test('entries of the volume table', () => {
    const table = newTreeRoot(SINGLE)
    putU48(table, 2, 3)
    const entry = fc.record({
      state: fc.constantFrom('ordinary' as const, 'removing' as const),
      type: fc.constantFrom('Flexible' as const, 'Traditional' as const),
      index: fc.integer({ min: 1, max: 65535 }),
      id: name,
      name,
      fsid: u48,
      properties,
      quotaBlocks: u48,
      used: u48,
      nextNumber: u48,
      reclaimed: u48,
      contentRoot: fc.uint8Array({ maxLength: 512 }),
      nextSnapshot: fc.nat(),
      lastRestore: name,
      lastDelete: name,
      snapshots: fc.constantFrom(undefined, newTreeRoot(SINGLE), table),
    })
    fc.assert(
      fc.property(entry, (value) => {
        const bytes = new Uint8Array(BLOCK_BYTES)
        const container = value.type === 'Flexible' ? newTreeRoot(SINGLE) : undefined
        const whole = { ...value, active: newTreeRoot(SINGLE), container }
        encodeEntry(whole, bytes)
        expect(decodeEntry(bytes)).toEqual(whole)
        // A program that knows the types 1 and 2 only does not open an image with snapshots.
        expect(bytes[1]! > 2).toBe(value.snapshots === table)
      }),
    )
  })

  test('entries of a snapshot table', () => {
    const entry = fc.record({
      state: fc.constantFrom('ordinary' as const, 'deleting' as const),
      id: fc.integer({ min: 1, max: 0xffffffff }),
      name,
      requestId: name,
      created: u48,
      cp: u48,
      used: u48,
      cursor: u48,
      content: fc.uint8Array({ maxLength: 512 }),
    })
    fc.assert(
      fc.property(entry, fc.nat(3), (value, slot) => {
        const leaf = new Uint8Array(BLOCK_BYTES)
        const whole = { ...value, map: newTreeRoot(SINGLE) }
        encodeSnapshot(leaf, slot, whole)
        expect(decodeSnapshot(leaf, slot)).toEqual(whole)
        expect(decodeSnapshot(leaf, (slot + 1) % 4)).toBe('NONE')
        leaf[slot * 1024] = 3
        expect(decodeSnapshot(leaf, slot)).toBeUndefined()
        encodeSnapshot(leaf, slot, undefined)
        expect(leaf.every((byte) => byte === 0)).toBe(true)
      }),
    )
  })

  test('contexts: any changed bit of context or content shows', () => {
    fc.assert(
      fc.property(block, u48, u48, fc.nat({ max: 127 }), fc.nat(), (content, number, pvbn, slot, flip) => {
        const sums = new Uint8Array(BLOCK_BYTES)
        const identity = { volume: 9, number, kind: 'inode' as const }
        putContext(crc32, sums, slot, 9, number, 'inode', 5, pvbn, content)
        expect(getContext(crc32, sums, slot)).toMatchObject({ ...identity, generation: 5, pvbn })
        expect(isGood(crc32, sums, slot, identity, pvbn, content)).toBe(true)
        expect(isGood(crc32, sums, slot, { ...identity, kind: 'data' }, pvbn, content)).toBe(false)
        expect(isGood(crc32, sums, slot, { ...identity, number: number + 1 }, pvbn, content)).toBe(false)
        expect(isGood(crc32, sums, slot, identity, pvbn + 1, content)).toBe(false)
        expect(isGood(crc32, sums, slot, { ...identity, generation: 5 }, pvbn, content)).toBe(true)
        expect(isGood(crc32, sums, slot, { ...identity, generation: 6 }, pvbn, content)).toBe(false)
        const changed = content.slice()
        changed[flip % BLOCK_BYTES]! ^= 1 << (flip % 8)
        expect(isGood(crc32, sums, slot, identity, pvbn, changed)).toBe(false)
        sums[slot * 32 + (flip % 32)]! ^= 1 << (flip % 8)
        expect(getContext(crc32, sums, slot)).toBeUndefined()
      }),
    )
  })

  test('bytes from nowhere, even with a right checksum, are refused or make sense', () => {
    fc.assert(
      fc.property(block, (bytes) => {
        expect(decodeLabel(crc32, bytes)).toBeUndefined()
        expect(decodeRoot(crc32, bytes)).toBeUndefined()
        decodeEntry(bytes)
        for (let slot = 0; slot < 128; slot++) getContext(crc32, bytes, slot)
        bytes[12] = 1
        bytes[13] = 0
        seal(crc32, bytes, 'TANDEMDV')
        decodeLabel(crc32, bytes)
        seal(crc32, bytes, 'TANDEMRT')
        decodeRoot(crc32, bytes)
      }),
      { numRuns: 500 },
    )
  })
})

describe('places', () => {
  test('every PVBN has a place of its own, apart from labels, roots and checksum blocks', () => {
    for (const sizes of [[138], [139, 140, 141], [400, 267, 268, 1000], [5000]]) {
      const layout = new Layout(sizes)
      const taken = new Set<string>()
      for (let group = 0; group < layout.groups; group++) {
        const { device, block } = layout.locateChecksums(group)
        taken.add(`${device}:${block}`)
      }
      let data = 1
      for (let pvbn = 1; pvbn < layout.end; pvbn++) {
        if (!layout.exists(pvbn)) continue
        const { device, block } = layout.locate(pvbn)
        expect(block).toBeGreaterThan(8)
        expect(block).toBeLessThan(sizes[device]! - 1)
        expect(taken.has(`${device}:${block}`)).toBe(false)
        taken.add(`${device}:${block}`)
        data += 1
      }
      expect(data).toBe(layout.data)
    }
  })

  test('the space map hands out each free block once, the numbers too', () => {
    const layout = new Layout([400, 300])
    const space = new SpaceMap(layout)
    const numbers = new NumberMap(10, 1)
    const random = seededRandom(5)
    const held: { pvbn: number; number: number }[] = []
    const pvbns = new Set<number>()
    for (let step = 0; step < 5000; step++) {
      if (space.free > 0 && random.u32() % 5 < 3) {
        const pvbn = space.take()
        const number = numbers.take()
        expect(layout.exists(pvbn) && !pvbns.has(pvbn) && number > 0).toBe(true)
        pvbns.add(pvbn)
        held.push({ pvbn, number })
      } else if (held.length > 0) {
        const [{ pvbn, number }] = held.splice(random.u32() % held.length, 1) as [(typeof held)[0]]
        pvbns.delete(pvbn)
        space.release(pvbn)
        numbers.release(number)
        expect(numbers.isTaken(number)).toBe(false)
      }
      expect(space.free).toBe(layout.data - 1 - pvbns.size)
    }
    let busy = 0
    for (let group = 0; group < layout.groups; group++) busy += space.busyIn(group)
    expect(busy).toBe(pvbns.size)
    expect(layout.groups * GROUP_BLOCKS).toBeGreaterThan(busy)
  })

  test('a consistency point begins with the emptiest groups that have room for it, then takes the next best', () => {
    const layout = new Layout([9 + 129 * 20])
    const space = new SpaceMap(layout)
    const random = seededRandom(8)
    const taken: number[] = []
    while (space.free > 0) taken.push(space.take())
    // Group n gets back 3 n blocks, in places by chance.
    for (let group = 0; group < layout.groups; group++) {
      const own = taken.filter((pvbn) => Math.floor(pvbn / GROUP_BLOCKS) === group)
      for (let n = 0; n < 3 * group; n++) space.release(own.splice(random.u32() % own.length, 1)[0]!)
    }
    space.plan(57 + 54)
    const groups: number[] = []
    while (space.free > 0) {
      const group = Math.floor(space.take() / GROUP_BLOCKS)
      if (groups.at(-1) !== group) groups.push(group)
    }
    expect(groups.slice(0, 2).sort((a, b) => a - b)).toEqual([18, 19])
    expect(groups.slice(2)).toEqual(Array.from({ length: 17 }, (_, n) => 17 - n))
  })
})
