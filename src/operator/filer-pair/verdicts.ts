/** The conditions of a FilerPair. Pure. */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { namesOf } from '../names.ts'
import { fails, holds } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { linkRefused, nobodyAnswers, redundant, refusedLinks, takeoverPossible } from './redundancy.ts'
import type { FilerObserved, StatusInput } from './status-input.ts'
import { sidesOf } from './status-input.ts'
import { upToDate } from './update.ts'
import { pairEpoch } from './view.ts'
import type { SideReport } from './view.ts'

const UNREACHABLE_AFTER_MS = 10_000

export function pairVerdicts(input: StatusInput): Record<string, Verdict> {
  const { accepted } = input
  if (input.spec === undefined) {
    const waits = fails('NotAccepted', `the spec was never accepted: ${accepted.message}`)
    return {
      Accepted: accepted,
      Ready: waits,
      Redundant: waits,
      TakeoverPossible: waits,
      LinksUp: waits,
      UpToDate: waits,
    }
  }
  if (input.rest.state === 'Stopped' && input.inUseBy === undefined) {
    const stopped = fails('Stopped', 'spec.state is Stopped; set it to Running to have the filers back')
    return {
      Accepted: accepted,
      Ready: stopped,
      Redundant: stopped,
      TakeoverPossible: stopped,
      LinksUp: stopped,
      UpToDate: upToDate(input),
    }
  }
  return {
    Accepted: accepted,
    Ready: ready(input),
    Redundant: redundant(input),
    TakeoverPossible: takeoverPossible(input),
    LinksUp: linksUp(input),
    UpToDate: upToDate(input),
  }
}

function ready(input: StatusInput): Verdict {
  if (input.inUseBy !== undefined) {
    return input.inUseBy.length > 0
      ? fails(
          'InUse',
          `the pair is being deleted and waits for its volumes: delete FilerVolume ${input.inUseBy.join(', ')}`,
        )
      : fails('Stopped', 'the pair is being deleted; its filers are ending')
  }
  if (input.rest.state === 'Stopping') return stopping(input)
  const unserved = sidesOf(input).filter(({ report }) => report?.serving !== true)
  if (unserved.length === 0) {
    const failed = input.view.volumes.filter((v) => v.state === 'Failed' && input.volumeIds.has(v.id))
    return failed.length === 0
      ? holds('Ready', 'every volume is served')
      : fails('Starting', `volume ${failed[0]!.name} is not served: ${failed[0]!.message}`)
  }
  const missing = input.missingClasses[0]
  if (missing !== undefined)
    return fails(
      'StorageClassNotFound',
      `spec: StorageClass ${missing.storageClass}, which claim ${missing.claim} needs, does not exist; create it, or delete the pair and make it with another storageClassName`,
    )
  const trouble = input.filers.map((f) => podTrouble(f, input)).find((verdict) => verdict !== undefined)
  const why = whyUnserved(input, unserved)
  if (why !== undefined)
    return trouble === undefined ? why : { ...why, message: `${why.message}; ${trouble.message}` }
  if (trouble !== undefined) return trouble
  const told = unserved.find(({ report }) => report !== undefined && report.reason !== '')
  if (told?.report !== undefined)
    return fails('Starting', `filer ${told.name}: ${told.report.message || told.report.reason}`)
  const silent = input.filers.find((f) => f.silentMs >= UNREACHABLE_AFTER_MS)
  if (silent !== undefined)
    return fails(
      'Unreachable',
      `pod ${namesOf(input.name).pod(silent.name)} runs but its administration (port 7401) does not answer: ${silent.silentReason}; see its log, and whether a NetworkPolicy keeps the operator out`,
    )
  return fails('Starting', `filer ${unserved.map(({ name }) => name).join(', ')} is not served yet`)
}

function stopping(input: StatusInput): Verdict {
  const { waitsFor } = input.rest
  if (waitsFor.length === 0)
    return fails('Stopping', 'spec.state is Stopped: everything is written, the pods are ending')
  const silent = input.filers.find((f) => waitsFor.includes(f.name) && f.silentMs >= UNREACHABLE_AFTER_MS)
  const hint =
    silent === undefined
      ? ''
      : `; filer ${silent.name} does not answer (${silent.silentReason}): delete its pod to stop without it`
  return fails(
    'Stopping',
    `spec.state is Stopped: filer ${waitsFor.join(', ')} writes everything to both copies first${hint}`,
  )
}

/** What filers say that no waiting changes. */
const DEFINITE = [
  'CopyOutOfDate',
  'DevicePermissionDenied',
  'LogLost',
  'Manual',
  'TakeoverLimit',
  'VoteForeign',
  'VoteLost',
  'VoteRolledBack',
  'VoteUnreachable',
]

function whyUnserved(input: StatusInput, unserved: ReturnType<typeof sidesOf>): Verdict | undefined {
  const reports = [...input.view.filers.values()].flatMap(({ sides }) => sides)
  const refused = input.lossRefused ?? reports.find((side) => side.lossRefused)?.lossRefused
  if (refused !== undefined) return fails('LossRefused', `spec.acceptLoss: ${refused}`)
  const told = unserved.find(({ report }) => DEFINITE.includes(report?.reason ?? ''))?.report
  if (told === undefined) return undefined
  return fails(told.reason, `filer ${told.side}: ${told.message || told.reason}${remedy(told, input)}`)
}

function remedy({ side, reason }: SideReport, { view, name }: StatusInput): string {
  if (reason === 'Manual')
    return `; \`tandem takeover ${name} ${side}\` (spec.maintenance) has the partner take over, or set spec.takeover.mode: Automatic`
  const stale = [...view.filers.values()].find((report) =>
    report.sides.some((s) => s.side === side && s.dataFromSeconds !== undefined),
  )
  if (stale === undefined) return ''
  return `; bring the other filer back, or, if it is lost for good, set spec.acceptLoss: {filer: ${stale.filer}, epoch: ${pairEpoch(view)}}, which loses what was acknowledged since (status.outOfDateCopies)`
}

/** Why a pod does not run; undefined if it does. */
function podTrouble(filer: FilerObserved, input: StatusInput): Verdict | undefined {
  const podName = namesOf(input.name).pod(filer.name)
  const waiting =
    input.pendingClaims.length > 0
      ? ` (claims without volume: ${input.pendingClaims.slice(0, 4).join(', ')})`
      : ''
  if (filer.pod === undefined) return fails('Starting', `pod ${podName} does not exist yet${waiting}`)
  const status = (filer.pod['status'] ?? {}) as {
    phase?: string
    conditions?: { type: string; status: string; reason?: string; message?: string }[]
    containerStatuses?: { state?: { waiting?: { reason?: string; message?: string } } }[]
  }
  const scheduled = status.conditions?.find((c) => c.type === 'PodScheduled')
  if (scheduled?.status === 'False' && scheduled.reason === 'Unschedulable')
    return fails('Unschedulable', unschedulable(podName, scheduled.message ?? '', input.spec!))
  const stuck = status.containerStatuses?.find((c) => c.state?.waiting?.reason !== undefined)?.state?.waiting
  if (status.phase !== 'Running') {
    const why = stuck?.reason === undefined ? '' : `: ${stuck.reason} ${stuck.message ?? ''}`.trimEnd()
    return fails('Starting', `pod ${podName} is ${status.phase ?? 'Pending'}${why}${waiting}`)
  }
  if (stuck?.reason === 'CrashLoopBackOff')
    return fails(
      'Starting',
      `pod ${podName} ends again and again; see \`kubectl logs --previous ${podName}\``,
    )
  return undefined
}

function unschedulable(pod: string, message: string, spec: FilerPairSpec): string {
  const { spread, topologyKey } = spec.placement
  const remedy =
    spread === 'Required' && /affinity/.test(message)
      ? `; spec.placement.spread: Required needs two nodes that differ in ${topologyKey}: add a node, or set it to Preferred`
      : '; see the scheduler’s message, spec.filers[].nodeSelector and spec.podTemplate.tolerations'
  return `no node may run pod ${pod}: ${message}${remedy}`
}

function linksUp(input: StatusInput): Verdict {
  const nobody = nobodyAnswers(input)
  if (nobody !== undefined) return nobody
  const names = input.spec!.interconnects.map((i) => i.name)
  const state = (name: string) => input.view.links.find((l) => l.name === name)?.state ?? 'Down'
  const down = names.filter((name) => state(name) === 'Down')
  const slow = names.filter((name) => state(name) === 'Slow')
  const refused = refusedLinks(input)[0]
  if (refused !== undefined) return linkRefused(input, refused)
  if (down.length > 0)
    return fails(
      'LinkDown',
      `interconnect ${down.join(', ')} carries nothing${down.length < names.length ? '; the others do' : ''}: see both pods and that network`,
    )
  if (slow.length > 0) return fails('LinkSlow', `interconnect ${slow.join(', ')} is slow: see that network`)
  return holds('LinksUp', 'every interconnect works')
}
