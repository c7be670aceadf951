/**
 * Objects of the Kubernetes API as this project uses them: the same calls go to a real API server (HTTPS) and to the embedded
 * store (HTTP on a Unix socket), which speaks the subset of the REST API that this file names. client.ts implements it.
 */
export interface ObjectMeta {
  name: string
  namespace?: string
  uid?: string
  resourceVersion?: string
  generation?: number
  creationTimestamp?: string
  deletionTimestamp?: string
  finalizers?: string[]
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: {
    apiVersion: string
    kind: string
    name: string
    uid: string
    controller?: boolean
    blockOwnerDeletion?: boolean
  }[]
}
export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: ObjectMeta
  [field: string]: unknown
}
/** Which collection: group '' is the core group; `plural` as in the URL. */
export interface Resource {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
}
/** An answer other than 2xx; `code` is the HTTP status, `reason` the Status reason (NotFound, Conflict, AlreadyExists, Invalid, Expired, …). */
export class KubeError extends Error {
  readonly code: number
  readonly reason: string
  constructor(code: number, reason: string, message: string) {
    super(message)
    this.name = 'KubeError'
    this.code = code
    this.reason = reason
  }
}
export interface ListOptions {
  namespace?: string
  labelSelector?: string
  fieldSelector?: string
}
export type WatchEvent = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: KubeObject }

export interface KubeApi {
  get(resource: Resource, namespace: string, name: string): Promise<KubeObject>
  list(resource: Resource, options?: ListOptions): Promise<{ resourceVersion: string; items: KubeObject[] }>
  /** Yields events from `resourceVersion` on; ends on time-out; throws KubeError 410 Expired when it must be listed again. */
  watch(
    resource: Resource,
    resourceVersion: string,
    options: ListOptions & { signal?: AbortSignal; timeoutSeconds?: number },
  ): AsyncIterable<WatchEvent>
  create(resource: Resource, object: KubeObject): Promise<KubeObject>
  /** Full update; refused (409) when metadata.resourceVersion is set and no longer current. */
  update(resource: Resource, object: KubeObject, subresource?: 'status'): Promise<KubeObject>
  /** RFC 7386 merge patch. */
  mergePatch(
    resource: Resource,
    namespace: string,
    name: string,
    patch: unknown,
    subresource?: 'status',
  ): Promise<KubeObject>
  /** Server-side apply under `manager`, forced. */
  apply(resource: Resource, object: KubeObject, manager: string, subresource?: 'status'): Promise<KubeObject>
  delete(
    resource: Resource,
    namespace: string,
    name: string,
    options?: {
      uid?: string
      gracePeriodSeconds?: number
      propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
    },
  ): Promise<void>
}
