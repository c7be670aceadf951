/**
 * One side of the pair at this filer: what it knows, what it promised, and the loop that asks `rules.decide` what to do next and does it.
 *
 * Invariants
 * - `learn` counts at once for what it forbids (an owner that reads of another stops within the same call) and only once it is durable
 *   for what it allows (answering alone, taking over).
 * - At most one of: serving here (`owner`), being opened (`#activating`), taking frames as standby. The gate refuses frames unless the third.
 * - Rights come from the vote only, through `learn`; hello and resync make copies equal, they never make an owner.
 *
 * It does not: talk to the vote (vote-keeper.ts), run consistency points (owner.ts), know the connection (partner-link.ts).
 */
import type { Fence } from '../connection/client.ts'
import type { Crc32 } from '../env/env.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import { StandbyLog } from '../nvlog/standby-log.ts'
import type { MemoryLog } from '../nvlog/memory-log.ts'
import { FrameGate } from './frame-gate.ts'
import { Lease, grantWaitMs } from './lease.ts'
import { LogDurability } from './log-durability.ts'
import { Losses } from './losses.ts'
import type { SideMail } from './mailbox.ts'
import type { Owner } from './owner.ts'
import type { Message } from './partner-link.ts'
import type { Decision, VoteTrust } from './rules.ts'
import { ResyncPace } from './resync-pace.ts'
import { decide, isDoubted, mayGrant, oneCopyIsEnough } from './rules.ts'
import type { MoveAnswer, SideContext, SideProcedures, SideView, SideWord } from './side-context.ts'
import type { DeviceSize, SideCopy } from './side-copy.ts'
import { factsOf } from './side-facts.ts'
import { asciiBytes } from '../std/ascii-json.ts'
import { SideVoting } from './side-voting.ts'
import { Takeovers } from './takeovers.ts'
import { incarnationOf, writtenBy } from './vote-keeper.ts'
import type { SideRecord } from './vote.ts'

/** Of which pair and side a batch is. */
export function originOf(crc32: Crc32, pairUid: string, side: string): number {
  return crc32(asciiBytes(`${pairUid}/${side}`))
}

export class Side implements SideView {
  readonly name: string
  readonly context: SideContext
  readonly copy: SideCopy
  readonly logDevice: LogDevice
  /** Stamped on every batch: of which pair and side it is. */
  readonly origin: number
  readonly lease: Lease
  readonly frames: FrameGate
  readonly logDurability: LogDurability
  readonly takeovers = new Takeovers()
  readonly losses: Losses
  readonly resyncPace: ResyncPace
  readonly voting = new SideVoting(this)
  owner: Owner | undefined
  standbyLog: StandbyLog
  /** An owner of the present fence was greeted, in this incarnation of ours; only then frames are taken. */
  greeted = false
  lastGrantAt: number | undefined
  helloRefused = false
  resync: 'NONE' | 'RUNNING' | 'DONE' = 'NONE'
  resyncPercent: number | null = null
  /** Why the copy could not be opened; asked again after a while. */
  openFailure = ''
  /** Why this process does not serve the side again: see `refuse`. */
  unfit = ''
  #partnerTries = false
  decision: Decision = { action: 'NONE', reason: 'Starting', message: '' }
  partnerWord: SideWord | undefined
  asksTake = false
  /** Why this filer took the side from the other, in the present epoch. */
  tookOver: string | undefined
  /** Since when clients may have waited for this filer to take the side. */
  pausedSince: number | undefined
  readonly #procedures: SideProcedures<Side>
  #activating = false
  #opening = false
  #handingOver = false
  #durableEpoch: number
  #trust: VoteTrust = 'UNREAD'
  #remembers: boolean
  #stepping = false
  #again = false
  #pauseUntil = -Infinity
  #locked: Promise<unknown> = Promise.resolve()

  constructor(
    name: string,
    context: SideContext,
    copy: SideCopy,
    logDevice: LogDevice,
    procedures: SideProcedures<Side>,
    memoryLog?: MemoryLog,
  ) {
    this.lease = new Lease(context.times)
    this.frames = new FrameGate(this)
    this.logDurability = new LogDurability(this, memoryLog)
    this.losses = new Losses(this)
    this.resyncPace = new ResyncPace(context.env.clock, context.times)
    this.#remembers = context.mailbox.origin === 'FOUND'
    this.#procedures = procedures
    this.name = name
    this.context = context
    this.copy = copy
    this.logDevice = logDevice
    this.origin = originOf(context.env.crc32, context.pairUid, name)
    this.standbyLog = new StandbyLog(logDevice, this.origin, undefined)
    this.#durableEpoch = this.record?.epoch ?? 0
  }

  get mail(): SideMail {
    return this.context.mailbox.side(this.name)
  }
  get record(): SideRecord | null {
    return this.mail.record
  }
  /** The mailbox was there at the start, or the vote has told since what may have been forgotten. */
  get remembers(): boolean {
    return this.#remembers
  }
  /** What the vote says is not believed: see `decideUntrusted`. */
  get doubtsVote(): boolean {
    return isDoubted(this.#trust)
  }
  get trust(): VoteTrust {
    return this.#trust
  }
  get serving(): boolean {
    return this.owner !== undefined && !this.owner.stopped
  }
  /** Serving has begun: the copy is open and replayed. */
  get opened(): boolean {
    return this.serving && !this.#activating
  }
  /** Frames of others must not meet what this filer writes itself. */
  get isServedHere(): boolean {
    return this.owner !== undefined || this.#activating
  }
  get ownsRecord(): boolean {
    return this.record?.owner === this.context.me
  }
  /** Aggregates that the side has, as far as they are configured here. */
  get aggregates(): readonly string[] | undefined {
    return this.mail.aggregates?.filter((name) => this.copy.aggregates.includes(name))
  }
  /** What this filer tells the other of its devices. */
  deviceSizes(): readonly DeviceSize[] {
    return this.copy.devices.map(({ name, device }) => ({ name, blocks: device.blocks }))
  }
  get joinAsked(): boolean {
    return !this.context.broken.joinLoose && this.context.votes.isUndecided(this.name, 'JOIN')
  }
  /** The record counts the partner's copy, and the partner says that it is whole. */
  get partnerIsComplete(): boolean {
    const { record, partnerWord } = this
    return record?.mirrored === true && partnerWord?.epoch === record.epoch && partnerWord.copy === 'Complete'
  }
  get recordIsDurable(): boolean {
    return this.#durableEpoch === (this.record?.epoch ?? 0)
  }

  /** One copy is enough for an answer, and no lease is needed. */
  aloneNow(): boolean {
    const { record } = this
    if (!record || record.owner !== this.context.me) return false
    if (this.voting.pretendsAlone) return true
    return this.recordIsDurable && this.logDurability.onDevice && oneCopyIsEnough(record, this.joinAsked)
  }
  fence(): Fence {
    return { epoch: this.record?.epoch ?? 0, incarnation: this.context.mailbox.incarnation }
  }

  // What this filer learns

  /** What a read of the vote says of this side. */
  judge(trust: VoteTrust, record: SideRecord | undefined): void {
    if (trust !== this.#trust && isDoubted(trust)) {
      this.context.env.log('error', 'vote is not believed', { side: this.name, trust })
    }
    this.#trust = trust
    if (trust !== 'GOOD' || !record) return
    this.#remembers = true
    const { me, mailbox } = this.context
    if (incarnationOf(record, me) > mailbox.incarnation) {
      void this.isOfEarlierTime('the vote knows a later incarnation of this filer')
    }
    this.learn(record)
  }

  /** A record of a higher epoch, from the vote or the partner. */
  learn(record: SideRecord): void {
    const { mail, context } = this
    if (record.epoch <= (mail.record?.epoch ?? 0)) return
    const mine = record.owner === context.me && writtenBy(record, context.votes.writerPrefix)
    context.votes.settled(this.name)
    this.helloRefused = false
    this.openFailure = ''
    this.asksTake = false
    if (mail.record && mail.record.owner !== record.owner) this.#ownerChanged(record, mine)
    if (record.mirrored) this.resyncPace.mirrored()
    const fence =
      record.epoch > mail.fence.epoch
        ? { epoch: record.epoch, incarnation: mine ? context.mailbox.incarnation : 0 }
        : mail.fence
    context.env.log('info', 'record', { side: this.name, ...record })
    const loss = record.mirrored ? { loss: undefined } : {}
    void context.mailbox.changeSide(this.name, { record, fence, ...loss }).then(
      () => {
        if (this.record?.epoch !== record.epoch) return
        this.#durableEpoch = record.epoch
        this.owner?.restamp()
        context.link().wake()
        this.kick()
      },
      (error: unknown) => context.fatal('mailbox cannot be written', error),
    )
    if (!mine) this.lose('the record names another owner')
    else if (this.owner) {
      this.resync = 'NONE'
      if (!record.mirrored) this.#leaveAlone(this.owner)
      else if (!this.owner.partnership)
        this.lose('the record counts a partner that this owner does not write to')
    }
    if (this.doubtsVote) this.voting.refresh()
    this.kick()
  }

  #ownerChanged(record: SideRecord, mine: boolean): void {
    const now = this.context.env.clock.now()
    this.tookOver = undefined
    if (!mine) return
    if (record.mirrored) this.tookOver = 'Planned'
    else if (this.losses.isOf(record)) this.tookOver = 'LossAccepted'
    else {
      const { silentMs, lastIncarnation } = this.context.partnerView()
      this.tookOver = 'PartnerSilent'
      this.pausedSince = now - silentMs
      this.takeovers.took(now, lastIncarnation)
    }
  }

  /** ALONE of ours was recorded: the partner's copy no longer counts. */
  #leaveAlone(owner: Owner): void {
    this.resyncPace.left((owner.partnership?.slowMs() ?? 0) >= this.context.times.slowAfterMs)
    this.resyncPercent = null
    this.lease.drop()
    owner.dropPartner()
  }

  /** Ownership is gone, or must be taken to be: stop answering now, and close behind it. */
  lose(cause: string): void {
    this.lease.drop()
    if (!this.owner || this.owner.stopped) return
    this.context.env.log('warn', 'side lost', { side: this.name, cause })
    this.owner.lost()
    this.context.stopped(this.name)
    void this.exclusive(() => this.stopServing())
  }

  /**
   * An image cannot be made. Serving again would end in the same way, so the side waits for somebody to repair it (`tandem check`) and start this filer
   * anew. The other side goes on. When both plexes lack a block, so does the partner; of a contradiction (`partnerTries`) that is not sure, it may
   * have been in memory only: the partner tries once, and refuses too if it comes upon the same.
   */
  refuse(cause: string, partnerTries: boolean): void {
    this.unfit = cause
    this.#partnerTries = partnerTries
    this.context.env.log('error', 'side refused', { side: this.name, cause })
    this.lose(cause)
    this.kick()
  }

  /** A first answer was given since the side is served here. */
  answered(): void {
    this.context.answered(this.name)
  }

  /** This filer's memory, or its copy, was put back: it is worth nothing until it was filled again. */
  async isOfEarlierTime(cause: string): Promise<void> {
    const { env, mailbox } = this.context
    if (this.mail.state !== 'Complete' && this.mail.state !== 'LogLost') return
    env.log('error', 'own copy is of an earlier time', { side: this.name, cause })
    this.openFailure = `the copy here is of an earlier time: ${cause}`
    this.lose(cause)
    await mailbox.changeSide(this.name, { state: 'Resyncing' }).catch((error: unknown) => {
      this.context.fatal('mailbox cannot be written', error)
    })
    this.kick()
  }

  /** Inside `exclusive`. */
  async stopServing(): Promise<void> {
    const { owner } = this
    if (!owner) return
    owner.lost()
    await owner.close()
    this.owner = undefined
    this.resync = 'NONE'
    this.resyncPercent = null
  }

  /** Opening, greeting, stopping: one at a time. */
  async exclusive<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#locked.then(task)
    this.#locked = run.catch(() => undefined)
    return run
  }

  // Words of the partner

  word(): SideWord {
    const { record, mail } = this
    return {
      epoch: record?.epoch ?? 0,
      record,
      copy: mail.state,
      serving: this.opened,
      lease:
        !this.#handingOver &&
        this.serving &&
        this.owner?.partnership !== undefined &&
        (record?.mirrored === true || this.resync === 'DONE'),
      // An owner whose copy was lost cannot serve; the other one can.
      asksTake: this.asksTake || (this.ownsRecord && (mail.state !== 'Complete' || this.#partnerTries)),
      vote: this.#trust,
      remembers: this.#remembers,
    }
  }

  /** Takes a heartbeat's word; true if a read lease is granted with it. */
  hear(word: SideWord): boolean {
    this.partnerWord = word
    if (word.record) this.learn(word.record)
    if (!word.lease) return false
    const may = this.standsBy(word.epoch)
    if (may) this.lastGrantAt = this.context.env.clock.now()
    return may
  }

  /** For the partner as owner in this epoch: a lease may be granted, and nobody else serves. */
  standsBy(epoch: number): boolean {
    const { context, record, mail, isServedHere, greeted } = this
    const believes = greeted || context.broken.trustLost === true
    return mayGrant(context.me, record, mail.state, isServedHere, believes, epoch, context.partner)
  }

  granted(sentAt: number): void {
    if (this.#handingOver) return
    this.lease.granted(sentAt)
    this.owner?.check()
    if (this.resync === 'DONE') this.kick()
  }

  request(message: Message): Promise<Message> {
    const answer = this.#procedures.answers[message.type]
    return answer?.(this, message) ?? Promise.resolve({ type: 'reply', ok: false, reason: 'UNKNOWN_REQUEST' })
  }

  /** Moves the side to the partner, if both copies are current. */
  async handOver(): Promise<MoveAnswer> {
    if (this.#handingOver) return { accepted: false, reason: 'Moving', message: 'the side is being moved' }
    try {
      return await this.#procedures.handOver(this)
    } finally {
      this.#handingOver = false
    }
  }
  /** No lease is asked for or taken until the hand-over ends. */
  giveUpLease(): void {
    this.#handingOver = true
    this.lease.drop()
  }

  // The loop

  kick(): void {
    if (this.#stepping) {
      this.#again = true
      return
    }
    this.#stepping = true
    void this.#run().catch((error: unknown) => this.context.fatal(`side ${this.name} failed`, error))
  }

  async #run(): Promise<void> {
    do {
      this.#again = false
      await this.#step()
    } while (this.#again)
    this.#stepping = false
  }

  async #step(): Promise<void> {
    const { context } = this
    if (this.owner?.stopped) {
      await this.exclusive(() => this.stopServing())
      this.#again = true
      return
    }
    this.logDurability.adjust()
    this.decision = decide(factsOf(this))
    const { action } = this.decision
    if (context.env.clock.now() < this.#pauseUntil && action !== 'DROP_RESYNC') return
    switch (action) {
      case 'NONE':
        return
      case 'READ_VOTE':
        this.voting.refresh()
        return
      case 'FORMAT':
        await this.exclusive(() => this.#procedures.format(this))
        this.#again = true
        return
      case 'CREATE':
      case 'ALONE':
      case 'TAKE':
      case 'JOIN':
      case 'REWRITE':
        this.voting.ask(action)
        return
      case 'FORCE':
        await this.losses.note()
        this.voting.ask(action)
        return
      case 'SERVE_ALONE':
        this.#serveAlone()
        return
      case 'HELLO':
        this.#open(() => this.#procedures.activateByHello(this))
        return
      case 'REGREET':
        // An opening that waits for the partner's earlier life would wait for ever; nothing was answered yet, so it begins anew.
        if (this.#activating) this.lose('the partner restarted while the side was being opened')
        else await this.exclusive(() => this.#procedures.regreet(this))
        return
      case 'RESYNC':
        this.resync = 'RUNNING'
        void this.#procedures.runResync(this)
        return
      case 'DROP_RESYNC':
        context.env.log('warn', 'resync given up', { side: this.name, cause: this.decision.message })
        this.dropResync()
    }
  }

  dropResync(): void {
    this.resync = 'NONE'
    this.resyncPercent = null
    this.lease.drop()
    this.resyncPace.failed()
    this.owner?.dropPartner()
  }

  /** Grants are waited out first (H6): the owner that had the last one may be reading still. */
  #serveAlone(): void {
    const { env, startedAt, broken } = this.context
    const { times } = this.context
    const wait = broken.noLeaseWait ? 0 : grantWaitMs(times, env.clock.now(), startedAt, this.lastGrantAt)
    if (wait > 0) {
      env.clock.after(wait, () => this.kick())
      return
    }
    if (!this.recordIsDurable || !this.logDurability.onDevice) return
    this.#open(() => this.#procedures.activateAlone(this))
  }

  /** In the background: the partner may be lost meanwhile, and the loop must then be able to ask for ALONE. */
  #open(activate: () => Promise<void>): void {
    if (this.#opening) return
    this.#opening = true
    void this.exclusive(() => this.#activate(activate))
      .catch((error: unknown) => this.context.fatal(`side ${this.name} cannot be opened`, error))
      .finally(() => {
        this.#opening = false
        this.kick()
      })
  }

  async #activate(activate: () => Promise<void>): Promise<void> {
    const epoch = this.record?.epoch
    if (this.owner || !this.ownsRecord) return
    this.#activating = true
    try {
      await this.frames.drain()
      await activate()
    } finally {
      this.#activating = false
    }
    if (this.owner && (this.record?.epoch !== epoch || !this.ownsRecord)) await this.stopServing()
    if (!this.owner) this.pause(this.openFailure === '' ? 100 : 5000)
  }

  /** Nothing is tried again before `delayMs`. */
  pause(delayMs: number): void {
    this.#pauseUntil = this.context.env.clock.now() + delayMs
    this.context.env.clock.after(delayMs, () => this.kick())
  }
}
