/**
 * The pod of a filer. It meets the Pod Security profile `restricted`: an ordinary user, no capability, a root that is read-only. All
 * that the filer must know is in the template, so a pod comes back without the operator.
 */
import { createHash } from 'node:crypto'
import { formatBytes, quantityBytes } from '../../api/quantity.ts'
import type { FilerPodConfig } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { ANNOTATION_NETWORKS, ANNOTATION_TEMPLATE, LABEL_PAIR, PORTS, USER, namesOf } from '../names.ts'
import { claimOf, devicesOf, poolsOf } from './accepted.ts'
import type { AcceptedPair, PoolDevice } from './accepted.ts'

type Json = Record<string, unknown>

/** What a pod has beside its cache and logs in memory: code, log buffers, connections. */
const MEMORY_EXTRA_BYTES = 512 * 2 ** 20
/** The most that objects of a filer with a small cache may take, and what share of a large cache they may take beside: four times what they do. */
const OBJECTS_MIB = 512
const OBJECTS_SHARE = 4

/**
 * What keeps a filer within that: a small nursery for short-lived objects, and memory that goes back to the host when it is free. Without
 * these, as much again as a small cache was held and not used. The limit for objects is there for what follows from it: V8 lets garbage grow to four times
 * what lives if it may have 2 GiB and more, and to half as much again if it may have little.
 */
export function frugal(cacheBytes: number): { name: string; value: string }[] {
  const objects = OBJECTS_MIB + Math.ceil(cacheBytes / OBJECTS_SHARE / 2 ** 20)
  return [
    { name: 'NODE_OPTIONS', value: `--max-semi-space-size=8 --max-old-space-size=${objects}` },
    { name: 'MALLOC_ARENA_MAX', value: '1' },
    { name: 'MALLOC_MMAP_THRESHOLD_', value: '131072' },
    { name: 'MALLOC_TRIM_THRESHOLD_', value: '131072' },
  ]
}
/** Part of a Filesystem claim that its one file may take: the rest is the file system's own. */
const FILESYSTEM_SHARE = 0.93
const DEVICE_STEP_BYTES = 2 ** 20

export function filerConfig(pair: AcceptedPair, filer: string): FilerPodConfig {
  const names = namesOf(pair.name)
  const { spec } = pair
  const filers = spec.filers.map((f) => f.name)
  return {
    namespace: pair.namespace,
    pair: pair.name,
    pairUid: pair.id,
    filer,
    partner: filers.find((f) => f !== filer)!,
    interconnects: spec.interconnects.map((i) => ({ name: i.name })),
    aggregates: poolsOf(pair).map((pool) => ({
      name: pool.name,
      filer: pool.filer,
      ...(pool.volume === undefined ? {} : { type: 'Traditional' as const }),
      deviceSets: pool.deviceSets.map((s) => ({
        name: s.name,
        count: s.count,
        sizeBytes: deviceBytes(quantityBytes(s.size), s.volumeMode),
        volumeMode: s.volumeMode,
      })),
    })),
    log: { sizeBytes: quantityBytes(spec.log.size), durability: spec.log.durability },
    cacheBytes: quantityBytes(spec.cacheSize),
    lease: names.lease,
    services: Object.fromEntries(filers.map((f) => [f, names.service(f)])),
    pods: Object.fromEntries(filers.map((f) => [f, names.pod(f)])),
  }
}

function deviceBytes(claimBytes: number, volumeMode: 'Filesystem' | 'Block'): number {
  const bytes = volumeMode === 'Block' ? claimBytes : claimBytes * FILESYSTEM_SHARE
  return Math.floor(bytes / DEVICE_STEP_BYTES) * DEVICE_STEP_BYTES
}

export function podTemplate(
  pair: AcceptedPair,
  filer: string,
  operatorImage: string,
  labels: Record<string, string>,
): Json {
  const { podTemplate: extra } = pair.spec
  const networks = networksAnnotation(pair.spec)
  const template = {
    metadata: {
      labels: { ...extra.labels, ...labels },
      annotations: {
        ...extra.annotations,
        ...(networks === undefined ? {} : { [ANNOTATION_NETWORKS]: networks }),
      },
    },
    spec: podSpec(pair, filer, operatorImage),
  }
  const hash = createHash('sha256').update(JSON.stringify(template)).digest('hex').slice(0, 16)
  return {
    ...template,
    metadata: {
      ...template.metadata,
      annotations: { ...template.metadata.annotations, [ANNOTATION_TEMPLATE]: hash },
    },
  }
}

/** Asks for interfaces by name: a filer finds its addresses by the name of the interface. */
function networksAnnotation(spec: FilerPairSpec): string | undefined {
  const wanted = spec.interconnects.flatMap((i) =>
    i.networkAttachment === undefined ? [] : [{ ...i.networkAttachment, interface: i.name }],
  )
  return wanted.length === 0 ? undefined : JSON.stringify(wanted)
}

function podSpec(pair: AcceptedPair, filer: string, operatorImage: string): Json {
  const { spec } = pair
  const { podTemplate: extra } = spec
  const names = namesOf(pair.name)
  const nodeSelector = spec.filers.find((f) => f.name === filer)?.nodeSelector
  return {
    serviceAccountName: names.account(filer),
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 30,
    ...(nodeSelector === undefined ? {} : { nodeSelector }),
    ...(extra.tolerations === undefined ? {} : { tolerations: extra.tolerations }),
    ...(extra.priorityClassName === undefined ? {} : { priorityClassName: extra.priorityClassName }),
    ...(extra.imagePullSecrets === undefined ? {} : { imagePullSecrets: extra.imagePullSecrets }),
    affinity: { podAntiAffinity: antiAffinity(pair) },
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
      ...(extra.supplementalGroups === undefined ? {} : { supplementalGroups: extra.supplementalGroups }),
    },
    containers: [container(pair, filer, operatorImage)],
    volumes: [
      { name: 'log', persistentVolumeClaim: { claimName: names.logClaim(filer) } },
      { name: 'tls', secret: { secretName: names.tls(filer), defaultMode: 0o440 } },
      ...devices(pair).map((d) => ({
        name: `dev-${d.name}`,
        persistentVolumeClaim: { claimName: claimOf(pair, filer, d) },
      })),
    ],
  }
}

function antiAffinity(pair: AcceptedPair): Json {
  const { spread, topologyKey } = pair.spec.placement
  const term = { labelSelector: { matchLabels: { [LABEL_PAIR]: pair.name } }, topologyKey }
  return spread === 'Required'
    ? { requiredDuringSchedulingIgnoredDuringExecution: [term] }
    : { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }] }
}

function container(pair: AcceptedPair, filer: string, operatorImage: string): Json {
  const { spec } = pair
  const logs = spec.log.durability === 'Memory' ? 2 * quantityBytes(spec.log.size) : 0
  const memory = formatBytes(quantityBytes(spec.cacheSize) + MEMORY_EXTRA_BYTES + logs)
  const probe = (path: string) => ({ httpGet: { path, port: 'metrics' } })
  const all = devices(pair)
  const block = all.filter((d) => d.set.volumeMode === 'Block')
  return {
    name: 'filer',
    image: spec.image ?? operatorImage,
    imagePullPolicy: 'IfNotPresent',
    args: ['filer'],
    env: [
      { name: 'TANDEM_FILER_CONFIG', value: JSON.stringify(filerConfig(pair, filer)) },
      { name: 'POD_IP', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.podIP' } } },
      { name: 'POD_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } },
      ...frugal(quantityBytes(spec.cacheSize)),
    ],
    ports: Object.entries(PORTS).map(([name, containerPort]) => ({
      name: name === 'administration' ? 'admin' : name,
      containerPort,
      protocol: 'TCP',
    })),
    resources: {
      requests: { memory, ...(spec.podTemplate.cpu === undefined ? {} : { cpu: spec.podTemplate.cpu }) },
      limits: { memory },
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    // A replay may take long; whether a filer is alive is asked only afterwards.
    startupProbe: { ...probe('/livez'), periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 3600 },
    livenessProbe: { ...probe('/livez'), periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 6 },
    readinessProbe: { ...probe('/readyz'), periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2 },
    volumeMounts: [
      { name: 'log', mountPath: '/var/lib/tandem/log' },
      { name: 'tls', mountPath: '/etc/tandem/tls', readOnly: true },
      ...all
        .filter((d) => d.set.volumeMode === 'Filesystem')
        .map((d) => ({ name: `dev-${d.name}`, mountPath: `/var/lib/tandem/devices/${d.name}` })),
    ],
    ...(block.length === 0
      ? {}
      : {
          volumeDevices: block.map((d) => ({
            name: `dev-${d.name}`,
            devicePath: `/var/lib/tandem/devices/${d.name}`,
          })),
        }),
  }
}

function devices(pair: AcceptedPair): PoolDevice[] {
  return poolsOf(pair).flatMap(devicesOf)
}
