/** Plans for the claim and the PersistentVolume of a volume, in a world in memory. */
import { describe, expect, test } from '@jest/globals'
import { CLAIMS, FILER_VOLUMES, PERSISTENT_VOLUMES, SERVICES } from '../../edge/kube/resources.ts'
import type { World } from '../testing/world.ts'
import {
  flexible,
  running,
  pairStatus,
  volumeStatus,
  conditionOf,
  accepted,
  claimsOf,
  leave,
} from '../testing/volume-bed.ts'

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
