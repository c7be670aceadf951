/**
 * A filer's half of a pair: both sides, the heartbeats between the filers, the vote's beat. It tells the sides what it hears; what
 * they do with it is theirs.
 */
import type { Connection } from '../connection/client.ts'
import type { Env } from '../env/env.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import { readLogId } from '../nvlog/log-device.ts'
import { MemoryLog } from '../nvlog/memory-log.ts'
import { Growth } from './growth.ts'
import type { Mailbox } from './mailbox.ts'
import { lostRoot } from './opening.ts'
import type { BrokenBuild, PairTimes } from './options.ts'
import { checkTimes, DEFAULT_PAIR_TIMES } from './options.ts'
import type { Message } from './partner-link.ts'
import { PartnerLink } from './partner-link.ts'
import { PROCEDURES } from './procedures.ts'
import { judgeVote } from './rules.ts'
import type { MoveAnswer, PairPolicy, SideContext, SideWord } from './side-context.ts'
import { DEFAULT_POLICY } from './side-context.ts'
import { Side } from './side.ts'
import type { SideCopy } from './side-copy.ts'
import type { VoteView } from './vote-keeper.ts'
import { VoteKeeper } from './vote-keeper.ts'
import type { Vote } from './vote.ts'

export interface PairHooks {
  /** This filer serves `side` from now on: protocol servers may answer, the Service is to be moved here. */
  serving(side: string, epoch: number, reason: string): void
  /** It does not any more: connections of its clients are to be reset. */
  stopped(side: string): void
  /** The first answer since `serving`. */
  answered?(side: string): void
  fatal(cause: string, error: unknown): void
}

export interface PairOptions {
  readonly env: Env
  readonly me: string
  readonly partner: string
  readonly pairUid: string
  readonly mailbox: Mailbox
  readonly vote: Vote
  readonly connection: Connection
  /** By side: this filer's copy and its log file. */
  readonly sides: Readonly<Record<string, { readonly copy: SideCopy; readonly log: LogDevice }>>
  readonly hooks: PairHooks
  readonly policy?: () => PairPolicy
  /** Memory: while a side is mirrored its log is in both filers' memories, and on no device. */
  readonly durability?: 'Disk' | 'Memory'
  readonly times?: Partial<PairTimes>
  /** Only in tests. */
  readonly broken?: BrokenBuild
}

/** Between two looks at a vote that is not believed. */
const UNTRUSTED_READ_MS = 1000

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

export class Pair {
  readonly sides = new Map<string, Side>()
  readonly #growths: Growth[] = []
  readonly votes: VoteKeeper
  readonly #options: PairOptions
  readonly #times: PairTimes
  readonly #link: PartnerLink
  readonly #startedAt: number
  #silentSince: number
  #heard = false
  #partnerIncarnation: number | undefined
  #lastIncarnation: number | undefined
  #restingSides: Promise<void> | undefined
  #rested = false
  #lastTick: number
  #lastHeartbeat = -Infinity
  #lastBeat: number
  #lastLook = -Infinity
  /** `stop` has begun. */
  #ending = false
  #stopped = false

  constructor(options: PairOptions) {
    this.#options = options
    const { env, me, mailbox } = options
    this.#times = checkTimes({ ...DEFAULT_PAIR_TIMES, ...options.times })
    this.#startedAt = env.clock.now()
    this.#silentSince = this.#startedAt
    this.#lastTick = this.#startedAt
    this.#lastBeat = this.#startedAt
    this.votes = new VoteKeeper(env, options.vote, me, options.pairUid, mailbox.incarnation, {
      floors: () => ({
        beat: mailbox.beat,
        epochs: Object.fromEntries(
          [...this.sides.keys()].map((name) => [name, mailbox.side(name).fence.epoch]),
        ),
      }),
      view: (view) => this.#view(view),
    })
    const context = this.#context()
    for (const [name, { copy, log }] of Object.entries(options.sides)) {
      const memoryLog = options.durability === 'Memory' ? new MemoryLog(log) : undefined
      const side = new Side(name, context, copy, memoryLog ?? log, PROCEDURES, memoryLog)
      this.sides.set(name, side)
      this.#growths.push(new Growth(side))
    }
    const regions = [...this.sides.values()].map((side) => side.frames.regions())
    this.#link = new PartnerLink(
      env,
      options.connection,
      { nvlog: regions.map((one) => one.log), plex: regions.flatMap((one) => one.plex) },
      {
        message: (message) => this.#message(message),
        changed: () => {
          // Who is there after a new connection is said by its first heartbeat.
          if (!this.#link.connected) this.#partnerIncarnation = undefined
          for (const side of this.sides.values()) side.kick()
        },
      },
    )
  }

  /** Checks that logs and devices are what the mailbox promises, then begins. */
  async start(): Promise<void> {
    const { env, mailbox } = this.#options
    for (const side of this.sides.values()) {
      if (side.mail.state !== 'Complete') {
        if (this.#options.broken?.trustLost && side.mail.state === 'New') await this.#pretend(side)
        continue
      }
      if (side.mail.memoryLog === true) {
        env.log('error', 'the log was in memory only, and is lost', { side: side.name })
        await mailbox.changeSide(side.name, { state: 'LogLost', memoryLog: false })
        continue
      }
      const id = await readLogId(side.logDevice, side.origin, env.crc32)
      const inspection = await side.copy.inspect(side.mail.aggregates)
      const lost = id === side.mail.logId && (await lostRoot(side, inspection))
      if (id === side.mail.logId && inspection.state === 'Complete' && !lost) {
        const aggregates = inspection.roots.map((root) => root.aggregate)
        if (side.mail.aggregates === undefined) await mailbox.changeSide(side.name, { aggregates })
        continue
      }
      const missing = lost ? 'its newest root cannot be read' : 'its log was lost'
      const cause = inspection.state === 'Complete' ? missing : inspection.message
      env.log('error', 'own copy is not complete', { side: side.name, cause })
      await mailbox.changeSide(side.name, { state: 'Damaged' })
    }
    this.#tick()
    for (const side of this.sides.values()) side.voting.refresh()
  }

  /** Only in a broken build: a copy without a memory of its promises counts as whole. */
  async #pretend(side: Side): Promise<void> {
    const { mailbox, env } = this.#options
    const inspection = await side.copy.inspect()
    if (inspection.state !== 'Complete') return
    const logId = (await readLogId(side.logDevice, side.origin, env.crc32)) ?? 0
    await mailbox.changeSide(side.name, { state: 'Complete', logId })
  }

  /** Planned end: what this filer serves goes to the partner where that is possible, else it is flushed. */
  async stop(): Promise<void> {
    this.#ending = true
    if (this.#policy.state === 'Stopped') await this.#rest()
    else for (const side of this.sides.values()) await this.#moveOrFlush(side)
    this.#stopped = true
    for (const side of this.sides.values()) {
      side.lose('this filer stops')
      await side.exclusive(() => side.stopServing())
    }
  }

  async #moveOrFlush(side: Side): Promise<void> {
    const { owner } = side
    if (owner && !owner.stopped) {
      const moved = await side.handOver()
      if (moved.accepted) await this.#servedByPartner(side)
      else if (side.owner === owner && !owner.stopped) {
        owner.hold()
        await owner.cpNow()
      }
    }
    await side.logDurability.end()
  }

  /** Stopped: everything that is served here goes into both images, and is served no more; nobody takes it over. Once in the life of a process. */
  #rest(): Promise<void> {
    this.#restingSides ??= (async () => {
      for (const side of this.sides.values()) {
        const { owner } = side
        if (owner && !owner.stopped) {
          owner.hold()
          await owner.log.flushed(owner.log.lastSeq)
          await owner.cpNow()
          await owner.cpIdle()
        }
        await side.logDurability.end()
      }
      this.#rested = true
      for (const side of this.sides.values()) {
        side.lose('the pair is stopped')
        await side.exclusive(() => side.stopServing())
      }
    })().catch((error: unknown) => this.#options.hooks.fatal('the pair cannot be stopped', error))
    return this.#restingSides
  }
  get #policy(): PairPolicy {
    return this.#options.policy?.() ?? DEFAULT_POLICY
  }
  /** DONE: nothing is served here any more, and a new start needs nothing special. */
  get resting(): 'NO' | 'FLUSHING' | 'DONE' {
    if (this.#rested) return 'DONE'
    return this.#policy.state === 'Stopped' ? 'FLUSHING' : 'NO'
  }

  /** The new owner needs this filer for its hello; after that it can do without. */
  async #servedByPartner(side: Side): Promise<void> {
    const { clock } = this.#options.env
    const end = clock.now() + this.#times.helloMs
    while (clock.now() < end && this.#link.connected) {
      const word = side.partnerWord
      if (word?.serving === true && word.epoch === side.record?.epoch) return
      await new Promise<void>((resolve) => clock.after(10, resolve))
    }
  }

  /** Asks the owner of a side to hand it over to this filer. */
  async askPartnerToHandOver(side: string): Promise<MoveAnswer> {
    const limitMs = 5 * this.#times.handoverMs
    const reply = await this.#link.request({ type: 'askHandOver', side }, limitMs)
    if (reply) {
      return {
        accepted: reply['accepted'] === true,
        reason: textOf(reply['reason']),
        message: textOf(reply['message']),
      }
    }
    return { accepted: false, reason: 'PartnerDown', message: 'the owner does not answer' }
  }

  get incarnation(): number {
    return this.#options.mailbox.incarnation
  }
  get connected(): boolean {
    return this.#link.connected
  }
  get partnerIncarnation(): number | undefined {
    return this.#partnerIncarnation
  }

  #context(): SideContext {
    const { env, me, partner, pairUid, mailbox, hooks, broken } = this.#options
    return {
      env,
      me,
      partner,
      pairUid,
      mailbox,
      votes: this.votes,
      times: this.#times,
      broken: broken ?? {},
      startedAt: this.#startedAt,
      link: () => this.#link,
      policy: () => this.#policy,
      resting: () => this.resting,
      ending: () => this.#ending,
      partnerView: () => ({
        heard: this.#heard,
        silentMs: env.clock.now() - this.#silentSince,
        incarnation: this.#partnerIncarnation,
        lastIncarnation: this.#lastIncarnation,
      }),
      serving: (side, epoch, reason) => hooks.serving(side, epoch, reason),
      stopped: (side) => hooks.stopped(side),
      answered: (side) => hooks.answered?.(side),
      fatal: (cause, error) => {
        if (!this.#stopped) hooks.fatal(cause, error)
      },
    }
  }

  #view({ record, floors }: VoteView): void {
    const { pairUid } = this.#options
    for (const side of this.sides.values()) {
      const trust = judgeVote(record, side.name, pairUid, floors.epochs[side.name] ?? 0, floors.beat)
      side.judge(trust, record?.sides[side.name])
    }
    if (record?.pairUid === pairUid) this.#sawBeat(record.beat)
  }
  #sawBeat(beat: number): void {
    this.#options.mailbox.sawBeat(beat).catch((error: unknown) => {
      if (!this.#stopped) this.#options.hooks.fatal('mailbox cannot be written', error)
    })
  }

  #tick(): void {
    if (this.#stopped) return
    const { env } = this.#options
    const now = env.clock.now()
    // Silence counts only while the own loop is on time: after a pause of ours the partner has had no chance to be heard.
    if (now - this.#lastTick > this.#times.tickMs + 100) this.#silentSince = now
    this.#lastTick = now
    if (now - this.#lastHeartbeat >= this.#times.heartbeatMs - 1) {
      this.#lastHeartbeat = now
      this.#sendHeartbeat(now)
    }
    if (now - this.#lastBeat >= this.#times.beatMs) {
      this.#lastBeat = now
      const serves = [...this.sides.values()].some((side) => side.serving)
      void (serves ? this.votes.beat() : this.votes.refresh())
      for (const side of this.sides.values()) side.losses.noteCurrent()
    }
    if (now - this.#lastLook >= UNTRUSTED_READ_MS) {
      this.#lastLook = now
      if ([...this.sides.values()].some(({ doubtsVote }) => doubtsVote)) void this.votes.refresh()
    }
    if (this.resting !== 'NO') void this.#rest()
    for (const side of this.sides.values()) side.kick()
    for (const growth of this.#growths) growth.check()
    env.clock.after(this.#times.tickMs, () => this.#tick())
  }

  #sendHeartbeat(now: number): void {
    if (!this.#link.connected) return
    const words = Object.fromEntries([...this.sides].map(([name, side]) => [name, side.word()]))
    this.#link.notify({
      type: 'heartbeat',
      sentAt: now,
      incarnation: this.#options.mailbox.incarnation,
      beat: this.#options.mailbox.beat,
      sides: words,
    })
  }

  #message(message: Message): undefined | Promise<Message | undefined> {
    if (this.#stopped) return undefined
    this.#silentSince = this.#options.env.clock.now()
    this.#heard = true
    if (message.type === 'heartbeat') {
      this.#heartbeat(message)
      return undefined
    }
    if (message.type === 'grant') {
      if (message['incarnation'] !== this.#options.mailbox.incarnation) return undefined
      for (const name of message['sides'] as string[])
        this.sides.get(name)?.granted(message['sentAt'] as number)
      return undefined
    }
    const side = this.sides.get(String(message['side']))
    return side?.request(message)
  }

  #heartbeat(message: Message): void {
    const incarnation = message['incarnation'] as number
    const words = message['sides'] as Record<string, SideWord>
    this.#partnerIncarnation = incarnation
    this.#lastIncarnation = incarnation
    const beat = message['beat']
    if (typeof beat === 'number' && Number.isSafeInteger(beat)) this.#sawBeat(beat)
    for (const { takeovers } of this.sides.values()) takeovers.heard(incarnation)
    const granted: string[] = []
    for (const [name, side] of this.sides) {
      const word = words[name]
      if (word && side.hear(word)) granted.push(name)
      side.kick()
    }
    if (granted.length === 0) return
    this.#link.notify({ type: 'grant', sentAt: message['sentAt'], incarnation, sides: granted })
  }
}
