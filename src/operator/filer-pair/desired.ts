/** The desired state that the filers get: volumes, exports, and who serves when. Its generation grows exactly when it changes. */
import { createHash } from 'node:crypto'
import { durationMs, quantityBytes } from '../../api/quantity.ts'
import type { DesiredState, VolumeDesired } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { exportPath } from '../filer-volume/accept.ts'
import type { VolumeInForce } from '../filer-volume/accept.ts'
import { FINALIZER } from '../names.ts'
import { pairEpoch } from './view.ts'
import type { PairView } from './view.ts'

export type DesiredContent = Omit<DesiredState, 'generation'>

/** A volume whose object goes is left out (its data stays), unless its data is to be freed. */
export function desiredContent(
  pair: FilerPairSpec,
  volumes: readonly VolumeInForce[],
  view: PairView,
): DesiredContent {
  const wanted: VolumeDesired[] = []
  for (const { object, acceptance } of volumes) {
    const { spec } = acceptance
    const { uid, name, deletionTimestamp, finalizers } = object.metadata
    // Before the finalizer is there the object could go without a trace.
    if (spec === undefined || uid === undefined || !finalizers?.includes(FINALIZER)) continue
    if (deletionTimestamp !== undefined && spec.reclaimPolicy === 'Retain') continue
    wanted.push({
      id: uid,
      name,
      type: spec.type,
      aggregate: spec.aggregate,
      sizeBytes: quantityBytes(spec.size),
      export: { path: exportPath(name, spec), rules: spec.export.rules ?? pair.exportDefaults },
      state: deletionTimestamp === undefined ? 'Present' : 'Removed',
    })
  }
  wanted.sort((x, y) => (x.id < y.id ? -1 : 1))
  const { mode, giveback, givebackDelay, givebackEpoch } = pair.takeover
  return {
    volumes: wanted,
    takeover: {
      mode,
      giveback,
      givebackDelayMs: durationMs(givebackDelay),
      givebackEpoch: sideEpoch(givebackEpoch, view),
    },
  }
}

/**
 * A person names the epoch of the pair; filers know those of sides. Only while the pair's is still the one that was named does it
 * mean anything: then it is the epoch of the side that is away from home.
 */
function sideEpoch(asked: number | undefined, view: PairView): number {
  if (asked === undefined || asked !== pairEpoch(view)) return 0
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
