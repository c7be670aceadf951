/**
 * Which volumes of a pair are in force, with the rules that concern several objects: the pair, what it has, paths and claims that are
 * unique, and data that is there already and may be adopted.
 */
import { cronProblem } from '../../core/std/cron.ts'
import { growthProblem } from '../../api/v1alpha1/device-set.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { filerVolume } from '../../api/v1alpha1/filer-volume.ts'
import type { FilerVolumeSpec } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { accept, specInForce } from '../accept.ts'
import type { Acceptance } from '../accept.ts'
import type { ConversionAtPair } from '../conversion/desired.ts'
import type { PairView } from '../filer-pair/view.ts'
import { LABEL_FILER, LABEL_VOLUME, LABEL_VOLUME_ID } from '../names.ts'
import { byAge } from '../marks.ts'
import { fails, unknown } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { exportPath, homeOf, keptVolumes, volumeId } from './volume.ts'
import type { KeptVolume } from './volume.ts'

export interface VolumeInForce {
  readonly object: KubeObject
  readonly acceptance: Acceptance<FilerVolumeSpec>
  readonly id: string
}

export interface VolumesInput {
  readonly pairName: string
  readonly pair: FilerPairSpec | undefined
  readonly volumes: readonly KubeObject[]
  readonly view: PairView
  /** Claims that carry the pair's label. */
  readonly claims: readonly KubeObject[]
  readonly conversions: readonly ConversionAtPair[]
}

/** Older volumes come first: of two with one path the older keeps it. */
export function acceptVolumes(input: VolumesInput): VolumeInForce[] {
  const { pairName, pair } = input
  const order = byAge(input.volumes)
  const paths = new Map<string, string>()
  const claims = new Map<string, string>()
  const ids = new Map<string, string>()
  for (const object of order) {
    const spec = specInForce<FilerVolumeSpec>(filerVolume, object)
    if (spec !== undefined) ids.set(volumeId(object, spec), object.metadata.name)
  }
  const kept = keptVolumes(input.claims)
  return order.map((object) => {
    const { name } = object.metadata
    const further = (spec: FilerVolumeSpec, before: FilerVolumeSpec | undefined): Verdict | undefined => {
      if (pair === undefined)
        return fails(
          'PairNotFound',
          `spec.pairName: there is no FilerPair ${pairName} with an accepted spec in namespace ${object.metadata.namespace ?? ''}; create it, or make the volume in another pair`,
        )
      return (
        placeProblem(pairName, pair, spec) ??
        conversionProblem(object, spec, before, input) ??
        nameProblem(name, spec, paths, claims) ??
        scheduleProblem(spec) ??
        dataProblem(object, spec, before, { ids, kept, pair, view: input.view, claims: input.claims })
      )
    }
    const acceptance = accept<FilerVolumeSpec>(filerVolume, object, further)
    const { spec } = acceptance
    const id = volumeId(object, spec)
    if (spec !== undefined) {
      paths.set(exportPath(name, spec), name)
      if (spec.claimName !== undefined) claims.set(spec.claimName, name)
      ids.set(id, name)
    }
    return { object, acceptance, id }
  })
}

function placeProblem(pairName: string, pair: FilerPairSpec, spec: FilerVolumeSpec): Verdict | undefined {
  if (spec.type === 'Traditional') {
    const filers = pair.filers.map((f) => f.name)
    return filers.includes(spec.filer ?? '')
      ? undefined
      : fails(
          'FilerNotFound',
          `spec.filer: FilerPair ${pairName} has no filer ${spec.filer ?? ''}; it has ${filers.join(', ')}`,
        )
  }
  const known = pair.aggregates.map((a) => a.name)
  return known.includes(spec.aggregate ?? '')
    ? undefined
    : fails(
        'AggregateNotFound',
        `spec.aggregate: FilerPair ${pairName} has no aggregate ${spec.aggregate ?? ''}; it has ${known.join(', ')}`,
      )
}

/** An aggregate that takes a volume in takes no other one; and once it has, the volume's spec may say so. */
function conversionProblem(
  object: KubeObject,
  spec: FilerVolumeSpec,
  before: FilerVolumeSpec | undefined,
  { conversions, view }: VolumesInput,
): Verdict | undefined {
  if (spec.type !== 'Flexible') return undefined
  const open = conversions.find((c) => c.isOpen && c.aggregate === spec.aggregate)
  if (before === undefined && open !== undefined)
    return fails(
      'AggregateInUse',
      `spec.aggregate: Conversion ${open.name} has ${open.aggregate} until it is complete; name another aggregate, or wait`,
    )
  if (before?.type !== 'Traditional') return undefined
  if (open?.volumeName === object.metadata.name)
    return fails('ImmutableField', `spec.type: stays Traditional until Conversion ${open.name} is complete`)
  const found = view.volume(volumeId(object, spec))
  if (found?.type !== 'Flexible')
    return fails(
      'ImmutableField',
      'spec.type: the volume is not known to be Flexible; put back Traditional, with filer and deviceSets, or convert it',
    )
  return found.aggregate === spec.aggregate
    ? undefined
    : fails('ImmutableField', `spec.aggregate: the volume is in ${found.aggregate}; put that`)
}

/** What the rule's pattern cannot say. */
function scheduleProblem(spec: FilerVolumeSpec): Verdict | undefined {
  for (const { name, cron } of spec.snapshotPolicy?.schedules ?? []) {
    const problem = cronProblem(cron)
    if (problem !== undefined)
      return fails('InvalidSpec', `spec.snapshotPolicy.schedules[${name}].cron: ${problem}`)
  }
  return undefined
}

function nameProblem(
  name: string,
  spec: FilerVolumeSpec,
  paths: ReadonlyMap<string, string>,
  claims: ReadonlyMap<string, string>,
): Verdict | undefined {
  const path = exportPath(name, spec)
  const other = paths.get(path)
  if (other !== undefined)
    return fails(
      'NameTaken',
      `spec.export.path: ${path} is the path of FilerVolume ${other}, which is older; choose another path`,
    )
  const claimant = claims.get(spec.claimName ?? '')
  if (claimant !== undefined)
    return fails(
      'NameTaken',
      `spec.claimName: ${spec.claimName ?? ''} is the claim of FilerVolume ${claimant}, which is older; choose another name`,
    )
  return undefined
}

interface Data {
  readonly ids: ReadonlyMap<string, string>
  readonly kept: ReadonlyMap<string, KeptVolume>
  readonly pair: FilerPairSpec
  readonly view: PairView
  readonly claims: readonly KubeObject[]
}

/** Which data the volume has is decided once; what is there already is taken only if its id is named. */
function dataProblem(
  object: KubeObject,
  spec: FilerVolumeSpec,
  before: FilerVolumeSpec | undefined,
  data: Data,
): Verdict | undefined {
  const id = volumeId(object, spec)
  if (before !== undefined) {
    const current = volumeId(object, before)
    return id === current
      ? undefined
      : fails(
          'ImmutableField',
          `spec.adopt: the volume is ${current} for ever; put back ${before.adopt === undefined ? 'that there is none' : before.adopt}, or make another volume`,
        )
  }
  if (spec.adopt !== undefined) {
    const other = data.ids.get(id)
    if (other !== undefined && other !== object.metadata.name)
      return fails(
        'VolumeInUse',
        `spec.adopt: volume ${id} is that of FilerVolume ${other}; delete that first (with reclaimPolicy: Retain), or name another`,
      )
    return spec.type === 'Traditional'
      ? traditionalProblem(object.metadata.name, spec, data.kept.get(id))
      : flexibleProblem(spec, data)
  }
  if (spec.type !== 'Traditional') return undefined
  const { name } = object.metadata
  const there = data.claims.find(
    ({ metadata: { labels } }) =>
      labels?.[LABEL_VOLUME] === name && labels[LABEL_FILER] !== undefined && labels[LABEL_VOLUME_ID] !== id,
  )
  if (there === undefined) return undefined
  const old = there.metadata.labels?.[LABEL_VOLUME_ID] ?? ''
  return fails(
    'RetainedDataExists',
    there.metadata.deletionTimestamp === undefined
      ? `claims of an earlier volume ${name} are still there (${there.metadata.name}, …) and are not touched; to have its data, make this volume with spec.adopt: ${old}; else delete them, or choose another name`
      : `claims of an earlier volume ${name} are being deleted (${there.metadata.name}, …); the volume is made when they are gone`,
  )
}

function traditionalProblem(
  name: string,
  spec: FilerVolumeSpec,
  kept: KeptVolume | undefined,
): Verdict | undefined {
  if (kept === undefined)
    return fails(
      'RetainedVolumeNotFound',
      `spec.adopt: there are no claims of a Traditional volume ${spec.adopt!}; see status.retainedVolumes of the pair`,
    )
  const { volume, stays } = kept
  if (!stays)
    return fails(
      'RetainedVolumeNotFound',
      `spec.adopt: the claims of volume ${spec.adopt!} are being deleted`,
    )
  if (volume.name !== name)
    return fails(
      'InvalidSpec',
      `metadata.name: the devices of volume ${spec.adopt!} bear the name ${volume.name}; call the FilerVolume ${volume.name}`,
    )
  if (volume.filer !== spec.filer)
    return fails('InvalidSpec', `spec.filer: volume ${spec.adopt!} lives at filer ${volume.filer}; put that`)
  const problem = growthProblem(spec.deviceSets ?? [], volume.deviceSets)
  return problem === undefined
    ? undefined
    : fails('InvalidSpec', `spec.deviceSets: not those of volume ${spec.adopt!}: ${problem}`)
}

function flexibleProblem(spec: FilerVolumeSpec, data: Data): Verdict | undefined {
  const id = spec.adopt!
  const home = homeOf(spec, data.pair)
  const found = data.view.volume(id)
  if (found === undefined || found.state === 'Removed') {
    const isKnown =
      data.view.sides.get(home)?.serving === true &&
      data.view.aggregate(home, spec.aggregate ?? '') !== undefined
    if (!isKnown)
      return unknown(
        'Unknown',
        `spec.adopt: filer ${home} is not served yet, so nobody can say whether volume ${id} is there`,
      )
    return fails(
      'RetainedVolumeNotFound',
      `spec.adopt: there is no volume ${id} in aggregate ${spec.aggregate ?? ''}; see status.retainedVolumes of the pair`,
    )
  }
  if (found.type !== 'Flexible')
    return fails('InvalidSpec', `spec.type: volume ${id} is ${found.type}; put that`)
  if (found.aggregate !== spec.aggregate)
    return fails('InvalidSpec', `spec.aggregate: volume ${id} lies in aggregate ${found.aggregate}; put that`)
  return undefined
}
