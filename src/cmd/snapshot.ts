/** `tandem snapshot`: makes, lists, deletes snapshots of a volume, and puts a volume back to one. */
import { KubeError } from '../edge/kube/api.ts'
import type { KubeApi, KubeObject } from '../edge/kube/api.ts'
import { FILER_VOLUMES } from '../edge/kube/resources.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import type { Parsed } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { manualName, orderSnapshot, snapshotTable, statusOf } from '../embedded/cli/snapshot-order.ts'
import type { SnapshotOp } from '../embedded/cli/snapshot-order.ts'
import { parseSeconds } from '../embedded/cli/wait.ts'
import { nearest } from '../api/nearest.ts'

const ACTIONS = ['create', 'list', 'delete', 'restore']
const DONE: Readonly<Record<SnapshotOp, string>> = {
  Create: 'made',
  Delete: 'deleted',
  Restore: 'restored',
}

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'snapshot',
      summary: 'make, list and delete snapshots of a volume, or put it back to one',
      operands: 'create|list|delete|restore VOLUME [NAME]',
      operandsMin: 2,
      operandsMax: 3,
      flags: {
        yes: { kind: 'switch', short: 'y', meaning: 'restore: do it' },
        timeout: { kind: 'text', value: 'TIME', meaning: 'how long to wait for the end; default 60s' },
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
      },
      notes:
        'create without NAME: manual.<time>. Exit status 1: refused, with the reason; 75: another order is under way; 124: not finished in time (the order stays).',
    },
    args,
    async (parsed) => {
      const [action = '', volumeName = '', name] = parsed.operands
      if (!ACTIONS.includes(action)) {
        const near = nearest(action, ACTIONS)
        throw new UsageError(
          `${JSON.stringify(action)} is not one of ${ACTIONS.join(', ')}${near === undefined ? '' : `; the nearest is ${near}`}`,
        )
      }
      if (action === 'list' && name !== undefined) throw new UsageError('list takes a VOLUME only')
      if ((action === 'delete' || action === 'restore') && name === undefined)
        throw new UsageError(`which snapshot? tandem snapshot list ${volumeName} tells them`)
      const timeoutMs = parseSeconds(parsed.text('timeout') ?? '60s') * 1000
      const { api, namespace } = await openTarget(parsed)
      const volume = await find(api, namespace, volumeName)
      switch (action) {
        case 'create':
          return order(api, volume, 'Create', name ?? manualName(Date.now()), timeoutMs)
        case 'delete':
          return order(api, volume, 'Delete', name!, timeoutMs)
        case 'restore':
          if (parsed.has('yes')) return order(api, volume, 'Restore', name!, timeoutMs)
          console.error(restoreQuestion(volume, name!, parsed))
          return 1
        default:
          console.log(snapshotTable(volume, Date.now()))
          return 0
      }
    },
  )
}

async function find(api: KubeApi, namespace: string, name: string): Promise<KubeObject> {
  try {
    return await api.get(FILER_VOLUMES, namespace, name)
  } catch (error) {
    if (!(error instanceof KubeError && error.code === 404)) throw error
    throw new Error(`there is no FilerVolume ${name} in namespace ${namespace}`, { cause: error })
  }
}

async function order(
  api: KubeApi,
  { metadata: { name: volume, namespace = '' } }: KubeObject,
  op: SnapshotOp,
  snapshot: string,
  timeoutMs: number,
): Promise<number> {
  const end = await orderSnapshot(api, namespace, volume, op, snapshot, timeoutMs)
  switch (end.state) {
    case 'Done':
      console.log(
        op === 'Restore'
          ? `volume ${volume} is as in snapshot ${snapshot}`
          : `snapshot ${snapshot} of volume ${volume} ${DONE[op]}`,
      )
      return 0
    case 'Failed':
      console.error(`tandem snapshot: ${end.reason}: ${end.message}`)
      return 1
    case 'Busy':
      console.error(`tandem snapshot: ${end.message}`)
      return 75
    case 'Late':
      console.error(
        `tandem snapshot: time is up: ${end.message} (the order stays; tandem describe fv/${volume} shows its end)`,
      )
      return 124
  }
}

function restoreQuestion(volume: KubeObject, snapshot: string, parsed: Parsed): string {
  const { name } = volume.metadata
  const { snapshots = [] } = statusOf(volume)
  const found = snapshots.find((s) => s.name === snapshot)
  const [newest] = snapshots
  const kept =
    newest === undefined || newest.name === snapshot
      ? 'no snapshot holds what was written since'
      : `the newest snapshot is ${newest.name} (${newest.created})`
  const state = parsed.text('state')
  const where = state === undefined ? '' : ` --state ${state}`
  return [
    `tandem snapshot: this puts all files of volume ${name} back to what they were in snapshot ${snapshot}${found === undefined ? '' : ` (${found.created})`};`,
    `what was written since and is in no snapshot is lost (${kept}). Nothing was done. To do it:`,
    `  tandem snapshot create ${name}${where}      # if the present shall be kept`,
    `  tandem snapshot restore ${name} ${snapshot} --yes${where}`,
  ].join('\n')
}
