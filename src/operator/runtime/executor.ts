/** Does what a plan asks for, in order; the first failure ends it and the key comes again. Never touches what is not ours. */
import type { KubeApi, KubeObject, Resource } from '../../edge/kube/api.ts'
import { KubeError } from '../../edge/kube/api.ts'
import { EVENTS } from '../../edge/kube/resources.ts'
import { LABEL_PAIR_ID } from '../names.ts'
import type { Action } from './actions.ts'

/** One field manager for what is wanted, one for status: an apply of the status by the first would give up its fields of the spec. */
export const MANAGER = 'tandem-operator'
export const STATUS_MANAGER = 'tandem-operator-status'

export interface Hands {
  readonly api: KubeApi
  issue(action: Action & { type: 'issue' }): Promise<void>
  desired(action: Action & { type: 'desired' }): Promise<void>
  snapshot(action: Action & { type: 'snapshot' }): void
  statusWritten(uid: string): void
  log(message: string): void
}
export interface Outcome {
  /** Kind and name of what is somebody else's. */
  readonly foreign: string[]
  /** Writes to the API, Events aside. */
  readonly writes: number
}

export async function execute(
  actions: readonly Action[],
  uids: ReadonlyMap<string, string>,
  hands: Hands,
): Promise<Outcome> {
  const foreign: string[] = []
  let writes = 0
  const failures: unknown[] = []
  for (const action of actions) {
    switch (action.type) {
      case 'apply': {
        const { resource, object } = action
        if (foreign.includes(`${resource.kind} ${object.metadata.name}`)) break
        if (action.fresh && (await isForeign(hands.api, resource, object))) {
          foreign.push(`${resource.kind} ${object.metadata.name}`)
          break
        }
        await hands.api.apply(resource, object, MANAGER)
        writes++
        break
      }
      case 'create':
        if (await create(hands.api, action.resource, action.object)) writes++
        else foreign.push(`${action.resource.kind} ${action.object.metadata.name}`)
        break
      case 'patch':
        await ifThere(hands.api.mergePatch(action.resource, action.namespace, action.name, action.patch))
        writes++
        break
      case 'delete':
        await ifThere(hands.api.delete(action.resource, action.namespace, action.name, { uid: action.uid }))
        writes++
        break
      case 'status': {
        const { resource, object } = action
        await ifThere(hands.api.apply(resource, object, STATUS_MANAGER, 'status'))
        writes++
        const uid = uids.get(`${resource.kind}/${object.metadata.name}`)
        if (uid !== undefined) hands.statusWritten(uid)
        break
      }
      case 'issue':
        await hands.issue(action)
        writes++
        break
      case 'desired':
        // A filer that does not answer must not keep the rest from being done.
        await hands.desired(action).catch((error: unknown) => failures.push(error))
        break
      case 'snapshot':
        hands.snapshot(action)
        break
      case 'event':
        await event(hands.api, action).catch((error: unknown) =>
          hands.log(
            `Event ${action.reason} about ${action.about.metadata.name} was not written: ${String(error)}`,
          ),
        )
        break
    }
  }
  if (failures.length > 0) throw failures[0]
  return { foreign, writes }
}

async function isForeign(api: KubeApi, resource: Resource, object: KubeObject): Promise<boolean> {
  try {
    const there = await api.get(resource, object.metadata.namespace ?? '', object.metadata.name)
    return !ours(there, object)
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return false
    throw error
  }
}

/** False if somebody else's object has the name. */
async function create(api: KubeApi, resource: Resource, object: KubeObject): Promise<boolean> {
  try {
    await api.create(resource, object)
    return true
  } catch (error) {
    if (!(error instanceof KubeError && error.code === 409)) throw error
    return ours(await api.get(resource, object.metadata.namespace ?? '', object.metadata.name), object)
  }
}

function ours(there: KubeObject, object: KubeObject): boolean {
  return there.metadata.labels?.[LABEL_PAIR_ID] === object.metadata.labels?.[LABEL_PAIR_ID]
}

async function ifThere(call: Promise<unknown>): Promise<void> {
  try {
    await call
  } catch (error) {
    if (!(error instanceof KubeError && error.code === 404)) throw error
  }
}

let eventNumber = 0

async function event(api: KubeApi, action: Action & { type: 'event' }): Promise<void> {
  const { about } = action
  const { name, namespace = '', uid, resourceVersion } = about.metadata
  const now = new Date().toISOString().replace(/[.]\d+Z$/, 'Z')
  await api.create(EVENTS, {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: {
      name: `${name}.${Date.now().toString(16)}${(eventNumber++ % 4096).toString(16).padStart(3, '0')}`,
      namespace,
    },
    involvedObject: { apiVersion: about.apiVersion, kind: about.kind, name, namespace, uid, resourceVersion },
    type: action.level,
    reason: action.reason,
    message: action.message.slice(0, 1024),
    source: { component: 'tandem-operator' },
    reportingComponent: 'tandem-operator',
    reportingInstance: 'tandem-operator',
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  })
}
