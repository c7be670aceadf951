/**
 * Every decision of the pair protocol that needs no waiting, as pure functions over what a filer knows (docs/high-availability.md
 * has the tables). `decide` says what a side does next; it is asked again whenever something changed, so no decision is remembered.
 *
 * Only the vote gives rights. What a filer merely suspects (a silent partner) makes it *ask* the vote, never act.
 */
import type { CopyState } from './mailbox.ts'
import type { SideRecord, VoteRecord } from './vote.ts'

/** Silence after which an owner asks for ALONE, and a standby for TAKE: the owner first, so that a cut link moves nothing. */
export const ALONE_AFTER_MS = 300
export const TAKE_AFTER_MS = 400
/** A partner that has not answered a log or plex write for so long is dropped. */
export const SLOW_AFTER_MS = 5000

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
  readonly voting: boolean
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
  return record.owner === facts.me ? decideOwner(facts, record) : decideStandby(facts, record)
}

function decideUnknown(facts: SideFacts): Decision {
  if (facts.vote === 'UNREAD') return act('READ_VOTE', 'Starting', 'reading the vote')
  if (facts.vote === 'ROLLED_BACK' || facts.vote === 'FOREIGN') return untrusted(facts)
  if (facts.side !== facts.me)
    return none('Starting', `the home filer ${facts.side} has not made this side yet`)
  if (!facts.unrecorded) return none('VoteLost', 'this filer knows of a record that the vote does not have')
  // Both are repeatable: an empty copy that no record names is worth nothing to anybody.
  if (facts.copy === 'New' || facts.copy === 'Formatting')
    return act('FORMAT', 'Starting', 'making an empty copy')
  if (facts.copy === 'Complete') return act('CREATE', 'Starting', 'recording the new side')
  return none('CopyOutOfDate', 'the copy here is incomplete and no record names another')
}

function untrusted(facts: SideFacts): Decision {
  return none(
    'VoteRolledBack',
    facts.vote === 'FOREIGN'
      ? 'the record is of another pair'
      : 'the record is older than what this filer has stored',
  )
}

function partnerLost(partner: PartnerFacts, afterMs: number): boolean {
  return !partner.connected && partner.silentMs >= afterMs
}

function decideOwner(facts: SideFacts, record: SideRecord): Decision {
  const { partner } = facts
  if (facts.serving) return record.mirrored ? decideMirroredOwner(facts) : decideAloneOwner(facts)
  if (facts.copy !== 'Complete')
    return none('CopyOutOfDate', 'this filer owns the side but its copy is incomplete')
  if (facts.unfit !== '') return none('CopyOutOfDate', facts.unfit)
  if (facts.vote === 'ROLLED_BACK' || facts.vote === 'FOREIGN') return untrusted(facts)
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
  const patienceMs = partner.heard ? ALONE_AFTER_MS : facts.startGraceMs
  if (partner.silentMs >= patienceMs) return act('ALONE', 'PartnerDown', 'the partner is silent')
  return none('Starting', 'waiting for the partner')
}

function decideMirroredOwner(facts: SideFacts): Decision {
  const { partner } = facts
  if (partnerLost(partner, ALONE_AFTER_MS)) return act('ALONE', 'PartnerDown', 'the partner is silent')
  if (partner.slowMs >= SLOW_AFTER_MS)
    return act('ALONE', 'PartnerDown', 'the partner does not answer writes')
  if (partner.fit === false) return act('ALONE', 'PartnerDown', 'the partner lost its copy')
  if (facts.helloRefused) return act('ALONE', 'PartnerDown', 'the partner came back with another copy')
  if (partner.restarted) return act('REGREET', '', 'the partner restarted')
  return none('', '')
}

function decideAloneOwner(facts: SideFacts): Decision {
  const { partner } = facts
  const lost = partnerLost(partner, ALONE_AFTER_MS) || partner.slowMs >= SLOW_AFTER_MS || partner.restarted
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
    return lost
      ? act('DROP_RESYNC', 'PartnerDown', 'the partner was lost during the resync')
      : none('Resyncing', 'the partner is being filled')
  }
  if (!partner.connected || !partner.heard) return none('PartnerDown', 'the partner is not connected')
  if (!facts.resyncAllowed) return none('Resyncing', 'the next resync begins after a pause')
  return act('RESYNC', 'Resyncing', 'filling the partner')
}

function decideStandby(facts: SideFacts, record: SideRecord): Decision {
  const { partner } = facts
  if (facts.vote === 'ROLLED_BACK' || facts.vote === 'FOREIGN') return untrusted(facts)
  if (facts.copy !== 'Complete') return none('Resyncing', 'the copy here is incomplete')
  if (!record.mirrored) return none('CopyOutOfDate', `${record.owner} serves alone; waiting to be filled`)
  if (partner.asksTake) return act('TAKE', 'Taking', 'the owner asks to be relieved')
  const silent = partner.heard
    ? partnerLost(partner, TAKE_AFTER_MS)
    : partnerLost(partner, Math.max(facts.startGraceMs, TAKE_AFTER_MS))
  if (!silent) return none('', '')
  if (!facts.automatic) return none('Manual', 'the owner is silent, but takeovers are manual')
  return act('TAKE', 'Taking', 'the owner is silent')
}

/** UNREAD: not yet in this incarnation. ABSENT: read, and it has no record (of this side). */
export type VoteTrust = 'UNREAD' | 'ABSENT' | 'GOOD' | 'ROLLED_BACK' | 'FOREIGN'

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
  if (!record) return knownEpoch > 0 || knownBeat > 0 ? 'ROLLED_BACK' : 'ABSENT'
  if (record.pairUid !== pairUid) return 'FOREIGN'
  const entry = record.sides[side]
  if ((entry?.epoch ?? 0) < knownEpoch || record.beat < knownBeat) return 'ROLLED_BACK'
  return entry ? 'GOOD' : 'ABSENT'
}

export type Change = 'CREATE' | 'ALONE' | 'TAKE' | 'HANDOVER' | 'JOIN'

/**
 * The vote's table: what a change writes over `current`, or undefined when the record does not allow it. The caller has
 * checked what only it can know (its copy is complete, the partner is silent, logs and roots are equal).
 */
export function nextRecord(
  change: Change,
  current: SideRecord | undefined,
  me: string,
  writer: string,
): SideRecord | undefined {
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
