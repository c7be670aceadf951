import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { Bed, consistencyPoint } from './testing/bed.ts'
import { readPlex } from './plex-info.ts'

const MIB = 2 ** 20

describe.each(['Flexible', 'Traditional'] as const)('an aggregate, %s', (type) => {
  test('keeps what a consistency point wrote, and forgets what came after it', async () => {
    const bed = new Bed(1, [4000], 2, type)
    await bed.format()
    const aggregate = await bed.open()
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 8 * MIB, fsid: 7 })
    for (let fbn = 0; fbn < 500; fbn++) expect(await volume.content.put(fbn, fbn + 1)).toBe(true)
    await consistencyPoint(aggregate)
    await volume.content.put(3, 999)
    bed.attach()
    expect(await bed.check()).toEqual([])
    const again = await bed.open()
    const back = again.volume('v1')!
    expect(again.root).toMatchObject({ cp: 1, epoch: 1, covers: 10 })
    expect(back.fsid).toBe(7)
    for (let fbn = 0; fbn < 500; fbn++) expect(await back.content.get(fbn)).toBe(fbn + 1)
    expect(await back.content.get(500)).toBeUndefined()
  })

  test('memory used again is zero where nothing was written, and no block sees the bytes of another', async () => {
    const bed = new Bed(4, [4000], 1, type)
    await bed.format()
    const aggregate = await bed.open()
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 8 * MIB, fsid: 7 })
    const { tree } = volume.content
    const fill = (fbn: number, byte: number) => {
      tree.prepare(fbn, true)
      return tree.overwrite(fbn).fill(byte)
    }
    for (let round = 1; round <= 6; round++) {
      for (let fbn = 0; fbn < 200; fbn++) fill(fbn, round)
      // Half of them over again in the same epoch, some made holes, some new beside them with one byte of their own.
      for (let fbn = 0; fbn < 100; fbn++) fill(fbn, round + 100)
      for (let fbn = 50; fbn < 60; fbn++) tree.punch(fbn)
      for (let fbn = 50; fbn < 60; fbn++) {
        const block = tree.put(fbn)
        expect(block.every((byte) => byte === 0)).toBe(true)
        block[round] = round
      }
      const held = aggregate.cache.memory.keptBytes
      await consistencyPoint(aggregate)
      expect(aggregate.cache.memory.keptBytes).toBeGreaterThanOrEqual(held)
      for (let fbn = 0; fbn < 200; fbn++) {
        const block = tree.get(fbn)!
        const own = fbn >= 50 && fbn < 60
        const wanted = (i: number): number =>
          own ? (i === round ? round : 0) : fbn < 100 ? round + 100 : round
        expect(block.every((byte, i) => byte === wanted(i))).toBe(true)
      }
    }
    expect(aggregate.cache.memory.keptBytes).toBeGreaterThan(0)
  })

  test('writes both plexes alike, and either opens', async () => {
    const bed = new Bed(2, [2000, 1500], 2, type)
    await bed.format()
    const aggregate = await bed.open()
    await aggregate.attachPlex(bed.devices[1]!, 'mirrored')
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 8 * MIB, fsid: 7 })
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 200; i++) await volume.content.put((i * 37 + round) % 700, round * 1000 + i)
      await consistencyPoint(aggregate)
    }
    bed.attach()
    expect(await bed.check(0)).toEqual([])
    expect(await bed.check(1)).toEqual([])
    const [a, b] = [await readPlex(bed.env, bed.devices[0]!), await readPlex(bed.env, bed.devices[1]!)]
    expect(a!.roots[0]!.root.image).toBe(b!.roots[0]!.root.image)
    expect(a!.labels[0]!.plex).toBe(0)
    expect(b!.labels[0]!.plex).toBe(1)
  })

  test('a plex that is given up while it is being attached is not attached, and can be attached again', async () => {
    const bed = new Bed(6, [2000], 2, type)
    await bed.format()
    const aggregate = await bed.open()
    const given = aggregate.attachPlex(bed.devices[1]!, 'mirrored')
    aggregate.detachPlex()
    await expect(given).rejects.toMatchObject({ code: 'EDETACHED' })
    expect([aggregate.partner, aggregate.mirrorState]).toEqual([undefined, 'none'])
    // Also when the next one begins before the last is over.
    const first = aggregate.attachPlex(bed.devices[1]!, 'mirrored')
    aggregate.detachPlex()
    const second = aggregate.attachPlex(bed.devices[1]!, 'mirrored')
    await expect(first).rejects.toMatchObject({ code: 'EDETACHED' })
    await second
    expect(aggregate.mirrorState).toBe('mirrored')
  })

  test('gives back what was overwritten, freed and removed', async () => {
    const bed = new Bed(3, [3000], 1, type)
    await bed.format()
    const aggregate = await bed.open()
    await consistencyPoint(aggregate)
    const empty = aggregate.space.free
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 8 * MIB, fsid: 7 })
    for (let round = 0; round < 8; round++) {
      for (let fbn = 0; fbn < 400; fbn++) expect(await volume.content.put(fbn, round)).toBe(true)
      await consistencyPoint(aggregate)
    }
    expect(empty - aggregate.space.free).toBeLessThan(430)
    for (let fbn = 0; fbn < 400; fbn++) await volume.content.punch(fbn)
    await consistencyPoint(aggregate)
    expect(volume.used).toBe(0)
    expect(await bed.check()).toEqual([])
    for (let fbn = 0; fbn < 400; fbn++) await volume.content.put(fbn, 1)
    await consistencyPoint(aggregate)
    aggregate.removeVolume('v1')
    await consistencyPoint(aggregate)
    await consistencyPoint(aggregate)
    expect(await bed.check()).toEqual([])
    expect(empty - aggregate.space.free).toBeLessThan(8)
    expect(aggregate.createVolume({ id: 'v2', name: 'vol', sizeBytes: MIB, fsid: 8 }).index).toBe(1)
  })

  test('refuses before it accepts what would not fit, and can be emptied when full', async () => {
    const bed = new Bed(4, [1500], 1, type)
    await bed.format()
    const aggregate = await bed.open()
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 100 * MIB, fsid: 7 })
    let full = 0
    for (let fbn = 0; full < 3; fbn++) {
      if (await volume.content.put(fbn, fbn)) continue
      full += 1
      await consistencyPoint(aggregate)
    }
    expect(await bed.check()).toEqual([])
    const used = volume.used
    expect(used).toBeGreaterThan(1300)
    for (let fbn = 0; fbn < used - 50; fbn++) {
      await volume.content.punch(fbn)
      if (fbn % 100 === 0) await consistencyPoint(aggregate)
    }
    await consistencyPoint(aggregate)
    expect(await volume.content.put(0, 1)).toBe(true)
    await consistencyPoint(aggregate)
    expect(await bed.check()).toEqual([])
  })

  test('refuses properties that it cannot keep, and changes nothing', async () => {
    const bed = new Bed(6, [1500], 1, type)
    await bed.format()
    const aggregate = await bed.open()
    const properties = {
      rules: Array.from({ length: 64 }, (_, i) => `10.0.${i}.0/24, fe80:0000:0000:0000:0202:b3ff:fe1e:8329`),
    }
    const spec = { id: 'v1', name: 'vol', sizeBytes: MIB, fsid: 7 }
    expect(() => aggregate.createVolume({ ...spec, properties })).toThrow(/take \d+ bytes/)
    expect(aggregate.volume('v1')).toBeUndefined()
    aggregate.createVolume(spec)
    expect(() => aggregate.changeVolume('v1', { sizeBytes: 2 * MIB, properties })).toThrow(/take \d+ bytes/)
    if (type === 'Flexible') expect(aggregate.volume('v1')!.sizeBytes).toBe(MIB)
    await consistencyPoint(aggregate)
    expect(await bed.check()).toEqual([])
  })

  test('gives back what was freed slice by slice, while operations go on, and counts no block twice', async () => {
    const bed = new Bed(6, [9000], 1, type)
    let now = 0
    const turns: (() => void)[] = []
    const clock = {
      now: () => (now += 1),
      after: (_: number, task: () => void) => ({ cancel: turns.push(task) }),
    }
    Object.assign(bed.env.clock, { now: clock.now })
    await bed.format()
    const aggregate = await bed.open()
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 32 * MIB, fsid: 7 })
    for (let fbn = 0; fbn < 5000; fbn++) await volume.content.put(fbn, fbn)
    await consistencyPoint(aggregate)
    for (let fbn = 0; fbn < 5000; fbn++) await volume.content.punch(fbn)
    const point = aggregate.freeze({ cp: aggregate.root.cp + 1, epoch: 1, covers: 0 })
    await point.write()
    await point.commitRoot(0)
    const before = aggregate.freeBlocks
    Object.assign(bed.env.clock, { after: clock.after })
    const completed = point.complete()
    await new Promise((resolve) => setImmediate(resolve))
    let slices = 0
    for (; turns.length > 0; slices++) {
      expect(() => aggregate.freeze({ cp: aggregate.root.cp + 1, epoch: 1, covers: 0 })).toThrow(/under way/)
      expect(await volume.content.put(slices, 7)).toBe(true)
      // What came back is in the map of free space, what did not is still on its way; a new block and its path cost little.
      if (type === 'Flexible') expect(Math.abs(aggregate.freeBlocks - before)).toBeLessThan(60)
      turns.shift()!()
      await new Promise((resolve) => setImmediate(resolve))
    }
    await completed
    expect(slices).toBeGreaterThanOrEqual(4)
    Object.assign(bed.env.clock, { after: (_: number, task: () => void) => void queueMicrotask(task) })
    await consistencyPoint(aggregate)
    expect(await bed.check()).toEqual([])
    for (let fbn = 0; fbn < 5000; fbn++)
      expect(await volume.content.get(fbn)).toBe(fbn < slices ? 7 : undefined)
  })

  test('memory of data that was read, written, freed while it was read, and evicted is all given back', async () => {
    const bed = new Bed(7, [4000], 1, type)
    await bed.format()
    const aggregate = await bed.open()
    const { cache } = aggregate
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 12 * MIB, fsid: 7 })
    for (let round = 0; round < 8; round++) {
      for (let n = 0; n < 1500; n++) await volume.content.put(n, round * 10_000 + n)
      await consistencyPoint(aggregate)
      const reads: Promise<unknown>[] = []
      for (let n = 0; n < 1500; n += 1 + (bed.random.u32() % 3)) reads.push(volume.content.get(n))
      for (let n = 0; n < 300; n++) await volume.content.punch(bed.random.u32() % 1500)
      await Promise.all(reads)
      expect(cache.memory.blocksInUse * BLOCK_BYTES).toBeLessThanOrEqual(cache.cleanBytes + cache.dirtyBytes)
      expect(cache.memory.blocksInUse).toBeGreaterThan(100)
    }
    expect(cache.evictions).toBeGreaterThan(1000)
    await aggregate.close()
    expect(cache.memory.blocksInUse).toBe(0)
    expect(cache.memory.keptBytes).toBeLessThanOrEqual(17 * MIB)
  })
})

test('a flexible volume keeps its quota', async () => {
  const bed = new Bed(5, [3000], 1)
  await bed.format()
  const aggregate = await bed.open()
  const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 100 * 4096, fsid: 7 })
  let fbn = 0
  while (await volume.content.put(fbn, fbn)) fbn += 1
  expect(volume.used).toBeLessThanOrEqual(100)
  expect(volume.used).toBeGreaterThan(95)
  aggregate.changeVolume('v1', { sizeBytes: 200 * 4096 })
  expect(await volume.content.put(fbn, fbn)).toBe(true)
})

describe('a traditional volume', () => {
  test.each([[[200]], [[700, 300]], [[5000, 2500, 900]], [[12_000]]])(
    'can be filled to its size on devices of %p blocks, and says at any time what is free',
    async (sizes) => {
      const bed = new Bed(7, sizes, 1, 'Traditional')
      await bed.format()
      const aggregate = await bed.open()
      const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 0, fsid: 7 })
      const { totalBlocks } = volume.space()
      expect(volume.sizeBytes).toBe(totalBlocks * BLOCK_BYTES)
      const devices = sizes.reduce((sum, blocks) => sum + blocks, 0)
      expect(totalBlocks).toBeGreaterThan(0.97 * devices - 90)
      let fbn = 0
      for (let refused = 0; refused < 2; fbn++) {
        const { freeBlocks } = volume.space()
        expect(freeBlocks).toBeLessThanOrEqual(totalBlocks - volume.used)
        // What is dirty may need a few blocks more until the next consistency point.
        expect(freeBlocks).toBeGreaterThanOrEqual(totalBlocks - volume.used - 8 - Math.ceil(fbn / 300))
        if (await volume.content.put(fbn, fbn)) {
          if (fbn % 997 === 0) await consistencyPoint(aggregate)
          continue
        }
        refused += 1
        fbn -= 1
        await consistencyPoint(aggregate)
      }
      // A change of one block needs, at most, two indirect blocks beside it.
      expect(volume.used).toBeGreaterThanOrEqual(totalBlocks - 2)
      expect(volume.used).toBeLessThanOrEqual(totalBlocks)
      expect(await bed.check()).toEqual([])
    },
  )

  test.each([1, 2, 3, 4])(
    'that is nearly full takes what it accepted, beside consistency points, seed %i',
    async (seed) => {
      const bed = new Bed(seed, [360, 200], 1, 'Traditional')
      await bed.format()
      let aggregate = await bed.open()
      let volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 0, fsid: 7 })
      const model = new Map<number, number>()
      let refused = 0
      let stamp = 0
      const change = async (): Promise<void> => {
        const fbn = bed.random.u32() % 700
        if (bed.random.u32() % 8 === 0) {
          await volume.content.punch(fbn)
          model.delete(fbn)
          return
        }
        const next = (stamp += 1)
        if (await volume.content.put(fbn, next)) model.set(fbn, next)
        else refused += 1
      }
      const changes = async (count: number): Promise<void> => {
        for (let n = 0; n < count; n++) await change()
      }
      for (let round = 0; round < 60; round++) {
        await changes(bed.random.u32() % 150)
        const point = aggregate.freeze({ cp: aggregate.root.cp + 1, epoch: 1, covers: 0 })
        await Promise.all([point.write(), changes(bed.random.u32() % 60)])
        await changes(bed.random.u32() % 20)
        await point.commitRoot(0)
        await changes(bed.random.u32() % 20)
        await point.complete()
        if (round % 20 !== 19) continue
        await consistencyPoint(aggregate)
        expect(await bed.check()).toEqual([])
        bed.attach()
        aggregate = await bed.open()
        volume = aggregate.volume('v1')!
        for (let fbn = 0; fbn < 700; fbn++) expect(await volume.content.get(fbn)).toBe(model.get(fbn))
      }
      expect(refused).toBeGreaterThan(100)
    },
  )
})
