/** Applies manifests: pairs before what lives in them, each by server-side apply; the first refusal is told and the rest goes on. */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import { CLI_MANAGER, explain } from './connection.ts'
import { problemsOf } from './manifests.ts'
import { kindOf } from './kinds.ts'
import type { Manifest } from './manifests.ts'
import { waitFor } from './wait.ts'
import type { StoredResource } from '../store/resources.ts'

export interface ApplyResult {
  readonly lines: readonly string[]
  readonly refusals: readonly string[]
  /** What the server took, as it is there. */
  readonly applied: readonly { readonly resource: StoredResource; readonly object: KubeObject }[]
}

export async function applyManifests(
  api: KubeApi,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<ApplyResult> {
  const lines: string[] = []
  const refusals: string[] = []
  const applied: { resource: StoredResource; object: KubeObject }[] = []
  for (const manifest of manifests) {
    const { resource } = manifest
    const object: KubeObject = resource.namespaced
      ? {
          ...manifest.object,
          metadata: {
            ...manifest.object.metadata,
            namespace: manifest.object.metadata.namespace ?? namespace,
          },
        }
      : manifest.object
    const title = `${resource.kind.toLowerCase()}/${object.metadata.name}`
    const problems = problemsOf(manifest)
    if (problems !== undefined) {
      refusals.push(problems)
      continue
    }
    try {
      const before = await api
        .get(resource, object.metadata.namespace ?? '', object.metadata.name)
        .catch(absent)
      const after = await api.apply(resource, object, CLI_MANAGER)
      applied.push({ resource, object: after })
      const verb =
        before === undefined
          ? 'created'
          : before.metadata.resourceVersion === after.metadata.resourceVersion
            ? 'unchanged'
            : 'configured'
      lines.push(`${title} ${verb}`)
    } catch (error) {
      refusals.push(`${manifest.where}: ${title}: ${explain(error)}`)
    }
  }
  return { lines, refusals, applied }
}

function absent(error: unknown): undefined {
  if (error instanceof KubeError && error.code === 404) return undefined
  throw error
}

/** Reasons of Ready=False that do not pass by themselves. */
const LASTING = ['StorageClassNotFound', 'Unschedulable', 'DevicePermissionDenied']

interface Verdict {
  readonly type: string
  readonly reason?: string
  readonly status: string
  readonly message?: string
  readonly observedGeneration?: number
}

/**
 * What the operator says about the objects of our kinds: rules over several objects (a pair that does not exist, a name that is taken) are
 * conditions in a cluster, and errors for the person who waits for the answer. No verdict in time (no operator runs) is none.
 */
export async function operatorRefusals(
  api: KubeApi,
  applied: ApplyResult['applied'],
  withinMs: number,
): Promise<string[]> {
  const refusals: string[] = []
  const deadline = performance.now() + withinMs
  for (const { resource, object } of applied) {
    if (kindOf(resource) === undefined) continue
    const { name, namespace = '', generation = 1 } = object.metadata
    const { object: last } = await waitFor(
      api,
      resource,
      namespace,
      name,
      (now) => verdictOf(now, generation) !== undefined,
      Math.max(1, deadline - performance.now()),
    )
    const title = `${resource.kind.toLowerCase()}/${name}`
    const verdict = verdictOf(last, generation)
    if (verdict?.status === 'False')
      refusals.push(`${title} is there, but not in force: ${verdict.message ?? ''}`)
    const ready = conditionsOf(last).find((condition) => condition.type === 'Ready')
    if (verdict?.status === 'True' && ready?.status === 'False' && LASTING.includes(ready.reason ?? ''))
      refusals.push(`${title} is in force, but cannot become ready: ${ready.message ?? ''}`)
  }
  return refusals
}

function verdictOf(object: KubeObject | undefined, generation: number): Verdict | undefined {
  const accepted = conditionsOf(object).find((condition) => condition.type === 'Accepted')
  if (accepted === undefined || accepted.status === 'Unknown') return undefined
  return (accepted.observedGeneration ?? 0) >= generation ? accepted : undefined
}

function conditionsOf(object: KubeObject | undefined): readonly Verdict[] {
  return ((object?.['status'] ?? {}) as { conditions?: Verdict[] }).conditions ?? []
}
