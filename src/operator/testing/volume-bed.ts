/** Pairs and volumes for tests of plans, in a world in memory, and what their filers tell. */
import { expect } from '@jest/globals'
import type { FilerPodConfig, FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, FILER_PAIRS, FILER_VOLUMES, PODS, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import { World } from './world.ts'

export const API = 'tandem.storage/v1alpha1'
export const set = { name: 'd', count: 2, size: '256Mi' }
export const aggregate = { name: 'aggr1', filer: 'a', deviceSets: [set] }
export const pairObject = (spec: object = {}): KubeObject => ({
  apiVersion: API,
  kind: 'FilerPair',
  metadata: { name: 'east', namespace: 'ns' },
  spec: { aggregates: [aggregate], exportDefaults: [{ clients: ['0.0.0.0/0'] }], ...spec },
})
export const volumeObject = (name: string, spec: object): KubeObject => ({
  apiVersion: API,
  kind: 'FilerVolume',
  metadata: { name, namespace: 'ns' },
  spec: { pairName: 'east', ...spec },
})
export const flexible = (name: string, spec: object = {}) =>
  volumeObject(name, { aggregate: 'aggr1', size: '1Gi', ...spec })
export const traditional = (name: string, spec: object = {}) =>
  volumeObject(name, { type: 'Traditional', filer: 'b', deviceSets: [set], ...spec })

/** A pair whose pods run and whose claims are bound. */
export function running(spec: object = {}): World {
  const w = new World('east')
  w.put(pairObject(spec))
  w.settle()
  w.bindClaims()
  w.runPods()
  w.settle()
  return w
}
export const pairStatus = (w: World) => w.get(FILER_PAIRS, 'east')!['status'] as FilerPairStatus
export const volumeStatus = (w: World, name: string) =>
  w.get(FILER_VOLUMES, name)!['status'] as FilerVolumeStatus
export const conditionOf = (status: FilerPairStatus | FilerVolumeStatus, type: string) =>
  status.conditions?.find((c) => c.type === type)
export const accepted = (w: World, name: string) => conditionOf(volumeStatus(w, name), 'Accepted')
export const upToDate = (w: World) => conditionOf(pairStatus(w), 'UpToDate')

export function configOf(w: World, filer: string, from = STATEFUL_SETS): FilerPodConfig {
  const object = w.get(from, from === PODS ? `east-${filer}-0` : `east-${filer}`)!
  const outer = object['spec'] as { template?: { spec: object } }
  const { containers } = (outer.template?.spec ?? outer) as {
    containers: { env: { name: string; value: string }[] }[]
  }
  const text = containers[0]!.env.find((e) => e.name === 'TANDEM_FILER_CONFIG')!.value
  return JSON.parse(text) as FilerPodConfig
}
export const aggregatesOf = (w: World, filer: string, from = STATEFUL_SETS) =>
  configOf(w, filer, from).aggregates.map((a) => [
    a.name,
    a.type,
    ...a.deviceSets.map((s) => `${s.name}:${s.count}`),
  ])
export const claimsOf = (w: World, part: string) =>
  [...w.objects.values()]
    .filter((o) => o.kind === CLAIMS.kind && o.metadata.name.includes(part))
    .map((o) => o.metadata.name)
    .sort()

/** What the filers tell, in both of their reports. */
export function report(w: World, change: (before: FilerStatus) => Partial<FilerStatus>): void {
  for (const [filer, status] of w.reports) w.reports.set(filer, { ...status, ...change(status) })
}
export function volumeReport(
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
export function servedBy(owner: string, { sides, filer }: FilerStatus, epoch: number): FilerStatus['sides'] {
  const role = filer === owner ? ('Owner' as const) : ('Standby' as const)
  return sides.map((side) => ({
    ...side,
    owner,
    role,
    serving: filer === owner,
    epoch: side.side === 'a' ? epoch : 1,
  }))
}
export function leave(w: World, name: string): void {
  const object = w.get(FILER_VOLUMES, name)!
  w.put({ ...object, metadata: { ...object.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
}
/** Replaces pods until the plan asks for no more; gives the pods that went, in order. */
export function roll(w: World): string[] {
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
