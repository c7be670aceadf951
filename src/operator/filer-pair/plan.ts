/**
 * One pass over one pair and its volumes: observed → actions. Pure, so that every decision can be tested without an API.
 *
 * Invariants. The Lease and the selector of a clients' Service are written once, when they are made. An object that is not ours is not
 * touched. Data goes only where a reclaim policy says Delete. A pass over what is as it should be gives no action.
 */
import { filerPair } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { DesiredState } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, FILER_PAIRS, PODS, SERVICES, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import { accept } from '../accept.ts'
import type { Acceptance } from '../accept.ts'
import { acceptVolumes } from '../filer-volume/accept.ts'
import { planVolumes } from '../filer-volume/plan.ts'
import {
  ANNOTATION_ACCEPTED,
  ANNOTATION_DESIRED,
  ANNOTATION_TEMPLATE,
  FINALIZER,
  LABEL_PAIR_ID,
  namesOf,
} from '../names.ts'
import type { Action, Plan } from '../runtime/actions.ts'
import { isApplied, stamped } from '../runtime/compare.ts'
import { fails } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import { contentHash, desiredContent, parseDesiredAnnotation } from './desired.ts'
import { planEnd } from './end.ts'
import { lease, objectsOf, serviceSelector } from './objects.ts'
import type { AcceptedPair } from './accepted.ts'
import type { Wanted } from './objects.ts'
import type { Observed } from './observed.ts'
import { nextToReplace, pairStatus, pairVerdicts } from './status.ts'
import type { StatusInput } from './status.ts'
import { viewOf } from './view.ts'
import type { PairView } from './view.ts'

export function plan(observed: Observed): Plan {
  const view = viewOf(
    [...observed.reports.values()].flatMap((r) => (r.status === undefined ? [] : [r.status])),
  )
  const { pair } = observed
  if (pair === undefined) return planVolumes(observed, undefined, fails('NotAccepted', ''), view, 0)
  const acceptance = accept<FilerPairSpec>(filerPair, pair, () => inTheWay(observed, pair))
  const accepted = acceptedPair(observed, pair, acceptance)
  const leaving = pair.metadata.deletionTimestamp !== undefined
  const ends = leaving && (observed.volumes.length === 0 || observed.namespaceTerminating)

  const volumes = acceptVolumes(observed.name, acceptance.spec, observed.volumes)
  const desired =
    accepted === undefined
      ? undefined
      : desiredState(pair, desiredContent(accepted.spec, volumes, view), view)
  const actions: Action[] = []
  if (!ends) {
    actions.push(...metadataPatch(pair, acceptance, desired))
    if (accepted !== undefined) actions.push(...objectActions(observed, accepted))
    if (desired !== undefined) actions.push(...handOver(desired, view))
  }

  const input = statusInput(observed, pair, acceptance, accepted, view)
  const verdicts = pairVerdicts(input)
  if (!ends && accepted !== undefined) actions.push(...replacePod(observed, accepted, input))
  const written = writeStatus(
    FILER_PAIRS,
    pair,
    verdicts,
    pairStatus(input, verdicts),
    observed.nowMs,
    observed.statusWrittenMs(pair.metadata.uid ?? ''),
  )
  actions.push(...written.actions)

  const ofVolumes = planVolumes(observed, acceptance.spec, verdicts['Ready']!, view, desired?.generation ?? 0)
  actions.push(...ofVolumes.actions)
  if (ends) actions.push(...planEnd(observed, pair, acceptance.spec))
  return { actions, againInMs: earliest(written.againInMs, ofVolumes.againInMs, whenSilenceCounts(observed)) }
}

function earliest(...times: (number | undefined)[]): number | undefined {
  const known = times.filter((t) => t !== undefined)
  return known.length === 0 ? undefined : Math.min(...known)
}

/** A filer that has just fallen silent is looked at again when that may count. */
function whenSilenceCounts(observed: Observed): number | undefined {
  const silent = [...observed.reports.values()].some((r) => r.status === undefined && r.silentReason !== '')
  return silent ? 15_000 : undefined
}

function acceptedPair(
  observed: Observed,
  pair: KubeObject,
  acceptance: Acceptance<FilerPairSpec>,
): AcceptedPair | undefined {
  if (acceptance.spec === undefined) return undefined
  return {
    namespace: observed.namespace,
    name: observed.name,
    uid: pair.metadata.uid ?? '',
    spec: acceptance.spec,
  }
}

/** Objects of the names that the pair needs which are not the pair's. */
function inTheWay(observed: Observed, pair: KubeObject): Verdict | undefined {
  const { uid } = pair.metadata
  const earlier = observed.objects
    .of(CLAIMS)
    .filter((claim) => claim.metadata.labels?.[LABEL_PAIR_ID] !== uid)
    .map((claim) => claim.metadata.name)
  if (earlier.length > 0)
    return fails(
      'RetainedDataExists',
      `claims of an earlier FilerPair ${observed.name} are still there (${earlier.slice(0, 3).join(', ')}${earlier.length > 3 ? ', …' : ''}) and are not touched; delete them and Lease ${observed.name} if the data is not needed, or choose another name`,
    )
  const leaseOwner = observed.lease?.metadata.labels?.[LABEL_PAIR_ID]
  const foreign = [
    ...observed.foreign,
    ...(observed.lease !== undefined && leaseOwner !== uid ? [`Lease ${observed.name}`] : []),
  ]
  if (foreign.length > 0)
    return fails(
      'NameTaken',
      `${foreign.join(', ')} exists, is not this pair’s, and is not touched; delete it or choose another metadata.name`,
    )
  return undefined
}

/** Finalizer, accepted spec and generation of the desired state, in one write. */
function metadataPatch(
  pair: KubeObject,
  acceptance: Acceptance<FilerPairSpec>,
  desired: (DesiredState & { hash: string }) | undefined,
): Action[] {
  const { metadata } = pair
  const finalizers = metadata.finalizers ?? []
  const marks = !finalizers.includes(FINALIZER) && metadata.deletionTimestamp === undefined
  const desiredText = desired === undefined ? undefined : `${desired.generation} ${desired.hash}`
  const annotations = {
    ...(acceptance.annotation === undefined ? {} : { [ANNOTATION_ACCEPTED]: acceptance.annotation }),
    ...(desiredText === undefined || metadata.annotations?.[ANNOTATION_DESIRED] === desiredText
      ? {}
      : { [ANNOTATION_DESIRED]: desiredText }),
  }
  if (!marks && Object.keys(annotations).length === 0) return []
  return [
    {
      type: 'patch',
      resource: FILER_PAIRS,
      namespace: metadata.namespace ?? '',
      name: metadata.name,
      patch: {
        metadata: {
          resourceVersion: metadata.resourceVersion,
          ...(marks ? { finalizers: [...finalizers, FINALIZER] } : {}),
          ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
        },
      },
    },
  ]
}

function desiredState(
  pair: KubeObject,
  content: ReturnType<typeof desiredContent>,
  view: PairView,
): DesiredState & { hash: string } {
  const hash = contentHash(content)
  const known = parseDesiredAnnotation(pair.metadata.annotations?.[ANNOTATION_DESIRED])
  // A filer that knows a later one than we do has it from before our annotation was lost.
  const kept = known.hash === hash && view.generation <= known.generation
  const generation = kept ? known.generation : Math.max(known.generation, view.generation) + 1
  return { generation, ...content, hash }
}

function handOver({ hash: _, ...desired }: DesiredState & { hash: string }, view: PairView): Action[] {
  return [...view.filers.values()]
    .filter((status) => status.generation < desired.generation)
    .map((status) => ({ type: 'desired', filer: status.filer, desired }))
}

function objectActions(observed: Observed, pair: AcceptedPair): Action[] {
  const actions: Action[] = []
  const { authority, filers } = observed.certificatesDue
  if (authority || filers.length > 0) actions.push({ type: 'issue', authority, filers })
  if (observed.lease === undefined) {
    const { resource, object } = lease(pair)
    actions.push({ type: 'create', resource, object })
  }
  for (const wanted of objectsOf(pair, observed.image, observed.budgets))
    actions.push(...reach(observed, pair, wanted))
  return actions
}

function reach(observed: Observed, pair: AcceptedPair, { resource, object }: Wanted): Action[] {
  const { name } = object.metadata
  const there = observed.objects.get(resource, name)
  const applied = stamped(object)
  if (there === undefined) {
    // Filers start only when nothing of somebody else's is in their way.
    if (resource === STATEFUL_SETS && observed.foreign.length > 0) return []
    const filer = pair.spec.filers.find((f) => namesOf(pair.name).service(f.name) === name)?.name
    const spec = object['spec'] as Record<string, unknown>
    if (resource === SERVICES && filer !== undefined) {
      const made = { ...object, spec: { ...spec, selector: serviceSelector(pair, filer) } }
      return [
        { type: 'create', resource, object: made },
        { type: 'apply', resource, object: applied, fresh: false },
      ]
    }
    return [{ type: 'apply', resource, object: applied, fresh: true }]
  }
  const ours = there.metadata.labels?.[LABEL_PAIR_ID] === pair.uid
  if (!ours || there.metadata.deletionTimestamp !== undefined || isApplied(applied, there)) return []
  return [{ type: 'apply', resource, object: applied, fresh: false }]
}

function statusInput(
  observed: Observed,
  pair: KubeObject,
  acceptance: Acceptance<FilerPairSpec>,
  accepted: AcceptedPair | undefined,
  view: PairView,
): StatusInput {
  const { objects, storageClasses } = observed
  const names = namesOf(observed.name)
  const wanted = accepted === undefined ? [] : objectsOf(accepted, observed.image, observed.budgets)
  const template = (filer: string): string => {
    const set = wanted.find(
      (w) => w.resource === STATEFUL_SETS && w.object.metadata.name === names.statefulSet(filer),
    )
    return templateOf(set?.object)
  }
  const pending = objects
    .of(CLAIMS)
    .filter((claim) => (claim['status'] as { phase?: string } | undefined)?.phase === 'Pending')
  const missingClasses = pending.flatMap((claim) => {
    const storageClass = (claim['spec'] as { storageClassName?: string }).storageClassName
    return storageClass === undefined || storageClass === '' || storageClasses?.has(storageClass) !== false
      ? []
      : [{ claim: claim.metadata.name, storageClass }]
  })
  return {
    spec: acceptance.spec,
    name: observed.name,
    accepted: acceptance.verdict,
    view,
    filers: (acceptance.spec?.filers ?? []).map(({ name }) => ({
      name,
      pod: objects.get(PODS, names.pod(name)),
      service: objects.get(SERVICES, names.service(name)),
      template: template(name),
      silentMs: observed.reports.get(name)?.silentMs ?? 0,
      silentReason: observed.reports.get(name)?.silentReason ?? '',
    })),
    missingClasses,
    pendingClaims: pending.map((claim) => claim.metadata.name).sort(),
    inUseBy:
      pair.metadata.deletionTimestamp === undefined
        ? undefined
        : observed.volumes.map((v) => v.metadata.name),
    id: pair.metadata.uid ?? '',
    volumeIds: new Set(observed.volumes.map((v) => v.metadata.uid ?? '')),
    before: pair['status'] as FilerPairStatus | undefined,
  }
}

function templateOf(statefulSet: KubeObject | undefined): string {
  const spec = statefulSet?.['spec'] as
    { template?: { metadata?: { annotations?: Record<string, string> } } } | undefined
  return spec?.template?.metadata?.annotations?.[ANNOTATION_TEMPLATE] ?? ''
}

/** One pod at a time, and only when its StatefulSet already has the template that it is to come back with. */
function replacePod(observed: Observed, pair: AcceptedPair, input: StatusInput): Action[] {
  const next = nextToReplace(input)
  const set = next && observed.objects.get(STATEFUL_SETS, namesOf(pair.name).statefulSet(next.name))
  if (next?.pod === undefined || templateOf(set) !== next.template) return []
  const { name, uid } = next.pod.metadata
  return [
    { type: 'delete', resource: PODS, namespace: pair.namespace, name, uid: uid ?? '' },
    {
      type: 'event',
      about: observed.pair!,
      level: 'Normal',
      reason: 'Updating',
      message: `pod ${name} goes for one with the new template`,
    },
  ]
}
