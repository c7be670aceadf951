/**
 * One pass over the volumes of a pair: finalizer, accepted spec, status, and the end of those that are deleted. Retain lets an object
 * go at once; Delete first has the filer free the data. A volume whose pair is gone, or goes with its namespace, waits for nobody.
 */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { FILER_VOLUMES, SERVICES } from '../../edge/kube/resources.ts'
import type { Observed } from '../filer-pair/observed.ts'
import type { PairView } from '../filer-pair/view.ts'
import { ANNOTATION_ACCEPTED, FINALIZER, namesOf } from '../names.ts'
import type { Action, Plan } from '../runtime/actions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import { acceptVolumes } from './accept.ts'
import type { VolumeInForce } from './accept.ts'
import { volumeStatus, volumeVerdicts } from './status.ts'

export function planVolumes(
  observed: Observed,
  pair: FilerPairSpec | undefined,
  pairReady: Verdict,
  view: PairView,
  generation: number,
): Plan {
  const services = new Map<string, KubeObject>()
  for (const { name } of pair?.filers ?? []) {
    const service = observed.objects.get(SERVICES, namesOf(observed.name).service(name))
    if (service !== undefined) services.set(name, service)
  }
  const actions: Action[] = []
  let againInMs: number | undefined
  for (const volume of acceptVolumes(observed.name, pair, observed.volumes)) {
    const { object } = volume
    const done =
      object.metadata.deletionTimestamp !== undefined && mayGo(volume, observed, pair, view, generation)
    const patch = metadataPatch(volume, done)
    if (patch !== undefined) actions.push(patch)
    if (done) continue
    const input = { volume, pairName: observed.name, pair, pairReady, view, services }
    const verdicts = volumeVerdicts(input)
    const written = writeStatus(
      FILER_VOLUMES,
      object,
      verdicts,
      volumeStatus(input, verdicts),
      observed.nowMs,
      observed.statusWrittenMs(object.metadata.uid ?? ''),
    )
    actions.push(...written.actions)
    if (written.againInMs !== undefined) againInMs = Math.min(againInMs ?? Infinity, written.againInMs)
  }
  return { actions, againInMs }
}

function mayGo(
  { object, acceptance }: VolumeInForce,
  observed: Observed,
  pair: FilerPairSpec | undefined,
  view: PairView,
  generation: number,
): boolean {
  const { spec } = acceptance
  if (spec === undefined || pair === undefined || observed.namespaceTerminating) return true
  if (spec.reclaimPolicy === 'Retain') return true
  const side = pair.aggregates.find((a) => a.name === spec.aggregate)?.filer ?? ''
  const owner = view.filers.get(view.sides.get(side)?.owner ?? '')
  if (owner === undefined || owner.generation < generation) return false
  const report = owner.volumes.find((v) => v.id === object.metadata.uid)
  return report === undefined || report.state === 'Removed'
}

function metadataPatch({ object, acceptance }: VolumeInForce, done: boolean): Action | undefined {
  const { metadata } = object
  const finalizers = metadata.finalizers ?? []
  const leaving = metadata.deletionTimestamp !== undefined
  const marks = !leaving && !finalizers.includes(FINALIZER)
  const frees = done && finalizers.includes(FINALIZER)
  const notes = !leaving && acceptance.annotation !== undefined
  if (!marks && !frees && !notes) return undefined
  return {
    type: 'patch',
    resource: FILER_VOLUMES,
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    patch: {
      metadata: {
        resourceVersion: metadata.resourceVersion,
        ...(marks ? { finalizers: [...finalizers, FINALIZER] } : {}),
        ...(frees ? { finalizers: finalizers.filter((f) => f !== FINALIZER) } : {}),
        ...(notes ? { annotations: { [ANNOTATION_ACCEPTED]: acceptance.annotation } } : {}),
      },
    },
  }
}
