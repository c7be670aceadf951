/**
 * Orders about snapshots as the command line gives them: an annotation on the FilerVolume, whose end the operator writes into
 * `status.snapshotRequest`. One order at a time: a second would take the first one's place.
 */
import { randomUUID } from 'node:crypto'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import { FILER_VOLUMES } from '../../edge/kube/resources.ts'
import { ANNOTATION_SNAPSHOT_REQUEST } from '../../operator/names.ts'
import { age, table } from './table.ts'
import { waitFor } from './wait.ts'

export type SnapshotOp = 'Create' | 'Delete' | 'Restore'
export type OrderEnd =
  | { readonly state: 'Done' }
  | { readonly state: 'Failed'; readonly reason: string; readonly message: string }
  /** Another order is under way; ours was not given. */
  | { readonly state: 'Busy'; readonly message: string }
  /** Given, and not finished in time; it stays. */
  | { readonly state: 'Late'; readonly message: string }

export function statusOf(volume: KubeObject): FilerVolumeStatus {
  return volume['status'] ?? {}
}

/** `manual.<UTC time, yyyy-mm-ddThhmmssZ>`. */
export function manualName(nowMs: number): string {
  return `manual.${new Date(nowMs)
    .toISOString()
    .replace(/:/g, '')
    .replace(/[.]\d+Z$/, 'Z')}`
}

/** Gives the order and waits for its end. Throws what the API throws (404: no such volume). */
export async function orderSnapshot(
  api: KubeApi,
  namespace: string,
  volumeName: string,
  op: SnapshotOp,
  snapshot: string,
  timeoutMs: number,
): Promise<OrderEnd> {
  const id = randomUUID()
  const deadline = performance.now() + timeoutMs
  let given: KubeObject
  for (;;) {
    const volume = await api.get(FILER_VOLUMES, namespace, volumeName)
    const other = underWay(volume)
    if (other !== undefined)
      return {
        state: 'Busy',
        message: `another order about a snapshot is under way (${other}); try again when it is finished`,
      }
    const annotations = { [ANNOTATION_SNAPSHOT_REQUEST]: JSON.stringify({ id, op, snapshot }) }
    const { resourceVersion } = volume.metadata
    try {
      given = await api.mergePatch(FILER_VOLUMES, namespace, volumeName, {
        metadata: { resourceVersion, annotations },
      })
      break
    } catch (error) {
      // Somebody wrote meanwhile, perhaps an order of his own: look again.
      if (!(error instanceof KubeError && error.code === 409) || performance.now() > deadline) throw error
    }
  }
  const { met, object } = await waitFor(
    api,
    FILER_VOLUMES,
    namespace,
    volumeName,
    (now) => now === undefined || endOf(now, id) !== undefined,
    Math.max(1, deadline - performance.now()),
  )
  if (met && object === undefined)
    return { state: 'Failed', reason: 'NoSuchVolume', message: `FilerVolume ${volumeName} is gone` }
  const last = object ?? given
  return endOf(last, id) ?? { state: 'Late', message: lateBecause(last, id) }
}

function endOf(volume: KubeObject, id: string): OrderEnd | undefined {
  const told = statusOf(volume).snapshotRequest
  if (told?.id !== id || told.state === 'Pending') return undefined
  if (told.state === 'Done') return { state: 'Done' }
  return { state: 'Failed', reason: told.reason ?? '', message: told.message ?? '' }
}

function lateBecause(volume: KubeObject, id: string): string {
  const told = statusOf(volume).snapshotRequest
  if (told?.id !== id) return 'the operator has not taken it up; does it run?'
  return told.message ?? 'the filer has not answered yet'
}

/** What the annotation asks for, while the status does not say that it is finished. */
function underWay(volume: KubeObject): string | undefined {
  const text = volume.metadata.annotations?.[ANNOTATION_SNAPSHOT_REQUEST]
  if (text === undefined) return undefined
  let order: { id?: unknown; op?: unknown; snapshot?: unknown }
  try {
    order = JSON.parse(text) as typeof order
  } catch {
    return undefined
  }
  const told = statusOf(volume).snapshotRequest
  if (typeof order.id !== 'string' || (told?.id === order.id && told.state !== 'Pending')) return undefined
  return `${String(order.op)} ${String(order.snapshot)}`
}

/** The snapshots that the status tells. Pure. */
export function snapshotTable(volume: KubeObject, nowMs: number): string {
  const { snapshots = [], snapshotCount = snapshots.length } = statusOf(volume)
  if (snapshots.length === 0) return `volume ${volume.metadata.name} has no snapshots`
  const rows = snapshots.map((s) => [s.name, s.created, age(s.created, nowMs), s.used ?? ''])
  const more = snapshotCount - snapshots.length
  return [
    table([['NAME', 'CREATED', 'AGE', 'USED'], ...rows]),
    ...(more > 0 ? [`and ${String(more)} older ones; all are folders in .snapshot of the volume`] : []),
  ].join('\n')
}
