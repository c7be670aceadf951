/** Whether a traditional volume can be converted into an aggregate, and what its metadata will take there. */
import type { Aggregate } from '../block/aggregate.ts'
import { DEVICES_MAX, GROUP_BLOCKS } from '../block/layout.ts'
import { OWNER_FANOUT } from '../block/leaf-editor.ts'
import { CONTAINER_FANOUT } from '../block/numbering.ts'
import { MAP_LEAF_BITS } from '../block/space-map.ts'
import type { Volume } from '../block/volume.ts'
import { VBN_END } from '../fs/absent.ts'
import { INODES_PER_BLOCK } from '../fs/inode.ts'
import { indirectOf } from '../fs/survey.ts'
import type { FileSystem } from '../fs/volume.ts'

export interface Problem {
  readonly reason: string
  /** Which part, why, and what to do. */
  readonly message: string
}

/** Snapshots are not taken along: either the volume has none, or they are deleted before the cut-over. */
export type SnapshotsAtConversion = 'RequireNone' | 'Delete'

/** Undefined if nothing is in the way. Looks at memory only. */
export function conversionProblem(
  source: Aggregate<FileSystem>,
  volume: Volume<FileSystem>,
  target: Aggregate<FileSystem> | undefined,
  aggregate: string,
  survey: Survey | undefined,
  snapshots: SnapshotsAtConversion,
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
  if (!volume.snapshots.none && snapshots === 'RequireNone') {
    return no(
      'SnapshotsExist',
      `volume ${volume.name} has snapshots, which cannot be taken along: delete them and its schedules, and wait until their blocks have come back, or let the conversion delete them (snapshots: Delete)`,
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
  if (survey === undefined) return no('Checking', 'how much metadata there will be is being looked at')
  // Maps are also reckoned at full size once more, for their copies at a consistency point.
  const needed =
    estimateOf(source, volume, survey) +
    mapsOf(source, source.layout.data) +
    mapsOf(target, target.layout.data)
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

/** What of the estimate takes a look at the volume. */
export interface Survey {
  /** Blocks of pointers of its files. */
  readonly indirect: number
  /** Leaves of the container map, of the owner map and of the two active maps that have anything. */
  readonly leaves: number
}

/** Blocks of inodes that are looked at. */
const SAMPLES = 128
/** In a block of a flexible volume. */
const POINTERS = 341

export async function surveyOf(source: Aggregate<FileSystem>, volume: Volume<FileSystem>): Promise<Survey> {
  const seen = await volume.content.survey(SAMPLES)
  // Blocks of none of the files that were looked at are those of large ones.
  const indirect = seen.indirect + Math.ceil(Math.max(0, volume.used - seen.leaves) / POINTERS)
  const { space } = source
  let leaves = 0
  for (const [span, maps] of [
    [CONTAINER_FANOUT, 1],
    [OWNER_FANOUT, 1],
    [MAP_LEAF_BITS, 2],
  ] as const) {
    let last = -1
    for (let group = 0; group < source.layout.groups; group++) {
      if (space.busyIn(group) === 0) continue
      const [first, end] = [group * GROUP_BLOCKS, (group + 1) * GROUP_BLOCKS - 1]
      const [from, to] = [Math.max(last + 1, Math.floor(first / span)), Math.floor(end / span)]
      leaves += maps * Math.max(0, to - from + 1)
      last = Math.max(last, to)
    }
  }
  return { indirect, leaves }
}

/** Blocks of the new form, with a margin: inode file, indirect blocks, maps with their own blocks of pointers. */
export function estimateOf(
  { layout }: Aggregate<FileSystem>,
  volume: Volume<FileSystem>,
  { indirect, leaves }: Survey,
): number {
  const inodes = Math.ceil(volume.content.inoEnd / INODES_PER_BLOCK)
  const maps =
    leaves +
    indirectOf(Math.ceil(layout.end / CONTAINER_FANOUT)) +
    indirectOf(Math.ceil(layout.end / OWNER_FANOUT)) +
    2
  return Math.ceil(1.1 * (indirect + inodes + indirectOf(inodes) + maps))
}

/** What was written for a conversion, in blocks: what was built, and maps. */
export function metadataOf(target: Aggregate<FileSystem>, volume: Volume<FileSystem>): number {
  const { old, ownerMap, activeMap } = target
  return (
    (old?.built ?? 0) +
    (volume.container?.blocks ?? 0) +
    volume.active.blocks +
    ownerMap.blocks +
    activeMap.blocks
  )
}
