/** Whether a traditional volume can be converted into an aggregate, and what its metadata will take there. */
import type { Aggregate } from '../block/aggregate.ts'
import { DEVICES_MAX } from '../block/layout.ts'
import type { Volume } from '../block/volume.ts'
import { VBN_END } from '../fs/absent.ts'
import type { FileSystem } from '../fs/volume.ts'

export interface Problem {
  readonly reason: string
  /** Which part, why, and what to do. */
  readonly message: string
}

/** Undefined if nothing is in the way. Looks at memory only. */
export function conversionProblem(
  source: Aggregate<FileSystem>,
  volume: Volume<FileSystem>,
  target: Aggregate<FileSystem> | undefined,
  aggregate: string,
): Problem | undefined {
  const no = (reason: string, message: string): Problem => ({ reason, message })
  if (volume.type !== 'Traditional') return no('NotTraditional', `volume ${volume.name} is flexible already`)
  if (target === undefined) {
    return no(
      'AggregateNotFound',
      `this filer has no aggregate ${aggregate} for the volume's side: declare one there`,
    )
  }
  if (target.type !== 'Flexible')
    return no('AggregateNotFound', `${aggregate} is not an aggregate of flexible volumes`)
  if ([...target.volumes()].length > 0 || target.removed.length > 0) {
    return no(
      'AggregateNotEmpty',
      `aggregate ${aggregate} has volumes, or still gives back what removed ones had: it must be empty`,
    )
  }
  if (!volume.snapshots.none) {
    return no(
      'SnapshotsExist',
      `volume ${volume.name} has snapshots, which cannot be taken along: delete its snapshots and schedules, and wait until their blocks have come back`,
    )
  }
  for (const one of [source, target]) {
    if (one.growing) return no('NotRedundant', `devices are joining ${one.name}: wait until they have`)
    if (one.mirrorState !== 'mirrored' || one.partner?.failure !== undefined) {
      return no('NotRedundant', `the other filer's copy of ${one.name} is not current: wait until it is`)
    }
    if (one.io.unrepairable.size > 0) {
      return no(
        'DeviceError',
        `blocks of ${one.name} cannot be read on either filer: repair or delete what they belong to`,
      )
    }
  }
  const devices = source.layout.devices.length + target.layout.devices.length
  if (devices > DEVICES_MAX) {
    return no('NoSpace', `the aggregate would have ${devices} devices, at most ${DEVICES_MAX} are possible`)
  }
  if (source.layout.end >= VBN_END) return no('NoSpace', 'volumes above 1 PiB cannot be converted')
  // Maps are also reckoned at full size once more, for their copies at a consistency point.
  const needed =
    estimateOf(source, volume) + mapsOf(source, source.layout.data) + mapsOf(target, target.layout.data)
  if (needed > target.freeBlocks) {
    return no(
      'NoSpace',
      `aggregate ${aggregate} has ${target.freeBlocks} free blocks, ${needed} are needed until the volume's own devices join: give it more devices`,
    )
  }
  return undefined
}

/** Container, owner and active maps for so many blocks, in blocks. */
function mapsOf(source: Aggregate<FileSystem>, blocks: number): number {
  const { end } = source.layout
  return Math.ceil(blocks / 682) + Math.ceil(end / 512) + 2 * Math.ceil(end / 32768) + 8
}

/**
 * Blocks of the new form, with a margin: inode file, indirect blocks, maps. How blocks are spread over files is not known without a look at all of them; that all are as large as
 * the average one gives the most indirect blocks for files of that many blocks in all, if they are not too small to need any.
 */
export function estimateOf(source: Aggregate<FileSystem>, volume: Volume<FileSystem>): number {
  const { files, inoEnd } = volume.content
  const blocks = volume.used
  const full = Math.ceil(blocks / 341) + Math.ceil(blocks / 341 ** 2)
  const some = Math.min(files, Math.ceil(blocks / 11))
  const inodes = Math.ceil(inoEnd / 16)
  const tree = inodes + Math.ceil(inodes / 341) + 1
  return Math.ceil(1.1 * (full + some + tree + mapsOf(source, blocks)))
}
