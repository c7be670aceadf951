/**
 * One pass over one pair and its volumes: observed → actions. Pure, so that every decision can be tested without an API.
 *
 * Invariants. The Lease and the selector of a clients' Service are written once, when they are made. An object that is not ours is not
 * touched. Data goes only where a reclaim policy says Delete. A pass over what is as it should be gives no action.
 */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { DesiredState } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import {
  CLAIMS,
  FILER_PAIRS,
  PODS,
  SERVICES,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import type { Acceptance } from '../accept.ts'
import { acceptVolumes } from '../filer-volume/accept.ts'
import type { VolumeInForce } from '../filer-volume/accept.ts'
import { planVolumes } from '../filer-volume/plan.ts'
import { keptVolumes } from '../filer-volume/volume.ts'
import { mirrorContent } from '../mirror/desired.ts'
import {
  ANNOTATION_ACCEPTED,
  ANNOTATION_ACCEPT_LOSS,
  ANNOTATION_DESIRED,
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
import type { Verdict } from '../runtime/conditions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import { acceptPair, foreignOfPair } from './accept.ts'
import { decideLoss } from './accept-loss.ts'
import type { LossDecision } from './accept-loss.ts'
import { pairId } from './accepted.ts'
import type { AcceptedPair, TraditionalVolume } from './accepted.ts'
import { contentHash, desiredContent, parseDesiredAnnotation } from './desired.ts'
import { planEnd } from './end.ts'
import { lease, objectsOf, serviceSelector } from './objects.ts'
import type { Wanted } from './objects.ts'
import type { Observed } from './observed.ts'
import { restOf, wantsPods } from './rest.ts'
import type { Rest } from './rest.ts'
import { pairStatus } from './status.ts'
import { claimsInTemplate, statusInput, templateOf } from './status-input.ts'
import type { StatusInput } from './status-input.ts'
import { givesBackNow, isUpdating, nextToReplace, outdated } from './update.ts'
import { pairVerdicts } from './verdicts.ts'
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
  const rest = restOf(observed, acceptance.spec, view)
  const accepted = acceptedPair(observed, pair, acceptance, traditional, !wantsPods(rest))
  const loss = decideLoss(observed, pair, acceptance.spec, view)
  const leaving = pair.metadata.deletionTimestamp !== undefined
  const ends = leaving && (observed.volumes.length === 0 || observed.namespaceTerminating)

  const input = statusInput(observed, pair, acceptance, accepted, view, volumes, rest, loss.refused)
  const verdicts = pairVerdicts(input)
  const desired =
    accepted === undefined
      ? undefined
      : desiredState(
          pair,
          desiredContent(accepted.spec, volumes, view, {
            givenUp,
            giveBackNow: givesBackNow(input),
            acceptLoss: loss.order,
            mirrors: mirrorContent(observed.namespace, observed.mirrors, observed.peerPair),
            conversions: observed.conversions,
          }),
          view,
        )
  const actions: Action[] = []
  if (!ends) {
    actions.push(...metadataPatch(pair, acceptance, desired, loss.annotation))
    if (accepted !== undefined) actions.push(...objectActions(observed, accepted, input))
    if (desired !== undefined) actions.push(...handOver(desired, view))
    if (accepted !== undefined)
      actions.push(...wakeFilers(observed, view, rest), ...replacePod(observed, accepted, input))
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
  return {
    actions,
    againInMs: earliest(
      written.againInMs,
      ofVolumes.againInMs,
      whenSilenceCounts(observed),
      whenAskedAgain(loss),
    ),
    ...updateOf(input, verdicts['UpToDate']!),
    ...(desired === undefined ? {} : { told: toldOf(desired) }),
  }
}

function toldOf({ generation, mirrors = [], conversions = [] }: DesiredState): NonNullable<Plan['told']> {
  const removed = mirrors.filter((m) => m.state === 'Removed').map((m) => m.id)
  return { generation, removed, conversions: conversions.map((c) => c.id) }
}

function updateOf(input: StatusInput, { reason }: Verdict): Pick<Plan, 'update'> {
  if (input.inUseBy !== undefined) return {}
  if (isUpdating(input)) return { update: 'Holds' }
  return reason === 'WaitingForOtherPair' ? { update: 'Waits' } : {}
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
    conversions: observed.conversions,
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

/** Nodes are asked about, not watched. */
function whenAskedAgain({ refused }: LossDecision): number | undefined {
  return refused === undefined ? undefined : 5000
}

function acceptedPair(
  observed: Observed,
  pair: KubeObject,
  acceptance: Acceptance<FilerPairSpec>,
  traditional: readonly TraditionalVolume[],
  isAtRest: boolean,
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
    isAtRest,
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
  // One that was converted, and is called Flexible by now, has its devices for ever, as one without an object.
  const inForce = new Set(
    volumes.flatMap(({ id, acceptance: { spec } }) => (spec?.type === 'Flexible' ? [] : [id])),
  )
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
  acceptedLoss: string | undefined,
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
    ...(acceptedLoss === undefined ? {} : { [ANNOTATION_ACCEPT_LOSS]: acceptedLoss }),
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
    .filter(
      ({ generation, resting }) =>
        generation < desired.generation ||
        // One that was started anew runs, whatever it was told before.
        (desired.state === 'Stopped' && resting === 'NO'),
    )
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
    // One call where the others need two. A field that was created cannot be taken back by an apply: of these none ever is.
    if (resource === CLAIMS || resource === SERVICE_ACCOUNTS)
      return [{ type: 'create', resource, object: applied }]
    return [{ type: 'apply', resource, object: applied, fresh: true }]
  }
  const ours = there.metadata.labels?.[LABEL_PAIR_ID] === pair.id
  if (!ours || there.metadata.deletionTimestamp !== undefined || isApplied(applied, there)) return []
  return [{ type: 'apply', resource, object: applied, fresh: false }]
}

/** A filer that has stopped stays so for the life of its process; when the pair is to run again before the pods ended, they end now. */
function wakeFilers(observed: Observed, view: PairView, rest: Rest): Action[] {
  if (rest.state !== 'Running') return []
  return [...view.filers.values()].flatMap(({ filer, resting }): Action[] => {
    const pod = resting === 'DONE' ? observed.objects.get(PODS, namesOf(observed.name).pod(filer)) : undefined
    if (pod === undefined || pod.metadata.deletionTimestamp !== undefined) return []
    const { name, uid = '' } = pod.metadata
    return [{ type: 'delete', resource: PODS, namespace: observed.namespace, name, uid }]
  })
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
