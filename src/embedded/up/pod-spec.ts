/**
 * What the stand-ins read of pods, templates, claims and services: the few fields they act on, and how a pod's container becomes a
 * process. Pure.
 */
import type { KubeObject } from '../../edge/kube/api.ts'

export interface Container {
  readonly name: string
  readonly args?: readonly string[]
  readonly env?: readonly {
    readonly name: string
    readonly value?: string
    readonly valueFrom?: { readonly fieldRef?: { readonly fieldPath: string } }
  }[]
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[]
  readonly volumeDevices?: readonly { readonly name: string; readonly devicePath: string }[]
  readonly readinessProbe?: { readonly httpGet?: { readonly path?: string; readonly port?: number | string } }
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[]
}

export interface PodSpec {
  readonly nodeName?: string
  readonly containers: readonly Container[]
  readonly volumes?: readonly {
    readonly name: string
    readonly persistentVolumeClaim?: { readonly claimName: string }
    readonly secret?: {
      readonly secretName: string
      readonly items?: readonly { key: string; path: string }[]
    }
    readonly emptyDir?: unknown
  }[]
  readonly terminationGracePeriodSeconds?: number
}

export const NODE_NAME = 'embedded'

export function podSpec(pod: KubeObject): PodSpec {
  return pod['spec'] as PodSpec
}

/** The values of the container's environment; fieldRefs are those of the downward API that filers use. */
export function environment(pod: KubeObject, container: Container, podIp: string): Record<string, string> {
  const fields: Readonly<Record<string, string | undefined>> = {
    'metadata.name': pod.metadata.name,
    'metadata.namespace': pod.metadata.namespace,
    'metadata.uid': pod.metadata.uid,
    'spec.nodeName': NODE_NAME,
    'status.podIP': podIp,
    'status.hostIP': '127.0.0.1',
  }
  const result: Record<string, string> = {}
  for (const { name, value, valueFrom } of container.env ?? [])
    result[name] = value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''] ?? ''
  return result
}

/** What the pod's filer is called in, as its configuration says; undefined for a pod that is no filer. */
export interface FilerIdentity {
  readonly namespace: string
  readonly pair: string
  readonly filer: string
  readonly partner: string
  readonly interconnects: readonly string[]
}

export function filerIdentity(pod: KubeObject): FilerIdentity | undefined {
  for (const container of podSpec(pod).containers) {
    const value = container.env?.find((variable) => variable.name === 'TANDEM_FILER_CONFIG')?.value
    if (value === undefined) continue
    const config = JSON.parse(value) as Omit<FilerIdentity, 'interconnects'> & {
      interconnects: { name: string }[]
    }
    return { ...config, interconnects: config.interconnects.map((interconnect) => interconnect.name) }
  }
  return undefined
}

/** Port and path that say whether the pod is ready. */
export function readinessTarget(container: Container): { port: number; path: string } {
  const get = container.readinessProbe?.httpGet
  const port =
    typeof get?.port === 'string'
      ? container.ports?.find((candidate) => candidate.name === get.port)?.containerPort
      : get?.port
  return { port: port ?? 9400, path: get?.path ?? '/readyz' }
}

export function claimsOf(pod: KubeObject): string[] {
  return (podSpec(pod).volumes ?? []).flatMap((volume) =>
    volume.persistentVolumeClaim === undefined ? [] : [volume.persistentVolumeClaim.claimName],
  )
}

export function secretsOf(pod: KubeObject): string[] {
  return (podSpec(pod).volumes ?? []).flatMap((volume) =>
    volume.secret === undefined ? [] : [volume.secret.secretName],
  )
}

export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False'
  readonly reason?: string
  readonly message?: string
  readonly lastTransitionTime: string
}

/** `conditions` with the given ones in it; a transition time changes only with the status. */
export function withConditions(
  conditions: readonly Condition[],
  given: readonly Omit<Condition, 'lastTransitionTime'>[],
  now: string,
): Condition[] {
  const result = conditions.filter((old) => !given.some((condition) => condition.type === old.type))
  for (const condition of given) {
    const old = conditions.find((candidate) => candidate.type === condition.type)
    const since = old?.status === condition.status ? old.lastTransitionTime : now
    result.push({ ...condition, lastTransitionTime: since })
  }
  return result
}
