/** What the command line does to a mirror: break, reverse, resync. Each writes the spec, waits for the end, and tells why there is none. */
import type { Condition } from '../../api/v1alpha1/common.ts'
import type { MirrorSpec, MirrorStatus } from '../../api/v1alpha1/mirror.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import { KubeError } from '../../edge/kube/api.ts'
import { MIRRORS } from '../../edge/kube/resources.ts'
import { waitFor } from './wait.ts'

export interface MirrorName {
  readonly api: KubeApi
  readonly namespace: string
  readonly name: string
}
export type MirrorEnd =
  | { readonly state: 'Done'; readonly source: string; readonly destination: string }
  /** NotNow: nothing was changed. Refused and Late: it stays asked for. */
  | { readonly state: 'NotNow' | 'Refused' | 'Late'; readonly message: string }
  | { readonly state: 'WouldDiscard'; readonly divergence: NonNullable<MirrorStatus['divergence']> }

const specOf = (mirror: KubeObject): MirrorSpec => mirror['spec'] as MirrorSpec
const statusOf = (mirror: KubeObject | undefined): MirrorStatus => mirror?.['status'] ?? {}

/** The condition, if it speaks of the spec as it is. */
function current(mirror: KubeObject | undefined, type: string): Condition | undefined {
  const found = statusOf(mirror).conditions?.find((c) => c.type === type)
  return (found?.observedGeneration ?? 0) >= (mirror?.metadata.generation ?? 0) ? found : undefined
}

async function read({ api, namespace, name }: MirrorName): Promise<KubeObject> {
  try {
    return await api.get(MIRRORS, namespace, name)
  } catch (error) {
    if (!(error instanceof KubeError && error.code === 404)) throw error
    throw new Error(`there is no Mirror ${name} in namespace ${namespace}`, { cause: error })
  }
}

/** The destination becomes a volume of its own. */
export async function breakMirror(of: MirrorName, timeoutMs: number): Promise<MirrorEnd> {
  await read(of)
  return change(of, { state: 'Broken' }, timeoutMs)
}

/** Source and destination change places, which loses nothing: only in sync. */
export async function reverseMirror(of: MirrorName, timeoutMs: number): Promise<MirrorEnd> {
  const mirror = await read(of)
  const { source, destination } = specOf(mirror)
  const inSync = current(mirror, 'InSync')
  if (inSync?.status !== 'True') {
    const why = inSync === undefined ? 'the mirror has not reported' : `${inSync.reason}: ${inSync.message}`
    return { state: 'NotNow', message: `it is not in sync (${why})` }
  }
  return change(of, { source: destination, destination: source }, timeoutMs)
}

/** What the volume `source` has is carried over to the other one; what only that has is lost if `discard` names it, and keeps the resync waiting else. */
export async function resyncMirror(
  of: MirrorName,
  source: string,
  discard: string | undefined,
  timeoutMs: number,
): Promise<MirrorEnd> {
  const spec = specOf(await read(of))
  const names = [spec.source.volumeName, spec.destination.volumeName]
  if (!names.includes(source))
    throw new Error(`Mirror ${of.name} is between ${names.join(' and ')}; ${source} is neither`)
  const destination = names.find((name) => name !== source)!
  const patch = {
    state: 'Mirrored',
    source: { volumeName: source },
    destination: { volumeName: destination },
    ...(discard === undefined ? {} : { discardChanges: discard }),
  }
  return change(of, patch, timeoutMs, discard)
}

async function change(
  { api, namespace, name }: MirrorName,
  spec: object,
  timeoutMs: number,
  discard?: string,
): Promise<MirrorEnd> {
  await api.mergePatch(MIRRORS, namespace, name, { spec })
  const ended = (mirror: KubeObject | undefined): MirrorEnd | undefined => endOf(mirror, discard)
  const { object } = await waitFor(api, MIRRORS, namespace, name, (o) => ended(o) !== undefined, timeoutMs)
  return ended(object) ?? { state: 'Late', message: statusOf(object).message ?? 'the operator says nothing' }
}

/** undefined: it is still under way. */
function endOf(mirror: KubeObject | undefined, discard: string | undefined): MirrorEnd | undefined {
  const accepted = current(mirror, 'Accepted')
  const ready = current(mirror, 'Ready')
  const { source = '', destination = '', divergence } = statusOf(mirror)
  if (accepted?.status === 'False') return { state: 'Refused', message: accepted.message }
  if (ready?.status === 'True') return { state: 'Done', source, destination }
  // What was just consented to is not news.
  if (ready?.reason === 'WouldDiscardChanges' && divergence !== undefined && divergence.id !== discard)
    return { state: 'WouldDiscard', divergence }
  return undefined
}
