/**
 * Who is told of which change: a bounded history of mutations, from which a watch starts at any revision still in it, and goes on
 * with what follows. A revision older than the history is Expired (410): list again. Only durable mutations are published.
 */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject, ListOptions, WatchEvent } from '../../edge/kube/api.ts'
import { collectionOf } from './object-store.ts'
import type { Mutation } from './object-store.ts'
import type { StoredResource } from './resources.ts'
import { matcher } from './selectors.ts'

export interface Published extends Mutation {
  /** The object before the change, to see it enter or leave a selection. */
  readonly before: KubeObject | undefined
}

export type EventListener = (event: WatchEvent) => void

export class Watches {
  /** Mutations after this revision are in the history. */
  #oldest: number
  #published: number
  readonly #history: Published[] = []
  readonly #capacity: number
  readonly #listeners = new Set<(change: Published) => void>()

  constructor(revision: number, capacity = 10_000) {
    this.#oldest = revision
    this.#published = revision
    this.#capacity = capacity
  }

  get published(): number {
    return this.#published
  }

  publish(change: Published): void {
    this.#published = change.revision
    this.#history.push(change)
    // In halves, so that the cost of forgetting does not depend on the capacity.
    if (this.#history.length > 2 * this.#capacity) {
      const forgotten = this.#history.splice(0, this.#capacity)
      this.#oldest = forgotten.at(-1)!.revision
    }
    for (const listener of this.#listeners) listener(change)
  }

  /** Tells `listener` of everything after `revision`, first what is history. Returns the end of it. */
  watch(
    resource: StoredResource,
    revision: number,
    options: ListOptions,
    listener: EventListener,
  ): () => void {
    if (revision < this.#oldest)
      throw new KubeError(
        410,
        'Expired',
        `too old resource version: ${String(revision)} (${String(this.#oldest)})`,
      )
    const matches = matcher(options.labelSelector, options.fieldSelector)
    const collection = collectionOf(resource)
    const tell = (change: Published): void => {
      if (change.collection !== collection) return
      const { object, before } = change
      if (options.namespace !== undefined && object.metadata.namespace !== options.namespace) return
      const was = before !== undefined && matches(before)
      const is = change.type !== 'DELETED' && matches(object)
      if (is) listener({ type: was ? 'MODIFIED' : 'ADDED', object })
      else if (was) listener({ type: 'DELETED', object })
    }
    for (const change of this.#history) if (change.revision > revision) tell(change)
    this.#listeners.add(tell)
    return () => this.#listeners.delete(tell)
  }
}
