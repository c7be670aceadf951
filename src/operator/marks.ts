/** What the operator writes into the metadata of an object that a person made: its finalizer, and the spec that it accepted. */
import type { FilerVolumeStatus } from '../api/v1alpha1/filer-volume.ts'
import type { KubeObject, Resource } from '../edge/kube/api.ts'
import type { Acceptance } from './accept.ts'
import { ANNOTATION_ACCEPTED, FINALIZER } from './names.ts'
import type { Action } from './runtime/actions.ts'
import { fails, unknown } from './runtime/conditions.ts'
import type { Verdict } from './runtime/conditions.ts'

/** In one write; undefined if nothing is to be changed. `done`: the object may go. */
export function markObject(
  resource: Resource,
  { metadata }: KubeObject,
  acceptance: Acceptance<unknown>,
  done: boolean,
): Action | undefined {
  const finalizers = metadata.finalizers ?? []
  const leaving = metadata.deletionTimestamp !== undefined
  const marks = !leaving && !finalizers.includes(FINALIZER)
  const frees = done && finalizers.includes(FINALIZER)
  const notes = !leaving && acceptance.annotation !== undefined
  if (!marks && !frees && !notes) return undefined
  return {
    type: 'patch',
    resource,
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    patch: {
      metadata: {
        resourceVersion: metadata.resourceVersion,
        ...(marks ? { finalizers: [...finalizers, FINALIZER] } : {}),
        ...(frees ? { finalizers: finalizers.filter((f) => f !== FINALIZER) } : {}),
        ...(notes ? { annotations: { [ANNOTATION_ACCEPTED]: acceptance.annotation } } : {}),
      },
    },
  }
}

/** Older ones first, so that of two that stand in each other's way it is always the same one that stays. */
export function byAge(objects: readonly KubeObject[]): KubeObject[] {
  return [...objects].sort(
    (x, y) =>
      (x.metadata.creationTimestamp ?? '').localeCompare(y.metadata.creationTimestamp ?? '') ||
      x.metadata.name.localeCompare(y.metadata.name),
  )
}

/** What `field` names is a FilerVolume without a spec in force: not looked at yet, or refused. */
export function notAccepted({ metadata: { name }, ...object }: KubeObject, field: string): Verdict {
  const { conditions = [] } = (object['status'] ?? {}) as FilerVolumeStatus
  return conditions.some((c) => c.type === 'Accepted' && c.status === 'False')
    ? fails(
        'VolumeNotFound',
        `${field}: FilerVolume ${name} has no accepted spec; its own conditions say why`,
      )
    : unknown('Unknown', `${field}: FilerVolume ${name} has just been made, and is being looked at`)
}
