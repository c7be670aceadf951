/**
 * Volumes in full against a real API server (see operator.api.ts): devices of traditional volumes, growth, claims, adoption, orders about
 * snapshots as the command line gives them. Claims are bound by the test, but for the one that people mount: that is bound by the
 * cluster's own controller, where there is one (kube-controller-manager beside kubectl).
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import type { FilerPodConfig } from '../api/v1alpha1/filer-config.ts'
import { KubeError } from '../edge/kube/api.ts'
import {
  CLAIMS,
  FILER_PAIRS,
  FILER_VOLUMES,
  PERSISTENT_VOLUMES,
  PODS,
  STATEFUL_SETS,
} from '../edge/kube/resources.ts'
import { orderSnapshot } from '../embedded/cli/snapshot-order.ts'
import {
  BINDING_MS,
  admin,
  asOperator,
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
  runBoth,
  runPod,
  sample,
  sampleVolume,
  startOperator,
  until,
  volumeStatus,
} from './testing/api-bed.ts'
import { FakeFiler, wellStatus } from './testing/fake-filers.ts'

const device = { name: 'd', count: 2, size: '128Mi' }
const archive = (spec: object = {}) => ({
  ...sampleVolume,
  metadata: { name: 'archive', namespace },
  spec: { pairName: 'east', type: 'Traditional', filer: 'b', deviceSets: [device], ...spec },
})

async function bindClaims(): Promise<void> {
  for (const { metadata } of (await admin.list(CLAIMS, { namespace })).items)
    await admin.mergePatch(CLAIMS, namespace, metadata.name, { status: { phase: 'Bound' } }, 'status')
}

async function configOf(filer: string): Promise<FilerPodConfig> {
  const { spec } = (await admin.get(STATEFUL_SETS, namespace, `east-${filer}`)) as unknown as {
    spec: { template: { spec: { containers: { env: { name: string; value: string }[] }[] } } }
  }
  const { env } = spec.template.spec.containers[0]!
  return JSON.parse(env.find((e) => e.name === 'TANDEM_FILER_CONFIG')!.value) as FilerPodConfig
}
const poolsOf = async (filer: string): Promise<string[]> =>
  (await configOf(filer)).aggregates.map(
    (a) => `${a.name}:${a.deviceSets.map((s) => `${s.name}${s.count}`).join()}`,
  )

/** Kubelet's part of a replacement: the pod that the operator deleted comes back from the template. */
async function replaced(filer: string, last: number): Promise<void> {
  const name = `east-${filer}-0`
  await until(
    async () => {
      const pod = await admin.get(PODS, namespace, name).catch(() => undefined)
      // Nobody else ends pods here.
      if (pod?.metadata.deletionTimestamp !== undefined)
        await admin.delete(PODS, namespace, name, { gracePeriodSeconds: 0 }).catch(() => undefined)
      return pod
    },
    (pod) => pod === undefined,
  )
  await runPod(filer, `127.9.${namespaceNumber}.${last}`, new FakeFiler(wellStatus(filer)))
}

describe('a traditional volume', () => {
  test('gets claims at both filers, then templates, then pods, one after the other; retained it is taken back by its id', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await bindClaims()
    await runBoth()
    await until(pairStatus, isReason('UpToDate', 'UpToDate'))
    const { uid } = (await create(archive())).metadata
    const waiting = await until(pairStatus, isReason('UpToDate', 'WaitingForClaims'))
    expect(condition(waiting, 'UpToDate')?.message).toContain('east-a-vol-archive-d-0')
    const claims = ['a', 'b'].flatMap((f) => [0, 1].map((n) => `east-${f}-vol-archive-d-${n}`))
    expect(await names(CLAIMS)).toEqual(expect.arrayContaining(claims))
    expect(await poolsOf('a')).toEqual(['aggr1:d2'])
    await bindClaims()
    await replaced('a', 3)
    await replaced('b', 4)
    await until(pairStatus, isReason('UpToDate', 'UpToDate'))
    for (const filer of ['a', 'b']) expect(await poolsOf(filer)).toEqual(['aggr1:d2', 'vol-archive:d2'])
    const status = await until(() => volumeStatus('archive'), isReason('Ready', 'Ready'))
    expect(status).toMatchObject({ id: uid, type: 'Traditional', aggregate: 'vol-archive' })

    await admin.delete(FILER_VOLUMES, namespace, 'archive')
    const retained = await until(pairStatus, (s) => s.retainedVolumes?.length === 1)
    expect(retained.retainedVolumes).toMatchObject([{ id: uid, name: 'archive', type: 'Traditional' }])
    expect(await poolsOf('b')).toEqual(['aggr1:d2', 'vol-archive:d2'])
    await create(archive())
    const refused = await until(() => volumeStatus('archive'), isReason('Accepted', 'RetainedDataExists'))
    expect(condition(refused, 'Accepted')?.message).toContain(`spec.adopt: ${uid}`)
    await admin.delete(FILER_VOLUMES, namespace, 'archive')
    await until(
      () => names(FILER_VOLUMES),
      (n) => n.length === 0,
    )
    await create(archive({ adopt: uid }))
    const adopted = await until(() => volumeStatus('archive'), isReason('Ready', 'Ready'))
    expect(adopted.id).toBe(uid)
    expect((await pairStatus()).retainedVolumes).toBeUndefined()
  })
})

describe('a pair', () => {
  test('grows: new claims, then the template once they are bound, then one pod', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await bindClaims()
    await runBoth()
    await until(pairStatus, isReason('UpToDate', 'UpToDate'))
    const aggregates = [
      {
        name: 'aggr1',
        filer: 'a',
        deviceSets: [
          { name: 'd', count: 3, size: '2Gi' },
          { name: 'e', size: '1Gi' },
        ],
      },
      { name: 'aggr2', filer: 'b', deviceSets: [{ name: 'd', size: '1Gi' }] },
    ]
    await admin.mergePatch(FILER_PAIRS, namespace, 'east', { spec: { aggregates } })
    await until(pairStatus, isReason('UpToDate', 'WaitingForClaims'))
    expect(await names(CLAIMS)).toEqual(
      expect.arrayContaining(['east-a-aggr-aggr1-d-2', 'east-b-aggr-aggr1-e-0', 'east-a-aggr-aggr2-d-0']),
    )
    expect(await poolsOf('a')).toEqual(['aggr1:d2'])
    await bindClaims()
    await until(
      () => poolsOf('b'),
      (pools) => pools.join() === 'aggr1:d3,e1,aggr2:d1',
    )
    await replaced('a', 3)
    await replaced('b', 4)
    await until(pairStatus, isReason('UpToDate', 'UpToDate'))

    // Fewer devices are refused, by the server where it knows the rule.
    const fewer = [{ name: 'aggr1', filer: 'a', deviceSets: [{ name: 'd', count: 1, size: '2Gi' }] }]
    try {
      await admin.mergePatch(FILER_PAIRS, namespace, 'east', { spec: { aggregates: fewer } })
    } catch (error) {
      expect([(error as KubeError).code, (error as Error).message]).toEqual([
        422,
        expect.stringMatching(/may be (raised|appended)/),
      ])
      return
    }
    const refused = await until(pairStatus, isReason('Accepted', 'ImmutableField'))
    expect(condition(refused, 'Accepted')?.message).toMatch(/may be (raised|appended)/)
    expect(await poolsOf('a')).toEqual(['aggr1:d3,e1', 'aggr2:d1'])
  })
})

/** Binds claims and protects them, as a cluster does; undefined where the program is not there. */
function startBinder(): (() => void) | undefined {
  const program = join(dirname(process.env['TANDEM_KUBECTL'] ?? '/'), 'kube-controller-manager')
  if (!existsSync(program)) return undefined
  const child = spawn(
    program,
    [
      `--kubeconfig=${process.env['KUBECONFIG']}`,
      '--controllers=persistentvolume-binder,pv-protection,pvc-protection',
      '--leader-elect=false',
      '--port=0',
      '--secure-port=0',
    ],
    { stdio: 'ignore' },
  )
  return () => void child.kill()
}

describe('a claim', () => {
  test('is bound to a volume that mounts what the status says, and goes with it', async () => {
    await freshNamespace()
    const stop = startBinder()
    try {
      await startOperator()
      await create(inNamespace(sample))
      const { uid } = (await create(inNamespace(sampleVolume, { claimName: 'files' }))).metadata
      await runBoth()
      const status = await until(volumeStatus, (s) =>
        ['Binding', 'Claimed'].includes(condition(s, 'Claimed')?.reason ?? ''),
      )
      const name = `tandem-${uid}`
      const volume = await until(
        () => admin.get(PERSISTENT_VOLUMES, '', name),
        () => true,
      )
      expect(volume['spec']).toMatchObject({
        accessModes: ['ReadWriteMany'],
        capacity: { storage: '1Gi' },
        claimRef: { namespace, name: 'files' },
        nfs: { server: status.mount!.server, path: '/home' },
        mountOptions: status.mount!.options.split(','),
        persistentVolumeReclaimPolicy: 'Retain',
      })
      const claim = await until(
        () => admin.get(CLAIMS, namespace, 'files'),
        () => true,
      )
      expect(claim['spec']).toMatchObject({ accessModes: ['ReadWriteMany'], volumeName: name })
      if (stop !== undefined) {
        await until(volumeStatus, isReason('Claimed', 'Claimed'), BINDING_MS)
        // A claim that was deleted comes back, with a PersistentVolume that can be bound again.
        await admin.delete(CLAIMS, namespace, 'files')
        await until(
          () => admin.get(CLAIMS, namespace, 'files'),
          (c) =>
            c.metadata.uid !== claim.metadata.uid && (c['status'] as { phase?: string }).phase === 'Bound',
          BINDING_MS,
        )
        await until(volumeStatus, isReason('Claimed', 'Claimed'), BINDING_MS)
      }
      await admin.mergePatch(FILER_VOLUMES, namespace, 'home', { spec: { size: '2Gi' } })
      await until(
        () => admin.get(PERSISTENT_VOLUMES, '', name),
        (v) => (v['spec'] as { capacity: { storage: string } }).capacity.storage === '2Gi',
      )
      await admin.delete(FILER_VOLUMES, namespace, 'home')
      const isGoing = (code: unknown): boolean => code instanceof KubeError && code.code === 404
      for (const [resource, where, object] of [
        [PERSISTENT_VOLUMES, '', name],
        [CLAIMS, namespace, 'files'],
      ] as const)
        await until(
          () => admin.get(resource, where, object).catch((error: unknown) => error),
          // Without a controller nobody takes the protection off.
          (found) =>
            isGoing(found) ||
            (stop === undefined &&
              (found as { metadata?: { deletionTimestamp?: string } }).metadata?.deletionTimestamp !==
                undefined),
        )
    } finally {
      stop?.()
    }
  })

  test('of somebody else is not touched; the volume is served all the same', async () => {
    await freshNamespace()
    await startOperator()
    const theirs = {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'files', namespace },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    }
    const before = await admin.create(CLAIMS, theirs)
    await create(inNamespace(sample))
    await create(inNamespace(sampleVolume, { claimName: 'files' }))
    await runBoth()
    const status = await until(volumeStatus, isReason('Claimed', 'NameTaken'))
    expect(condition(status, 'Accepted')?.status).toBe('True')
    await until(volumeStatus, isReason('Ready', 'Ready'))
    expect(condition(await pairStatus(), 'Accepted')?.status).toBe('True')
    expect((await admin.get(CLAIMS, namespace, 'files')).metadata.resourceVersion).toBe(
      before.metadata.resourceVersion,
    )
  })

  test('the operator may get PersistentVolumes by name, and see nobody’s otherwise', async () => {
    await expect(asOperator.list(PERSISTENT_VOLUMES)).rejects.toThrow(/forbidden/)
    await expect(asOperator.get(PERSISTENT_VOLUMES, '', 'nobodys')).rejects.toMatchObject({ code: 404 })
  })
})

describe('a flexible volume', () => {
  test('that was retained is adopted by its id, once; an unknown id and one in use are refused', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    const { uid } = (await create(inNamespace(sampleVolume))).metadata
    const [a] = await runBoth()
    await until(volumeStatus, isReason('Ready', 'Ready'))
    await create(inNamespace(sampleVolume, { adopt: uid, export: { path: '/second' } }, 'second'))
    await create(inNamespace(sampleVolume, { adopt: 'nothing', export: { path: '/third' } }, 'third'))
    await until(() => volumeStatus('second'), isReason('Accepted', 'VolumeInUse'))
    await until(() => volumeStatus('third'), isReason('Accepted', 'RetainedVolumeNotFound'))
    await admin.delete(FILER_VOLUMES, namespace, 'home')
    const status = await until(() => volumeStatus('second'), isReason('Ready', 'Ready'))
    expect(status.id).toBe(uid)
    expect(a.orders.at(-1)!.volumes).toMatchObject([{ id: uid, name: 'second', state: 'Present' }])
    await admin.mergePatch(FILER_VOLUMES, namespace, 'second', { spec: { adopt: null } })
    await until(() => volumeStatus('second'), isReason('Accepted', 'ImmutableField'))
    expect((await volumeStatus('second')).id).toBe(uid)
  })

  test('has its snapshots made, told and restored by orders that are done once', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    const schedules = [{ name: 'hourly', cron: '0 * * * *', keep: 24 }]
    const { uid } = (await create(inNamespace(sampleVolume, { snapshotPolicy: { schedules } }))).metadata
    const [a] = await runBoth()
    await until(volumeStatus, isReason('Ready', 'Ready'))
    expect(a.orders.at(-1)!.volumes).toMatchObject([{ id: uid, snapshotSchedules: schedules }])
    const order = (op: 'Create' | 'Delete' | 'Restore', snapshot: string) =>
      orderSnapshot(admin, namespace, 'home', op, snapshot, 20_000)

    // The answer is lost: the order is given again under its id.
    a.brokenCalls = 1
    expect(await order('Create', 'before')).toEqual({ state: 'Done' })
    expect(a.snapshotOrders.map((o) => [o.op, o.snapshot])).toEqual([
      ['Create', 'before'],
      ['Create', 'before'],
    ])
    expect(new Set(a.snapshotOrders.map((o) => o.requestId)).size).toBe(1)
    const status = await until(volumeStatus, (s) => s.snapshotCount === 1)
    expect(status.snapshots).toMatchObject([{ name: 'before', used: '4Ki' }])
    expect(await order('Create', 'before')).toMatchObject({ state: 'Failed', reason: 'SnapshotExists' })
    expect(await order('Restore', 'before')).toEqual({ state: 'Done' })
    expect(await order('Delete', 'before')).toEqual({ state: 'Done' })
    expect(await order('Restore', 'before')).toMatchObject({ state: 'Failed', reason: 'NoSuchSnapshot' })
    await until(volumeStatus, (s) => s.snapshotCount === 0)

    // A finished order is not given again, not even by the next operator.
    const given = a.snapshotOrders.length
    await operator!.stop()
    await startOperator()
    await until(volumeStatus, isReason('Ready', 'Ready'))
    await operator!.idle()
    expect(a.snapshotOrders).toHaveLength(given)
  })
})
