/**
 * A mirror at its source: what calls on the volume wait for, what is sent to the destination, and whether the two are in sync. No I/O: `SourceHost` sends, records, pins and reads.
 *
 *   Baseline / OutOfSync --images--> CatchUp --freeze j-1--> Joining: operations of epoch j on are sent, answers do not wait
 *     --image j-1 durable there, recorded there, then here--> InSync: answers wait for the destination
 *   InSync --limit passed--> OutOfSync, which is recorded before any answer leaves without the destination
 *
 * - Records are kept until the destination has acknowledged them. After a takeover they come from the log (`replayed`), so a sync survives it.
 * - An image goes only after its root is durable on every copy of the source (a pin is seen only then), one at a time, always the newest.
 * - Nothing here is ever waited for by a consistency point (docs/mirroring.md).
 */
import type { MaybePromise } from '../std/maybe.ts'
import { waiting } from '../std/ranks.ts'
import { admission, imageToSend } from './decisions.ts'
import { encodeFrame } from './frames.ts'
import type { MirrorRecord } from './frames.ts'
import type { ToDestination, ToSource } from './messages.ts'
import { SOURCE_LIMITS } from './source-host.ts'
import type {
  Body,
  SourceHost,
  SourceLimits,
  SourceRecord,
  SourceState,
  SourceStatus,
} from './source-host.ts'

const FRAME_BYTES = 256 << 10

interface Kept extends MirrorRecord {
  readonly epoch: number
  readonly previous: number
  readonly at: number
  sent: boolean
}

export class MirrorSource {
  readonly id: string
  readonly #host: SourceHost
  readonly #limits: SourceLimits
  #state: SourceState
  #generation: number
  #session = 0
  /** The destination has answered the session's `resume`. */
  #up = false
  #downSince: number
  #kept: Kept[] = []
  #keptBytes = 0
  /** Last record of the volume. */
  #last: number
  /** Last record of the side when it was opened here; nothing beyond it existed. */
  #openedAt: () => number
  #epoch: number
  #epochBytes = 0
  /** Epochs with calls that the destination's durable image does not hold. */
  #epochs: number[] = []
  #complete = 0
  #durable = 0
  #inFlight: { from: number; to: number } | undefined
  #streams = 0
  #blocksOut = 0
  #roomWaiters: (() => void)[] = []
  /** Operations of epochs behind this freeze are sent; undefined: none are. */
  #joinImage: number | undefined
  #started = false
  /** Answers wait for the destination. */
  #bound: boolean
  #leaving = false
  #changedSincePin = true
  #waiters: (() => void)[] = []
  #waitingSince: number | undefined
  #flushing = false
  #reason = ''
  #closed = false
  #timer: { cancel(): void } | undefined

  /** `last`: last record of the volume in its image; `epoch`: what is done now belongs to. */
  constructor(
    host: SourceHost,
    record: SourceRecord,
    at: { readonly last: number; readonly openedAt: () => number; readonly epoch: number },
    limits: Partial<SourceLimits> = {},
  ) {
    this.#host = host
    this.#limits = { ...SOURCE_LIMITS, ...limits }
    this.id = record.id
    this.#state = record.state
    this.#generation = record.generation
    this.#last = at.last
    this.#openedAt = at.openedAt
    this.#epoch = at.epoch
    this.#downSince = 0
    this.#bound = record.state === 'InSync'
    if (this.#bound) {
      this.#joinImage = 0
      this.#started = true
    }
  }

  /** The side is served: what waits for the destination is watched from now on. */
  start(): void {
    this.#downSince = this.#host.now()
    this.#tick()
  }

  status(): SourceStatus {
    const joining = this.#joinImage === undefined ? 'CatchUp' : 'Joining'
    const state = this.#leaving
      ? 'OutOfSync'
      : this.#bound || this.#state === 'Broken' || !this.#up
        ? this.#state
        : joining
    return {
      state: this.#state === 'Baseline' && this.#up && this.#complete === 0 ? 'Baseline' : state,
      reason: this.#reason,
      connected: this.#up,
      logFiles: this.#epochs.length,
      logFilesMax: this.#limits.logFiles,
      unacknowledged: this.#kept.length,
      durableImage: this.#durable,
    }
  }

  get inSync(): boolean {
    return this.#bound && !this.#leaving && this.#up
  }
  get epoch(): number {
    return this.#epoch
  }

  // What calls on the volume ask.

  /** Before a call starts; it holds nothing yet. */
  admit(): MaybePromise<void> {
    return this.#refusal() === undefined ? undefined : this.#admitLater()
  }

  async #admitLater(): Promise<void> {
    for (let refusal = this.#refusal(); refusal !== undefined && !this.#closed; refusal = this.#refusal()) {
      this.#waitingSince ??= this.#host.now()
      if (refusal === 'LOG_FILE') this.#tell({ type: 'flush' })
      if (refusal === 'IMAGE') this.#host.wantCp()
      await waiting('call', 'source', new Promise<void>((resolve) => this.#waiters.push(resolve)))
    }
    this.#waitingSince = undefined
  }

  #refusal(): 'CREDIT' | 'LOG_FILE' | 'IMAGE' | undefined {
    if (this.#joinImage === undefined || this.#closed) return undefined
    const open = this.#epochs.at(-1) === this.#epoch
    return admission(
      {
        epochsBeyondDurable: this.#epochs.length + (open ? 0 : 1),
        epochsIncomplete: this.#epochs.filter((epoch) => epoch < this.#epoch && epoch > this.#complete)
          .length,
        hasCredit: this.#keptBytes < this.#limits.creditBytes,
      },
      this.#limits,
    )
  }

  /** A record of the volume was appended to the own log. */
  appended(seq: number, body: readonly Uint8Array[]): void {
    const previous = this.#last
    this.#last = seq
    this.#changedSincePin = true
    if (this.#joinImage === undefined || this.#closed) return
    let bytes = 0
    for (const chunk of body) bytes += chunk.length
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
    const previous = this.#last
    this.#last = seq
    this.#changedSincePin = true
    if (this.#joinImage !== undefined) this.#keep(seq, previous, body)
  }

  #keep(seq: number, previous: number, body: Uint8Array): void {
    if (this.#epochs.at(-1) !== this.#epoch) this.#epochs.push(this.#epoch)
    this.#kept.push({ seq, previous, body, epoch: this.#epoch, at: this.#host.now(), sent: false })
    this.#keptBytes += body.length
  }

  /** What shows the change `seq` may be answered; later, when the destination has it. */
  answer(seq: number): MaybePromise<void> {
    return this.#answerable(seq) ? undefined : this.#answerLater(seq)
  }

  #answerable(seq: number): boolean {
    if (!this.#bound || this.#host.broken.answerAlone === true) return true
    const first = this.#kept[0]
    return first === undefined || first.seq > seq
  }

  async #answerLater(seq: number): Promise<void> {
    while (!this.#answerable(seq)) {
      await waiting('call', 'destination', new Promise<void>((resolve) => this.#waiters.push(resolve)))
    }
  }

  // Consistency points.

  /** At a freeze, synchronously: true if its image is to be pinned. */
  freezing(image: number): boolean {
    this.#epoch = image + 1
    this.#epochBytes = 0
    if (!this.#up || this.#state === 'Broken') return false
    if (this.#joinImage === undefined && this.#complete > 0) {
      this.#joinImage = image
      this.#started = false
      this.#changedSincePin = false
      return true
    }
    const wanted = this.#changedSincePin
    this.#changedSincePin = false
    return wanted
  }

  /** Of the volume, in the image of this freeze. */
  get last(): number {
    return this.#last
  }

  /** A consistency point is complete on every copy: its pins are durable. */
  committed(): void {
    this.#startStream()
    this.#prune()
  }

  // The connection.

  /** There may be a way to the destination: greets it. Asked again until it has answered. */
  greet(): void {
    if (this.#closed || this.#state === 'Broken') return
    this.disconnected()
    this.#session = this.#host.newSession()
    this.#host.send({
      type: 'resume',
      mirror: this.id,
      session: this.#session,
      generation: this.#generation,
      fence: this.#host.fence(),
      opening: this.#host.opening,
      last: this.#openedAt(),
    })
  }

  get connected(): boolean {
    return this.#up
  }

  disconnected(): void {
    if (this.#up) this.#downSince = this.#host.now()
    this.#session = 0
    this.#up = false
    this.#streams += 1
    this.#inFlight = undefined
    for (const resolve of this.#roomWaiters.splice(0)) resolve()
    if (!this.#bound && this.#joinImage !== undefined) this.#stopJoining('the connection was lost')
  }

  message(head: ToSource): void {
    if (this.#closed || this.#session === 0 || head.session !== this.#session) return
    switch (head.type) {
      case 'resumed':
        return this.#resumed(head)
      case 'refused':
        this.#reason = `the destination refuses: ${head.reason}`
        if (head.reason === 'Broken' || head.reason === 'Generation') this.#broken()
        return
      case 'acknowledged':
        return this.#acknowledged(head.last)
      case 'taken':
        this.#blocksOut -= head.blocks
        for (const resolve of this.#roomWaiters.splice(0)) resolve()
        return
      case 'complete':
        this.#complete = Math.max(this.#complete, head.image)
        this.#inFlight = undefined
        if (this.#joinImage === undefined) this.#host.wantCp()
        this.#moved()
        return this.#startStream()
      case 'durable':
        return this.#durableThere(head.image)
      case 'joined':
        return this.#joined()
      case 'failed':
        this.#leave(`the destination cannot keep up: ${head.reason}`)
        return this.disconnected()
      case 'elsewhere':
        return this.disconnected()
    }
  }

  #resumed({ last, image, durable }: { last: number; image: number; durable: number }): void {
    const pinned = image === 0 || this.#host.pins().some((pin) => pin.image === image)
    if (!pinned) {
      this.#reason = `the destination has image ${image}, which is not here any more: it needs a new baseline`
      if (this.#bound) this.#leave(this.#reason)
      return
    }
    this.#up = true
    this.#reason = ''
    this.#complete = image
    this.#durable = durable
    this.#blocksOut = 0
    this.#inFlight = undefined
    this.#epochs = this.#epochs.filter((epoch) => epoch > durable)
    this.#host.log('mirror resumed', { mirror: this.id, image, durable, last })
    if (this.#joinImage !== undefined) {
      this.#acknowledged(last)
      const first = this.#kept[0]
      const gap = first === undefined ? this.#last > last : first.previous > last
      if (gap) return this.#leave('the destination lacks records that are not kept here any more')
      for (const kept of this.#kept) kept.sent = false
      this.#resendFrom = last
      this.#flush()
    } else this.#host.wantCp()
    this.#moved()
    this.#startStream()
  }

  /** The next frame is chained to this record, whatever was before it here. */
  #resendFrom: number | undefined

  #acknowledged(last: number): void {
    let count = 0
    for (const kept of this.#kept) {
      if (kept.seq > last) break
      this.#keptBytes -= kept.body.length
      count += 1
    }
    this.#kept.splice(0, count)
    this.#moved()
  }

  #durableThere(image: number): void {
    this.#durable = Math.max(this.#durable, image)
    this.#epochs = this.#epochs.filter((epoch) => epoch > image)
    this.#prune()
    this.#moved()
    this.#askToJoin()
  }

  #askToJoin(): void {
    if (this.#bound || this.#joinImage === undefined || this.#durable < this.#joinImage) return
    this.#tell({ type: 'join', image: this.#joinImage })
  }

  #joined(): void {
    if (this.#bound || this.#joinImage === undefined) return
    // From here on answers wait, so that none goes out alone once the record says InSync.
    this.#bound = true
    const session = this.#session
    void this.#host.record('InSync').then(() => {
      if (session !== this.#session || this.#leaving || !this.#bound) return
      this.#state = 'InSync'
      this.#host.log('mirror in sync', { mirror: this.id })
    })
  }

  /** Out of sync: recorded on both filers before any answer goes out without the destination. */
  #leave(reason: string): void {
    this.#reason = reason
    if (!this.#bound) return this.#stopJoining(reason)
    if (this.#leaving) return
    this.#leaving = true
    this.#host.log('mirror leaves sync', { mirror: this.id, reason })
    void this.#host.record('OutOfSync').then(() => {
      this.#state = 'OutOfSync'
      this.#leaving = false
      this.#bound = false
      this.#stopJoining(reason)
      // What the destination had of the operations is of no use for what follows: it is greeted anew.
      this.disconnected()
    })
  }

  #stopJoining(reason: string): void {
    this.#reason = reason
    this.#joinImage = undefined
    this.#started = false
    this.#kept = []
    this.#keptBytes = 0
    this.#epochs = []
    this.#moved()
  }

  #broken(): void {
    this.#up = false
    if (this.#state === 'Broken') return
    void this.#host.record('Broken').then(() => {
      this.#state = 'Broken'
      this.#bound = false
      this.#stopJoining('the mirror was broken')
    })
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
    this.#streams += 1
    for (const resolve of this.#roomWaiters.splice(0)) resolve()
    this.#moved()
  }

  // Sending.

  #tell(head: Body<ToDestination>, body?: Uint8Array): void {
    if (this.#up) this.#host.send({ ...head, mirror: this.id, session: this.#session }, body)
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
    if (!this.#up || this.#joinImage === undefined) return
    let from = this.#kept.findIndex((kept) => !kept.sent)
    while (from >= 0 && from < this.#kept.length) {
      const { epoch, previous } = this.#kept[from]!
      let to = from
      let bytes = 0
      while (
        to < this.#kept.length &&
        this.#kept[to]!.epoch === epoch &&
        (to === from || bytes < FRAME_BYTES)
      ) {
        bytes += this.#kept[to]!.body.length
        to += 1
      }
      const records = this.#kept.slice(from, to)
      for (const kept of records) kept.sent = true
      const frame = { epoch, previous: this.#resendFrom ?? previous, last: records.at(-1)!.seq, records }
      this.#resendFrom = undefined
      this.#tell({ type: 'operations', start: !this.#started }, encodeFrame(this.#host.crc32, frame))
      this.#started = true
      from = to
    }
  }

  #startStream(): void {
    if (!this.#up || this.#closed) return
    const pins = this.#host.pins()
    const newest = pins.at(-1)
    const image = imageToSend(newest?.image ?? 0, this.#complete, this.#inFlight?.to ?? 0)
    if (newest === undefined || image === 0) return
    const from = pins.find((pin) => pin.image === this.#complete)
    if (from === undefined && this.#complete !== 0) return
    this.#inFlight = { from: this.#complete, to: image }
    const stream = ++this.#streams
    const current = (): boolean => this.#streams === stream && !this.#closed
    const room = async (blocks: number): Promise<boolean> => {
      while (current() && this.#blocksOut + blocks > this.#limits.blocks) {
        await waiting(
          'source',
          'destination',
          new Promise<void>((resolve) => this.#roomWaiters.push(resolve)),
        )
      }
      if (current()) this.#blocksOut += blocks
      return current()
    }
    this.#host.stream(from, newest, room).catch((error: unknown) => {
      if (!current()) return
      this.#inFlight = undefined
      this.#reason = `an image cannot be read: ${String(error)}`
      this.#host.log('mirror image cannot be read', { mirror: this.id, cause: String(error) })
    })
  }

  /** For the host's `stream`: to the destination in this session. */
  tell(head: Body<ToDestination>, body?: Uint8Array): void {
    this.#tell(head, body)
  }

  /** Images that neither the destination has, nor are on their way, nor are the newest, are let go. */
  #prune(): void {
    if (!this.#up) return
    const pins = this.#host.pins()
    const needed = [
      this.#durable,
      this.#complete,
      this.#inFlight?.from,
      this.#inFlight?.to,
      pins.at(-1)?.image,
    ]
    for (const { image } of pins) if (!needed.includes(image)) this.#host.unpin(image)
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
      this.#kept[0]?.at ?? Infinity,
      this.#up ? Infinity : this.#downSince,
    )
    if (this.#bound && !this.#leaving && now - since > patienceMs && now - this.#downSince > patienceMs) {
      this.#leave(this.#up ? 'the destination did not answer in time' : 'the destination is not reached')
    } else if (!this.#bound && this.#joinImage !== undefined && now - since > patienceMs) {
      this.#stopJoining('the destination did not answer in time')
    }
    this.#askToJoin()
    this.#timer = this.#host.after(patienceMs / 10, () => this.#tick())
  }
}
