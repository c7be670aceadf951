/** `spec.state: Stopped`: filers first write everything to both copies; only then do their pods end. Pure. */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { PODS, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import { namesOf } from '../names.ts'
import type { Observed } from './observed.ts'
import type { PairView } from './view.ts'

export interface Rest {
  readonly state: 'Running' | 'Stopping' | 'Stopped'
  /** Filers that are not done. */
  readonly waitsFor: readonly string[]
}

const RUNNING: Rest = { state: 'Running', waitsFor: [] }

export function restOf(observed: Observed, spec: FilerPairSpec | undefined, view: PairView): Rest {
  if (spec?.state !== 'Stopped') return RUNNING
  const names = namesOf(observed.name)
  const waitsFor = spec.filers
    .map(({ name }) => name)
    .filter((name) => {
      const set = observed.objects.get(STATEFUL_SETS, names.statefulSet(name))
      const wanted = (set?.['spec'] as { replicas?: number } | undefined)?.replicas !== 0
      return wanted && runs(observed.objects.get(PODS, names.pod(name))) && !isDone(view, name)
    })
  if (waitsFor.length > 0) return { state: 'Stopping', waitsFor }
  const left = spec.filers.some(({ name }) => observed.objects.get(PODS, names.pod(name)) !== undefined)
  return { state: left ? 'Stopping' : 'Stopped', waitsFor }
}

/** Whether the pods are to be there. One that goes before the other is done would be taken over from, or keep it from finishing. */
export function wantsPods(rest: Rest): boolean {
  return rest.state === 'Running' || rest.waitsFor.length > 0
}

function isDone(view: PairView, filer: string): boolean {
  return view.filers.get(filer)?.resting === 'DONE'
}

function runs(pod: KubeObject | undefined): boolean {
  const phase = (pod?.['status'] as { phase?: string } | undefined)?.phase
  return phase === 'Running' && pod?.metadata.deletionTimestamp === undefined
}
