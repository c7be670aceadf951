/**
 * A mirror at its source: what calls on the volume wait for, what is sent to the destination, and whether the two are in sync. No I/O: `SourceHost` sends, records, pins and reads.
 *
 *   Baseline / OutOfSync --images--> CatchUp --freeze j-1--> Joining: operations of epoch j on are sent, answers do not wait
 *     --image j-1 durable there, recorded there, then here--> InSync: answers wait for the destination
 *   InSync --limit passed--> OutOfSync, which is recorded before any answer leaves without the destination
 *   InSync --asked to reverse--> Reversing: no call starts, all is acknowledged, the destination is told to be the source; then nothing is answered here any more
 *
 * - Records are kept until the destination has acknowledged them (kept-records.ts). After a takeover they come from the log (`replayed`), so a sync survives it.
 * - An image goes only after its root is durable on every copy of the source (a pin is seen only then), one at a time, always the newest.
 * - A strict source acknowledges nothing that it alone would have: clients are told to try later (`TryLater`).
 * - Nothing here is ever waited for by a consistency point (docs/mirroring.md).
 */
import { TryLater } from '../fs/journal.ts'
import type { MaybePromise } from '../std/maybe.ts'
import { waiting } from '../std/ranks.ts'
import { NotServedError } from '../vfs/vfs.ts'
import { admission } from './decisions.ts'
import { ImageSender } from './image-sender.ts'
import { KeptRecords } from './kept-records.ts'
import type { Body, Refusal, ToDestination, ToSource } from './messages.ts'
import { MIRROR_VERSION } from './messages.ts'
import type { SourceRecord } from './records.ts'
import type { SourceHost, SourceLimits } from './source-host.ts'
import { SOURCE_LIMITS } from './source-host.ts'
import { reasonShown, REFUSALS, stateShown } from './source-shown.ts'
import type { SourceFactsShown } from './source-shown.ts'
import type { MirrorReason, MirrorStatus } from './status.ts'
import { Tally } from './tally.ts'

export class MirrorSource {
  readonly id: string
  readonly tally: Tally
  /** `Mirrored` as long as the destination is wanted to be one. */
  wanted: 'Mirrored' | 'Broken' = 'Mirrored'
  /** The two ends are to change places. */
  reversing = false
  sentBytes = 0
  readonly #host: SourceHost
  readonly #limits: SourceLimits
  #logFilesMax: number
  #record: SourceRecord
  #session = 0
  /** The destination has answered the session's `resume`. */
  #up = false
  #downSince: number
  readonly #kept: KeptRecords
  readonly #images: ImageSender
  /** Last record of the side when it was opened here; nothing beyond it existed. */
  readonly #openedAt: () => number
  #epoch: number
  #epochBytes = 0
  /** Operations of epochs behind this freeze are sent; undefined: none are. */
  #joinImage: number | undefined
  /** Answers wait for the destination. */
  #bound: boolean
  /** Opened in sync, and the destination has not said yet what it has: it may lack what an owner before put into an image, and did not answer. */
  #unsure: boolean
  #leaving = false
  /** It was told to be the source: nothing is answered here until it says that it is not. */
  #handed = false
  /** The record says Reversing, on both filers: so does the log have what was done before. */
  #mayHandOver: boolean
  /** The other end was told to be the source, or an owner before this one may have told it. */
  #perhapsTold: boolean
  /** How often the ends began to change places. */
  #turns = 0
  /** Up to here the destination has everything. */
  #confirmed: number
  #changedSincePin = true
  #waiters: (() => void)[] = []
  #waitingSince: number | undefined
  #flushing = false
  #reason: MirrorReason = ''
  #message = ''
  #closed = false
  #timer: { cancel(): void } | undefined

  /** `openedAt`: last record of the side when it was opened; `epoch`: what is done now belongs to. */
  constructor(
    host: SourceHost,
    record: SourceRecord,
    at: { readonly openedAt: () => number; readonly epoch: number },
    limits: Partial<SourceLimits> = {},
  ) {
    this.#host = host
    this.#limits = { ...SOURCE_LIMITS, ...limits }
    this.#logFilesMax = this.#limits.logFiles
    this.id = record.id
    this.#record = record
    this.tally = new Tally(record)
    this.#confirmed = 0
    this.#openedAt = at.openedAt
    this.#epoch = at.epoch
    this.#downSince = 0
    this.#kept = new KeptRecords(host.crc32)
    this.#images = new ImageSender(host, this.#limits.blocks)
    this.#bound = record.state === 'InSync' || record.state === 'Reversing'
    this.#unsure = this.#bound
    this.reversing = record.state === 'Reversing'
    this.#mayHandOver = this.reversing
    this.#perhapsTold = this.reversing
    if (this.#bound) {
      this.#joinImage = 0
      this.#kept.started = true
    }
  }

  /** The side is served: what waits for the destination is watched from now on. */
  start(): void {
    this.#downSince = this.#host.now()
    this.#tick()
  }

  /** As the operator wants it. */
  want(strict: boolean, logFilesMax: number | undefined): void {
    this.#logFilesMax = logFilesMax ?? this.#limits.logFiles
    if (strict === this.#record.strict) return
    this.#record = { ...this.#record, strict }
    void this.#host.record({ strict })
    this.#moved()
  }

  status(): Omit<MirrorStatus, 'volumeId'> {
    const facts = this.#facts
    const [reason, message] = reasonShown(facts)
    const pin = this.#host.pins().find(({ image }) => image === this.#images.complete)
    const { bytes } = this.tally
    const behind = this.inSync ? 0 : bytes - (pin?.bytes ?? 0)
    return {
      id: this.id,
      role: 'Source',
      state: stateShown(facts),
      reason,
      message,
      connected: this.#up,
      generation: this.#record.generation,
      lagSeconds: pin === undefined || behind === 0 ? 0 : Math.max(0, this.#host.seconds() - pin.seconds),
      lagBytes: behind,
      ...(this.#images.complete === 0 ? { baselinePercent: this.#images.percent } : {}),
      logFiles: this.#kept.epochs.length,
      logFilesMax: this.#logFilesMax,
      unacknowledged: this.#kept.count,
      durableImage: this.#images.durable,
      sentBytes: this.sentBytes,
    }
  }

  get #facts(): SourceFactsShown {
    return {
      state: this.#record.state,
      up: this.#up,
      bound: this.#bound,
      leaving: this.#leaving,
      joining: this.#joinImage !== undefined,
      complete: this.#images.complete,
      reversing: this.reversing,
      said: [this.#reason, this.#message],
    }
  }

  get inSync(): boolean {
    return this.#bound && !this.#leaving && this.#up
  }
  get epoch(): number {
    return this.#epoch
  }
  /** Operations of epochs behind this image are sent; undefined: none are. */
  get joinImage(): number | undefined {
    return this.#joinImage
  }
  get record(): SourceRecord {
    return this.#record
  }

  // What calls on the volume ask.

  /** Before a call starts; it holds nothing yet. Rejects with TryLater when it cannot be carried out here now. */
  admit(): MaybePromise<void> {
    return this.#refusal() === undefined ? undefined : this.#admitLater()
  }

  async #admitLater(): Promise<void> {
    for (let refusal = this.#refusal(); refusal !== undefined && !this.#closed; refusal = this.#refusal()) {
      if (refusal === 'LATER') throw new TryLater()
      this.#waitingSince ??= this.#host.now()
      if (refusal === 'LOG_FILE') this.#tell({ type: 'flush' })
      if (refusal === 'IMAGE') this.#host.wantCp()
      await waiting('call', 'source', new Promise<void>((resolve) => this.#waiters.push(resolve)))
    }
    this.#waitingSince = undefined
  }

  /** A strict source, once it was in sync, takes no changes without the destination. */
  get #refusesAlone(): boolean {
    const { strict, state } = this.#record
    return strict && state !== 'Baseline' && state !== 'Broken' && (!this.#bound || this.#leaving)
  }

  #refusal(): 'CREDIT' | 'LOG_FILE' | 'IMAGE' | 'LATER' | undefined {
    if (this.#closed) return undefined
    if (this.#record.state === 'Reversing' || this.#refusesAlone) return 'LATER'
    if (this.#joinImage === undefined) return undefined
    const { epochs } = this.#kept
    const open = epochs.at(-1) === this.#epoch
    return admission(
      {
        epochsBeyondDurable: epochs.length + (open ? 0 : 1),
        epochsIncomplete: epochs.filter((epoch) => epoch < this.#epoch && epoch > this.#images.complete)
          .length,
        hasCredit: this.#kept.bytes < this.#limits.creditBytes,
      },
      { logFiles: this.#logFilesMax, incompleteEpochs: this.#limits.incompleteEpochs },
    )
  }

  /** A record of the volume was appended to the own log. */
  appended(seq: number, body: readonly Uint8Array[]): void {
    const previous = this.tally.last
    let bytes = 0
    for (const chunk of body) bytes += chunk.length
    this.tally.add(seq, bytes)
    this.#changedSincePin = true
    if (this.#joinImage === undefined || this.#closed) return
    const copy = new Uint8Array(bytes)
    let at = 0
    for (const chunk of body) {
      copy.set(chunk, at)
      at += chunk.length
    }
    this.#keep(seq, previous, copy)
    this.#flushSoon()
    this.#epochBytes += bytes
    if (this.#epochBytes > this.#limits.epochBytes) {
      this.#epochBytes = 0
      this.#host.wantCp()
    }
  }

  /** A record beyond the image, found in the log when the side was opened. */
  replayed(seq: number, body: Uint8Array): void {
    const previous = this.tally.last
    if (!this.tally.add(seq, body.length)) return
    this.#changedSincePin = true
    if (this.#joinImage !== undefined) this.#keep(seq, previous, body)
  }

  /** The files became those of a snapshot, by record `seq` of the side: only an image tells the destination. */
  restored(seq: number): void {
    this.tally.add(seq, 0)
    this.#changedSincePin = true
    this.#leave('CatchingUp', 'the volume was restored from a snapshot')
  }

  #keep(seq: number, previous: number, body: Uint8Array): void {
    this.#kept.keep({ seq, previous, body, epoch: this.#epoch, at: this.#host.now() })
  }

  /**
   * What shows the change `seq` may be answered; later, when the destination has it. Rejects with NotServedError when the other end is the source. What a strict source changed and could not
   * acknowledge is answered when it is in sync again: nobody is told that it was not done.
   */
  answer(seq: number): MaybePromise<void> {
    return this.#answerable(seq) === 'YES' ? undefined : this.#answerLater(seq)
  }

  #answerable(seq: number): 'YES' | 'WAIT' | 'ELSEWHERE' {
    if (this.#handed) return 'ELSEWHERE'
    if (this.#host.broken.answerAlone === true) return 'YES'
    if (this.#refusesAlone && !this.#leaving) return seq > this.#confirmed ? 'WAIT' : 'YES'
    if (!this.#bound) return 'YES'
    if (this.#unsure) return 'WAIT'
    // What replay found in the log may be seen by anybody, and no one knows in which answers: until the destination has all of it nothing is shown.
    const { first } = this.#kept
    return first === undefined || first.seq > Math.max(seq, this.#openedAt()) ? 'YES' : 'WAIT'
  }

  async #answerLater(seq: number): Promise<void> {
    for (let may = this.#answerable(seq); may !== 'YES'; may = this.#answerable(seq)) {
      if (may === 'ELSEWHERE') throw new NotServedError()
      await waiting('call', 'destination', new Promise<void>((resolve) => this.#waiters.push(resolve)))
      // What was done before the other end took over is all there: sent on, a client would do it once more.
      if (this.#handed) return
    }
  }

  // Consistency points.

  /** At a freeze, synchronously: true if its image is to be pinned. */
  freezing(image: number): boolean {
    this.#epoch = image + 1
    this.#epochBytes = 0
    if (!this.#up || this.#record.state === 'Broken') return false
    if (this.#joinImage === undefined && this.#images.complete > 0) {
      this.#joinImage = image
      this.#kept.started = false
      this.#changedSincePin = false
      return true
    }
    // A volume that nobody writes needs its first image too.
    const wanted = this.#changedSincePin || this.#host.pins().length === 0
    this.#changedSincePin = false
    return wanted
  }

  /** A consistency point is complete on every copy: its pins are durable. */
  committed(): void {
    if (!this.#up) return
    this.#images.next()
    this.#images.prune()
  }

  // The connection.

  get connected(): boolean {
    return this.#up
  }

  /** There may be a way to the destination: greets it. Asked again until it has answered. */
  greet(): void {
    if (this.#closed || this.wanted === 'Broken') return
    this.disconnected()
    this.#session = this.#host.newSession()
    const { generation, has } = this.#record
    this.#host.send({
      type: 'resume',
      version: MIRROR_VERSION,
      mirror: this.id,
      session: this.#session,
      generation,
      fence: this.#host.fence(),
      opening: this.#host.opening,
      last: this.#openedAt(),
      images: this.#host.pins().map((pin) => [pin.image, pin.generation] as const),
      has,
    })
  }

  disconnected(): void {
    if (this.#up) {
      this.#downSince = this.#host.now()
      this.#say('LinkLost', 'the connection to the destination was lost')
    }
    this.#session = 0
    this.#up = false
    this.#images.stop()
    if (!this.#bound && this.#joinImage !== undefined) this.#stopJoining()
  }

  message(head: ToSource): void {
    if (this.#closed || this.#session === 0 || head.session !== this.#session) return
    switch (head.type) {
      case 'resumed':
        return this.#resumed(head)
      case 'refused':
        return this.#refused(head.reason, head.generation)
      case 'acknowledged':
        return this.#acknowledged(head.last)
      case 'taken':
        return this.#images.taken(head.blocks)
      case 'complete':
        this.#images.completed(head.image)
        this.#confirm()
        if (this.#joinImage === undefined) this.#host.wantCp()
        this.#moved()
        return this.#images.next()
      case 'frozen':
        this.#images.frozen = head.image
        return
      case 'durable':
        this.#images.durable = Math.max(this.#images.durable, head.image)
        this.#kept.durable(head.image)
        this.#images.prune()
        this.#moved()
        return this.#askToJoin()
      case 'joined':
        return this.#joined()
      case 'failed':
        this.#leave('LogFilesExhausted', `the destination cannot keep up: ${head.reason}`)
        return this.disconnected()
      case 'elsewhere':
        return this.disconnected()
      case 'willing':
        if (head.yes && this.reversing) this.#handOver()
        // It was told to be the source and is not: this end goes on, and asks again.
        if (head.reverse === true && this.#handed) {
          this.#handed = false
          void this.#takeBack()
        }
        return
      case 'reversed':
        this.#handed = true
        return this.disconnected()
    }
  }

  #resumed({ last, image, of, durable, frozen }: ToSource & { type: 'resumed' }): void {
    if (image !== 0 && !this.#host.pins().some((pin) => pin.image === image && pin.generation === of)) {
      const [reason, message] = REFUSALS.NoImage
      this.#say(reason, message)
      if (this.#bound) this.#leave(reason, message)
      return
    }
    this.#up = true
    this.#say('', '')
    this.#images.resumed(image, durable, frozen)
    this.#confirm()
    this.#kept.durable(durable)
    this.#host.log('mirror resumed', { mirror: this.id, image, durable, last })
    if (this.#handed || (this.#record.state === 'Reversing' && !this.reversing)) void this.#stay()
    else if (this.#record.state === 'Broken') void this.#change({ state: 'OutOfSync' })
    if (this.#joinImage !== undefined) {
      this.#acknowledged(last)
      const { first } = this.#kept
      const gap = first === undefined ? this.tally.last > last : first.previous > last
      if (gap)
        return this.#leave('NotInSync', 'the destination lacks records that are not kept here any more')
      this.#unsure = false
      this.#kept.resend(last, this.#host.broken.noResend)
      this.#flush()
    } else this.#host.wantCp()
    this.#moved()
    this.#images.next()
  }

  #refused(refusal: Refusal, generation: number): void {
    const [reason, message] = REFUSALS[refusal] ?? REFUSALS.Version
    this.#say(reason, message)
    this.#up = false
    this.#session = 0
    if (refusal === 'Generation') {
      // The destination is willing: from here on what is sent must be known from what was sent before.
      const base = this.#host.pins().at(-1)?.image ?? 0
      void this.#change({ generation: generation + 1, base })
    } else if (refusal === 'Broken') this.#broken()
    else if (refusal === 'Source' && this.#record.state === 'Reversing') this.#handed = true
  }

  #acknowledged(last: number): void {
    this.#kept.acknowledged(last)
    this.#confirmed = Math.max(this.#confirmed, last)
    this.#moved()
    if (this.#record.state === 'Reversing') this.#sendReverse()
  }

  /** What the newest complete image covers needs no acknowledgement. */
  #confirm(): void {
    const pin = this.#host.pins().find(({ image }) => image === this.#images.complete)
    this.#confirmed = Math.max(this.#confirmed, pin?.covers ?? 0)
  }

  #askToJoin(): void {
    if (!this.#up || this.#bound || this.#joinImage === undefined) return
    if (this.#images.durable < this.#joinImage && this.#host.broken.joinEarly !== true) return
    this.#tell({ type: 'join', image: this.#joinImage })
  }

  #joined(): void {
    if (this.#bound || this.#joinImage === undefined) return
    // From here on answers wait, so that none goes out alone once the record says InSync.
    this.#bound = true
    this.#unsure = false
    const session = this.#session
    void this.#host.record({ state: 'InSync' }).then(() => {
      if (session !== this.#session || this.#leaving || !this.#bound) return
      this.#record = { ...this.#record, state: 'InSync' }
      this.#host.log('mirror in sync', { mirror: this.id })
    })
  }

  async #change(change: Partial<Pick<SourceRecord, 'state' | 'generation' | 'base'>>): Promise<void> {
    this.#record = { ...this.#record, ...change }
    await this.#host.record(change)
  }

  #say(reason: MirrorReason, message: string): void {
    this.#reason = reason
    this.#message = message
  }

  /** Out of sync: recorded on both filers before any answer goes out without the destination; with the other mirrors to that pair. */
  #leave(reason: MirrorReason, message: string): void {
    if (!this.#bound) {
      this.#say(reason, message)
      return this.#stopJoining()
    }
    void this.leave(reason, message)
  }

  async leave(reason: MirrorReason, message: string): Promise<void> {
    if (this.#record.state === 'Reversing') {
      // Who may have been told to be the source must be asked first: it may be one, and have clients.
      if (this.#perhapsTold) return
      await this.#takeBack()
    }
    if (!this.#bound || this.#leaving) return
    this.#say(reason, message)
    this.#leaving = true
    this.#host.log('mirror leaves sync', { mirror: this.id, reason: message })
    await Promise.all([this.#host.record({ state: 'OutOfSync' }), this.#host.leaving(reason, message)])
    this.#record = { ...this.#record, state: 'OutOfSync' }
    this.#leaving = false
    this.#bound = false
    this.#stopJoining()
    // What the destination had of the operations is of no use for what follows: it is greeted anew.
    this.disconnected()
    this.#say(reason, message)
  }

  #stopJoining(): void {
    this.#joinImage = undefined
    this.#kept.clear()
    this.#moved()
  }

  #broken(): void {
    if (this.#record.state === 'Broken') return
    void this.#host.record({ state: 'Broken' }).then(() => {
      this.#record = { ...this.#record, state: 'Broken' }
      this.#bound = false
      // It may have been about to hand over: both ends are volumes of their own now.
      this.#handed = false
      this.#stopJoining()
      this.#host.serve(true)
    })
  }

  /** The destination is to be a volume of its own, or is one: nothing is sent, and nothing waits for it. */
  break(): void {
    this.wanted = 'Broken'
    this.disconnected()
    this.#say('Broken', 'the mirror is broken, as it is wanted to be')
    this.#broken()
  }

  // Reversing.

  /** The destination would be the source: no call starts here any more, and what was begun is sent. */
  #handOver(): void {
    if (this.#record.state !== 'InSync' || !this.inSync) return
    this.#record = { ...this.#record, state: 'Reversing' }
    this.#host.serve(false)
    this.#host.log('mirror is being reversed', { mirror: this.id })
    const turn = ++this.#turns
    void this.#host.record({ state: 'Reversing' }).then(() => {
      if (turn !== this.#turns) return
      this.#mayHandOver = true
      this.#sendReverse()
    })
    this.#moved()
  }

  #sendReverse(): void {
    if (!this.#up || !this.reversing || !this.#mayHandOver || this.#kept.count > 0) return
    this.#handed = true
    this.#perhapsTold = true
    this.#tell({ type: 'reverse', last: this.tally.last })
    this.#moved()
  }

  /** The destination still is one: asked again if that is wanted, else this end goes on as the source. */
  async #stay(): Promise<void> {
    this.#handed = false
    if (this.reversing) return this.#sendReverse()
    await this.#takeBack()
  }

  /** The other end is no source: this one goes on. */
  async #takeBack(): Promise<void> {
    this.#turns += 1
    this.#mayHandOver = false
    this.#perhapsTold = false
    await this.#change({ state: 'InSync' })
    this.#host.serve(true)
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
    this.#images.stop()
    this.#moved()
  }

  // Sending.

  #tell(head: Body<ToDestination>, body?: Uint8Array): void {
    if (!this.#up) return
    this.sentBytes += body?.length ?? 0
    this.#host.send({ ...head, mirror: this.id, session: this.#session }, body)
  }

  /** Behind the turn in which records are appended, so that they go together. */
  #flushSoon(): void {
    if (this.#flushing || !this.#up) return
    this.#flushing = true
    void Promise.resolve().then(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    if (!this.#up || this.#joinImage === undefined || this.#leaving) return
    for (const { start, frame } of this.#kept.frames()) this.#tell({ type: 'operations', start }, frame)
  }

  /** For the host's `stream`: to the destination in this session. */
  tell(head: Body<ToDestination>, body?: Uint8Array): void {
    this.#tell(head, body)
  }

  /** What waiters look at may have changed. */
  #moved(): void {
    for (const resolve of this.#waiters.splice(0)) resolve()
  }

  /** L3: what waits for the destination, on the own clock. */
  #tick(): void {
    if (this.#closed) return
    const { patienceMs } = this.#limits
    const now = this.#host.now()
    const since = Math.min(
      this.#waitingSince ?? Infinity,
      this.#kept.first?.at ?? Infinity,
      this.#up ? Infinity : this.#downSince,
    )
    if (now - since > patienceMs) {
      const [reason, message] = this.#up
        ? (['DestinationDown', 'the destination did not answer in time'] as const)
        : (['LinkLost', 'the destination is not reached'] as const)
      if (this.#bound && now - this.#downSince > patienceMs) this.#leave(reason, message)
      else if (!this.#bound && this.#joinImage !== undefined) this.#leave(reason, message)
    }
    this.#askToJoin()
    if (this.reversing && this.inSync && this.#record.state === 'InSync') this.#tell({ type: 'reversible' })
    this.#timer = this.#host.after(patienceMs / 10, () => this.#tick())
  }
}
