/**
 * A copy of one collection that follows the API: list, then watch; listed again when the server has forgotten where we were (410).
 * Connections that fall silent end by the watch's deadline and are made anew. Readers get an object by its key; `onChange` tells which key
 * changed, and tells every key again at each resync, so that whoever missed something catches up.
 *
 * Objects are kept as text and read anew for whoever asks: as values they take several times the memory, and an operator of a thousand pairs
 * keeps more than twenty thousand.
 */
import type { KubeApi, KubeObject, ListOptions, Resource } from './api.ts'
import { KubeError } from './api.ts'
import { keyOf } from './resources.ts'

export interface InformerOptions extends ListOptions {
  /** `before` is absent for a new object, `now` for one that went. */
  readonly onChange?: (now: KubeObject | undefined, before: KubeObject | undefined) => void
  readonly onError?: (error: unknown) => void
  readonly resyncMs?: number
  readonly watchSeconds?: number
}

interface Kept {
  readonly resourceVersion: string | undefined
  readonly text: string
}

const read = ({ text }: Kept): KubeObject => JSON.parse(text) as KubeObject

const BACKOFF_MIN_MS = 200
const BACKOFF_MAX_MS = 30_000

export class Informer {
  readonly #api: KubeApi
  readonly #resource: Resource
  readonly #options: InformerOptions
  readonly #objects = new Map<string, Kept>()
  readonly #stop = new AbortController()
  readonly #synced = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  #resync: NodeJS.Timeout | undefined

  constructor(api: KubeApi, resource: Resource, options: InformerOptions = {}) {
    this.#api = api
    this.#resource = resource
    this.#options = options
  }

  /** Resolves after the first list. */
  start(): Promise<void> {
    this.#running ??= this.#run()
    const { resyncMs } = this.#options
    if (resyncMs !== undefined) {
      this.#resync = setInterval(() => {
        for (const kept of [...this.#objects.values()]) {
          const object = read(kept)
          this.#options.onChange?.(object, object)
        }
      }, resyncMs)
      this.#resync.unref()
    }
    return this.#synced.promise
  }

  async stop(): Promise<void> {
    clearInterval(this.#resync)
    this.#stop.abort()
    await this.#running
  }

  get(namespace: string, name: string): KubeObject | undefined {
    const kept = this.#objects.get(`${namespace}/${name}`)
    return kept && read(kept)
  }

  all(): KubeObject[] {
    return [...this.#objects.values()].map(read)
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    let backoffMs = BACKOFF_MIN_MS
    let resourceVersion: string | undefined
    while (!signal.aborted) {
      try {
        if (resourceVersion === undefined) {
          resourceVersion = await this.#list()
          this.#synced.resolve()
        }
        const { namespace, labelSelector, fieldSelector, watchSeconds } = this.#options
        const watch = this.#api.watch(this.#resource, resourceVersion, {
          ...(namespace === undefined ? {} : { namespace }),
          ...(labelSelector === undefined ? {} : { labelSelector }),
          ...(fieldSelector === undefined ? {} : { fieldSelector }),
          // Not all at the same moment, lest an API server that restarts has every watch again at once.
          timeoutSeconds: Math.round((watchSeconds ?? 240) * (0.75 + Math.random() / 2)),
          signal,
        })
        for await (const event of watch) {
          resourceVersion = event.object.metadata.resourceVersion ?? resourceVersion
          if (event.type === 'BOOKMARK') continue
          this.#store(event.object, event.type === 'DELETED')
          backoffMs = BACKOFF_MIN_MS
        }
      } catch (error) {
        if (signal.aborted) break
        if (error instanceof KubeError && error.code === 410) {
          resourceVersion = undefined
          continue
        }
        this.#options.onError?.(error)
        // A version that the server does not know any more is not always said to be 410.
        if (error instanceof KubeError && error.code !== 0) resourceVersion = undefined
        await pause(backoffMs * (0.5 + Math.random()), signal)
        backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)
      }
    }
  }

  async #list(): Promise<string> {
    const { resourceVersion, items } = await this.#api.list(this.#resource, this.#options)
    const there = new Set(items.map(keyOf))
    for (const item of items) this.#store(item, false)
    for (const [key, object] of [...this.#objects]) if (!there.has(key)) this.#store(read(object), true)
    return resourceVersion
  }

  #store(raw: KubeObject, deleted: boolean): void {
    const key = keyOf(raw)
    const kept = this.#objects.get(key)
    const before = kept && read(kept)
    if (deleted) {
      this.#objects.delete(key)
      this.#options.onChange?.(undefined, before ?? raw)
      return
    }
    const { resourceVersion } = raw.metadata
    if (kept !== undefined && kept.resourceVersion === resourceVersion) return
    const metadata = { ...raw.metadata } as KubeObject['metadata'] & { managedFields?: unknown }
    delete metadata.managedFields
    const object: KubeObject = { ...raw, metadata }
    this.#objects.set(key, { resourceVersion, text: JSON.stringify(object) })
    this.#options.onChange?.(object, before)
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
