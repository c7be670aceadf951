/** The chart, rendered, is the same as install.yaml; and what is installed meets our own promises. */
import { describe, expect, test } from '@jest/globals'
import { parse, parseAllDocuments } from 'yaml'
import { METRICS } from '../../edge/telemetry/catalogue.ts'
import { renderTemplate } from '../testing/chart.ts'
import { restrictedViolations } from '../testing/restricted.ts'
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

  test('the operator’s pod meets Pod Security `restricted`', () => {
    const deployment = rendered().find((t) => t.kind === 'Deployment')!
    const spec = deployment.spec as { template: { spec: Parameters<typeof restrictedViolations>[0] } }
    expect(restrictedViolations(spec.template.spec)).toEqual([])
  })

  test('every metric of the dashboard is one that exists', () => {
    const used = files.get(`${chart}/dashboards/tandem.json`)!.match(/tandem_[a-z_]+/g)!
    const known = (name: string): boolean =>
      METRICS.has(name) || METRICS.has(name.replace(/_(bucket|count|sum)$/, ''))
    expect([...new Set(used)].filter((name) => !known(name))).toEqual([])
  })
})
