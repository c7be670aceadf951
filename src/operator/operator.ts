/**
 * The operator: informers → keyed queue → observe, plan, execute, one pair at a time. Level-triggered: a pass looks at everything the
 * pair has and makes it as it should be, whatever woke it. It runs against an API server and against the embedded store alike.
 */
import type { KubeApi, KubeObject, Resource } from '../edge/kube/api.ts'
import { KubeError } from '../edge/kube/api.ts'
import {
  BUDGETS_V1,
  BUDGETS_V1BETA1,
  CLAIMS,
  FILER_PAIRS,
  FILER_VOLUMES,
  LEASES,
  NAMESPACES,
  PODS,
} from '../edge/kube/resources.ts'
import { filerUri } from '../edge/pki.ts'
import { filerPair } from '../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec, FilerPairStatus } from '../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../api/v1alpha1/filer-volume.ts'
import { accept } from './accept.ts'
import type { AdminConnector, AdminTarget } from './admin-client.ts'
import { Certificates } from './certificates.ts'
import { FilerLinks } from './filer-links.ts'
import { planConversions } from './conversion/plan.ts'
import { planMirrors } from './mirror/plan.ts'
import { NamespaceLinks } from './namespace-links.ts'
import { nodeInQuestion } from './filer-pair/accept-loss.ts'
import { pairId } from './filer-pair/accepted.ts'
import type { AcceptedPair } from './filer-pair/accepted.ts'
import type { Objects, Observed } from './filer-pair/observed.ts'
import { plan } from './filer-pair/plan.ts'
import { outcomeKey } from './filer-volume/snapshot-request.ts'
import { PersistentVolumes } from './persistent-volumes.ts'
import { PORTS, namesOf } from './names.ts'
import { Cache } from './runtime/cache.ts'
import type { CacheOptions } from './runtime/cache.ts'
import { MANAGER, execute } from './runtime/executor.ts'
import { KeyedQueue } from './runtime/queue.ts'
import { Nodes } from './nodes.ts'
import { SnapshotOrders } from './snapshot-orders.ts'
import { StorageClasses } from './storage-classes.ts'
import { UpdateTurns } from './update-turn.ts'

export interface OperatorOptions {
  readonly api: KubeApi
  readonly connect: AdminConnector
  /** Image of filers whose pair names none. */
  readonly image: string
  /** undefined: all. */
  readonly namespaces?: readonly string[]
  readonly workers?: number
  readonly log: (message: string) => void
  /** After each pass; for metrics and tests. */
  readonly onPass?: (
    key: string,
    result: { readonly writes: number; readonly seconds: number; readonly error?: unknown },
  ) => void
  /** Each object of our own API that came, changed or went; for metrics. */
  readonly onOwn?: CacheOptions['onOwn']
}

const LEASE_KEPT_MS = 300_000
const LEASE_DOUBTED_MS = 2000
const FOREIGN_AGAIN_MS = 10_000

export class Operator {
  readonly #options: OperatorOptions
  readonly #queue: KeyedQueue
  readonly #links: FilerLinks
  readonly #namespaces: NamespaceLinks
  readonly #certificates = new Certificates()
  readonly #orders: SnapshotOrders
  readonly #persistentVolumes: PersistentVolumes
  readonly #nodes: Nodes
  readonly #classes: StorageClasses
  readonly #turns: UpdateTurns
  readonly #foreign = new Map<string, readonly string[]>()
  readonly #statusWrittenMs = new Map<string, number>()
  readonly #leases = new Map<string, { readonly atMs: number; readonly lease: KubeObject }>()
  #cache: Cache | undefined
  #budgets: Resource | undefined

  constructor(options: OperatorOptions) {
    this.#options = options
    this.#links = new FilerLinks(options.connect, (key) => this.#wake(key))
    this.#namespaces = new NamespaceLinks(
      () => this.#cache!,
      (key) => this.#links.reports(key),
    )
    this.#orders = new SnapshotOrders(
      (key, filer, request) => this.#links.snapshot(key, filer, request),
      (key) => this.#queue.add(key),
    )
    this.#persistentVolumes = new PersistentVolumes(options.api)
    this.#nodes = new Nodes(options.api)
    this.#classes = new StorageClasses(options.api, (key) => this.#queue.add(key))
    this.#turns = new UpdateTurns((key) => this.#queue.add(key))
    this.#queue = new KeyedQueue({
      workers: options.workers ?? 16,
      work: (key) => this.#pass(key),
      onError: (key, error, againInMs) => {
        // Somebody else wrote between our read and our write: no news.
        if (error instanceof KubeError && error.code === 409) return
        options.log(`${key}: ${(error as Error).message}; again in ${Math.round(againInMs)} ms`)
      },
    })
  }

  /** Resolves when everything has been listed and each pair has been looked at once. */
  async start(): Promise<void> {
    const { api, namespaces, log, onOwn } = this.#options
    this.#budgets = await budgetsOf(api, namespaces?.[0])
    this.#cache = new Cache(api, {
      namespaces,
      budgets: this.#budgets,
      // Before everything is listed, what is missing may only not have been read yet.
      onPair: (key) => {
        if (synced) this.#wake(key)
      },
      ...(onOwn === undefined ? {} : { onOwn }),
      onError: (resource, error) => log(`watching ${resource.plural}: ${(error as Error).message}`),
    })
    let synced = false
    await this.#cache.start()
    synced = true
    this.#turns.resume(updating(this.#cache))
    for (const key of this.#cache.keys()) this.#queue.add(key)
    await this.#queue.idle()
  }

  /** Resolves when nothing is waiting to be looked at. */
  idle(): Promise<void> {
    return this.#queue.idle()
  }

  async stop(): Promise<void> {
    await this.#queue.stop()
    this.#classes.stop()
    this.#links.stop()
    await this.#cache?.stop()
  }

  #wake(key: string): void {
    for (const touched of this.#namespaces.touched(key)) this.#queue.add(touched)
  }

  async #pass(key: string): Promise<void> {
    const startMs = performance.now()
    const seconds = (): number => (performance.now() - startMs) / 1000
    try {
      const writes = await this.#reconcile(key)
      this.#options.onPass?.(key, { writes, seconds: seconds() })
    } catch (error) {
      this.#options.onPass?.(key, { writes: 0, seconds: seconds(), error })
      throw error
    }
  }

  async #reconcile(key: string): Promise<number> {
    const slash = key.indexOf('/')
    const namespace = key.slice(0, slash)
    const name = key.slice(slash + 1)
    if (name === '') return this.#reconcileNamespace(key, namespace)
    const objects = this.#cache!.objects(key)
    const pair = objects.get(FILER_PAIRS, name)
    const volumes = objects.of(FILER_VOLUMES)
    if (pair === undefined && volumes.length === 0) {
      this.#links.keep(key, new Map())
      this.#certificates.forget(key)
      this.#foreign.delete(key)
      this.#leases.delete(key)
      this.#orders.forgetAll(key)
      this.#turns.planned(key, undefined)
      await this.#classes.of(key, false)
      this.#namespaces.told(key, undefined)
      return 0
    }
    const accepted = pair === undefined ? undefined : inForce(namespace, pair)
    const nowMs = Date.now()
    await this.#keepLinks(key, objects, accepted, nowMs)
    const leaving = [pair, ...volumes].some((o) => o?.metadata.deletionTimestamp !== undefined)
    const pendingClaims = objects
      .of(CLAIMS)
      .some((c) => (c['status'] as { phase?: string })?.phase === 'Pending')
    const observed: Omit<Observed, 'updateTurn'> = {
      namespace,
      name,
      pair,
      volumes,
      // As they are when the plan is made: all that is asked for here takes its time.
      objects: this.#cache!.objects(key),
      lease: pair === undefined ? undefined : await this.#lease(key, namespace, name, leaving),
      foreign: this.#foreign.get(key) ?? [],
      reports: this.#links.reports(key),
      certificatesDue:
        accepted === undefined
          ? { authority: false, filers: [] }
          : this.#certificates.due(key, objects, accepted, nowMs),
      storageClasses: await this.#classes.of(key, pendingClaims),
      persistentVolumes: await this.#persistentVolumes.of(volumes, objects.of(CLAIMS)),
      snapshotOutcomes: this.#orders.outcomes(key),
      budgets: this.#budgets,
      image: this.#options.image,
      nodeReady: await this.#nodes.isReady(nodeInQuestion({ name, objects }, accepted?.spec)),
      namespaceTerminating: leaving && (await this.#isTerminating(namespace)),
      mirrors: this.#namespaces.mirrorsAt(key),
      conversions: this.#namespaces.conversionsAt(key),
      peerPair: (other) => this.#namespaces.peerPair(namespace, other),
      nowMs,
      statusWrittenMs: (uid) => this.#statusWrittenMs.get(uid) ?? 0,
    }
    // Whose turn it is may have changed while all that was asked for.
    const { actions, againInMs, update, told } = plan({ ...observed, updateTurn: this.#turns.of(key) })
    this.#turns.planned(key, update)
    const outcome = await execute(actions, uidsOf([pair, ...volumes]), {
      api: this.#options.api,
      issue: (action) =>
        this.#certificates.renew(this.#options.api, MANAGER, objects, accepted!, action, Date.now()),
      desired: (action) => this.#links.apply(key, action.filer, action.desired),
      snapshot: (action) => this.#orders.start(key, action.filer, action.request),
      statusWritten: (uid) => this.#statusWrittenMs.set(uid, Date.now()),
      log: this.#options.log,
    })
    this.#namespaces.told(key, told)
    for (const volume of volumes) this.#forgetFinished(key, volume)
    // A kept Lease that was written to is an old one.
    if (actions.some((a) => a.type === 'patch' && a.resource === LEASES)) this.#leases.delete(key)
    const before = this.#foreign.get(key) ?? []
    if (outcome.foreign.length > 0) this.#foreign.set(key, outcome.foreign)
    else this.#foreign.delete(key)
    if (outcome.foreign.join() !== before.join()) this.#queue.later(key, 0)
    else if (outcome.foreign.length > 0) this.#queue.later(key, FOREIGN_AGAIN_MS)
    if (againInMs !== undefined) this.#queue.later(key, againInMs)
    return outcome.writes
  }

  /** The mirrors and conversions of a namespace are looked at together: whether one may be depends on the others. */
  async #reconcileNamespace(key: string, namespace: string): Promise<number> {
    const { api, log } = this.#options
    const observed = this.#namespaces.observed(namespace)
    const objects = [...observed.mirrors, ...observed.conversions]
    if (objects.length === 0) return 0
    const leaving = objects.some((o) => o.metadata.deletionTimestamp !== undefined)
    const all = {
      ...observed,
      namespaceTerminating: leaving && (await this.#isTerminating(namespace)),
      nowMs: Date.now(),
      statusWrittenMs: (uid: string) => this.#statusWrittenMs.get(uid) ?? 0,
    }
    const plans = [planMirrors(all), planConversions(all)]
    const never = (): never => {
      throw new Error('filers are told of mirrors and conversions with their pairs')
    }
    const { writes } = await execute(
      plans.flatMap((p) => p.actions),
      uidsOf(objects),
      {
        api,
        issue: never,
        desired: never,
        snapshot: never,
        statusWritten: (uid) => this.#statusWrittenMs.set(uid, Date.now()),
        log,
      },
    )
    for (const { againInMs } of plans) if (againInMs !== undefined) this.#queue.later(key, againInMs)
    return writes
  }

  #forgetFinished(key: string, volume: KubeObject): void {
    const { id = '', snapshotRequest } = (volume['status'] ?? {}) as FilerVolumeStatus
    if (snapshotRequest !== undefined && snapshotRequest.state !== 'Pending')
      this.#orders.forget(key, outcomeKey(id, snapshotRequest.id))
  }

  /** Talks to each filer whose pod runs. */
  async #keepLinks(
    key: string,
    objects: Objects,
    pair: AcceptedPair | undefined,
    nowMs: number,
  ): Promise<void> {
    const targets = new Map<string, AdminTarget>()
    for (const { name } of pair?.spec.filers ?? []) {
      const status = objects.get(PODS, namesOf(pair!.name).pod(name))?.['status'] as
        { phase?: string; podIP?: string } | undefined
      if (status?.phase !== 'Running' || !status.podIP) continue
      const tls = await this.#certificates.own(key, objects, pair!, nowMs)
      if (tls === undefined) continue
      const host = status.podIP.includes(':') ? `[${status.podIP}]` : status.podIP
      targets.set(name, {
        address: `${host}:${PORTS.administration}`,
        uri: filerUri(pair!.namespace, pair!.name, name),
        tls,
      })
    }
    this.#links.keep(key, targets)
  }

  /** Filers report every few seconds: a Lease that was there is not asked for again each time. */
  async #lease(
    key: string,
    namespace: string,
    name: string,
    leaving: boolean,
  ): Promise<KubeObject | undefined> {
    const nowMs = performance.now()
    const known = this.#leases.get(key)
    const keptMs = this.#missesVote(key) ? LEASE_DOUBTED_MS : LEASE_KEPT_MS
    if (known !== undefined && !leaving && nowMs - known.atMs < keptMs) return known.lease
    const lease = await this.#find(LEASES, namespace, namesOf(name).lease)
    if (lease === undefined) this.#leases.delete(key)
    else this.#leases.set(key, { atMs: nowMs, lease })
    return lease
  }

  /** A filer that does not find its record may have lost the whole Lease. */
  #missesVote(key: string): boolean {
    return [...this.#links.reports(key).values()].some(
      ({ status }) =>
        status !== undefined &&
        (!status.voteReachable || status.sides.some((side) => side.reason.startsWith('Vote'))),
    )
  }

  async #find(resource: Resource, namespace: string, name: string): Promise<KubeObject | undefined> {
    try {
      return await this.#options.api.get(resource, namespace, name)
    } catch (error) {
      if (error instanceof KubeError && error.code === 404) return undefined
      throw error
    }
  }

  async #isTerminating(namespace: string): Promise<boolean> {
    const found = await this.#find(NAMESPACES, '', namespace)
    return found?.metadata.deletionTimestamp !== undefined
  }
}

/** Keys of pairs that an earlier operator began to update. */
function updating(cache: Cache): string[] {
  return [...cache.keys()].filter((key) => {
    const pair = cache.objects(key).get(FILER_PAIRS, key.slice(key.indexOf('/') + 1))
    const { conditions = [] } = (pair?.['status'] ?? {}) as FilerPairStatus
    return conditions.some((c) => c.type === 'UpToDate' && c.reason === 'Updating')
  })
}

/** As far as certificates and connections need it. */
function inForce(namespace: string, pair: KubeObject): AcceptedPair | undefined {
  const { spec } = accept<FilerPairSpec>(filerPair, pair)
  const { name, uid = '' } = pair.metadata
  return spec === undefined
    ? undefined
    : { namespace, name, uid, id: pairId(uid, spec), spec, traditional: [] }
}

/** By kind and name. */
function uidsOf(objects: readonly (KubeObject | undefined)[]): Map<string, string> {
  return new Map(
    objects.flatMap((o) =>
      o === undefined ? [] : [[`${o.kind}/${o.metadata.name}`, o.metadata.uid ?? ''] as const],
    ),
  )
}

/** Servers since 1.21 have policy/v1; older ones v1beta1. */
async function budgetsOf(api: KubeApi, namespace: string | undefined): Promise<Resource | undefined> {
  for (const resource of [BUDGETS_V1, BUDGETS_V1BETA1])
    try {
      await api.list(resource, namespace === undefined ? {} : { namespace })
      return resource
    } catch (error) {
      if (!(error instanceof KubeError && error.code === 404)) throw error
    }
  return undefined
}
