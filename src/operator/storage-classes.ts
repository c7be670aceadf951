/**
 * The cluster's StorageClasses, asked for only while claims wait for one. A pair that waits is looked at again when the answer has become
 * another one, not each time that it is asked for: a thousand pairs may wait.
 */
import type { KubeApi, KubeObject } from '../edge/kube/api.ts'
import { STORAGE_CLASSES } from '../edge/kube/resources.ts'
import type { Observed } from './filer-pair/observed.ts'

const AGAIN_MS = 10_000
/** One answer serves all that ask within so long. */
const KEPT_MS = 5000

type Known = Observed['storageClasses']

export class StorageClasses {
  readonly #api: KubeApi
  readonly #wake: (key: string) => void
  readonly #againMs: number
  /** What each pair that waits was told. */
  readonly #waiting = new Map<string, string>()
  #asked: { readonly atMs: number; readonly known: Promise<Known> } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(api: KubeApi, wake: (key: string) => void, againMs = AGAIN_MS) {
    this.#api = api
    this.#wake = wake
    this.#againMs = againMs
  }

  /** undefined: no claim of the pair waits, or nobody tells. */
  async of(key: string, waits: boolean): Promise<Known> {
    if (!waits) {
      this.#waiting.delete(key)
      return undefined
    }
    this.#timer ??= setInterval(() => void this.#look(), this.#againMs).unref()
    const fresh = this.#asked !== undefined && performance.now() - this.#asked.atMs <= KEPT_MS
    const known = await (fresh ? this.#asked!.known : this.#ask())
    this.#waiting.set(key, text(known))
    return known
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #ask(): Promise<Known> {
    const known = this.#api.list(STORAGE_CLASSES).then(
      ({ items }) => new Map(items.map((c) => [c.metadata.name, bindingModeOf(c)] as const)),
      () => undefined,
    )
    this.#asked = { atMs: performance.now(), known }
    return known
  }

  async #look(): Promise<void> {
    if (this.#waiting.size === 0) return this.stop()
    const now = text(await this.#ask())
    for (const [key, told] of this.#waiting) if (told !== now) this.#wake(key)
  }
}

const text = (known: Known): string =>
  known === undefined ? '' : JSON.stringify([...known].sort(([a], [b]) => (a < b ? -1 : 1)))

function bindingModeOf(storageClass: KubeObject): 'Immediate' | 'WaitForFirstConsumer' {
  return storageClass['volumeBindingMode'] === 'WaitForFirstConsumer' ? 'WaitForFirstConsumer' : 'Immediate'
}
