/** Plans for volumes and for pairs that grow, in a world in memory: traditional volumes, devices, claims, adoption, snapshot orders. */
import { describe, expect, test } from '@jest/globals'
import type { FilerPodConfig, FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import {
  CLAIMS,
  FILER_PAIRS,
  FILER_VOLUMES,
  LEASES,
  PERSISTENT_VOLUMES,
  PODS,
  SERVICES,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import { plan } from '../filer-pair/plan.ts'
import { ANNOTATION_SNAPSHOT_REQUEST } from '../names.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import { World } from '../testing/world.ts'
import { outcomeKey } from './snapshot-request.ts'

const API = 'tandem.storage/v1alpha1'
const set = { name: 'd', count: 2, size: '256Mi' }
const aggregate = { name: 'aggr1', filer: 'a', deviceSets: [set] }
const pairObject = (spec: object = {}): KubeObject => ({
  apiVersion: API,
  kind: 'FilerPair',
  metadata: { name: 'east', namespace: 'ns' },
  spec: { aggregates: [aggregate], exportDefaults: [{ clients: ['0.0.0.0/0'] }], ...spec },
})
const volumeObject = (name: string, spec: object): KubeObject => ({
  apiVersion: API,
  kind: 'FilerVolume',
  metadata: { name, namespace: 'ns' },
  spec: { pairName: 'east', ...spec },
})
const flexible = (name: string, spec: object = {}) =>
  volumeObject(name, { aggregate: 'aggr1', size: '1Gi', ...spec })
const traditional = (name: string, spec: object = {}) =>
  volumeObject(name, { type: 'Traditional', filer: 'b', deviceSets: [set], ...spec })

/** A pair whose pods run and whose claims are bound. */
function running(spec: object = {}): World {
  const w = new World('east')
  w.put(pairObject(spec))
  w.settle()
  w.bindClaims()
  w.runPods()
  w.settle()
  return w
}
const pairStatus = (w: World) => w.get(FILER_PAIRS, 'east')!['status'] as FilerPairStatus
const volumeStatus = (w: World, name: string) => w.get(FILER_VOLUMES, name)!['status'] as FilerVolumeStatus
const conditionOf = (status: FilerPairStatus | FilerVolumeStatus, type: string) =>
  status.conditions?.find((c) => c.type === type)
const accepted = (w: World, name: string) => conditionOf(volumeStatus(w, name), 'Accepted')
const upToDate = (w: World) => conditionOf(pairStatus(w), 'UpToDate')

function configOf(w: World, filer: string, from = STATEFUL_SETS): FilerPodConfig {
  const object = w.get(from, from === PODS ? `east-${filer}-0` : `east-${filer}`)!
  const outer = object['spec'] as { template?: { spec: object } }
  const { containers } = (outer.template?.spec ?? outer) as {
    containers: { env: { name: string; value: string }[] }[]
  }
  const text = containers[0]!.env.find((e) => e.name === 'TANDEM_FILER_CONFIG')!.value
  return JSON.parse(text) as FilerPodConfig
}
const aggregatesOf = (w: World, filer: string, from = STATEFUL_SETS) =>
  configOf(w, filer, from).aggregates.map((a) => [
    a.name,
    a.type,
    ...a.deviceSets.map((s) => `${s.name}:${s.count}`),
  ])
const claimsOf = (w: World, part: string) =>
  [...w.objects.values()]
    .filter((o) => o.kind === CLAIMS.kind && o.metadata.name.includes(part))
    .map((o) => o.metadata.name)
    .sort()

/** What the filers tell, in both of their reports. */
function report(w: World, change: (before: FilerStatus) => Partial<FilerStatus>): void {
  for (const [filer, status] of w.reports) w.reports.set(filer, { ...status, ...change(status) })
}
function volumeReport(
  id: string,
  change: Partial<FilerStatus['volumes'][number]> = {},
): FilerStatus['volumes'][number] {
  return {
    id,
    name: 'x',
    aggregate: 'aggr1',
    side: 'a',
    type: 'Flexible',
    sizeBytes: 2 ** 30,
    usedBytes: 4096,
    snapshotUsedBytes: 0,
    snapshots: [],
    state: 'Ready',
    reason: '',
    message: '',
    ...change,
  }
}
/** What a filer tells when one of the two serves everything. */
function servedBy(owner: string, { sides, filer }: FilerStatus, epoch: number): FilerStatus['sides'] {
  const role = filer === owner ? ('Owner' as const) : ('Standby' as const)
  return sides.map((side) => ({
    ...side,
    owner,
    role,
    serving: filer === owner,
    epoch: side.side === 'a' ? epoch : 1,
  }))
}
function leave(w: World, name: string): void {
  const object = w.get(FILER_VOLUMES, name)!
  w.put({ ...object, metadata: { ...object.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
}
/** Replaces pods until the plan asks for no more; gives the pods that went, in order. */
function roll(w: World): string[] {
  const gone: string[] = []
  for (let i = 0; i < 10; i++) {
    const deleted = w.pass().filter((a) => a.startsWith('delete Pod/'))
    expect(deleted.length).toBeLessThanOrEqual(1)
    gone.push(...deleted.map((a) => a.slice('delete Pod/'.length)))
    w.bindClaims()
    w.runPods()
  }
  return gone
}

describe('a traditional volume', () => {
  test('has claims at both filers; the template waits for them, the pods go one after the other', () => {
    const w = running()
    w.put(traditional('archive'))
    w.settle()
    expect(claimsOf(w, '-vol-')).toEqual([
      'east-a-vol-archive-d-0',
      'east-a-vol-archive-d-1',
      'east-b-vol-archive-d-0',
      'east-b-vol-archive-d-1',
    ])
    expect(aggregatesOf(w, 'a')).toEqual([['aggr1', undefined, 'd:2']])
    expect(upToDate(w)).toMatchObject({
      reason: 'WaitingForClaims',
      message: expect.stringContaining('east-a-vol-archive-d-0'),
    })
    expect(conditionOf(volumeStatus(w, 'archive'), 'Ready')).toMatchObject({
      reason: 'Creating',
      message: expect.stringContaining('its devices are being added'),
    })
    w.bindClaims()
    expect(roll(w)).toEqual(['east-a-0', 'east-b-0'])
    for (const filer of ['a', 'b'])
      expect(aggregatesOf(w, filer, PODS)).toEqual([
        ['aggr1', undefined, 'd:2'],
        ['vol-archive', 'Traditional', 'd:2'],
      ])
    const spec = w.get(PODS, 'east-b-0')!['spec'] as {
      containers: { volumeMounts: { mountPath: string }[] }[]
    }
    expect(spec.containers[0]!.volumeMounts.map((m) => m.mountPath)).toContain(
      '/var/lib/tandem/devices/vol-archive-d-1',
    )
    expect(upToDate(w)?.reason).toBe('UpToDate')
    const order = plan(w.observed()).actions.find((a) => a.type === 'desired')
    expect(order).toBeUndefined()
    const id = w.get(FILER_VOLUMES, 'archive')!.metadata.uid!
    report(w, () => ({ generation: 0 }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: {
        volumes: [{ id, name: 'archive', type: 'Traditional', aggregate: 'vol-archive', sizeBytes: 0 }],
      },
    })
    report(w, () => ({
      generation: 99,
      volumes: [volumeReport(id, { side: 'b', aggregate: 'vol-archive', type: 'Traditional' })],
    }))
    w.settle()
    expect(volumeStatus(w, 'archive')).toMatchObject({
      id,
      type: 'Traditional',
      aggregate: 'vol-archive',
      servedBy: 'b',
      size: '1Gi',
    })
  })

  test('at a filer that is not there is refused', () => {
    const w = running()
    w.put(traditional('archive', { filer: 'z' }))
    w.settle()
    expect(accepted(w, 'archive')).toMatchObject({ status: 'False', reason: 'FilerNotFound' })
    expect(claimsOf(w, '-vol-')).toEqual([])
  })

  test('that is retained stays with the filers, and is taken back by its id and name alone', () => {
    const w = running()
    w.put(traditional('archive'))
    w.settle()
    w.bindClaims()
    roll(w)
    const id = w.get(FILER_VOLUMES, 'archive')!.metadata.uid!
    const there = volumeReport(id, {
      name: 'archive',
      side: 'b',
      aggregate: 'vol-archive',
      type: 'Traditional',
    })
    report(w, () => ({ volumes: [there] }))
    w.settle()
    const before = configOf(w, 'b')
    leave(w, 'archive')
    w.settle()
    expect(w.get(FILER_VOLUMES, 'archive')).toBeUndefined()
    expect(configOf(w, 'b')).toEqual(before)
    expect(roll(w)).toEqual([])
    expect(pairStatus(w).retainedVolumes).toMatchObject([{ id, name: 'archive', type: 'Traditional' }])

    const again = (name: string, spec: object) => {
      w.put({ ...traditional(name, spec), metadata: { name, namespace: 'ns', uid: `uid-${name}-2` } })
      w.settle()
      const condition = accepted(w, name)
      if (condition?.status !== 'True') w.objects.delete(`FilerVolume/${name}`)
      return condition
    }
    expect(again('archive', {})).toMatchObject({
      reason: 'RetainedDataExists',
      message: expect.stringContaining(`spec.adopt: ${id}`),
    })
    expect(again('other', { adopt: id })).toMatchObject({
      reason: 'InvalidSpec',
      message: expect.stringContaining('call the FilerVolume archive'),
    })
    expect(again('archive', { adopt: id, filer: 'a' })?.message).toContain('lives at filer b')
    expect(again('archive', { adopt: id, deviceSets: [{ ...set, count: 1 }] })?.message).toContain(
      'may be raised, not lowered',
    )
    expect(again('archive', { adopt: 'nothing' })?.reason).toBe('RetainedVolumeNotFound')
    expect(again('archive', { adopt: id })).toMatchObject({ status: 'True' })
    expect(configOf(w, 'b')).toEqual(before)
    expect(volumeStatus(w, 'archive')).toMatchObject({ id, type: 'Traditional' })
    expect(pairStatus(w).retainedVolumes).toBeUndefined()
  })

  test('that is retained gets a lost claim again; when all its claims are deleted the filers give it up first', () => {
    const w = running()
    w.put(traditional('archive'))
    w.settle()
    w.bindClaims()
    roll(w)
    const id = w.get(FILER_VOLUMES, 'archive')!.metadata.uid!
    const there = volumeReport(id, { side: 'b', aggregate: 'vol-archive', type: 'Traditional' })
    report(w, () => ({ volumes: [there], generation: 99 }))
    leave(w, 'archive')
    w.settle()
    w.objects.delete('PersistentVolumeClaim/east-b-vol-archive-d-1')
    w.settle()
    expect(claimsOf(w, '-vol-')).toHaveLength(4)
    w.bindClaims()
    expect(roll(w)).toEqual([])

    for (const name of claimsOf(w, '-vol-')) {
      const claim = w.get(CLAIMS, name)!
      w.put({ ...claim, metadata: { ...claim.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
    }
    report(w, () => ({ generation: 0 }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { volumes: [{ id, aggregate: 'vol-archive', state: 'Removed' }] },
    })
    expect(roll(w)).toEqual([])
    report(w, () => ({ volumes: [{ ...there, state: 'Removed' }] }))
    expect(w.pass()).toEqual(expect.arrayContaining(['apply StatefulSet/east-a', 'apply StatefulSet/east-b']))
    expect(w.pass()).toContain('delete Pod/east-a-0')
    // The first pod let go of its claims, and for a moment nobody serves the side: nothing comes back.
    for (const name of claimsOf(w, 'east-a-vol-')) w.objects.delete(`PersistentVolumeClaim/${name}`)
    report(w, (s) => ({ sides: s.sides.map((side) => ({ ...side, serving: false })) }))
    w.runPods()
    w.settle()
    expect(claimsOf(w, 'east-a-vol-')).toEqual([])
    report(w, (s) => ({ sides: wellStatus(s.filer).sides }))
    expect(roll(w)).toEqual(['east-b-0'])
    expect(aggregatesOf(w, 'b', PODS)).toEqual([['aggr1', undefined, 'd:2']])
  })

  test('that is not retained takes its claims along once the filer has freed it', () => {
    const w = running()
    w.put(traditional('archive', { reclaimPolicy: 'Delete' }))
    w.settle()
    w.bindClaims()
    roll(w)
    const id = w.get(FILER_VOLUMES, 'archive')!.metadata.uid!
    const there = volumeReport(id, { side: 'b', aggregate: 'vol-archive', type: 'Traditional' })
    report(w, () => ({ volumes: [there], generation: 99 }))
    leave(w, 'archive')
    w.settle()
    expect(claimsOf(w, '-vol-')).toHaveLength(4)
    report(w, () => ({ volumes: [{ ...there, state: 'Removed' }], generation: 100 }))
    w.pass()
    expect(w.get(FILER_VOLUMES, 'archive')).toBeUndefined()
    expect(claimsOf(w, '-vol-')).toEqual([])
    expect(roll(w)).toEqual(['east-a-0', 'east-b-0'])
    expect(aggregatesOf(w, 'b', PODS)).toEqual([['aggr1', undefined, 'd:2']])
  })
})

describe('growth', () => {
  const grown = {
    aggregates: [
      {
        ...aggregate,
        deviceSets: [
          { ...set, count: 3 },
          { ...set, name: 'e' },
        ],
      },
    ],
  }

  test('new claims first, then the template, then one pod after the other, each given back before the next', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', grown)
    expect(w.pass()).toEqual(expect.arrayContaining(['create PersistentVolumeClaim/east-a-aggr-aggr1-d-2']))
    expect(w.pass().filter((a) => a.includes('StatefulSet') || a.includes('Pod/'))).toEqual([])
    w.bindClaims()
    expect(w.pass()).toEqual(expect.arrayContaining(['apply StatefulSet/east-a', 'apply StatefulSet/east-b']))
    expect(w.pass()).toContain('delete Pod/east-a-0')

    // Filer b has taken over; a is back and filled again, its side still at b.
    w.runPods()
    const away = (s: FilerStatus) => ({ sides: servedBy('b', s, 2) })
    report(w, away)
    w.settle()
    const patient = plan(w.observed()).actions
    expect(patient.filter((a) => a.type === 'delete')).toEqual([])
    expect(w.get(PODS, 'east-b-0')).toBeDefined()
    expect(upToDate(w)).toMatchObject({
      reason: 'Updating',
      message: expect.stringContaining('at home again'),
    })
    report(w, () => ({ generation: 0 }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { takeover: { givebackEpoch: 2 } },
    })
    report(w, (s) => ({
      generation: 99,
      sides: wellStatus(s.filer).sides.map((side) => ({ ...side, epoch: 3 })),
    }))
    expect(roll(w)).toEqual(['east-b-0'])
    expect(aggregatesOf(w, 'b', PODS)).toEqual([['aggr1', undefined, 'd:3', 'e:2']])
    expect(upToDate(w)?.reason).toBe('UpToDate')
  })

  test('a filer that ended by itself since is not asked to serve at once; nobody goes while a side is only being opened', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', grown)
    w.settle()
    w.bindClaims()
    w.pass()
    w.pass()
    w.runPods()
    const pod = w.get(PODS, 'east-a-0')!
    w.put({ ...pod, status: { phase: 'Running', containerStatuses: [{ restartCount: 1 }] } })
    report(w, (s) => ({
      generation: 0,
      sides: servedBy('b', s, 2),
    }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { takeover: { givebackEpoch: 0 } },
    })
    report(w, (s) => ({
      sides: wellStatus(s.filer).sides.map((side) => ({ ...side, epoch: 3, serving: side.side === 'b' })),
    }))
    w.settle()
    expect(w.get(PODS, 'east-b-0')).toBeDefined()
    expect(upToDate(w)?.reason).toBe('Updating')
    report(w, (s) => ({ sides: wellStatus(s.filer).sides.map((side) => ({ ...side, epoch: 3 })) }))
    expect(roll(w)).toEqual(['east-b-0'])
  })

  test('who gives back by hand is not waited for', () => {
    const w = running({ takeover: { giveback: 'Manual' } })
    w.change(FILER_PAIRS, 'east', grown)
    w.settle()
    w.bindClaims()
    w.pass()
    expect(w.pass()).toContain('delete Pod/east-a-0')
    w.runPods()
    report(w, (s) => ({
      sides: servedBy('b', s, 2),
    }))
    expect(roll(w)).toEqual(['east-b-0'])
  })

  test('with update: Manual nobody deletes a pod, and the condition says whose turn it is', () => {
    const w = running({ update: 'Manual' })
    w.change(FILER_PAIRS, 'east', grown)
    w.settle()
    w.bindClaims()
    expect(roll(w)).toEqual([])
    expect(upToDate(w)).toMatchObject({ reason: 'WaitingForYou' })
  })

  test('claims that cannot be bound hold nobody’s pod, those that wait for a pod do not hold it', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', {
      aggregates: [{ ...aggregate, deviceSets: [set, { ...set, name: 'e', storageClassName: 'slow' }] }],
    })
    w.settle()
    const pending = () => {
      for (const name of claimsOf(w, 'aggr1-e'))
        w.put({ ...w.get(CLAIMS, name)!, status: { phase: 'Pending' } })
      w.settle()
    }
    w.storageClasses = new Map()
    pending()
    expect(upToDate(w)?.reason).toBe('WaitingForClaims')
    w.storageClasses = new Map([['slow', 'Immediate']])
    pending()
    expect(upToDate(w)?.reason).toBe('WaitingForClaims')
    w.storageClasses = new Map([['slow', 'WaitForFirstConsumer']])
    expect(w.pass()).toContain('apply StatefulSet/east-a')
  })

  test('devices that wait are told', () => {
    const w = running()
    const [known] = wellStatus('a').aggregates
    report(w, () => ({
      aggregates: [
        {
          ...known!,
          devices: ['aggr1-d-0', 'aggr1-d-1'],
          waitingDevices: [{ name: 'aggr1-d-2', reason: 'filer b does not have it yet' }],
        },
      ],
    }))
    w.settle()
    expect(upToDate(w)).toMatchObject({
      reason: 'DevicesWaiting',
      message: 'device aggr1-d-2 has not joined yet: filer b does not have it yet',
    })
    expect(pairStatus(w).aggregates).toMatchObject([
      { name: 'aggr1', devices: 2, waitingDevices: [{ name: 'aggr1-d-2' }] },
    ])
  })

  test('an aggregate goes only when it is known to hold nothing; its claims go if the policy says so', () => {
    const second = { ...aggregate, name: 'aggr2' }
    const w = running({ aggregates: [aggregate, second], reclaimPolicy: 'Delete' })
    const tell = (volumes: FilerStatus['volumes']) =>
      report(w, () => ({
        aggregates: ['aggr1', 'aggr2'].map((name) => ({ ...wellStatus('a').aggregates[0]!, name })),
        volumes,
      }))
    w.put(flexible('home', { aggregate: 'aggr2' }))
    w.settle()
    const refused = () => {
      w.settle()
      return conditionOf(pairStatus(w), 'Accepted')
    }
    w.change(FILER_PAIRS, 'east', { aggregates: [aggregate] })
    expect(refused()).toMatchObject({
      reason: 'InUse',
      message: expect.stringContaining('holds FilerVolume home'),
    })
    w.objects.delete('FilerVolume/home')
    expect(refused()?.message).toContain('cannot tell')
    tell([volumeReport('old', { aggregate: 'aggr2', state: 'Retained' })])
    expect(refused()?.message).toContain('retained volume old')
    expect(aggregatesOf(w, 'a')).toHaveLength(2)
    tell([])
    expect(roll(w)).toEqual(['east-a-0', 'east-b-0'])
    expect(aggregatesOf(w, 'a', PODS)).toEqual([['aggr1', undefined, 'd:2']])
    expect(claimsOf(w, 'aggr2')).toEqual([])
    expect(claimsOf(w, 'aggr1')).toHaveLength(4)
    expect(conditionOf(pairStatus(w), 'Accepted')?.status).toBe('True')
  })
})

describe('adoption', () => {
  test('a retained volume comes back under its id; an id that is not there, or in use, is refused', () => {
    const w = running()
    w.put(flexible('home'))
    w.settle()
    const id = w.get(FILER_VOLUMES, 'home')!.metadata.uid!
    report(w, () => ({ volumes: [volumeReport(id)] }))
    w.settle()
    w.put(flexible('second', { adopt: id }))
    w.settle()
    expect(accepted(w, 'second')).toMatchObject({ status: 'False', reason: 'VolumeInUse' })
    w.put(flexible('third', { adopt: 'nothing', export: { path: '/third' } }))
    w.settle()
    expect(accepted(w, 'third')).toMatchObject({ status: 'False', reason: 'RetainedVolumeNotFound' })

    leave(w, 'home')
    w.settle()
    expect(accepted(w, 'second')).toMatchObject({ status: 'True' })
    expect(volumeStatus(w, 'second').id).toBe(id)
    report(w, () => ({ generation: 0 }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { volumes: [{ id, name: 'second' }] },
    })

    // Decided once: neither another id nor none changes whose data it is.
    w.change(FILER_VOLUMES, 'second', { adopt: null })
    w.settle()
    expect(accepted(w, 'second')).toMatchObject({ status: 'False', reason: 'ImmutableField' })
    expect(volumeStatus(w, 'second').id).toBe(id)
    w.change(FILER_VOLUMES, 'second', { adopt: id })
    report(w, () => ({ volumes: [] }))
    w.settle()
    expect(accepted(w, 'second')).toMatchObject({ status: 'True' })
  })

  test('nobody is told that a volume is not there while its filer cannot say', () => {
    const w = running()
    report(w, (s) => ({ sides: s.sides.map((side) => ({ ...side, serving: false })) }))
    w.put(flexible('home', { adopt: 'old' }))
    w.settle()
    expect(accepted(w, 'home')).toMatchObject({ status: 'Unknown', reason: 'Unknown' })
    report(w, (s) => ({ ...wellStatus(s.filer), volumes: [volumeReport('old', { aggregate: 'aggr2' })] }))
    w.settle()
    expect(accepted(w, 'home')).toMatchObject({
      reason: 'InvalidSpec',
      message: expect.stringContaining('lies in aggregate aggr2'),
    })
  })

  test('a pair takes the claims and the Lease of its namesake if it names its id', () => {
    const w = running()
    const id = w.get(FILER_PAIRS, 'east')!.metadata.uid!
    const pair = w.get(FILER_PAIRS, 'east')!
    for (const pod of ['east-a-0', 'east-b-0']) w.objects.delete(`Pod/${pod}`)
    w.reports.clear()
    w.put({ ...pair, metadata: { ...pair.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
    w.settle()
    expect(w.get(FILER_PAIRS, 'east')).toBeUndefined()
    expect(w.get(LEASES, 'east')!.metadata.finalizers).toEqual([])
    const again = (spec: object) => {
      const object = pairObject(spec)
      w.put({ ...object, metadata: { ...object.metadata, uid: 'uid-of-the-next' } })
      w.settle()
      return conditionOf(pairStatus(w), 'Accepted')
    }
    expect(again({})).toMatchObject({
      reason: 'RetainedDataExists',
      message: expect.stringContaining(`spec.adopt: ${id}`),
    })
    expect(again({ adopt: 'nobody' })?.reason).toBe('RetainedDataNotFound')
    expect(again({ adopt: id })?.status).toBe('True')
    expect(pairStatus(w).id).toBe(id)
    expect(configOf(w, 'a').pairUid).toBe(id)
    expect(w.get(LEASES, 'east')!.metadata.finalizers).toEqual(['tandem.storage/vote'])
    expect(w.get(SERVICES, 'east-a')!.metadata.ownerReferences?.[0]?.uid).toBe('uid-of-the-next')
    w.change(FILER_PAIRS, 'east', { adopt: null })
    w.settle()
    expect(conditionOf(pairStatus(w), 'Accepted')?.reason).toBe('ImmutableField')
    expect(pairStatus(w).id).toBe(id)
  })
})

describe('a claim', () => {
  function claimed(spec: object = {}, foreign: string[] = []): World {
    const w = running()
    w.foreign = foreign
    const service = w.get(SERVICES, 'east-a')!
    w.put({ ...service, spec: { ...(service['spec'] as object), clusterIP: '10.96.0.7' } })
    w.put(flexible('home', { claimName: 'files', ...spec }))
    w.settle()
    return w
  }
  const verdict = (w: World) => conditionOf(volumeStatus(w, 'home'), 'Claimed')
  const persistent = (w: World) => w.get(PERSISTENT_VOLUMES, 'tandem-uid-home')
  const bind = (w: World) => w.put({ ...w.get(CLAIMS, 'files')!, status: { phase: 'Bound' } })

  test('is bound to a PersistentVolume that mounts what the status says', () => {
    const w = claimed()
    expect(persistent(w)!['spec']).toEqual({
      accessModes: ['ReadWriteMany'],
      capacity: { storage: '1Gi' },
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace: 'ns', name: 'files' },
      mountOptions: volumeStatus(w, 'home').mount!.options.split(','),
      nfs: { server: '10.96.0.7', path: '/home' },
      persistentVolumeReclaimPolicy: 'Retain',
      volumeMode: 'Filesystem',
    })
    expect(w.get(CLAIMS, 'files')!['spec']).toMatchObject({
      accessModes: ['ReadWriteMany'],
      storageClassName: '',
      volumeName: 'tandem-uid-home',
    })
    expect(verdict(w)?.reason).toBe('Binding')
    bind(w)
    w.settle()
    expect(verdict(w)).toMatchObject({ status: 'True', reason: 'Claimed' })
    // Another size is that of the PersistentVolume; the claim’s own cannot be changed.
    w.change(FILER_VOLUMES, 'home', { size: '2Gi' })
    w.settle()
    expect(persistent(w)!['spec']).toMatchObject({ capacity: { storage: '2Gi' } })
    expect(w.get(CLAIMS, 'files')!['spec']).toMatchObject({ resources: { requests: { storage: '1Gi' } } })
  })

  test('goes with the volume, and when it is taken out', () => {
    for (const end of [
      (w: World) => leave(w, 'home'),
      (w: World) => w.change(FILER_VOLUMES, 'home', { claimName: null }),
    ]) {
      const w = claimed()
      bind(w)
      w.settle()
      end(w)
      w.settle()
      expect(persistent(w)).toBeUndefined()
      expect(w.get(CLAIMS, 'files')).toBeUndefined()
      expect(claimsOf(w, 'aggr1')).toHaveLength(4)
    }
  })

  test('of somebody else, of another volume or of a device is not touched', () => {
    const foreign = claimed({}, ['PersistentVolumeClaim files'])
    expect(verdict(foreign)).toMatchObject({ status: 'False', reason: 'NameTaken' })
    expect(conditionOf(pairStatus(foreign), 'Accepted')?.status).toBe('True')
    expect(conditionOf(volumeStatus(foreign, 'home'), 'Accepted')?.status).toBe('True')

    const device = claimed({ claimName: 'east-a-log' })
    const log = device.get(CLAIMS, 'east-a-log')
    device.settle()
    expect(verdict(device)).toMatchObject({ reason: 'NameTaken' })
    expect(device.get(CLAIMS, 'east-a-log')).toEqual(log)

    const other = claimed()
    other.put(flexible('work', { claimName: 'files' }))
    other.settle()
    expect(accepted(other, 'work')).toMatchObject({
      reason: 'NameTaken',
      message: expect.stringContaining('spec.claimName'),
    })
  })

  test('is made anew when it was deleted; while it is there, another path is told and nothing changes', () => {
    const w = claimed()
    bind(w)
    w.settle()
    w.change(FILER_VOLUMES, 'home', { export: { path: '/elsewhere' } })
    w.settle()
    expect(verdict(w)?.reason).toBe('Outdated')
    expect(persistent(w)!['spec']).toMatchObject({ nfs: { path: '/home' } })
    w.objects.delete('PersistentVolumeClaim/files')
    w.settle()
    expect(persistent(w)!['spec']).toMatchObject({ nfs: { path: '/elsewhere' } })
    bind(w)
    w.settle()
    expect(verdict(w)?.status).toBe('True')
    // Bound to a claim that is gone, it can be bound to no other.
    w.put({ ...persistent(w)!, status: { phase: 'Released' } })
    w.objects.delete('PersistentVolumeClaim/files')
    expect(w.pass()).toContain('delete PersistentVolume/tandem-uid-home')
    w.settle()
    expect(w.get(CLAIMS, 'files')).toBeDefined()
    // The same when the next claim was there before that showed.
    w.put({ ...persistent(w)!, status: { phase: 'Released' } })
    expect(w.pass()).toContain('delete PersistentVolume/tandem-uid-home')
    w.settle()
    expect(persistent(w)?.['status']).toBeUndefined()
  })
})

describe('an order about a snapshot', () => {
  function ordered(request: unknown): World {
    const w = running()
    w.put(flexible('home'))
    w.settle()
    report(w, () => ({ volumes: [volumeReport('uid-home')] }))
    w.settle()
    order(w, request)
    return w
  }
  function order(w: World, request: unknown): void {
    const object = w.get(FILER_VOLUMES, 'home')!
    const text = typeof request === 'string' ? request : JSON.stringify(request)
    const annotations = { ...object.metadata.annotations, [ANNOTATION_SNAPSHOT_REQUEST]: text }
    w.put({ ...object, metadata: { ...object.metadata, annotations } })
  }
  const told = (w: World) => volumeStatus(w, 'home').snapshotRequest

  test('is asked of the filer that serves the volume until it answers, and never again', () => {
    const w = ordered({ id: '1', op: 'Create', snapshot: 's' })
    w.settle()
    expect(told(w)).toEqual({ id: '1', op: 'Create', snapshot: 's', state: 'Pending' })
    expect(w.snapshotRequests.length).toBeGreaterThan(0)
    expect(w.snapshotRequests.at(-1)).toEqual({
      volumeId: 'uid-home',
      op: 'Create',
      snapshot: 's',
      requestId: '1',
    })
    const key = outcomeKey('uid-home', '1')
    w.snapshotOutcomes.set(key, { state: 'Pending', reason: '', message: 'filer a did not answer' })
    w.settle()
    expect(told(w)).toMatchObject({ state: 'Pending', message: 'filer a did not answer' })
    w.snapshotOutcomes.set(key, { state: 'Done', reason: '', message: '' })
    w.settle()
    expect(told(w)).toEqual({ id: '1', op: 'Create', snapshot: 's', state: 'Done' })
    expect(w.events).toContain('Normal SnapshotCreated')
    w.snapshotOutcomes.clear()
    const asked = w.snapshotRequests.length
    w.settle()
    order(w, { id: '1', op: 'Restore', snapshot: 's' })
    w.settle()
    expect(w.snapshotRequests).toHaveLength(asked)
    expect(told(w)?.state).toBe('Done')
  })

  test('that the filer refuses says why', () => {
    const w = ordered({ id: '2', op: 'Delete', snapshot: 's' })
    w.snapshotOutcomes.set(outcomeKey('uid-home', '2'), {
      state: 'Failed',
      reason: 'NoSuchSnapshot',
      message: 'there is no snapshot s',
    })
    w.settle()
    expect(told(w)).toMatchObject({
      state: 'Failed',
      reason: 'NoSuchSnapshot',
      message: 'there is no snapshot s',
    })
    expect(w.events).toContain('Warning SnapshotDeleteFailed')
  })

  test.each([
    ['{', 'is not JSON'],
    ['null', 'id must be'],
    ['{"id":"3","op":"Rename","snapshot":"s"}', 'op must be one of Create, Delete, Restore'],
    ['{"id":"3","op":"Create","snapshot":"a/b"}', 'snapshot must be a name'],
  ])('%s is refused and asked of nobody', (text, message) => {
    const w = ordered(text)
    w.settle()
    expect(told(w)).toMatchObject({
      state: 'Failed',
      reason: 'InvalidRequest',
      message: expect.stringContaining(message),
    })
    expect(w.snapshotRequests).toEqual([])
  })

  test('by a schedule that goes backwards is refused', () => {
    const w = running()
    const schedules = [{ name: 'odd', cron: '0 22-3 * * *', keep: 1 }]
    w.put(flexible('home', { snapshotPolicy: { schedules } }))
    w.settle()
    expect(accepted(w, 'home')).toMatchObject({
      reason: 'InvalidSpec',
      message: expect.stringContaining('schedules[odd].cron: 22-3 goes backwards'),
    })
  })

  test('waits while the volume is not served', () => {
    const w = ordered({ id: '4', op: 'Create', snapshot: 's' })
    report(w, (s) => ({ sides: s.sides.map((side) => ({ ...side, serving: false })) }))
    w.settle()
    expect(told(w)).toMatchObject({ state: 'Pending', message: 'waits until the volume is served' })
    expect(w.snapshotRequests).toEqual([])
  })

  test('the newest snapshots and what they take are in the status; schedules go to the filers', () => {
    const w = ordered({ id: '5', op: 'Create', snapshot: 's' })
    const schedules = [{ name: 'hourly', cron: '0 * * * *', keep: 24 }]
    w.change(FILER_VOLUMES, 'home', { snapshotPolicy: { schedules } })
    const snapshots = Array.from({ length: 40 }, (_, i) => ({
      name: `s${i}`,
      created: new Date(Date.UTC(2026, 0, 1, 0, i)).toISOString(),
      usedBytes: 8192,
    }))
    report(w, () => ({
      generation: 0,
      volumes: [volumeReport('uid-home', { snapshots, snapshotUsedBytes: 2 ** 20 })],
    }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { volumes: [{ snapshotSchedules: schedules }] },
    })
    w.settle()
    const status = volumeStatus(w, 'home')
    expect(status).toMatchObject({ snapshotCount: 40, snapshotUsed: '1Mi' })
    expect(status.snapshots).toHaveLength(32)
    expect(status.snapshots![0]).toEqual({ name: 's39', created: snapshots[39]!.created, used: '8Ki' })
  })
})
