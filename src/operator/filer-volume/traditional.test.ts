/** Plans for traditional volumes, in a world in memory: their devices, claims, retained data. */
import { describe, expect, test } from '@jest/globals'
import { CLAIMS, FILER_VOLUMES, PODS } from '../../edge/kube/resources.ts'
import { plan } from '../filer-pair/plan.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import {
  set,
  traditional,
  running,
  pairStatus,
  volumeStatus,
  conditionOf,
  accepted,
  upToDate,
  configOf,
  aggregatesOf,
  claimsOf,
  report,
  volumeReport,
  leave,
  roll,
} from '../testing/volume-bed.ts'

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
