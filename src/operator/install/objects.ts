/**
 * What an installation consists of besides the definitions of the kinds, once for manifests/install.yaml and once for the chart: there
 * every setting is a template expression in place of its value.
 */
import { LABEL_FILER, LABEL_PAIR, PORTS, USER } from '../names.ts'

type Json = Record<string, unknown>

/** What a person may set. In the chart each is a placeholder (see template.ts). */
export interface Settings {
  readonly namespace: string
  readonly image: string
  readonly imagePullPolicy: string
  readonly replicas: unknown
  readonly resources: unknown
  readonly nodeSelector: unknown
  readonly tolerations: unknown
  readonly imagePullSecrets: unknown
  readonly priorityClassName: string
  /** Comma-separated; empty: all. */
  readonly watchNamespaces: string
}

export const NAME = 'tandem-operator'
const LABELS = {
  'app.kubernetes.io/name': 'tandem',
  'app.kubernetes.io/component': 'operator',
}

/** Rules in each namespace that is watched. Whoever grants a permission must have it: filers' are among them. */
export const watchedRules: readonly Json[] = [
  rule(
    'tandem.storage',
    ['filerpairs', 'filervolumes', 'mirrors', 'conversions'],
    ['get', 'list', 'watch', 'patch', 'update'],
  ),
  rule(
    'tandem.storage',
    ['filerpairs/status', 'filervolumes/status', 'mirrors/status', 'conversions/status'],
    ['get', 'patch', 'update'],
  ),
  rule(
    'tandem.storage',
    ['filerpairs/finalizers', 'filervolumes/finalizers', 'mirrors/finalizers', 'conversions/finalizers'],
    ['update'],
  ),
  rule('', ['pods'], ['get', 'list', 'watch', 'patch', 'delete']),
  rule(
    '',
    ['services', 'secrets', 'serviceaccounts', 'persistentvolumeclaims'],
    ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete'],
  ),
  rule('', ['events'], ['create', 'patch']),
  rule('apps', ['statefulsets'], ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete']),
  rule('coordination.k8s.io', ['leases'], ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete']),
  rule('policy', ['poddisruptionbudgets'], ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete']),
  rule(
    'rbac.authorization.k8s.io',
    ['roles', 'rolebindings'],
    ['get', 'list', 'watch', 'create', 'patch', 'update', 'delete'],
  ),
]

/**
 * What is not in any namespace: read to explain what is wrong, and PersistentVolumes of volumes with a claim. Those are got by name: the
 * operator may neither list nor watch anybody's.
 */
export const clusterRules: readonly Json[] = [
  rule('', ['persistentvolumes'], ['get', 'create', 'patch', 'delete']),
  rule('', ['namespaces', 'nodes'], ['get']),
  rule('storage.k8s.io', ['storageclasses'], ['get', 'list']),
]

/** In the operator's own namespace: the leader's Lease. */
export const ownRules: readonly Json[] = [
  rule('coordination.k8s.io', ['leases'], ['get', 'create', 'update']),
]

function rule(group: string, resources: string[], verbs: string[]): Json {
  return { apiGroups: [group], resources, verbs }
}

export function namespaceObject(settings: Settings): Json {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: settings.namespace,
      labels: {
        'app.kubernetes.io/name': 'tandem',
        'pod-security.kubernetes.io/enforce': 'restricted',
      },
    },
  }
}

function namespaced(settings: Settings, kind: string, apiVersion: string, body: Json): Json {
  return {
    apiVersion,
    kind,
    metadata: { name: NAME, namespace: settings.namespace, labels: LABELS },
    ...body,
  }
}

export function role(
  kind: 'ClusterRole' | 'Role',
  name: string,
  namespace: string | undefined,
  rules: readonly Json[],
): Json {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), labels: LABELS },
    rules: [...rules],
  }
}

export function binding(
  kind: 'ClusterRole' | 'Role',
  name: string,
  namespace: string | undefined,
  settings: Settings,
): Json {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: `${kind}Binding`,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), labels: LABELS },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name },
    subjects: [{ kind: 'ServiceAccount', name: NAME, namespace: settings.namespace }],
  }
}

export function serviceAccount(settings: Settings): Json {
  return namespaced(settings, 'ServiceAccount', 'v1', {})
}

export function metricsService(settings: Settings): Json {
  return namespaced(settings, 'Service', 'v1', {
    spec: {
      selector: LABELS,
      ports: [{ name: 'metrics', protocol: 'TCP', port: PORTS.metrics, targetPort: 'metrics' }],
    },
  })
}

export function deployment(settings: Settings): Json {
  const probe = (path: string, periodSeconds: number): Json => ({
    httpGet: { path, port: 'metrics' },
    periodSeconds,
  })
  return namespaced(settings, 'Deployment', 'apps/v1', {
    spec: {
      replicas: settings.replicas,
      selector: { matchLabels: LABELS },
      template: {
        metadata: { labels: LABELS },
        spec: {
          serviceAccountName: NAME,
          priorityClassName: settings.priorityClassName,
          nodeSelector: settings.nodeSelector,
          tolerations: settings.tolerations,
          imagePullSecrets: settings.imagePullSecrets,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: USER,
            runAsGroup: USER,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          containers: [
            {
              name: 'operator',
              image: settings.image,
              imagePullPolicy: settings.imagePullPolicy,
              args: ['operator'],
              env: [
                { name: 'TANDEM_IMAGE', value: settings.image },
                { name: 'WATCH_NAMESPACES', value: settings.watchNamespaces },
                field('POD_NAME', 'metadata.name'),
                field('POD_NAMESPACE', 'metadata.namespace'),
                field('POD_IP', 'status.podIP'),
                // What lives shortly (answers of the API) takes little memory, so that the limit is left to what is kept.
                { name: 'NODE_OPTIONS', value: '--max-semi-space-size=8' },
              ],
              ports: [{ name: 'metrics', containerPort: PORTS.metrics, protocol: 'TCP' }],
              livenessProbe: probe('/livez', 10),
              readinessProbe: probe('/readyz', 2),
              resources: settings.resources,
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ['ALL'] },
              },
            },
          ],
        },
      },
    },
  })
}

function field(name: string, fieldPath: string): Json {
  return { name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } }
}

/** For the Prometheus operator: this operator. */
export function serviceMonitor(settings: Settings): Json {
  return {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'ServiceMonitor',
    metadata: { name: 'tandem', namespace: settings.namespace, labels: LABELS },
    spec: { selector: { matchLabels: LABELS }, endpoints: [{ port: 'metrics', interval: '15s' }] },
  }
}

/** For the Prometheus operator: every filer, ready or not, with the names by which the rules tell them apart. */
export function podMonitor(settings: Settings): Json {
  const named = (label: string, targetLabel: string): Json => ({
    sourceLabels: [`__meta_kubernetes_pod_label_${label.replaceAll(/[^a-z]/g, '_')}`],
    targetLabel,
  })
  return {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PodMonitor',
    metadata: { name: 'tandem-filers', namespace: settings.namespace, labels: LABELS },
    spec: {
      namespaceSelector: { any: true },
      selector: { matchExpressions: [{ key: LABEL_FILER, operator: 'Exists' }] },
      podMetricsEndpoints: [
        {
          port: 'metrics',
          interval: '15s',
          relabelings: [named(LABEL_PAIR, 'pair'), named(LABEL_FILER, 'filer')],
        },
      ],
    },
  }
}

/** For the Prometheus operator: the rules of rules/tandem.yaml (alerts.ts). */
export function prometheusRule(settings: Settings, spec: unknown): Json {
  return {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'tandem', namespace: settings.namespace, labels: LABELS },
    spec,
  }
}

export interface ClientNodeSettings {
  readonly namespace: string
  readonly seconds: string
  readonly nodeSelector: unknown
  readonly tolerations: unknown
}

/** On nodes with NFS clients. Files of /proc/sys are read-only in a pod that is not privileged, and those of the node are in its network namespace. */
export function clientNodes(
  settings: Settings,
  { namespace, seconds, nodeSelector, tolerations }: ClientNodeSettings,
): Json {
  const labels = { 'app.kubernetes.io/name': 'tandem', 'app.kubernetes.io/component': 'client-node' }
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'tandem-client-nodes', namespace, labels },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          hostNetwork: true,
          automountServiceAccountToken: false,
          nodeSelector,
          tolerations,
          imagePullSecrets: settings.imagePullSecrets,
          containers: [
            {
              name: 'client-node',
              image: settings.image,
              imagePullPolicy: settings.imagePullPolicy,
              args: ['client-node', '--seconds', seconds],
              resources: { requests: { cpu: '1m', memory: '64Mi' }, limits: { memory: '128Mi' } },
              securityContext: { privileged: true, runAsUser: 0, readOnlyRootFilesystem: true },
            },
          ],
        },
      },
    },
  }
}
