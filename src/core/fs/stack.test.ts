/**
 * The file layer over the real block layer, on simulated media: operations go on while consistency points are written; after a
 * power cut the newest image and the records behind it give back every acknowledged change, and both checkers find nothing (A1, A6).
 */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { checkVolumeFiles } from '../block/check-files.ts'
import { checkAggregate } from '../block/check.ts'
import { Aggregate } from '../block/aggregate.ts'
import { BufferCache } from '../block/buffer-cache.ts'
import { Bed } from '../block/testing/bed.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { SimDevice } from '../../sim/device.ts'
import type { FlexibleVolume } from '../block/flexible-volume.ts'
import { commandArbitrary, compare, Run } from './testing/commands.ts'
import { env, MemoryJournal } from './testing/harness.ts'
import { FileSystem } from './volume.ts'

class Stack {
  readonly bed: Bed
  readonly journal = new MemoryJournal()
  aggregate!: Aggregate<FileSystem>
  point: Promise<void> | undefined

  constructor(seed: number) {
    this.bed = new Bed(seed, [3000, 2100])
  }

  get fs(): FileSystem {
    return this.aggregate.volume('v')!.content
  }

  async open(readOnly = false): Promise<Aggregate<FileSystem>> {
    const devices = readOnly
      ? this.bed.media[0]!.map((medium) => new SimDevice(medium))
      : this.bed.devices[0]!
    return Aggregate.open<FileSystem>(this.bed.env, devices, {
      cache: new BufferCache(200 * BLOCK_BYTES),
      content: (volume, root) => this.content(volume, root),
      readOnly,
    })
  }

  private content(volume: FlexibleVolume<FileSystem>, root: Uint8Array | undefined): FileSystem {
    const time = { seconds: 1, nanoseconds: 0 }
    const spec = { fsid: volume.fsid, hashSeed: 3, time, mode: 0o777, uid: 0, gid: 0 }
    return new FileSystem({
      env,
      store: volume,
      journal: this.journal,
      volume: volume.index,
      root: root ?? FileSystem.make(volume, spec),
      space: () => ({ totalBytes: 0, freeBytes: 0 }),
    })
  }

  async make(): Promise<void> {
    await this.bed.format()
    this.bed.attach()
    this.aggregate = await this.open()
    this.aggregate.createVolume({ id: 'v', name: 'v', sizeBytes: 4000 * BLOCK_BYTES, fsid: 5 })
    await this.consistencyPoint()
  }

  /** Freezes now; the rest goes on beside operations. */
  async startPoint(): Promise<void> {
    await this.point
    const covers = this.journal.records.length
    const point = this.aggregate.freeze({ cp: this.aggregate.root.cp + 1, epoch: 1, covers })
    this.point = (async () => {
      await point.write()
      await point.commitRoot(0)
      point.complete()
    })()
  }

  async consistencyPoint(): Promise<void> {
    await this.startPoint()
    await this.point
  }

  async powerCut(): Promise<void> {
    this.bed.crash()
    await this.point?.catch(() => undefined)
    this.point = undefined
    this.bed.attach()
    this.aggregate = await this.open()
    const { covers } = this.aggregate.root
    for (const record of this.journal.records.slice(covers)) await this.fs.replay(record)
  }

  async problems(): Promise<readonly string[]> {
    const result = await checkAggregate(await this.open(true), { checkFiles: checkVolumeFiles })
    return result.problems
  }
}

test('acknowledged changes survive power cuts during consistency points, and nothing is lost or leaked', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(commandArbitrary, { minLength: 20, maxLength: 120 }),
      fc.nat(1e6),
      async (commands, seed) => {
        const stack = new Stack(seed)
        await stack.make()
        const run = new Run({
          get fs() {
            return stack.fs
          },
          begin() {},
          async disturb(what) {
            if (what === 'image') await stack.powerCut()
            else await stack.startPoint()
          },
        })
        run.model.root.handle = await stack.fs.rootHandle()
        for (const command of commands) await run.step(command)
        await compare(stack.fs, run.model.root)
        await stack.powerCut()
        await compare(stack.fs, run.model.root)
        await stack.fs.reclaim()
        await stack.consistencyPoint()
        await stack.consistencyPoint()
        expect(await stack.problems()).toEqual([])
      },
    ),
    { numRuns: Number(process.env.FS_RUNS ?? 8) },
  )
})
