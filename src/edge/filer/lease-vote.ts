/**
 * The vote in a Lease of the Kubernetes API (in embedded mode: of the store): the record is JSON in an annotation, a change is an
 * update with the resourceVersion that was read. The operator makes the Lease; a filer only gets and updates it.
 *
 * Any answer but a success or a plain conflict leaves the outcome unknown (VoteUnreachable): the request may still be applied.
 */
import type { SideRecord, Vote, VoteRecord } from '../../core/pair/vote.ts'
import { VoteUnreachable } from '../../core/pair/vote.ts'
import type { KubeApi, KubeObject, Resource } from '../kube/api.ts'
import { KubeError } from '../kube/api.ts'

export const LEASES: Resource = {
  group: 'coordination.k8s.io',
  version: 'v1',
  plural: 'leases',
  kind: 'Lease',
  namespaced: true,
}
export const VOTE_ANNOTATION = 'tandem.storage/vote'

function isSide(value: unknown): value is SideRecord {
  const side = value as Partial<SideRecord> | null
  return (
    typeof side === 'object' &&
    Number.isSafeInteger(side?.epoch) &&
    typeof side?.owner === 'string' &&
    typeof side.mirrored === 'boolean' &&
    typeof side.writer === 'string'
  )
}

/** The record in an annotation's text; undefined when it is none of ours (H9: it is then refused, not guessed). */
export function parseVote(text: string): VoteRecord | undefined {
  let value: Partial<VoteRecord> | null
  try {
    value = JSON.parse(text) as Partial<VoteRecord> | null
  } catch {
    return undefined
  }
  if (typeof value?.pairUid !== 'string' || !Number.isSafeInteger(value.beat)) return undefined
  if (typeof value.sides !== 'object' || value.sides === null) return undefined
  if (!Object.values(value.sides).every(isSide)) return undefined
  return value as VoteRecord
}

export class LeaseVote implements Vote {
  readonly #api: KubeApi
  readonly #namespace: string
  readonly #name: string
  /** The object last read, so that a swap is one request. */
  #seen: KubeObject | undefined

  constructor(api: KubeApi, namespace: string, name: string) {
    this.#api = api
    this.#namespace = namespace
    this.#name = name
  }

  async read(): Promise<{ readonly version: string; readonly record: VoteRecord } | undefined> {
    const lease = await this.#get()
    if (!lease) return undefined
    const text = lease.metadata.annotations?.[VOTE_ANNOTATION]
    if (text === undefined) return undefined
    const record = parseVote(text)
    if (!record)
      throw new VoteUnreachable(`lease ${this.#name}: annotation ${VOTE_ANNOTATION} is no vote record`)
    return { version: lease.metadata.resourceVersion ?? '', record }
  }

  async swap(
    version: string | undefined,
    record: VoteRecord,
  ): Promise<{ readonly applied: true; readonly version: string } | { readonly applied: false }> {
    let lease = this.#seen
    if (lease === undefined || version === undefined || lease.metadata.resourceVersion !== version) {
      lease = await this.#get()
      if (!lease) throw new VoteUnreachable(`lease ${this.#name} does not exist (the operator makes it)`)
      const current = lease.metadata.annotations?.[VOTE_ANNOTATION]
      const expected =
        version === undefined ? current === undefined : lease.metadata.resourceVersion === version
      if (!expected) return { applied: false }
    }
    const next: KubeObject = {
      ...lease,
      metadata: {
        ...lease.metadata,
        annotations: { ...lease.metadata.annotations, [VOTE_ANNOTATION]: JSON.stringify(record) },
      },
    }
    try {
      const written = await this.#api.update(LEASES, next)
      this.#seen = written
      return { applied: true, version: written.metadata.resourceVersion ?? '' }
    } catch (error) {
      this.#seen = undefined
      if (error instanceof KubeError && error.code === 409) return { applied: false }
      throw this.#unreachable(error)
    }
  }

  async #get(): Promise<KubeObject | undefined> {
    try {
      this.#seen = await this.#api.get(LEASES, this.#namespace, this.#name)
      return this.#seen
    } catch (error) {
      this.#seen = undefined
      if (error instanceof KubeError && error.code === 404) return undefined
      throw this.#unreachable(error)
    }
  }

  #unreachable(error: unknown): VoteUnreachable {
    return new VoteUnreachable(
      `lease ${this.#name}: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}
