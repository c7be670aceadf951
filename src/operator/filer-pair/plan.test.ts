/** The operator's decisions, without an API: what is made, that it settles, what is never touched. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseAllDocuments, stringify } from 'yaml'
import { filerPair } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import { validateObject } from '../../api/validate.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import {
  BUDGETS_V1,
  CLAIMS,
  FILER_PAIRS,
  FILER_VOLUMES,
  LEASES,
  PODS,
  SERVICES,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import { restrictedViolations } from '../testing/restricted.ts'
import { World } from '../testing/world.ts'
import { desiredContent } from './desired.ts'
import { filerConfig } from './pod.ts'
import { objectsOf } from './objects.ts'
import type { AcceptedPair } from './accepted.ts'
import { plan } from './plan.ts'
import { viewOf } from './view.ts'

const root = join(import.meta.dirname, '../../..')

function sample(file: string): KubeObject {
  const [document] = parseAllDocuments(readFileSync(join(root, 'manifests/samples', file), 'utf8'))
  const object = document!.toJS() as KubeObject
  return { ...object, metadata: { ...object.metadata, namespace: 'ns' } }
}

function acceptedSample(file: string, change: Record<string, unknown> = {}): AcceptedPair {
  const object = sample(file)
  const result = validateObject<{ spec: FilerPairSpec }>(filerPair, {
    ...object,
    spec: { ...(object['spec'] as object), ...change },
  })
  if (!result.ok) throw new Error(JSON.stringify(result.problems))
  const { name } = object.metadata
  return { namespace: 'ns', name, uid: 'uid', id: 'uid', spec: result.value.spec, traditional: [] }
}

/** The pair `east` of the samples with its volume. */
function world(): World {
  const made = new World('east')
  made.put(sample('filer-pair.yaml'))
  made.put(sample('filer-volume.yaml'))
  return made
}
const statusOf = (w: World): FilerPairStatus => w.get(FILER_PAIRS, 'east')!['status'] as FilerPairStatus
const reasonOf = (w: World, type: string) => statusOf(w).conditions?.find((c) => c.type === type)?.reason

describe('objects', () => {
  test('of the sample with two networks are as written down', () => {
    const text = objectsOf(acceptedSample('two-networks/filer-pair.yaml'), 'tandem:test', BUDGETS_V1)
      .map(({ object }) =>
        stringify(object, { lineWidth: 0, aliasDuplicateObjects: false, singleQuote: true }),
      )
      .join('---\n')
    const path = join(import.meta.dirname, '../testing/west.golden.yaml')
    if (process.env['UPDATE_GOLDEN']) writeFileSync(path, text)
    expect(text).toBe(readFileSync(path, 'utf8'))
  })

  test('pods meet Pod Security `restricted`, whatever the spec adds', () => {
    const variants = [
      acceptedSample('filer-pair.yaml'),
      acceptedSample('two-networks/filer-pair.yaml'),
      acceptedSample('filer-pair.yaml', {
        aggregates: [
          { name: 'x', filer: 'b', deviceSets: [{ name: 'd', size: '1Gi', volumeMode: 'Block' }] },
        ],
        podTemplate: {
          labels: { a: 'b' },
          tolerations: [{ operator: 'Exists' }],
          cpu: '500m',
          priorityClassName: 'high',
          supplementalGroups: [6],
        },
      }),
    ]
    for (const pair of variants)
      for (const { resource, object } of objectsOf(pair, 'tandem:test', undefined)) {
        if (resource !== STATEFUL_SETS) continue
        const { template } = object['spec'] as {
          template: { spec: Parameters<typeof restrictedViolations>[0] }
        }
        expect(restrictedViolations(template.spec)).toEqual([])
        expect(template.spec.securityContext).toMatchObject({
          runAsUser: 64000,
          fsGroup: 64000,
          fsGroupChangePolicy: 'OnRootMismatch',
        })
      }
  })

  test('the check of pods sees what is forbidden', () => {
    expect(
      restrictedViolations({
        hostNetwork: true,
        volumes: [{ name: 'x', hostPath: {} }],
        containers: [{ name: 'c' }],
      }),
    ).toEqual(
      expect.arrayContaining([
        'host namespaces',
        'volume type hostPath',
        'c: runAsNonRoot',
        'c: seccompProfile',
        'c: capabilities.drop',
      ]),
    )
  })

  test('a filer’s configuration names every device of both sides', () => {
    const config = filerConfig(acceptedSample('two-networks/filer-pair.yaml'), 'b')
    expect(config).toMatchObject({
      filer: 'b',
      partner: 'a',
      interconnects: [{ name: 'default' }, { name: 'ic1' }],
      lease: 'west',
      services: { a: 'west-a', b: 'west-b' },
      pods: { a: 'west-a-0', b: 'west-b-0' },
    })
    expect(config.aggregates.map((a) => [a.name, a.filer])).toEqual([
      ['aggr1', 'a'],
      ['aggr2', 'b'],
    ])
    expect(config.aggregates[0]!.deviceSets[0]!.sizeBytes % 2 ** 20).toBe(0)
  })
})

describe('plan', () => {
  test('settles within three passes, and then writes nothing', () => {
    const w = world()
    expect(w.settle()).toBeLessThanOrEqual(3)
    w.runPods()
    expect(w.settle()).toBeLessThanOrEqual(3)
    expect(plan(w.observed()).actions).toEqual([])
    expect(reasonOf(w, 'Ready')).toBe('Ready')
    expect(statusOf(w)).toMatchObject({ serving: 'a:a b:b', links: '1/1' })
  })

  test('comes back from any loss of objects', () => {
    const settled = world()
    settled.settle()
    settled.runPods()
    settled.settle()
    const names = [...settled.objects.keys()].filter((n) => !n.startsWith('Filer') && !n.startsWith('Pod/'))
    fc.assert(
      fc.property(fc.subarray(names), (lost) => {
        const w = world()
        for (const [name, object] of settled.objects) w.objects.set(name, object)
        for (const [filer, report] of settled.reports) w.reports.set(filer, report)
        for (const name of lost) w.objects.delete(name)
        w.settle()
        expect([...w.objects.keys()].sort()).toEqual([...settled.objects.keys()].sort())
      }),
      { numRuns: 15 },
    )
  })

  test('never writes the Lease or the selector of a clients’ Service again', () => {
    const w = world()
    w.settle()
    const service = w.get(SERVICES, 'east-a')!
    w.put({
      ...service,
      spec: {
        ...(service['spec'] as object),
        selector: { 'tandem.storage/pair': 'east', 'tandem.storage/filer': 'b' },
      },
    })
    const lease = w.get(LEASES, 'east')!
    w.put({ ...lease, metadata: { ...lease.metadata, annotations: { 'tandem.storage/vote': '{}' } } })
    w.change(FILER_PAIRS, 'east', { service: { type: 'NodePort' } })
    const did = w.pass()
    expect(did).toContain('apply Service/east-a')
    expect(did.join()).not.toContain('Lease')
    expect(w.get(SERVICES, 'east-a')!['spec'] as { selector: object; type: string }).toMatchObject({
      type: 'NodePort',
      selector: { 'tandem.storage/filer': 'b' },
    })
    for (const { object } of objectsOf(acceptedSample('filer-pair.yaml'), 'i', undefined))
      if (object.kind === 'Service' && object.metadata.name !== 'east-filer-pods')
        expect(object['spec']).not.toHaveProperty('selector')
  })

  test('a spec that is refused leaves everything as it is', () => {
    const w = world()
    w.settle()
    w.change(FILER_PAIRS, 'east', { filers: [{ name: 'a' }, { name: 'x' }] })
    expect(w.pass()).toEqual(['status FilerPair/east'])
    expect(reasonOf(w, 'Accepted')).toBe('ImmutableField')
    expect(w.pass()).toEqual([])
    expect(w.events).toContain('Warning ImmutableField')
  })

  test('an accepted spec of an earlier life of the name counts for nothing', () => {
    const w = world()
    w.settle()
    const copy = w.get(FILER_PAIRS, 'east')!
    const next = new World('east')
    next.put({
      ...copy,
      metadata: { ...copy.metadata, uid: 'another' },
      spec: { ...(copy['spec'] as object), filers: [{ name: 'a' }, { name: 'x' }] },
    })
    next.pass()
    expect(reasonOf(next, 'Accepted')).toBe('Accepted')
  })

  test('a pod with an older template goes when the pair can spare it, not before, and one at a time', () => {
    const w = world()
    w.settle()
    w.runPods()
    w.settle()
    w.reports.delete('b')
    w.change(FILER_PAIRS, 'east', { cacheSize: '512Mi' })
    w.settle()
    expect(reasonOf(w, 'UpToDate')).toBe('WaitingForRedundancy')
    expect(w.get(PODS, 'east-a-0')).toBeDefined()
    w.reports.set('b', wellStatus('b', { generation: w.reports.get('a')!.generation }))
    const first = w.pass()
    expect(first.filter((a) => a.startsWith('delete'))).toEqual(['delete Pod/east-a-0'])
    expect(w.pass().filter((a) => a.startsWith('delete'))).toEqual([])
  })

  test('a pod that cannot start is replaced without waiting for redundancy', () => {
    const w = world()
    w.settle()
    w.runPods()
    w.reports.clear()
    w.put({ ...w.get(PODS, 'east-b-0')!, status: { phase: 'Pending' } })
    w.change(FILER_PAIRS, 'east', { cacheSize: '512Mi' })
    w.pass()
    expect(w.pass()).toContain('delete Pod/east-b-0')
  })

  test('volumes: Retain goes at once and its data is left out; Delete waits for the filer', () => {
    const w = world()
    w.settle()
    w.runPods()
    w.settle()
    const volume = w.get(FILER_VOLUMES, 'home')!
    const leaving = { ...volume, metadata: { ...volume.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } }
    w.put(leaving)
    expect(w.pass()).toContain('patch FilerVolume/home')
    expect(w.get(FILER_VOLUMES, 'home')).toBeUndefined()

    const d = world()
    d.change(FILER_VOLUMES, 'home', { reclaimPolicy: 'Delete' })
    d.settle()
    d.runPods()
    d.settle()
    const id = d.get(FILER_VOLUMES, 'home')!.metadata.uid!
    const report = { ...wellStatus('a'), generation: 99 }
    const there = {
      id,
      name: 'home',
      aggregate: 'aggr1',
      side: 'a',
      type: 'Flexible' as const,
      sizeBytes: 1,
      usedBytes: 1,
      snapshotUsedBytes: 0,
      snapshots: [],
      reason: '',
      message: '',
    }
    d.reports.set('a', { ...report, volumes: [{ ...there, state: 'Ready' }] })
    const going = d.get(FILER_VOLUMES, 'home')!
    d.put({ ...going, metadata: { ...going.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
    const { actions } = plan(d.observed())
    const order = actions.find((a) => a.type === 'desired')
    expect(order).toMatchObject({ desired: { generation: 100, volumes: [{ id, state: 'Removed' }] } })
    d.settle()
    expect(d.get(FILER_VOLUMES, 'home')).toBeDefined()
    d.reports.set('a', { ...d.reports.get('a')!, volumes: [{ ...there, state: 'Removed' }] })
    d.settle()
    expect(d.get(FILER_VOLUMES, 'home')).toBeUndefined()
  })

  test('in a namespace that ends nobody waits for data to be freed', () => {
    const w = world()
    w.change(FILER_VOLUMES, 'home', { reclaimPolicy: 'Delete' })
    w.settle()
    w.namespaceTerminating = true
    for (const object of [w.get(FILER_PAIRS, 'east')!, w.get(FILER_VOLUMES, 'home')!])
      w.put({ ...object, metadata: { ...object.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
    w.settle()
    expect(w.get(FILER_PAIRS, 'east')).toBeUndefined()
    expect(w.get(FILER_VOLUMES, 'home')).toBeUndefined()
  })

  test('claims of another pair of this name are not touched, and say so', () => {
    const w = world()
    w.put({
      apiVersion: 'v1',
      kind: CLAIMS.kind,
      metadata: {
        name: 'east-a-log',
        labels: { 'tandem.storage/pair': 'east', 'tandem.storage/pair-id': 'old' },
      },
    })
    const did = w.pass()
    expect(did.filter((a) => !a.includes('Filer'))).toEqual([])
    expect(reasonOf(w, 'Accepted')).toBe('RetainedDataExists')
  })
})

describe('desired state', () => {
  const pair = acceptedSample('filer-pair.yaml').spec
  const away = viewOf([
    {
      ...wellStatus('b'),
      sides: wellStatus('b').sides.map((s) => ({ ...s, owner: 'b', epoch: s.side === 'a' ? 5 : 2 })),
    },
  ])
  const asked = (givebackEpoch: number) =>
    desiredContent({ ...pair, takeover: { ...pair.takeover, givebackEpoch } }, [], away).takeover
      .givebackEpoch

  test('giveback is asked for only of the epoch that the person saw', () => {
    expect(asked(7)).toBe(5)
    expect(asked(5)).toBe(0)
    expect(asked(6)).toBe(0)
  })
})

describe('view', () => {
  test('the newest epoch speaks for a side, then its owner; the worse view of a link counts', () => {
    const a = wellStatus('a')
    const b = wellStatus('b', {
      sides: wellStatus('b').sides.map((s) => ({
        ...s,
        owner: 'b',
        epoch: 2,
        serving: true,
        role: 'Owner' as const,
      })),
      interconnects: [
        { name: 'default', state: 'Down', roundTripMicroseconds: 0, addresses: ['10.0.0.2:7400'] },
      ],
    })
    const view = viewOf([a, b])
    expect(view.sides.get('a')).toMatchObject({ owner: 'b', epoch: 2, serving: true })
    expect(view.links).toMatchObject([
      { name: 'default', state: 'Down', addresses: ['10.0.0.1:7400', '10.0.0.2:7400'] },
    ])
  })
})
