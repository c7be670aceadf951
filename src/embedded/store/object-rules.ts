/**
 * Parts of the object semantics that need no store: which fields a writer owns, which make a new generation, who manages which
 * subresource, and the refusals of the API in its own words.
 */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject, ObjectMeta } from '../../edge/kube/api.ts'
import type { FieldSet, Managers } from './ownership.ts'
import type { StoredResource } from './resources.ts'
import type { Fields } from './values.ts'

/** Set by the store, never by a writer. */
export const SYSTEM_METADATA = [
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
  'selfLink',
] as const
/** What a writer can own: metadata that is his to set, and everything but status (or status alone). */
export function ownable(
  resource: StoredResource,
  object: KubeObject,
  subresource: 'status' | undefined,
): Fields {
  if (subresource === 'status') return object['status'] === undefined ? {} : { status: object['status'] }
  const { apiVersion: _, kind: __, ...rest } = object
  const metadata: Fields = { ...object.metadata }
  for (const name of [...SYSTEM_METADATA, 'name', 'namespace', 'generateName']) delete metadata[name]
  const fields: Fields = { ...rest, metadata }
  if (Object.keys(metadata).length === 0) delete fields['metadata']
  if (resource.status) delete fields['status']
  return fields
}

export function identity(object: KubeObject): Fields {
  const { name, namespace } = object.metadata
  return namespace === undefined ? { name } : { name, namespace }
}

/** Everything whose change makes a new generation. */
export function desired(object: KubeObject): Fields {
  const { metadata: _, status: __, ...rest } = object
  return rest
}

const STATUS_SUFFIX = '/status'

export function bySubresource(
  managers: Managers,
  subresource: 'status' | undefined,
): { own: Managers; others: Managers } {
  const own: Record<string, FieldSet> = {}
  const others: Record<string, FieldSet> = {}
  for (const [name, set] of Object.entries(managers)) {
    const isStatus = name.endsWith(STATUS_SUFFIX)
    if (isStatus !== (subresource === 'status')) others[name] = set
    else own[isStatus ? name.slice(0, -STATUS_SUFFIX.length) : name] = set
  }
  return { own, others }
}

export function withSubresource(managers: Managers, subresource: 'status' | undefined): Managers {
  if (subresource === undefined) return managers
  return Object.fromEntries(Object.entries(managers).map(([name, set]) => [name + STATUS_SUFFIX, set]))
}

export function checkVersion(resource: StoredResource, live: KubeObject, given: Partial<ObjectMeta>): void {
  if (given.uid !== undefined && given.uid !== null && given.uid !== live.metadata.uid)
    throw new KubeError(
      409,
      'Conflict',
      `${resource.plural} "${live.metadata.name}": uid ${given.uid} is not the current ${live.metadata.uid ?? ''}`,
    )
  const version = given.resourceVersion
  if (version === undefined || version === null || version === '') return
  if (version !== live.metadata.resourceVersion) throw conflict(resource, live.metadata.name)
}

export function conflict(resource: StoredResource, name: string): KubeError {
  return new KubeError(
    409,
    'Conflict',
    `${resource.plural} "${name}": the object has been modified; please apply your changes to the latest version and try again`,
  )
}

export function notFound(resource: StoredResource, name: string): KubeError {
  const group = resource.group === '' ? '' : `.${resource.group}`
  return new KubeError(404, 'NotFound', `${resource.plural}${group} "${name}" not found`)
}

export function numberOr(value: unknown, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise
}

/**
 * Under which name a plain write owns fields. The same writer's applies own theirs apart from it, as in a cluster: what was created and
 * is not in what is applied later stays.
 */
export function updaterOf(manager: string): string {
  return `${manager} (update)`
}
