/**
 * What devices do wrong is found by contexts and repaired from the other plex; without one it is an error for who needs the block, and for nobody else.
 */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { BrokenStorage } from './broken-storage.ts'
import { BufferCache } from './buffer-cache.ts'
import { CONTEXT_BYTES, getContext } from './context.ts'
import type { AggregateType } from './label.ts'
import { GROUP_BLOCKS } from './layout.ts'
import { ResyncCancelled } from './resync.ts'
import { Bed, consistencyPoint } from './testing/bed.ts'
import type { TestAggregate, TestVolume } from './testing/bed.ts'
import type { SimMedium } from '../../sim/device.ts'

const BLOCKS = 300
const TYPES = ['Flexible', 'Traditional'] as const

async function written(
  seed: number,
  type: AggregateType = 'Flexible',
  sizes = [1200, 600],
): Promise<{ bed: Bed; places: number[] }> {
  const bed = new Bed(seed, sizes, 2, type)
  await bed.format()
  const aggregate = await bed.open()
  await aggregate.attachPlex(bed.devices[1]!, 'mirrored')
  const volume = aggregate.createVolume({ id: 'v1', name: 'v', sizeBytes: 800 * BLOCK_BYTES, fsid: 1 })
  for (let fbn = 0; fbn < BLOCKS; fbn++) await volume.content.put(fbn, fbn + 1)
  await consistencyPoint(aggregate)
  const places: number[] = []
  for (let fbn = 0; fbn < BLOCKS; fbn++) places.push(volume.lookup(volume.content.tree.lookup(fbn)!.bn))
  bed.attach()
  return { bed, places }
}

async function reopened(
  bed: Bed,
  mirrored = true,
): Promise<{ aggregate: TestAggregate; volume: TestVolume }> {
  const aggregate = await bed.open(0, mirrored ? { mirror: bed.devices[1]! } : {})
  return { aggregate, volume: aggregate.volume('v1')! }
}

async function readAll(volume: TestVolume): Promise<number> {
  let good = 0
  for (let fbn = 0; fbn < BLOCKS; fbn++) if ((await volume.content.get(fbn)) === fbn + 1) good += 1
  return good
}

describe.each(TYPES)('damage on the own plex, %s', (type) => {
  test('rot of data and of checksum blocks is read from the other plex, and repaired', async () => {
    const { bed, places } = await written(11, type)
    const { aggregate, volume } = await reopened(bed)
    for (const fbn of [3, 77, 130, 299]) {
      const { device, block } = aggregate.layout.locate(places[fbn]!)
      bed.media[0]![device]!.rot(block, fbn * 101)
    }
    const sums = aggregate.layout.locateChecksums(Math.floor(places[200]! / 128))
    for (let bit = 0; bit < 32768; bit += 64) bed.media[0]![sums.device]!.rot(sums.block, bit)
    expect(await readAll(volume)).toBe(BLOCKS)
    await aggregate.io.repairing.settled()
    expect(aggregate.io.repaired).toBeGreaterThan(4)
    // What nobody read is not repaired yet: read everything, metafiles too, from the disk.
    await aggregate.close()
    bed.attach()
    const again = await reopened(bed)
    expect(await readAll(again.volume)).toBe(BLOCKS)
    expect(again.aggregate.io.damaged).toBe(0)
  })

  test('read errors of the device are answered from the other plex', async () => {
    const { bed, places } = await written(12, type)
    const { aggregate, volume } = await reopened(bed)
    const bad = aggregate.layout.locate(places[40]!)
    bed.devices[0]![bad.device]!.faults.onRead = (block, blocks) => {
      if (block <= bad.block && bad.block < block + blocks) throw new DeviceError('EIO', 'unreadable')
    }
    expect(await readAll(volume)).toBe(BLOCKS)
    expect(bed.lines.some((line) => line.event === 'damaged block')).toBe(true)
  })

  test('metafiles are repaired while the aggregate is opened', async () => {
    const { bed } = await written(13, type)
    const { aggregate } = await reopened(bed)
    const tables: number[] = []
    await aggregate.volumeTable.walk((entry) => void tables.push(entry.bn))
    await aggregate.activeMap.walk((entry) => void tables.push(entry.bn))
    await aggregate.close()
    for (const pvbn of tables) {
      const { device, block } = aggregate.layout.locate(pvbn)
      bed.media[0]![device]!.rot(block, 4711)
    }
    bed.attach()
    await expect(bed.open(0)).rejects.toMatchObject({ code: 'DAMAGED' })
    const again = await reopened(bed)
    expect(await readAll(again.volume)).toBe(BLOCKS)
    await again.aggregate.io.repairing.settled()
    expect(await bed.check(0)).toEqual([])
  })

  test('without another plex it is EIO for that block only, and the checker names it', async () => {
    const { bed, places } = await written(14, type)
    const { aggregate, volume } = await reopened(bed, false)
    const { device, block } = aggregate.layout.locate(places[9]!)
    bed.media[0]![device]!.rot(block, 5)
    expect(await volume.content.get(9)).toBe('damaged')
    expect(await volume.content.get(10)).toBe(11)
    expect(await readAll(volume)).toBe(BLOCKS - 1)
    expect(await bed.check(0)).toEqual([`block ${places[9]}: checksum error`])
  })

  test('a lost write and a misdirected one are found', async () => {
    for (const misdirected of [false, true]) {
      const { bed } = await written(15, type)
      const { aggregate, volume } = await reopened(bed)
      let done = false
      bed.devices[0]![0]!.faults.onWrite = (block, blocks) => {
        if (done || blocks < 30) return
        done = true
        return misdirected ? block + 129 : false
      }
      for (let fbn = 0; fbn < BLOCKS; fbn++) await volume.content.put(fbn, fbn + 1)
      await consistencyPoint(aggregate)
      expect(done).toBe(true)
      await aggregate.close()
      bed.attach()
      // Metafiles are among what was lost: on its own this plex does not even open.
      await expect(bed.check(0)).rejects.toMatchObject({ code: 'DAMAGED' })
      const again = await reopened(bed)
      expect(await readAll(again.volume)).toBe(BLOCKS)
      expect(again.aggregate.io.damaged).toBeGreaterThan(29)
      await again.aggregate.io.repairing.settled()
    }
  })

  test('a damaged entry of a checksum block does not spread to the other plex', async () => {
    const { bed, places } = await written(16, type)
    const { aggregate, volume } = await reopened(bed)
    const group = Math.floor(places[BLOCKS - 1]! / 128)
    const victim = places.find((pvbn) => Math.floor(pvbn / 128) === group)!
    const sums = aggregate.layout.locateChecksums(group)
    await aggregate.close()
    bed.media[0]![sums.device]!.rot(sums.block, (victim % 128) * 256 + 3)
    bed.attach()
    const again = await reopened(bed)
    for (let fbn = 0; fbn < 200; fbn++) await again.volume.content.put(fbn + BLOCKS, 1)
    await consistencyPoint(again.aggregate)
    expect(await bed.check(1)).toEqual([])
    expect(volume.id).toBe('v1')
  })
})

/** The writes of a consistency point to places that had held a block of the same kind before are lost on the own plex, data and entries alike. */
async function lostReuse(
  type: AggregateType,
  broken: BrokenStorage,
): Promise<{ bed: Bed; lost: number; volume: TestVolume; aggregate: TestAggregate }> {
  const { bed } = await written(19, type, [500, 300])
  const { aggregate: first, volume } = await reopened(bed)
  const { layout } = first
  const entryOf = (medium: SimMedium, block: number, slot: number): Uint8Array =>
    medium.read(block)!.subarray(slot * CONTEXT_BYTES, (slot + 1) * CONTEXT_BYTES)
  const blocks = Array.from({ length: layout.end }, (_, pvbn) => pvbn)
    .filter((pvbn) => layout.exists(pvbn))
    .map((pvbn) => {
      const data = layout.locate(pvbn)
      const sums = layout.locateChecksums(Math.floor(pvbn / GROUP_BLOCKS))
      return { pvbn, data: bed.media[0]![data.device]!, block: data.block, ...at(bed, sums) }
    })
  // Until places are used again, with the same blocks on both plexes.
  for (let round = 0; round < 4; round++) {
    for (let fbn = 0; fbn < BLOCKS; fbn++) await volume.content.put(fbn, 1000 * round + fbn)
    await consistencyPoint(first)
  }
  const before = blocks.map(({ data, block, sums, sumsBlock, pvbn }) => ({
    content: data.read(block)?.slice(),
    entry: sums.read(sumsBlock) && entryOf(sums, sumsBlock, pvbn % GROUP_BLOCKS).slice(),
  }))
  for (let fbn = 0; fbn < BLOCKS; fbn++) await volume.content.put(fbn, fbn + 1)
  await consistencyPoint(first)
  await first.close()
  let lost = 0
  for (const [i, { pvbn, data, block, sums, sumsBlock }] of blocks.entries()) {
    const { content, entry } = before[i]!
    const slot = pvbn % GROUP_BLOCKS
    const present = sums.read(sumsBlock)
    if (content === undefined || entry === undefined || present === undefined) continue
    const [old, now] = [entry, entryOf(sums, sumsBlock, slot)].map((bytes) =>
      getContext(bed.env.crc32, bytes, 0),
    )
    if (old?.kind !== 'data' || now?.kind !== 'data' || old.generation === now.generation) continue
    const entries = present.slice()
    entries.set(entry, slot * CONTEXT_BYTES)
    data.stable.set(block, content)
    sums.stable.set(sumsBlock, entries)
    lost += 1
  }
  bed.attach()
  const aggregate = await bed.open(0, { mirror: bed.devices[1]!, broken })
  return { bed, lost, aggregate, volume: aggregate.volume('v1')! }
}

function at(bed: Bed, place: { device: number; block: number }): { sums: SimMedium; sumsBlock: number } {
  return { sums: bed.media[0]![place.device]!, sumsBlock: place.block }
}

test.each(TYPES)(
  '%s: a lost write on a place that is used again is found by its generation',
  async (type) => {
    const { bed, lost, aggregate, volume } = await lostReuse(type, {})
    expect(lost).toBeGreaterThan(30)
    expect(await readAll(volume)).toBe(BLOCKS)
    expect(aggregate.io.damaged).toBeGreaterThanOrEqual(lost)
    await aggregate.io.repairing.settled()
    expect(aggregate.io.repaired).toBeGreaterThanOrEqual(lost)
    await aggregate.close()
    expect(await bed.check(0)).toEqual([])
    const unverified = await lostReuse(type, { contextNotVerified: true })
    expect(await readAll(unverified.volume)).toBeLessThan(BLOCKS)
  },
)

/** Every write of a checksum block of one consistency point is lost on the own plex; the next one writes into the same groups. */
async function lostChecksums(type: AggregateType, broken: BrokenStorage): Promise<readonly string[]> {
  const { bed } = await written(17, type)
  // Holes in the first groups, which are filled from the front after each opening.
  const before = await reopened(bed)
  for (let fbn = 0; fbn < 150; fbn += 3) await before.volume.content.put(fbn, fbn + 1)
  await consistencyPoint(before.aggregate)
  bed.attach()
  const first = await reopened(bed)
  const { layout } = first.aggregate
  const sums = Array.from({ length: layout.groups }, (_, group) => {
    const { device, block } = layout.locateChecksums(group)
    return { medium: bed.media[0]![device]!, block, before: bed.media[0]![device]!.read(block) }
  })
  for (let fbn = 1; fbn < 10; fbn += 1) await first.volume.content.put(fbn, fbn + 1)
  await consistencyPoint(first.aggregate)
  await first.aggregate.close()
  let lost = 0
  for (const { medium, block, before } of sums) {
    if (before === undefined || medium.read(block) === before) continue
    medium.stable.set(block, before)
    lost += 1
  }
  expect(lost).toBeGreaterThan(0)
  bed.attach()
  const aggregate = await bed.open(0, { mirror: bed.devices[1]!, broken })
  for (let fbn = 200; fbn < 206; fbn += 1) await aggregate.volume('v1')!.content.put(fbn, fbn + 1)
  await consistencyPoint(aggregate)
  expect(await readAll(aggregate.volume('v1')!)).toBe(BLOCKS)
  return bed.check(1)
}

test.each(TYPES)('%s: a checksum block whose last write was lost does not spread', async (type) => {
  expect(await lostChecksums(type, {})).toEqual([])
  const spread = await lostChecksums(type, { entryNotHealed: true }).catch((error: unknown) => [
    String(error),
  ])
  expect(spread).not.toEqual([])
})

/** Every block is found damaged at once; while the repairs wait for their turn, two consistency points free the places and write them anew. */
async function lateRepairs(type: AggregateType, broken: BrokenStorage): Promise<readonly string[]> {
  const { bed, places } = await written(18, type, [500, 300])
  const aggregate = await bed.open(0, { mirror: bed.devices[1]!, broken })
  const volume = aggregate.volume('v1')!
  for (const pvbn of places) {
    const { device, block } = aggregate.layout.locate(pvbn)
    bed.media[0]![device]!.rot(block, 99)
  }
  await Promise.all(Array.from({ length: BLOCKS }, (_, fbn) => volume.content.get(fbn)))
  for (let round = 0; round < 2; round++) {
    for (let fbn = 0; fbn < BLOCKS; fbn++) expect(await volume.content.put(fbn, fbn + 1)).toBe(true)
    await consistencyPoint(aggregate)
  }
  await aggregate.io.repairing.settled()
  return bed.check(0)
}

test.each(TYPES)('%s: a repair that comes late does not overwrite what was written there', async (type) => {
  expect(await lateRepairs(type, {})).toEqual([])
  const overwritten = await lateRepairs(type, { repairOfReused: true }).catch((error: unknown) => [
    String(error),
  ])
  expect(overwritten).not.toEqual([])
})

describe.each(TYPES)('the other plex, %s', (type) => {
  test('that fails is left behind, and filled again by a resync', async () => {
    const { bed } = await written(21, type)
    const failures: Error[] = []
    const aggregate = await bed.open(0, {
      mirror: bed.devices[1]!,
      onMirrorFailed: (error) => failures.push(error),
    })
    const volume = aggregate.volume('v1')!
    let writes = 0
    bed.devices[1]![0]!.faults.onWrite = () => {
      writes += 1
      if (writes > 1) throw new DeviceError('EIO', 'gone')
    }
    for (let fbn = 0; fbn < BLOCKS; fbn += 3) await volume.content.put(fbn, 7)
    const point = aggregate.freeze({ cp: 2, epoch: 1, covers: 5 })
    await point.write()
    await point.commitRoot(0)
    await expect(point.commitRoot(1)).rejects.toMatchObject({ code: 'EIO' })
    expect(failures).toHaveLength(1)
    aggregate.detachPlex()
    await point.complete()
    expect(await bed.check(0)).toEqual([])
    bed.devices[1]![0]!.faults.onWrite = () => {}
    await aggregate.attachPlex(bed.devices[1]!, 'stale')
    const progress: number[] = []
    await aggregate.resync({ onProgress: (copied) => progress.push(copied) })
    expect(aggregate.mirrorState).toBe('resyncing')
    await consistencyPoint(aggregate)
    expect(aggregate.mirrorState).toBe('mirrored')
    expect(progress.at(-1)).toBeGreaterThan(0)
    expect(await bed.check(1)).toEqual([])
  })

  test('gets only what it lacks if it had the same image once', async () => {
    const { bed } = await written(25, type)
    const { aggregate, volume } = await reopened(bed)
    aggregate.detachPlex()
    await volume.content.put(5, 6)
    await consistencyPoint(aggregate)
    await aggregate.attachPlex(bed.devices[1]!, 'stale')
    let bytes = 0
    await aggregate.resync({ onProgress: (copied) => (bytes = copied) })
    expect(bytes).toBeGreaterThan(0)
    expect(bytes).toBeLessThan((BLOCKS - 100) * BLOCK_BYTES)
    await consistencyPoint(aggregate)
    expect(await bed.check(1)).toEqual([])
    // With another history all of it is copied.
    aggregate.detachPlex()
    const there = await bed.open(1)
    await there.volume('v1')!.content.put(5, 7)
    await consistencyPoint(there)
    await consistencyPoint(aggregate)
    await aggregate.attachPlex(bed.devices[1]!, 'stale')
    await aggregate.resync({ onProgress: (copied) => (bytes = copied) })
    expect(bytes).toBeGreaterThan(BLOCKS * BLOCK_BYTES)
    await consistencyPoint(aggregate)
    expect(await bed.check(1)).toEqual([])
  })

  test('keeps what it has whole where the own plex rotted, and what changed since is not taken for it', async () => {
    const { bed, places } = await written(26, type)
    const { aggregate, volume } = await reopened(bed)
    aggregate.detachPlex()
    await volume.content.put(5, 6)
    await consistencyPoint(aggregate)
    const rot = (fbn: number): void => {
      const { device, block } = aggregate.layout.locate(places[fbn]!)
      bed.media[0]![device]!.rot(block, fbn * 101)
    }
    rot(3)
    const group = Math.floor(places[200]! / GROUP_BLOCKS)
    const { device, block } = aggregate.layout.locateChecksums(group)
    for (let bit = 0; bit < 32768; bit += 64) bed.media[0]![device]!.rot(block, bit)
    await aggregate.attachPlex(bed.devices[1]!, 'stale')
    await aggregate.resync()
    await consistencyPoint(aggregate)
    expect(await bed.check(1)).toEqual([])
    const there = (await bed.open(1)).volume('v1')!
    for (let fbn = 0; fbn < BLOCKS; fbn++) expect(await there.content.get(fbn)).toBe(fbn === 5 ? 6 : fbn + 1)
  })

  test('is not used before its resync ended, and says so', async () => {
    const { bed } = await written(22, type)
    const { aggregate } = await reopened(bed, false)
    await aggregate.attachPlex(bed.devices[1]!, 'stale')
    let asked = 0
    const cancelled = (): boolean => ++asked > 2
    await expect(aggregate.resync({ cancelled })).rejects.toBeInstanceOf(ResyncCancelled)
    expect(aggregate.mirrorState).toBe('stale')
    await expect(bed.open(1)).rejects.toMatchObject({ code: 'RESYNCING' })
    await aggregate.resync()
    await consistencyPoint(aggregate)
    expect(await bed.check(1)).toEqual([])
  })

  test('of another aggregate is refused', async () => {
    const { bed } = await written(23)
    const other = new Bed(24, [1200, 600])
    await other.format()
    const { aggregate } = await reopened(bed, false)
    await expect(aggregate.attachPlex(bed.devices[0]!, 'stale')).rejects.toMatchObject({ code: 'LABELS' })
    await expect(aggregate.attachPlex([bed.devices[1]![0]!], 'stale')).rejects.toMatchObject({ code: 'SIZE' })
  })
})

test('the cache keeps its bound, whatever is read and written', async () => {
  const { bed } = await written(31)
  const cache = new BufferCache(80 * BLOCK_BYTES)
  const aggregate = await bed.open(0, { cache })
  const volume = aggregate.volume('v1')!
  let most = 0
  for (let round = 0; round < 3; round++) {
    for (let fbn = 0; fbn < BLOCKS; fbn++) {
      expect(await volume.content.get(fbn)).toBe(fbn + 1)
      most = Math.max(most, cache.cleanBytes + cache.dirtyBytes)
    }
    for (let fbn = 0; fbn < 40; fbn++) {
      await volume.content.put(fbn, fbn + 1)
      most = Math.max(most, cache.cleanBytes + cache.dirtyBytes)
    }
    await consistencyPoint(aggregate)
    expect(cache.dirtyBytes).toBe(0)
    expect(cache.cleanBytes).toBeLessThanOrEqual(cache.capacityBytes)
  }
  expect(most).toBeLessThanOrEqual(cache.capacityBytes)
  await aggregate.close()
  expect(cache.cleanBytes).toBe(0)
  expect(cache.dirtyBytes).toBe(0)
})
