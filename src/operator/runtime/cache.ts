/** What the API has, by pair: informers for every kind that belongs to pairs, and an index from a pair to its objects. */
import type { KubeApi, KubeObject, Resource } from '../../edge/kube/api.ts'
import { Informer } from '../../edge/kube/informer.ts'
import {
  CLAIMS,
  CONVERSIONS,
  FILER_PAIRS,
  FILER_VOLUMES,
  MIRRORS,
  PODS,
  ROLES,
  ROLE_BINDINGS,
  SECRETS,
  SERVICES,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import { acceptedBefore } from '../accept.ts'
import type { Objects } from '../filer-pair/observed.ts'
import { LABEL_PAIR } from '../names.ts'

export interface CacheOptions {
  /** undefined: all. */
  readonly namespaces: readonly string[] | undefined
  readonly budgets: Resource | undefined
  readonly onPair: (key: string) => void
  /** An object of our own API came, changed (`before` is what it was) or went. */
  readonly onOwn?: (now: KubeObject | undefined, before: KubeObject | undefined) => void
  readonly onError: (resource: Resource, error: unknown) => void
}

const RESYNC_MS = 600_000
const OURS: readonly Resource[] = [FILER_PAIRS, FILER_VOLUMES, MIRRORS, CONVERSIONS]
const OWNED: readonly Resource[] = [
  PODS,
  SERVICES,
  SECRETS,
  CLAIMS,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
  ROLES,
  ROLE_BINDINGS,
]

/** Stands for all mirrors and conversions of a namespace: what they are of does not stand in themselves. */
export const namespaceKey = (namespace: string): string => `${namespace}/`

/** `namespace/name` of the pair that an object belongs to, or `namespaceKey`. */
export function pairKeyOf(object: KubeObject): string | undefined {
  const namespace = object.metadata.namespace ?? ''
  if (object.kind === FILER_PAIRS.kind) return `${namespace}/${object.metadata.name}`
  if (object.kind === FILER_VOLUMES.kind) {
    const spec = (acceptedBefore(object) ?? object['spec']) as { pairName?: string } | undefined
    return `${namespace}/${spec?.pairName ?? ''}`
  }
  if (object.kind === MIRRORS.kind || object.kind === CONVERSIONS.kind) return namespaceKey(namespace)
  const pair = object.metadata.labels?.[LABEL_PAIR]
  return pair === undefined ? undefined : `${namespace}/${pair}`
}

export class Cache {
  readonly #informers: Informer[] = []
  /** Resource → pair → name → who keeps the object. */
  readonly #index = new Map<Resource, Map<string, Map<string, Informer>>>()

  constructor(api: KubeApi, options: CacheOptions) {
    const owned = options.budgets === undefined ? OWNED : [...OWNED, options.budgets]
    for (const resource of [...OURS, ...owned]) {
      this.#index.set(resource, new Map())
      for (const namespace of options.namespaces ?? [undefined]) {
        const informer: Informer = new Informer(api, resource, {
          ...(namespace === undefined ? {} : { namespace }),
          ...(owned.includes(resource) ? { labelSelector: LABEL_PAIR } : {}),
          resyncMs: RESYNC_MS,
          onChange: (now, before) => {
            this.#changed(resource, informer, now, before)
            if (!owned.includes(resource)) options.onOwn?.(now, before)
            const keys = [before, now].map((object) => object && pairKeyOf(object))
            for (const key of new Set(keys)) if (key !== undefined) options.onPair(key)
          },
          onError: (error) => options.onError(resource, error),
        })
        this.#informers.push(informer)
      }
    }
  }

  /** One after the other: a list of many objects takes much memory while it is read. */
  async start(): Promise<void> {
    for (const informer of this.#informers) await informer.start()
  }

  async stop(): Promise<void> {
    await Promise.all(this.#informers.map((i) => i.stop()))
  }

  keys(): Set<string> {
    return new Set(OURS.flatMap((r) => [...this.#index.get(r)!.keys()]))
  }

  /** All of the namespace, whatever pair they belong to. */
  inNamespace(resource: Resource, namespace: string): KubeObject[] {
    return [...(this.#index.get(resource) ?? [])]
      .filter(([key]) => key.startsWith(`${namespace}/`))
      .flatMap(([, names]) => [...names].map(([name, informer]) => informer.get(namespace, name)!))
  }

  /** As they are now, each read once. */
  objects(key: string): Objects {
    const namespace = key.slice(0, key.indexOf('/'))
    const read = new Map<Resource, ReadonlyMap<string, KubeObject>>()
    const of = (resource: Resource): ReadonlyMap<string, KubeObject> => {
      let objects = read.get(resource)
      if (objects === undefined) {
        const names = [...(this.#index.get(resource)?.get(key) ?? [])]
        objects = new Map(names.map(([name, informer]) => [name, informer.get(namespace, name)!]))
        read.set(resource, objects)
      }
      return objects
    }
    return { get: (resource, name) => of(resource).get(name), of: (resource) => [...of(resource).values()] }
  }

  #changed(
    resource: Resource,
    informer: Informer,
    now: KubeObject | undefined,
    before: KubeObject | undefined,
  ): void {
    const byPair = this.#index.get(resource)!
    const oldKey = before === undefined ? undefined : pairKeyOf(before)
    const newKey = now === undefined ? undefined : pairKeyOf(now)
    if (oldKey !== undefined && before !== undefined) {
      const names = byPair.get(oldKey)
      names?.delete(before.metadata.name)
      if (names?.size === 0) byPair.delete(oldKey)
    }
    if (newKey !== undefined && now !== undefined) {
      const names = byPair.get(newKey) ?? new Map<string, Informer>()
      names.set(now.metadata.name, informer)
      byPair.set(newKey, names)
    }
  }
}
