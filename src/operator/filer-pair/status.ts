/** Conditions and status of a FilerPair. Pure. Figures are rounded and kept while they are near the old ones: noise causes no write. */
import { roundBytes } from '../../api/quantity.ts'
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { ANNOTATION_TEMPLATE, namesOf } from '../names.ts'
import { fails, headline, holds, steady, unknown } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { pairEpoch } from './view.ts'
import type { Pool } from './accepted.ts'
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
}

const UNREACHABLE_AFTER_MS = 10_000
const SLOW_FIGURE_FACTOR = 2
const USED_FACTOR = 1.05

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
  return {
    Accepted: accepted,
    Ready: ready(input),
    Redundant: redundant(input),
    TakeoverPossible: takeoverPossible(input),
    LinksUp: linksUp(input),
    UpToDate: upToDate(input),
  }
}

export function sidesOf(input: StatusInput): { name: string; report: SideReport | undefined }[] {
  return (input.spec?.filers ?? []).map(({ name }) => ({ name, report: input.view.sides.get(name) }))
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
  for (const filer of input.filers) {
    const verdict = podTrouble(filer, input)
    if (verdict !== undefined) return verdict
  }
  const told = unserved.find(({ report }) => report !== undefined && report.reason !== '')
  if (told?.report !== undefined) {
    const reason = ['CopyOutOfDate', 'DevicePermissionDenied'].includes(told.report.reason)
      ? told.report.reason
      : 'Starting'
    return fails(reason, `filer ${told.name}: ${told.report.message || told.report.reason}`)
  }
  const silent = input.filers.find((f) => f.silentMs >= UNREACHABLE_AFTER_MS)
  if (silent !== undefined)
    return fails(
      'Unreachable',
      `pod ${namesOf(input.name).pod(silent.name)} runs but its administration (port 7401) does not answer: ${silent.silentReason}; see its log, and whether a NetworkPolicy keeps the operator out`,
    )
  return fails('Starting', `filer ${unserved.map(({ name }) => name).join(', ')} is not served yet`)
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

function absent(input: StatusInput): string[] {
  return input.filers.filter((f) => !input.view.filers.has(f.name)).map((f) => f.name)
}

function nobodyAnswers(input: StatusInput): Verdict | undefined {
  return input.view.filers.size === 0 ? unknown('Unknown', 'no filer has answered yet') : undefined
}

function redundant(input: StatusInput): Verdict {
  const nobody = nobodyAnswers(input)
  if (nobody !== undefined) return nobody
  const alone = sidesOf(input).filter(({ report }) => report?.mirrored !== true)
  if (alone.length === 0) return holds('Redundant', 'both filers have a current copy of everything')
  return notMirrored(input, alone)
}

function notMirrored(input: StatusInput, alone: ReturnType<typeof sidesOf>): Verdict {
  const resyncing = alone.find(({ report }) => report !== undefined && report.resyncPercent !== null)?.report
  if (resyncing !== undefined)
    return fails(
      'Resyncing',
      `the copy of filer ${resyncing.side}’s volumes is brought up to date; nothing to do`,
    )
  const gone = absent(input)
  if (gone.length > 0)
    return fails(
      'PartnerDown',
      `filer ${gone.join(', ')} does not answer; its partner has the only current copy`,
    )
  const side = alone[0]!
  return fails('PartnerDown', `filer ${side.name}: ${side.report?.message || 'only one copy is current'}`)
}

function takeoverPossible(input: StatusInput): Verdict {
  const nobody = nobodyAnswers(input)
  if (nobody !== undefined) return nobody
  const not = sidesOf(input).filter(({ report }) => report?.takeoverPossible !== true)
  if (not.length === 0) return holds('TakeoverPossible', 'each filer could take over now')
  const known = ['PartnerDown', 'Resyncing', 'LogNotMirrored', 'VoteUnreachable']
  const told = not.find(({ report }) => report !== undefined && known.includes(report.reason))?.report
  if (told !== undefined) return fails(told.reason, `filer ${told.side}: ${told.message || told.reason}`)
  const alone = not.filter(({ report }) => report?.mirrored !== true)
  if (alone.length > 0) return notMirrored(input, alone)
  if (!input.view.voteReachable)
    return fails(
      'VoteUnreachable',
      `a filer cannot reach Lease ${namesOf(input.name).lease}; see the API server`,
    )
  const gone = absent(input)
  if (gone.length > 0) return fails('PartnerDown', `filer ${gone.join(', ')} does not answer`)
  return fails('LogNotMirrored', `filer ${not[0]!.name}: ${not[0]!.report?.message || 'not possible now'}`)
}

function linksUp(input: StatusInput): Verdict {
  const nobody = nobodyAnswers(input)
  if (nobody !== undefined) return nobody
  const names = input.spec!.interconnects.map((i) => i.name)
  const state = (name: string) => input.view.links.find((l) => l.name === name)?.state ?? 'Down'
  const down = names.filter((name) => state(name) === 'Down')
  const slow = names.filter((name) => state(name) === 'Slow')
  if (down.length > 0)
    return fails(
      'LinkDown',
      `interconnect ${down.join(', ')} carries nothing${down.length < names.length ? '; the others do' : ''}: see both pods and that network`,
    )
  if (slow.length > 0) return fails('LinkSlow', `interconnect ${slow.join(', ')} is slow: see that network`)
  return holds('LinksUp', 'every interconnect works')
}

/** Filers whose pod has another template than it should have. */
export function outdated(input: StatusInput): FilerObserved[] {
  return input.filers.filter(
    (f) => f.pod !== undefined && f.pod.metadata.annotations?.[ANNOTATION_TEMPLATE] !== f.template,
  )
}

function upToDate(input: StatusInput): Verdict {
  const old = outdated(input)
  if (old.length === 0) return devicesJoined(input)
  const names = old.map((f) => namesOf(input.name).pod(f.name)).join(', ')
  const held = [...new Set(old.flatMap((f) => f.heldFor))].sort()
  if (held.length > 0)
    return fails(
      'WaitingForClaims',
      `pod ${names} has an older template; replaced once these claims are bound: ${held.slice(0, 4).join(', ')}${held.length > 4 ? ', …' : ''}; see their StorageClass`,
    )
  if (nextToReplace(input) !== undefined)
    return fails('Updating', `pod ${names} has an older template and is being replaced; nothing to do`)
  if (input.spec!.update === 'Manual' && isSpare(input))
    return fails(
      'WaitingForYou',
      `pod ${names} has an older template, and spec.update is Manual: delete one pod after the other, each when the pair is redundant`,
    )
  const waits = waitsForHome(input) ? 'everything is at home again' : 'the pair is redundant'
  return fails('WaitingForRedundancy', `pod ${names} has an older template; replaced once ${waits}`)
}

function devicesJoined(input: StatusInput): Verdict {
  const waiting = input.pools.flatMap(
    (pool) => input.view.aggregate(pool.filer, pool.name)?.waitingDevices ?? [],
  )
  const [first] = waiting
  if (first === undefined) return holds('UpToDate', 'the pods run the wanted template')
  const names = waiting.map((d) => d.name)
  return fails(
    'DevicesWaiting',
    `device ${names.slice(0, 4).join(', ')}${names.length > 4 ? ', …' : ''} has not joined yet: ${first.reason}`,
  )
}

/** Whether one filer may go: its partner would carry on with everything. A side that is only being opened may yet fail to be. */
function isSpare(input: StatusInput): boolean {
  return (
    sidesOf(input).every(({ report }) => report?.serving === true) &&
    redundant(input).status === 'True' &&
    takeoverPossible(input).status === 'True' &&
    absent(input).length === 0 &&
    input.filers.every((f) => f.pod !== undefined && f.pod.metadata.deletionTimestamp === undefined)
  )
}

/**
 * A pod is to be replaced, and what its predecessor handed over is not back yet: that is waited for, so that the next planned takeover
 * moves one filer's volumes only. Who gives back by hand is not waited for.
 */
export function waitsForHome(input: StatusInput): boolean {
  return (
    input.spec?.takeover.giveback === 'Automatic' &&
    input.spec.update === 'Automatic' &&
    outdated(input).some((f) => f.heldFor.length === 0) &&
    isSpare(input) &&
    [...input.view.sides.values()].some((side) => side.owner !== side.side)
  )
}

/** Then it need not wait for the delay, unless a filer ended by itself since its pod came: it would be asked to serve, and end, again and again. */
export function givesBackNow(input: StatusInput): boolean {
  const restarts = ({ pod }: FilerObserved): number => {
    const status = pod?.['status'] as { containerStatuses?: { restartCount?: number }[] } | undefined
    return status?.containerStatuses?.[0]?.restartCount ?? 0
  }
  const isNew = (f: FilerObserved): boolean => !outdated(input).includes(f)
  return waitsForHome(input) && input.filers.filter(isNew).every((f) => restarts(f) === 0)
}

/** The pod that may go now for a new one: one that does not run yet, else one of a pair that can spare it. */
export function nextToReplace(input: StatusInput): FilerObserved | undefined {
  const old = outdated(input).filter(
    (f) => f.pod!.metadata.deletionTimestamp === undefined && f.heldFor.length === 0,
  )
  const pending = old.find((f) => (f.pod!['status'] as { phase?: string } | undefined)?.phase === 'Pending')
  if (pending !== undefined) return pending
  if (input.spec?.update === 'Manual' || waitsForHome(input)) return undefined
  return isSpare(input) ? old[0] : undefined
}

export function pairStatus(
  input: StatusInput,
  verdicts: Readonly<Record<string, Verdict>>,
): Omit<FilerPairStatus, 'conditions' | 'observedGeneration'> {
  const { view, before, spec } = input
  const message = headline(verdicts)
  if (spec === undefined) return { id: input.id, ...(message === '' ? {} : { message }) }
  const sides = sidesOf(input)
  const up = spec.interconnects
    .filter((i) => view.links.find((l) => l.name === i.name)?.state !== undefined)
    .filter((i) => view.links.find((l) => l.name === i.name)?.state !== 'Down').length
  const retained = view.volumes.filter((v) => !input.volumeIds.has(v.id) && v.state !== 'Removed')
  return {
    id: input.id,
    ...(view.sides.size === 0 ? {} : { epoch: pairEpoch(view) }),
    serving: sides.map(({ name, report }) => `${name}:${servedBy(report) ?? '-'}`).join(' '),
    links: `${up}/${spec.interconnects.length}`,
    ...(message === '' ? {} : { message }),
    filers: input.filers.map((f) => filerStatus(f, input)),
    interconnects: spec.interconnects.map(({ name }) => {
      const link = view.links.find((l) => l.name === name)
      const old = before?.interconnects?.find((i) => i.name === name)?.roundTripMicroseconds
      return {
        name,
        state: link?.state ?? ('Down' as const),
        ...(link === undefined
          ? {}
          : {
              roundTripMicroseconds: Math.round(
                steady(old, Number(link.roundTripMicroseconds.toPrecision(2)), SLOW_FIGURE_FACTOR),
              ),
              addresses: link.addresses,
            }),
      }
    }),
    aggregates: input.pools.map((pool) => aggregateStatus(pool.name, pool.filer, input)),
    ...(view.lastTakeover === null
      ? before?.lastTakeover === undefined
        ? {}
        : { lastTakeover: before.lastTakeover }
      : { lastTakeover: view.lastTakeover }),
    ...(retained.length === 0
      ? {}
      : {
          retainedVolumes: retained.map((v) => ({
            id: v.id,
            name: v.name,
            type: v.type,
            aggregate: v.aggregate,
            used: roundBytes(v.usedBytes),
          })),
        }),
  }
}

function servedBy(report: SideReport | undefined): string | undefined {
  return report?.serving === true ? report.owner : undefined
}

function filerStatus(f: FilerObserved, input: StatusInput): NonNullable<FilerPairStatus['filers']>[number] {
  const side = input.view.sides.get(f.name)
  const answers = input.view.filers.has(f.name)
  const server = servedBy(side)
  const node = (f.pod?.['spec'] as { nodeName?: string } | undefined)?.nodeName
  const clusterIP = (f.service?.['spec'] as { clusterIP?: string } | undefined)?.clusterIP
  const resyncing = [...input.view.sides.values()].some((s) => s.resyncPercent !== null && s.owner !== f.name)
  const state = (): 'Serving' | 'TakenOver' | 'Resyncing' | 'Waiting' | 'Down' => {
    if (server === f.name) return 'Serving'
    if (!answers && server === undefined) return 'Down'
    if (resyncing && answers) return 'Resyncing'
    return server === undefined ? 'Waiting' : 'TakenOver'
  }
  return {
    name: f.name,
    pod: namesOf(input.name).pod(f.name),
    ...(node === undefined ? {} : { node }),
    state: state(),
    ...(server === undefined ? {} : { servedBy: server }),
    ...(clusterIP === undefined || clusterIP === '' ? {} : { clusterIP }),
  }
}

function aggregateStatus(
  name: string,
  side: string,
  input: StatusInput,
): NonNullable<FilerPairStatus['aggregates']>[number] {
  const report = input.view.aggregate(side, name)
  const sideReport = input.view.sides.get(side)
  const server = servedBy(sideReport)
  const old = input.before?.aggregates?.find((a) => a.name === name)
  if (report === undefined) return { name, ...(server === undefined ? {} : { servedBy: server }) }
  const percent = sideReport?.resyncPercent ?? null
  return {
    name,
    ...(server === undefined ? {} : { servedBy: server }),
    size: roundBytes(report.sizeBytes),
    used: roundedUsed(old?.used, report.usedBytes),
    devices: report.devices.length,
    ...(report.waitingDevices.length === 0 ? {} : { waitingDevices: report.waitingDevices }),
    plexes: report.plexes.map((p) => ({
      ...p,
      ...(p.state === 'Resyncing' && percent !== null
        ? { resyncPercent: Math.floor(percent / 10) * 10 }
        : {}),
    })),
  }
}

/** Two digits and a suffix; the old text while the figure is within a twentieth of it. */
export function roundedUsed(before: string | undefined, bytes: number): string {
  const beforeBytes = before === undefined ? undefined : approximateBytes(before)
  return beforeBytes !== undefined && steady(beforeBytes, bytes, USED_FACTOR) === beforeBytes
    ? before!
    : roundBytes(bytes)
}

function approximateBytes(text: string): number | undefined {
  const match = /^([0-9.]+)(Ki|Mi|Gi|Ti|Pi)?$/.exec(text)
  if (match === null) return undefined
  const power = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'].indexOf(match[2] ?? '')
  return Number(match[1]) * 1024 ** power
}
