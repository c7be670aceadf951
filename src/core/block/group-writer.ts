/**
 * Writes frozen blocks to their places, with the checksum blocks of their groups, in long sequential runs to all plexes at once.
 *
 * Blocks come in ascending order of PVBN. Whole groups that follow one another become one write: checksum block, data, checksum block, data …; the
 * blocks are handed to the device as a list, not copied. Few writes are under way at a time, so memory and event loop stay bounded.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { inRuns } from '../std/adjacent.ts'
import type { Env } from '../env/env.ts'
import type { BlockIo } from './block-io.ts'
import type { BlockBuffer } from './buffer-cache.ts'
import { putContext } from './context.ts'
import type { OwnerEntry } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Plex } from './plex.ts'

/** Blocks of one write: four groups, 2 MiB. */
const EXTENT_BLOCKS = 516
const WRITES_UNDER_WAY = 4

export interface WriteTargets {
  readonly own: Plex
  /** The other plex as long as it takes part. */
  mirror(): Plex | undefined
  /** A write to the mirror failed. */
  mirrorFailed(error: unknown): void
  /** A group was written on the own plex. */
  groupWritten(group: number): void
  /** No block of the group is in use but the `count` that are being written. */
  isAlone(group: number, count: number): boolean
  /** The owner map as the image will have it; undefined for a place that is not in use. */
  ownerOf(pvbn: number): OwnerEntry | undefined
  /** Called now and then: gives other work its turn. */
  breathe(): Promise<void> | undefined
}

export class GroupWriter {
  private readonly env: Env
  private readonly io: BlockIo
  private readonly targets: WriteTargets
  private readonly generation: number
  private device = 0
  private start = 0
  private chunks: Uint8Array[] = []
  private readonly underWay: Promise<void>[] = []
  private failure: unknown
  blocksWritten = 0
  writes = 0
  /** The other plex was given up meanwhile: what leads to it may still hold blocks that were to be written. */
  mirrorLeft = false

  constructor(env: Env, io: BlockIo, targets: WriteTargets, generation: number) {
    this.env = env
    this.io = io
    this.targets = targets
    this.generation = generation
  }

  /** Writes `blocks`, which all have places. Rejects if the own plex fails. */
  async write(blocks: readonly BlockBuffer[]): Promise<void> {
    const pinned: BlockBuffer[] = []
    const groups: number[] = []
    try {
      for (let from = 0; from < blocks.length;) {
        const group = Math.floor(blocks[from]!.pvbn / GROUP_BLOCKS)
        let to = from + 1
        while (to < blocks.length && Math.floor(blocks[to]!.pvbn / GROUP_BLOCKS) === group) to += 1
        const sums = await this.io.pinChecksums(group, this.targets.isAlone(group, to - from))
        pinned.push(sums)
        groups.push(group)
        this.putContexts(sums.content, blocks, from, to)
        await this.io.heal(group, sums, (pvbn) => this.targets.ownerOf(pvbn))
        this.addGroup(group, sums.content, blocks, from, to)
        if (this.chunks.length >= EXTENT_BLOCKS) this.send()
        if (this.underWay.length >= WRITES_UNDER_WAY) await this.underWay.shift()
        const turn = this.targets.breathe()
        if (turn !== undefined) await turn
        if (this.failure !== undefined) break
        from = to
      }
      this.send()
    } finally {
      await Promise.all(this.underWay)
      for (const buffer of pinned) this.io.unpin(buffer)
      for (const group of groups) this.targets.groupWritten(group)
    }
    if (this.failure !== undefined) throw this.failure
  }

  private putContexts(sums: Uint8Array, blocks: readonly BlockBuffer[], from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const block = blocks[i]!
      putContext(
        this.env.crc32,
        sums,
        block.pvbn % GROUP_BLOCKS,
        block.volume,
        block.bn,
        block.kind,
        this.generation,
        block.pvbn,
        block.content,
      )
      this.io.noteWritten(block.pvbn)
    }
  }

  private addGroup(
    group: number,
    sums: Uint8Array,
    blocks: readonly BlockBuffer[],
    from: number,
    to: number,
  ): void {
    const { device, block: base } = this.io.layout.locateChecksums(group)
    this.put(device, base, sums)
    for (let i = from; i < to; i++) {
      this.put(device, base + 1 + (blocks[i]!.pvbn % GROUP_BLOCKS), blocks[i]!.content)
    }
  }

  private put(device: number, block: number, content: Uint8Array): void {
    const follows = device === this.device && block === this.start + this.chunks.length
    if (!follows || this.chunks.length === 0) {
      this.send()
      this.device = device
      this.start = block
    }
    this.chunks.push(content)
  }

  private send(): void {
    if (this.chunks.length === 0) return
    const { device, start, chunks } = this
    this.chunks = []
    this.blocksWritten += chunks.length
    this.writes += 1
    this.underWay.push(this.sendTo(device, start, inRuns(chunks)))
    this.env.metrics.observe('tandem_cp_write_bytes', chunks.length * BLOCK_BYTES)
  }

  private async sendTo(device: number, start: number, chunks: readonly Uint8Array[]): Promise<void> {
    const mirror = this.targets.mirror()
    const copy = mirror
      ?.write(device, start, chunks)
      .catch((error: unknown) => this.targets.mirrorFailed(error))
    try {
      await this.targets.own.write(device, start, chunks)
    } catch (error) {
      this.failure ??= error
    }
    await copy
    if (mirror !== this.targets.mirror()) this.mirrorLeft = true
  }
}
