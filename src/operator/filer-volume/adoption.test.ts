/** Plans for volumes and pairs that take retained data back, in a world in memory. */
import { describe, expect, test } from '@jest/globals'
import { FILER_PAIRS, FILER_VOLUMES, LEASES, SERVICES } from '../../edge/kube/resources.ts'
import { plan } from '../filer-pair/plan.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import {
  pairObject,
  flexible,
  running,
  pairStatus,
  volumeStatus,
  conditionOf,
  accepted,
  configOf,
  report,
  volumeReport,
  leave,
} from '../testing/volume-bed.ts'

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
