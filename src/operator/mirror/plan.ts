/**
 * One pass over the mirrors of a namespace: finalizer, accepted spec, status, and the end of those that are deleted. What the filers do about them the
 * passes over the pairs tell them (filer-pair/plan.ts, from desired.ts). Pure.
 *
 * A mirror is broken, then forgotten: its finalizer goes when both pairs were told `Removed` and the filers that serve its ends do not know it any more. A pair that
 * is gone, or goes with its namespace, is not waited for.
 */
import type { KubeObject } from '../../edge/kube/api.ts'
import { MIRRORS } from '../../edge/kube/resources.ts'
import { homeOf } from '../filer-volume/volume.ts'
import { hasTakenUp, viewOf } from '../filer-pair/view.ts'
import { markObject } from '../marks.ts'
import type { NamespaceObserved, PairObserved } from '../namespace-observed.ts'
import { FINALIZER } from '../names.ts'
import type { Action, Plan } from '../runtime/actions.ts'
import { writeStatus } from '../runtime/status-write.ts'
import { acceptMirrors } from './accept.ts'
import type { End } from './accept.ts'
import { mirrorStatus, mirrorVerdicts } from './status.ts'
import type { EndObserved, MirrorInput } from './status.ts'

export function planMirrors(observed: NamespaceObserved): Plan {
  const { mirrors, volumes } = observed
  const pairs = new Map<string, PairObserved | undefined>()
  const pair = (name: string): PairObserved | undefined => {
    if (!pairs.has(name)) pairs.set(name, observed.pair(name))
    return pairs.get(name)
  }
  const pairNames = new Set(volumes.map((v) => (v['spec'] as { pairName?: string }).pairName ?? ''))
  const isInSync = (id: string): boolean =>
    [...pairNames].some((name) => {
      const report = pair(name)?.view.mirror(id)
      return report?.role === 'Source' && report.state === 'InSync'
    })
  const actions: Action[] = []
  let againInMs: number | undefined
  for (const mirror of acceptMirrors({ mirrors, volumes, isInSync })) {
    const { object } = mirror
    const input: MirrorInput = {
      mirror,
      source: mirror.ends && endObserved(object, mirror.ends.source, pair),
      destination: mirror.ends && endObserved(object, mirror.ends.destination, pair),
    }
    const leaving = object.metadata.deletionTimestamp !== undefined
    const done = leaving && (observed.namespaceTerminating || isForgotten(input, pair))
    const patch = markObject(MIRRORS, object, mirror.acceptance, done)
    if (patch !== undefined) actions.push(patch)
    if (done) continue
    const verdicts = mirrorVerdicts(input)
    const written = writeStatus(
      MIRRORS,
      object,
      verdicts,
      mirrorStatus(input, verdicts),
      observed.nowMs,
      observed.statusWrittenMs(object.metadata.uid ?? ''),
      ['Broken'],
    )
    actions.push(...written.actions)
    if (written.againInMs !== undefined) againInMs = Math.min(againInMs ?? Infinity, written.againInMs)
  }
  return { actions, againInMs }
}

function endObserved(
  { metadata: { uid = '' } }: KubeObject,
  end: End,
  pair: (name: string) => PairObserved | undefined,
): EndObserved {
  const { spec, view } = pair(end.pairName) ?? { spec: undefined, view: viewOf([]) }
  return { end, home: homeOf(end.spec, spec), view, report: view.mirror(uid) }
}

function isForgotten(input: MirrorInput, pair: (name: string) => PairObserved | undefined): boolean {
  const { object, ends } = input.mirror
  if (ends === undefined || !object.metadata.finalizers?.includes(FINALIZER)) return true
  return [input.source, input.destination].every((at) => {
    const there = at && pair(at.end.pairName)
    if (at === undefined || there === undefined) return true
    const { told } = there
    if (told?.removed.includes(object.metadata.uid ?? '') !== true) return false
    return hasTakenUp(at.view, at.home, told.generation) && at.report === undefined
  })
}
