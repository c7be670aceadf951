import { describe, expect, test } from '@jest/globals'
import { kinds } from '../../api/v1alpha1/kinds.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { ObjectStore } from './object-store.ts'
import type { Mutation } from './object-store.ts'
import { findResource } from './resources.ts'
import { schemaGate } from './schema-gate.ts'

const pairs = findResource('tandem.storage', 'v1alpha1', 'filerpairs')!
const volumes = findResource('tandem.storage', 'v1alpha1', 'filervolumes')!
const leases = findResource('coordination.k8s.io', 'v1', 'leases')!
const services = findResource('', 'v1', 'services')!
const pods = findResource('', 'v1', 'pods')!
const secrets = findResource('', 'v1', 'secrets')!
const me = { manager: 'test' }

function newStore(): { store: ObjectStore; mutations: Mutation[] } {
  const mutations: Mutation[] = []
  let uid = 0
  const store = new ObjectStore({
    schema: schemaGate(kinds),
    commit: (mutation) => mutations.push(mutation),
    now: () => new Date('2026-01-01T00:00:00Z'),
    uid: () => `uid-${++uid}`,
  })
  return { store, mutations }
}

function lease(name: string, extra: Record<string, unknown> = {}): KubeObject {
  return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name }, spec: {}, ...extra }
}

function pair(spec: Record<string, unknown>): KubeObject {
  return { apiVersion: 'tandem.storage/v1alpha1', kind: 'FilerPair', metadata: { name: 'east' }, spec }
}

const aggregates = [{ name: 'aggr1', filer: 'a', deviceSets: [{ name: 'd', count: 1, size: '1Gi' }] }]

describe('writes', () => {
  test('a write with an old resourceVersion is refused, without one it is not', () => {
    const { store } = newStore()
    const first = store.create(leases, 'default', lease('east'), me)
    const second = store.update(leases, 'default', { ...first, spec: { holderIdentity: 'a' } }, me)
    expect(() => store.update(leases, 'default', { ...first, spec: { holderIdentity: 'b' } }, me)).toThrow(
      expect.objectContaining({ code: 409, reason: 'Conflict' }),
    )
    expect(() =>
      store.patch(
        leases,
        'default',
        'east',
        { metadata: { resourceVersion: first.metadata.resourceVersion } },
        me,
      ),
    ).toThrow(expect.objectContaining({ code: 409 }))
    expect(store.get(leases, 'default', 'east')).toEqual(second)
    store.update(leases, 'default', lease('east', { spec: { holderIdentity: 'c' } }), me)
    expect(store.get(leases, 'default', 'east')['spec']).toEqual({ holderIdentity: 'c' })
  })

  test('what changes nothing makes no revision', () => {
    const { store, mutations } = newStore()
    const first = store.create(leases, 'default', lease('east'), me)
    store.update(leases, 'default', first, me)
    store.patch(leases, 'default', 'east', { spec: {} }, me)
    expect(mutations).toHaveLength(1)
  })

  test('generation counts changes of spec only; status is a resource of its own', () => {
    const { store } = newStore()
    const made = store.create(pairs, 'default', { ...pair({ aggregates }), status: { epoch: 3 } }, me)
    expect(made.metadata.generation).toBe(1)
    expect(made['status']).toBeUndefined()
    const reported = store.patch(
      pairs,
      'default',
      'east',
      { status: { epoch: 4 }, spec: { log: null } },
      { ...me, subresource: 'status' },
    )
    expect(reported['status']).toEqual({ epoch: 4 })
    expect(reported['spec']).toEqual(made['spec'])
    expect(reported.metadata.generation).toBe(1)
    const labelled = store.patch(
      pairs,
      'default',
      'east',
      { metadata: { labels: { x: 'y' } }, status: { epoch: 9 } },
      me,
    )
    expect(labelled.metadata.generation).toBe(1)
    expect(labelled['status']).toEqual({ epoch: 4 })
    const changed = store.patch(pairs, 'default', 'east', { spec: { takeover: { mode: 'Manual' } } }, me)
    expect(changed.metadata.generation).toBe(2)
  })

  test('our kinds get their defaults, and a rule refuses with its message', () => {
    const { store } = newStore()
    const made = store.create(pairs, 'default', pair({ aggregates }), me)
    expect(made['spec']).toMatchObject({ filers: [{ name: 'a' }, { name: 'b' }] })
    expect(() => store.patch(pairs, 'default', 'east', { spec: { agregates: [] } }, me)).toThrow(/aggregates/)
    expect(() =>
      store.patch(pairs, 'default', 'east', { spec: { filers: [{ name: 'a' }, { name: 'c' }] } }, me),
    ).toThrow(expect.objectContaining({ code: 422 }))
  })

  test('stringData of a secret is kept as data', () => {
    const { store } = newStore()
    const made = store.create(
      secrets,
      'default',
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { a: 'x' } },
      me,
    )
    expect(made['data']).toEqual({ a: 'eA==' })
    expect(made['stringData']).toBeUndefined()
  })
})

describe('deletion', () => {
  test('an object stays until its last finalizer goes, and gets no new one meanwhile', () => {
    const { store, mutations } = newStore()
    store.create(leases, 'default', lease('east', { metadata: { name: 'east', finalizers: ['x/y'] } }), me)
    store.delete(leases, 'default', 'east')
    expect(store.get(leases, 'default', 'east').metadata.deletionTimestamp).toBe('2026-01-01T00:00:00Z')
    expect(() =>
      store.patch(leases, 'default', 'east', { metadata: { finalizers: ['x/y', 'z/z'] } }, me),
    ).toThrow(/no new finalizers/)
    store.patch(leases, 'default', 'east', { metadata: { finalizers: null } }, me)
    expect(() => store.get(leases, 'default', 'east')).toThrow(expect.objectContaining({ code: 404 }))
    expect(mutations.map((m) => m.type)).toEqual(['ADDED', 'MODIFIED', 'DELETED'])
  })

  test('what its owners leave behind is collected, also down a chain; orphans stay', () => {
    const { store } = newStore()
    const owner = (object: KubeObject): Record<string, unknown> => ({
      ownerReferences: [
        {
          apiVersion: object.apiVersion,
          kind: object.kind,
          name: object.metadata.name,
          uid: object.metadata.uid,
        },
      ],
    })
    const root = store.create(leases, 'default', lease('root'), me)
    const child = store.create(
      leases,
      'default',
      lease('child', { metadata: { name: 'child', ...owner(root) } }),
      me,
    )
    store.create(leases, 'default', lease('leaf', { metadata: { name: 'leaf', ...owner(child) } }), me)
    store.delete(leases, 'default', 'root')
    expect(store.list(leases)).toEqual([])
    const other = store.create(leases, 'default', lease('root'), me)
    store.create(leases, 'default', lease('child', { metadata: { name: 'child', ...owner(other) } }), me)
    store.delete(leases, 'default', 'root', { orphan: true })
    expect(store.list(leases).map((o) => o.metadata.name)).toEqual(['child'])
  })

  test('a pod on a node goes only when its kubelet deletes it with grace 0', () => {
    const { store } = newStore()
    store.create(
      pods,
      'default',
      { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { nodeName: 'n' } },
      me,
    )
    store.delete(pods, 'default', 'p')
    store.patch(pods, 'default', 'p', { status: { phase: 'Running' } }, { ...me, subresource: 'status' })
    expect(store.get(pods, 'default', 'p').metadata.deletionTimestamp).toBeDefined()
    store.delete(pods, 'default', 'p', { gracePeriodSeconds: 0 })
    expect(store.list(pods)).toEqual([])
  })

  test('a deletion meant for another uid is refused', () => {
    const { store } = newStore()
    store.create(leases, 'default', lease('east'), me)
    expect(() => store.delete(leases, 'default', 'east', { uid: 'other' })).toThrow(
      expect.objectContaining({ code: 409 }),
    )
  })
})

describe('server-side apply', () => {
  const service = (spec: Record<string, unknown>, labels: Record<string, string> = {}): KubeObject => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 's', labels },
    spec,
  })

  test('a field dropped from the applied object goes, one of another writer stays', () => {
    const { store } = newStore()
    store.apply(
      services,
      'default',
      's',
      service({ type: 'ClusterIP', sessionAffinity: 'None' }, { a: '1', b: '2' }),
      { manager: 'operator' },
    )
    store.patch(
      services,
      'default',
      's',
      { spec: { clusterIP: '127.0.0.1' }, metadata: { labels: { c: '3' } } },
      { manager: 'proxy' },
    )
    const after = store.apply(services, 'default', 's', service({ type: 'ClusterIP' }, { a: '1' }), {
      manager: 'operator',
    })
    expect(after['spec']).toEqual({ type: 'ClusterIP', clusterIP: '127.0.0.1' })
    expect(after.metadata.labels).toEqual({ a: '1', c: '3' })
  })

  test('what a manager created is not his to drop by an apply', () => {
    const { store } = newStore()
    store.create(services, 'default', service({ type: 'ClusterIP', selector: { filer: 'a' } }), {
      manager: 'operator',
    })
    const after = store.apply(services, 'default', 's', service({ type: 'ClusterIP' }), {
      manager: 'operator',
    })
    expect(after['spec']).toEqual({ type: 'ClusterIP', selector: { filer: 'a' } })
  })

  test('what another writer changed since is no longer the applier’s to remove', () => {
    const { store } = newStore()
    store.apply(services, 'default', 's', service({ selector: { filer: 'a' } }), { manager: 'operator' })
    store.patch(services, 'default', 's', { spec: { selector: { filer: 'b' } } }, { manager: 'filer' })
    const after = store.apply(services, 'default', 's', service({ type: 'ClusterIP' }), {
      manager: 'operator',
    })
    expect(after['spec']).toEqual({ type: 'ClusterIP', selector: { filer: 'b' } })
  })

  test('lists with keys merge by key: entries of two managers live together, a dropped one goes', () => {
    const { store } = newStore()
    const podWith = (...names: string[]): KubeObject => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p' },
      spec: { volumes: names.map((name) => ({ name, emptyDir: {} })) },
    })
    const namesOf = (object: KubeObject): string[] =>
      (object['spec'] as { volumes: { name: string }[] }).volumes.map((volume) => volume.name)
    store.apply(pods, 'default', 'p', podWith('x', 'y'), { manager: 'one' })
    const both = store.apply(pods, 'default', 'p', podWith('z'), { manager: 'two' })
    expect(namesOf(both)).toEqual(['x', 'y', 'z'])
    expect(namesOf(store.apply(pods, 'default', 'p', podWith('y'), { manager: 'one' }))).toEqual(['y', 'z'])
  })

  test('a default that nobody owns survives an apply that does not name it', () => {
    const { store } = newStore()
    store.apply(pairs, 'default', 'east', pair({ aggregates, takeover: { mode: 'Manual' } }), {
      manager: 'one',
    })
    const after = store.apply(pairs, 'default', 'east', pair({ aggregates }), { manager: 'one' })
    expect((after['spec'] as { takeover: { mode: string } }).takeover.mode).toBe('Automatic')
    expect(after.metadata.generation).toBe(2)
  })

  test('conditions in status merge by type, each manager removing its own', () => {
    const { store } = newStore()
    store.create(pairs, 'default', pair({ aggregates }), me)
    const status = (...types: string[]): KubeObject => ({
      ...pair({}),
      status: { conditions: types.map((type) => ({ type, status: 'True' })) },
    })
    store.apply(pairs, 'default', 'east', status('Ready', 'LinksUp'), {
      manager: 'one',
      subresource: 'status',
    })
    store.apply(pairs, 'default', 'east', status('Accepted'), { manager: 'two', subresource: 'status' })
    const after = store.apply(pairs, 'default', 'east', status('Ready'), {
      manager: 'one',
      subresource: 'status',
    })
    expect((after['status'] as { conditions: { type: string }[] }).conditions.map((c) => c.type)).toEqual([
      'Ready',
      'Accepted',
    ])
  })

  test('applied again, nothing changes', () => {
    const { store, mutations } = newStore()
    store.apply(pairs, 'default', 'east', pair({ aggregates }), { manager: 'one' })
    store.apply(pairs, 'default', 'east', pair({ aggregates }), { manager: 'one' })
    expect(mutations).toHaveLength(1)
  })
})

test('a snapshot restores the same objects and the same ownership', () => {
  const { store } = newStore()
  store.apply(
    services,
    'default',
    's',
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 's' }, spec: { type: 'ClusterIP', x: 1 } },
    { manager: 'one' },
  )
  store.create(
    volumes,
    'default',
    {
      apiVersion: 'tandem.storage/v1alpha1',
      kind: 'FilerVolume',
      metadata: { name: 'home' },
      spec: { pairName: 'east', aggregate: 'aggr1', size: '1Gi' },
    },
    me,
  )
  const { store: second } = newStore()
  second.restore(store.revision, JSON.parse(JSON.stringify([...store.snapshot()])) as Mutation[])
  expect([...second.snapshot()]).toEqual([...store.snapshot()])
  expect(second.revision).toBe(store.revision)
  const after = second.apply(
    services,
    'default',
    's',
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 's' }, spec: { type: 'ClusterIP' } },
    { manager: 'one' },
  )
  expect(after['spec']).toEqual({ type: 'ClusterIP' })
})
