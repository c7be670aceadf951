/** The scrub finds what reads do not: damage of blocks that nobody reads, on either plex, and writes that were lost whole. */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { BrokenStorage } from './broken-storage.ts'
import { loaded } from '../fs/tree.ts'
import { CONTEXT_BYTES, getContext, putContext } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import { Scrub } from './scrub.ts'
import { Bed, consistencyPoint } from './testing/bed.ts'
import type { TestAggregate, TestVolume } from './testing/bed.ts'

const BLOCKS = 300

interface Scene {
  readonly bed: Bed
  readonly aggregate: TestAggregate
  readonly volume: TestVolume
  readonly scrub: Scrub
}

async function scene(seed: number, broken: BrokenStorage = {}): Promise<Scene> {
  const bed = new Bed(seed, [1200, 600])
  await bed.format()
  const first = await bed.open(0, { mirror: bed.devices[1]! })
  const volume = first.createVolume({ id: 'v1', name: 'v', sizeBytes: 800 * BLOCK_BYTES, fsid: 1 })
  for (let fbn = 0; fbn < BLOCKS; fbn++) await volume.content.put(fbn, fbn + 1)
  await consistencyPoint(first)
  bed.attach()
  const aggregate = await bed.open(0, { mirror: bed.devices[1]!, broken })
  const scrub = new Scrub(aggregate, { intervalMs: 0 })
  return { bed, aggregate, volume: aggregate.volume('v1')!, scrub }
}

/** Where block `fbn` of the file lies. */
async function placeOf({ volume }: Scene, fbn: number): Promise<number> {
  const { bn } = (await loaded(() => volume.content.tree.lookup(fbn)))!
  return loaded(() => volume.lookup(bn))
}

function inUse({ aggregate }: Scene): number[] {
  return Array.from({ length: aggregate.layout.end }, (_, pvbn) => pvbn).filter((pvbn) =>
    aggregate.isUsable(pvbn),
  )
}

function rot({ bed, aggregate }: Scene, plex: number, pvbn: number): void {
  const { device, block } = aggregate.layout.locate(pvbn)
  bed.media[plex]![device]!.rot(block, pvbn * 7)
}

/** As if the last write of a block had been lost: what lies there is older, whole, and has the same name. */
function leaveOlder({ bed, aggregate }: Scene, plex: number, pvbn: number): void {
  const { crc32 } = bed.env
  const sums = aggregate.layout.locateChecksums(Math.floor(pvbn / GROUP_BLOCKS))
  const place = aggregate.layout.locate(pvbn)
  const entries = bed.media[plex]![sums.device]!.read(sums.block)!.slice()
  const slot = pvbn % GROUP_BLOCKS
  const { number, volume, generation, kind } = getContext(crc32, entries, slot)!
  const old = new Uint8Array(BLOCK_BYTES)
  putContext(crc32, entries, slot, volume, number, kind, generation - 1, pvbn, old)
  bed.media[plex]![sums.device]!.stable.set(sums.block, entries)
  bed.media[plex]![place.device]!.stable.set(place.block, old)
}

function rotChecksums({ bed, aggregate }: Scene, plex: number, group: number): void {
  const { device, block } = aggregate.layout.locateChecksums(group)
  for (let slot = 0; slot < GROUP_BLOCKS; slot++)
    bed.media[plex]![device]!.rot(block, slot * CONTEXT_BYTES * 8)
}

/** Both plexes as a checker sees them, each by itself. */
async function problems({ bed }: Scene): Promise<string[]> {
  return [...(await bed.check(0)), ...(await bed.check(1))]
}

describe('the scrub', () => {
  test('finds nothing where nothing is wrong, and reads everything in use', async () => {
    const set = await scene(1)
    const result = await set.scrub.pass()
    expect(result).toEqual({ blocks: inUse(set).length, damaged: 0, repaired: 0, unrepairable: 0, left: 0 })
    expect(result.blocks).toBe(set.aggregate.usedBlocks)
  })

  test('mends rot of any block in use, metafiles and checksum blocks too, on either plex', async () => {
    const set = await scene(2)
    const used = inUse(set)
    for (const pvbn of used) rot(set, pvbn % 2, pvbn)
    expect((await problems(set).catch(() => ['not even opened'])).length).toBeGreaterThan(0)
    expect(await set.scrub.pass()).toMatchObject({
      damaged: used.length,
      repaired: used.length,
      unrepairable: 0,
      left: 0,
    })
    expect(await problems(set)).toEqual([])
    rotChecksums(set, 0, 0)
    rotChecksums(set, 1, 1)
    expect(await set.scrub.pass()).toMatchObject({ unrepairable: 0 })
    expect(await problems(set)).toEqual([])
    expect(await set.scrub.pass()).toMatchObject({ damaged: 0 })
  })

  test.each([0, 1])('mends all writes of a consistency point that were lost on plex %d', async (plex) => {
    const set = await scene(3)
    const { bed, aggregate, volume } = set
    // So that the lost writes are of places that were in use before: what lies there is old, and whole.
    for (let round = 0; round < 8; round++) {
      for (let fbn = 0; fbn < BLOCKS; fbn += 2) await volume.content.put(fbn, fbn + 1)
      await consistencyPoint(aggregate)
    }
    let lost = 0
    const onWrite = (block: number): false | void => {
      // Roots get through.
      if (block < 8) return
      lost += 1
      return false
    }
    for (const { faults } of bed.devices[plex]!) faults.onWrite = onWrite
    for (let fbn = 0; fbn < BLOCKS; fbn += 3) await volume.content.put(fbn, 1000 + fbn)
    await consistencyPoint(aggregate)
    for (const { faults } of bed.devices[plex]!) delete faults.onWrite
    expect(lost).toBeGreaterThan(0)
    expect(await set.scrub.pass()).toMatchObject({ unrepairable: 0 })
    expect(await problems(set)).toEqual([])
    for (let fbn = 0; fbn < BLOCKS; fbn += 3) expect(await volume.content.get(fbn)).toBe(1000 + fbn)
  })

  /** On plex 1 lies an older block with the same name at the same place, whole in itself. */
  async function stale(broken: BrokenStorage): Promise<number | string | undefined> {
    const set = await scene(4, broken)
    const { bed, aggregate, volume } = set
    // Written by a later consistency point than the forged one claims.
    for (let n = 0; n < 3; n++) {
      await volume.content.put(7, 8)
      await consistencyPoint(aggregate)
    }
    const pvbn = await placeOf(set, 7)
    leaveOlder(set, 1, pvbn)
    expect(await bed.check(1)).toEqual([])
    expect(await set.scrub.pass()).toMatchObject({ damaged: 1, repaired: 1 })
    const there = await bed.open(1)
    expect(await aggregate.volume('v1')!.content.get(7)).toBe(8)
    return there.volume('v1')!.content.get(7)
  }

  test('lets the later of two whole blocks win, which no single plex can tell apart', async () => {
    expect(await stale({})).toBe(8)
  })

  test('a build that lets the older one win is caught', async () => {
    const found = await stale({ scrubPrefersOlder: true }).catch((error: unknown) => String(error))
    expect(found).not.toBe(8)
  })

  test('tells once of a block that neither plex has, and mends the others', async () => {
    const set = await scene(5)
    const victims: number[] = []
    for (const fbn of [20, 21, 150]) victims.push(await placeOf(set, fbn))
    for (const pvbn of victims) for (const plex of [0, 1]) rot(set, plex, pvbn)
    rot(
      set,
      1,
      inUse(set).find((pvbn) => !victims.includes(pvbn))!,
    )
    expect(await set.scrub.pass()).toMatchObject({ repaired: 1, unrepairable: 3 })
    await set.scrub.pass()
    const { unrepairable } = set.aggregate.io
    expect([...unrepairable.keys()].sort((a, b) => a - b)).toEqual(victims.sort((a, b) => a - b))
    expect(set.bed.lines.filter((line) => line.event === 'block cannot be repaired')).toHaveLength(3)
    expect(await set.volume.content.get(21)).toBe('damaged')
    const known = (): number[] => {
      const { io, space } = set.aggregate
      return [undefined, set.volume.index, 0].map((volume) =>
        io.unrepairableBlocks((pvbn) => space.isBusy(pvbn), volume),
      )
    }
    expect(known()).toEqual([3, 3, 0])
    // Written anew it is whole again, and known to be.
    for (const fbn of [20, 21, 150]) await set.volume.content.put(fbn, fbn + 1)
    await consistencyPoint(set.aggregate)
    expect((await set.scrub.pass()).unrepairable).toBe(0)
    expect(known()).toEqual([0, 0, 0])
    expect(await problems(set)).toEqual([])
  })

  test('reads around places that a device cannot read', async () => {
    const set = await scene(6)
    const pvbn = await placeOf(set, 33)
    const { device, block } = set.aggregate.layout.locate(pvbn)
    const bad = new Set([block])
    const { faults } = set.bed.devices[1]![device]!
    faults.onRead = (from, blocks) => {
      for (let b = from; b < from + blocks; b++) if (bad.has(b)) throw new DeviceError('EIO', 'bad sector')
    }
    faults.onWrite = (from, blocks) => {
      for (let b = from; b < from + blocks; b++) bad.delete(b)
    }
    expect(await set.scrub.pass()).toMatchObject({ damaged: 1, repaired: 1 })
    expect(bad.size).toBe(0)
    expect(await problems(set)).toEqual([])
  })

  test('never meets the writes of a consistency point, nor mends what was freed and used again meanwhile', async () => {
    for (let seed = 10; seed < 16; seed++) {
      const set = await scene(seed)
      const { aggregate, volume, bed } = set
      for (const pvbn of inUse(set)) if (pvbn % 3 > 0) rot(set, pvbn % 3 === 1 ? 0 : 1, pvbn)
      let writing = true
      const change = async (): Promise<void> => {
        try {
          for (let round = 0; round < 8; round++) {
            for (let n = 0; n < 60; n++) {
              const fbn = bed.random.u32() % BLOCKS
              await volume.content.put(fbn, fbn + 1)
            }
            await consistencyPoint(aggregate)
          }
        } finally {
          writing = false
        }
      }
      const scrub = async (): Promise<void> => {
        do await set.scrub.pass()
        while (writing)
      }
      await Promise.all([change(), scrub()])
      await set.scrub.pass()
      expect(await problems(set)).toEqual([])
      for (let fbn = 0; fbn < BLOCKS; fbn++) expect(await volume.content.get(fbn)).toBe(fbn + 1)
    }
  })
})

describe('a metafile block whose last write was lost', () => {
  const metafiles = ['activeMap', 'volumeTable'] as const
  test.each(metafiles)('%s: is not taken for the present one when the aggregate is opened', async (name) => {
    const set = await scene(20)
    const places: number[] = []
    await set.aggregate[name].walk((entry) => void places.push(entry.bn))
    for (const pvbn of places) leaveOlder(set, 0, pvbn)
    set.bed.attach()
    await expect(set.bed.open(0)).rejects.toMatchObject({ code: 'DAMAGED' })
    const aggregate = await set.bed.open(0, { mirror: set.bed.devices[1]! })
    for (let fbn = 0; fbn < BLOCKS; fbn++)
      expect(await aggregate.volume('v1')!.content.get(fbn)).toBe(fbn + 1)
    await aggregate.io.repairing.settled()
    expect(await set.bed.check(0)).toEqual([])
  })

  test('is noticed when the other plex comes, where the owner map itself is older, and not while nothing is', async () => {
    const set = await scene(22)
    const { aggregate, bed } = set
    const places: number[] = []
    for (const tree of [aggregate.ownerMap, aggregate.activeMap])
      await tree.walk((entry) => void places.push(entry.bn))
    await aggregate.close()
    bed.attach()
    const whole = await bed.open(0)
    await whole.attachPlex(bed.devices[1]!, 'mirrored')
    await whole.close()
    for (const pvbn of places) leaveOlder(set, 0, pvbn)
    bed.attach()
    const older = await bed.open(0)
    await expect(older.attachPlex(bed.devices[1]!, 'mirrored')).rejects.toMatchObject({ code: 'OLDER' })
  })

  test('of any metafile is read from the other plex while there is one', async () => {
    const set = await scene(21)
    const { aggregate, volume, bed } = set
    const places: number[] = []
    for (const tree of [aggregate.ownerMap, volume.container!, volume.active]) {
      await tree.walk((entry) => void places.push(entry.bn))
    }
    await aggregate.close()
    for (const pvbn of places) leaveOlder(set, 0, pvbn)
    bed.attach()
    const again = await bed.open(0, { mirror: bed.devices[1]! })
    for (let fbn = 0; fbn < BLOCKS; fbn += 2) await again.volume('v1')!.content.put(fbn, 5)
    await consistencyPoint(again)
    expect(await problems(set)).toEqual([])
  })
})
