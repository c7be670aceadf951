/** Conditions and status of a Mirror, from what the filers of both pairs report. Pure. */
import { roundBytes } from '../../api/quantity.ts'
import type { MirrorStatus } from '../../api/v1alpha1/mirror.ts'
import type { MirrorReport, PairView } from '../filer-pair/view.ts'
import { fails, headline, holds, unknown } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import type { End, MirrorInForce } from './accept.ts'

/** One end as the operator sees it. */
export interface EndObserved {
  readonly end: End
  /** The side in which the volume lives. */
  readonly home: string
  readonly view: PairView
  readonly report: MirrorReport | undefined
}
export interface MirrorInput {
  readonly mirror: MirrorInForce
  /** undefined: no accepted spec, or a volume of it is gone. */
  readonly source: EndObserved | undefined
  readonly destination: EndObserved | undefined
}

const OUT_OF_SYNC: Readonly<Record<string, string>> = {
  LinkLost: 'the two pairs do not reach each other; see the interconnects and network policies between them',
  DestinationDown: 'the destination did not answer in time; see its FilerPair',
  LogFilesExhausted: 'the destination had no more log files for too long; see the load of its pair',
  VersionMismatch: 'the two pairs run releases that do not understand each other; update the older one',
  CatchingUp: 'the destination is being brought up to date; nothing to do',
}

export function mirrorVerdicts(input: MirrorInput): Record<string, Verdict> {
  const { acceptance } = input.mirror
  const { source, destination } = input
  if (acceptance.spec === undefined || source === undefined || destination === undefined) {
    const waits = fails('NotAccepted', `the spec is not accepted: ${acceptance.verdict.message}`)
    return { Accepted: acceptance.verdict, Ready: waits, InSync: waits, Broken: waits }
  }
  const reports = [source, destination].flatMap((e) => (e.report === undefined ? [] : [e.report]))
  const notEmpty = reports.find((r) => r.reason === 'DestinationNotEmpty')
  const accepted =
    notEmpty !== undefined && acceptance.verdict.status === 'True'
      ? fails(
          'DestinationNotEmpty',
          `spec.destination.volumeName: ${destination.end.volumeName} has been written, and is not overwritten; name a volume that never was`,
        )
      : acceptance.verdict
  const broken = brokenVerdict(input)
  const inSync = inSyncVerdict(input, broken)
  return {
    Accepted: accepted,
    Ready: readyVerdict(input, accepted, inSync, broken),
    InSync: inSync,
    Broken: broken,
  }
}

/** What a filer says about it, else the sentence given. */
const said = (report: MirrorReport | undefined, otherwise: string): string => {
  const message = report?.message ?? ''
  return message === '' ? otherwise : message
}

function brokenVerdict({ source, destination }: MirrorInput): Verdict {
  const there = destination!.report
  if (there === undefined && source!.report === undefined)
    return unknown('Unknown', 'no filer that serves an end could be asked')
  if (there?.role === 'Destination' && there.state === 'Broken')
    return holds('Broken', `${destination!.end.volumeName} is a volume of its own`)
  if (there?.state === 'Breaking')
    return fails('Breaking', `${destination!.end.volumeName} is being made a volume of its own`)
  return fails('Mirrored', `${destination!.end.volumeName} is a mirror`)
}

function inSyncVerdict({ source, destination }: MirrorInput, broken: Verdict): Verdict {
  const { report } = source!
  if (broken.status === 'True')
    return fails('Broken', 'the mirror is broken: what is written at one end is not at the other')
  if (report === undefined)
    return destination!.report === undefined
      ? unknown('Unknown', 'no filer that serves an end could be asked')
      : fails(
          'LinkLost',
          `no filer says what the source ${source!.end.volumeName} is doing; see FilerPair ${source!.end.pairName}`,
        )
  if (report.state === 'Broken')
    return fails(
      'Broken',
      said(report, 'the mirror is broken: what is written at one end is not at the other'),
    )
  if (report.role === 'Source')
    switch (report.state) {
      case 'InSync':
        return holds('InSync', 'what is acknowledged is durable at both pairs')
      case 'Baseline':
        return fails('Baseline', said(report, 'the first image is on its way; nothing to do'))
      case 'OutOfSync': {
        const reason = OUT_OF_SYNC[report.reason] === undefined ? 'LinkLost' : report.reason
        return fails(reason, said(report, OUT_OF_SYNC[reason]!))
      }
      default:
    }
  return fails('CatchingUp', said(report, OUT_OF_SYNC['CatchingUp']!))
}

function readyVerdict(input: MirrorInput, accepted: Verdict, inSync: Verdict, broken: Verdict): Verdict {
  const { object, acceptance } = input.mirror
  const [source, destination] = [input.source!, input.destination!]
  if (object.metadata.deletionTimestamp !== undefined)
    return fails('Removing', 'the mirror is being deleted; its destination becomes a volume of its own')
  if (accepted.reason === 'NotInSync') return fails('NotInSync', accepted.message)
  if (accepted.reason === 'DestinationNotEmpty') return fails('Failed', accepted.message)
  if (acceptance.spec!.state === 'Broken') {
    if (broken.status === 'True') return holds('Ready', 'the mirror is broken, as spec.state says')
    return (
      notServed(destination) ?? fails('Switching', said(destination.report, 'the mirror is being broken'))
    )
  }
  if (inSync.status === 'True') return holds('Ready', 'the mirror is in sync')
  const ends = [destination, source]
  const divergent = ends.find((e) => e.report?.divergence !== undefined)
  if (divergent !== undefined && ends.some((e) => e.report?.reason === 'WouldDiscardChanges')) {
    const { id, bytes, since } = divergenceOf(divergent.report!.divergence!)
    return fails(
      'WouldDiscardChanges',
      `${divergent.end.volumeName} has ${bytes} of changes since ${since} that the other volume has not; to overwrite them set spec.discardChanges: ${id}; to keep them set spec.state: Broken, or swap source and destination`,
    )
  }
  const refused = ends.find((e) => e.report?.reason === 'NotInSync')?.report
  if (refused !== undefined) return fails('NotInSync', said(refused, 'the mirror is not in sync'))
  const away = notServed(source) ?? notServed(destination)
  if (away !== undefined) return away
  const { report } = source
  if (report === undefined || destination.report === undefined) return connecting(source, destination)
  if (report.role !== 'Source' || report.state === 'Reversing')
    return fails('Switching', said(report, 'source and destination are being swapped'))
  switch (report.state) {
    case 'Baseline':
      if (!report.connected) return connecting(source, destination)
      return fails('Baseline', said(report, 'the first image is on its way; nothing to do'))
    case 'OutOfSync':
      return fails('OutOfSync', said(report, inSync.message))
    default:
      return fails('Resyncing', said(report, 'the destination is catching up; nothing to do'))
  }
}

function notServed({ end, home, view }: EndObserved): Verdict | undefined {
  if (view.sides.get(home)?.serving === true) return undefined
  return fails(
    'PairNotReady',
    `filer ${home} of FilerPair ${end.pairName}, where ${end.volumeName} lives, is not served; see the pair`,
  )
}

function connecting(source: EndObserved, destination: EndObserved): Verdict {
  const problem = [source, destination]
    .flatMap(({ end, view }) =>
      [...view.filers.values()].flatMap((filer) =>
        (filer.peers ?? []).map((peer) => ({ ...peer, from: `${end.pairName}/${filer.filer}` })),
      ),
    )
    .find(
      ({ name, state, reason }) =>
        state === 'Down' &&
        reason !== '' &&
        [source, destination].some(({ end }) => name.startsWith(`${end.pairName}/`)),
    )
  return fails(
    'Connecting',
    problem === undefined
      ? 'the filers of the two pairs are getting to know each other; nothing to do'
      : `filer ${problem.from} does not reach ${problem.name}: ${problem.reason}${problem.message === '' ? '' : `: ${problem.message}`}`,
  )
}

export function mirrorStatus(
  { mirror, source, destination }: MirrorInput,
  verdicts: Readonly<Record<string, Verdict>>,
): Omit<MirrorStatus, 'conditions' | 'observedGeneration'> {
  const message = headline({ Accepted: verdicts['Accepted']!, Ready: verdicts['Ready']! })
  const told = message === '' ? {} : { message }
  if (source === undefined || destination === undefined) return told
  const nameOf = ({ end }: EndObserved): string => `${end.pairName}/${end.volumeName}`
  const isBroken = verdicts['Broken']!.status === 'True'
  const state = isBroken ? 'Broken' : (source.report?.state ?? destination.report?.state)
  return {
    id: mirror.object.metadata.uid ?? '',
    ...(state === undefined ? {} : { state }),
    source: nameOf(source),
    destination: nameOf(destination),
    ...figures(source.report, isBroken),
    ...divergence([source.report, destination.report]),
    ...told,
  }
}

/** As the source knows them: nobody else knows what the destination lacks. */
function figures(report: MirrorReport | undefined, isBroken: boolean): Partial<MirrorStatus> {
  if (report?.role !== 'Source' || isBroken) return {}
  const seconds = Math.round(Number(report.lagSeconds.toPrecision(2)))
  const bytes = report.lagBytes === 0 ? '' : ` ${roundBytes(report.lagBytes)}`
  return {
    lagSeconds: seconds,
    lag: `${seconds}s${bytes}`,
    logFiles: `${report.logFiles}/${report.logFilesMax}`,
    ...(report.baselinePercent === undefined || report.state !== 'Baseline'
      ? {}
      : { baselinePercent: Math.floor(report.baselinePercent) }),
  }
}

function divergence(reports: readonly (MirrorReport | undefined)[]): Pick<MirrorStatus, 'divergence'> {
  const found = reports.find((r) => r?.divergence !== undefined)?.divergence
  const counts = reports.some((r) => r?.reason === 'WouldDiscardChanges')
  return found === undefined || !counts ? {} : { divergence: divergenceOf(found) }
}

function divergenceOf({ id, bytes, sinceSeconds }: NonNullable<MirrorReport['divergence']>) {
  const since = new Date(sinceSeconds * 1000).toISOString().replace(/[.]\d+Z$/, 'Z')
  return { id, bytes: roundBytes(bytes), since }
}
