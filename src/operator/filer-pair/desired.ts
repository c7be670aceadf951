/** The desired state that the filers get: volumes, exports, and who serves when. Its generation grows exactly when it changes. */
import { createHash } from 'node:crypto'
import { durationMs, quantityBytes } from '../../api/quantity.ts'
import type { ConversionDesired, DesiredState, VolumeDesired } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { ConversionAtPair } from '../conversion/desired.ts'
import type { VolumeInForce } from '../filer-volume/accept.ts'
import { aggregateOf, exportPath } from '../filer-volume/volume.ts'
import { FINALIZER, traditionalAggregate } from '../names.ts'
import type { TraditionalVolume } from './accepted.ts'
import { pairEpoch } from './view.ts'
import type { PairView } from './view.ts'

export type DesiredContent = Omit<DesiredState, 'generation'>

export interface DesiredOptions {
  /** Retained volumes whose claims are being deleted. */
  readonly givenUp?: readonly TraditionalVolume[]
  /** What is away from home goes there as soon as it can, for a pod waits for it. */
  readonly giveBackNow?: boolean
  readonly acceptLoss?: DesiredState['acceptLoss']
  readonly mirrors?: Pick<DesiredState, 'peers' | 'mirrors'>
  readonly conversions?: readonly ConversionAtPair[]
}

/** A volume whose object goes is left out (its data stays), unless its data is to be freed; while it has a mirror or a conversion it stays as it is. */
export function desiredContent(
  pair: FilerPairSpec,
  volumes: readonly VolumeInForce[],
  view: PairView,
  { givenUp = [], giveBackNow = false, acceptLoss, mirrors = {}, conversions = [] }: DesiredOptions = {},
): DesiredContent {
  const wanted: VolumeDesired[] = []
  const converted: ConversionDesired[] = conversions.flatMap(({ volumeName, desired }) => {
    const volume = volumes.find((v) => v.object.metadata.name === volumeName)
    return volume === undefined || desired === undefined ? [] : [{ ...desired, volumeId: volume.id }]
  })
  // Volumes that stay as they are until their mirrors and conversions are gone.
  const held = new Set([...(mirrors.mirrors ?? []), ...converted].map((one) => one.volumeId))
  for (const { object, acceptance, id } of volumes) {
    const { spec } = acceptance
    const { name, deletionTimestamp, finalizers } = object.metadata
    // Before the finalizer is there the object could go without a trace.
    if (spec === undefined || !finalizers?.includes(FINALIZER)) continue
    const leaves = deletionTimestamp !== undefined && !held.has(id)
    if (leaves && spec.reclaimPolicy === 'Retain') continue
    wanted.push({
      id,
      name,
      type: spec.type,
      aggregate: aggregateOf(name, spec),
      sizeBytes: spec.size === undefined ? 0 : quantityBytes(spec.size),
      export: { path: exportPath(name, spec), rules: spec.export.rules ?? pair.exportDefaults },
      ...(spec.snapshotPolicy === undefined || spec.snapshotPolicy.schedules.length === 0
        ? {}
        : { snapshotSchedules: spec.snapshotPolicy.schedules }),
      state: leaves ? 'Removed' : 'Present',
    })
  }
  for (const { id, name } of givenUp)
    wanted.push({
      id,
      name,
      type: 'Traditional',
      aggregate: traditionalAggregate(name),
      sizeBytes: 0,
      export: { path: `/${name}`, rules: [] },
      state: 'Removed',
    })
  wanted.sort((x, y) => (x.id < y.id ? -1 : 1))
  const { mode, giveback, givebackDelay, givebackEpoch } = pair.takeover
  return {
    ...(pair.state === 'Stopped' ? { state: pair.state } : {}),
    ...(pair.reads === 'Confirmed' ? { reads: pair.reads } : {}),
    ...(pair.maintenance === undefined ? {} : { maintenance: pair.maintenance }),
    ...(acceptLoss === undefined ? {} : { acceptLoss }),
    volumes: wanted,
    ...mirrors,
    ...(converted.length === 0 ? {} : { conversions: converted.sort((x, y) => (x.id < y.id ? -1 : 1)) }),
    takeover: {
      mode,
      giveback,
      givebackDelayMs: durationMs(givebackDelay),
      givebackEpoch: sideEpoch(givebackEpoch, view) || (giveBackNow ? awayEpoch(view) : 0),
    },
  }
}

/**
 * A person names the epoch of the pair; filers know those of sides. Only while the pair's is still the one that was named does it
 * mean anything: then it is the epoch of the side that is away from home.
 */
function sideEpoch(asked: number | undefined, view: PairView): number {
  if (asked === undefined || asked !== pairEpoch(view)) return 0
  return awayEpoch(view)
}

function awayEpoch(view: PairView): number {
  return [...view.sides.values()].find((side) => side.owner !== side.side)?.epoch ?? 0
}

export function contentHash(content: DesiredContent): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16)
}

/** `<generation> <hash>` */
export function parseDesiredAnnotation(text: string | undefined): { generation: number; hash: string } {
  const [generation, hash] = (text ?? '').split(' ')
  const number = Number(generation)
  return { generation: Number.isSafeInteger(number) ? number : 0, hash: hash ?? '' }
}
