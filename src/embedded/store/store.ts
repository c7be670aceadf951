/**
 * The store assembled: objects in memory, the durable journal, watches. A change is told (to watchers, and to the writer: await
 * `settled`) only when it is durable, and so is everything that a reader saw.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { Kind } from '../../api/schema.ts'
import { Journal } from './journal.ts'
import { ObjectStore } from './object-store.ts'
import { findResource } from './resources.ts'
import { schemaGate } from './schema-gate.ts'
import { Watches } from './watches.ts'

/** Events are kept this long, as in a cluster. */
const EVENT_LIFE_MS = 3_600_000

export class Store {
  readonly objects: ObjectStore
  readonly watches: Watches
  readonly #journal: Journal
  readonly #housekeeping: NodeJS.Timeout

  private constructor(objects: ObjectStore, watches: Watches, journal: Journal) {
    this.objects = objects
    this.watches = watches
    this.#journal = journal
    this.#housekeeping = setInterval(() => this.#expireEvents(), 60_000)
    this.#housekeeping.unref()
  }

  static async open(
    folder: string,
    kinds: readonly Kind[],
    onFailure: (error: unknown) => void,
    options: { historyCapacity?: number; compactBytes?: number } = {},
  ): Promise<Store> {
    const objects = new ObjectStore({
      schema: schemaGate(kinds),
      now: () => new Date(),
      uid: randomUUID,
      commit: (mutation, before) => {
        journal.append(mutation)
        void journal.durable(mutation.revision).then(() => watches.publish({ ...mutation, before }))
      },
    })
    const { journal, revision, mutations } = await Journal.open(join(folder, 'objects.log'), {
      snapshot: () => objects.snapshot(),
      revision: () => objects.revision,
      onFailure,
      ...(options.compactBytes === undefined ? {} : { compactBytes: options.compactBytes }),
    })
    objects.restore(revision, mutations)
    const watches = new Watches(objects.revision, options.historyCapacity)
    const store = new Store(objects, watches, journal)
    objects.collectGarbage()
    store.#expireEvents()
    return store
  }

  /** Resolves when all that is to be seen now is durable and was told to the watchers. */
  settled(): Promise<void> {
    return this.#journal.durable(this.objects.revision)
  }

  async close(): Promise<void> {
    clearInterval(this.#housekeeping)
    await this.#journal.close()
  }

  #expireEvents(): void {
    const limit = Date.now() - EVENT_LIFE_MS
    for (const [group, version] of [
      ['', 'v1'],
      ['events.k8s.io', 'v1'],
    ] as const) {
      const events = findResource(group, version, 'events')!
      for (const event of this.objects.list(events)) {
        const last = event['lastTimestamp'] ?? event['eventTime'] ?? event.metadata.creationTimestamp
        if (typeof last === 'string' && Date.parse(last) < limit)
          this.objects.delete(events, event.metadata.namespace ?? '', event.metadata.name)
      }
    }
  }
}
