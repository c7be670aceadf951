/**
 * Every decision of the pair protocol that needs no waiting, as pure functions over what a filer knows (docs/high-availability.md
 * has the tables). `decide` says what a side does next; it is asked again whenever something changed, so no decision is remembered.
 *
 * Only the vote gives rights. What a filer merely suspects (a silent partner) makes it *ask* the vote, never act.
 */
import type { CopyState } from './mailbox.ts'
import type { PairTimes } from './options.ts'
import type { SideRecord, VoteRecord } from './vote.ts'

export interface PartnerFacts {
  /** The connection manager has a channel. */
  readonly connected: boolean
  /** Heard of in this incarnation of ours. */
  readonly heard: boolean
  /** Since the last word, or since our own start; counts only while the own loop is on time. */
  readonly silentMs: number
  /** It said that its copy of this side is whole; undefined while unknown. */
  readonly fit: boolean | undefined
  /** It owns the side and says that it cannot serve it. */
  readonly asksTake: boolean
  /** Its incarnation is another than the one that was greeted. */
  readonly restarted: boolean
  /** Age of the oldest write that it has not answered. */
  readonly slowMs: number
  /** State of its copy, as it said last. */
  readonly copy: string
  /** It knows the same highest record, has not forgotten an earlier one, and does not believe the vote either. */
  readonly missesVote: boolean
}

export interface SideFacts {
  readonly me: string
  /** The filer whose home the side is. */
  readonly side: string
  /** Of the highest epoch known. */
  readonly record: SideRecord | null
  readonly vote: VoteTrust
  readonly copy: CopyState
  /** Nothing was ever recorded or promised here for this side. */
  readonly unrecorded: boolean
  readonly serving: boolean
  /** This incarnation wrote the record. */
  readonly mine: boolean
  /** A JOIN of ours may be applied yet. */
  readonly joinAsked: boolean
  readonly resync: 'NONE' | 'RUNNING' | 'DONE'
  readonly resyncAllowed: boolean
  readonly leaseValid: boolean
  /** The last hello failed for good: copies cannot be made equal without the vote. */
  readonly helloRefused: boolean
  /** Why this process must not serve the side, whatever the record says; empty: it may. */
  readonly unfit: string
  readonly automatic: boolean
  /** Only in a broken build. */
  readonly takesStale: boolean
  /** Takeovers from an owner that lives were too many within the hour. */
  readonly limited: boolean
  /** The vote shows that the other filer serves something, or has not been watched for long enough to say that it does not. */
  readonly otherBeats: boolean
  /** This filer's mailbox was there when it started, or the vote has told it since what it may have forgotten. */
  readonly remembers: boolean
  /** A person accepted that what the copy here lacks is lost, for this very epoch. */
  readonly lossAccepted: boolean
  /** A loss was accepted, and the other copy is not to be overwritten yet. */
  readonly keepsOther: boolean
  /** This process ends: it begins nothing any more. */
  readonly ending: boolean
  /** Answers wait for the partner that is being filled: its log has a part in them. */
  readonly resyncHolds: boolean
  /** The pair is to stop: FLUSHING until what is served here is in both images. */
  readonly resting: 'NO' | 'FLUSHING' | 'DONE'
  readonly times: Pick<PairTimes, 'aloneAfterMs' | 'takeAfterMs' | 'slowAfterMs'>
  /** How long a starting filer waits for its partner before it asks for rights. */
  readonly startGraceMs: number
  readonly partner: PartnerFacts
}

export type Action =
  | 'READ_VOTE'
  | 'FORMAT'
  | 'CREATE'
  | 'ALONE'
  | 'TAKE'
  | 'JOIN'
  | 'REWRITE'
  | 'FORCE'
  | 'HELLO'
  | 'REGREET'
  | 'SERVE_ALONE'
  | 'RESYNC'
  | 'DROP_RESYNC'
  | 'NONE'

export interface Decision {
  readonly action: Action
  /** Reason word for status when the side is not served, or not mirrored. */
  readonly reason: string
  readonly message: string
}
const none = (reason: string, message: string): Decision => ({ action: 'NONE', reason, message })
const act = (action: Action, reason: string, message: string): Decision => ({ action, reason, message })

export function decide(facts: SideFacts): Decision {
  const { record } = facts
  if (!record) return decideUnknown(facts)
  if (facts.resting === 'DONE') return none('Stopped', 'the pair is stopped; everything is in both images')
  if (facts.ending && !facts.serving) return none('Stopped', 'this filer is ending')
  if (isDoubted(facts.vote)) return decideUntrusted(facts, record)
  return record.owner === facts.me ? decideOwner(facts, record) : decideStandby(facts, record)
}

function decideUnknown(facts: SideFacts): Decision {
  if (facts.vote === 'UNREAD') return act('READ_VOTE', 'Starting', 'reading the vote')
  if (isDoubted(facts.vote)) return untrusted(facts)
  if (facts.side !== facts.me)
    return none('Starting', `the home filer ${facts.side} has not made this side yet`)
  if (!facts.unrecorded) return none('VoteLost', 'this filer knows of a record that the vote does not have')
  // Both are repeatable: an empty copy that no record names is worth nothing to anybody.
  if (facts.copy === 'New' || facts.copy === 'Formatting')
    return act('FORMAT', 'Starting', 'making an empty copy')
  if (facts.copy === 'Complete') return act('CREATE', 'Starting', 'recording the new side')
  return none('CopyOutOfDate', 'the copy here is incomplete and no record names another')
}

const UNTRUSTED: Readonly<Record<Doubt, readonly [string, string]>> = {
  LOST: ['VoteLost', 'the vote has no record of this side'],
  ROLLED_BACK: ['VoteRolledBack', 'the record in the vote is older than what this filer has stored'],
  FOREIGN: ['VoteForeign', 'the record in the vote is of another pair'],
}
const REMEDY =
  'it is written anew as soon as both filers see each other; with one filer lost, acceptLoss does it'

function untrusted({ vote }: SideFacts): Decision {
  const [reason, message] = UNTRUSTED[vote as Doubt]
  return none(reason, `${message}; ${REMEDY}`)
}

/**
 * The vote gives no rights, and takes none: a running owner goes on, nobody else begins (H9). Both filers together know the highest record that
 * anybody acted on, for each stores what it learns before it acts; so the owner may write that one anew, with a higher epoch. Of a
 * filer that lost its mailbox this is not true.
 */
function decideUntrusted(facts: SideFacts, record: SideRecord): Decision {
  const { partner } = facts
  const isOwner = record.owner === facts.me
  if (isOwner && facts.remembers && partner.connected && partner.missesVote && !facts.joinAsked) {
    return act('REWRITE', 'VoteLost', 'writing the record anew, together with the partner')
  }
  if (!facts.serving && facts.lossAccepted && canForce(facts)) return force(facts)
  if (!facts.serving) return untrusted(facts)
  if (partner.restarted && record.mirrored) return act('REGREET', '', 'the partner restarted')
  const lost = partnerLost(partner, facts.times.aloneAfterMs) || partner.restarted
  if (facts.resync === 'RUNNING' && lost)
    return act('DROP_RESYNC', 'PartnerDown', 'the partner was lost during the resync')
  return untrusted(facts)
}

const canForce = ({ copy }: SideFacts): boolean => copy === 'Complete' || copy === 'LogLost'

/** A person takes the place of what is missing: this copy is the side from now on, whatever it lacks. */
function force({ partner, otherBeats }: SideFacts): Decision {
  if (partner.connected && partner.copy === 'Complete') {
    return none('LossRefused', 'the other filer is here and has a complete copy: nothing needs to be lost')
  }
  if (!partner.connected && otherBeats) {
    return none(
      'LossRefused',
      'the other filer may be serving still: its beat in the vote moves, or was not watched for long enough',
    )
  }
  return act('FORCE', 'Taking', 'a person accepted the loss of what this copy lacks')
}

function partnerLost(partner: PartnerFacts, afterMs: number): boolean {
  return !partner.connected && partner.silentMs >= afterMs
}

function decideOwner(facts: SideFacts, record: SideRecord): Decision {
  const { partner } = facts
  if (facts.serving) return record.mirrored ? decideMirroredOwner(facts) : decideAloneOwner(facts)
  if (facts.copy === 'LogLost') {
    if (facts.lossAccepted) return force(facts)
    return none('LogLost', 'the log here was in memory only and is lost; the other filer may have it')
  }
  if (facts.copy !== 'Complete')
    return none('CopyOutOfDate', 'this filer owns the side but its copy is incomplete')
  if (facts.unfit !== '') return none('CopyOutOfDate', facts.unfit)
  if (!record.mirrored) {
    // Restart as owner alone: a new ALONE kills undecided changes and older incarnations. So it does to a JOIN of this incarnation.
    return facts.mine && !facts.joinAsked
      ? act('SERVE_ALONE', 'Starting', 'opening the side')
      : act('ALONE', 'Starting', 'recording this incarnation as owner')
  }
  if (facts.helloRefused || partner.fit === false)
    return act('ALONE', 'PartnerDown', 'the partner has no usable copy')
  if (partner.connected) return act('HELLO', 'Starting', 'comparing copies with the partner')
  // A partner that was here and left is as good as dead; one that was not heard of yet may be starting, as we are.
  const patienceMs = partner.heard ? facts.times.aloneAfterMs : facts.startGraceMs
  if (partner.silentMs >= patienceMs) return act('ALONE', 'PartnerDown', 'the partner is silent')
  return none('Starting', 'waiting for the partner')
}

function decideMirroredOwner(facts: SideFacts): Decision {
  const { partner, times } = facts
  if (partnerLost(partner, times.aloneAfterMs)) return act('ALONE', 'PartnerDown', 'the partner is silent')
  if (partner.slowMs >= times.slowAfterMs)
    return act('ALONE', 'PartnerDown', 'the partner does not answer writes')
  if (partner.fit === false) return act('ALONE', 'PartnerDown', 'the partner lost its copy')
  if (facts.helloRefused) return act('ALONE', 'PartnerDown', 'the partner came back with another copy')
  if (partner.restarted) return act('REGREET', '', 'the partner restarted')
  return none('', '')
}

function decideAloneOwner(facts: SideFacts): Decision {
  const { partner, times } = facts
  const lost =
    partnerLost(partner, times.aloneAfterMs) || partner.slowMs >= times.slowAfterMs || partner.restarted
  if (facts.joinAsked) {
    // An undecided JOIN binds: only a new ALONE from the same version releases the answers that wait for the partner.
    return lost
      ? act('ALONE', 'PartnerDown', 'the partner was lost while joining')
      : act('JOIN', 'Resyncing', 'joining is undecided')
  }
  if (facts.resync === 'DONE') {
    if (lost) return act('DROP_RESYNC', 'PartnerDown', 'the partner was lost before it joined')
    // Both copies are equal; from JOIN on reads need a lease, so it must be there first.
    return facts.leaseValid
      ? act('JOIN', 'Resyncing', 'both copies are complete')
      : none('Resyncing', 'waiting for the first grant')
  }
  if (facts.resync === 'RUNNING') {
    // As long as nobody waits for the partner, a busy one is given time: copying keeps both loops busy, and beginning anew would more so.
    const busy = !facts.resyncHolds && !partner.restarted && partner.slowMs < times.slowAfterMs
    return (busy ? partnerLost(partner, times.slowAfterMs) : lost)
      ? act('DROP_RESYNC', 'PartnerDown', 'the partner was lost during the resync')
      : none('Resyncing', 'the partner is being filled')
  }
  if (!partner.connected || !partner.heard) return none('PartnerDown', 'the partner is not connected')
  if (facts.keepsOther && partner.copy !== 'New' && partner.copy !== 'Damaged') {
    return none('LossAccepted', 'the copy of the other filer is kept until somebody discards it')
  }
  if (facts.resting !== 'NO') return none('PartnerDown', 'the pair is to stop')
  if (!facts.resyncAllowed) return none('Resyncing', 'the next resync begins after a pause')
  return act('RESYNC', 'Resyncing', 'filling the partner')
}

function decideStandby(facts: SideFacts, record: SideRecord): Decision {
  const { partner, times } = facts
  if (facts.lossAccepted && canForce(facts) && (!record.mirrored || facts.copy === 'LogLost')) {
    return force(facts)
  }
  if (facts.copy === 'LogLost') {
    return none('LogLost', 'the log here was in memory only and is lost; waiting to be filled')
  }
  if (facts.copy !== 'Complete') return none('Resyncing', 'the copy here is incomplete')
  if (facts.unfit !== '') return none('CopyOutOfDate', facts.unfit)
  if (!record.mirrored && !facts.takesStale) {
    return none('CopyOutOfDate', `${record.owner} serves alone; waiting to be filled`)
  }
  if (facts.resting !== 'NO') return none('Stopped', 'the pair is to stop')
  if (partner.asksTake) return act('TAKE', 'Taking', 'the owner asks to be relieved')
  const silent = partner.heard
    ? partnerLost(partner, times.takeAfterMs)
    : partnerLost(partner, Math.max(facts.startGraceMs, times.takeAfterMs))
  if (!silent) return none('', '')
  if (!facts.automatic) return none('Manual', 'the owner is silent, but takeovers are manual')
  if (facts.limited && facts.otherBeats) {
    return none(
      'TakeoverLimit',
      'too many takeovers from an owner that lives; now it must be seen to be dead',
    )
  }
  return act(record.mirrored ? 'TAKE' : 'FORCE', 'Taking', 'the owner is silent')
}

/** UNREAD: not yet in this incarnation. ABSENT: read, and it has no record (of this side). LOST: it has none, and this filer knows of one. */
export type VoteTrust = 'UNREAD' | 'ABSENT' | 'GOOD' | 'LOST' | 'ROLLED_BACK' | 'FOREIGN'
export type Doubt = 'LOST' | 'ROLLED_BACK' | 'FOREIGN'
export const isDoubted = (trust: VoteTrust | undefined): trust is Doubt =>
  trust === 'LOST' || trust === 'ROLLED_BACK' || trust === 'FOREIGN'

/**
 * A record below what the mailbox promises was rolled back: to act on it could give two filers the same rights (H9).
 * `known` is the highest epoch per side that this filer stored.
 */
export function judgeVote(
  record: VoteRecord | undefined,
  side: string,
  pairUid: string,
  knownEpoch: number,
  knownBeat: number,
): VoteTrust {
  if (!record) return knownEpoch > 0 || knownBeat > 0 ? 'LOST' : 'ABSENT'
  if (record.pairUid !== pairUid) return 'FOREIGN'
  const entry = record.sides[side]
  if (!entry && knownEpoch > 0) return 'LOST'
  if ((entry?.epoch ?? 0) < knownEpoch || record.beat < knownBeat) return 'ROLLED_BACK'
  return entry ? 'GOOD' : 'ABSENT'
}

export type Change = 'CREATE' | 'ALONE' | 'TAKE' | 'HANDOVER' | 'JOIN' | 'REWRITE' | 'FORCE'

/**
 * A record that is written anew, or by force, goes so far beyond the highest epoch known: changes that were applied before the loss and that nobody heard of have
 * epochs in between, and no epoch may name two configurations.
 */
const REWRITE_STEP = 16

/**
 * The vote's table: what a change writes over `current`, or undefined when the record does not allow it. The caller has
 * checked what only it can know (its copy is complete, the partner is silent, logs and roots are equal).
 */
export function nextRecord(
  change: Change,
  current: SideRecord | undefined,
  me: string,
  writer: string,
  known: SideRecord | null,
): SideRecord | undefined {
  if (change === 'REWRITE' || change === 'FORCE') {
    if (!known || (current?.epoch ?? 0) > known.epoch) return undefined
    if (change === 'REWRITE' && known.owner !== me) return undefined
    const mirrored = change === 'REWRITE' && known.mirrored
    return { epoch: known.epoch + REWRITE_STEP, owner: me, mirrored, writer }
  }
  if (change === 'CREATE') return current ? undefined : { epoch: 1, owner: me, mirrored: false, writer }
  if (!current) return undefined
  const epoch = current.epoch + 1
  switch (change) {
    case 'ALONE':
      return current.owner === me ? { epoch, owner: me, mirrored: false, writer } : undefined
    case 'TAKE':
      return current.owner !== me && current.mirrored
        ? { epoch, owner: me, mirrored: false, writer }
        : undefined
    case 'HANDOVER':
      return current.owner !== me && current.mirrored
        ? { epoch, owner: me, mirrored: true, writer }
        : undefined
    case 'JOIN':
      return current.owner === me && !current.mirrored
        ? { epoch, owner: me, mirrored: true, writer }
        : undefined
  }
}

/**
 * May the owner answer with its own log alone? Only when the record says so, durably learned, and no JOIN of ours is undecided:
 * an undecided JOIN may already have made the partner's copy one that counts (H2).
 */
export function oneCopyIsEnough(record: SideRecord, joinAsked: boolean): boolean {
  return !record.mirrored && !joinAsked
}

/** May a standby grant a read lease, or take log frames, for the owner of `record`? */
export function mayGrant(
  me: string,
  known: SideRecord | null,
  copy: CopyState,
  serving: boolean,
  greeted: boolean,
  askedEpoch: number,
  asker: string,
): boolean {
  if (!known || serving || !greeted || copy !== 'Complete') return false
  return known.owner === asker && known.owner !== me && known.epoch === askedEpoch
}
