/**
 * PersistentVolumes of volumes with a claim. They are asked for one by one and kept for a while: to list or watch them would need the
 * right to see everybody's.
 */
import type { KubeApi, KubeObject } from '../edge/kube/api.ts'
import { KubeError } from '../edge/kube/api.ts'
import { PERSISTENT_VOLUMES } from '../edge/kube/resources.ts'
import { LABEL_FILER, LABEL_VOLUME_ID, persistentVolumeName } from './names.ts'
import { volumeId } from './filer-volume/volume.ts'

const KEPT_MS = 300_000

interface Known {
  readonly atMs: number
  /** Of the volume and of its claim, when it was asked for: what changed since may have changed the answer. */
  readonly asOf: string
  readonly object: KubeObject | 'Forbidden' | undefined
}

export class PersistentVolumes {
  readonly #api: KubeApi
  readonly #known = new Map<string, Known>()

  constructor(api: KubeApi) {
    this.#api = api
  }

  /** By name, of those volumes that want a claim or have one. */
  async of(
    volumes: readonly KubeObject[],
    claims: readonly KubeObject[],
  ): Promise<Map<string, KubeObject | 'Forbidden'>> {
    const found = new Map<string, KubeObject | 'Forbidden'>()
    for (const volume of volumes) {
      const spec = volume['spec'] as { claimName?: string; adopt?: string }
      const id = volumeId(volume, spec as Parameters<typeof volumeId>[1])
      const own = claims.filter(
        ({ metadata: { labels } }) => labels?.[LABEL_VOLUME_ID] === id && labels[LABEL_FILER] === undefined,
      )
      const name = persistentVolumeName(volume.metadata.uid ?? '')
      if (spec.claimName === undefined && own.length === 0) {
        this.#known.delete(name)
        continue
      }
      const isBound = own.some((c) => (c['status'] as { phase?: string } | undefined)?.phase === 'Bound')
      const asOf = [volume, ...own].map((o) => o.metadata.resourceVersion ?? '').join()
      const object = await this.#ask(name, asOf, isBound)
      if (object !== undefined) found.set(name, object)
    }
    return found
  }

  async #ask(name: string, asOf: string, mayKeep: boolean): Promise<Known['object']> {
    const nowMs = performance.now()
    const known = this.#known.get(name)
    const isFresh = known !== undefined && nowMs - known.atMs < KEPT_MS && known.asOf === asOf
    if (isFresh && (mayKeep || known.object === 'Forbidden')) return known.object
    const object = await this.#api.get(PERSISTENT_VOLUMES, '', name).catch((error: unknown) => {
      if (error instanceof KubeError && error.code === 404) return undefined
      if (error instanceof KubeError && error.code === 403) return 'Forbidden' as const
      throw error
    })
    this.#known.set(name, { atMs: nowMs, asOf, object })
    return object
  }
}
