/**
 * Crashes at every kind of device write, beside operations that go on during consistency points: each plex then holds exactly the previous or the new
 * image (A CP is atomic), whole by itself, and no write ever touched a block of a live root (H3).
 */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { assert } from '../std/assert.ts'
import { seededRandom } from '../../sim/device.ts'
import { CONTEXT_BYTES } from './context.ts'
import { DATA_START, GROUP_BLOCKS, GROUP_STRIDE, Layout } from './layout.ts'
import { readPlex } from './plex-info.ts'
import { Bed } from './testing/bed.ts'
import type { AggregateType } from './label.ts'
import type { TestAggregate } from './testing/bed.ts'

type Model = Map<string, Map<number, number>>

class Power extends Error {}

const FILES = ['v1', 'v2', 'v3']

class Trial {
  readonly bed: Bed
  readonly layout: Layout
  readonly random
  readonly sizes = [420, 300, 500]
  /** What the volumes hold now, and what they held at each freeze. */
  model: Model = new Map()
  readonly images = new Map<number, Model>()
  /** PVBNs in use in the live root of each plex. */
  readonly live: Set<number>[] = [new Set(), new Set()]
  writesLeft = Infinity
  aggregate: TestAggregate | undefined
  /** Whether roots are live: not while a plex is made empty for a resync. */
  slots = false
  stamp = 1

  constructor(seed: number, type: AggregateType) {
    this.random = seededRandom(seed)
    this.bed = new Bed(seed, this.sizes, 2, type)
    this.bed.cacheBytes = 96 * BLOCK_BYTES
    this.layout = new Layout(this.sizes)
  }

  attach(): void {
    this.bed.attach()
    for (const [plex, devices] of this.bed.devices.entries()) {
      for (const [i, device] of devices.entries()) {
        device.faults.onWrite = (block, blocks) => {
          for (let b = block; b < block + blocks; b++) this.assertNotLive(plex, i, b)
          this.writesLeft -= 1
          if (this.writesLeft < 0) throw new Power()
        }
      }
    }
  }

  private assertNotLive(plex: number, device: number, block: number): void {
    const slot = plex === 0 ? this.aggregate?.own.slot : this.aggregate?.partner?.slot
    if (device === 0 && this.slots) assert(block !== slot, `live root of plex ${plex} written`)
    if (block < DATA_START || block === this.sizes[device]! - 1) return
    const r = block - DATA_START
    const inGroup = (r % GROUP_STRIDE) - 1
    const first = this.layout.devices[device]!.first + Math.floor(r / GROUP_STRIDE) * GROUP_BLOCKS
    if (inGroup >= 0)
      assert(!this.live[plex]!.has(first + inGroup), `live block ${first + inGroup} of plex ${plex} written`)
  }

  volumes(aggregate: TestAggregate): void {
    for (const id of FILES) {
      if (aggregate.volume(id) !== undefined) continue
      if (this.random.u32() % 3 !== 0 || !aggregate.fits(10)) continue
      if (aggregate.type === 'Traditional' && this.model.size > 0) continue
      aggregate.createVolume({ id, name: id, sizeBytes: 220 * BLOCK_BYTES, fsid: 1 })
      this.model.set(id, new Map())
    }
    const some = FILES[this.random.u32() % FILES.length]!
    if (this.random.u32() % 6 === 0 && aggregate.volume(some) !== undefined) {
      aggregate.removeVolume(some)
      this.model.delete(some)
    }
  }

  /** Some changes, each in one synchronous piece, so that the model and the volume change together. */
  async operate(aggregate: TestAggregate, count: number, membership: boolean): Promise<void> {
    if (membership) this.volumes(aggregate)
    for (let i = 0; i < count; i++) {
      const id = FILES[this.random.u32() % FILES.length]!
      const volume = aggregate.volume(id)
      if (volume === undefined) continue
      const fbn = this.random.u32() % 400
      if (this.random.u32() % 5 === 0) {
        await volume.content.punch(fbn)
        this.model.get(id)?.delete(fbn)
      } else {
        const stamp = this.stamp++
        if (await volume.content.put(fbn, stamp)) this.model.get(id)?.set(fbn, stamp)
      }
    }
  }

  async consistencyPoint(aggregate: TestAggregate): Promise<void> {
    const cp = aggregate.root.cp + 1 + (this.random.u32() % 2)
    const point = aggregate.freeze({ cp, epoch: 1, covers: cp })
    this.images.set(cp, new Map([...this.model].map(([id, file]) => [id, new Map(file)])))
    // Half of the operations beside it, between any two of its awaits.
    await Promise.all([point.write(), this.operate(aggregate, this.random.u32() % 40, false)])
    const used = this.used(aggregate)
    await point.commitRoot(0)
    this.live[0] = used
    await point.commitRoot(1)
    if (aggregate.partner !== undefined && point.mirrored) this.live[1] = used
    await point.complete()
    this.live[0] = this.used(aggregate)
    if (point.mirrored) this.live[1] = this.live[0]
  }

  /** Busy blocks that are on disk: a superset of the image's own until the consistency point is complete. */
  private used(aggregate: TestAggregate): Set<number> {
    const used = new Set<number>()
    const fresh = aggregate.type === 'Traditional' ? [...aggregate.volumes()] : []
    for (let pvbn = 1; pvbn < this.layout.end; pvbn++) {
      if (!this.layout.exists(pvbn) || !aggregate.space.isBusy(pvbn)) continue
      if (!fresh.some((volume) => volume.isFresh(pvbn))) used.add(pvbn)
    }
    return used
  }

  /** The volumes hold what the model says for the image that was opened. */
  async compare(aggregate: TestAggregate): Promise<void> {
    const model = this.images.get(aggregate.root.cp) ?? new Map<string, Map<number, number>>()
    const ids = [...aggregate.volumes()].map((volume) => volume.id).sort()
    expect(ids).toEqual([...model.keys()].sort())
    for (const volume of aggregate.volumes()) {
      const wanted = model.get(volume.id)!
      const found: (number | string | undefined)[] = []
      for (let fbn = 0; fbn < 400; fbn++) found.push(await volume.content.get(fbn))
      expect(found).toEqual(Array.from({ length: 400 }, (_, fbn) => wanted.get(fbn)))
    }
    this.model = new Map([...model].map(([id, file]) => [id, new Map(file)]))
  }
}

async function life(trial: Trial, aggregate: TestAggregate, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await trial.operate(aggregate, 10 + (trial.random.u32() % 120), true)
    await trial.consistencyPoint(aggregate)
  }
}

describe.each(['Flexible', 'Traditional'] as const)(
  'a crash at any write of a consistency point, %s',
  (type) => {
    for (let seed = 1; seed <= 8; seed++) {
      test(`leaves the old or the new image on each plex (H3), seed ${seed}`, async () => {
        const trial = new Trial(seed, type)
        await trial.bed.format()
        let crashes = 0
        let newest = 0
        for (let start = 0; start < 4; start++) {
          trial.attach()
          trial.writesLeft = Infinity
          trial.slots = false
          const aggregate = await trial.bed.open(0)
          trial.aggregate = aggregate
          trial.live[0] = new Set()
          trial.live[1] = new Set()
          await trial.compare(aggregate)
          for (let pvbn = 1; pvbn < trial.layout.end; pvbn++) {
            if (aggregate.isUsable(pvbn)) trial.live[0].add(pvbn)
          }
          const theirs = await readPlex(trial.bed.env, trial.bed.devices[1]!)
          const equal = theirs!.roots[0]?.root.image === aggregate.root.image || start === 0
          if (
            equal &&
            trial.random.u32() % 2 === 0 &&
            theirs!.labels.every((label) => label.state === 'complete')
          ) {
            trial.live[1] = new Set(trial.live[0])
            await aggregate.attachPlex(trial.bed.devices[1]!, 'mirrored')
          } else {
            await aggregate.attachPlex(trial.bed.devices[1]!, 'stale')
            await Promise.all([aggregate.resync(), life(trial, aggregate, 2)])
            await trial.consistencyPoint(aggregate)
            expect(aggregate.mirrorState).toBe('mirrored')
            expect(await trial.bed.check(1)).toEqual([])
          }
          trial.slots = true
          trial.writesLeft = trial.random.u32() % 150
          try {
            await life(trial, aggregate, 12)
          } catch (error) {
            if (!(error instanceof Power) && aggregate.partner?.failure === undefined) throw error
            crashes += 1
          }
          newest = Math.max(newest, aggregate.root.cp)
          trial.slots = false
          trial.bed.crash()
          trial.attach()
          trial.writesLeft = Infinity
          expect(await trial.bed.check(0)).toEqual([])
          expect(await trial.bed.check(1, true)).toEqual([])
          const other = await trial.bed.open(1, { unfinished: true })
          const kept = trial.model
          await trial.compare(other)
          trial.model = kept
        }
        expect(crashes).toBeGreaterThan(0)
        expect(newest).toBeGreaterThan(0)
      })
    }
  },
)

test('entries of live blocks in a checksum block keep their bytes when others of the group are written', async () => {
  const bed = new Bed(77, [600], 1)
  await bed.format()
  const aggregate = await bed.open()
  const volume = aggregate.createVolume({ id: 'v1', name: 'v', sizeBytes: 400 * BLOCK_BYTES, fsid: 1 })
  const point = async (cp: number): Promise<void> => {
    const p = aggregate.freeze({ cp, epoch: 1, covers: 0 })
    await p.write()
    await p.commitRoot(0)
    await p.commitRoot(1)
    await p.complete()
  }
  await volume.content.put(0, 1)
  await point(1)
  const before = bed.media[0]![0]!.read(DATA_START)!.slice()
  const pvbn = volume.lookup(1)
  await volume.content.put(1, 2)
  await point(2)
  const after = bed.media[0]![0]!.read(DATA_START)!
  const at = pvbn * CONTEXT_BYTES
  expect(after.slice(at, at + CONTEXT_BYTES)).toEqual(before.slice(at, at + CONTEXT_BYTES))
  expect(after).not.toEqual(before)
})
