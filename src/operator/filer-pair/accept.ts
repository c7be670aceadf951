/**
 * Whether the spec of a pair is in force, with the rules that concern more than the object itself: data and objects of its names that are
 * there already, and what an aggregate holds that was taken out. Pure.
 */
import { filerPair } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { filerVolume } from '../../api/v1alpha1/filer-volume.ts'
import type { FilerVolumeSpec } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, PERSISTENT_VOLUMES } from '../../edge/kube/resources.ts'
import { accept, specInForce } from '../accept.ts'
import type { Acceptance } from '../accept.ts'
import { LABEL_PAIR_ID, persistentVolumeName } from '../names.ts'
import { fails } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { pairId } from './accepted.ts'
import type { Observed } from './observed.ts'
import type { PairView } from './view.ts'

export function acceptPair(observed: Observed, pair: KubeObject, view: PairView): Acceptance<FilerPairSpec> {
  return accept<FilerPairSpec>(
    filerPair,
    pair,
    (spec, before) =>
      adoption(observed, pair, spec, before) ??
      inTheWay(observed, pairId(pair.metadata.uid ?? '', spec)) ??
      removal(observed, spec, before, view),
  )
}

/** Whose data the pair has is decided once. */
function adoption(
  observed: Observed,
  pair: KubeObject,
  spec: FilerPairSpec,
  before: FilerPairSpec | undefined,
): Verdict | undefined {
  const uid = pair.metadata.uid ?? ''
  const id = pairId(uid, spec)
  if (before !== undefined) {
    const current = pairId(uid, before)
    return id === current
      ? undefined
      : fails(
          'ImmutableField',
          `spec.adopt: the pair is ${current} for ever; put back ${before.adopt === undefined ? 'that there is none' : before.adopt}, or make another pair`,
        )
  }
  if (id === uid || observed.objects.of(CLAIMS).some((c) => c.metadata.labels?.[LABEL_PAIR_ID] === id))
    return undefined
  return fails(
    'RetainedDataNotFound',
    `spec.adopt: there are no claims of a FilerPair ${observed.name} with the id ${id} in namespace ${observed.namespace}; see label ${LABEL_PAIR_ID} of the claims that are there, or take adopt out`,
  )
}

/** Objects of the names that the pair needs which are not the pair's. */
function inTheWay(observed: Observed, id: string): Verdict | undefined {
  const earlier = observed.objects
    .of(CLAIMS)
    .filter((claim) => claim.metadata.labels?.[LABEL_PAIR_ID] !== id)
    .map((claim) => claim.metadata)
  const [first] = earlier
  if (first !== undefined)
    return fails(
      'RetainedDataExists',
      `claims of an earlier FilerPair ${observed.name} are still there (${earlier
        .slice(0, 3)
        .map(({ name }) => name)
        .join(
          ', ',
        )}${earlier.length > 3 ? ', …' : ''}) and are not touched; to have their data, make this pair with spec.adopt: ${first.labels?.[LABEL_PAIR_ID] ?? ''}; else delete them and Lease ${observed.name}, or choose another name`,
    )
  const leaseOwner = observed.lease?.metadata.labels?.[LABEL_PAIR_ID]
  const foreign = [
    ...foreignOfPair(observed),
    ...(observed.lease !== undefined && leaseOwner !== id ? [`Lease ${observed.name}`] : []),
  ]
  if (foreign.length > 0)
    return fails(
      'NameTaken',
      `${foreign.join(', ')} exists, is not this pair’s, and is not touched; delete it or choose another metadata.name`,
    )
  return undefined
}

/** Without what only a volume's claim needs: that is the volume's trouble. */
export function foreignOfPair(observed: Observed): string[] {
  const ofVolumes = observed.volumes.flatMap((v) => {
    const { claimName } = v['spec'] as { claimName?: string }
    return [
      `${CLAIMS.kind} ${claimName ?? ''}`,
      `${PERSISTENT_VOLUMES.kind} ${persistentVolumeName(v.metadata.uid ?? '')}`,
    ]
  })
  return observed.foreign.filter((name) => !ofVolumes.includes(name))
}

/** An aggregate may go when it is known to hold nothing. */
function removal(
  observed: Observed,
  spec: FilerPairSpec,
  before: FilerPairSpec | undefined,
  view: PairView,
): Verdict | undefined {
  for (const { name, filer } of before?.aggregates ?? []) {
    if (spec.aggregates.some((a) => a.name === name)) continue
    const objects = observed.volumes.filter(
      (v) =>
        (specInForce<FilerVolumeSpec>(filerVolume, v) ?? (v['spec'] as FilerVolumeSpec)).aggregate === name,
    )
    if (objects.length > 0)
      return fails(
        'InUse',
        `spec.aggregates: ${name} holds FilerVolume ${objects.map((v) => v.metadata.name).join(', ')}; delete them first, or put it back`,
      )
    if (view.sides.get(filer)?.serving !== true || view.aggregate(filer, name) === undefined)
      return fails(
        'InUse',
        `spec.aggregates: ${name} may hold volumes, for filer ${filer} is not served now and cannot tell; put it back, or wait`,
      )
    const held = view.volumes.filter((v) => v.aggregate === name && v.state !== 'Removed')
    if (held.length > 0)
      return fails(
        'InUse',
        `spec.aggregates: ${name} holds retained volume ${held.map((v) => v.id).join(', ')}; adopt and delete them with reclaimPolicy: Delete, or put it back`,
      )
  }
  return undefined
}
