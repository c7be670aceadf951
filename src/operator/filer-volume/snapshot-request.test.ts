/** Orders about snapshots, and what a volume tells of its snapshots, in a world in memory. */
import { describe, expect, test } from '@jest/globals'
import { FILER_VOLUMES } from '../../edge/kube/resources.ts'
import { plan } from '../filer-pair/plan.ts'
import { ANNOTATION_SNAPSHOT_REQUEST } from '../names.ts'
import type { World } from '../testing/world.ts'
import { outcomeKey } from './snapshot-request.ts'
import { flexible, running, volumeStatus, accepted, report, volumeReport } from '../testing/volume-bed.ts'

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
