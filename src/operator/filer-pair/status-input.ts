/** What conditions and status of a pair are made from: the API's view of it beside the filers'. Pure. */
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { CLAIMS, PODS, SERVICES, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import type { Acceptance } from '../accept.ts'
import type { VolumeInForce } from '../filer-volume/accept.ts'
import { ANNOTATION_TEMPLATE, LABEL_FILER, namesOf } from '../names.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { pairId, poolsOf } from './accepted.ts'
import type { AcceptedPair, Pool } from './accepted.ts'
import { objectsOf } from './objects.ts'
import type { Observed, UpdateTurn } from './observed.ts'
import type { Rest } from './rest.ts'
import type { PairView, SideReport } from './view.ts'

/** What the API says of one filer. */
export interface FilerObserved {
  readonly name: string
  readonly pod: KubeObject | undefined
  readonly service: KubeObject | undefined
  /** Hash of the template that the pod should have. */
  readonly template: string
  /** New claims that the template waits for. */
  readonly heldFor: readonly string[]
  /** Since when its administration has not answered, while its pod runs. */
  readonly silentMs: number
  readonly silentReason: string
}
export interface StatusInput {
  readonly spec: FilerPairSpec | undefined
  readonly pools: readonly Pool[]
  readonly name: string
  readonly accepted: Verdict
  readonly view: PairView
  readonly filers: readonly FilerObserved[]
  /** Claims without volume whose class does not exist: claim and class. */
  readonly missingClasses: readonly { readonly claim: string; readonly storageClass: string }[]
  readonly pendingClaims: readonly string[]
  /** Names of volumes that a deleted pair still has; undefined while it is not being deleted. */
  readonly inUseBy: readonly string[] | undefined
  readonly id: string
  /** Ids of volumes that have an object. */
  readonly volumeIds: ReadonlySet<string>
  readonly before: FilerPairStatus | undefined
  readonly rest: Rest
  /** Why `spec.acceptLoss` is not carried out. */
  readonly lossRefused: string | undefined
  readonly updateTurn: UpdateTurn
}

export function sidesOf(input: StatusInput): { name: string; report: SideReport | undefined }[] {
  return (input.spec?.filers ?? []).map(({ name }) => ({ name, report: input.view.sides.get(name) }))
}

export function statusInput(
  observed: Observed,
  pair: KubeObject,
  acceptance: Acceptance<FilerPairSpec>,
  accepted: AcceptedPair | undefined,
  view: PairView,
  volumes: readonly VolumeInForce[],
  rest: Rest,
  lossRefused: string | undefined,
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
    rest,
    lossRefused,
    updateTurn: observed.updateTurn,
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

export function claimsInTemplate(set: KubeObject): string[] {
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

export function templateOf(statefulSet: KubeObject | undefined): string {
  const spec = statefulSet?.['spec'] as
    { template?: { metadata?: { annotations?: Record<string, string> } } } | undefined
  return spec?.template?.metadata?.annotations?.[ANNOTATION_TEMPLATE] ?? ''
}
