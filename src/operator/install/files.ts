/**
 * manifests/install.yaml and charts/tandem, from one source. Templates use little of Helm's language: values, `toJson`, `if` and
 * `range`, so that a test can render them and compare with install.yaml.
 */
import { stringify } from 'yaml'
import { customResourceDefinition } from '../../api/crd.ts'
import { kinds } from '../../api/v1alpha1/kinds.ts'
import { RUNBOOKS, ruleGroups } from './alerts.ts'
import { dashboard } from './dashboard.ts'
import {
  NAME,
  binding,
  clientNodes,
  clusterRules,
  deployment,
  metricsService,
  namespaceObject,
  ownRules,
  podMonitor,
  prometheusRule,
  role,
  serviceAccount,
  serviceMonitor,
  watchedRules,
} from './objects.ts'
import type { Settings } from './objects.ts'
import { APP_VERSION, SETTINGS, valuesSchema } from './values.ts'

const RULES = 'rules/tandem.yaml'
const HEADER = 'Written by `make gen` from src/operator/install; change it there.'

export function yaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false, singleQuote: true })
}

function documents(objects: readonly unknown[]): string {
  return objects.map(yaml).join('---\n')
}

function value<T>(name: string): T {
  return SETTINGS[name]!.value as T
}

const PLAIN: Settings = {
  namespace: 'tandem-system',
  image: value('image'),
  imagePullPolicy: value('imagePullPolicy'),
  imagePullSecrets: value('imagePullSecrets'),
  replicas: value('replicas'),
  resources: value('resources'),
  nodeSelector: value('nodeSelector'),
  tolerations: value('tolerations'),
  priorityClassName: value('priorityClassName'),
  watchNamespaces: '',
}

/** Everything in one file, for `kubectl apply -f`. */
export function installManifest(): string {
  const objects = [
    namespaceObject(PLAIN),
    ...kinds.map(customResourceDefinition),
    serviceAccount(PLAIN),
    role('ClusterRole', NAME, undefined, [...watchedRules, ...clusterRules]),
    binding('ClusterRole', NAME, undefined, PLAIN),
    role('Role', NAME, PLAIN.namespace, ownRules),
    binding('Role', NAME, PLAIN.namespace, PLAIN),
    metricsService(PLAIN),
    withoutEmpty(deployment(PLAIN)),
  ]
  return `# ${HEADER}\n# The image must be where your nodes can pull it: see docs/operator.md.\n${documents(objects)}`
}

/** An empty list or map in a pod says nothing. */
function withoutEmpty(object: Record<string, unknown>): Record<string, unknown> {
  const copy = structuredClone(object) as {
    spec: { template: { spec: Record<string, unknown> } }
  } & Record<string, unknown>
  const pod = copy.spec.template.spec
  for (const [key, inner] of Object.entries(pod))
    if (inner === '' || (typeof inner === 'object' && inner !== null && Object.keys(inner).length === 0))
      delete pod[key]
  return copy
}

/** A placeholder that becomes a template expression once the YAML is text. */
const expression = (text: string): string => `@@${text}@@`
const inserted = (text: string): string =>
  text.replaceAll(/'?@@(.*?)@@'?/g, (_, inner: string) => `{{ ${inner.replaceAll("''", "'")} }}`)
const given = (name: string): string => expression(`toJson .Values.${name}`)

const TEMPLATED: Settings = {
  namespace: expression('toJson .Release.Namespace'),
  image: given('image'),
  imagePullPolicy: given('imagePullPolicy'),
  imagePullSecrets: given('imagePullSecrets'),
  replicas: given('replicas'),
  resources: given('resources'),
  nodeSelector: given('nodeSelector'),
  tolerations: given('tolerations'),
  priorityClassName: given('priorityClassName'),
  watchNamespaces: expression('toJson (join "," .Values.watchNamespaces)'),
}

const when = (condition: string, text: string): string => `{{- if ${condition} }}\n${text}{{- end }}\n`

function template(text: string): string {
  return `{{- /* ${HEADER} */ -}}\n${text}`
}

function crdTemplate(): string {
  const texts = kinds.map((kind) => {
    const definition = customResourceDefinition(kind) as { metadata: Record<string, unknown> }
    const marked = { ...definition, metadata: { ...definition.metadata, annotations: '@KEEP@' } }
    return yaml(marked).replace(
      "    annotations: '@KEEP@'\n".slice(2),
      `{{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n{{- end }}\n`,
    )
  })
  return template(when('.Values.crds.enabled', texts.join('---\n')))
}

function rbacTemplate(): string {
  const inNamespace = expression('toJson .')
  const watched = [
    role('Role', `${NAME}-watched`, inNamespace, watchedRules),
    binding('Role', `${NAME}-watched`, inNamespace, {
      ...TEMPLATED,
      namespace: expression('toJson $.Release.Namespace'),
    }),
  ]
  const everywhere = [
    role('ClusterRole', NAME, undefined, [...watchedRules, ...clusterRules]),
    binding('ClusterRole', NAME, undefined, TEMPLATED),
  ]
  const own = [
    role('Role', NAME, TEMPLATED.namespace, ownRules),
    binding('Role', NAME, TEMPLATED.namespace, TEMPLATED),
  ]
  return template(
    `${inserted(documents(own))}{{- if .Values.watchNamespaces }}\n{{- range .Values.watchNamespaces }}\n---\n` +
      `${inserted(documents(watched))}{{- end }}\n{{- else }}\n---\n${inserted(documents(everywhere))}{{- end }}\n`,
  )
}

function monitoringTemplate(): string {
  const configMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: 'tandem-dashboard',
      namespace: TEMPLATED.namespace,
      labels: { [expression('toJson .Values.dashboard.label')]: '1' },
    },
    data: { 'tandem.json': expression('toJson (.Files.Get "dashboards/tandem.json")') },
  }
  // The rules have braces of their own, which must not be taken for a template's.
  const rules = expression(
    `toJson (fromYaml (replace "${RUNBOOKS}" .Values.prometheusRule.runbooks (.Files.Get "${RULES}")))`,
  )
  return template(
    when(
      '.Values.serviceMonitor.enabled',
      inserted(documents([serviceMonitor(TEMPLATED), podMonitor(TEMPLATED)])),
    ) +
      when('.Values.prometheusRule.enabled', `---\n${inserted(yaml(prometheusRule(TEMPLATED, rules)))}`) +
      when('.Values.dashboard.enabled', `---\n${inserted(yaml(configMap))}`),
  )
}

function clientNodesTemplate(): string {
  const of = (name: string): string => expression(`toJson .Values.clientNodes.${name}`)
  const daemonSet = clientNodes(TEMPLATED, {
    namespace: of('namespace'),
    // An argument is a string, whatever the value is.
    seconds: expression('toJson (toJson .Values.clientNodes.seconds)'),
    nodeSelector: of('nodeSelector'),
    tolerations: of('tolerations'),
  })
  return template(when('.Values.clientNodes.enabled', inserted(yaml(daemonSet))))
}

const NOTES = `Tandem's operator is being started in namespace {{ .Release.Namespace }}.

Next, a pair of filers and a volume:

  kubectl apply -f manifests/samples/filer-pair.yaml -f manifests/samples/filer-volume.yaml
  kubectl wait --for=condition=Ready --timeout=2m fp/east fv/home
  kubectl get fv home -o jsonpath='mount -t nfs -o {.status.mount.options} {.status.mount.server}:{.status.mount.path} /mnt{"\\n"}'
`

function valuesYaml(): string {
  const lines = [`# ${HEADER}`]
  for (const [name, setting] of Object.entries(SETTINGS))
    lines.push(`# ${setting.description}`, yaml({ [name]: setting.value }).trimEnd())
  return lines.join('\n') + '\n'
}

/** Contents by path from the root of the checkout. */
export function installFiles(): Map<string, string> {
  const chart = 'charts/tandem'
  const json = (content: unknown): string => JSON.stringify(content, undefined, 2) + '\n'
  return new Map([
    ['manifests/install.yaml', installManifest()],
    [
      `${chart}/Chart.yaml`,
      yaml({
        apiVersion: 'v2',
        name: 'tandem',
        description: 'Filer pairs for Kubernetes: shared files that survive a node',
        type: 'application',
        version: APP_VERSION,
        appVersion: APP_VERSION,
        kubeVersion: '>=1.20.0-0',
      }),
    ],
    [`${chart}/values.yaml`, valuesYaml()],
    [`${chart}/values.schema.json`, json(valuesSchema())],
    [`${chart}/dashboards/tandem.json`, json(dashboard())],
    [
      `${chart}/${RULES}`,
      `# ${HEADER}\n# For a Prometheus without its operator: rule_files. The labels pair and filer come from relabeling, see docs/runbooks.md.\n${yaml(ruleGroups())}`,
    ],
    [`${chart}/templates/crds.yaml`, crdTemplate()],
    [`${chart}/templates/rbac.yaml`, rbacTemplate()],
    [
      `${chart}/templates/operator.yaml`,
      template(
        inserted(documents([serviceAccount(TEMPLATED), metricsService(TEMPLATED), deployment(TEMPLATED)])),
      ),
    ],
    [`${chart}/templates/monitoring.yaml`, monitoringTemplate()],
    [`${chart}/templates/client-nodes.yaml`, clientNodesTemplate()],
    [`${chart}/templates/NOTES.txt`, NOTES],
  ])
}
