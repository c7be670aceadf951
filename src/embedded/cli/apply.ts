/** Applies manifests: pairs before what lives in them, each by server-side apply; the first refusal is told and the rest goes on. */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import { CLI_MANAGER, explain } from './connection.ts'
import { problemsOf } from './manifests.ts'
import type { Manifest } from './manifests.ts'

export interface ApplyResult {
  readonly lines: readonly string[]
  readonly refusals: readonly string[]
}

export async function applyManifests(
  api: KubeApi,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<ApplyResult> {
  const lines: string[] = []
  const refusals: string[] = []
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
  return { lines, refusals }
}

function absent(error: unknown): undefined {
  if (error instanceof KubeError && error.code === 404) return undefined
  throw error
}
