/**
 * A side at its serving owner: the opened store, the log, the journal that lets answers out, consistency points, the partner's
 * copy while there is one. Which of these may be done is the side's to decide (side.ts, rules.ts); this module does them in the right order.
 *
 * - An answer leaves when its change is durable in every copy that must have it, and while this filer may answer: the record says that one
 *   copy is enough, or the read lease holds (H1, H2, H6).
 * - CP n: blocks to both plexes; when both logs have every batch up to `covers`, the own root; then the partner's; only then are the
 *   half and the freed blocks reusable (H3, H4).
 * - `lost` stops everything at once: nothing is answered, nothing is written after `close`.
 */
import type { Fence } from '../connection/client.ts'
import type { Env } from '../env/env.ts'
import { Contradiction, DamagedBlock } from '../fs/block-store.ts'
import type { Journal } from '../fs/journal.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import type { LogStamp } from '../nvlog/log.ts'
import { OperationLog } from '../nvlog/log.ts'
import type { LogPosition } from '../nvlog/scan.ts'
import type { MaybePromise } from '../std/maybe.ts'
import { asciiBytes } from '../std/ascii-json.ts'
import { assert } from '../std/assert.ts'
import { waiting } from '../std/ranks.ts'
import type { BrokenBuild } from './options.ts'
import type { Lease } from './lease.ts'
import type { Partnership } from './partnership.ts'
import { oldestCp } from './side-copy.ts'
import type { SideStore, StoreCp } from './side-copy.ts'

export interface OwnerHooks {
  /** One copy is enough for an answer (rules.oneCopyIsEnough), or a lease must hold. */
  aloneNow(): boolean
  fence(): Fence
  /** The own copy cannot be written or is not what it must be: the process ends, the partner takes over. */
  fatal(cause: string, error: unknown): void
  /**
   * No image can be made any more: a block that it needs is damaged on every plex, or the image `contradicts` itself. The side is given up; what was
   * acknowledged is in the log.
   */
  damaged(cause: string, contradicts: boolean): void
  /** A consistency point ended. */
  afterCp(): void
  /** Rejects when another process of this filer has begun: asked after each flush that the partner has no part in. */
  verifyAlone(): Promise<void>
  /** Answers of a mirrored side are confirmed by the standby, not allowed by its lease. */
  confirms(): boolean
  /** The standby says that it stands by still; undefined answers are false. */
  confirm(): Promise<boolean>
  /** The first answer was given. */
  answered(): void
}

export const CP_INTERVAL_MS = 10_000

interface Join {
  readonly partnership: Partnership
  readonly confirm: () => Promise<boolean>
  readonly done: (joined: boolean) => void
}

interface Waiter {
  readonly seq: number
  /** Of the confirmation that was the last to be asked for when it came: a later one will do. */
  readonly round: number
  readonly resolve: () => void
}

/** Between two questions to a standby that did not answer. */
const CONFIRM_PAUSE_MS = 20

export class Owner {
  readonly store: SideStore
  readonly log: OperationLog
  partnership: Partnership | undefined
  readonly #env: Env
  readonly #lease: Lease
  readonly #hooks: OwnerHooks
  readonly #broken: BrokenBuild
  readonly #stamp: LogStamp
  #waiters: Waiter[] = []
  #round = 0
  #confirmedRound = 0
  #confirming = false
  #hasAnswered = false
  #held: Promise<void> | undefined
  #release: (() => void) | undefined
  #stopped = false
  #begun = false
  #cpRunning: Promise<void> | undefined
  #cpWanted = false
  /** The next consistency point goes to the partner as well, and batches from its freeze on. */
  #join: Join | undefined
  #cpEnded: (() => void)[] = []
  #cpTimer: { cancel(): void } | undefined
  #lastCpSeq: number

  constructor(
    env: Env,
    store: SideStore,
    logDevice: LogDevice,
    origin: number,
    position: LogPosition,
    lease: Lease,
    hooks: OwnerHooks,
    broken: BrokenBuild,
  ) {
    this.#env = env
    this.store = store
    this.#lease = lease
    this.#hooks = hooks
    this.#broken = broken
    this.#stamp = { ...hooks.fence(), rootCp: oldestCp(store.roots()) }
    this.#lastCpSeq = store.covers
    this.log = new OperationLog(env, logDevice, origin, this.#stamp, position, {
      onDurable: () => this.check(),
      // Behind the append that finds the half full: who appended must know its record before a freeze has it in an image.
      onPressure: () => void Promise.resolve().then(() => this.wantCp()),
      onFailure: (error) => hooks.fatal('own log cannot be written', error),
      verifyAlone: () => hooks.verifyAlone(),
    })
  }

  get stopped(): boolean {
    return this.#stopped
  }
  get cpRunning(): boolean {
    return this.#cpRunning !== undefined
  }
  get waiting(): number {
    return this.#waiters.length
  }

  /** The record of this side changed: batches from now on carry its epoch. */
  restamp(): void {
    Object.assign(this.#stamp, this.#hooks.fence())
    this.check()
  }

  #journal(aggregate: number): Journal {
    return {
      admit: (bytes) => this.#admit(bytes),
      // An operation that was admitted before the side was lost ends in memory that is thrown away, and is never answered.
      append: (volume, record) => (this.#stopped ? Infinity : this.log.append(aggregate, volume, record)),
      answer: (seq) => this.answer(seq),
    }
  }

  /** Everything up to `seq` may be shown now? Else resolves when it may; never, once the side is lost. */
  answer(seq: number): MaybePromise<void> {
    if (!this.#mustConfirm() && this.#mayAnswer() && seq <= this.#shown()) {
      this.#noteAnswer()
      return undefined
    }
    const answered = new Promise<void>((resolve) => {
      this.#waiters.push({ seq, round: this.#round, resolve })
    })
    if (this.#mustConfirm()) this.#confirm()
    return waiting('call', 'partner', answered)
  }

  /** Lets out what may go: after a flush, a grant, a change of the record. */
  check(): void {
    if (this.#waiters.length === 0) return
    const confirms = this.#mustConfirm()
    if (!confirms && !this.#mayAnswer()) return
    const durable = this.#shown()
    const rest: Waiter[] = []
    for (const waiter of this.#waiters) {
      if (waiter.seq <= durable && !(confirms && waiter.round >= this.#confirmedRound)) waiter.resolve()
      else rest.push(waiter)
    }
    if (rest.length < this.#waiters.length) this.#noteAnswer()
    this.#waiters = rest
    if (confirms) this.#confirm()
  }

  #noteAnswer(): void {
    if (this.#hasAnswered) return
    this.#hasAnswered = true
    this.#hooks.answered()
  }

  #mustConfirm(): boolean {
    return !this.#stopped && this.#hooks.confirms() && !this.#hooks.aloneNow()
  }

  /** One question for everything that waits and is durable; what comes meanwhile waits for the next one. */
  #confirm(): void {
    const durable = this.#shown()
    if (this.#confirming || !this.#waiters.some(({ seq }) => seq <= durable)) return
    this.#confirming = true
    const round = ++this.#round
    void this.#hooks.confirm().then((ok) => {
      this.#confirming = false
      if (this.#stopped) return
      if (ok) {
        this.#confirmedRound = round
        this.check()
      } else this.#env.clock.after(CONFIRM_PAUSE_MS, () => this.check())
    })
  }

  #shown(): number {
    return this.#broken.showUnlogged ? this.log.lastSeq : this.log.durable
  }

  #mayAnswer(): boolean {
    if (this.#stopped) return false
    return this.#hooks.aloneNow() || this.#lease.valid(this.#env.clock.now()) || this.#broken.noLease === true
  }

  #admit(bytes: number): MaybePromise<void> {
    const pressure = this.store.pressure()
    if (pressure === 'SOON') this.wantCp()
    if (!this.#held && pressure !== 'FULL') return waiting('call', 'space', this.log.admit(bytes))
    return this.#admitLater(bytes)
  }

  async #admitLater(bytes: number): Promise<void> {
    while (this.#held) await waiting('call', 'space', this.#held)
    if (this.store.pressure() === 'FULL') {
      // One consistency point gives back what it can; if the space is full after that, the operation says NOSPC.
      this.wantCp()
      await waiting('call', 'space', this.#cpRunning)
    }
    await waiting('call', 'space', this.log.admit(bytes))
  }

  /** New operations wait from here on (hand-over) until `resume`. */
  hold(): void {
    this.#held ??= new Promise((resolve) => (this.#release = resolve))
  }
  resume(): void {
    this.#held = undefined
    this.#release?.()
    this.#release = undefined
    this.check()
  }

  /** Nothing is answered any more. `close` must follow. */
  lost(): void {
    this.#stopped = true
    this.#cpTimer?.cancel()
    this.partnership?.dissolve()
    this.#join?.done(false)
    for (const resolve of this.#cpEnded.splice(0)) resolve()
  }

  async close(): Promise<void> {
    this.lost()
    await this.log.stop()
    await this.store.close()
  }

  // Consistency points

  #armTimer(): void {
    this.#cpTimer?.cancel()
    this.#cpTimer = this.#env.clock.after(CP_INTERVAL_MS, () => {
      this.#armTimer()
      if (this.log.lastSeq > this.#lastCpSeq) this.wantCp()
    })
  }

  /**
   * Every copy that takes part is attached: operations and consistency points may run. Before, both would be on the own copy alone, though the record says that
   * the copies are equal.
   */
  begin(): void {
    this.#begun = true
    this.#armTimer()
    this.store.serve(
      (aggregate) => this.#journal(this.#env.crc32(asciiBytes(aggregate))),
      () => this.wantCp(),
    )
    // The log that was replayed stays until this first one ends.
    this.wantCp()
  }

  /** A consistency point soon, behind the one that may be running; not before `begin`. */
  wantCp(): void {
    this.#cpWanted = true
    if (!this.#cpRunning && this.#begun && !this.#stopped) this.#runCps()
  }

  /** Resolves when everything appended so far is in a complete consistency point. */
  async cpNow(): Promise<void> {
    const seq = this.log.lastSeq
    while (!this.#stopped && this.#lastCpSeq < seq) {
      this.wantCp()
      await new Promise<void>((resolve) => this.#cpEnded.push(resolve))
    }
  }
  /** Resolves when no consistency point is under way; new operations are held. */
  async cpIdle(): Promise<void> {
    while (this.#cpRunning && !this.#stopped)
      await new Promise<void>((resolve) => this.#cpEnded.push(resolve))
  }

  #runCps(): void {
    this.#cpRunning = this.#cps()
      .catch((error: unknown) => {
        if (this.#stopped) return
        if (error instanceof DamagedBlock) this.#hooks.damaged(error.message, error instanceof Contradiction)
        else this.#hooks.fatal('consistency point failed', error)
      })
      .finally(() => {
        this.#cpRunning = undefined
        if (!this.#stopped) this.#hooks.afterCp()
        if (this.#cpWanted && !this.#stopped) this.#runCps()
        for (const resolve of this.#cpEnded.splice(0)) resolve()
      })
  }

  async #cps(): Promise<void> {
    while (this.#cpWanted && !this.#stopped) {
      this.#cpWanted = false
      try {
        await this.#cp()
      } finally {
        for (const resolve of this.#cpEnded.splice(0)) resolve()
      }
    }
  }

  async #cp(): Promise<void> {
    const covers = this.log.lastSeq
    const { epoch } = this.#stamp
    // (1) Roots are equal: the CP before ended on every copy, or hello found them so. Freeze and swap halves in one instant.
    const join = this.log.halfIsFree ? this.#join : undefined
    if (join) this.#join = undefined
    const cp = this.store.freeze(covers, epoch)
    this.log.switchHalf()
    if (join && !join.partnership.dissolved) this.log.attachMirror(join.partnership)
    // After a replay over both halves the other one comes free with this consistency point only.
    if (!join && this.#join) this.#cpWanted = true
    try {
      await this.#finishCp(cp, covers)
      // No further one until the partner has looked at its roots: they are equal now.
      if (join && !join.partnership.dissolved && !this.#stopped)
        join.done(await waiting('space', 'partner', join.confirm()))
    } finally {
      join?.done(false)
    }
  }

  async #finishCp(cp: StoreCp, covers: number): Promise<void> {
    const started = this.#env.clock.now()
    // (2) Blocks to both plexes, into space that is free in the root before; both flush.
    await waiting('space', 'partner', cp.write())
    // (3) No root may be ahead of a log: a standby with the old root needs every batch up to `covers`.
    if (!this.#broken.rootAhead) await waiting('space', 'partner', this.log.flushed(covers))
    if (this.#stopped) return
    if (this.#broken.freeEarly) await this.#free(cp, covers)
    await waiting('space', 'device', cp.commitRoot(0))
    // (4) The partner's root; dissolved only when ALONE is recorded.
    if (this.#stopped) return
    await waiting('space', 'partner', cp.commitRoot(1))
    if (this.#stopped) return
    // (5)
    if (!this.#broken.freeEarly) await this.#free(cp, covers)
    if (this.#stopped) return
    this.#lastCpSeq = covers
    this.#stamp.rootCp = oldestCp(this.store.roots())
    this.#env.metrics.observe('tandem_cp_seconds', (this.#env.clock.now() - started) / 1000)
    this.#env.metrics.add('tandem_cp_total')
  }

  async #free(cp: StoreCp, covers: number): Promise<void> {
    await cp.complete()
    this.log.release(covers)
  }

  /**
   * Fills the partner: every block in use, then one CP to both, from whose freeze on the batches go to both logs too. Then both copies are
   * equal up to what the logs hold, and `confirm` has the partner say so. Resolves with its answer.
   */
  async resync(
    partnership: Partnership,
    onProgress: (percent: number) => void,
    confirm: () => Promise<boolean>,
  ): Promise<boolean> {
    this.partnership = partnership
    const problem = await this.store.attachPartner(
      (name, blocks) => partnership.device(name, blocks),
      'Resyncing',
    )
    if (problem !== undefined) throw new Error(problem)
    await this.store.resync(onProgress)
    const joined = await new Promise<boolean>((done) => {
      this.#join = { partnership, confirm, done }
      this.wantCp()
    })
    return joined && !partnership.dissolved && !this.#stopped
  }

  /** Hello found both copies equal: from the next batch on everything goes to both. Gives the reason if the partner's devices cannot be attached. */
  async mirrorFromStart(
    partnership: Partnership,
    partnerLastSeq: number,
    sendMissing: () => Promise<void>,
  ): Promise<string | undefined> {
    assert(this.log.lastSeq === this.log.durable, 'hello while a batch is under way')
    assert(!this.#begun, 'the partner is attached before anything runs')
    this.partnership = partnership
    const problem = await this.store.attachPartner(
      (name, blocks) => partnership.device(name, blocks),
      'Current',
    )
    if (problem !== undefined || partnership.dissolved) return problem
    this.log.attachMirror(partnership)
    if (partnerLastSeq < this.log.lastSeq) this.log.sendBacklog(partnerLastSeq, sendMissing)
    return undefined
  }

  /** ALONE is recorded, or a resync was given up. */
  dropPartner(): void {
    const { partnership } = this
    if (!partnership) return
    this.partnership = undefined
    this.log.detachMirror()
    partnership.dissolve()
    // A consistency point that is under way goes on with the own plex.
    this.store.detachPartner()
    this.check()
  }
}
