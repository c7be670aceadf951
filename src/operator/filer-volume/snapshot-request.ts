/**
 * An order about a snapshot: an annotation on the FilerVolume, done once by the filer that serves the volume, told in the status. Pure.
 *
 * Invariants: an id that is Done or Failed in the status is never asked for again; until then asking may be repeated, for a filer knows
 * the id of an order that it has done.
 */
import type { SnapshotRequest } from '../../api/v1alpha1/filer-config.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { PairView } from '../filer-pair/view.ts'
import { ANNOTATION_SNAPSHOT_REQUEST } from '../names.ts'
import type { Action } from '../runtime/actions.ts'
import { homeOf } from './volume.ts'
import type { VolumeInForce } from './accept.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'

type RequestStatus = NonNullable<FilerVolumeStatus['snapshotRequest']>

/** What a filer said last to an order, or why it could not be asked. */
export interface SnapshotOutcome {
  readonly state: 'Done' | 'Failed' | 'Pending'
  readonly reason: string
  readonly message: string
}
/** By id of the volume and of the order. */
export type SnapshotOutcomes = ReadonlyMap<string, SnapshotOutcome>

export function outcomeKey(volumeId: string, requestId: string): string {
  return `${volumeId}/${requestId}`
}

const OPS = ['Create', 'Delete', 'Restore'] as const
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/
const ID_MAX = 64

export interface SnapshotPlan {
  readonly status: RequestStatus | undefined
  readonly actions: Action[]
}

export function planSnapshot(
  { object, acceptance, id }: VolumeInForce,
  pair: FilerPairSpec | undefined,
  view: PairView,
  outcomes: SnapshotOutcomes,
): SnapshotPlan {
  const before = (object['status'] as FilerVolumeStatus | undefined)?.snapshotRequest
  const text = object.metadata.annotations?.[ANNOTATION_SNAPSHOT_REQUEST]
  if (text === undefined) return { status: before, actions: [] }
  const order = parseOrder(text)
  if (typeof order === 'string') {
    const message = `annotation ${ANNOTATION_SNAPSHOT_REQUEST}: ${order}`
    const status = { id: idIn(text), state: 'Failed' as const, reason: 'InvalidRequest', message }
    return { status, actions: [] }
  }
  if (before !== undefined && before.id === order.id && before.state !== 'Pending')
    return { status: before, actions: [] }
  const told = { id: order.id, op: order.op, snapshot: order.snapshot }
  const outcome = outcomes.get(outcomeKey(id, order.id))
  if (outcome !== undefined && outcome.state !== 'Pending') {
    const { state, reason, message } = outcome
    const status: RequestStatus =
      state === 'Done' ? { ...told, state } : { ...told, state, reason, message: message || reason }
    const event: Action = {
      type: 'event',
      about: object,
      level: state === 'Done' ? 'Normal' : 'Warning',
      reason: state === 'Done' ? `Snapshot${order.op}d` : `Snapshot${order.op}Failed`,
      message: `snapshot ${order.snapshot}${state === 'Done' ? '' : `: ${reason}: ${message}`}`,
    }
    return { status, actions: [event] }
  }
  const side = acceptance.spec === undefined ? undefined : view.sides.get(homeOf(acceptance.spec, pair))
  if (side?.serving !== true || object.metadata.deletionTimestamp !== undefined) {
    const message = 'waits until the volume is served'
    return { status: { ...told, state: 'Pending', message }, actions: [] }
  }
  const request: SnapshotRequest = {
    volumeId: id,
    op: order.op,
    snapshot: order.snapshot,
    requestId: order.id,
  }
  return {
    status: { ...told, state: 'Pending', ...(outcome === undefined ? {} : { message: outcome.message }) },
    actions: [{ type: 'snapshot', filer: side.owner, request }],
  }
}

function parseOrder(text: string): { id: string; op: SnapshotRequest['op']; snapshot: string } | string {
  let value: { id?: unknown; op?: unknown; snapshot?: unknown }
  try {
    value = JSON.parse(text) as typeof value
  } catch {
    return 'is not JSON such as {"id":"1","op":"Create","snapshot":"before-upgrade"}'
  }
  const { id, op, snapshot } = value ?? {}
  if (typeof id !== 'string' || id === '' || id.length > ID_MAX)
    return `id must be a text of 1 to ${ID_MAX} characters, another for each order`
  const known = OPS.find((o) => o === op)
  if (known === undefined) return `op must be one of ${OPS.join(', ')}`
  if (typeof snapshot !== 'string' || !NAME.test(snapshot))
    return 'snapshot must be a name of 1 to 63 letters, digits, dots, hyphens and underscores that starts with a letter or digit'
  return { id, op: known, snapshot }
}

function idIn(text: string): string {
  try {
    const { id } = JSON.parse(text) as { id?: unknown }
    return typeof id === 'string' ? id.slice(0, ID_MAX) : ''
  } catch {
    return ''
  }
}
