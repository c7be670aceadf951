/** Orders about snapshots against the store of an embedded instance; the operator's part is the test's. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import type { KubeObject } from '../../edge/kube/api.ts'
import type { KubeClient } from '../../edge/kube/client.ts'
import { FILER_VOLUMES } from '../../edge/kube/resources.ts'
import { manualName, orderSnapshot, snapshotTable } from './snapshot-order.ts'
import { startStore } from './testing/store-bed.ts'
import type { StoreBed } from './testing/store-bed.ts'

let bed: StoreBed
let api: KubeClient
/** What the operator makes of an order. */
let operator: (order: { id: string; op: string; snapshot: string }) => object | undefined = () => undefined

beforeAll(async () => {
  let seen = ''
  bed = await startStore(FILER_VOLUMES, (api, volume) => {
    const text = volume?.metadata.annotations?.['tandem.storage/snapshot-request']
    if (text === undefined || text === seen) return
    seen = text
    const snapshotRequest = operator(JSON.parse(text) as Parameters<typeof operator>[0])
    if (snapshotRequest !== undefined)
      void api.mergePatch(FILER_VOLUMES, 'n', 'home', { status: { snapshotRequest } }, 'status')
  })
  ;({ api } = bed)
})
afterAll(() => bed.end())
beforeEach(async () => {
  await api.delete(FILER_VOLUMES, 'n', 'home').catch(() => undefined)
  await api.create(FILER_VOLUMES, {
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'FilerVolume',
    metadata: { name: 'home', namespace: 'n' },
    spec: { pairName: 'east', aggregate: 'aggr1', size: '1Gi' },
  })
})

const order = (timeoutMs = 10_000) => orderSnapshot(api, 'n', 'home', 'Create', 's', timeoutMs)

describe('an order', () => {
  test('is given, and waited for', async () => {
    operator = (asked) => ({ ...asked, state: 'Done' })
    expect(await order()).toEqual({ state: 'Done' })
    const volume = await api.get(FILER_VOLUMES, 'n', 'home')
    expect(volume['status']).toMatchObject({ snapshotRequest: { op: 'Create', snapshot: 's' } })
    // A finished one is nobody's obstacle.
    expect(await order()).toEqual({ state: 'Done' })
  })

  test('that is refused says why', async () => {
    operator = ({ id }) => ({ id, state: 'Failed', reason: 'SnapshotExists', message: 'there is one' })
    expect(await order()).toEqual({ state: 'Failed', reason: 'SnapshotExists', message: 'there is one' })
  })

  test('that is not finished in time stays, and no second one takes its place', async () => {
    operator = () => undefined
    expect(await order(1)).toMatchObject({
      state: 'Late',
      message: 'the operator has not taken it up; does it run?',
    })
    expect(await order()).toMatchObject({ state: 'Busy', message: expect.stringContaining('Create s') })
    const text = (await api.get(FILER_VOLUMES, 'n', 'home')).metadata.annotations![
      'tandem.storage/snapshot-request'
    ]!
    const { id } = JSON.parse(text) as { id: string }
    const status = { snapshotRequest: { id, state: 'Pending', message: 'waits until the volume is served' } }
    await api.mergePatch(FILER_VOLUMES, 'n', 'home', { status }, 'status')
    expect(await order()).toMatchObject({ state: 'Busy' })
  })

  test('for a volume that is not there is an error', async () => {
    await expect(orderSnapshot(api, 'n', 'nowhere', 'Create', 's', 1000)).rejects.toThrow('nowhere')
  })
})

describe('snapshots', () => {
  const volume = (status: object): KubeObject => ({
    apiVersion: '',
    kind: 'FilerVolume',
    metadata: { name: 'home' },
    status,
  })
  test('are listed, and that there are more is told', () => {
    const now = Date.UTC(2026, 0, 2)
    const snapshots = [{ name: 'hourly.2026-01-01T2300Z', created: '2026-01-01T23:00:00Z', used: '1Mi' }]
    expect(snapshotTable(volume({}), now)).toBe('volume home has no snapshots')
    const text = snapshotTable(volume({ snapshots, snapshotCount: 3 }), now)
    expect(text).toMatch(/^NAME +CREATED +AGE +USED\nhourly\S+ +2026-01-01T23:00:00Z +60m +1Mi\nand 2 older/)
  })
  test('made by hand bear their time, in a name that filers take', () => {
    expect(manualName(Date.UTC(2026, 0, 2, 3, 4, 5, 6))).toBe('manual.2026-01-02T030405Z')
  })
})
