/**
 * What somebody needs who is to find out from afar why a pair does what it does: its objects, what status says, Events, the ends of the
 * logs, metrics, versions. Secrets are not asked for, and every text goes through `withoutSecrets`.
 *
 * What cannot be had (a right that is missing, a pod that does not answer) is listed in `missing.txt`; the rest is there all the same.
 */
import { stringify } from 'yaml'
import { kinds } from '../../api/v1alpha1/kinds.ts'
import type { KubeApi, KubeObject, Resource } from '../../edge/kube/api.ts'
import {
  BUDGETS_V1,
  CLAIMS,
  EVENTS,
  FILER_PAIRS,
  LEASES,
  NODES,
  PERSISTENT_VOLUMES,
  PODS,
  ROLES,
  ROLE_BINDINGS,
  SERVICES,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
  STORAGE_CLASSES,
} from '../../edge/kube/resources.ts'
import { pairStatus } from './pair-status.ts'
import { withoutSecrets } from './secrets.ts'

/** What is not in the API's objects, and is got in another way from a cluster than from an embedded instance. */
export interface Sources {
  /** Of the server, in one line. */
  version(): Promise<string>
  /** Names of logs and how to read the last lines of each. */
  logs(pods: readonly KubeObject[]): Promise<ReadonlyMap<string, () => Promise<string>>>
  metrics(pod: KubeObject): Promise<string>
}

export interface ReportOptions {
  readonly namespace: string
  /** undefined: every pair of the namespace. */
  readonly pair: string | undefined
  /** Of what made this report. */
  readonly versions: Readonly<Record<string, string>>
  readonly nowMs: number
}

const PAIR_LABEL = 'tandem.storage/pair'
const OF_PAIRS: readonly Resource[] = [
  PODS,
  STATEFUL_SETS,
  SERVICES,
  CLAIMS,
  BUDGETS_V1,
  SERVICE_ACCOUNTS,
  ROLES,
  ROLE_BINDINGS,
]
const OF_CLUSTER: readonly Resource[] = [STORAGE_CLASSES, NODES]

/** Files by name. */
export async function gatherReport(
  api: KubeApi,
  sources: Sources,
  options: ReportOptions,
): Promise<Map<string, string>> {
  const { namespace, pair, versions, nowMs } = options
  const files = new Map<string, string>()
  const missing: string[] = []
  const attempt = async <T>(what: string, get: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await get()
    } catch (error) {
      missing.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
      return undefined
    }
  }
  const put = (name: string, text: string): void => void files.set(name, withoutSecrets(text))
  const list = (resource: Resource, labelSelector?: string): Promise<KubeObject[]> =>
    api
      .list(resource, {
        ...(resource.namespaced ? { namespace } : {}),
        ...(labelSelector === undefined ? {} : { labelSelector }),
      })
      .then(({ items }) => items)

  const own = new Map<string, KubeObject[]>()
  for (const kind of kinds) {
    const resource = {
      group: kind.group,
      version: 'v1alpha1',
      plural: kind.plural,
      kind: kind.kind,
      namespaced: true,
    }
    own.set(kind.kind, (await attempt(kind.plural, () => list(resource))) ?? [])
  }
  const pairs = own
    .get(FILER_PAIRS.kind)!
    .filter(({ metadata }) => pair === undefined || metadata.name === pair)
  if (pairs.length === 0)
    throw new Error(
      pair === undefined ? `no pair in namespace ${namespace}` : `no pair ${pair} in namespace ${namespace}`,
    )
  own.set(FILER_PAIRS.kind, pairs)
  for (const [kind, objects] of own) if (objects.length > 0) put(`objects/${kind}.yaml`, yaml(objects))
  const volumes = own.get('FilerVolume') ?? []
  put(
    'status.txt',
    pairs
      .map((object) =>
        pairStatus(
          object,
          volumes.filter((v) => (v['spec'] as { pairName?: string }).pairName === object.metadata.name),
          nowMs,
        ),
      )
      .join('\n\n'),
  )

  const selector = pair === undefined ? PAIR_LABEL : `${PAIR_LABEL}=${pair}`
  const pods: KubeObject[] = []
  for (const resource of OF_PAIRS) {
    const objects = (await attempt(resource.plural, () => list(resource, selector))) ?? []
    if (resource === PODS) pods.push(...objects)
    if (objects.length > 0) put(`objects/${resource.kind}.yaml`, yaml(objects))
  }
  const leases: KubeObject[] = []
  for (const { metadata } of pairs) {
    const lease = await attempt(`Lease ${metadata.name}`, () => api.get(LEASES, namespace, metadata.name))
    if (lease !== undefined) leases.push(lease)
  }
  put('objects/Lease.yaml', yaml(leases))
  for (const resource of OF_CLUSTER) {
    const objects = await attempt(resource.plural, () => list(resource))
    if (objects !== undefined) put(`objects/${resource.kind}.yaml`, yaml(objects))
  }
  const bound: KubeObject[] = []
  for (const volume of volumes) {
    const { claimName } = volume['spec'] as { claimName?: string }
    const name = `tandem-${volume.metadata.uid ?? ''}`
    if (claimName === undefined) continue
    const found = await attempt(`PersistentVolume ${name}`, () => api.get(PERSISTENT_VOLUMES, '', name))
    if (found !== undefined) bound.push(found)
  }
  if (bound.length > 0) put('objects/PersistentVolume.yaml', yaml(bound))
  const events = await attempt('events', () => list(EVENTS))
  if (events !== undefined) put('events.yaml', yaml(events))

  const logs = await attempt('logs', () => sources.logs(pods))
  for (const [name, read] of logs ?? []) {
    const text = await attempt(`log of ${name}`, read)
    if (text !== undefined) put(`logs/${name}.log`, text)
  }
  for (const pod of pods) {
    const { name } = pod.metadata
    const text = await attempt(`metrics of ${name}`, () => sources.metrics(pod))
    if (text !== undefined) put(`metrics/${name}.txt`, text)
  }
  const server = (await attempt('version of the server', () => sources.version())) ?? 'unknown'
  put(
    'versions.txt',
    Object.entries({ ...versions, server, 'report of': new Date(nowMs).toISOString(), namespace })
      .map(([what, version]) => `${what}: ${version}\n`)
      .join(''),
  )
  if (missing.length > 0) put('missing.txt', missing.join('\n') + '\n')
  return files
}

/** Without who wrote what, and without the copies of whole objects that kubectl leaves in them. */
function yaml(objects: readonly KubeObject[]): string {
  return objects
    .map((object) => {
      const { annotations = {}, ...metadata } = object.metadata as KubeObject['metadata'] & {
        managedFields?: unknown
      }
      delete metadata.managedFields
      const { ['kubectl.kubernetes.io/last-applied-configuration']: _, ...kept } = annotations
      return stringify({ ...object, metadata: { ...metadata, annotations: kept } }, { lineWidth: 0 })
    })
    .join('---\n')
}
