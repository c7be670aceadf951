/**
 * Gives back what leaked (check.ts, Leak): blocks and numbers that are taken and that nothing uses, inodes that are on no list. The new image is
 * written by an ordinary consistency point, so nothing of the old one is overwritten, and a crash half-way leaves the old one.
 *
 * It repairs nothing else: whoever calls it has made sure that an image has no other problem.
 */
import { Miss } from '../fs/block-store.ts'
import { Inodes } from '../fs/inodes.ts'
import { assert } from '../std/assert.ts'
import type { Aggregate } from './aggregate.ts'
import type { Leak } from './check.ts'
import { AggregateError } from './errors.ts'
import type { Volume, VolumeContent } from './volume.ts'

/** What a volume holds while leaks are repaired: its inode file. */
export class InodeLists implements VolumeContent {
  readonly inodes: Inodes | undefined
  private readonly volume: Volume<InodeLists>

  constructor(volume: Volume<InodeLists>, root: Uint8Array | undefined) {
    this.volume = volume
    this.inodes = root === undefined || root.length === 0 ? undefined : new Inodes(volume, root)
  }

  freeze(): Uint8Array {
    return this.inodes?.root.slice() ?? new Uint8Array(0)
  }

  restored(): void {
    assert(false, 'nothing is restored while leaks are repaired')
  }

  async relink(ino: number, kind: 'free-inode' | 'orphan'): Promise<void> {
    const { inodes } = this
    assert(inodes !== undefined, 'a volume without files has no inodes')
    for (;;) {
      try {
        if (!this.volume.canAllocate(inodes.prepare(ino), true)) {
          throw new AggregateError('FULL', 'no room to write the repaired inodes')
        }
        if (kind === 'orphan') inodes.relinkOrphan(ino)
        else inodes.relinkFree(ino)
        return
      } catch (error) {
        if (!(error instanceof Miss)) throw error
        await error.load()
      }
    }
  }
}

/** Writes an image without these leaks, to both plexes if a mirror is attached. Throws AggregateError FULL, DeviceError; the old image stands then. */
export async function repairLeaks(aggregate: Aggregate<InodeLists>, leaks: readonly Leak[]): Promise<void> {
  for (const leak of leaks) {
    if (leak.kind !== 'count') continue
    if (leak.volume === 0) aggregate.usedBlocks = leak.inUse
    else {
      const volume = aggregate.volumeAt(leak.volume)!
      volume.used = leak.inUse
      volume.touch()
    }
  }
  for (const leak of leaks) {
    if (leak.kind === 'block') {
      aggregate.meta.changes.push(-leak.pvbn)
      aggregate.meta.freed.push(leak.pvbn)
    } else if (leak.kind === 'number') aggregate.volumeAt(leak.volume)!.free(leak.number)
    else if (leak.kind !== 'count' && leak.kind !== 'held') {
      await aggregate.volumeAt(leak.volume)!.content.relink(leak.ino, leak.kind)
    }
  }
  const { cp, epoch, covers } = aggregate.root
  const point = aggregate.freeze({ cp: cp + 1, epoch, covers })
  await point.write()
  await point.commitRoot(0)
  await point.commitRoot(1)
  await point.complete()
}
