/** What a side knows, as `rules.decide` wants it, and what of it people are told. */
import { BEATS_MISSED } from './options.ts'
import type { PartnerFacts, SideFacts } from './rules.ts'
import { isDoubted } from './rules.ts'
import type { SideView } from './side-context.ts'
import { writtenBy } from './vote-keeper.ts'

export function factsOf(side: SideView): SideFacts {
  const { context, record, mail, losses } = side
  const { env, votes, broken, times } = context
  const now = env.clock.now()
  return {
    me: context.me,
    side: side.name,
    record,
    vote: side.trust,
    copy: losses.copyState,
    unrecorded: mail.fence.epoch === 0 && mail.record === null,
    serving: side.serving,
    mine: record !== null && (writtenBy(record, votes.writerPrefix) || broken.restartWithoutAlone === true),
    joinAsked: side.joinAsked,
    resync: side.resync,
    resyncAllowed: side.resyncPace.allowed,
    leaseValid: side.lease.valid(now),
    helloRefused: side.helloRefused,
    unfit: side.unfit,
    automatic: isAutomatic(side),
    takesStale: broken.takeStale === true,
    limited: side.takeovers.fromLiving(now) >= times.takeoversAnHour,
    otherBeats: votes.otherSilentMs < BEATS_MISSED * times.beatMs,
    remembers: side.remembers,
    lossAccepted: losses.isAskedFor,
    keepsOther: losses.keepsOther,
    ending: context.ending(),
    resyncHolds: side.owner?.log.mirrored === true,
    resting: context.resting(),
    times,
    startGraceMs: times.startGraceMs,
    partner: partnerFacts(side),
  }
}

/** Takeovers are manual: putting the owner into maintenance is how a person orders one. */
function isAutomatic({ context, record }: SideView): boolean {
  const { automatic, maintenance } = context.policy()
  return automatic || (maintenance !== undefined && maintenance === record?.owner)
}

function partnerFacts(side: SideView): PartnerFacts {
  const view = side.context.partnerView()
  const partnership = side.owner?.partnership
  const word = side.partnerWord
  const current = word !== undefined && word.epoch === side.record?.epoch
  return {
    connected: side.context.link().connected,
    heard: view.heard,
    silentMs: view.silentMs,
    fit: current && view.heard ? word.copy === 'Complete' : undefined,
    asksTake: current && word.asksTake,
    restarted:
      partnership !== undefined &&
      view.incarnation !== undefined &&
      view.incarnation !== partnership.partnerIncarnation,
    slowMs: partnership?.slowMs() ?? 0,
    copy: word?.copy ?? '',
    missesVote: current && word.remembers === true && isDoubted(word.vote),
  }
}

export interface Problem {
  readonly reason: string
  readonly message: string
}

/** Why the filer that does not serve the side could not take it over now, as this filer sees it. */
export function takeoverProblem(side: SideView): Problem | undefined {
  const { record, context, decision } = side
  const { partner, connected } = { partner: side.partnerWord, connected: context.link().connected }
  if (!record) return { reason: 'Starting', message: decision.message }
  if (side.doubtsVote) return { reason: decision.reason, message: decision.message }
  if (!context.votes.reachable) {
    return { reason: 'VoteUnreachable', message: 'the vote does not answer: nobody can take over' }
  }
  if (!record.mirrored) {
    const { reason, message } = decision
    return reason === ''
      ? { reason: 'PartnerDown', message: `${record.owner} serves alone` }
      : { reason, message }
  }
  const copy = side.ownsRecord ? (partner?.copy ?? '') : side.mail.state
  if (side.ownsRecord && !connected) {
    return { reason: 'PartnerDown', message: 'the other filer is not connected' }
  }
  if (copy !== 'Complete') {
    const reason = copy === 'LogLost' ? 'LogNotMirrored' : 'CopyOutOfDate'
    return { reason, message: `the copy of the filer that stands by is ${copy === '' ? 'unknown' : copy}` }
  }
  if (side.ownsRecord && side.owner?.partnership === undefined) {
    return { reason: 'LogNotMirrored', message: 'the log does not reach the other filer yet' }
  }
  if (!context.policy().automatic) return { reason: 'Manual', message: 'takeovers are manual' }
  if (decision.reason === 'TakeoverLimit') return { reason: decision.reason, message: decision.message }
  return undefined
}
