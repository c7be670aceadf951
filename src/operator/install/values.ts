/** The settings of the chart: default, type and meaning once, for values.yaml, values.schema.json and install.yaml. */
import { RUNBOOKS } from './alerts.ts'

export const APP_VERSION = '0.1.0'

interface Setting {
  readonly description: string
  readonly schema: Record<string, unknown>
  readonly value: unknown
}

export const SETTINGS: Readonly<Record<string, Setting>> = {
  image: {
    description:
      'Image of the operator and, unless a pair names another, of the filers. Put it where your nodes can pull it.',
    schema: { type: 'string', minLength: 1 },
    value: `tandem:${APP_VERSION}`,
  },
  imagePullPolicy: {
    description: 'When nodes pull it.',
    schema: { type: 'string', enum: ['IfNotPresent', 'Always', 'Never'] },
    value: 'IfNotPresent',
  },
  imagePullSecrets: {
    description: 'Secrets to pull it with: [{name: …}].',
    schema: { type: 'array', items: { type: 'object', required: ['name'] } },
    value: [],
  },
  replicas: {
    description: 'Operators; one leads, the others wait. Filers need none to serve or to take over.',
    schema: { type: 'integer', minimum: 0 },
    value: 1,
  },
  watchNamespaces: {
    description:
      'Namespaces whose pairs the operator looks after; empty: all. With names it gets Roles in these and no ClusterRole.',
    schema: { type: 'array', items: { type: 'string' } },
    value: [],
  },
  resources: {
    description: 'Resources of the operator.',
    schema: { type: 'object' },
    value: { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '256Mi' } },
  },
  nodeSelector: { description: 'Nodes of the operator.', schema: { type: 'object' }, value: {} },
  tolerations: { description: 'Tolerations of the operator.', schema: { type: 'array' }, value: [] },
  priorityClassName: { description: 'PriorityClass of the operator.', schema: { type: 'string' }, value: '' },
  crds: {
    description:
      'Definitions of the kinds: whether the chart brings them, and whether they (and with them every pair) outlive it.',
    schema: {
      type: 'object',
      additionalProperties: false,
      properties: { enabled: { type: 'boolean' }, keep: { type: 'boolean' } },
    },
    value: { enabled: true, keep: true },
  },
  serviceMonitor: {
    description:
      'For the Prometheus operator: a ServiceMonitor of the operator and a PodMonitor of all filers.',
    schema: { type: 'object', additionalProperties: false, properties: { enabled: { type: 'boolean' } } },
    value: { enabled: false },
  },
  prometheusRule: {
    description: 'A PrometheusRule with the alerts, and where their runbooks are (docs/runbooks.md).',
    schema: {
      type: 'object',
      additionalProperties: false,
      properties: { enabled: { type: 'boolean' }, runbooks: { type: 'string' } },
    },
    value: { enabled: false, runbooks: RUNBOOKS },
  },
  clientNodes: {
    description:
      'A DaemonSet that lowers two limits of every node with NFS clients, so that they leave a lost node within seconds (docs/nfs.md). Its pods are privileged and use the node’s network, so they are in a namespace where that is allowed.',
    schema: {
      type: 'object',
      additionalProperties: false,
      properties: {
        enabled: { type: 'boolean' },
        namespace: { type: 'string', minLength: 1 },
        seconds: { type: 'integer', minimum: 1, maximum: 300 },
        nodeSelector: { type: 'object' },
        tolerations: { type: 'array' },
      },
    },
    value: {
      enabled: false,
      namespace: 'kube-system',
      seconds: 2,
      nodeSelector: {},
      tolerations: [{ operator: 'Exists' }],
    },
  },
  dashboard: {
    description: 'A ConfigMap with the Grafana dashboard, found by Grafana’s sidecar by its label.',
    schema: {
      type: 'object',
      additionalProperties: false,
      properties: { enabled: { type: 'boolean' }, label: { type: 'string' } },
    },
    value: { enabled: false, label: 'grafana_dashboard' },
  },
}

export function valuesSchema(): Record<string, unknown> {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the chart tandem',
    type: 'object',
    // Helm adds `global` to the values of charts that are part of another.
    additionalProperties: false,
    properties: {
      global: { type: 'object' },
      ...Object.fromEntries(
        Object.entries(SETTINGS).map(([name, s]) => [name, { description: s.description, ...s.schema }]),
      ),
    },
  }
}
