/** A world of objects in memory for tests of plans: actions are done to it, and it can be observed again. No I/O. */
import type { DesiredState, FilerStatus, SnapshotRequest } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import {
  BUDGETS_V1,
  CLAIMS,
  FILER_PAIRS,
  FILER_VOLUMES,
  LEASES,
  PERSISTENT_VOLUMES,
  PODS,
  SECRETS,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import type { FilerReport, Observed } from '../filer-pair/observed.ts'
import { plan } from '../filer-pair/plan.ts'
import type { SnapshotOutcome } from '../filer-volume/snapshot-request.ts'
import { LABEL_PAIR, LABEL_PAIR_ID, namesOf } from '../names.ts'
import type { Action } from '../runtime/actions.ts'
import { wellStatus } from './fake-filers.ts'
import { isWrite } from '../runtime/actions.ts'

const key = (resource: Resource, name: string): string => `${resource.kind}/${name}`

export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const base = typeof target === 'object' && target !== null && !Array.isArray(target) ? target : {}
  const result: Record<string, unknown> = { ...base }
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete result[field]
    else result[field] = mergePatch(result[field], value)
  }
  return result
}

export class World {
  readonly objects = new Map<string, KubeObject>()
  readonly reports = new Map<string, FilerStatus>()
  /** Filers that run and do not answer, for how many milliseconds. */
  readonly silent = new Map<string, number>()
  readonly events: string[] = []
  readonly snapshotRequests: SnapshotRequest[] = []
  /** What filers were told, in order. */
  readonly desired: DesiredState[] = []
  nowMs = Date.UTC(2026, 0, 1)
  storageClasses: Observed['storageClasses']
  snapshotOutcomes = new Map<string, SnapshotOutcome>()
  namespaceTerminating = false
  nodeReady: boolean | undefined
  updateTurn: Observed['updateTurn'] = { mine: false, other: undefined }
  foreign: string[] = []
  mirrors: Observed['mirrors'] = []
  conversions: Observed['conversions'] = []
  #version = 0
  readonly #name: string

  constructor(name: string) {
    this.#name = name
  }

  put(object: KubeObject): KubeObject {
    const before = this.objects.get(`${object.kind}/${object.metadata.name}`)
    const made = {
      ...object,
      metadata: {
        uid: before?.metadata.uid ?? `uid-${object.metadata.name}`,
        creationTimestamp: '2026-01-01T00:00:00Z',
        ...object.metadata,
        resourceVersion: String(++this.#version),
        generation: before?.metadata.generation ?? 1,
      },
    }
    this.objects.set(`${object.kind}/${object.metadata.name}`, made)
    return made
  }

  get(resource: Resource, name: string): KubeObject | undefined {
    return this.objects.get(key(resource, name))
  }

  /** As a person changes a spec. */
  change(resource: Resource, name: string, spec: object): void {
    const before = this.get(resource, name)!
    const after = mergePatch(before, { spec }) as KubeObject
    after.metadata = { ...after.metadata, generation: (before.metadata.generation ?? 0) + 1 }
    this.objects.set(key(resource, name), after)
  }

  /** The volume controller's part. */
  bindClaims(): void {
    for (const object of [...this.objects.values()])
      if (object.kind === CLAIMS.kind) this.put({ ...object, status: { phase: 'Bound' } })
  }

  /** Kubelet's part: pods that are missing come from their templates, and their filers are well. */
  runPods(): void {
    for (const filer of ['a', 'b']) {
      const name = namesOf(this.#name).pod(filer)
      if (this.get(PODS, name) !== undefined) continue
      const set = this.get(STATEFUL_SETS, namesOf(this.#name).statefulSet(filer))!['spec'] as {
        template: { metadata: object; spec: object }
      }
      this.put({
        apiVersion: 'v1',
        kind: PODS.kind,
        metadata: { name, ...set.template.metadata },
        spec: { ...set.template.spec, nodeName: `node-${filer}` },
        status: { phase: 'Running' },
      })
      if (!this.reports.has(filer)) this.reports.set(filer, wellStatus(filer))
    }
  }

  observed(): Observed {
    const all = [...this.objects.values()]
    const labelled = all.filter(
      (o) => o.metadata.labels?.[LABEL_PAIR] === this.#name && o.kind !== LEASES.kind,
    )
    const pair = this.get(FILER_PAIRS, this.#name)
    const secret = (name: string): boolean => this.get(SECRETS, name) !== undefined
    const names = namesOf(this.#name)
    return {
      namespace: 'ns',
      name: this.#name,
      pair,
      volumes: all.filter((o) => o.kind === FILER_VOLUMES.kind),
      objects: {
        get: (resource, name) => labelled.find((o) => o.kind === resource.kind && o.metadata.name === name),
        of: (resource) => labelled.filter((o) => o.kind === resource.kind),
      },
      lease: this.get(LEASES, names.lease),
      foreign: this.foreign,
      reports: new Map<string, FilerReport>([
        ...[...this.silent].map(
          ([f, silentMs]) => [f, { status: undefined, silentMs, silentReason: 'no answer' }] as const,
        ),
        ...[...this.reports].map(([f, status]) => [f, { status, silentMs: 0, silentReason: '' }] as const),
      ]),
      certificatesDue: {
        authority: !secret(names.authority),
        filers: ['a', 'b'].filter((f) => !secret(names.tls(f))),
      },
      storageClasses: this.storageClasses,
      persistentVolumes: new Map(
        all.filter((o) => o.kind === PERSISTENT_VOLUMES.kind).map((o) => [o.metadata.name, o]),
      ),
      snapshotOutcomes: this.snapshotOutcomes,
      budgets: BUDGETS_V1,
      image: 'tandem:test',
      nodeReady: this.nodeReady,
      updateTurn: this.updateTurn,
      namespaceTerminating: this.namespaceTerminating,
      mirrors: this.mirrors,
      peerPair: () => undefined,
      conversions: this.conversions,
      nowMs: this.nowMs,
      statusWrittenMs: () => this.nowMs,
    }
  }

  /** One pass; gives what it did, as `type kind/name`. */
  pass(): string[] {
    const { actions } = plan(this.observed())
    const done = actions.filter((action) => !this.#isInTheWay(action))
    for (const action of done) this.#do(action)
    return done.filter(isWrite).map(describe)
  }

  /** As the executor does: what has the name already and is not ours stays. */
  #isInTheWay(action: Action): boolean {
    if (action.type !== 'apply' || !action.fresh) return false
    return this.foreign.includes(`${action.resource.kind} ${action.object.metadata.name}`)
  }

  /** Passes until one writes nothing; gives how many wrote. */
  settle(passesMax = 10): number {
    for (let passes = 0; passes < passesMax; passes++) if (this.pass().length === 0) return passes
    throw new Error(`still writing after ${passesMax} passes: ${this.pass().join(', ')}`)
  }

  #do(action: Action): void {
    switch (action.type) {
      case 'apply':
      case 'create': {
        const before = this.get(action.resource, action.object.metadata.name)
        this.put((before === undefined ? action.object : mergePatch(before, action.object)) as KubeObject)
        break
      }
      case 'status': {
        const before = this.get(action.resource, action.object.metadata.name)
        if (before !== undefined) this.put({ ...before, status: action.object['status'] })
        break
      }
      case 'patch': {
        const before = this.get(action.resource, action.name)
        if (before === undefined) break
        const { resourceVersion: _, ...metadata } = (action.patch as { metadata: Record<string, unknown> })
          .metadata
        const after = this.put(mergePatch(before, { metadata }) as KubeObject)
        if (after.metadata.deletionTimestamp !== undefined && after.metadata.finalizers?.length === 0)
          this.objects.delete(key(action.resource, action.name))
        break
      }
      case 'delete':
        this.objects.delete(key(action.resource, action.name))
        break
      case 'issue': {
        const labels = {
          [LABEL_PAIR]: this.#name,
          [LABEL_PAIR_ID]: this.get(FILER_PAIRS, this.#name)!.metadata.uid!,
        }
        const names = namesOf(this.#name)
        const made = [...(action.authority ? [names.authority] : []), ...action.filers.map(names.tls)]
        for (const name of made) this.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name, labels } })
        break
      }
      case 'desired': {
        this.desired.push(action.desired)
        const report = this.reports.get(action.filer)
        if (report !== undefined)
          this.reports.set(action.filer, { ...report, generation: action.desired.generation })
        break
      }
      case 'snapshot':
        this.snapshotRequests.push(action.request)
        break
      case 'event':
        this.events.push(`${action.level} ${action.reason}`)
        break
    }
  }
}

function describe(action: Action): string {
  switch (action.type) {
    case 'apply':
    case 'create':
    case 'status':
      return `${action.type} ${action.resource.kind}/${action.object.metadata.name}`
    case 'patch':
    case 'delete':
      return `${action.type} ${action.resource.kind}/${action.name}`
    case 'issue':
      return `issue ${[...(action.authority ? ['authority'] : []), ...action.filers].join()}`
    case 'desired':
      return `desired ${action.filer}`
    case 'snapshot':
      return `snapshot ${action.filer}`
    case 'event':
      return `event ${action.reason}`
  }
}
