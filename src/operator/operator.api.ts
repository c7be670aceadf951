/**
 * The operator against a real API server (KUBECONFIG), without kubelet: pods and filers are the test's. It acts as the service account
 * of manifests/install.yaml, so that its Role is tested with it. Run by `make api`. Volumes and growth: volumes.api.ts.
 */
import { describe, expect, test } from '@jest/globals'
import { ruleCases } from '../api/v1alpha1/rules.cases.ts'
import type { FilerPodConfig } from '../api/v1alpha1/filer-config.ts'
import type { KubeObject, Resource } from '../edge/kube/api.ts'
import { KubeError } from '../edge/kube/api.ts'
import {
  CLAIMS,
  EVENTS,
  FILER_PAIRS,
  FILER_VOLUMES,
  LEASES,
  PODS,
  ROLES,
  ROLE_BINDINGS,
  SECRETS,
  SERVICES,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
} from '../edge/kube/resources.ts'
import {
  OURS,
  admin,
  condition,
  create,
  freshNamespace,
  inNamespace,
  isReason,
  names,
  namespace,
  namespaceNumber,
  operator,
  pairStatus,
  passes,
  runBoth,
  runPod,
  sample,
  sampleVolume,
  startOperator,
  until,
  volumeStatus,
} from './testing/api-bed.ts'
import { FakeFiler, wellStatus } from './testing/fake-filers.ts'

describe('a pair', () => {
  test('becomes all of its objects; a second pass writes nothing', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await create(inNamespace(sampleVolume))
    await until(pairStatus, isReason('Accepted', 'Accepted'))
    const volume = await until(volumeStatus, isReason('Accepted', 'Accepted'))
    expect(await names(STATEFUL_SETS)).toEqual(['east-a', 'east-b'])
    expect(await names(SERVICES)).toEqual(['east-a', 'east-b', 'east-filer-pods'])
    expect(await names(CLAIMS)).toEqual(
      ['a', 'b'].flatMap((f) => [`east-${f}-aggr-aggr1-d-0`, `east-${f}-aggr-aggr1-d-1`, `east-${f}-log`]),
    )
    expect(await names(SECRETS)).toEqual(expect.arrayContaining(['east-a-tls', 'east-b-tls', 'east-ca']))
    expect(await names(ROLES)).toEqual(['east-a', 'east-b'])
    expect(await names(ROLE_BINDINGS)).toEqual(['east-a', 'east-b'])
    expect(await names(SERVICE_ACCOUNTS)).toEqual(expect.arrayContaining(['east-a', 'east-b']))
    const lease = await admin.get(LEASES, namespace, 'east')
    expect(lease.metadata.finalizers).toEqual(['tandem.storage/vote'])
    const service = (await admin.get(SERVICES, namespace, 'east-b'))['spec'] as Record<string, unknown>
    expect(service['selector']).toEqual({ 'tandem.storage/pair': 'east', 'tandem.storage/filer': 'b' })
    expect(service['publishNotReadyAddresses']).toBe(true)
    expect(volume.mount).toMatchObject({ server: expect.stringMatching(/^\d/), path: '/home' })
    const status = await pairStatus()
    expect(condition(status, 'Ready')).toMatchObject({ status: 'False', reason: 'Starting' })
    expect(status.conditions?.every((c) => c.observedGeneration === 1)).toBe(true)

    await operator!.idle()
    await operator!.stop()
    await startOperator()
    expect(passes.map((p) => [p.writes, p.error])).toEqual([[0, undefined]])
  })

  test('is Ready when its filers say so, and hands them what is wanted; a takeover shows', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    const created = await create(inNamespace(sampleVolume))
    const [a, b] = await runBoth()
    await until(pairStatus, (s) =>
      ['Ready', 'Redundant', 'TakeoverPossible', 'LinksUp', 'UpToDate'].every(
        (c) => condition(s, c)?.status === 'True',
      ),
    )
    const volume = await until(volumeStatus, isReason('Ready', 'Ready'))
    expect(volume).toMatchObject({ servedBy: 'a', size: '1Gi', id: created.metadata.uid })
    for (const filer of [a, b])
      expect(filer.orders.at(-1)).toMatchObject({
        volumes: [
          {
            id: created.metadata.uid,
            name: 'home',
            sizeBytes: 2 ** 30,
            state: 'Present',
            export: {
              path: '/home',
              rules: [{ clients: ['0.0.0.0/0'], access: 'ReadWrite', squash: 'None' }],
            },
          },
        ],
        takeover: { mode: 'Automatic', giveback: 'Automatic', givebackDelayMs: 60_000, givebackEpoch: 0 },
      })
    const generation = a.orders.at(-1)!.generation

    // Filer b takes over; it rewrites the Service, and the operator leaves that alone.
    await admin.mergePatch(SERVICES, namespace, 'east-a', {
      metadata: { annotations: { 'tandem.storage/epoch': '2' } },
      spec: { selector: { 'tandem.storage/filer': 'b' } },
    })
    await admin.delete(PODS, namespace, 'east-a-0', { gracePeriodSeconds: 0 })
    b.tell({
      sides: b.status.sides.map((s) => ({
        ...s,
        owner: 'b',
        role: 'Owner',
        serving: true,
        mirrored: false,
        takeoverPossible: false,
        epoch: s.epoch + 1,
        reason: 'PartnerDown',
        message: 'filer a does not answer',
      })),
      lastTakeover: {
        side: 'a',
        filer: 'b',
        reason: 'PartnerDown',
        time: '2026-01-01T00:00:00Z',
        clientPauseMilliseconds: 700,
      },
    })
    const status = await until(pairStatus, (s) => s.serving === 'a:b b:b')
    expect(condition(status, 'Ready')).toMatchObject({ status: 'True' })
    expect(condition(status, 'Redundant')).toMatchObject({ status: 'False', reason: 'PartnerDown' })
    expect(condition(status, 'TakeoverPossible')).toMatchObject({ status: 'False', reason: 'PartnerDown' })
    expect(status.lastTakeover).toMatchObject({ filer: 'b', clientPauseMilliseconds: 700 })
    expect(status.epoch).toBe(4)
    const service = (await admin.get(SERVICES, namespace, 'east-a'))['spec'] as Record<string, unknown>
    expect(service['selector']).toEqual({ 'tandem.storage/pair': 'east', 'tandem.storage/filer': 'b' })
    expect(b.orders.at(-1)!.generation).toBe(generation)
    // Events follow the status.
    await until(
      async () => (await admin.list(EVENTS, { namespace })).items.map((event) => event['reason']),
      (reasons) => reasons.includes('Ready') && reasons.includes('PartnerDown'),
    )

    // Another size is handed over, with a higher generation.
    await admin.mergePatch(FILER_VOLUMES, namespace, 'home', { spec: { size: '2Gi' } })
    await until(
      async () => b.orders.at(-1)!,
      (o) => o.volumes[0]?.sizeBytes === 2 ** 31 && o.generation > generation,
    )
  })

  test('goes once its volumes are gone; Retain leaves claims and Lease, which a namesake does not touch', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await create(inNamespace(sampleVolume))
    await until(volumeStatus, isReason('Accepted', 'Accepted'))
    await admin.delete(FILER_PAIRS, namespace, 'east')
    const waiting = await until(pairStatus, isReason('Ready', 'InUse'))
    expect(condition(waiting, 'Ready')?.message).toContain('FilerVolume home')
    expect(await names(STATEFUL_SETS)).toEqual(['east-a', 'east-b'])
    await admin.delete(FILER_VOLUMES, namespace, 'home')
    await until(
      () => names(FILER_PAIRS),
      (n) => n.length === 0,
    )
    expect(await names(STATEFUL_SETS)).toEqual([])
    expect(await names(SERVICES)).toEqual([])
    expect(await names(ROLES)).toEqual([])
    expect(await names(CLAIMS)).toHaveLength(6)
    expect(await names(LEASES)).toEqual(['east'])

    await create(inNamespace(sample))
    const refused = await until(pairStatus, isReason('Accepted', 'RetainedDataExists'))
    expect(condition(refused, 'Accepted')?.message).toContain('east-a-log')
    expect(await names(STATEFUL_SETS)).toEqual([])
  })

  test('with Delete takes everything along, after the filer has freed the volume', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample, { reclaimPolicy: 'Delete' }))
    const volume = await create(inNamespace(sampleVolume, { reclaimPolicy: 'Delete' }))
    const [a] = await runBoth()
    await until(volumeStatus, isReason('Ready', 'Ready'))
    await admin.delete(FILER_VOLUMES, namespace, 'home')
    await until(
      () => names(FILER_VOLUMES),
      (n) => n.length === 0,
    )
    expect(
      a.orders.some((o) => o.volumes.some((v) => v.id === volume.metadata.uid && v.state === 'Removed')),
    ).toBe(true)
    await admin.delete(FILER_PAIRS, namespace, 'east')
    await until(
      () => names(STATEFUL_SETS),
      (n) => n.length === 0,
    )
    expect(await names(FILER_PAIRS)).toEqual(['east'])
    for (const filer of ['a', 'b'])
      await admin.delete(PODS, namespace, `east-${filer}-0`, { gracePeriodSeconds: 0 })
    await until(
      () => names(FILER_PAIRS),
      (n) => n.length === 0,
    )
    expect(await names(LEASES)).toEqual([])
    // Nobody unprotects claims here: no controller manager.
    const { items } = await admin.list(CLAIMS, { namespace })
    expect(items.every((c) => c.metadata.deletionTimestamp !== undefined)).toBe(true)
  })

  test('gets a pod with another template only while it is redundant, one at a time', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    const [a, b] = await runBoth()
    await until(pairStatus, isReason('UpToDate', 'UpToDate'))
    await until(pairStatus, isReason('Redundant', 'Redundant'))
    const tell = (mirrored: boolean, epoch: number): void => {
      for (const filer of [a, b])
        filer.tell({
          sides: filer.status.sides.map((s) => ({ ...s, mirrored, takeoverPossible: mirrored, epoch })),
        })
    }
    tell(false, 2)
    await until(pairStatus, (s) => condition(s, 'Redundant')?.status === 'False')
    await admin.mergePatch(FILER_PAIRS, namespace, 'east', { spec: { cacheSize: '300Mi' } })
    await until(pairStatus, isReason('UpToDate', 'WaitingForRedundancy'))
    const leaving = async (): Promise<string[]> =>
      (await admin.list(PODS, { namespace })).items
        .filter((p) => p.metadata.deletionTimestamp !== undefined)
        .map((p) => p.metadata.name)
    expect([await names(PODS), await leaving()]).toEqual([['east-a-0', 'east-b-0'], []])
    tell(true, 3)
    await until(
      async () => [...(await leaving()), ...((await names(PODS)).length < 2 ? ['gone'] : [])],
      (n) => n.length > 0,
    )
    await operator!.idle()
    expect(await names(PODS)).toContain('east-b-0')
    expect(await leaving()).not.toContain('east-b-0')
  })
})

describe('bad input', () => {
  test('a renamed filer, more devices, a size too small: the server or Accepted says so, the old spec stays in force', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await until(pairStatus, isReason('Accepted', 'Accepted'))
    const config = async (): Promise<FilerPodConfig> => {
      const spec = (await admin.get(STATEFUL_SETS, namespace, 'east-a'))['spec'] as {
        template: { spec: { containers: { env: { name: string; value: string }[] }[] } }
      }
      const { env } = spec.template.spec.containers[0]!
      return JSON.parse(env.find((e) => e.name === 'TANDEM_FILER_CONFIG')!.value) as FilerPodConfig
    }
    const before = await until(config, () => true)
    const bad: [object, string, RegExp][] = [
      [{ filers: [{ name: 'a' }, { name: 'c' }] }, 'ImmutableField', /spec\.filers.*put the old names back/],
      [{ cacheSize: '1Mi' }, 'InvalidSpec', /spec\.cacheSize.*at least 64Mi/],
      [{ log: { size: '300Mi' } }, 'ImmutableField', /spec\.log.*fixed/],
    ]
    for (const [spec, reason, message] of bad) {
      try {
        await admin.mergePatch(FILER_PAIRS, namespace, 'east', { spec })
      } catch (error) {
        expect([422, (error as Error).message]).toEqual([
          (error as KubeError).code,
          expect.stringMatching(message),
        ])
        continue
      }
      const status = await until(pairStatus, isReason('Accepted', reason))
      expect(condition(status, 'Accepted')?.message).toMatch(message)
      expect(condition(status, 'Accepted')?.message).toContain('stays in force')
      expect(await config()).toEqual(before)
      await admin.mergePatch(FILER_PAIRS, namespace, 'east', {
        spec: { ...(sample['spec'] as object), filers: [{ name: 'a' }, { name: 'b' }] },
      })
      await until(pairStatus, isReason('Accepted', 'Accepted'))
    }
  })

  test('an unknown pair, an unknown aggregate, a path twice: each names field, reason and remedy, the rest goes on', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sampleVolume, { pairName: 'nowhere' }, 'lost'))
    await create(inNamespace(sample))
    await create(inNamespace(sampleVolume))
    await until(() => volumeStatus('home'), isReason('Accepted', 'Accepted'))
    await create(inNamespace(sampleVolume, { aggregate: 'aggr9', export: { path: '/x' } }, 'astray'))
    await create(inNamespace(sampleVolume, {}, 'second'))
    const said = async (name: string, reason: string): Promise<string | undefined> =>
      condition(await until(() => volumeStatus(name), isReason('Accepted', reason)), 'Accepted')?.message
    expect(await said('lost', 'PairNotFound')).toMatch(/spec\.pairName.*nowhere.*create it/)
    expect(await said('astray', 'AggregateNotFound')).toMatch(/spec\.aggregate.*aggr9.*aggr1/)
    expect(await said('second', 'NameTaken')).toMatch(/spec\.export\.path.*home.*choose another/)
    expect(condition(await volumeStatus(), 'Accepted')?.status).toBe('True')
    // The pair that was missed comes: the volume is taken up.
    await create(inNamespace(sample, {}, 'nowhere'))
    await until(() => volumeStatus('lost'), isReason('Accepted', 'Accepted'))
  })

  test('an unknown StorageClass; one node for spread: Required', async () => {
    await freshNamespace()
    await startOperator()
    const aggregates = [
      {
        name: 'aggr1',
        filer: 'a',
        deviceSets: [{ name: 'd', size: '1Gi', storageClassName: 'no-such-class' }],
      },
    ]
    await create(inNamespace(sample, { aggregates }))
    const missing = await until(pairStatus, isReason('Ready', 'StorageClassNotFound'))
    expect(condition(missing, 'Ready')?.message).toMatch(/no-such-class.*east-a-aggr-aggr1-d-0.*create it/)

    await freshNamespace()
    await operator!.stop()
    await startOperator()
    await create(inNamespace(sample, { placement: { spread: 'Required' } }))
    await runPod('b', `127.9.${namespaceNumber}.2`, new FakeFiler(wellStatus('b', { sides: [] })))
    await admin.mergePatch(
      PODS,
      namespace,
      'east-b-0',
      {
        status: {
          phase: 'Pending',
          conditions: [
            {
              type: 'PodScheduled',
              status: 'False',
              reason: 'Unschedulable',
              message: "0/1 nodes are available: 1 node(s) didn't match pod affinity/anti-affinity.",
            },
          ],
        },
      },
      'status',
    )
    await runPod('a', `127.9.${namespaceNumber}.1`, new FakeFiler(wellStatus('a', { sides: [] })))
    const status = await until(pairStatus, isReason('Ready', 'Unschedulable'))
    expect(condition(status, 'Ready')?.message).toMatch(/east-b-0.*spec\.placement\.spread.*Preferred/)
  })

  test('an object of somebody else is not touched', async () => {
    await freshNamespace()
    await startOperator()
    const theirs = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'east-a', namespace },
      spec: { ports: [{ port: 80 }] },
    }
    await admin.create(SERVICES, theirs)
    await create(inNamespace(sample))
    const status = await until(pairStatus, isReason('Accepted', 'NameTaken'))
    expect(condition(status, 'Accepted')?.message).toContain('Service east-a')
    expect((await admin.get(SERVICES, namespace, 'east-a')).metadata.labels).toBeUndefined()
  })

  test('every case of the table that the server can judge', async () => {
    await freshNamespace()
    const resourceOf = (kind: string): Resource => OURS[kind]!
    const definition = await admin.get(
      {
        group: 'apiextensions.k8s.io',
        version: 'v1',
        plural: 'customresourcedefinitions',
        kind: '',
        namespaced: false,
      },
      '',
      'filerpairs.tandem.storage',
    )
    const cel = JSON.stringify(definition['spec']).includes('x-kubernetes-validations')
    const wrong: string[] = []
    for (const [index, c] of ruleCases.entries()) {
      // Unknown fields are dropped, not refused, unless a client asks for strictness.
      if (c.refused?.startsWith('did you mean') || (!cel && !c.bySchema && c.refused !== undefined)) continue
      const object = (spec: object): KubeObject => ({
        apiVersion: 'tandem.storage/v1alpha1',
        kind: c.kind,
        metadata: { name: c.objectName ?? `case-${index}`, namespace },
        spec: JSON.parse(JSON.stringify(spec)) as object,
      })
      let said: string | undefined
      try {
        if (c.old !== undefined) {
          const old = await admin.create(resourceOf(c.kind), object(c.old))
          await admin.update(resourceOf(c.kind), { ...object(c.spec), metadata: old.metadata })
        } else await admin.create(resourceOf(c.kind), object(c.spec))
      } catch (error) {
        if (!(error instanceof KubeError) || error.code !== 422) throw error
        said = error.message
      }
      if ((said === undefined) !== (c.refused === undefined)) wrong.push(`${c.name}: ${said ?? 'accepted'}`)
    }
    expect(wrong).toEqual([])
  })
})
