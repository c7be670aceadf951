/**
 * Stands for the StatefulSet controller, the volume controller and the kubelet, on the one node that there is: from the objects in the
 * store it makes pods, folders and processes, and writes back what became of them. Level-triggered: `reconcile` looks at everything and
 * may run at any time; one runs at a time.
 *
 * A StatefulSet has one pod at most. A pod whose template changed is not touched (`OnDelete`). A process of a pod that was deleted ends
 * before its successor starts, so the two never share a device.
 */
import { createHash } from 'node:crypto'
import { rmSync } from 'node:fs'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import type { Informer } from '../../edge/kube/informer.ts'
import { CLAIMS, PODS, STATEFUL_SETS, keyOf } from '../../edge/kube/resources.ts'
import { podAddressKey } from './links.ts'
import type { Links } from './links.ts'
import type { Network } from './network.ts'
import {
  NODE_NAME,
  claimsOf,
  environment,
  filerIdentity,
  podSpec,
  readinessTarget,
  secretsOf,
  withConditions,
} from './pod-spec.ts'
import type { Condition, PodSpec } from './pod-spec.ts'
import type { Launch } from './processes.ts'
import { Runner } from './runner.ts'
import type { StateDir } from './state-dir.ts'
import { mountVolumes, podRoot, provideClaim, refreshSecrets, removeClaim } from './volumes.ts'

const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection'

export interface Collections {
  readonly pods: Informer
  readonly statefulSets: Informer
  readonly claims: Informer
  readonly secrets: Informer
  readonly storageClasses: Informer
}

export interface KubeletOptions {
  readonly api: KubeApi
  readonly dir: StateDir
  readonly network: Network
  readonly links: Links
  readonly launch: Launch
  readonly collections: Collections
  readonly log: (message: string) => void
  /** Told when a process came or went, so that Services may follow. */
  readonly changed: () => void
  readonly restartDelayMs?: number
}

interface Running {
  readonly uid: string
  readonly runner: Runner
  pod: KubeObject
  secretVersions: string
  ending: Promise<void> | undefined
}

export class Kubelet {
  readonly #options: KubeletOptions
  /** By namespace/name. */
  readonly #running = new Map<string, Running>()
  readonly #held = new Set<string>()
  #working: Promise<void> | undefined
  #again = false
  #stopped = false

  constructor(options: KubeletOptions) {
    this.#options = options
  }

  /** Soon, and once more if something changes meanwhile. */
  trigger(): void {
    if (this.#stopped) return
    this.#again = true
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined
      if (this.#again) this.trigger()
    })
  }

  runner(namespace: string, pod: string): Runner | undefined {
    return this.#running.get(`${namespace}/${pod}`)?.runner
  }

  /** Pods by key with the state of their process. */
  get pods(): { key: string; pid: number | undefined; held: boolean; ready: boolean; restarts: number }[] {
    return [...this.#running].map(([key, { runner }]) => ({
      key,
      pid: runner.child?.pid,
      held: runner.state.held,
      ready: runner.state.ready,
      restarts: runner.state.restarts,
    }))
  }

  hold(key: string): void {
    this.#held.add(key)
    this.#running.get(key)?.runner.hold()
  }

  release(key: string): void {
    this.#held.delete(key)
    this.#running.get(key)?.runner.release()
  }

  /** Ends all processes; the pods stay in the store, to be started again by the next `up`. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true
    await this.#working
    await Promise.all([...this.#running.values()].map(({ runner }) => runner.end(graceMs)))
  }

  async #work(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false
      try {
        await this.#reconcile()
      } catch (error) {
        if (this.#stopped) return
        // A conflict means that news is on its way; anything else is tried again.
        if (!(error instanceof KubeError && (error.code === 409 || error.code === 404))) {
          this.#options.log(`kubelet: ${(error as Error).message}; trying again`)
        }
        setTimeout(() => this.trigger(), 300).unref()
      }
    }
  }

  async #reconcile(): Promise<void> {
    const { pods, statefulSets, claims } = this.#options.collections
    for (const set of [...statefulSets.all()]) await this.#reconcileSet(set)
    for (const claim of [...claims.all()]) await this.#reconcileClaim(claim)
    const present = new Set<string>()
    for (const pod of [...pods.all()]) {
      present.add(keyOf(pod))
      await this.#reconcilePod(pod)
    }
    for (const [key, running] of this.#running) if (!present.has(key)) this.#endPod(key, running, 0)
  }

  async #reconcileSet(set: KubeObject): Promise<void> {
    const { api, collections } = this.#options
    const { name, namespace = '' } = set.metadata
    const spec = set['spec'] as {
      replicas?: number
      template: { metadata?: Partial<KubeObject['metadata']>; spec: PodSpec }
    }
    const podName = `${name}-0`
    const pod = collections.pods.get(namespace, podName)
    const revision = `${name}-${createHash('sha256').update(JSON.stringify(spec.template)).digest('hex').slice(0, 10)}`
    const wanted = (spec.replicas ?? 1) > 0 && set.metadata.deletionTimestamp === undefined
    if (wanted && pod === undefined)
      await api
        .create(PODS, {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: {
            name: podName,
            namespace,
            labels: {
              ...spec.template.metadata?.labels,
              'controller-revision-hash': revision,
              'statefulset.kubernetes.io/pod-name': podName,
            },
            annotations: { ...spec.template.metadata?.annotations },
            ownerReferences: [
              {
                apiVersion: set.apiVersion,
                kind: set.kind,
                name,
                uid: set.metadata.uid ?? '',
                controller: true,
                blockOwnerDeletion: true,
              },
            ],
          },
          spec: { ...spec.template.spec, nodeName: NODE_NAME },
        })
        .catch(ignoring(409))
    if (!wanted && pod !== undefined && pod.metadata.deletionTimestamp === undefined && isOwnedBy(pod, set))
      await api.delete(PODS, namespace, podName, { uid: pod.metadata.uid ?? '' }).catch(ignoring(404))
    const own = pod !== undefined && isOwnedBy(pod, set) ? pod : undefined
    const podRevision = own?.metadata.labels?.['controller-revision-hash']
    const ready = own !== undefined && conditionOf(own, 'Ready') === 'True' ? 1 : 0
    const status = {
      observedGeneration: set.metadata.generation ?? 1,
      replicas: own === undefined ? 0 : 1,
      readyReplicas: ready,
      currentReplicas: own === undefined ? 0 : 1,
      updatedReplicas: podRevision === revision ? 1 : 0,
      currentRevision: podRevision ?? revision,
      updateRevision: revision,
    }
    if (JSON.stringify(set['status']) !== JSON.stringify(status))
      await api.mergePatch(STATEFUL_SETS, namespace, name, { status }, 'status').catch(ignoring(404))
  }

  async #reconcileClaim(claim: KubeObject): Promise<void> {
    const { api, dir, collections } = this.#options
    const { name, namespace = '', deletionTimestamp, finalizers = [] } = claim.metadata
    // As in a cluster, a pod that does not run yet does not hold a claim: it waits for the claim that comes after this one.
    const inUse = [...this.#running.values()].some(
      ({ pod }) => pod.metadata.namespace === namespace && claimsOf(pod).includes(name),
    )
    if (deletionTimestamp !== undefined) {
      if (inUse || !finalizers.includes(CLAIM_FINALIZER)) return
      removeClaim(dir, namespace, name)
      const rest = finalizers.filter((finalizer) => finalizer !== CLAIM_FINALIZER)
      await api.mergePatch(CLAIMS, namespace, name, { metadata: { finalizers: rest } }).catch(ignoring(404))
      return
    }
    const spec = claim['spec'] as {
      storageClassName?: string
      volumeName?: string
      accessModes?: string[]
      resources?: { requests?: { storage?: string } }
    }
    const phase = (claim['status'] as { phase?: string } | undefined)?.phase
    const knowsClass =
      spec.storageClassName === undefined ||
      spec.storageClassName === '' ||
      collections.storageClasses.get('', spec.storageClassName) !== undefined
    if (!knowsClass) {
      if (phase !== 'Pending')
        await api.mergePatch(CLAIMS, namespace, name, { status: { phase: 'Pending' } }, 'status')
      return
    }
    // A claim for people's pods is of a volume that a filer exports: there is nothing to provide.
    if (spec.volumeName === undefined) provideClaim(dir, claim)
    if (!finalizers.includes(CLAIM_FINALIZER))
      await api.mergePatch(CLAIMS, namespace, name, {
        metadata: { finalizers: [...finalizers, CLAIM_FINALIZER] },
      })
    const capacity = { storage: spec.resources?.requests?.storage ?? '0' }
    const before = claim['status'] as { capacity?: { storage: string } } | undefined
    if (phase !== 'Bound' || before?.capacity?.storage !== capacity.storage)
      await api.mergePatch(
        CLAIMS,
        namespace,
        name,
        { status: { phase: 'Bound', accessModes: spec.accessModes ?? ['ReadWriteOnce'], capacity } },
        'status',
      )
  }

  async #reconcilePod(pod: KubeObject): Promise<void> {
    const key = keyOf(pod)
    const running = this.#running.get(key)
    if (podSpec(pod).nodeName !== NODE_NAME) return
    if (running !== undefined && running.uid !== pod.metadata.uid) return this.#endPod(key, running, 0)
    if (pod.metadata.deletionTimestamp !== undefined) return this.#finishPod(key, pod, running)
    if (running === undefined) {
      const missing = this.#missing(pod)
      if (missing === undefined) this.#startPod(key, pod)
      await this.#report(pod, this.#running.get(key)?.runner, missing)
      return
    }
    running.pod = pod
    const versions = this.#secretVersions(pod)
    if (versions !== running.secretVersions) {
      running.secretVersions = versions
      const secrets = this.#options.collections.secrets
      refreshSecrets(this.#options.dir, pod, (name) => secrets.get(pod.metadata.namespace ?? '', name))
    }
    await this.#report(pod, running.runner, undefined)
  }

  /** What the pod mounts and is not there yet. */
  #missing(pod: KubeObject): string | undefined {
    const { claims, secrets } = this.#options.collections
    const namespace = pod.metadata.namespace ?? ''
    for (const name of claimsOf(pod)) {
      const claim = claims.get(namespace, name)
      if (claim === undefined) return `persistentvolumeclaim "${name}" not found`
      if (claim.metadata.deletionTimestamp !== undefined)
        return `persistentvolumeclaim "${name}" is being deleted`
      if ((claim['status'] as { phase?: string } | undefined)?.phase !== 'Bound')
        return `persistentvolumeclaim "${name}" is not bound`
    }
    for (const name of secretsOf(pod))
      if (secrets.get(namespace, name) === undefined) return `secret "${name}" not found`
    return undefined
  }

  #secretVersions(pod: KubeObject): string {
    const secrets = this.#options.collections.secrets
    return secretsOf(pod)
      .map((name) => secrets.get(pod.metadata.namespace ?? '', name)?.metadata.resourceVersion ?? '')
      .join()
  }

  podIp(pod: KubeObject): string {
    return this.#options.network.address(podAddressKey(pod.metadata.namespace ?? '', pod.metadata.name))
  }

  #startPod(key: string, pod: KubeObject): void {
    const { dir, links, launch, collections, log, changed, restartDelayMs } = this.#options
    const namespace = pod.metadata.namespace ?? ''
    const container = podSpec(pod).containers[0]
    if (container === undefined) return
    const podIp = this.podIp(pod)
    const start = (): ReturnType<Launch> => {
      const root = mountVolumes(dir, pod, (name) => {
        const secret = collections.secrets.get(namespace, name)
        if (secret === undefined) throw new Error(`secret "${name}" not found`)
        return secret
      })
      const filer = filerIdentity(pod)
      return launch(pod.metadata.name, [...(container.args ?? ['filer']), '--root', root], {
        ...environment(pod, container, podIp),
        POD_IP: podIp,
        POD_NAME: pod.metadata.name,
        POD_NAMESPACE: namespace,
        TANDEM_KUBE: `unix:${dir.storeSocket}`,
        ...(filer === undefined ? {} : { TANDEM_ADDRESSES: JSON.stringify(links.addresses(filer, podIp)) }),
      })
    }
    const runner = new Runner({
      start,
      probe: { host: podIp, ...readinessTarget(container) },
      changed: () => {
        this.trigger()
        changed()
      },
      log: (message) => log(`${pod.metadata.name}: ${message}`),
      held: this.#held.has(key),
      ...(restartDelayMs === undefined ? {} : { restartDelayMs }),
    })
    this.#running.set(key, {
      uid: pod.metadata.uid ?? '',
      runner,
      pod,
      secretVersions: this.#secretVersions(pod),
      ending: undefined,
    })
    changed()
  }

  #endPod(key: string, running: Running, graceMs: number): void {
    running.ending ??= running.runner.end(graceMs).then(() => {
      this.#running.delete(key)
      this.#options.changed()
      this.trigger()
    })
  }

  /** A deleted pod: its process ends, then the object goes. */
  async #finishPod(key: string, pod: KubeObject, running: Running | undefined): Promise<void> {
    const seconds = (pod.metadata as { deletionGracePeriodSeconds?: number }).deletionGracePeriodSeconds ?? 30
    if (running !== undefined) return this.#endPod(key, running, seconds * 1000)
    rmSync(podRoot(this.#options.dir, pod), { recursive: true, force: true })
    await this.#options.api
      .delete(PODS, pod.metadata.namespace ?? '', pod.metadata.name, {
        uid: pod.metadata.uid ?? '',
        gracePeriodSeconds: 0,
      })
      .catch(ignoring(404, 409))
  }

  async #report(pod: KubeObject, runner: Runner | undefined, missing: string | undefined): Promise<void> {
    const state = runner?.state
    const before = (pod['status'] ?? {}) as { conditions?: Condition[] }
    const ready = state?.ready === true ? 'True' : 'False'
    const container = podSpec(pod).containers[0]
    const unready = missing !== undefined ? { reason: 'ContainersNotReady', message: missing } : {}
    const scheduled = missing === undefined ? ('True' as const) : ('False' as const)
    const status = {
      phase: runner === undefined ? 'Pending' : 'Running',
      hostIP: '127.0.0.1',
      podIP: this.podIp(pod),
      podIPs: [{ ip: this.podIp(pod) }],
      conditions: withConditions(
        before.conditions ?? [],
        [
          {
            type: 'PodScheduled',
            status: scheduled,
            ...(missing === undefined ? {} : { reason: 'Unschedulable', message: missing }),
          },
          { type: 'Initialized', status: scheduled },
          { type: 'ContainersReady', status: ready, ...unready },
          { type: 'Ready', status: ready, ...unready },
        ],
        new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
      ),
      containerStatuses: [
        {
          name: container?.name ?? '',
          ready: ready === 'True',
          started: state?.running === true,
          restartCount: state?.restarts ?? 0,
          state:
            state?.running === true
              ? { running: { startedAt: state.startedAt } }
              : {
                  waiting: {
                    reason:
                      state?.held === true
                        ? 'Held'
                        : runner === undefined
                          ? 'ContainerCreating'
                          : 'CrashLoopBackOff',
                  },
                },
          lastState:
            state?.lastEnd === undefined ? {} : { terminated: { reason: 'Ended', message: state.lastEnd } },
        },
      ],
    }
    if (JSON.stringify(sorted(pod['status'])) === JSON.stringify(sorted(status))) return
    await this.#options.api
      .mergePatch(
        PODS,
        pod.metadata.namespace ?? '',
        pod.metadata.name,
        { metadata: { uid: pod.metadata.uid }, status },
        'status',
      )
      .catch(ignoring(404, 409))
  }
}

function conditionOf(object: KubeObject, type: string): string | undefined {
  const status = object['status'] as { conditions?: Condition[] } | undefined
  return status?.conditions?.find((condition) => condition.type === type)?.status
}

function isOwnedBy(object: KubeObject, owner: KubeObject): boolean {
  return (object.metadata.ownerReferences ?? []).some((reference) => reference.uid === owner.metadata.uid)
}

function ignoring(...codes: number[]): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof KubeError && codes.includes(error.code))) throw error
  }
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, child]) => child !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, child]) => [key, sorted(child)]),
  )
}
