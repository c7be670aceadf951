/**
 * One pass over one pair and its volumes: observed → actions. Pure, so that every decision can be tested without an API.
 *
 * Invariants. The Lease and the selector of a clients' Service are written once, when they are made. An object that is not ours is not
 * touched. Data goes only where a reclaim policy says Delete. A pass over what is as it should be gives no action.
 */
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { DesiredState } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, FILER_PAIRS, PODS, SERVICES, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import type { Acceptance } from '../accept.ts'
import { acceptVolumes } from '../filer-volume/accept.ts'
import type { VolumeInForce } from '../filer-volume/accept.ts'
import { planVolumes } from '../filer-volume/plan.ts'
import { keptVolumes } from '../filer-volume/volume.ts'
import {
  ANNOTATION_ACCEPTED,
  ANNOTATION_DESIRED,
  ANNOTATION_TEMPLATE,
  FINALIZER,
  LABEL_FILER,
  LABEL_PAIR_ID,
  LABEL_VOLUME,
  LABEL_VOLUME_ID,
  LEASE_FINALIZER,
  namesOf,
} from '../names.ts'
import type { Action, Plan } from '../runtime/actions.ts'
import { isApplied, stamped } from '../runtime/compare.ts'
import { fails } from '../runtime/conditions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import { acceptPair, foreignOfPair } from './accept.ts'
import { pairId, poolsOf } from './accepted.ts'
import type { AcceptedPair, TraditionalVolume } from './accepted.ts'
import { contentHash, desiredContent, parseDesiredAnnotation } from './desired.ts'
import { planEnd } from './end.ts'
import { lease, objectsOf, serviceSelector } from './objects.ts'
import type { Wanted } from './objects.ts'
import type { Observed } from './observed.ts'
import { givesBackNow, nextToReplace, outdated, pairStatus, pairVerdicts } from './status.ts'
import type { StatusInput } from './status.ts'
import { viewOf } from './view.ts'
import type { PairView } from './view.ts'

export function plan(observed: Observed): Plan {
  const view = viewOf(
    [...observed.reports.values()].flatMap((r) => (r.status === undefined ? [] : [r.status])),
  )
  const { pair } = observed
  if (pair === undefined) {
    const none = fails('NotAccepted', '')
    const volumes = acceptedVolumes(observed, undefined, view)
    return planVolumes(observed, volumes, {
      pair: undefined,
      ready: none,
      upToDate: none,
      view,
      generation: 0,
    })
  }
  const acceptance = acceptPair(observed, pair, view)
  const volumes = acceptedVolumes(observed, acceptance.spec, view)
  const { traditional, givenUp } = traditionalVolumes(observed, volumes, view)
  const accepted = acceptedPair(observed, pair, acceptance, traditional)
  const leaving = pair.metadata.deletionTimestamp !== undefined
  const ends = leaving && (observed.volumes.length === 0 || observed.namespaceTerminating)

  const input = statusInput(observed, pair, acceptance, accepted, view, volumes)
  const verdicts = pairVerdicts(input)
  const desired =
    accepted === undefined
      ? undefined
      : desiredState(
          pair,
          desiredContent(accepted.spec, volumes, view, { givenUp, giveBackNow: givesBackNow(input) }),
          view,
        )
  const actions: Action[] = []
  if (!ends) {
    actions.push(...metadataPatch(pair, acceptance, desired))
    if (accepted !== undefined) actions.push(...objectActions(observed, accepted, input))
    if (desired !== undefined) actions.push(...handOver(desired, view))
    if (accepted !== undefined) actions.push(...replacePod(observed, accepted, input))
  }
  const written = writeStatus(
    FILER_PAIRS,
    pair,
    verdicts,
    pairStatus(input, verdicts),
    observed.nowMs,
    observed.statusWrittenMs(pair.metadata.uid ?? ''),
  )
  actions.push(...written.actions)

  const ofVolumes = planVolumes(observed, volumes, {
    pair: accepted,
    ready: verdicts['Ready']!,
    upToDate: verdicts['UpToDate']!,
    view,
    generation: desired?.generation ?? 0,
  })
  actions.push(...ofVolumes.actions)
  if (ends) actions.push(...planEnd(observed, pair, acceptance.spec))
  return { actions, againInMs: earliest(written.againInMs, ofVolumes.againInMs, whenSilenceCounts(observed)) }
}

function acceptedVolumes(
  observed: Observed,
  pair: FilerPairSpec | undefined,
  view: PairView,
): VolumeInForce[] {
  return acceptVolumes({
    pairName: observed.name,
    pair,
    volumes: observed.volumes,
    view,
    claims: observed.objects.of(CLAIMS),
  })
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
  traditional: readonly TraditionalVolume[],
): AcceptedPair | undefined {
  const { spec } = acceptance
  if (spec === undefined) return undefined
  const uid = pair.metadata.uid ?? ''
  return {
    namespace: observed.namespace,
    name: observed.name,
    uid,
    id: pairId(uid, spec),
    spec,
    traditional,
  }
}

/**
 * Those that are in force, and those whose object is gone and whose claims are there, for they may be adopted. If all claims of one are being
 * deleted it is given up: first at the filers, which then can do without it.
 */
function traditionalVolumes(
  observed: Observed,
  volumes: readonly VolumeInForce[],
  view: PairView,
): { readonly traditional: TraditionalVolume[]; readonly givenUp: TraditionalVolume[] } {
  const wanted = volumes.flatMap(({ object, acceptance, id }): TraditionalVolume[] => {
    const volume = acceptance.spec
    // Before the finalizer is there the object could go without a trace, and leave devices.
    const isHeld = object.metadata.finalizers?.includes(FINALIZER) === true
    if (volume?.type !== 'Traditional' || !isHeld) return []
    const { filer = '', deviceSets = [] } = volume
    return [{ name: object.metadata.name, id, filer, deviceSets }]
  })
  const inForce = new Set(volumes.map(({ id }) => id))
  const kept = [...keptVolumes(observed.objects.of(CLAIMS)).values()].filter(
    ({ volume }) => !inForce.has(volume.id),
  )
  const mounted = new Set(observed.objects.of(STATEFUL_SETS).flatMap(claimsInTemplate))
  const isMounted = (id: string): boolean =>
    observed.objects
      .of(CLAIMS)
      .some(({ metadata: { name, labels } }) => labels?.[LABEL_VOLUME_ID] === id && mounted.has(name))
  const isFreed = ({ id, filer }: TraditionalVolume): boolean => {
    // Templates that have let go of it never take it back, whoever happens to be asked.
    if (!isMounted(id)) return true
    const report = view.volume(id)
    const isKnown = view.sides.get(filer)?.serving === true
    return isKnown && (report === undefined || report.state === 'Removed')
  }
  const givenUp = kept
    .filter(({ volume, stays }) => !stays && !isFreed(volume))
    .map(({ volume }) => ({ ...volume, leaves: true as const }))
  const retained = kept.filter(({ stays }) => stays).map(({ volume }) => volume)
  return { traditional: [...wanted, ...retained, ...givenUp], givenUp }
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

function objectActions(observed: Observed, pair: AcceptedPair, input: StatusInput): Action[] {
  const actions: Action[] = []
  const { authority, filers } = observed.certificatesDue
  if (authority || filers.length > 0) actions.push({ type: 'issue', authority, filers })
  actions.push(...leaseActions(observed, pair))
  const wanted = objectsOf(pair, observed.image, observed.budgets)
  for (const one of wanted) {
    // A filer that ends by itself must come back: not with a template whose claims are not there.
    const held = input.filers.find(
      (f) => namesOf(pair.name).statefulSet(f.name) === one.object.metadata.name && f.heldFor.length > 0,
    )
    if (one.resource === STATEFUL_SETS && held !== undefined) continue
    actions.push(...reach(observed, pair, one))
  }
  const names = new Set(wanted.map((w) => w.object.metadata.name))
  return [...actions, ...strayClaims(observed, pair, input, names)]
}

/** An adopted one lost its finalizer when its pair ended. */
function leaseActions(observed: Observed, pair: AcceptedPair): Action[] {
  const { resource, object } = lease(pair)
  if (observed.lease === undefined) return [{ type: 'create', resource, object }]
  const { name, finalizers = [], resourceVersion, deletionTimestamp } = observed.lease.metadata
  if (finalizers.includes(LEASE_FINALIZER) || deletionTimestamp !== undefined) return []
  const patch = { metadata: { resourceVersion, finalizers: [...finalizers, LEASE_FINALIZER] } }
  return [{ type: 'patch', resource, namespace: pair.namespace, name, patch }]
}

/** Claims of an aggregate that was taken out, once no pod has them, if the policy says so. */
function strayClaims(
  observed: Observed,
  pair: AcceptedPair,
  input: StatusInput,
  wanted: ReadonlySet<string>,
): Action[] {
  const isSettled = input.filers.every((f) => f.pod !== undefined) && outdated(input).length === 0
  if (pair.spec.reclaimPolicy !== 'Delete' || !isSettled) return []
  return observed.objects
    .of(CLAIMS)
    .filter(
      ({ metadata: { name, labels, deletionTimestamp } }) =>
        labels?.[LABEL_PAIR_ID] === pair.id &&
        labels[LABEL_FILER] !== undefined &&
        labels[LABEL_VOLUME] === undefined &&
        deletionTimestamp === undefined &&
        !wanted.has(name),
    )
    .map(({ metadata: { name, uid = '' } }) => ({
      type: 'delete',
      resource: CLAIMS,
      namespace: pair.namespace,
      name,
      uid,
    }))
}

function reach(observed: Observed, pair: AcceptedPair, { resource, object }: Wanted): Action[] {
  const { name } = object.metadata
  const there = observed.objects.get(resource, name)
  const applied = stamped(object)
  if (there === undefined) {
    // Filers start only when nothing of somebody else's is in their way.
    if (resource === STATEFUL_SETS && foreignOfPair(observed).length > 0) return []
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
  const ours = there.metadata.labels?.[LABEL_PAIR_ID] === pair.id
  if (!ours || there.metadata.deletionTimestamp !== undefined || isApplied(applied, there)) return []
  return [{ type: 'apply', resource, object: applied, fresh: false }]
}

function statusInput(
  observed: Observed,
  pair: KubeObject,
  acceptance: Acceptance<FilerPairSpec>,
  accepted: AcceptedPair | undefined,
  view: PairView,
  volumes: readonly VolumeInForce[],
): StatusInput {
  const { objects, storageClasses } = observed
  const names = namesOf(observed.name)
  const wanted = accepted === undefined ? [] : objectsOf(accepted, observed.image, observed.budgets)
  const setOf = (filer: string): KubeObject | undefined =>
    wanted.find((w) => w.resource === STATEFUL_SETS && w.object.metadata.name === names.statefulSet(filer))
      ?.object
  // Claims of a filer's devices and log; those for people's pods wait for nobody here.
  const pending = objects
    .of(CLAIMS)
    .filter((c) => c.metadata.labels?.[LABEL_FILER] !== undefined && isPending(c))
  const missingClasses = pending.flatMap((claim) => {
    const storageClass = (claim['spec'] as { storageClassName?: string }).storageClassName
    return storageClass === undefined || storageClass === '' || storageClasses?.has(storageClass) !== false
      ? []
      : [{ claim: claim.metadata.name, storageClass }]
  })
  return {
    spec: acceptance.spec,
    pools: accepted === undefined ? [] : poolsOf(accepted),
    name: observed.name,
    accepted: acceptance.verdict,
    view,
    filers: (acceptance.spec?.filers ?? []).map(({ name }) => ({
      name,
      pod: objects.get(PODS, names.pod(name)),
      service: objects.get(SERVICES, names.service(name)),
      template: templateOf(setOf(name)),
      heldFor: newClaims(setOf(name), objects.get(STATEFUL_SETS, names.statefulSet(name))).filter(
        (claim) => !isUsable(objects.get(CLAIMS, claim), storageClasses),
      ),
      silentMs: observed.reports.get(name)?.silentMs ?? 0,
      silentReason: observed.reports.get(name)?.silentReason ?? '',
    })),
    missingClasses,
    pendingClaims: pending.map((claim) => claim.metadata.name).sort(),
    inUseBy:
      pair.metadata.deletionTimestamp === undefined
        ? undefined
        : observed.volumes.map((v) => v.metadata.name),
    id: pairId(pair.metadata.uid ?? '', acceptance.spec),
    volumeIds: new Set(volumes.map(({ id }) => id)),
    before: pair['status'] as FilerPairStatus | undefined,
  }
}

function isPending(claim: KubeObject): boolean {
  return (claim['status'] as { phase?: string } | undefined)?.phase === 'Pending'
}

/** Claims that the template wants and the one in force does not have; none if there is none in force. */
function newClaims(wanted: KubeObject | undefined, there: KubeObject | undefined): string[] {
  if (wanted === undefined || there === undefined) return []
  const old = claimsInTemplate(there)
  return claimsInTemplate(wanted).filter((name) => !old.includes(name))
}

function claimsInTemplate(set: KubeObject): string[] {
  const spec = set['spec'] as {
    template: { spec: { volumes?: { persistentVolumeClaim?: { claimName: string } }[] } }
  }
  return (spec.template.spec.volumes ?? []).flatMap((v) =>
    v.persistentVolumeClaim === undefined ? [] : [v.persistentVolumeClaim.claimName],
  )
}

/** Whether a pod with it could start: it is bound, or is bound when the pod comes. */
function isUsable(claim: KubeObject | undefined, classes: Observed['storageClasses']): boolean {
  if (claim === undefined || claim.metadata.deletionTimestamp !== undefined) return false
  const phase = (claim['status'] as { phase?: string } | undefined)?.phase
  if (phase === 'Bound') return true
  if (phase !== 'Pending') return false
  const { storageClassName } = claim['spec'] as { storageClassName?: string }
  // Where classes cannot be read, nobody can say when they bind.
  return classes === undefined || classes.get(storageClassName ?? '') === 'WaitForFirstConsumer'
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
