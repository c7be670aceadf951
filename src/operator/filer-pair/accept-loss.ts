/**
 * `spec.acceptLoss`: a person gives up what only the other filer has. They name the epoch of the pair; filers know those of sides, and each
 * takeover moves both. So what was decided is noted once, in an annotation, and handed over unchanged as long as the spec says the same. Pure.
 *
 * It is refused while the filer that has the newest copy may be serving, unseen by its partner. What filers know themselves (a
 * beat in the vote, a connection) they judge themselves.
 */
import type { DesiredState } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { PODS } from '../../edge/kube/resources.ts'
import { ANNOTATION_ACCEPT_LOSS, namesOf } from '../names.ts'
import type { Observed } from './observed.ts'
import type { PairView } from './view.ts'
import { pairEpoch } from './view.ts'

export interface LossDecision {
  readonly order: DesiredState['acceptLoss']
  /** To be noted before the order is given. */
  readonly annotation?: string
  /** Why it is not carried out. */
  readonly refused?: string
}

const NOTHING: LossDecision = { order: undefined }

interface Noted {
  readonly filer: string
  readonly epoch: number
  readonly sides: Record<string, number>
}

export function decideLoss(
  observed: Observed,
  pair: KubeObject,
  spec: FilerPairSpec | undefined,
  view: PairView,
): LossDecision {
  const asked = spec?.acceptLoss
  if (spec === undefined || asked === undefined) return NOTHING
  const { filer, epoch, otherCopy } = asked
  const noted = parse(pair.metadata.annotations?.[ANNOTATION_ACCEPT_LOSS])
  if (noted?.filer === filer && noted.epoch === epoch)
    return { order: { filer, sides: noted.sides, otherCopy } }
  if (epoch !== pairEpoch(view)) return NOTHING
  const sides = Object.fromEntries(
    [...view.sides.values()]
      .filter((side) => !side.serving && (side.owner !== filer || side.reason === 'LogLost'))
      .map((side) => [side.side, side.epoch]),
  )
  if (Object.keys(sides).length === 0) return NOTHING
  const other = spec.filers.find((f) => f.name !== filer)!.name
  const refused = mayServe(observed, other, Object.keys(sides), view)
  if (refused !== undefined) return { order: undefined, refused }
  return {
    order: { filer, sides, otherCopy },
    annotation: JSON.stringify({ filer, epoch, sides } satisfies Noted),
  }
}

/** The pod's node, of which the plan has to know whether it is there. */
export function nodeInQuestion(
  observed: Pick<Observed, 'name' | 'objects'>,
  spec: FilerPairSpec | undefined,
): string | undefined {
  const other = spec?.filers.find((f) => f.name !== spec.acceptLoss?.filer)
  if (spec?.acceptLoss === undefined || other === undefined) return undefined
  return nodeOf(observed.objects.get(PODS, namesOf(observed.name).pod(other.name)))
}

function nodeOf(pod: KubeObject | undefined): string | undefined {
  return (pod?.['spec'] as { nodeName?: string } | undefined)?.nodeName
}

function mayServe(
  observed: Observed,
  filer: string,
  sides: readonly string[],
  view: PairView,
): string | undefined {
  const pod = observed.objects.get(PODS, namesOf(observed.name).pod(filer))
  const report = view.filers.get(filer)
  if (report !== undefined) {
    const serves = report.sides.find((side) => sides.includes(side.side) && side.serving)
    // What it does not serve, its copy is not good for; its partner asks it, too, if it can.
    return serves === undefined
      ? undefined
      : `filer ${filer} answers and serves ${serves.side}: nothing is to be lost`
  }
  if (pod === undefined || !hasProcess(pod)) return undefined
  const node = nodeOf(pod) ?? ''
  if (observed.nodeReady === false) return undefined
  const known = observed.nodeReady === true ? 'is Ready' : 'cannot be asked about'
  return `pod ${pod.metadata.name} runs on node ${node}, which ${known}, so filer ${filer} may be serving; once you know that it does not, delete that pod (with --force if its node is lost)`
}

function hasProcess(pod: KubeObject): boolean {
  const status = pod['status'] as
    { phase?: string; containerStatuses?: { state?: { running?: unknown } }[] } | undefined
  const [container] = status?.containerStatuses ?? []
  return status?.phase === 'Running' && (container === undefined || container.state?.running !== undefined)
}

function parse(text: string | undefined): Noted | undefined {
  if (text === undefined) return undefined
  try {
    const noted = JSON.parse(text) as Partial<Noted>
    return typeof noted.filer === 'string' && typeof noted.epoch === 'number' && noted.sides !== undefined
      ? (noted as Noted)
      : undefined
  } catch {
    return undefined
  }
}
