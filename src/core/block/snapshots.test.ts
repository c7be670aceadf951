/**
 * Snapshots against a simple model: whatever is written, made, deleted and restored in any order, beside consistency points and over crashes at any of their
 * writes, every snapshot reads as the volume was when it was made, the checker finds nothing, and the space comes back when all are gone.
 */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { loaded } from '../fs/tree.ts'
import { seededRandom } from '../../sim/device.ts'
import type { AggregateType } from './label.ts'
import { Bed, consistencyPoint, OneFile } from './testing/bed.ts'
import type { TestAggregate, TestVolume } from './testing/bed.ts'

type File = Map<number, number>

const FBNS = 300
const QUOTA = 900 * BLOCK_BYTES

class Power extends Error {}

async function readAll(file: OneFile): Promise<File> {
  const found: File = new Map()
  for (let fbn = 0; fbn < FBNS; fbn++) {
    const stamp = await file.get(fbn)
    if (stamp === 'damaged') throw new Error(`block ${fbn} is damaged`)
    if (stamp !== undefined) found.set(fbn, stamp)
  }
  return found
}

async function readSnapshot(volume: TestVolume, name: string): Promise<File> {
  return await readAll(new OneFile(volume, volume.snapshots.named(name)!.content))
}

const sorted = (file: File): [number, number][] => [...file].sort(([a], [b]) => a - b)

/** Consistency points until nothing is left to be given back. */
async function settle(aggregate: TestAggregate): Promise<void> {
  for (let i = 0; i < 200; i++) {
    await consistencyPoint(aggregate)
    if (!aggregate.isBusy) {
      await consistencyPoint(aggregate)
      return
    }
  }
  throw new Error('snapshots are being deleted for ever')
}

async function made(aggregate: TestAggregate, name: string): Promise<void> {
  const asked = aggregate.makeSnapshot('v1', { name, requestId: `make-${name}`, created: 1000 })
  if (typeof asked === 'string') throw new Error(asked)
  await consistencyPoint(aggregate)
  await asked
}

async function removed(aggregate: TestAggregate, name: string): Promise<void> {
  const asked = aggregate.removeSnapshot('v1', name, `delete-${name}`)
  if (typeof asked === 'string') throw new Error(asked)
  await consistencyPoint(aggregate)
  await asked
}

async function opened(bed: Bed): Promise<{ aggregate: TestAggregate; volume: TestVolume }> {
  await bed.format()
  const aggregate = await bed.open()
  const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: QUOTA, fsid: 7 })
  await consistencyPoint(aggregate)
  return { aggregate, volume }
}

describe.each(['Flexible', 'Traditional'] as const)('a snapshot, %s', (type) => {
  test('reads as the volume was, while the volume goes on, and after opening again', async () => {
    const bed = new Bed(1, [3000], 1, type)
    const { aggregate, volume } = await opened(bed)
    for (let fbn = 0; fbn < 200; fbn++) await volume.content.put(fbn, fbn + 1)
    await made(aggregate, 'one')
    const then = await readAll(volume.content)
    for (let round = 0; round < 4; round++) {
      for (let fbn = 0; fbn < 150; fbn++) expect(await volume.content.put(fbn, 5000 + fbn)).toBe(true)
      await volume.content.punch(180 + round)
      await consistencyPoint(aggregate)
      expect(await readSnapshot(volume, 'one')).toEqual(then)
    }
    expect(await bed.check()).toEqual([])
    bed.attach()
    const again = (await bed.open()).volume('v1')!
    expect(await readSnapshot(again, 'one')).toEqual(then)
    expect(again.snapshots.heldBlocks).toBe(volume.snapshots.heldBlocks)
    const [snapshot] = again.snapshots.list()
    expect(snapshot).toMatchObject({ id: 1, name: 'one', requestId: 'make-one', created: 1000 })
    // The 154 leaves, and the indirect block above the ones punched and written.
    expect(again.snapshots.heldBlocks).toBeGreaterThanOrEqual(154)
    expect(again.snapshots.heldBlocks).toBeLessThanOrEqual(157)
  })

  test('is counted: what it alone holds, what the volume has left', async () => {
    const bed = new Bed(2, [3000], 1, type)
    const { aggregate, volume } = await opened(bed)
    for (let fbn = 0; fbn < 100; fbn++) await volume.content.put(fbn, 1)
    await made(aggregate, 'a')
    expect(volume.snapshots.named('a')!.unique).toBe(0)
    for (let fbn = 0; fbn < 10; fbn++) await volume.content.put(fbn, 2)
    await made(aggregate, 'b')
    const onlyA = volume.snapshots.named('a')!.unique
    expect(onlyA).toBe(volume.snapshots.heldBlocks)
    expect(onlyA).toBeGreaterThanOrEqual(10)
    for (let fbn = 0; fbn < 20; fbn++) await volume.content.put(fbn, 3)
    await consistencyPoint(aggregate)
    // Blocks 10-19 are in both; 0-9 of the second version in b alone.
    expect(volume.snapshots.named('a')!.unique).toBe(onlyA)
    expect(volume.snapshots.named('b')!.unique).toBeGreaterThanOrEqual(10)
    expect(volume.snapshots.named('b')!.unique).toBeLessThan(20)
    const { totalBlocks, freeBlocks } = volume.space()
    expect(freeBlocks).toBe(totalBlocks - volume.used - volume.snapshots.heldBlocks)
    await removed(aggregate, 'a')
    await settle(aggregate)
    expect(volume.snapshots.named('b')!.unique).toBe(volume.snapshots.heldBlocks)
    expect(await bed.check()).toEqual([])
  })

  test('is bounded with the volume by the quota: an overwrite that would not fit is refused before it is made', async () => {
    const bed = new Bed(3, [type === 'Flexible' ? 3000 : 1000], 1, type)
    const { aggregate, volume } = await opened(bed)
    const size = volume.sizeBytes / BLOCK_BYTES
    for (let fbn = 0; fbn < 500; fbn++) expect(await volume.content.put(fbn, 1)).toBe(true)
    await made(aggregate, 'a')
    let fbn = 0
    while (await volume.content.put(fbn, 2)) fbn += 1
    expect(fbn).toBeGreaterThan(size - 550)
    expect(fbn).toBeLessThan(size - 500)
    await consistencyPoint(aggregate)
    expect(volume.used + volume.snapshots.heldBlocks).toBeLessThanOrEqual(size)
    await removed(aggregate, 'a')
    await settle(aggregate)
    expect(await volume.content.put(fbn, 2)).toBe(true)
    expect(await bed.check()).toEqual([])
  })

  test('is asked for by name and request: what is wrong is said, a repeated order is the same order', async () => {
    const bed = new Bed(4, [3000], 1, type)
    const { aggregate, volume } = await opened(bed)
    await made(aggregate, 'a')
    const order = { name: 'a', requestId: 'make-a', created: 1 }
    await aggregate.makeSnapshot('v1', order)
    expect(aggregate.makeSnapshot('v1', { ...order, requestId: 'other' })).toBe('SnapshotExists')
    for (const name of ['', '.a', 'a/b', 'a'.repeat(64), 'ä']) {
      expect(aggregate.makeSnapshot('v1', { ...order, name })).toBe('InvalidName')
    }
    expect(aggregate.removeSnapshot('v1', 'b', 'x')).toBe('NoSuchSnapshot')
    await removed(aggregate, 'a')
    expect(volume.snapshots.list()).toEqual([])
    await aggregate.removeSnapshot('v1', 'a', 'delete-a')
    expect(aggregate.removeSnapshot('v1', 'a', 'other')).toBe('NoSuchSnapshot')
  })

  test('an order repeated while it is under way waits for the same consistency point', async () => {
    const bed = new Bed(1, [3000], 1, type)
    const { aggregate } = await opened(bed)
    const make = { name: 's', requestId: 'r', created: 1 }
    for (const order of [
      () => aggregate.makeSnapshot('v1', make),
      () => aggregate.removeSnapshot('v1', 's', 'd'),
    ]) {
      let done = 0
      const ask = (): Promise<void> => {
        const asked = order()
        if (typeof asked === 'string') throw new Error(asked)
        return asked.then(() => void (done += 1))
      }
      const before = ask()
      const point = aggregate.freeze({ cp: aggregate.root.cp + 1, epoch: 1, covers: 0 })
      await point.write()
      const during = ask()
      await point.commitRoot(0)
      expect(done).toBe(0)
      await point.complete()
      await Promise.all([before, during])
      expect(done).toBe(2)
    }
  })

  test('is one of 255 at most, and they go in any order', async () => {
    const bed = new Bed(5, [6000], 1, type)
    const { aggregate, volume } = await opened(bed)
    const free = aggregate.space.free
    const asked: unknown[] = []
    for (let i = 0; i < 255; i++) {
      if (i % 50 === 0) await volume.content.put(i, i)
      asked.push(aggregate.makeSnapshot('v1', { name: `s${i}`, requestId: '', created: i }))
      if (i % 20 === 0) await consistencyPoint(aggregate)
    }
    expect(aggregate.makeSnapshot('v1', { name: 'more', requestId: '', created: 1 })).toBe('TooMany')
    await consistencyPoint(aggregate)
    await Promise.all(asked)
    expect(volume.snapshots.list()).toHaveLength(255)
    expect(await bed.check()).toEqual([])
    for (let i = 0; i < 255; i++) void aggregate.removeSnapshot('v1', `s${(i * 101) % 255}`, '')
    for (let fbn = 0; fbn < 255; fbn += 50) await volume.content.punch(fbn)
    await settle(aggregate)
    expect(await bed.check()).toEqual([])
    expect(free - aggregate.space.free).toBeLessThan(3)
  })

  test('goes with its volume', async () => {
    const bed = new Bed(6, [3000], 1, type)
    await bed.format()
    const empty = await bed.open()
    await consistencyPoint(empty)
    const free = empty.space.free
    const volume = empty.createVolume({ id: 'v1', name: 'vol', sizeBytes: QUOTA, fsid: 7 })
    for (let fbn = 0; fbn < 200; fbn++) await volume.content.put(fbn, 1)
    await made(empty, 'a')
    for (let fbn = 0; fbn < 200; fbn++) await volume.content.put(fbn, 2)
    await made(empty, 'b')
    for (let fbn = 0; fbn < 100; fbn++) await volume.content.put(fbn, 3)
    const asked = empty.makeSnapshot('v1', { name: 'c', requestId: '', created: 1 })
    empty.removeVolume('v1')
    await expect(asked).rejects.toThrow(/stopped being served/)
    await consistencyPoint(empty)
    bed.attach()
    const again = await bed.open()
    await settle(again)
    expect(await bed.check()).toEqual([])
    expect(free - again.space.free).toBeLessThan(8)
  })
})

/** One life of a volume, with crashes. */
class Trial {
  readonly bed: Bed
  readonly random
  file: File = new Map()
  snapshots = new Map<string, File>()
  /** What the image of each consistency point holds. */
  readonly images = new Map<number, { file: File; snapshots: Map<string, File> }>()
  writesLeft = Infinity
  private stamp = 1
  private names = 0

  constructor(seed: number, type: AggregateType) {
    this.random = seededRandom(seed)
    this.bed = new Bed(seed, [2600], 1, type)
    this.bed.cacheBytes = 96 * BLOCK_BYTES
  }

  below(n: number): number {
    return this.random.u32() % n
  }

  attach(): void {
    this.bed.attach()
    for (const device of this.bed.devices[0]!) {
      device.faults.onWrite = () => {
        this.writesLeft -= 1
        if (this.writesLeft < 0) throw new Power()
      }
    }
  }

  async operate(volume: TestVolume, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const fbn = this.below(FBNS)
      if (this.below(6) === 0) {
        await volume.content.punch(fbn)
        this.file.delete(fbn)
      } else {
        const stamp = this.stamp++
        if (await volume.content.put(fbn, stamp)) this.file.set(fbn, stamp)
      }
    }
  }

  /** Orders for the next freeze, and what the model has after it. */
  order(aggregate: TestAggregate): void {
    const volume = aggregate.volume('v1')!
    const names = volume.snapshots.list().map(({ name }) => name)
    if (this.below(3) === 0) {
      const name = `s${this.names++}`
      const asked = aggregate.makeSnapshot('v1', { name, requestId: '', created: 1 })
      if (asked !== 'NoSpace') {
        expect(typeof asked).not.toBe('string')
        ;(asked as Promise<void>).catch(() => undefined)
        this.made.push(name)
      }
    }
    if (names.length > 0 && this.below(3) === 0) {
      const name = names[this.below(names.length)]!
      const asked = aggregate.removeSnapshot('v1', name, '')
      ;(asked as Promise<void>).catch(() => undefined)
      this.snapshots.delete(name)
    } else if (names.length > 0 && this.below(6) === 0) {
      const name = names[this.below(names.length)]!
      aggregate.restoreVolume('v1', volume.snapshots.named(name)!.id, `r${this.stamp++}`, 1)
      this.file = new Map(this.snapshots.get(name))
    }
  }
  private made: string[] = []

  async consistencyPoint(aggregate: TestAggregate): Promise<void> {
    const volume = aggregate.volume('v1')!
    this.order(aggregate)
    if (this.below(3) === 0) await this.operate(volume, this.below(20))
    const cp = aggregate.root.cp + 1
    const point = aggregate.freeze({ cp, epoch: 1, covers: cp })
    for (const name of this.made.splice(0)) this.snapshots.set(name, new Map(this.file))
    this.images.set(cp, { file: new Map(this.file), snapshots: new Map(this.snapshots) })
    const beside = async (): Promise<void> => {
      await this.operate(volume, this.below(40))
      const [first] = volume.snapshots.list()
      if (first !== undefined) {
        expect(sorted(await readSnapshot(volume, first.name))).toEqual(
          sorted(this.snapshots.get(first.name)!),
        )
      }
      if (first !== undefined && this.below(8) === 0 && volume.snapshots.named(first.name) !== undefined) {
        aggregate.restoreVolume('v1', first.id, '', 1)
        this.file = new Map(this.snapshots.get(first.name))
        await this.operate(volume, this.below(20))
      }
    }
    await Promise.all([point.write(), beside()])
    await point.commitRoot(0)
    await point.commitRoot(1)
    await point.complete()
  }

  async compare(aggregate: TestAggregate): Promise<void> {
    const image = this.images.get(aggregate.root.cp)!
    this.file = new Map(image.file)
    this.snapshots = new Map(image.snapshots)
    this.made = []
    const volume = aggregate.volume('v1')!
    expect(sorted(await readAll(volume.content))).toEqual(sorted(this.file))
    expect(
      volume.snapshots
        .list()
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...this.snapshots.keys()].sort())
    for (const [name, file] of this.snapshots) {
      expect(sorted(await readSnapshot(volume, name))).toEqual(sorted(file))
    }
  }
}

describe.each(['Flexible', 'Traditional'] as const)(
  'snapshots in any order, with crashes at any write, %s',
  (type) => {
    for (let seed = 1; seed <= 4; seed++) {
      test(`read as they were made, and give all back, seed ${seed}`, async () => {
        const trial = new Trial(seed, type)
        await trial.bed.format()
        trial.attach()
        let aggregate = await trial.bed.open()
        await consistencyPoint(aggregate)
        const free = aggregate.space.free
        aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: QUOTA, fsid: 7 })
        for (let start = 0; start < 6; start++) {
          trial.writesLeft = 40 + trial.below(400)
          try {
            for (let round = 0; round < 14; round++) {
              await trial.operate(aggregate.volume('v1')!, trial.below(120))
              await trial.consistencyPoint(aggregate)
            }
          } catch (error) {
            if (!(error instanceof Power)) throw error
          }
          const { cp } = aggregate.root
          trial.bed.crash()
          trial.writesLeft = Infinity
          trial.attach()
          expect(await trial.bed.check()).toEqual([])
          aggregate = await trial.bed.open()
          if (aggregate.root.cp === 1) {
            aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: QUOTA, fsid: 7 })
            trial.file = new Map()
            trial.snapshots = new Map()
            continue
          }
          expect(aggregate.root.cp).toBeGreaterThanOrEqual(cp)
          await trial.compare(aggregate)
        }
        const volume = aggregate.volume('v1')!
        for (const { name } of volume.snapshots.list()) void aggregate.removeSnapshot('v1', name, '')
        for (let fbn = 0; fbn < FBNS; fbn++) await loaded(() => volume.content.punch(fbn))
        await settle(aggregate)
        expect(await trial.bed.check()).toEqual([])
        expect(volume.used + volume.snapshots.heldBlocks).toBe(0)
        aggregate.removeVolume('v1')
        await settle(aggregate)
        // What stays is of the aggregate's own maps.
        expect(free - aggregate.space.free).toBeLessThan(8)
      })
    }
  },
)

describe.each(['Flexible', 'Traditional'] as const)('snapshots in a full aggregate, %s', (type) => {
  test.each([1, 2, 3, 4])('what is accepted fits, whatever is made and deleted, seed %i', async (seed) => {
    const bed = new Bed(40 + seed, [1500], 1, type)
    await bed.format()
    const aggregate = await bed.open()
    const random = seededRandom(seed)
    const volume = aggregate.createVolume({ id: 'v1', name: 'vol', sizeBytes: 2 ** 30, fsid: 7 })
    let refused = 0
    let made = 0
    for (let round = 0; round < 60; round++) {
      for (let i = random.u32() % 200; i > 0; i--) {
        if (!(await volume.content.put(random.u32() % 1400, round))) refused += 1
      }
      const names = volume.snapshots.list().map(({ name }) => name)
      const some = names[random.u32() % Math.max(1, names.length)]
      if (random.u32() % 2 === 0) {
        const asked = aggregate.makeSnapshot('v1', { name: `s${round}`, requestId: '', created: 1 })
        if (typeof asked === 'string') expect(asked).toBe('NoSpace')
        else made += 1
      } else if (some !== undefined) {
        if (random.u32() % 4 === 0) aggregate.restoreVolume('v1', volume.snapshots.named(some)!.id, '', 1)
        else void aggregate.removeSnapshot('v1', some, '')
      }
      const point = aggregate.freeze({ cp: aggregate.root.cp + 1, epoch: 1, covers: 0 })
      const beside = async (): Promise<void> => {
        for (let i = random.u32() % 100; i > 0; i--) {
          if (!(await volume.content.put(random.u32() % 1400, round))) refused += 1
        }
      }
      await Promise.all([point.write(), beside()])
      await point.commitRoot(0)
      await point.commitRoot(1)
      await point.complete()
    }
    expect(refused).toBeGreaterThan(100)
    expect(made).toBeGreaterThan(5)
    await settle(aggregate)
    expect(await bed.check()).toEqual([])
  })
})
