/**
 * A resync that was interrupted goes on where it stopped, and the copy that comes of it is whole, whatever was lost in between: the target's power, the source's, the
 * link; with the image that both had before, and into blank devices.
 */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import { SimDevice } from '../../sim/device.ts'
import type { BrokenStorage } from './broken-storage.ts'
import { hadBy, NOTHING, withoutPasses, withPass } from './filling.ts'
import { ResyncCancelled } from './resync.ts'
import { Bed, consistencyPoint } from './testing/bed.ts'
import type { TestAggregate } from './testing/bed.ts'

/** Most of it is not on the device that has the label: writing that one flushes its device. */
const SIZES = [400, 2200]
const FILE_BLOCKS = 2250
const WHOLE_BYTES = FILE_BLOCKS * BLOCK_BYTES

class Trial {
  readonly bed: Bed
  readonly model = new Map<number, number>()
  readonly #broken: BrokenStorage
  aggregate!: TestAggregate
  #stamp = 0
  #asked = 0

  constructor(seed: number, broken: BrokenStorage = {}) {
    this.bed = new Bed(seed, SIZES)
    this.#broken = broken
  }

  async begin(): Promise<void> {
    await this.bed.format()
    await this.open()
    await this.aggregate.attachPlex(this.bed.devices[1]!, 'mirrored')
    this.aggregate.createVolume({ id: 'v1', name: 'v', sizeBytes: 3000 * BLOCK_BYTES, fsid: 1 })
    for (let fbn = 0; fbn < FILE_BLOCKS; fbn++) await this.put(fbn)
    await consistencyPoint(this.aggregate)
    this.aggregate.detachPlex()
  }

  async open(): Promise<void> {
    this.aggregate = await this.bed.open(0, { broken: this.#broken })
  }

  async put(fbn: number): Promise<void> {
    this.#stamp += 1
    await this.aggregate.volume('v1')!.content.put(fbn, this.#stamp)
    this.model.set(fbn, this.#stamp)
  }

  async change(blocks: number): Promise<void> {
    for (let n = 0; n < blocks; n++) await this.put(this.bed.random.u32() % FILE_BLOCKS)
    await consistencyPoint(this.aggregate)
  }

  /** What was written to the device and not flushed is lost, torn or kept. */
  powerLost(plex: 0 | 1): void {
    const { bed } = this
    for (const device of bed.devices[plex]!) device.kill()
    for (const medium of bed.media[plex]!) medium.crash(bed.random)
    bed.devices[plex] = bed.media[plex]!.map((medium) => new SimDevice(medium))
  }

  /** True if it came to its end before it was asked `steps` times; bytes are those that were copied. */
  async resync(steps: number): Promise<{ ended: boolean; bytes: number }> {
    await this.aggregate.attachPlex(this.bed.devices[1]!, 'stale')
    let bytes = 0
    this.#asked = 0
    try {
      await this.aggregate.resync({
        onProgress: (copied) => (bytes = copied),
        cancelled: () => ++this.#asked > steps,
      })
      return { ended: true, bytes }
    } catch (error) {
      if (!(error instanceof ResyncCancelled)) throw error
      this.aggregate.detachPlex()
      return { ended: false, bytes }
    }
  }

  /** The consistency point that joins ends at one filer only: the other has its blocks and no root, or lost its power before they were flushed. */
  async failToJoin(): Promise<void> {
    const { aggregate, bed } = this
    for (let n = 0; n < 30; n++) await this.put(bed.random.u32() % FILE_BLOCKS)
    const losesPower = bed.random.u32() % 2 === 0
    const { cp } = aggregate.root
    const point = aggregate.freeze({ cp: cp + 1, epoch: 1, covers: cp * 10 + 10 })
    if (losesPower) {
      for (const { faults } of bed.devices[1]!)
        faults.onFlush = () => {
          throw new DeviceError('EIO', 'power lost')
        }
    }
    await point.write()
    await point.commitRoot(0)
    aggregate.detachPlex()
    await point.complete()
    if (losesPower) this.powerLost(1)
  }

  /** Joins, and tells what is wrong with the copy then. */
  async join(): Promise<readonly string[]> {
    await consistencyPoint(this.aggregate)
    expect(this.aggregate.mirrorState).toBe('mirrored')
    const problems = [...(await this.bed.check(1))]
    const there = (await this.bed.open(1)).volume('v1')!
    for (const [fbn, stamp] of this.model) {
      const found = await there.content.get(fbn)
      if (found !== stamp) problems.push(`block ${fbn} is ${found}, not ${stamp}`)
    }
    return problems
  }
}

/** Interrupted again and again, in all ways. */
async function troubled(seed: number, broken: BrokenStorage = {}): Promise<readonly string[]> {
  const trial = new Trial(seed, broken)
  const { bed } = trial
  await trial.begin()
  await trial.change(150)
  const isBlank = seed % 2 === 0
  if (isBlank) for (const medium of bed.media[1]!) medium.stable.clear()
  for (let times = 1 + (bed.random.u32() % 5); times > 0; times--) {
    const { ended } = await trial.resync(2 + (bed.random.u32() % 45))
    if (ended) await trial.failToJoin()
    const fate = bed.random.u32() % 4
    if (fate === 0) trial.powerLost(1)
    if (fate === 1) {
      const before = new Map(trial.model)
      await trial.put(bed.random.u32() % FILE_BLOCKS)
      await trial.aggregate.close()
      trial.powerLost(0)
      await trial.open()
      for (const [fbn, stamp] of before) trial.model.set(fbn, stamp)
    }
    if (fate !== 2) await trial.change(1 + (bed.random.u32() % 80))
  }
  const { ended } = await trial.resync(Infinity)
  expect(ended).toBe(true)
  return trial.join()
}

describe('a resync that was interrupted', () => {
  test('has copied what its label says: the rest follows, and what changed since', async () => {
    const trial = new Trial(1)
    await trial.begin()
    for (const medium of trial.bed.media[1]!) medium.stable.clear()
    const first = await trial.resync(9)
    expect(first.ended).toBe(false)
    await trial.change(1)
    const rest = await trial.resync(Infinity)
    expect(rest.bytes).toBeLessThan(WHOLE_BYTES - first.bytes / 2)
    expect(await trial.join()).toEqual([])
  })

  test('goes on after the power of either filer was lost', async () => {
    for (const plex of [0, 1] as const) {
      const trial = new Trial(2 + plex)
      await trial.begin()
      for (const medium of trial.bed.media[1]!) medium.stable.clear()
      const first = await trial.resync(9)
      await trial.change(1)
      if (plex === 0) await trial.aggregate.close()
      trial.powerLost(plex)
      if (plex === 0) await trial.open()
      const rest = await trial.resync(Infinity)
      expect(rest.bytes).toBeLessThan(WHOLE_BYTES - first.bytes / 2)
      expect(await trial.join()).toEqual([])
    }
  })

  test('keeps the image that both had', async () => {
    const trial = new Trial(4)
    await trial.begin()
    await trial.change(3)
    for (let n = 0; n < 3; n++) expect((await trial.resync(2)).ended).toBe(false)
    expect((await trial.resync(Infinity)).bytes).toBeLessThan(WHOLE_BYTES / 4)
    expect(await trial.join()).toEqual([])
  })

  test('means nothing to an image that did not come from the one it copied', async () => {
    const trial = new Trial(5)
    await trial.begin()
    for (const medium of trial.bed.media[1]!) medium.stable.clear()
    const before = trial.bed.media[0]!.map((medium) => new Map(medium.stable))
    expect((await trial.resync(9)).ended).toBe(false)
    await trial.change(1)
    await trial.aggregate.close()
    // The source's devices are put back to a time before.
    for (const [n, medium] of trial.bed.media[0]!.entries()) {
      medium.stable.clear()
      for (const [block, bytes] of before[n]!) medium.stable.set(block, bytes)
    }
    trial.powerLost(0)
    await trial.open()
    expect((await trial.resync(Infinity)).bytes).toBeGreaterThan(WHOLE_BYTES)
  })

  test('is whole in the end, whatever happened', async () => {
    for (let seed = 1; seed <= 30; seed++)
      expect({ seed, problems: await troubled(seed) }).toEqual({ seed, problems: [] })
  })

  test.each([{ notedBeforeFlush: true }, { passNotDated: true }])('%j is caught', async (broken) => {
    let caught = 0
    for (let seed = 1; seed <= 60 && caught === 0; seed++) {
      const problems = await troubled(seed, broken).catch((error: unknown) => [String(error)])
      if (problems.length > 0) caught = seed
    }
    expect(caught).toBeGreaterThan(0)
  })
})

test('of a copy counts what its label and the image agree upon', () => {
  const name = (cp: number) => ({ cp, epoch: 1, random: [cp, 2] as const })
  const filling = { base: name(3), pass: '00000000000000aa', groups: 7 }
  const properties = withPass({ other: 1 }, filling.pass, 5, NOTHING)
  const had = { base: name(3), pass: filling.pass, cp: 5, groups: 7 }
  expect(hadBy({ state: 'resyncing', filling }, undefined, [name(4), name(3)], properties)).toEqual(had)
  expect(hadBy({ state: 'resyncing', filling }, undefined, [name(4)], {})).toMatchObject({
    base: undefined,
    groups: 0,
  })
  expect(hadBy({ state: 'resyncing' }, name(3), [name(3)], properties)).toEqual(NOTHING)
  expect(hadBy({ state: 'complete', filling }, name(4), [name(4)], properties)).toEqual({
    ...NOTHING,
    base: name(4),
  })
  expect(hadBy({ state: 'complete' }, name(9), [name(4)], {})).toEqual(NOTHING)
  // A later pass keeps the one that the label names, until it has more.
  const both = withPass(properties, 'b', 8, had)
  expect(both).toEqual({ other: 1, filling: { [filling.pass]: 5, b: 8 } })
  expect(withoutPasses(both)).toEqual({ other: 1 })
})
