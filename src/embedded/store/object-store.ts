/**
 * The objects of the embedded store and what may happen to them, with the semantics of the Kubernetes API: one revision counter,
 * compare-and-swap by resourceVersion, generation, finalizers and deletionTimestamp, garbage collection by ownerReferences,
 * server-side apply, the status subresource. In memory and synchronous: every call either throws KubeError and changed nothing, or
 * its mutations were handed to `commit` in order before it returns. Durability, watches and HTTP are in journal.ts, watches.ts and server.ts.
 *
 * Invariant: a stored object is never changed in place; it is replaced, so it may be shared with readers.
 */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject, ListOptions, ObjectMeta } from '../../edge/kube/api.ts'
import {
  SYSTEM_METADATA,
  bySubresource,
  checkVersion,
  conflict,
  desired,
  identity,
  notFound,
  numberOr,
  ownable,
  updaterOf,
  withSubresource,
} from './object-rules.ts'
import { applyFields, updateFields } from './ownership.ts'
import type { ListTypes, Managers } from './ownership.ts'
import { RESOURCES, apiVersionOf, findResource } from './resources.ts'
import type { StoredResource } from './resources.ts'
import { matcher } from './selectors.ts'
import { equal, isFields, mergePatch } from './values.ts'
import type { Fields } from './values.ts'

/** One line of the durable log: the object as it is from `revision` on, or as it was last (DELETED). */
export interface Mutation {
  readonly revision: number
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  /** `group/version/plural`. */
  readonly collection: string
  readonly object: KubeObject
  readonly managers: Managers
}

/** What is known of our own kinds: defaults, rules, how lists merge. */
export interface SchemaGate {
  /** The object with defaults; throws KubeError 422 Invalid (or 400 for unknown fields). */
  admit(
    resource: StoredResource,
    object: KubeObject,
    old: KubeObject | undefined,
    part: 'spec' | 'status',
  ): KubeObject
  listTypes(resource: StoredResource): ListTypes
}

export interface StoreOptions {
  readonly schema: SchemaGate
  /** `before` is the object that the mutation replaces. */
  readonly commit: (mutation: Mutation, before: KubeObject | undefined) => void
  readonly now: () => Date
  readonly uid: () => string
}

export interface WriteOptions {
  readonly subresource?: 'status' | undefined
  /** Who writes, for the ownership of fields. */
  readonly manager: string
  readonly dryRun?: boolean | undefined
}

interface Entry {
  readonly object: KubeObject
  readonly managers: Managers
}

const NAME_PATTERN = /^[a-z0-9]([-a-z0-9.:]*[a-z0-9])?$/

export class ObjectStore {
  #revision = 0
  readonly #collections = new Map<string, Map<string, Entry>>()
  /** uid → how to find the object. */
  readonly #byUid = new Map<string, { resource: StoredResource; namespace: string; name: string }>()
  readonly #options: StoreOptions

  constructor(options: StoreOptions) {
    this.#options = options
    for (const resource of RESOURCES) this.#collections.set(collectionOf(resource), new Map())
  }

  get revision(): number {
    return this.#revision
  }

  /** Takes over what the durable log holds; before any other call. */
  restore(revision: number, mutations: Iterable<Mutation>): void {
    for (const mutation of mutations) {
      const resource = resourceOfCollection(mutation.collection)
      if (resource !== undefined) this.#place(resource, mutation)
      this.#revision = Math.max(this.#revision, mutation.revision)
    }
    this.#revision = Math.max(this.#revision, revision)
  }

  /** Everything, as mutations that would restore it. */
  *snapshot(): Iterable<Mutation> {
    for (const [collection, entries] of this.#collections)
      for (const { object, managers } of entries.values())
        yield {
          revision: Number(object.metadata.resourceVersion),
          type: 'ADDED',
          collection,
          object,
          managers,
        }
  }

  get(resource: StoredResource, namespace: string, name: string): KubeObject {
    const entry = this.#find(resource, namespace, name)
    if (entry === undefined) throw notFound(resource, name)
    return entry.object
  }

  list(resource: StoredResource, options: ListOptions = {}): KubeObject[] {
    const matches = matcher(options.labelSelector, options.fieldSelector)
    const items: KubeObject[] = []
    for (const { object } of this.#entries(resource).values())
      if (
        (options.namespace === undefined || object.metadata.namespace === options.namespace) &&
        matches(object)
      )
        items.push(object)
    return items
  }

  create(resource: StoredResource, namespace: string, given: KubeObject, options: WriteOptions): KubeObject {
    const object = this.#checkedIdentity(resource, namespace, undefined, given)
    const name = object.metadata.name
    if (this.#find(resource, namespace, name) !== undefined)
      throw new KubeError(409, 'AlreadyExists', `${resource.plural} "${name}" already exists`)
    if (object.metadata.resourceVersion !== undefined && object.metadata.resourceVersion !== '')
      throw new KubeError(400, 'BadRequest', 'resourceVersion should not be set on objects to be created')
    const body: Fields = { ...object }
    if (resource.status) delete body['status']
    const admitted = this.#admit(resource, body as KubeObject, undefined, 'spec')
    return this.#store(
      resource,
      namespace,
      undefined,
      admitted,
      this.#updated(resource, undefined, admitted, {}, options),
      options,
    )
  }

  update(resource: StoredResource, namespace: string, given: KubeObject, options: WriteOptions): KubeObject {
    const entry = this.#existing(resource, namespace, given.metadata?.name)
    const object = this.#checkedIdentity(resource, namespace, given.metadata.name, given)
    checkVersion(resource, entry.object, object.metadata)
    const whole = this.#combine(resource, entry.object, object, options)
    return this.#store(
      resource,
      namespace,
      entry,
      whole,
      this.#updated(resource, entry, whole, entry.managers, options),
      options,
    )
  }

  patch(
    resource: StoredResource,
    namespace: string,
    name: string,
    patch: unknown,
    options: WriteOptions,
  ): KubeObject {
    const entry = this.#existing(resource, namespace, name)
    if (!isFields(patch)) throw new KubeError(400, 'BadRequest', 'a merge patch must be an object')
    const metadata = isFields(patch['metadata']) ? (patch['metadata'] as Partial<ObjectMeta>) : {}
    checkVersion(resource, entry.object, metadata)
    const patched = mergePatch(entry.object, patch) as KubeObject
    const whole = this.#combine(resource, entry.object, patched, options)
    return this.#store(
      resource,
      namespace,
      entry,
      whole,
      this.#updated(resource, entry, whole, entry.managers, options),
      options,
    )
  }

  /** Server-side apply, forced. */
  apply(
    resource: StoredResource,
    namespace: string,
    name: string,
    given: KubeObject,
    options: WriteOptions,
  ): KubeObject {
    const object = this.#checkedIdentity(resource, namespace, name, given)
    const entry = this.#find(resource, namespace, name)
    if (entry !== undefined) checkVersion(resource, entry.object, object.metadata)
    if (entry === undefined && options.subresource === 'status') throw notFound(resource, name)
    const applied = ownable(resource, object, options.subresource)
    const live = entry === undefined ? undefined : ownable(resource, entry.object, options.subresource)
    const { others, own } = bySubresource(entry?.managers ?? {}, options.subresource)
    const result = applyFields(live, applied, own, options.manager, this.#types(resource))
    const managers = { ...others, ...withSubresource(result.managers, options.subresource) }
    const metadata = isFields(result.value['metadata']) ? result.value['metadata'] : {}
    const body = { ...result.value }
    delete body['metadata']
    if (entry === undefined) {
      const fresh = {
        apiVersion: given.apiVersion,
        kind: given.kind,
        metadata: { ...identity(object), ...metadata },
        ...body,
      } as unknown as KubeObject
      const admitted = this.#admit(resource, fresh, undefined, 'spec')
      return this.#store(resource, namespace, undefined, admitted, managers, options)
    }
    const whole = this.#combine(
      resource,
      entry.object,
      {
        apiVersion: given.apiVersion,
        kind: given.kind,
        metadata: { ...identity(object), ...metadata },
        ...body,
      } as unknown as KubeObject,
      options,
    )
    return this.#store(resource, namespace, entry, whole, managers, options)
  }

  /** The object as it is afterwards (it stays while it has finalizers, or while its pod ends), or as it was last. */
  delete(
    resource: StoredResource,
    namespace: string,
    name: string,
    options: {
      uid?: string | undefined
      resourceVersion?: string | undefined
      gracePeriodSeconds?: number | undefined
      orphan?: boolean | undefined
      dryRun?: boolean | undefined
    } = {},
  ): KubeObject {
    const { object, managers } = this.#existing(resource, namespace, name)
    if (options.uid !== undefined && options.uid !== object.metadata.uid)
      throw new KubeError(
        409,
        'Conflict',
        `${resource.plural} "${name}" has uid ${object.metadata.uid ?? ''}, not ${options.uid}`,
      )
    if (options.resourceVersion !== undefined && options.resourceVersion !== object.metadata.resourceVersion)
      throw conflict(resource, name)
    if (options.dryRun === true) return object
    if (options.orphan === true) this.#orphan(object.metadata.uid)
    // A pod on a node ends gracefully: its kubelet deletes it, with grace 0, once its process is gone.
    const spec = isFields(object['spec']) ? object['spec'] : {}
    const graceful =
      resource.kind === 'Pod' && options.gracePeriodSeconds !== 0 && spec['nodeName'] !== undefined
    if (graceful || (object.metadata.finalizers ?? []).length > 0) {
      if (object.metadata.deletionTimestamp !== undefined) return object
      const grace = graceful
        ? (options.gracePeriodSeconds ?? numberOr(spec['terminationGracePeriodSeconds'], 30))
        : 0
      const metadata = {
        ...object.metadata,
        deletionTimestamp: this.#time(grace * 1000),
        deletionGracePeriodSeconds: grace,
        generation: (object.metadata.generation ?? 0) + 1,
      }
      return this.#commit(resource, 'MODIFIED', { ...object, metadata }, managers)
    }
    return this.#remove(resource, object)
  }

  /** Deletes objects all of whose owners are gone; run after each deletion and at the start. Returns how many. */
  collectGarbage(): number {
    let collected = 0
    for (const resource of RESOURCES)
      for (const { object } of [...this.#entries(resource).values()]) {
        const owners = object.metadata.ownerReferences ?? []
        if (owners.length === 0 || object.metadata.deletionTimestamp !== undefined) continue
        if (owners.some((owner) => this.#byUid.has(owner.uid))) continue
        if (!this.#byUid.has(object.metadata.uid ?? '')) continue
        this.delete(resource, object.metadata.namespace ?? '', object.metadata.name)
        collected++
      }
    return collected
  }

  #orphan(uid: string | undefined): void {
    for (const resource of RESOURCES)
      for (const { object, managers } of [...this.#entries(resource).values()]) {
        const owners = object.metadata.ownerReferences ?? []
        const rest = owners.filter((owner) => owner.uid !== uid)
        if (rest.length === owners.length) continue
        this.#commit(
          resource,
          'MODIFIED',
          { ...object, metadata: { ...object.metadata, ownerReferences: rest } },
          managers,
        )
      }
  }

  /** `given` laid into `old` as far as the request may change it: all but status, or status alone. */
  #combine(resource: StoredResource, old: KubeObject, given: KubeObject, options: WriteOptions): KubeObject {
    const part = options.subresource ?? 'spec'
    let whole: Fields
    if (part === 'status') {
      whole = { ...old, status: given['status'] }
      if (given['status'] === undefined) delete whole['status']
    } else {
      const metadata: Fields = { ...given.metadata }
      for (const name of SYSTEM_METADATA) {
        const value = (old.metadata as unknown as Fields)[name]
        if (value === undefined) delete metadata[name]
        else metadata[name] = value
      }
      whole = { ...given, metadata }
      if (resource.status) {
        if (old['status'] === undefined) delete whole['status']
        else whole['status'] = old['status']
      }
    }
    const terminating = old.metadata.deletionTimestamp !== undefined
    const admitted = this.#admit(resource, whole as KubeObject, old, part)
    if (terminating) {
      const added = (admitted.metadata.finalizers ?? []).filter(
        (finalizer) => !(old.metadata.finalizers ?? []).includes(finalizer),
      )
      if (added.length > 0)
        throw new KubeError(
          422,
          'Invalid',
          `metadata.finalizers: no new finalizers can be added if the object is being deleted, found ${added.join(', ')}`,
        )
    }
    return admitted
  }

  #admit(
    resource: StoredResource,
    object: KubeObject,
    old: KubeObject | undefined,
    part: 'spec' | 'status',
  ): KubeObject {
    let given = object
    if (resource.kind === 'Secret' && isFields(given['stringData'])) {
      const data: Fields = { ...(given['data'] as Fields | undefined) }
      for (const [key, value] of Object.entries(given['stringData']))
        data[key] = Buffer.from(String(value)).toString('base64')
      const { stringData: _, ...rest } = given
      given = { ...rest, data }
    }
    // A terminating object only loses finalizers; a rule that it breaks by now must not keep it for ever.
    if (old?.metadata.deletionTimestamp !== undefined && equal(old['spec'], given['spec'])) return given
    return this.#options.schema.admit(resource, given, old, part)
  }

  /** Writes `object` in place of `entry`, unless that changes nothing. */
  #store(
    resource: StoredResource,
    namespace: string,
    entry: Entry | undefined,
    object: KubeObject,
    managers: Managers,
    options: WriteOptions,
  ): KubeObject {
    if (entry === undefined) {
      const metadata: ObjectMeta = {
        ...object.metadata,
        ...(resource.namespaced ? { namespace } : {}),
        uid: this.#options.uid(),
        generation: 1,
        creationTimestamp: this.#time(0),
      }
      const created = { ...object, metadata }
      return options.dryRun === true ? created : this.#commit(resource, 'ADDED', created, managers)
    }
    const old = entry.object
    const unchanged = equal(old, object)
    if (unchanged && equal(entry.managers, managers)) return old
    const generation =
      options.subresource === undefined && !equal(desired(old), desired(object))
        ? (old.metadata.generation ?? 0) + 1
        : (old.metadata.generation ?? 1)
    const changed = { ...object, metadata: { ...object.metadata, generation } }
    if (options.dryRun === true) return changed
    if (old.metadata.deletionTimestamp !== undefined && (changed.metadata.finalizers ?? []).length === 0) {
      const isPodOfNode = resource.kind === 'Pod' && (old.metadata.finalizers ?? []).length === 0
      if (!isPodOfNode) return this.#remove(resource, changed)
    }
    return this.#commit(resource, 'MODIFIED', changed, managers)
  }

  #updated(
    resource: StoredResource,
    entry: Entry | undefined,
    object: KubeObject,
    managers: Managers,
    options: WriteOptions,
  ): Managers {
    const { others, own } = bySubresource(managers, options.subresource)
    const before = entry === undefined ? undefined : ownable(resource, entry.object, options.subresource)
    const after = ownable(resource, object, options.subresource)
    const updated = updateFields(before, after, own, updaterOf(options.manager), this.#types(resource))
    return { ...others, ...withSubresource(updated, options.subresource) }
  }

  #remove(resource: StoredResource, object: KubeObject): KubeObject {
    const removed = this.#commit(resource, 'DELETED', object, {})
    this.collectGarbage()
    return removed
  }

  #commit(
    resource: StoredResource,
    type: Mutation['type'],
    object: KubeObject,
    managers: Managers,
  ): KubeObject {
    const revision = ++this.#revision
    const stored: KubeObject = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(revision) },
    }
    const mutation = { revision, type, collection: collectionOf(resource), object: stored, managers }
    const before = this.#find(resource, object.metadata.namespace ?? '', object.metadata.name)?.object
    this.#place(resource, mutation)
    this.#options.commit(mutation, before)
    return stored
  }

  #place(resource: StoredResource, { type, object, managers }: Mutation): void {
    const { namespace = '', name, uid } = object.metadata
    const key = `${namespace}/${name}`
    if (type === 'DELETED') {
      this.#entries(resource).delete(key)
      if (uid !== undefined) this.#byUid.delete(uid)
      return
    }
    this.#entries(resource).set(key, { object, managers })
    if (uid !== undefined) this.#byUid.set(uid, { resource, namespace, name })
  }

  #entries(resource: StoredResource): Map<string, Entry> {
    return this.#collections.get(collectionOf(resource))!
  }

  #find(resource: StoredResource, namespace: string, name: string): Entry | undefined {
    return this.#entries(resource).get(`${resource.namespaced ? namespace : ''}/${name}`)
  }

  #existing(resource: StoredResource, namespace: string, name: string): Entry {
    const entry = this.#find(resource, namespace, name)
    if (entry === undefined) throw notFound(resource, name)
    return entry
  }

  #types(resource: StoredResource): ListTypes {
    return this.#options.schema.listTypes(resource)
  }

  #time(offsetMs: number): string {
    return new Date(this.#options.now().getTime() + offsetMs).toISOString().replace(/\.\d+Z$/, 'Z')
  }

  /** `given` with the request's name and namespace; refused where they disagree with what it says itself. */
  #checkedIdentity(
    resource: StoredResource,
    namespace: string,
    name: string | undefined,
    given: KubeObject,
  ): KubeObject {
    if (!isFields(given) || !isFields(given.metadata))
      throw new KubeError(400, 'BadRequest', 'the body must be an object with metadata')
    if (given.kind !== resource.kind || given.apiVersion !== apiVersionOf(resource))
      throw new KubeError(
        400,
        'BadRequest',
        `the object is ${given.apiVersion} ${given.kind}, the request is for ${apiVersionOf(resource)} ${resource.kind}`,
      )
    const metadata: ObjectMeta & { generateName?: string } = { ...given.metadata }
    if ((metadata.name ?? '') === '' && name === undefined && metadata.generateName !== undefined)
      metadata.name = metadata.generateName + this.#options.uid().slice(0, 5)
    if (name !== undefined && metadata.name !== name)
      throw new KubeError(
        400,
        'BadRequest',
        `the object's name "${metadata.name}" is not the request's "${name}"`,
      )
    if (typeof metadata.name !== 'string' || metadata.name.length > 253 || !NAME_PATTERN.test(metadata.name))
      throw new KubeError(
        422,
        'Invalid',
        `metadata.name: ${JSON.stringify(metadata.name)} is not a name: lower case letters, digits, "-" and "."`,
      )
    if (resource.namespaced) {
      if (metadata.namespace !== undefined && metadata.namespace !== namespace)
        throw new KubeError(
          400,
          'BadRequest',
          `the object's namespace "${metadata.namespace}" is not the request's "${namespace}"`,
        )
      metadata.namespace = namespace
    } else delete metadata.namespace
    delete (metadata as unknown as Fields)['managedFields']
    return { ...given, metadata }
  }
}

export function collectionOf(resource: StoredResource): string {
  return `${resource.group}/${resource.version}/${resource.plural}`
}

export function resourceOfCollection(collection: string): StoredResource | undefined {
  const [group, version, plural] = collection.split('/')
  return findResource(group ?? '', version ?? '', plural ?? '')
}
