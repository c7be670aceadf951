/**
 * One pass over the conversions of a namespace: finalizer, accepted spec, status, and the end of those that are deleted. What the filers do about them the passes
 * over the pairs tell them (filer-pair/plan.ts, from desired.ts). Pure.
 *
 * A conversion that is deleted is undone before the cut-over, which its finalizer waits for; later it runs on in the filer, and a new object of the same volume picks it up.
 */
import type { KubeObject } from '../../edge/kube/api.ts'
import { CONVERSIONS } from '../../edge/kube/resources.ts'
import { hasTakenUp } from '../filer-pair/view.ts'
import { markObject } from '../marks.ts'
import type { NamespaceObserved, PairObserved } from '../namespace-observed.ts'
import { FINALIZER } from '../names.ts'
import type { Action, Plan } from '../runtime/actions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import { acceptConversions } from './accept.ts'
import type { ConversionInForce } from './accept.ts'
import { conversionStatus, conversionVerdicts } from './status.ts'

export function planConversions(observed: NamespaceObserved): Plan {
  const { conversions, volumes } = observed
  const actions: Action[] = []
  let againInMs: number | undefined
  const pairSpec = (name: string) => observed.pair(name)?.spec
  for (const conversion of acceptConversions({ conversions, volumes, pairSpec })) {
    const { object, volume } = conversion
    const pair = volume && observed.pair(volume.pairName)
    const leaving = object.metadata.deletionTimestamp !== undefined
    const done = leaving && (observed.namespaceTerminating || isLeftAlone(conversion, pair))
    const patch = markObject(CONVERSIONS, object, conversion.acceptance, done)
    if (patch !== undefined) actions.push(patch)
    if (done) continue
    const input = { conversion, report: reportOf(object, pair) }
    const verdicts = conversionVerdicts(input)
    const written = writeStatus(
      CONVERSIONS,
      object,
      verdicts,
      conversionStatus(input, verdicts),
      observed.nowMs,
      observed.statusWrittenMs(object.metadata.uid ?? ''),
      ['CutOver', 'Complete', 'RolledBack'],
    )
    actions.push(...written.actions)
    if (written.againInMs !== undefined) againInMs = Math.min(againInMs ?? Infinity, written.againInMs)
  }
  return { actions, againInMs }
}

const reportOf = ({ metadata: { uid = '' } }: KubeObject, pair: PairObserved | undefined) =>
  pair?.view.conversion(uid)

/** The filer that serves the volume has been told to do without it, and has nothing of it, or is beyond the cut-over. */
function isLeftAlone({ object, volume }: ConversionInForce, pair: PairObserved | undefined): boolean {
  if (volume === undefined || pair === undefined) return true
  if (!object.metadata.finalizers?.includes(FINALIZER)) return true
  const { told, view } = pair
  if (told === undefined || told.conversions.includes(object.metadata.uid ?? '')) return false
  if (!hasTakenUp(view, volume.side, told.generation)) return false
  const report = reportOf(object, pair)
  const isCutOver = report?.conditions.some((c) => c.type === 'CutOver' && c.status === 'True') === true
  return report === undefined || isCutOver
}
