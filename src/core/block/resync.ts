/**
 * Filling the other plex, in rounds, beside operations and consistency points.
 *
 * A group is copied unless all its blocks in use have the same contexts on both plexes and are of the image that both have had (`commonCp`) or older: that image was
 * flushed on the target, and since none of these blocks was free in between, nothing wrote over them there. Without a common image all is copied.
 *
 * `changed` has every group whose content on the own plex may differ from the copy: at first all that are in use, later those that a consistency
 * point wrote. A group is taken out *before* it is read and put in *after* it was written, so what changes while it is copied is copied again.
 * When little is left the copy is ready to join: the next consistency point copies the rest, then writes its own blocks to both plexes, and its root on
 * both makes the copies equal. Until then the labels of the target say `resyncing` and it has no root.
 *
 * Memory: a few groups at a time.
 */
import type { Env } from '../env/env.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { CONTEXT_BYTES, getContext } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'
import type { Plex } from './plex.ts'
import type { SpaceMap } from './space-map.ts'

/** Groups that the joining consistency point may copy itself: 64 MiB at most. */
const JOIN_GROUPS = 128
const COPIES_UNDER_WAY = 4
/** Against writers faster than the copy; then the joining consistency point has more to do. */
const ROUNDS_MAX = 20

export interface ResyncOptions {
  /** Bytes copied so far, and bytes still to be copied as known now. */
  readonly onProgress?: (copiedBytes: number, leftBytes: number) => void
  /** Asked between groups; true ends the resync with a rejection. */
  readonly cancelled?: () => boolean
}

export class ResyncCancelled extends Error {
  constructor() {
    super('resync cancelled')
    this.name = 'ResyncCancelled'
  }
}

export class Resync {
  readonly target: Plex
  private readonly env: Env
  private readonly source: Plex
  private readonly space: SpaceMap
  private readonly layout: Layout
  private readonly changed: Uint8Array
  private readonly commonCp: number
  private left = 0
  private copied = 0
  /** The next consistency point goes to both. */
  ready = false

  constructor(env: Env, source: Plex, target: Plex, space: SpaceMap, commonCp: number) {
    this.commonCp = commonCp
    this.env = env
    this.source = source
    this.target = target
    this.space = space
    this.layout = source.layout
    this.changed = new Uint8Array(this.layout.groups)
  }

  /** A group was written on the own plex only. */
  mark(group: number): void {
    if (this.changed[group] === 1) return
    this.changed[group] = 1
    this.left += 1
  }

  async run(options: ResyncOptions): Promise<void> {
    await this.target.relabel({ state: 'resyncing' })
    await this.target.clearRoots()
    for (let group = 0; group < this.layout.groups; group++) {
      if (this.space.busyIn(group) > 0) this.mark(group)
    }
    for (let round = 0; round < ROUNDS_MAX; round++) {
      await this.round(options)
      if (this.left <= JOIN_GROUPS) break
    }
    await this.target.flush()
    this.ready = true
  }

  /** What is left, copied by the consistency point that joins. */
  async finish(): Promise<void> {
    await this.round({})
  }

  private async round(options: ResyncOptions): Promise<void> {
    const underWay: Promise<void>[] = []
    let failure: unknown
    for (let group = 0; group < this.changed.length && failure === undefined; group++) {
      if (this.changed[group] === 0) continue
      if (options.cancelled?.() === true) failure = new ResyncCancelled()
      if (failure !== undefined) break
      this.changed[group] = 0
      this.left -= 1
      underWay.push(
        this.copy(group).catch((error: unknown) => {
          failure ??= error
        }),
      )
      if (underWay.length >= COPIES_UNDER_WAY) await underWay.shift()
      options.onProgress?.(this.copied * BLOCK_BYTES, this.left * (GROUP_BLOCKS + 1) * BLOCK_BYTES)
    }
    await Promise.all(underWay)
    if (failure !== undefined) throw failure
    options.onProgress?.(this.copied * BLOCK_BYTES, this.left * (GROUP_BLOCKS + 1) * BLOCK_BYTES)
  }

  private async copy(group: number): Promise<void> {
    if (this.commonCp > 0 && (await this.isEqual(group))) return
    const bytes = await this.source.readGroup(group)
    this.verify(group, bytes)
    const { device, block } = this.layout.locateChecksums(group)
    const used = bytes.subarray(0, (1 + this.lastUsed(group) + 1) * BLOCK_BYTES)
    await this.target.write(device, block, [used])
    this.copied += used.length / BLOCK_BYTES
  }

  private async isEqual(group: number): Promise<boolean> {
    const [ours, theirs] = await Promise.all([
      this.source.readChecksums(group),
      this.target.readChecksums(group),
    ])
    for (let slot = 0; slot < this.layout.groupSize(group); slot++) {
      if (!this.space.isBusy(group * GROUP_BLOCKS + slot)) continue
      const context = getContext(this.env.crc32, ours, slot)
      if (context === undefined || context.generation > this.commonCp) return false
      for (let at = slot * CONTEXT_BYTES; at < (slot + 1) * CONTEXT_BYTES; at++) {
        if (ours[at] !== theirs[at]) return false
      }
    }
    return true
  }

  private lastUsed(group: number): number {
    let slot = this.layout.groupSize(group) - 1
    while (slot > 0 && !this.space.isBusy(group * GROUP_BLOCKS + slot)) slot -= 1
    return slot
  }

  /** Damage is copied as it is, and stays visible as damage; but it must not pass unnoticed. */
  private verify(group: number, bytes: Uint8Array): void {
    const sums = bytes.subarray(0, BLOCK_BYTES)
    for (let slot = 0; slot < this.layout.groupSize(group); slot++) {
      if (!this.space.isBusy(group * GROUP_BLOCKS + slot)) continue
      const context = getContext(this.env.crc32, sums, slot)
      const at = (1 + slot) * BLOCK_BYTES
      if (context?.crc === this.env.crc32(bytes.subarray(at, at + BLOCK_BYTES))) continue
      // A block that a consistency point is writing just now looks the same; it is copied again.
      this.env.log('debug', 'block not whole while it was copied', { pvbn: group * GROUP_BLOCKS + slot })
    }
  }
}
