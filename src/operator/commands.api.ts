/**
 * What a person may ask of a pair, on a real API server: kept out of service, stopped, given back, taken over by hand, a loss accepted, data
 * adopted; the Lease deleted; and `kubectl tandem`. The filers are the test's. Run by `make api`.
 */
import { execFile } from 'node:child_process'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from '@jest/globals'
import type { DesiredState, FilerStatus } from '../api/v1alpha1/filer-config.ts'
import { FILER_PAIRS, FILER_VOLUMES, LEASES, NODES, PODS, STATEFUL_SETS } from '../edge/kube/resources.ts'
import { ANNOTATION_ACCEPT_LOSS } from './names.ts'
import {
  admin,
  condition,
  create,
  freshNamespace,
  inNamespace,
  isReason,
  names,
  namespace,
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

const change = (spec: object): Promise<unknown> => admin.mergePatch(FILER_PAIRS, namespace, 'east', { spec })
const ordered = (filer: FakeFiler, good: (order: DesiredState) => boolean): Promise<DesiredState> =>
  until(async () => filer.orders.at(-1)!, good)
const replicas = async (): Promise<unknown[]> =>
  Promise.all(
    ['a', 'b'].map(
      async (f) =>
        ((await admin.get(STATEFUL_SETS, namespace, `east-${f}`))['spec'] as { replicas: number }).replicas,
    ),
  )

async function whole(spec: object = {}): Promise<[FakeFiler, FakeFiler]> {
  await freshNamespace()
  await startOperator()
  await create(inNamespace(sample, spec))
  const filers = await runBoth()
  await until(pairStatus, isReason('Redundant', 'Redundant'))
  return filers
}

test('maintenance is handed to both filers, and taken back', async () => {
  const [a, b] = await whole()
  await change({ maintenance: { filer: 'a' } })
  for (const filer of [a, b])
    expect((await ordered(filer, (o) => o.maintenance !== undefined)).maintenance).toEqual({ filer: 'a' })
  await change({ maintenance: null })
  for (const filer of [a, b]) await ordered(filer, (o) => o.maintenance === undefined)
})

test('state: Stopped waits for both filers, then ends the pods; Running brings them back', async () => {
  const [a, b] = await whole()
  await change({ state: 'Stopped' })
  for (const filer of [a, b]) await ordered(filer, (o) => o.state === 'Stopped')
  await until(pairStatus, isReason('Ready', 'Stopping'))
  a.tell({ resting: 'DONE' })
  await operator!.idle()
  expect(await replicas()).toEqual([1, 1])
  b.tell({ resting: 'DONE' })
  await until(replicas, (n) => n.every((count) => count === 0))
  for (const filer of ['a', 'b'])
    await admin.delete(PODS, namespace, `east-${filer}-0`, { gracePeriodSeconds: 0 })
  await until(pairStatus, isReason('Ready', 'Stopped'))
  await change({ state: 'Running' })
  await until(replicas, (n) => n.every((count) => count === 1))
})

test('givebackEpoch means something only while it is the epoch', async () => {
  const [a] = await whole()
  const { epoch } = await pairStatus()
  const moved: FilerStatus['sides'] = wellStatus('b').sides.map((s) => ({
    ...s,
    owner: 'b',
    serving: true,
    role: 'Owner',
    epoch: s.epoch + 1,
  }))
  const b = new FakeFiler(wellStatus('b', { sides: moved }))
  await admin.delete(PODS, namespace, 'east-b-0', { gracePeriodSeconds: 0 })
  await runPod('b', '127.9.250.2', b)
  a.tell({ sides: moved.map((s) => ({ ...s, serving: false, role: 'Standby' })) })
  const away = await until(pairStatus, (s) => s.serving === 'a:b b:b')
  // Of an earlier epoch: nothing.
  await change({ takeover: { givebackEpoch: epoch } })
  await until(pairStatus, (s) => condition(s, 'Accepted')?.observedGeneration === s.observedGeneration)
  await operator!.idle()
  expect(b.orders.at(-1)!.takeover.givebackEpoch).toBe(0)
  await change({ takeover: { givebackEpoch: away.epoch } })
  const sideA = moved.find((s) => s.side === 'a')!
  expect((await ordered(b, (o) => o.takeover.givebackEpoch > 0)).takeover.givebackEpoch).toBe(sideA.epoch)
})

test('takeover Manual: a survivor waits, and status says what to type', async () => {
  const [a, b] = await whole({ takeover: { mode: 'Manual' } })
  expect((await ordered(a, (o) => o.takeover.mode === 'Manual')).takeover.mode).toBe('Manual')
  await admin.delete(PODS, namespace, 'east-a-0', { gracePeriodSeconds: 0 })
  b.tell({
    sides: wellStatus('b').sides.map((s) =>
      s.side === 'a'
        ? { ...s, takeoverPossible: false, reason: 'Manual', message: 'the owner is silent' }
        : s,
    ),
  })
  const status = await until(pairStatus, isReason('Ready', 'Manual'))
  expect(condition(status, 'Ready')?.message).toContain('tandem takeover east a')
})

test('acceptLoss is refused while the node of the other filer is there, and done once it is not', async () => {
  const [a] = await whole()
  // Bound to a node, as a scheduler does.
  const node = `node-${namespace}`
  await admin.create(NODES, { apiVersion: 'v1', kind: 'Node', metadata: { name: node } })
  const ready = (status: string): Promise<unknown> =>
    admin.mergePatch(NODES, '', node, { status: { conditions: [{ type: 'Ready', status }] } }, 'status')
  await ready('True')
  const pod = await admin.get(PODS, namespace, 'east-b-0')
  await admin.delete(PODS, namespace, 'east-b-0', { gracePeriodSeconds: 0 })
  const { name, labels = {}, annotations = {} } = pod.metadata
  await admin.create(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels, annotations },
    spec: { ...(pod['spec'] as object), nodeName: node },
  })
  // Nobody answers there.
  await admin.mergePatch(
    PODS,
    namespace,
    name,
    { status: { phase: 'Running', podIP: '127.9.251.9' } },
    'status',
  )
  a.tell({
    sides: wellStatus('a').sides.map((s) => ({
      ...s,
      owner: 'b',
      epoch: s.side === 'a' ? 5 : 2,
      mirrored: false,
      serving: false,
      role: 'Standby',
      takeoverPossible: false,
      reason: 'CopyOutOfDate',
      message: 'b serves alone; waiting to be filled',
      dataFromSeconds: Date.UTC(2026, 0, 1) / 1000,
    })),
  })
  const lost = await until(pairStatus, isReason('Ready', 'CopyOutOfDate'))
  expect(condition(lost, 'Ready')?.message).toContain('spec.acceptLoss: {filer: a, epoch: 7}')
  expect(lost.outOfDateCopies).toHaveLength(2)
  await change({ acceptLoss: { filer: 'a', epoch: 7 } })
  const refused = await until(pairStatus, isReason('Ready', 'LossRefused'))
  expect(condition(refused, 'Ready')?.message).toMatch(
    new RegExp(`east-b-0 runs on node ${node}, which is Ready`),
  )
  expect(a.orders.at(-1)).not.toHaveProperty('acceptLoss')
  await ready('Unknown')
  const order = await ordered(a, (o) => o.acceptLoss !== undefined)
  expect(order.acceptLoss).toEqual({ filer: 'a', sides: { a: 5, b: 2 }, otherCopy: 'Kept' })
  const noted = (await admin.get(FILER_PAIRS, namespace, 'east')).metadata.annotations![
    ANNOTATION_ACCEPT_LOSS
  ]
  expect(JSON.parse(noted!)).toEqual({ filer: 'a', epoch: 7, sides: { a: 5, b: 2 } })
})

test('a pair adopts the claims and the Lease that its namesake left, and nobody else’s', async () => {
  await whole()
  await create(inNamespace(sampleVolume))
  await until(volumeStatus, isReason('Ready', 'Ready'))
  const { id = '' } = await pairStatus()
  const lease = await admin.get(LEASES, namespace, 'east')
  await admin.delete(FILER_VOLUMES, namespace, 'home')
  await admin.delete(FILER_PAIRS, namespace, 'east')
  await until(
    () => names(STATEFUL_SETS),
    (n) => n.length === 0,
  )
  for (const filer of ['a', 'b'])
    await admin.delete(PODS, namespace, `east-${filer}-0`, { gracePeriodSeconds: 0 })
  await until(
    () => names(FILER_PAIRS),
    (n) => n.length === 0,
  )
  await create(inNamespace(sample, { adopt: '00000000-0000-0000-0000-000000000000' }))
  const nothing = await until(pairStatus, isReason('Accepted', 'RetainedDataNotFound'))
  expect(condition(nothing, 'Accepted')?.message).toContain('spec.adopt')
  await admin.delete(FILER_PAIRS, namespace, 'east')
  await until(
    () => names(FILER_PAIRS),
    (n) => n.length === 0,
  )
  await create(inNamespace(sample, { adopt: id }))
  const adopted = await until(pairStatus, isReason('Accepted', 'Accepted'))
  expect(adopted.id).toBe(id)
  await until(
    () => names(STATEFUL_SETS),
    (n) => n.length === 2,
  )
  const kept = await until(
    () => admin.get(LEASES, namespace, 'east'),
    (l) => l.metadata.finalizers?.includes('tandem.storage/vote') === true,
  )
  expect(kept.metadata.uid).toBe(lease.metadata.uid)
})

test('a Lease that somebody deletes stays, by its finalizer; one that is gone all the same is made anew, and status tells what filers say of it', async () => {
  const [a, b] = await whole()
  const before = await admin.get(LEASES, namespace, 'east')
  await admin.delete(LEASES, namespace, 'east')
  expect((await admin.get(LEASES, namespace, 'east')).metadata.deletionTimestamp).toBeDefined()
  await admin.mergePatch(LEASES, namespace, 'east', { metadata: { finalizers: null } })
  const told = (reason: string): void => {
    for (const filer of [a, b])
      filer.tell({
        sides: filer.status.sides.map((s) => ({
          ...s,
          takeoverPossible: false,
          reason,
          message: 'the record is not what is stored here',
        })),
      })
  }
  const made = await until(
    () => {
      // Filers report every few seconds.
      told('VoteLost')
      return admin.get(LEASES, namespace, 'east')
    },
    (l) => l.metadata.uid !== before.metadata.uid,
  )
  expect(made.metadata.finalizers).toEqual(['tandem.storage/vote'])
  const status = await until(pairStatus, isReason('TakeoverPossible', 'VoteLost'))
  expect(condition(status, 'Ready')?.status).toBe('True')
  told('VoteRolledBack')
  await until(pairStatus, isReason('TakeoverPossible', 'VoteRolledBack'))
})

const kubectl = process.env['TANDEM_KUBECTL']
;(kubectl === undefined ? test.skip : test)('kubectl tandem is the command line', async () => {
  await whole()
  const bin = join(import.meta.dirname, '../../bin')
  const run = async (...args: string[]): Promise<string> => {
    const PATH = [bin, dirname(kubectl!), process.env['PATH']].join(delimiter)
    const { stdout } = await promisify(execFile)(kubectl!, args, { env: { ...process.env, PATH } })
    return stdout
  }
  const plugins = await run('plugin', 'list').catch((error: unknown) =>
    String((error as { stdout?: string }).stdout),
  )
  expect(plugins).toContain(join(bin, 'kubectl-tandem'))
  const status = await run('tandem', 'status', 'east', '-n', namespace)
  expect(status).toContain(`Pair ${namespace}/east`)
  expect(status).toContain('Takeover: possible')
})
