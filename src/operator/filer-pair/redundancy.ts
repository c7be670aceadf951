/** Whether a pair could lose a filer, and if not, why not. Pure. */
import { namesOf } from '../names.ts'
import { fails, holds, unknown } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import type { StatusInput } from './status-input.ts'
import { sidesOf } from './status-input.ts'
import type { LinkReport } from './view.ts'

export function absent(input: StatusInput): string[] {
  return input.filers.filter((f) => !input.view.filers.has(f.name)).map((f) => f.name)
}

export function nobodyAnswers(input: StatusInput): Verdict | undefined {
  return input.view.filers.size === 0 ? unknown('Unknown', 'no filer has answered yet') : undefined
}

export function redundant(input: StatusInput): Verdict {
  const nobody = nobodyAnswers(input)
  if (nobody !== undefined) return nobody
  const alone = sidesOf(input).filter(({ report }) => report?.mirrored !== true)
  if (alone.length === 0) return holds('Redundant', 'both filers have a current copy of everything')
  return notMirrored(input, alone)
}

/** Reasons that filers give and that are told as they are. */
const TOLD = [
  'PartnerDown',
  'Resyncing',
  'CopyOutOfDate',
  'LogNotMirrored',
  'TakeoverLimit',
  'VoteUnreachable',
  'VoteLost',
  'VoteRolledBack',
  'VoteForeign',
]

function notMirrored(input: StatusInput, alone: ReturnType<typeof sidesOf>): Verdict {
  const resyncing = alone.find(({ report }) => report !== undefined && report.resyncPercent !== null)?.report
  if (resyncing !== undefined)
    return fails(
      'Resyncing',
      `the copy of filer ${resyncing.side}’s volumes is brought up to date; nothing to do`,
    )
  const kept = alone.find(({ report }) => report?.reason === 'LossAccepted')?.report
  if (kept !== undefined)
    return fails(
      'LossAccepted',
      `filer ${kept.owner} serves ${kept.side} by spec.acceptLoss, and the other copy is kept; set spec.acceptLoss.otherCopy: Discarded to have it filled anew`,
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

/** Interconnects over which one filer would not have the other. */
export function refusedLinks({ view }: StatusInput): LinkReport[] {
  return view.links.filter(({ state, reason }) => state === 'Down' && reason !== undefined)
}

export function linkRefused({ name }: StatusInput, link: LinkReport): Verdict {
  const names = namesOf(name)
  const remedies = {
    VersionMismatch: 'give both filers the same image (spec.image) and have both pods run it',
    CertificateRefused: `delete the Secrets ${names.tls('<filer>')}: the operator makes new ones`,
    WrongPeer: 'see the addresses in status.interconnects: another pair’s filer, or another network, has one',
  }
  const reason = link.reason!
  return fails(reason, `interconnect ${link.name}: ${link.message || reason}; ${remedies[reason]}`)
}

export function takeoverPossible(input: StatusInput): Verdict {
  const nobody = nobodyAnswers(input)
  if (nobody !== undefined) return nobody
  const not = sidesOf(input).filter(({ report }) => report?.takeoverPossible !== true)
  if (not.length === 0) return holds('TakeoverPossible', 'each filer could take over now')
  if (not.every(({ report }) => report?.reason === 'Manual'))
    return holds(
      'TakeoverPossible',
      'each filer could take over now, but waits for you: spec.takeover.mode is Manual',
    )
  const refused = refusedLinks(input)
  if (refused.length > 0 && refused.length === input.view.links.length) return linkRefused(input, refused[0]!)
  const told = not.find(({ report }) => report !== undefined && TOLD.includes(report.reason))?.report
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
