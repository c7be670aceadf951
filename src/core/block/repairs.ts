/**
 * Writes blocks that are damaged on one plex with the bytes that the other plex has, one after the other.
 *
 * - Never beside a consistency point's writes (`hold`), so that a checksum block is never written by two at once.
 * - Never a block that may have been freed and used again since the damage was found: a repair has a last moment (counted in consistency points that
 *   began to write), and before it is written the entry on the own plex must not be of a later image than the content to be written.
 */
import type { Env } from '../env/env.ts'
import type { BlockBuffer } from './buffer-cache.ts'
import type { BrokenStorage } from './broken-storage.ts'
import { CONTEXT_BYTES, getContext } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'
import type { Layout } from './layout.ts'
import type { Plex } from './plex.ts'

export interface Repair {
  readonly pvbn: number
  readonly content: Uint8Array
  /** The 32 bytes of its entry. */
  readonly context: Uint8Array
  /** `own` from the other plex, or the other plex from `own`. */
  readonly target: 'own' | 'mirror'
  /** It is dropped when more consistency points than so many have begun to write. */
  readonly until: number
  /** Told once: true when it is written and flushed. */
  readonly done?: (written: boolean) => void
}

export interface RepairTargets {
  readonly env: Env
  readonly layout: Layout
  readonly own: Plex
  readonly mirror: Plex | undefined
  readonly broken: BrokenStorage
  checksums(group: number): Promise<BlockBuffer>
  noteWritten(pvbn: number): void
}

export class Repairs {
  private readonly targets: RepairTargets
  private queue: Repair[] = []
  private running: Promise<void> | undefined
  private held = false
  /** Consistency points that have begun to write. */
  writesBegun = 0
  repaired = 0

  constructor(targets: RepairTargets) {
    this.targets = targets
  }

  /** A consistency point is writing. */
  get isHeld(): boolean {
    return this.held
  }

  add(repair: Repair): void {
    this.queue.push(repair)
    this.start()
  }

  /** Before a consistency point writes: repairs under way end, new ones wait. */
  async hold(): Promise<void> {
    this.held = true
    this.writesBegun += 1
    await this.running
  }

  resume(): void {
    this.held = false
    this.start()
  }

  /** When nothing is to be repaired any more (tests, closing). */
  async settled(): Promise<void> {
    while (this.running !== undefined) await this.running
  }

  private start(): void {
    if (this.held || this.running !== undefined || this.queue.length === 0) return
    this.running = this.run().finally(() => {
      this.running = undefined
      this.start()
    })
  }

  private async run(): Promise<void> {
    while (!this.held) {
      const repair = this.queue.shift()
      if (repair === undefined) return
      let written = false
      try {
        written = await this.repair(repair)
      } catch (error) {
        this.targets.env.log('warn', 'repair failed', {
          pvbn: repair.pvbn,
          target: repair.target,
          cause: error instanceof Error ? error.message : String(error),
        })
      }
      repair.done?.(written)
    }
  }

  private async repair(repair: Repair): Promise<boolean> {
    const { targets } = this
    const plex = repair.target === 'own' ? targets.own : targets.mirror
    if (plex === undefined) return false
    const group = Math.floor(repair.pvbn / GROUP_BLOCKS)
    const at = (repair.pvbn % GROUP_BLOCKS) * CONTEXT_BYTES
    const buffer = await targets.checksums(group)
    if (this.isReused(repair, buffer.content)) return false
    const sums =
      repair.target === 'own' ? buffer.content : await this.mirrorChecksums(plex, group, buffer.content)
    sums.set(repair.context, at)
    const data = targets.layout.locate(repair.pvbn)
    const place = targets.layout.locateChecksums(group)
    await plex.write(data.device, data.block, [repair.content])
    await plex.write(place.device, place.block, [sums])
    await plex.devices[data.device]!.flush()
    this.repaired += 1
    targets.noteWritten(repair.pvbn)
    targets.env.metrics.add('tandem_blocks_repaired_total', 1, { plex: String(plex.label.plex) })
    targets.env.log('info', 'block repaired from the other plex', {
      pvbn: repair.pvbn,
      plex: plex.label.plex,
    })
    return true
  }

  /** Entries that the other plex has lost with its checksum block are those of the own one. */
  private async mirrorChecksums(plex: Plex, group: number, own: Uint8Array): Promise<Uint8Array> {
    const sums = await plex.readChecksums(group)
    for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
      if (getContext(this.targets.env.crc32, sums, slot) !== undefined) continue
      const at = slot * CONTEXT_BYTES
      sums.set(own.subarray(at, at + CONTEXT_BYTES), at)
    }
    return sums
  }

  private isReused(repair: Repair, ownSums: Uint8Array): boolean {
    const { env, broken } = this.targets
    if (broken.repairOfReused === true) return false
    if (this.writesBegun > repair.until) return true
    const slot = repair.pvbn % GROUP_BLOCKS
    const ours = getContext(env.crc32, ownSums, slot)
    const wanted = getContext(env.crc32, repair.context, 0)
    if (wanted === undefined) return true
    if (repair.target === 'mirror')
      return ours?.generation !== wanted.generation || ours.number !== wanted.number
    return ours !== undefined && ours.pvbn === repair.pvbn && ours.generation > wanted.generation
  }
}
