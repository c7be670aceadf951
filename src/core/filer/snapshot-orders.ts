/**
 * Carries out one order about a snapshot of a volume that is served here (administration service, Snapshot).
 *
 * Making and deleting wait for the next consistency point and are answered when it is complete on both filers. A restore is a logged operation, answered as
 * any other. An order that is repeated with the same request id is answered as it was; nothing is done twice.
 */
import type { Env } from '../env/env.ts'
import { SnapshotLost } from '../block/snapshot-queue.ts'
import type { SnapshotRefusal } from '../block/volume-snapshots.ts'
import type { AggregateStore, FilerAggregate } from './aggregate-store.ts'

/** As in api/v1alpha1/filer-config.ts, SnapshotRequest. */
export interface SnapshotOrder {
  readonly volumeId: string
  readonly op: 'Create' | 'Delete' | 'Restore'
  readonly snapshot: string
  readonly requestId: string
}

export interface SnapshotAnswer {
  readonly accepted: boolean
  /** One word of those in proto/admin.proto; empty if accepted. */
  readonly reason: string
  readonly message: string
}

const ACCEPTED: SnapshotAnswer = { accepted: true, reason: '', message: '' }
export const refusedOrder = (reason: string, message: string): SnapshotAnswer => ({
  accepted: false,
  reason,
  message,
})

export async function carryOut(
  env: Env,
  store: AggregateStore,
  aggregateName: string,
  order: SnapshotOrder,
): Promise<SnapshotAnswer> {
  const aggregate = store.aggregates.get(aggregateName)!
  try {
    const answer = await begin(env, store, aggregateName, aggregate, order)
    // A refusal, too, is no answer of one who was the owner once.
    if (!answer.accepted) await store.answered(aggregateName)
    const { op, snapshot } = order
    const kind = answer.accepted ? 'tandem_snapshot_orders_total' : 'tandem_snapshot_failures_total'
    env.metrics.add(kind, 1, { op })
    env.log(answer.accepted ? 'info' : 'warn', 'snapshot order', {
      volume: order.volumeId,
      op,
      snapshot,
      ...answer,
    })
    return answer
  } catch (error) {
    if (!(error instanceof SnapshotLost)) throw error
    return refusedOrder('NotServedHere', 'the volume stopped being served here before the order was done')
  }
}

async function begin(
  env: Env,
  store: AggregateStore,
  aggregateName: string,
  aggregate: FilerAggregate,
  { volumeId, op, snapshot, requestId }: SnapshotOrder,
): Promise<SnapshotAnswer> {
  switch (op) {
    case 'Create': {
      const created = env.clock.wall().seconds
      return await done(
        store,
        aggregateName,
        snapshot,
        aggregate.makeSnapshot(volumeId, { name: snapshot, requestId, created }),
      )
    }
    case 'Delete':
      return await done(
        store,
        aggregateName,
        snapshot,
        aggregate.removeSnapshot(volumeId, snapshot, requestId),
      )
    case 'Restore':
      return await restore(env, store, aggregateName, aggregate, { volumeId, op, snapshot, requestId })
  }
}

async function done(
  store: AggregateStore,
  aggregate: string,
  name: string,
  asked: Promise<void> | SnapshotRefusal | 'NoSpace',
): Promise<SnapshotAnswer> {
  if (typeof asked === 'string') return refusedOrder(asked, messageOf(asked, name))
  store.wantCp()
  await asked
  await store.answered(aggregate)
  return ACCEPTED
}

async function restore(
  env: Env,
  store: AggregateStore,
  aggregateName: string,
  aggregate: FilerAggregate,
  { volumeId, snapshot, requestId }: SnapshotOrder,
): Promise<SnapshotAnswer> {
  let refusal: SnapshotAnswer | undefined
  const changed = store.change(aggregateName, () => {
    const volume = aggregate.volume(volumeId)
    const from = volume?.snapshots.named(snapshot)
    if (volume === undefined) refusal = refusedOrder('NoSuchVolume', 'the volume was removed')
    else if (requestId !== '' && volume.snapshots.lastRestore === requestId) return undefined
    else if (from === undefined)
      refusal = refusedOrder('NoSuchSnapshot', messageOf('NoSuchSnapshot', snapshot))
    else {
      const { seconds } = env.clock.wall()
      return { op: 'restore', id: volumeId, snapshot: from.id, requestId, seconds }
    }
    return undefined
  })
  await store.orLost(changed)
  if (refusal !== undefined) return refusal
  await store.answered(aggregateName)
  // What the restore replaced comes back from the next consistency points on.
  store.wantCp()
  return ACCEPTED
}

function messageOf(refusal: SnapshotRefusal | 'NoSpace', name: string): string {
  switch (refusal) {
    case 'NoSuchSnapshot':
      return `there is no snapshot ${name}`
    case 'SnapshotExists':
      return `there is a snapshot ${name} already; delete it, or choose another name`
    case 'InvalidName':
      return `"${name}" cannot be the name of a snapshot: 1 to 63 letters, digits, dots, dashes and underscores, the first a letter or digit`
    case 'TooMany':
      return 'the volume has 255 snapshots, those being deleted counted; delete some, or wait'
    case 'NoSpace':
      return 'the aggregate has no room for the metadata of a snapshot; delete files or snapshots, or let it grow'
  }
}
