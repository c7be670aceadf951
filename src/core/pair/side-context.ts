/** What the sides of a pair share and are handed, what they say to each other, and what people want of them. */
import type { Env } from '../env/env.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import type { StandbyLog } from '../nvlog/standby-log.ts'
import type { Lease } from './lease.ts'
import type { CopyState, Mailbox, SideMail } from './mailbox.ts'
import type { BrokenBuild, PairTimes } from './options.ts'
import type { Message, PartnerLink } from './partner-link.ts'
import type { Owner } from './owner.ts'
import type { ResyncPace } from './resync-pace.ts'
import type { Decision, VoteTrust } from './rules.ts'
import type { SideCopy } from './side-copy.ts'
import type { Takeovers } from './takeovers.ts'
import type { VoteKeeper } from './vote-keeper.ts'
import type { SideRecord } from './vote.ts'

/** What people want of a pair, as far as it concerns who serves. */
export interface PairPolicy {
  readonly automatic: boolean
  /** Stopped: everything goes into both images, then nothing is served until a new start. */
  readonly state: 'Running' | 'Stopped'
  /** Confirmed: the standby is asked once for each batch of answers, instead of a lease for some time. */
  readonly reads: 'Leased' | 'Confirmed'
  /** This filer's sides go to the other one, also by a takeover where these are manual. */
  readonly maintenance?: string
  /** The named filer may serve what it has, where the record has exactly this epoch and the owner is lost. */
  readonly acceptLoss?: {
    readonly filer: string
    /** By side: epoch of the record that is overruled. Sides that are not named stay as they are. */
    readonly sides: Readonly<Record<string, number>>
    /** Whether the copy of the other filer may be overwritten. */
    readonly otherCopy?: 'Kept' | 'Discarded'
  }
}
export const DEFAULT_POLICY: PairPolicy = { automatic: true, state: 'Running', reads: 'Leased' }

export interface PartnerView {
  readonly heard: boolean
  readonly silentMs: number
  /** Since the present connection; `lastIncarnation` is from whichever was the last. */
  readonly incarnation: number | undefined
  readonly lastIncarnation: number | undefined
}

/** What the sides of a pair share. */
export interface SideContext {
  readonly env: Env
  readonly me: string
  readonly partner: string
  readonly pairUid: string
  readonly mailbox: Mailbox
  readonly votes: VoteKeeper
  readonly times: PairTimes
  readonly broken: BrokenBuild
  readonly startedAt: number
  link(): PartnerLink
  policy(): PairPolicy
  /** The pair is to stop; DONE when nothing is served here any more. */
  resting(): 'NO' | 'FLUSHING' | 'DONE'
  /** This process ends. */
  ending(): boolean
  /** The partner as seen by heartbeats. */
  partnerView(): PartnerView
  /** Serving begins or has ended; `epoch` guards the Service's move. */
  serving(side: string, epoch: number, reason: string): void
  stopped(side: string): void
  /** The first answer since `serving`. */
  answered(side: string): void
  /** This process must end: its own copy cannot be used, or another incarnation of it has the side. */
  fatal(cause: string, error: unknown): void
}

/** What the partner's heartbeat says of a side. */
export interface SideWord {
  readonly epoch: number
  readonly record: SideRecord | null
  readonly copy: string
  readonly serving: boolean
  readonly lease: boolean
  readonly asksTake: boolean
  /** What it holds of the vote; absent from a filer of an earlier version. */
  readonly vote?: VoteTrust
  /** It has not forgotten what it promised. */
  readonly remembers?: boolean
}

/** The steps that a side takes one at a time; each in a module of its own (procedures.ts). */
export interface SideProcedures<Side> {
  format(side: Side): Promise<void>
  activateAlone(side: Side): Promise<void>
  activateByHello(side: Side): Promise<void>
  regreet(side: Side): Promise<void>
  runResync(side: Side): Promise<void>
  handOver(side: Side): Promise<MoveAnswer>
  /** Requests of the partner, by type. */
  readonly answers: Readonly<Record<string, (side: Side, message: Message) => Promise<Message>>>
}

export interface MoveAnswer {
  readonly accepted: boolean
  readonly reason: string
  readonly message: string
}

/** A side as its parts see it (frame-gate.ts, log-durability.ts, losses.ts, side-facts.ts). */
export interface SideView {
  readonly name: string
  readonly context: SideContext
  readonly copy: SideCopy
  readonly logDevice: LogDevice
  readonly standbyLog: StandbyLog
  readonly mail: SideMail
  readonly record: SideRecord | null
  readonly recordIsDurable: boolean
  readonly ownsRecord: boolean
  readonly trust: VoteTrust
  readonly doubtsVote: boolean
  readonly remembers: boolean
  readonly joinAsked: boolean
  readonly owner: Owner | undefined
  readonly serving: boolean
  readonly opened: boolean
  readonly isServedHere: boolean
  readonly greeted: boolean
  readonly helloRefused: boolean
  readonly unfit: string
  readonly lease: Lease
  readonly resync: 'NONE' | 'RUNNING' | 'DONE'
  readonly resyncPace: ResyncPace
  readonly takeovers: Takeovers
  readonly losses: {
    readonly copyState: CopyState
    readonly isAskedFor: boolean
    readonly keepsOther: boolean
  }
  readonly decision: Decision
  readonly partnerWord: SideWord | undefined
  kick(): void
}
