/**
 * Aggregates that grow: new space is there when both plexes list it, never before; a crash at any write leaves an image that is whole, with or without
 * the new devices; and what is not a growth (a lost disk, devices of others) is never taken for one.
 */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { seededRandom, SimDevice, SimMedium } from '../../sim/device.ts'
import { Aggregate } from './aggregate.ts'
import { readLabel, writeLabel } from './label.ts'
import { Layout } from './layout.ts'
import { readPlex } from './plex-info.ts'
import { SpaceMap } from './space-map.ts'
import { Bed, consistencyPoint, SPEC, testEnv } from './testing/bed.ts'
import type { TestAggregate } from './testing/bed.ts'

const random = seededRandom(5)
const between = (low: number, high: number): number => low + (random.u32() % (high - low + 1))

test('a layout that grew is the layout of all its devices, and no number moved', () => {
  for (let round = 0; round < 200; round++) {
    const sizes = Array.from({ length: between(2, 8) }, () => between(138, 1500))
    const cut = between(1, sizes.length - 1)
    const grown = new Layout(sizes.slice(0, cut))
    const before = grown.devices.map((place) => ({ ...place }))
    const places = grown.behind(sizes.slice(cut))
    grown.append(places)
    const whole = new Layout(sizes)
    expect(grown.devices).toEqual(whole.devices)
    expect([grown.end, grown.data, grown.groups]).toEqual([whole.end, whole.data, whole.groups])
    expect(grown.devices.slice(0, cut)).toEqual(before)
    expect(grown.devices.slice(cut)).toEqual(places)
  }
})

test('a space map that grew keeps what is busy, and has exactly the new blocks more', () => {
  for (let round = 0; round < 30; round++) {
    const layout = new Layout([between(138, 900), between(138, 900)])
    const space = new SpaceMap(layout)
    const taken = new Set<number>()
    for (let n = between(0, space.free); n > 0; n--) taken.add(space.take())
    const wrong: number[] = []
    const { free } = space
    layout.append(layout.behind([between(138, round < 4 ? 40_000 : 900)]))
    expect(space.free).toBe(free)
    space.grow()
    expect(space.free).toBe(layout.data - 1 - taken.size)
    for (let pvbn = 1; pvbn < layout.end; pvbn++) {
      if (layout.exists(pvbn) && space.isBusy(pvbn) !== taken.has(pvbn)) wrong.push(pvbn)
    }
    while (space.free > 0) {
      const pvbn = space.take()
      if (!layout.exists(pvbn) || taken.has(pvbn)) wrong.push(pvbn)
      taken.add(pvbn)
    }
    expect(wrong).toEqual([])
    expect(taken.size).toBe(layout.data - 1)
  }
})

async function mirrored(bed: Bed): Promise<TestAggregate> {
  const aggregate = await bed.open(0)
  const plex = await readPlex(bed.env, bed.devices[1]!)
  await aggregate.attachPlex(plex!.devices, 'mirrored')
  return aggregate
}

/** Takes in all that waits at both plexes. */
async function grow(bed: Bed, aggregate: TestAggregate): Promise<void> {
  const own = aggregate.waiting.map(({ device }) => device)
  const theirs = own.map((device) => bed.devices[1]![bed.devices[0]!.indexOf(device as SimDevice)]!)
  await aggregate.prepareGrowth(own, theirs)
}

/** Blocks that could be put, from `from` on, until there is no space. */
async function fill(aggregate: TestAggregate, from: number): Promise<number> {
  const { content } = aggregate.volume('v1')!
  let fbn = from
  for (;;) {
    if (!(await content.put(fbn, fbn + 1))) {
      await consistencyPoint(aggregate)
      await consistencyPoint(aggregate)
      if (!(await content.put(fbn, fbn + 1))) return fbn
    }
    fbn += 1
    if (fbn % 64 === 0) await consistencyPoint(aggregate)
  }
}

async function holds(aggregate: TestAggregate, blocks: number): Promise<void> {
  const { content } = aggregate.volume('v1')!
  const wrong: number[] = []
  for (let fbn = 0; fbn < blocks; fbn++) if ((await content.get(fbn)) !== fbn + 1) wrong.push(fbn)
  expect(wrong).toEqual([])
}

describe.each(['Flexible', 'Traditional'] as const)('an aggregate that is full, %s', (type) => {
  test('takes writes again when it grew, in what was added, on both plexes', async () => {
    const bed = new Bed(11, [900], 2, type)
    await bed.format()
    const first = await mirrored(bed)
    first.createVolume({ id: 'v1', name: 'v', sizeBytes: 2 ** 30, fsid: 1 })
    const full = await fill(first, 0)
    expect(first.space.free / first.layout.data).toBeLessThan(0.1)
    bed.add([1500, 400])
    bed.attach()
    const aggregate = await mirrored(bed)
    expect(aggregate.waiting.map(({ device }) => device.name)).toEqual(['plex0-1', 'plex0-2'])
    expect(aggregate.layout.devices).toHaveLength(1)
    const { free } = aggregate.space
    const { sizeBytes } = aggregate.volume('v1')!
    await grow(bed, aggregate)
    expect(aggregate.space.free).toBe(free)
    await consistencyPoint(aggregate)
    expect(aggregate.waiting).toEqual([])
    expect(aggregate.mirrorState).toBe('mirrored')
    expect(aggregate.space.free).toBeGreaterThan(free + 1700)
    const grown = aggregate.volume('v1')!.sizeBytes - sizeBytes
    if (type === 'Flexible') expect(grown).toBe(0)
    else expect(grown).toBeGreaterThan(1800 * BLOCK_BYTES)
    const more = await fill(aggregate, full)
    expect(more).toBeGreaterThan(full + 1500)
    expect(aggregate.space.free / aggregate.layout.data).toBeLessThan(0.1)
    bed.attach()
    expect(await bed.check(0)).toEqual([])
    expect(await bed.check(1)).toEqual([])
    // The label, not the order of the configuration, says where a device is.
    bed.media[1]!.reverse()
    bed.attach()
    const other = await bed.open(1)
    await holds(other, more)
    const labels = await readPlex(bed.env, bed.devices[1]!)
    expect(labels!.labels.map(({ position, devices }) => [position, devices])).toEqual(
      [0, 1, 2].map((n) => [n, 3]),
    )
  })

  test('takes the smaller of two sizes that differ', async () => {
    const bed = new Bed(12, [600], 2, type)
    await bed.format()
    bed.add([700])
    bed.media[0]![1] = new SimMedium('plex0-1', 1100)
    bed.attach()
    const aggregate = await mirrored(bed)
    await grow(bed, aggregate)
    await consistencyPoint(aggregate)
    expect(aggregate.layout.devices[1]!.blocks).toBe(700)
    for (let at = 1; at < 6; at++) await consistencyPoint(aggregate)
    bed.attach()
    expect(await bed.check(0)).toEqual([])
    expect((await mirrored(bed)).layout.devices[1]!.blocks).toBe(700)
  })
})

class Power extends Error {}

describe('a crash at any write of a growth', () => {
  async function trial(crashAt: number, seed: number): Promise<boolean> {
    const bed = new Bed(seed, [420, 300])
    await bed.format()
    let aggregate = await mirrored(bed)
    const volume = aggregate.createVolume({ id: 'v1', name: 'v', sizeBytes: 2 ** 28, fsid: 1 })
    for (let fbn = 0; fbn < 300; fbn++) await volume.content.put(fbn, fbn + 1)
    await consistencyPoint(aggregate)
    bed.add([200, 500])
    bed.attach()
    aggregate = await mirrored(bed)
    let left = crashAt
    for (const device of bed.devices.flat()) {
      device.faults.onWrite = () => {
        left -= 1
        if (left < 0) throw new Power()
      }
    }
    let crashed = false
    try {
      await grow(bed, aggregate)
      for (let fbn = 300; fbn < 330; fbn++) await aggregate.volume('v1')!.content.put(fbn, fbn + 1)
      await consistencyPoint(aggregate)
      for (let fbn = 330; fbn < 340; fbn++) await aggregate.volume('v1')!.content.put(fbn, fbn + 1)
      await consistencyPoint(aggregate)
    } catch (error) {
      if (!(error instanceof Power) && aggregate.partner?.failure === undefined) throw error
      crashed = true
    }
    bed.crash()
    bed.attach()
    for (const plex of [0, 1]) {
      expect(await bed.check(plex)).toEqual([])
      const opened = await bed.open(plex)
      expect([2, 4]).toContain(opened.layout.devices.length)
      expect(opened.layout.devices.length + opened.waiting.length).toBe(4)
      await holds(opened, 300)
    }
    // Whoever goes on ends with all devices on both plexes.
    const survivor = seed % 2
    const roots = await Promise.all(
      bed.devices.map(async (devices) => (await readPlex(bed.env, devices))!.roots[0]!.root),
    )
    const again = await bed.open(survivor)
    const order = again.own.devices.map((device) => bed.devices[survivor]!.indexOf(device as SimDevice))
    const theirs = order.map((i) => bed.devices[1 - survivor]![i]!)
    if (roots[0]!.image === roots[1]!.image) await again.attachPlex(theirs, 'mirrored')
    else {
      await again.attachPlex(theirs, 'stale')
      await again.resync()
      await consistencyPoint(again)
    }
    expect(again.mirrorState).toBe('mirrored')
    if (again.waiting.length > 0) {
      const own = again.waiting.map(({ device }) => device)
      const twins = own.map(
        (device) => bed.devices[1 - survivor]![bed.devices[survivor]!.indexOf(device as SimDevice)]!,
      )
      await again.prepareGrowth(own, twins)
      await consistencyPoint(again)
    }
    expect(again.layout.devices.map(({ blocks }) => blocks)).toEqual([420, 300, 200, 500])
    await fill(again, 400)
    bed.attach()
    for (const plex of [0, 1]) {
      expect(await bed.check(plex)).toEqual([])
      await holds(await bed.open(plex), 300)
    }
    return crashed
  }

  test('leaves whole images, and the growth can be finished from either plex', async () => {
    let crashes = 0
    for (let at = 0; ; at++) {
      const crashed = await trial(at, 100 + at)
      if (!crashed) break
      crashes += 1
    }
    // Labels of four devices, the image, two roots, labels again.
    expect(crashes).toBeGreaterThan(25)
  }, 60_000)
})

describe('the other plex', () => {
  test('may be lost between the two roots: it is filled again with all devices', async () => {
    const bed = new Bed(21, [500])
    await bed.format()
    bed.add([600])
    bed.attach()
    const aggregate = await mirrored(bed)
    const volume = aggregate.createVolume({ id: 'v1', name: 'v', sizeBytes: 2 ** 28, fsid: 1 })
    await grow(bed, aggregate)
    const point = aggregate.freeze({ cp: 1, epoch: 1, covers: 0 })
    await point.write()
    await point.commitRoot(0)
    aggregate.detachPlex()
    await expect(aggregate.attachPlex(bed.devices[1]!, 'stale')).rejects.toMatchObject({ code: 'GROWING' })
    await point.commitRoot(1)
    await point.complete()
    expect(aggregate.layout.devices).toHaveLength(2)
    for (let fbn = 0; fbn < 600; fbn++) await volume.content.put(fbn, fbn + 1)
    await consistencyPoint(aggregate)
    await aggregate.attachPlex(bed.devices[1]!, 'stale')
    await aggregate.resync()
    await consistencyPoint(aggregate)
    bed.attach()
    expect(await bed.check(1)).toEqual([])
    await holds(await bed.open(1), 600)
  })

  test('that is lost before the freeze ends the growth; it is prepared again later', async () => {
    const bed = new Bed(22, [500])
    await bed.format()
    bed.add([600])
    bed.attach()
    const aggregate = await mirrored(bed)
    await grow(bed, aggregate)
    aggregate.detachPlex()
    await consistencyPoint(aggregate)
    expect(aggregate.layout.devices).toHaveLength(1)
    await expect(grow(bed, aggregate)).rejects.toMatchObject({ code: 'GROWING' })
    await aggregate.attachPlex([bed.devices[1]![0]!], 'stale')
    await aggregate.resync()
    await consistencyPoint(aggregate)
    await grow(bed, aggregate)
    await consistencyPoint(aggregate)
    expect(aggregate.layout.devices).toHaveLength(2)
    bed.attach()
    expect(await bed.check(0)).toEqual([])
    expect(await bed.check(1)).toEqual([])
  })

  test('with a new disk in place of one of the image is filled whole', async () => {
    const bed = new Bed(23, [500, 500])
    await bed.format()
    const aggregate = await bed.open(0)
    const volume = aggregate.createVolume({ id: 'v1', name: 'v', sizeBytes: 2 ** 28, fsid: 1 })
    for (let fbn = 0; fbn < 500; fbn++) await volume.content.put(fbn, fbn + 1)
    await consistencyPoint(aggregate)
    const disk = new SimDevice(new SimMedium('new', 500))
    bed.media[1]![1] = disk.medium
    await aggregate.attachPlex([bed.devices[1]![0]!, disk], 'stale')
    await aggregate.resync()
    await consistencyPoint(aggregate)
    bed.attach()
    expect(await bed.check(1)).toEqual([])
    await holds(await bed.open(1), 500)
  })
})

describe('what is not a growth', () => {
  test('a blank device in the place of one of the image is a lost disk', async () => {
    const bed = new Bed(31, [300, 300])
    await bed.format()
    for (const lost of [0, 1]) {
      const devices = bed.media[0]!.map((medium) => new SimDevice(medium))
      devices[lost] = new SimDevice(new SimMedium('new', 300))
      await expect(readPlex(bed.env, devices)).rejects.toMatchObject({ code: 'LABELS' })
    }
  })

  test('a device of the image that is not configured is missed by name of its place', async () => {
    const bed = new Bed(32, [300, 300])
    await bed.format()
    await expect(readPlex(bed.env, [bed.devices[0]![0]!])).rejects.toThrow(
      'device 2 of 2 is missing or blank',
    )
  })

  test('devices of another aggregate wait, and are refused', async () => {
    const bed = new Bed(33, [300])
    await bed.format()
    bed.add([300])
    bed.attach()
    const foreign = { ...SPEC, id: 'else', name: 'else', pairUid: 'pair-2' }
    await Aggregate.format(testEnv(), foreign, [[bed.devices[1]![1]!]])
    const aggregate = await bed.open(0)
    await aggregate.attachPlex([bed.devices[1]![0]!], 'mirrored')
    await expect(grow(bed, aggregate)).rejects.toThrow('plex1-1 is not blank: it belongs to aggregate else')
    expect(await readLabel(bed.env, bed.devices[1]![1]!)).toMatchObject({ aggregateId: 'else' })
    await consistencyPoint(aggregate)
    expect(aggregate.layout.devices).toHaveLength(1)
  })

  test('more than 64 devices, and devices too small to hold a group, are refused before anything is written', async () => {
    const bed = new Bed(
      34,
      Array.from({ length: 60 }, () => 138),
    )
    await bed.format()
    bed.add(Array.from({ length: 5 }, () => 138))
    bed.attach()
    const aggregate = await bed.open(0)
    await aggregate.attachPlex(bed.devices[1]!.slice(0, 60), 'mirrored')
    await expect(grow(bed, aggregate)).rejects.toMatchObject({ code: 'TOO_MANY' })
    const tiny = (): SimDevice => new SimDevice(new SimMedium('tiny', 137))
    await expect(aggregate.prepareGrowth([tiny()], [tiny()])).rejects.toMatchObject({ code: 'SIZE' })
    expect(
      bed.media
        .flat()
        .slice(60, 65)
        .every((medium) => medium.writes === 0),
    ).toBe(true)
  })

  test('a prepared device keeps no older label alive', async () => {
    const bed = new Bed(35, [300])
    await bed.format()
    bed.add([300])
    bed.attach()
    const device = bed.devices[0]![1]!
    const head = (await readLabel(bed.env, bed.devices[0]![0]!))!
    if (head === 'version') throw new Error('version')
    await writeLabel(bed.env, device, { ...head, position: 7, generation: 900 })
    const aggregate = await mirrored(bed)
    await grow(bed, aggregate)
    expect(await readLabel(bed.env, device)).toMatchObject({ position: 1, generation: 1, devices: 2 })
    await consistencyPoint(aggregate)
    bed.attach()
    expect((await bed.open(0)).layout.end * BLOCK_BYTES).toBeGreaterThan(500 * BLOCK_BYTES)
  })
})
