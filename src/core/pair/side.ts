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
import type { Fence, Region } from '../connection/client.ts'
import { ChannelError } from '../connection/client.ts'
import type { Env } from '../env/env.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import { StandbyLog } from '../nvlog/standby-log.ts'
import { Lease, grantWaitMs } from './lease.ts'
import type { Mailbox, SideMail } from './mailbox.ts'
import type { BrokenBuild, PairTimes } from './options.ts'
import type { Owner } from './owner.ts'
import type { Message, PartnerLink } from './partner-link.ts'
import { Partnership } from './partnership.ts'
import { compareFence } from './fence.ts'
import { logRegion, logRegionKey, plexRegion, plexRegionKey } from './regions.ts'
import type { Change, Decision, PartnerFacts, SideFacts, VoteTrust } from './rules.ts'
import { decide, mayGrant, oneCopyIsEnough } from './rules.ts'
import type { DeviceSize, SideCopy } from './side-copy.ts'
import type { VoteKeeper } from './vote-keeper.ts'
import { writtenBy } from './vote-keeper.ts'
import type { SideRecord } from './vote.ts'

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
  automatic(): boolean
  /** The partner as seen by heartbeats. */
  partnerView(): { heard: boolean; silentMs: number; incarnation: number | undefined }
  /** Serving begins or has ended; `epoch` guards the Service's move. */
  serving(side: string, epoch: number, reason: string): void
  stopped(side: string): void
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
}

/** The steps that a side takes one at a time; each in a module of its own (procedures.ts). */
export interface SideProcedures {
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

export class Side {
  readonly name: string
  readonly context: SideContext
  readonly copy: SideCopy
  readonly logDevice: LogDevice
  /** Stamped on every batch: of which pair and side it is. */
  readonly origin: number
  readonly lease = new Lease()
  owner: Owner | undefined
  standbyLog: StandbyLog
  /** An owner of the present fence was greeted, in this incarnation of ours; only then frames are taken. */
  greeted = false
  lastGrantAt: number | undefined
  helloRefused = false
  resync: 'NONE' | 'RUNNING' | 'DONE' = 'NONE'
  resyncPercent: number | null = null
  resyncFailures = 0
  resyncNotBefore = -Infinity
  /** Why the copy could not be opened; asked again after a while. */
  openFailure = ''
  /** Why this process does not serve the side again: see `refuse`. */
  unfit = ''
  decision: Decision = { action: 'NONE', reason: 'Starting', message: '' }
  partnerWord: SideWord | undefined
  asksTake = false
  /** Why this filer took the side from the other, in the present epoch. */
  tookOver: string | undefined
  readonly #procedures: SideProcedures
  #activating = false
  #opening = false
  #handingOver = false
  /** Only in the broken build `ackBeforeAlone`. */
  #pretendsAlone = false
  #durableEpoch: number
  #trust: VoteTrust = 'UNREAD'
  #frames = 0
  #drained: (() => void)[] = []
  #voting = false
  #stepping = false
  #again = false
  #pauseUntil = -Infinity
  #locked: Promise<unknown> = Promise.resolve()

  constructor(
    name: string,
    context: SideContext,
    copy: SideCopy,
    logDevice: LogDevice,
    procedures: SideProcedures,
  ) {
    this.#procedures = procedures
    this.name = name
    this.context = context
    this.copy = copy
    this.logDevice = logDevice
    const key = `${context.pairUid}/${name}`
    const bytes = new Uint8Array(key.length)
    for (let n = 0; n < key.length; n++) bytes[n] = key.charCodeAt(n) & 0xff
    this.origin = context.env.crc32(bytes)
    this.standbyLog = new StandbyLog(logDevice, this.origin, undefined)
    this.#durableEpoch = this.record?.epoch ?? 0
  }

  get mail(): SideMail {
    return this.context.mailbox.side(this.name)
  }
  get record(): SideRecord | null {
    return this.mail.record
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
    if (this.#pretendsAlone) return true
    return this.recordIsDurable && oneCopyIsEnough(record, this.joinAsked)
  }
  fence(): Fence {
    return { epoch: this.record?.epoch ?? 0, incarnation: this.context.mailbox.incarnation }
  }

  // What this filer learns

  /** What a read of the vote says of this side. */
  judge(trust: VoteTrust, record: SideRecord | undefined): void {
    this.#trust = trust
    if (trust === 'GOOD' && record) this.learn(record)
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
    if (mail.record && mail.record.owner !== record.owner) {
      this.tookOver = mine ? (record.mirrored ? 'Planned' : 'PartnerSilent') : undefined
    }
    const fence =
      record.epoch > mail.fence.epoch
        ? { epoch: record.epoch, incarnation: mine ? context.mailbox.incarnation : 0 }
        : mail.fence
    context.env.log('info', 'record', { side: this.name, ...record })
    void context.mailbox.changeSide(this.name, { record, fence }).then(
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
    this.kick()
  }

  /** ALONE of ours was recorded: the partner's copy no longer counts. */
  #leaveAlone(owner: Owner): void {
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
   * An image cannot be made, whoever tries: both plexes lack a block. Serving again would end in the same way, so the side waits for somebody to repair it
   * (`tandem check`) and start this filer anew. The other side goes on.
   */
  refuse(cause: string): void {
    this.unfit = cause
    this.context.env.log('error', 'side refused', { side: this.name, cause })
    this.lose(cause)
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

  // Frames of the owner

  regions(): { log: Region; plex: Region[] } {
    const { env } = this.context
    const gate = {
      enter: (fence: Fence) => this.#enter(fence),
      leave: () => this.#leave(),
      log: () => this.standbyLog,
    }
    const read = (block: number, into: Uint8Array): Promise<void> => this.logDevice.read(block, into)
    return {
      log: logRegion(env, this.name, this.logDevice.blocks, read, gate),
      plex: this.copy.devices.map((device) => plexRegion(env, device, gate)),
    }
  }

  async #enter(fence: Fence): Promise<void> {
    if (this.context.broken.noFence) {
      this.#frames += 1
      return
    }
    const older = (): void => {
      if (compareFence(fence, this.mail.fence) < 0) {
        throw new ChannelError('FENCED', `fence of side ${this.name} is higher`, this.mail.fence)
      }
      if (this.owner || this.#activating) {
        throw new ChannelError('FENCED', `side ${this.name} is served here`, this.mail.fence)
      }
    }
    older()
    const { state } = this.mail
    if (!this.greeted || (state !== 'Complete' && state !== 'Resyncing')) {
      throw new ChannelError('REFUSED', `side ${this.name}: greet first`)
    }
    if (compareFence(fence, this.mail.fence) > 0) {
      await this.context.mailbox.changeSide(this.name, { fence })
      older()
    }
    this.#frames += 1
  }
  #leave(): void {
    this.#frames -= 1
    if (this.#frames === 0) for (const resolve of this.#drained.splice(0)) resolve()
  }
  /** What an earlier owner wrote and was let in is on the devices when this resolves. */
  drain(): Promise<void> {
    if (this.#frames === 0) return Promise.resolve()
    return new Promise((resolve) => this.#drained.push(resolve))
  }

  newPartnership(incarnation: number): Partnership {
    const { env } = this.context
    return new Partnership(
      env,
      this.context.link(),
      () => this.fence(),
      incarnation,
      { log: logRegionKey(env, this.name), device: (name) => plexRegionKey(env, name) },
      {
        fenced: (fence) => {
          // The partner may have seen our own JOIN applied before its answer reached us.
          if (this.joinAsked) return this.refreshVote()
          this.lose(`refused by fence ${fence?.epoch ?? '?'}/${fence?.incarnation ?? '?'}`)
          this.refreshVote()
        },
        changed: () => this.kick(),
      },
    )
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
      asksTake: this.asksTake || (this.ownsRecord && mail.state !== 'Complete'),
    }
  }

  /** Takes a heartbeat's word; true if a read lease is granted with it. */
  hear(word: SideWord): boolean {
    this.partnerWord = word
    if (word.record) this.learn(word.record)
    const { context } = this
    if (!word.lease) return false
    const may = mayGrant(
      context.me,
      this.record,
      this.mail.state,
      this.owner !== undefined || this.#activating,
      this.greeted,
      word.epoch,
      context.partner,
    )
    if (may) this.lastGrantAt = context.env.clock.now()
    return may
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

  facts(): SideFacts {
    const { context, record, mail } = this
    return {
      me: context.me,
      side: this.name,
      record,
      vote: this.#trust,
      copy: mail.state,
      unrecorded: mail.fence.epoch === 0 && mail.record === null,
      serving: this.serving,
      mine:
        record !== null &&
        (writtenBy(record, context.votes.writerPrefix) || context.broken.restartWithoutAlone === true),
      voting: this.#voting,
      joinAsked: this.joinAsked,
      resync: this.resync,
      resyncAllowed: context.env.clock.now() >= this.resyncNotBefore,
      leaseValid: this.lease.valid(context.env.clock.now()),
      helloRefused: this.helloRefused,
      unfit: this.unfit,
      automatic: context.automatic(),
      startGraceMs: context.times.startGraceMs,
      partner: this.#partnerFacts(),
    }
  }

  #partnerFacts(): PartnerFacts {
    const view = this.context.partnerView()
    const partnership = this.owner?.partnership
    const word = this.partnerWord
    const current = word !== undefined && word.epoch === this.record?.epoch
    return {
      connected: this.context.link().connected,
      heard: view.heard,
      silentMs: view.silentMs,
      fit: current && view.heard ? word.copy === 'Complete' : undefined,
      asksTake: current && word.asksTake,
      restarted:
        partnership !== undefined &&
        view.incarnation !== undefined &&
        view.incarnation !== partnership.partnerIncarnation,
      slowMs: partnership?.slowMs() ?? 0,
    }
  }

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
    this.decision = decide(this.facts())
    const { action } = this.decision
    if (context.env.clock.now() < this.#pauseUntil && action !== 'DROP_RESYNC') return
    switch (action) {
      case 'NONE':
        return
      case 'READ_VOTE':
        this.refreshVote()
        return
      case 'FORMAT':
        await this.exclusive(() => this.#procedures.format(this))
        this.#again = true
        return
      case 'CREATE':
      case 'ALONE':
      case 'TAKE':
      case 'JOIN':
        this.#ask(action)
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
    const { times, env } = this.context
    this.resync = 'NONE'
    this.resyncPercent = null
    this.lease.drop()
    const pause = Math.min(times.resyncPauseMs * 2 ** this.resyncFailures++, times.resyncPauseMaxMs)
    this.resyncNotBefore = env.clock.now() + pause
    this.owner?.dropPartner()
  }

  /** Grants are waited out first (H6): the owner that had the last one may be reading still. */
  #serveAlone(): void {
    const { env, startedAt, broken } = this.context
    const wait = broken.noLeaseWait ? 0 : grantWaitMs(env.clock.now(), startedAt, this.lastGrantAt)
    if (wait > 0) {
      env.clock.after(wait, () => this.kick())
      return
    }
    if (!this.recordIsDurable) return
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
      await this.drain()
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

  refreshVote(): void {
    if (this.#voting) return
    this.#voting = true
    void this.context.votes.refresh().then((read) => this.#voted(read))
  }

  #ask(change: Change): void {
    if (this.#voting) return
    this.#voting = true
    const { votes, env, broken } = this.context
    env.log('info', 'asking the vote', { side: this.name, change, why: this.decision.message })
    if (change === 'ALONE' && broken.ackBeforeAlone && this.owner) {
      this.#pretendsAlone = true
      this.owner.dropPartner()
    }
    const allowed = (): boolean => decide(this.facts()).action === change
    void votes.change(this.name, this.record?.epoch ?? 0, change, allowed).then((outcome) => {
      this.#voted(outcome !== 'UNREACHABLE')
    })
  }

  /** The standby's own change in a hand-over, which the old owner asked for. */
  async takeHandOver(allowed: () => boolean): Promise<void> {
    await this.context.votes.change(this.name, this.record?.epoch ?? 0, 'HANDOVER', allowed)
    this.kick()
  }

  #voted(reached: boolean): void {
    this.#voting = false
    if (reached) this.kick()
    else this.pause(this.context.times.voteRetryMs)
  }
}
