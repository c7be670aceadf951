/**
 * What suites against a real API server (`*.api.ts`, run by `make api`) share: the server of KUBECONFIG with manifests/install.yaml in it,
 * a namespace for each test, the operator acting as its service account, and kubelet's part, for there is no kubelet.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, jest } from '@jest/globals'
import { parseAllDocuments } from 'yaml'
import type { FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { MirrorStatus } from '../../api/v1alpha1/mirror.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import { KubeError } from '../../edge/kube/api.ts'
import { KubeClient } from '../../edge/kube/client.ts'
import { kubeconfigConnection } from '../../edge/kube/kubeconfig.ts'
import {
  CONVERSIONS,
  FILER_PAIRS,
  FILER_VOLUMES,
  MIRRORS,
  NAMESPACES,
  PODS,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import { Operator } from '../operator.ts'
import { MANAGER } from '../runtime/executor.ts'
import { FakeFiler, FakeFilers, wellStatus } from './fake-filers.ts'

jest.setTimeout(60_000)

/** Our kinds. */
export const OURS: Readonly<Record<string, Resource>> = {
  FilerPair: FILER_PAIRS,
  FilerVolume: FILER_VOLUMES,
  Mirror: MIRRORS,
  Conversion: CONVERSIONS,
}

const checkout = join(import.meta.dirname, '../../..')
export const documents = (path: string): KubeObject[] =>
  parseAllDocuments(readFileSync(join(checkout, path), 'utf8'))
    .map((d) => d.toJS() as KubeObject | null)
    .filter((o) => o !== null)
export const [sample] = documents('manifests/samples/filer-pair.yaml') as [KubeObject]
export const [sampleVolume] = documents('manifests/samples/filer-volume.yaml') as [KubeObject]

export let admin: KubeClient
export let asOperator: KubeClient
export let namespaceNumber = 0
const run = Date.now().toString(36)
export let namespace = ''
export let operator: Operator | undefined
const filers = new FakeFilers()
const logged: string[] = []
export let passes: { key: string; writes: number; error?: unknown }[] = []

beforeAll(async () => {
  const { connection } = await kubeconfigConnection()
  admin = new KubeClient(connection, { fieldManager: 'test' })
  const impersonate = 'system:serviceaccount:tandem-system:tandem-operator'
  asOperator = new KubeClient({ ...connection, impersonate }, { fieldManager: MANAGER })
  for (const object of documents('manifests/install.yaml')) await put(object)
  for (const resource of Object.values(OURS))
    await until(
      () => admin.list(resource),
      () => true,
    )
})

afterEach(async () => {
  await operator?.stop()
  operator = undefined
})

afterAll(() => {
  admin.close()
  asOperator.close()
})

/** Not server-side apply, which old servers refuse for definitions with fields that they do not know. */
async function put(object: KubeObject): Promise<void> {
  const resource = resourceFor(object)
  try {
    await admin.create(resource, object)
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 409) throw error
    if (object.kind === 'Namespace') return
    await admin.mergePatch(resource, object.metadata.namespace ?? '', object.metadata.name, object)
  }
}

function resourceFor(object: KubeObject): Resource {
  const [group, version] = object.apiVersion.includes('/')
    ? (object.apiVersion.split('/') as [string, string])
    : ['', object.apiVersion]
  const cluster = ['Namespace', 'CustomResourceDefinition', 'ClusterRole', 'ClusterRoleBinding']
  return {
    group,
    version,
    kind: object.kind,
    plural: `${object.kind.toLowerCase()}s`,
    namespaced: !cluster.includes(object.kind),
  }
}

/** The cluster's own controller of volumes looks at all of them again only every 15 s. */
export const BINDING_MS = 60_000

/** Repeats `read` until it answers and `good` likes the answer. */
export async function until<T>(
  read: () => Promise<T>,
  good: (value: T) => boolean,
  limitMs = 20_000,
): Promise<T> {
  const endMs = performance.now() + limitMs
  for (;;) {
    let last: unknown
    try {
      const value = await read()
      if (good(value)) return value
      last = value
    } catch (error) {
      last = error
    }
    if (performance.now() > endMs)
      throw new Error(
        `not in time; last: ${last instanceof Error ? last.message : JSON.stringify(last)}\n${logged.slice(-5).join('\n')}`,
      )
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

export async function freshNamespace(): Promise<void> {
  namespace = `api-${run}-${++namespaceNumber}`
  await admin.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
}

export async function startOperator(): Promise<void> {
  passes = []
  operator = new Operator({
    api: asOperator,
    connect: filers.connect,
    image: 'tandem:test',
    namespaces: [namespace],
    log: (message) => logged.push(message),
    onPass: (key, result) => passes.push({ key, ...result }),
  })
  await operator.start()
}

export const inNamespace = (
  object: KubeObject,
  spec: object = {},
  name = object.metadata.name,
): KubeObject => ({
  ...object,
  metadata: { name, namespace },
  spec: { ...(object['spec'] as object), ...spec },
})
export const create = (object: KubeObject): Promise<KubeObject> => admin.create(OURS[object.kind]!, object)
export const pairStatus = async (name = 'east'): Promise<FilerPairStatus> =>
  (await admin.get(FILER_PAIRS, namespace, name))['status'] ?? {}
export const volumeStatus = async (name = 'home'): Promise<FilerVolumeStatus> =>
  (await admin.get(FILER_VOLUMES, namespace, name))['status'] ?? {}

export const mirrorStatus = async (name: string): Promise<MirrorStatus> =>
  (await admin.get(MIRRORS, namespace, name))['status'] ?? {}

type AnyStatus = FilerPairStatus | FilerVolumeStatus | MirrorStatus

export function condition(status: AnyStatus, type: string) {
  return status.conditions?.find((c) => c.type === type)
}
export const isReason = (type: string, reason: string) => (status: AnyStatus) =>
  condition(status, type)?.reason === reason

export async function names(resource: Resource): Promise<string[]> {
  const { items } = await admin.list(resource, { namespace })
  return items.map((i) => i.metadata.name).sort()
}

/** Kubelet's part: the pod of a filer runs and has an address at which a filer answers. */
export async function runPod(filer: string, address: string, fake: FakeFiler, pair = 'east'): Promise<void> {
  filers.set(`${address}:7401`, fake)
  const set = await until(
    () => admin.get(STATEFUL_SETS, namespace, `${pair}-${filer}`),
    () => true,
  )
  const template = (set['spec'] as { template: { metadata: KubeObject['metadata']; spec: object } }).template
  const name = `${pair}-${filer}-0`
  await admin.create(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: template.metadata.labels ?? {},
      annotations: template.metadata.annotations ?? {},
    },
    spec: template.spec,
  })
  await admin.mergePatch(PODS, namespace, name, { status: { phase: 'Running', podIP: address } }, 'status')
}

export async function runBoth(pair = 'east', first = 1): Promise<[FakeFiler, FakeFiler]> {
  const a = new FakeFiler(wellStatus('a'))
  const b = new FakeFiler(wellStatus('b'))
  await runPod('a', `127.9.${namespaceNumber}.${first}`, a, pair)
  await runPod('b', `127.9.${namespaceNumber}.${first + 1}`, b, pair)
  return [a, b]
}
