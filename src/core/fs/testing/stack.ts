/**
 * The file layer over the real block layer on simulated media: one volume of one aggregate, with or without its other plex.
 */
import { checkVolumeFiles } from '../../block/check-files.ts'
import { checkAggregate } from '../../block/check.ts'
import { Aggregate } from '../../block/aggregate.ts'
import { BufferCache } from '../../block/buffer-cache.ts'
import type { AggregateType } from '../../block/label.ts'
import type { Volume } from '../../block/volume.ts'
import { Bed } from '../../block/testing/bed.ts'
import { BLOCK_BYTES } from '../../env/device.ts'
import { SimDevice } from '../../../sim/device.ts'
import { FileSystem } from '../volume.ts'
import { env, MemoryJournal } from './harness.ts'

export class Stack {
  readonly bed: Bed
  readonly journal = new MemoryJournal()
  aggregate!: Aggregate<FileSystem>
  point: Promise<void> | undefined
  /** With the other plex, from the next `open` on. */
  mirrored = false
  /** From the next `open` on. */
  cacheBlocks = 200
  private readonly blocks: number

  constructor(seed: number, type: AggregateType = 'Flexible', devices: readonly number[] = [3000, 2100]) {
    this.bed = new Bed(seed, devices, 2, type)
    this.blocks = devices.reduce((sum, blocks) => sum + blocks, -1100)
  }

  get fs(): FileSystem {
    return this.aggregate.volume('v')!.content
  }

  async open(readOnly = false): Promise<Aggregate<FileSystem>> {
    const devices = readOnly
      ? this.bed.media[0]!.map((medium) => new SimDevice(medium))
      : this.bed.devices[0]!
    return Aggregate.open<FileSystem>(this.bed.env, devices, {
      cache: new BufferCache(this.cacheBlocks * BLOCK_BYTES),
      content: (volume, root) => this.content(volume, root),
      readOnly,
      ...(this.mirrored && !readOnly ? { mirror: this.bed.devices[1]! } : {}),
    })
  }

  private content(volume: Volume<FileSystem>, root: Uint8Array | undefined): FileSystem {
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
    this.aggregate.createVolume({ id: 'v', name: 'v', sizeBytes: this.blocks * BLOCK_BYTES, fsid: 5 })
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
      await point.commitRoot(1)
      await point.complete()
    })()
  }

  async consistencyPoint(): Promise<void> {
    await this.startPoint()
    await this.point
  }

  /** Everything in an image, nothing in memory: as a new process finds it. */
  async reopen(): Promise<void> {
    await this.consistencyPoint()
    await this.aggregate.close()
    this.bed.attach()
    this.aggregate = await this.open()
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
