/** Passes over the conversions of a namespace: which are accepted, what their conditions say, what filers are told, and how they end. */
import { describe, expect, test } from '@jest/globals'
import { conversion } from '../../api/v1alpha1/conversion.ts'
import type { Condition } from '../../api/v1alpha1/common.ts'
import type { ConversionStatus } from '../../api/v1alpha1/conversion.ts'
import type { FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, CONVERSIONS, FILER_PAIRS, FILER_VOLUMES, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import { viewOf } from '../filer-pair/view.ts'
import type { ConversionReport } from '../filer-pair/view.ts'
import type { PairObserved } from '../namespace-observed.ts'
import { FINALIZER } from '../names.ts'
import type { Action } from '../runtime/actions.ts'
import { World, mergePatch } from '../testing/world.ts'
import { conversionsAt } from './desired.ts'
import { planConversions } from './plan.ts'
import { plan } from '../filer-pair/plan.ts'
import { specInForce } from '../accept.ts'
import { filerPair } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'

const API = 'tandem.storage/v1alpha1'
const set = { name: 'd', count: 1, size: '256Mi' }

const reportOf = (change: Partial<ConversionReport> = {}): ConversionReport => ({
  id: 'uid-c',
  volumeId: 'uid-archive',
  aggregate: 'aggr2',
  phase: 'Scanning',
  percent: 42,
  inodesDone: 420,
  inodesTotal: 1000,
  metadataEstimatedBytes: 3 << 20,
  metadataActualBytes: 1 << 20,
  dataBlocksCopied: 0,
  absentLeft: 17,
  rollback: { possible: true, changedBytes: 0 },
  cutOverId: 'cut1',
  conditions: [
    { type: 'Checked', status: 'True', reason: '', message: '' },
    { type: 'CutOver', status: 'True', reason: '', message: '' },
    { type: 'Complete', status: 'False', reason: 'NotYet', message: '42 % of the metadata is built' },
    { type: 'RolledBack', status: 'False', reason: 'NotAsked', message: '' },
  ],
  ...change,
})

/** A pair with a traditional volume `archive` at filer b, and the namespace's pass beside the pair's. */
class Bed {
  readonly world = new World('east')
  told: PairObserved['told']
  readonly events: string[] = []

  constructor() {
    const aggregate = (name: string, filer: string) => ({ name, filer, deviceSets: [set] })
    const aggregates = [aggregate('aggr1', 'a'), aggregate('aggr2', 'b'), aggregate('aggr3', 'b')]
    this.put('FilerPair', 'east', { aggregates, exportDefaults: [{ clients: ['0.0.0.0/0'] }] })
    this.volume('archive', { type: 'Traditional', filer: 'b', deviceSets: [set], reclaimPolicy: 'Delete' })
    this.volume('web', { aggregate: 'aggr3', size: '64Mi' })
    this.world.settle()
    this.world.bindClaims()
    this.world.runPods()
    this.settle()
  }

  put(kind: string, name: string, spec: object): this {
    this.world.put({ apiVersion: API, kind, metadata: { name, namespace: 'ns' }, spec })
    return this
  }
  volume(name: string, spec: object): this {
    return this.put('FilerVolume', name, { pairName: 'east', ...spec })
  }
  conversion(name: string, spec: object = {}): this {
    return this.put('Conversion', name, { volumeName: 'archive', aggregate: 'aggr2', ...spec })
  }
  /** What the filer that serves side b says. */
  say(conversions: ConversionReport[], change: Partial<FilerStatus> = {}): this {
    const { reports } = this.world
    reports.set('b', { ...reports.get('b')!, conversions, ...change })
    return this
  }
  delete(kind: typeof CONVERSIONS, name: string): this {
    const gone = { metadata: { deletionTimestamp: '2026-01-02T00:00:00Z' } }
    this.world.put(mergePatch(this.world.get(kind, name), gone) as KubeObject)
    return this
  }

  /** Passes over the namespace and over the pair until neither writes. */
  settle(): this {
    for (let rounds = 0; rounds < 12; rounds++) {
      const volumes = this.#all('FilerVolume')
      const { actions } = planConversions({
        mirrors: [],
        conversions: this.#all('Conversion'),
        volumes,
        pair: (name) =>
          name === 'east'
            ? {
                spec: specInForce<FilerPairSpec>(filerPair, this.world.get(FILER_PAIRS, 'east')!),
                view: viewOf([...this.world.reports.values()]),
                told: this.told,
              }
            : undefined,
        namespaceTerminating: this.world.namespaceTerminating,
        nowMs: this.world.nowMs,
        statusWrittenMs: () => 0,
      })
      for (const action of actions) this.#do(action)
      this.world.conversions = conversionsAt('east', this.#all('Conversion'), volumes)
      const { told, actions: ofPair } = plan(this.world.observed())
      this.world.pass()
      const news = JSON.stringify(told) !== JSON.stringify(this.told)
      this.told = told
      if (actions.length + ofPair.length === 0 && !news) return this
    }
    throw new Error('still writing')
  }

  #all(kind: string): KubeObject[] {
    return [...this.world.objects.values()].filter((o) => o.kind === kind)
  }

  #do(action: Action): void {
    if (action.type === 'event') this.events.push(`${action.level} ${action.reason}`)
    if (action.type === 'status') {
      const before = this.world.get(CONVERSIONS, action.object.metadata.name)!
      this.world.put({ ...before, status: action.object['status'] })
    }
    if (action.type === 'patch') {
      const { resourceVersion: _, ...metadata } = (action.patch as { metadata: Record<string, unknown> })
        .metadata
      const before = this.world.get(CONVERSIONS, action.name)
      const after = this.world.put(mergePatch(before, { metadata }) as KubeObject)
      if (after.metadata.deletionTimestamp !== undefined && after.metadata.finalizers?.length === 0)
        this.world.objects.delete(`Conversion/${action.name}`)
    }
  }

  status(name = 'c'): ConversionStatus {
    return this.world.get(CONVERSIONS, name)!['status'] as ConversionStatus
  }
  reasons(name = 'c'): string {
    const sign = { True: '+', False: '-', Unknown: '?' }
    return this.status(name)
      .conditions!.map((c) => `${sign[c.status]}${c.reason}`)
      .join(' ')
  }
  exists(name = 'c'): boolean {
    return this.world.get(CONVERSIONS, name) !== undefined
  }
  get desired() {
    return this.world.desired.at(-1)
  }
}

describe('a conversion is accepted', () => {
  test('for a traditional volume and an empty aggregate of its filer, and told to the filers', () => {
    const bed = new Bed().conversion('c', { scanBlocksPerSecond: 5 }).settle()
    expect(bed.reasons()).toBe('+Accepted ?Unknown ?Unknown ?Unknown ?Unknown')
    expect(bed.world.get(CONVERSIONS, 'c')!.metadata.finalizers).toEqual([FINALIZER])
    expect(bed.desired?.conversions).toEqual([
      {
        id: 'uid-c',
        volumeId: 'uid-archive',
        aggregate: 'aggr2',
        state: 'Converted',
        snapshots: 'RequireNone',
        scanBlocksPerSecond: 5,
        discardChanges: '',
      },
    ])
  })

  test.each<[string, string, object]>([
    ['VolumeNotFound', 'FilerVolume x is not there', { volumeName: 'x' }],
    ['VolumeNotTraditional', 'web is Flexible already', { volumeName: 'web' }],
    ['AggregateNotFound', 'no aggregate aggr9', { aggregate: 'aggr9' }],
    ['OtherFiler', 'aggr1 is of filer a', { aggregate: 'aggr1' }],
    ['AggregateInUse', 'FilerVolume web is in aggr3', { aggregate: 'aggr3' }],
  ])('not: %s, %s', (reason, message, spec) => {
    const bed = new Bed().conversion('c', spec).settle()
    expect(bed.reasons()).toContain(`-${reason} -NotAccepted`)
    expect(bed.status().message).toContain(message)
    expect(bed.desired?.conversions).toBeUndefined()
  })

  test('not twice for one volume or one aggregate', () => {
    const bed = new Bed().conversion('c').settle().conversion('c2').settle()
    expect(bed.reasons('c2')).toContain('-VolumeInUse')
    const second = { type: 'Traditional', filer: 'b', deviceSets: [set] }
    bed.volume('second', second).settle().conversion('c3', { volumeName: 'second' }).settle()
    expect(bed.reasons('c3')).toContain('-AggregateInUse')
  })
})

describe('what the filer says', () => {
  test('becomes conditions and figures', () => {
    const bed = new Bed().conversion('c').settle().say([reportOf()]).settle()
    expect(bed.reasons()).toBe('+Accepted +Checked +CutOver -NotYet -NotAsked')
    expect(bed.status()).toMatchObject({
      phase: 'Scanning',
      percent: 42,
      inodes: { done: 420, total: 1000 },
      metadata: { estimated: '3Mi', actual: '1Mi' },
      dataBlocksCopied: 0,
      absentLeft: 17,
      rollback: { possible: true, changed: '0' },
      cutOverID: 'cut1',
      message: '42 % of the metadata is built',
    })
    const done = reportOf({
      phase: 'Complete',
      conditions: reportOf().conditions.map((c) => (c.type === 'Complete' ? { ...c, status: 'True' } : c)),
    })
    bed.say([done]).settle()
    expect(bed.reasons()).toBe('+Accepted +Checked +CutOver +Complete -NotAsked')
    expect(bed.status().message).toBeUndefined()
    expect(bed.events).toContain('Normal Complete')
  })

  test('of a check that fails is what the message tells', () => {
    const bed = new Bed().conversion('c', { state: 'Checked' }).settle()
    const refused = {
      type: 'Checked' as const,
      status: 'False' as const,
      reason: 'NoSpace',
      message: 'needs 3Mi',
    }
    bed.say([reportOf({ phase: 'Refused', cutOverId: '', conditions: [refused] })]).settle()
    expect(bed.reasons()).toBe('+Accepted -NoSpace ?Unknown ?Unknown ?Unknown')
    expect(bed.status()).toMatchObject({ phase: 'Refused', message: 'needs 3Mi' })
    expect(bed.status().cutOverID).toBeUndefined()
  })

  test('is in documented reasons', () => {
    const bed = new Bed().conversion('c').settle().say([reportOf()]).settle()
    for (const { type, reason } of bed.status().conditions!)
      expect(Object.keys(conversion.conditions.find((c) => c.type === type)!.reasons)).toContain(reason)
  })
})

describe('a conversion that is deleted', () => {
  const before = reportOf({ phase: 'Checked', cutOverId: '', conditions: [] })

  test('is undone before the cut-over, and waits for that', () => {
    const bed = new Bed().conversion('c').settle().say([before]).settle()
    bed.delete(CONVERSIONS, 'c').settle()
    expect(bed.exists()).toBe(true)
    expect(bed.reasons()).toContain('-Removing')
    expect(bed.desired?.conversions).toBeUndefined()
    bed.say([]).settle()
    expect(bed.exists()).toBe(false)
  })

  test('does not go before the filer was told', () => {
    const bed = new Bed().conversion('c').settle()
    const { generation } = bed.world.reports.get('b')!
    bed.say([]).delete(CONVERSIONS, 'c')
    bed.world.silent.set('b', 1000)
    const status = bed.world.reports.get('b')!
    bed.world.reports.delete('b')
    bed.settle()
    expect(bed.exists()).toBe(true)
    bed.world.silent.delete('b')
    bed.world.reports.set('b', { ...status, generation })
    bed.settle()
    expect(bed.exists()).toBe(false)
    expect(bed.world.reports.get('b')!.generation).toBeGreaterThan(generation)
  })

  test('after the cut-over goes at once; another object of the volume takes its place', () => {
    const bed = new Bed().conversion('c').settle().say([reportOf()]).settle()
    bed.delete(CONVERSIONS, 'c').settle()
    expect(bed.exists()).toBe(false)
    bed.conversion('c2').settle()
    expect(bed.reasons('c2')).toContain('+Accepted')
    expect(bed.desired?.conversions).toMatchObject([{ id: 'uid-c2', volumeId: 'uid-archive' }])
  })

  test('waits for nobody in a namespace that goes', () => {
    const bed = new Bed().conversion('c').settle().say([before]).settle()
    bed.world.namespaceTerminating = true
    bed.delete(CONVERSIONS, 'c').settle()
    expect(bed.exists()).toBe(false)
  })
})

describe('the volume', () => {
  const claims = (bed: Bed) =>
    [...bed.world.objects.values()].filter(
      (o) => o.kind === CLAIMS.kind && o.metadata.name.includes('vol-archive'),
    ).length
  const converted = () => {
    const bed = new Bed().conversion('c').settle().say([reportOf()])
    const flexible = {
      id: 'uid-archive',
      name: 'archive',
      aggregate: 'aggr2',
      side: 'b',
      type: 'Flexible' as const,
      sizeBytes: 2 ** 28,
      usedBytes: 4096,
      snapshotUsedBytes: 0,
      snapshots: [],
      state: 'Ready' as const,
      reason: '',
      message: '',
    }
    return bed.say([reportOf()], { volumes: [flexible] }).settle()
  }
  const statusOf = (bed: Bed) => bed.world.get(FILER_VOLUMES, 'archive')!['status'] as Record<string, unknown>

  test('has the new type and aggregate in its status, under the spec that it had', () => {
    const bed = converted()
    expect(statusOf(bed)).toMatchObject({ type: 'Flexible', aggregate: 'aggr2' })
    bed.say([reportOf()], { volumes: [] }).settle()
    expect(statusOf(bed)).toMatchObject({ type: 'Flexible', aggregate: 'aggr2' })
  })

  const complete = reportOf({
    phase: 'Complete',
    conditions: reportOf().conditions.map((c) => (c.type === 'Complete' ? { ...c, status: 'True' } : c)),
  })
  const acceptedOf = (bed: Bed, name: string) => {
    const { conditions } = bed.world.get(FILER_VOLUMES, name)!['status'] as { conditions: Condition[] }
    const { status, reason, message } = conditions.find((c) => c.type === 'Accepted')!
    return `${status} ${reason}: ${message}`
  }
  /** What an apply leaves: other fields of the object stay. */
  const respec = (bed: Bed, spec: object) => {
    const object = bed.world.get(FILER_VOLUMES, 'archive')!
    bed.world.put({ ...object, spec: { pairName: 'east', reclaimPolicy: 'Delete', ...spec } })
    return bed.settle()
  }

  test('may be called Flexible once it is, in the aggregate that it is in, and keeps its devices', () => {
    const bed = converted()
    const before = claims(bed)
    respec(bed, { type: 'Flexible', aggregate: 'aggr2', size: '256Mi' })
    expect(acceptedOf(bed, 'archive')).toMatch(/^False ImmutableField: .*until Conversion c is complete/)
    respec(bed, { type: 'Flexible', aggregate: 'aggr3', size: '256Mi' })
    expect(acceptedOf(bed, 'archive')).toMatch(/^False ImmutableField: .*the volume is in aggr2/)
    bed.say([complete]).settle()
    respec(bed, { type: 'Flexible', aggregate: 'aggr2', size: '256Mi' })
    expect(acceptedOf(bed, 'archive')).toMatch(/^True/)
    expect(bed.desired?.volumes.find((v) => v.id === 'uid-archive')).toMatchObject({
      type: 'Flexible',
      aggregate: 'aggr2',
      sizeBytes: 2 ** 28,
    })
    expect(claims(bed)).toBe(before)
    expect(JSON.stringify(bed.world.get(STATEFUL_SETS, 'east-b'))).toContain('vol-archive')
    bed.delete(CONVERSIONS, 'c').settle()
    expect(bed.exists()).toBe(false)
  })

  test('of no conversion stays Traditional', () => {
    const bed = new Bed()
    respec(bed, { type: 'Flexible', aggregate: 'aggr2', size: '256Mi' })
    expect(acceptedOf(bed, 'archive')).toMatch(/^False ImmutableField: .*put back Traditional/)
    expect(bed.desired?.volumes.find((v) => v.id === 'uid-archive')?.type).toBe('Traditional')
  })

  test('has the aggregate for itself until the conversion is complete', () => {
    const bed = converted()
    bed.volume('other', { aggregate: 'aggr2', size: '64Mi' }).settle()
    expect(acceptedOf(bed, 'other')).toMatch(/^False AggregateInUse: .*Conversion c has aggr2/)
    bed.say([complete]).settle()
    expect(acceptedOf(bed, 'other')).toMatch(/^True/)
  })

  test('waits for its conversion when it is deleted', () => {
    const bed = converted()
    bed.delete(FILER_VOLUMES, 'archive').settle()
    const ready = (statusOf(bed)['conditions'] as { type: string; reason: string }[]).find(
      (c) => c.type === 'Ready',
    )
    expect(ready?.reason).toBe('InUse')
    expect(bed.desired?.volumes.find((v) => v.id === 'uid-archive')?.state).toBe('Present')
  })

  test('leaves its devices to the aggregate when it is gone, whatever its reclaimPolicy', () => {
    const bed = converted()
    const before = claims(bed)
    expect(before).toBe(2)
    bed.delete(CONVERSIONS, 'c').delete(FILER_VOLUMES, 'archive').settle()
    bed.say([], { volumes: [] }).settle()
    expect(bed.world.get(FILER_VOLUMES, 'archive')).toBeUndefined()
    expect(claims(bed)).toBe(before)
    expect(JSON.stringify(bed.world.get(STATEFUL_SETS, 'east-b'))).toContain('vol-archive')
  })
})
