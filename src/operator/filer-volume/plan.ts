/**
 * One pass over the volumes of a pair: finalizer, accepted spec, status, claim, orders about snapshots, and the end of those that are
 * deleted. Retain lets an object go at once; Delete first has the filer free the data. A volume whose pair is gone, or goes with its
 * namespace, waits for nobody.
 */
import { quantityBytes } from '../../api/quantity.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, FILER_VOLUMES, SERVICES } from '../../edge/kube/resources.ts'
import type { AcceptedPair } from '../filer-pair/accepted.ts'
import type { Observed } from '../filer-pair/observed.ts'
import type { PairView } from '../filer-pair/view.ts'
import type { ConversionAtPair } from '../conversion/desired.ts'
import type { MirrorAtPair } from '../mirror/desired.ts'
import { markObject } from '../marks.ts'
import { FINALIZER, LABEL_FILER, LABEL_VOLUME_ID, namesOf } from '../names.ts'
import type { Action, Plan } from '../runtime/actions.ts'
import { fails } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import type { VolumeInForce } from './accept.ts'
import { endClaim, planClaim } from './claim.ts'
import type { ClaimPlan } from './claim.ts'
import { planSnapshot } from './snapshot-request.ts'
import { mountOf, volumeStatus, volumeVerdicts } from './status.ts'
import { exportPath, homeOf, isConverted } from './volume.ts'

export interface PairForVolumes {
  /** undefined: there is none, or none that was ever accepted. */
  readonly pair: AcceptedPair | undefined
  readonly ready: Verdict
  readonly upToDate: Verdict
  readonly view: PairView
  /** Of the desired state that is handed over. */
  readonly generation: number
}

export function planVolumes(observed: Observed, volumes: readonly VolumeInForce[], of: PairForVolumes): Plan {
  const services = new Map<string, KubeObject>()
  for (const { name } of of.pair?.spec.filers ?? []) {
    const service = observed.objects.get(SERVICES, namesOf(observed.name).service(name))
    if (service !== undefined) services.set(name, service)
  }
  const actions: Action[] = []
  let againInMs: number | undefined
  for (const volume of volumes) {
    const { object, acceptance, id } = volume
    const done = object.metadata.deletionTimestamp !== undefined && mayGo(volume, observed, of)
    if (done) actions.push(...endClaim(observed, object, id), ...endDevices(volume, observed, of))
    const patch = markObject(FILER_VOLUMES, object, acceptance, done)
    if (patch !== undefined) actions.push(patch)
    if (done) continue
    const service = acceptance.spec && services.get(homeOf(acceptance.spec, of.pair?.spec))
    const mount =
      acceptance.spec && service && mountOf(service, exportPath(object.metadata.name, acceptance.spec))
    const claim = claimOf(observed, volume, of, mount)
    const snapshot = planSnapshot(volume, of.pair?.spec, of.view, observed.snapshotOutcomes)
    const input = {
      volume,
      pairName: observed.name,
      pair: of.pair?.spec,
      pairReady: of.ready,
      pairUpToDate: of.upToDate,
      view: of.view,
      mount,
      claimed: claim.verdict,
      snapshotRequest: snapshot.status,
      mirror: mirrorOf(observed, object.metadata.name),
      conversion: conversionOf(observed, object.metadata.name),
    }
    const verdicts = volumeVerdicts(input)
    const written = writeStatus(
      FILER_VOLUMES,
      object,
      verdicts,
      volumeStatus(input, verdicts),
      observed.nowMs,
      observed.statusWrittenMs(object.metadata.uid ?? ''),
    )
    actions.push(...claim.actions, ...written.actions, ...snapshot.actions)
    for (const ms of [written.againInMs, claim.againInMs])
      if (ms !== undefined) againInMs = Math.min(againInMs ?? Infinity, ms)
  }
  return { actions, againInMs }
}

function mirrorOf({ mirrors }: Observed, volumeName: string): MirrorAtPair | undefined {
  return mirrors.find((m) => m.volumeName === volumeName)
}

function conversionOf({ conversions }: Observed, volumeName: string): ConversionAtPair | undefined {
  return conversions.find((c) => c.volumeName === volumeName)
}

function claimOf(
  observed: Observed,
  volume: VolumeInForce,
  { pair, view }: PairForVolumes,
  mount: ReturnType<typeof mountOf>,
): ClaimPlan {
  const { spec, verdict } = volume.acceptance
  if (spec === undefined || pair === undefined)
    return {
      verdict: fails('NotAccepted', `the spec is not accepted: ${verdict.message}`),
      actions: [],
      againInMs: undefined,
    }
  const sizeBytes = spec.size === undefined ? view.volume(volume.id)?.sizeBytes : quantityBytes(spec.size)
  // While it leaves, what is there stays until its data is gone.
  if (volume.object.metadata.deletionTimestamp !== undefined)
    return { verdict: fails('Binding', 'the volume is being deleted'), actions: [], againInMs: undefined }
  return planClaim(observed, pair, volume, mount, sizeBytes === 0 ? undefined : sizeBytes)
}

function mayGo(
  { object, acceptance, id }: VolumeInForce,
  observed: Observed,
  { pair, view, generation }: PairForVolumes,
): boolean {
  const { spec } = acceptance
  if (observed.namespaceTerminating) return true
  const { name } = object.metadata
  if (mirrorOf(observed, name) !== undefined || conversionOf(observed, name) !== undefined) return false
  if (spec === undefined || pair === undefined) return true
  if (spec.reclaimPolicy === 'Retain' || !object.metadata.finalizers?.includes(FINALIZER)) return true
  const owner = view.filers.get(view.sides.get(homeOf(spec, pair.spec))?.owner ?? '')
  if (owner === undefined || owner.generation < generation) return false
  const report = owner.volumes.find((v) => v.id === id)
  return report === undefined || report.state === 'Removed'
}

/** A traditional volume whose data is to go takes its claims along; the pods let go of them one after the other. */
function endDevices(
  { object, acceptance, id }: VolumeInForce,
  observed: Observed,
  { pair, view }: PairForVolumes,
): Action[] {
  const { spec } = acceptance
  // Those of a volume that was converted belong to an aggregate.
  if (isConverted(object, spec, view)) return []
  if (spec?.type !== 'Traditional' || spec.reclaimPolicy !== 'Delete' || pair === undefined) return []
  return observed.objects
    .of(CLAIMS)
    .filter(
      ({ metadata: { labels, deletionTimestamp } }) =>
        labels?.[LABEL_VOLUME_ID] === id &&
        labels[LABEL_FILER] !== undefined &&
        deletionTimestamp === undefined,
    )
    .map(({ metadata }) => ({
      type: 'delete',
      resource: CLAIMS,
      namespace: observed.namespace,
      name: metadata.name,
      uid: metadata.uid ?? '',
    }))
}
