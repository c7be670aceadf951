/** The chart, rendered, is the same as install.yaml; and what is installed meets our own promises. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { parse, parseAllDocuments } from 'yaml'
import { METRICS } from '../../edge/telemetry/catalogue.ts'
import { Telemetry } from '../../edge/telemetry/telemetry.ts'
import { LABEL_FILER } from '../names.ts'
import { renderTemplate } from '../testing/chart.ts'
import { restrictedViolations } from '../testing/restricted.ts'
import { ALERTS, RUNBOOKS } from './alerts.ts'
import { installFiles } from './files.ts'
import { SETTINGS } from './values.ts'

interface Thing {
  apiVersion: string
  kind: string
  metadata: { name: string; namespace?: string; annotations?: Record<string, string> }
  spec?: Record<string, unknown>
  rules?: unknown[]
  data?: Record<string, string>
}

const files = installFiles()
const chart = 'charts/tandem'
const defaults = parse(files.get(`${chart}/values.yaml`)!) as Record<string, unknown>

function things(text: string): Thing[] {
  return parseAllDocuments(text)
    .map((d) => {
      expect(d.errors).toEqual([])
      return d.toJS() as Thing | null
    })
    .filter((t) => t !== null)
}

function rendered(values: Record<string, unknown> = {}): Thing[] {
  const context = {
    values: { ...defaults, ...values },
    namespace: 'tandem-system',
    file: (path: string) => files.get(`${chart}/${path}`)!,
  }
  return [...files]
    .filter(([path]) => path.startsWith(`${chart}/templates/`) && path.endsWith('.yaml'))
    .flatMap(([, template]) => things(renderTemplate(template, context)))
}
const nameOf = (t: Thing): string => `${t.kind}/${t.metadata.name}`

describe('chart', () => {
  test('has the defaults of the settings', () => {
    expect(defaults).toEqual(Object.fromEntries(Object.entries(SETTINGS).map(([name, s]) => [name, s.value])))
  })

  test('with its defaults is install.yaml', () => {
    const installed = new Map(things(files.get('manifests/install.yaml')!).map((t) => [nameOf(t), t]))
    installed.delete('Namespace/tandem-system')
    const fromChart = new Map(rendered().map((t) => [nameOf(t), t]))
    expect([...fromChart.keys()].sort()).toEqual([...installed.keys()].sort())
    for (const [name, thing] of fromChart) {
      if (thing.kind === 'CustomResourceDefinition')
        expect(thing.metadata.annotations).toEqual({ 'helm.sh/resource-policy': 'keep' })
      const { annotations: _, ...metadata } = thing.metadata
      // An empty setting and none are the same to a pod.
      const text = JSON.stringify({ ...thing, metadata }, (key, value: unknown) =>
        ['nodeSelector', 'tolerations', 'imagePullSecrets', 'priorityClassName'].includes(key) &&
        (value === '' || Object.keys(value as object).length === 0)
          ? undefined
          : value,
      )
      expect(JSON.parse(text)).toEqual(installed.get(name))
    }
  })

  test('with watchNamespaces has Roles there and no ClusterRole', () => {
    const all = rendered({ watchNamespaces: ['x', 'y'] })
    expect(all.some((t) => t.kind.startsWith('ClusterRole'))).toBe(false)
    const roles = all.filter((t) => t.kind === 'Role' && t.metadata.name === 'tandem-operator-watched')
    expect(roles.map((r) => r.metadata.namespace)).toEqual(['x', 'y'])
    const deployment = all.find((t) => t.kind === 'Deployment')!
    expect(JSON.stringify(deployment)).toContain('{"name":"WATCH_NAMESPACES","value":"x,y"}')
  })

  test('brings the dashboard and the monitor when asked, the definitions unless told not to', () => {
    const all = rendered({ dashboard: { enabled: true, label: 'dash' }, serviceMonitor: { enabled: true } })
    const map = all.find((t) => t.kind === 'ConfigMap')!
    expect(JSON.parse(map.data!['tandem.json']!)).toMatchObject({ title: 'Tandem' })
    expect(all.some((t) => t.kind === 'ServiceMonitor')).toBe(true)
    const without = rendered({ crds: { enabled: false, keep: false } })
    expect(without.some((t) => t.kind === 'CustomResourceDefinition')).toBe(false)
    const loose = rendered({ crds: { enabled: true, keep: false } })
    expect(loose.find((t) => t.kind === 'CustomResourceDefinition')!.metadata.annotations).toBeUndefined()
  })

  test('brings what keeps clients’ nodes right only when asked, in a namespace of its own', () => {
    expect(rendered().some((t) => t.kind === 'DaemonSet')).toBe(false)
    const wanted = { ...(SETTINGS['clientNodes']!.value as object), enabled: true, seconds: 3 }
    const daemonSet = rendered({ clientNodes: wanted }).find((t) => t.kind === 'DaemonSet')!
    expect(daemonSet.metadata.namespace).toBe('kube-system')
    const { spec } = (daemonSet.spec as { template: { spec: Record<string, unknown> } }).template
    expect(spec).toMatchObject({ hostNetwork: true, automountServiceAccountToken: false })
    expect(spec['containers']).toMatchObject([
      { args: ['client-node', '--seconds', '3'], securityContext: { privileged: true } },
    ])
  })

  test('the operator’s pod meets Pod Security `restricted`', () => {
    const deployment = rendered().find((t) => t.kind === 'Deployment')!
    const spec = deployment.spec as { template: { spec: Parameters<typeof restrictedViolations>[0] } }
    expect(restrictedViolations(spec.template.spec)).toEqual([])
  })

  test('brings the alerts when asked, as the file of rules has them, with runbooks where they are', () => {
    const wanted = { enabled: true, runbooks: 'https://wiki.example/tandem' }
    const rule = rendered({ prometheusRule: wanted }).find((t) => t.kind === 'PrometheusRule')!
    const text = files.get(`${chart}/rules/tandem.yaml`)!
    expect(rule.spec).toEqual(parse(text.replaceAll(RUNBOOKS, wanted.runbooks)))
    expect(JSON.stringify(rule.spec)).toContain('https://wiki.example/tandem#tandemlinkdown')
    expect(JSON.stringify(rule.spec)).toContain('{{ $labels.pair }}')
    expect(rendered().some((t) => t.kind === 'PrometheusRule')).toBe(false)
  })

  test('monitors find the operator and the filers, and give filers the names that rules go by', () => {
    const all = rendered({ serviceMonitor: { enabled: true } })
    const service = all.find((t) => t.kind === 'Service')!
    const monitor = all.find((t) => t.kind === 'ServiceMonitor')!
    const { matchLabels } = (monitor.spec as { selector: { matchLabels: object } }).selector
    expect(service.metadata).toMatchObject({ labels: matchLabels })
    const filers = JSON.stringify(all.find((t) => t.kind === 'PodMonitor')!.spec)
    expect(filers).toContain(`"key":"${LABEL_FILER}"`)
    expect(filers).toContain('"__meta_kubernetes_pod_label_tandem_storage_pair"],"targetLabel":"pair"')
  })
})

describe('what watches over an installation', () => {
  const read = (path: string): string => readFileSync(join(import.meta.dirname, '../../..', path), 'utf8')

  test('every metric that dashboards, alerts and documents name exists', () => {
    const documents = readdirSync(join(import.meta.dirname, '../../../docs'))
      .filter((name) => name.endsWith('.md') && name !== 'metrics.md')
      .map((name) => `docs/${name}`)
    const texts = [
      ...[...files].filter(([path]) => /dashboards|rules/.test(path)),
      ...['README.md', ...documents].map((path) => [path, read(path)] as const),
    ]
    // Node's own, which prom-client names; `…_` in a document is a family.
    const known = (name: string): boolean =>
      METRICS.has(name) ||
      METRICS.has(name.replace(/_(bucket|count|sum)$/, '')) ||
      /^tandem_(process|nodejs)_/.test(name) ||
      (name.endsWith('_') && [...METRICS.keys()].some((metric) => metric.startsWith(name)))
    const unknown = texts.flatMap(([path, text]) =>
      [...text.matchAll(/\btandem_[a-z0-9_]+/g)]
        .filter(([name]) => !known(name))
        .map(([name]) => `${path}: ${name}`),
    )
    expect(unknown).toEqual([])
  })

  test("Node's own metrics that alerts and documents name are among those that a filer serves", async () => {
    const served = await new Telemetry().text()
    const named = [files.get(`${chart}/rules/tandem.yaml`)!, read(RUNBOOKS)].flatMap((text) =>
      [...text.matchAll(/tandem_(?:process|nodejs)_[a-z0-9_]+/g)].map(([name]) => name),
    )
    expect(named.length).toBeGreaterThan(0)
    for (const name of named) expect(served).toContain(`# TYPE ${name} `)
  })

  test('every alert has a runbook with meaning, look and remedy, and every runbook an alert', () => {
    const sections = new Map(
      read(RUNBOOKS)
        .split(/^## /m)
        .slice(1)
        .map((text) => [text.split('\n', 1)[0]!, text]),
    )
    expect([...sections.keys()]).toEqual(ALERTS.map(({ name }) => name))
    for (const [name, text] of sections)
      for (const part of ['**Means**:', '**Look**:', '**Do**:'])
        expect([name, text]).toEqual([name, expect.stringContaining(part)])
  })
})
