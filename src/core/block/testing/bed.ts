/**
 * A bed for tests of the block layer: simulated media for two plexes, an environment without real time, and a trivial volume
 * content (one file of numbered blocks), with a model of what it must hold.
 */
import { crc32 } from 'node:zlib'
import { BLOCK_BYTES } from '../../env/device.ts'
import type { Device } from '../../env/device.ts'
import type { Env, Random } from '../../env/env.ts'
import { DamagedBlock } from '../../fs/block-store.ts'
import type { BlockStore } from '../../fs/block-store.ts'
import { getU32, putU32 } from '../../fs/bytes.ts'
import { loaded, newTreeRoot, Tree } from '../../fs/tree.ts'
import { seededRandom, SimDevice, SimMedium } from '../../../sim/device.ts'
import type { SimFaults } from '../../../sim/device.ts'
import { Aggregate } from '../aggregate.ts'
import type { OpenOptions } from '../aggregate.ts'
import { BufferCache } from '../buffer-cache.ts'
import { checkAggregate } from '../check.ts'
import type { AggregateType } from '../label.ts'
import type { Volume } from '../volume.ts'

export interface LogLine {
  readonly level: string
  readonly event: string
  readonly fields: unknown
}

export function testEnv(seed = 1, lines: LogLine[] = []): Env {
  let now = 0
  return {
    clock: {
      now: () => now++ / 100,
      wall: () => ({ seconds: 0, nanoseconds: 0 }),
      after(_delayMs, task) {
        queueMicrotask(task)
        return { cancel() {} }
      },
    },
    random: seededRandom(seed),
    crc32,
    log: (level, event, fields) => lines.push({ level, event, fields }),
    metrics: { add() {}, set() {}, observe() {} },
  }
}

/** A "file system" with one file. `model` has the stamp of every block that was put. */
export class OneFile {
  readonly store: BlockStore
  readonly bytes: Uint8Array
  readonly tree: Tree

  constructor(store: BlockStore, root: Uint8Array | undefined) {
    this.store = store
    this.bytes = root === undefined || root.length === 0 ? newTreeRoot(store.format) : root.slice()
    this.tree = new Tree(store, this.bytes, 'data')
  }

  freeze(): Uint8Array {
    return this.bytes.slice()
  }

  restored(root: Uint8Array): void {
    this.bytes.set(root)
  }

  /** False: no space. */
  async put(fbn: number, stamp: number): Promise<boolean> {
    return await loaded(() => {
      const blocks = this.tree.prepare(fbn, true)
      if (!this.store.canAllocate(blocks)) return false
      const block = this.tree.overwrite(fbn)
      putU32(block, 0, stamp)
      putU32(block, BLOCK_BYTES - 4, ~stamp >>> 0)
      return true
    })
  }

  async punch(fbn: number): Promise<void> {
    await loaded(() => {
      const blocks = this.tree.prepare(fbn, true)
      if (this.store.canAllocate(blocks, true)) this.tree.punch(fbn)
      else throw new Error('no room to free')
    })
  }

  /** The stamp at `fbn`; undefined for a hole, 'damaged' if no plex has it. */
  async get(fbn: number): Promise<number | undefined | 'damaged'> {
    try {
      const block = await loaded(() => this.tree.get(fbn))
      if (block === undefined) return undefined
      const stamp = getU32(block, 0)
      return getU32(block, BLOCK_BYTES - 4) === ~stamp >>> 0 ? stamp : 'damaged'
    } catch (error) {
      if (error instanceof DamagedBlock) return 'damaged'
      throw error
    }
  }
}

export type TestAggregate = Aggregate<OneFile>
export type TestVolume = Volume<OneFile>

export const SPEC = { id: 'aggr-1', name: 'aggr1', side: 'a', pairUid: 'pair-1' }

export class Bed {
  readonly media: SimMedium[][]
  readonly random: Random
  readonly lines: LogLine[] = []
  readonly env: Env
  cacheBytes = 64 * BLOCK_BYTES * 16
  devices: SimDevice[][] = []
  readonly type: AggregateType

  constructor(seed: number, sizes: readonly number[], plexes = 2, type: AggregateType = 'Flexible') {
    this.type = type
    this.random = seededRandom(seed)
    this.env = testEnv(seed + 1, this.lines)
    this.media = Array.from({ length: plexes }, (_, plex) =>
      sizes.map((blocks, i) => new SimMedium(`plex${plex}-${i}`, blocks)),
    )
  }

  /** New devices over the same media, as a new process sees them. */
  attach(faults: SimFaults = {}): void {
    for (const plex of this.devices) for (const device of plex) device.kill()
    this.devices = this.media.map((plex) => plex.map((medium) => new SimDevice(medium, { ...faults })))
  }

  async format(): Promise<void> {
    this.attach()
    await Aggregate.format(this.env, { ...SPEC, type: this.type }, this.devices)
  }

  /** Blank devices beside those that are there; `attach` opens them. */
  add(sizes: readonly number[]): void {
    for (const [plex, media] of this.media.entries()) {
      for (const blocks of sizes) media.push(new SimMedium(`plex${plex}-${media.length}`, blocks))
    }
  }

  crash(): void {
    for (const plex of this.devices) for (const device of plex) device.kill()
    for (const plex of this.media) for (const medium of plex) medium.crash(this.random)
  }

  open(plex = 0, options: Partial<OpenOptions<OneFile>> = {}): Promise<TestAggregate> {
    return openOn(this.env, this.devices[plex]!, this.cacheBytes, options)
  }

  /** Problems that a checker finds on one plex. */
  async check(plex = 0, unfinished = false): Promise<readonly string[]> {
    const devices = this.media[plex]!.map((medium) => new SimDevice(medium))
    const aggregate = await openOn(this.env, devices, this.cacheBytes, { readOnly: true, unfinished })
    const result = await checkAggregate(aggregate, {
      checkFiles: async (volume, { root, used, numbers }) => {
        const problems: string[] = []
        let blocks = 0
        await new OneFile(volume, root).tree.walk((entry) => {
          blocks += 1
          if (!numbers.has(entry.bn)) problems.push(`VVBN ${entry.bn} is reachable but free`)
          if (entry.hint !== 0 && volumePlace(volume, entry.bn) !== entry.hint) problems.push('wrong hint')
        })
        if (blocks !== used) problems.push(`${blocks} blocks reachable, ${used} in use`)
        return problems
      },
    })
    return result.problems
  }
}

function volumePlace(volume: TestVolume, bn: number): number | undefined {
  try {
    return volume.lookup(bn)
  } catch {
    return undefined
  }
}

async function openOn(
  env: Env,
  devices: readonly Device[],
  cacheBytes: number,
  options: Partial<OpenOptions<OneFile>>,
): Promise<TestAggregate> {
  return await Aggregate.open<OneFile>(env, devices, {
    cache: new BufferCache(cacheBytes),
    content: (volume, root) => new OneFile(volume, root),
    ...options,
  })
}

/** A whole consistency point. */
export async function consistencyPoint(aggregate: TestAggregate, cp = aggregate.root.cp + 1): Promise<void> {
  const point = aggregate.freeze({ cp, epoch: 1, covers: cp * 10 })
  await point.write()
  await point.commitRoot(0)
  await point.commitRoot(1)
  await point.complete()
}
