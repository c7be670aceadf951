/**
 * A mirror at its destination: operations into log files, blocks of images into the volume, one image for another only when it is complete. No I/O: `DestinationHost` appends,
 * stages, pins and records.
 *
 * The volume's active map holds the newest complete image, or, while blocks of the next one come in, that and a part of the next. What consistency points keep is a pin: the volume
 * as of the last complete image. So
 *   - an image that is complete waits, unfrozen, for the next freeze; blocks behind it wait in memory, unless the whole next image is there and takes its place at once;
 *   - a part of an image is given up by going back to the newest pin (`reset`).
 * Numbers that are still in use here, by images that are being given back, come free with consistency points of this filer; taking a block in waits for that, and for nothing of another pair.
 */
import type { Crc32 } from '../env/env.ts'
import { waiting } from '../std/ranks.ts'
import type { BrokenMirror } from './broken-mirror.ts'
import { isReleased } from './decisions.ts'
import { decodeFrame } from './frames.ts'
import type { MirrorLogFiles } from './log-files.ts'
import type { Body, Message, Refusal, SentBlock, ToDestination, ToSource } from './messages.ts'
import { decodeBlocks, decodeNumbers, MIRROR_VERSION } from './messages.ts'
import type { DestinationRecord, DestinationState, Pin } from './records.ts'

export interface DestinationHost {
  readonly crc32: Crc32
  /** Only in tests. */
  readonly broken: BrokenMirror
  send(head: ToSource): void
  record(
    change: Partial<Pick<DestinationRecord, 'state' | 'generation' | 'fence' | 'opening'>>,
  ): Promise<void>
  wantCp(): void
  /** The number is free for a block of an image. */
  isFree(number: number): boolean
  receive(block: SentBlock): void
  free(number: number): void
  /** The files are those of this image. */
  become(root: Uint8Array, image: Pin): void
  /** Resolves when there is room for `blocks` more changed blocks. */
  room(blocks: number): Promise<void>
  /** Resolves at the end of the next consistency point. */
  consistencyPoint(): Promise<void>
  /** Pins the next image; synchronously at a freeze. */
  pin(image: Pin): boolean
  unpinBelow(image: number): void
  /** Back to the newest pin, or to nothing at all. */
  reset(): void
  /** The ends are to change places, and this one is to be the source. */
  mayReverse(): boolean
  /** Nothing is listened to any more; it becomes the source. */
  reverse(): void
  log(event: string, fields: Readonly<Record<string, unknown>>): void
}

const NOTHING: Pin = { image: 0, covers: 0, generation: 0, bytes: 0, sizeBytes: 0 }
/** Blocks that wait in memory behind a complete image, before no more are asked for. */
const BUFFERED_BLOCKS = 2048

interface Arrived {
  readonly head: ToDestination
  readonly body: Uint8Array
}

export class MirrorDestination {
  readonly id: string
  readonly logs: MirrorLogFiles
  readonly #host: DestinationHost
  #record: DestinationRecord
  #session = 0
  /** Last record, in log files or in the newest complete image. */
  #last = 0
  #durable: Pin
  #frozen: Pin | undefined
  #complete: Pin | undefined
  /** Part of the next image is in the volume. */
  #staged: boolean
  #arrived: Arrived[] = []
  #buffered = 0
  #taking: Promise<void> | undefined
  /** Something has come since `#takeAll` looked last: several messages come in one turn. */
  #look = false
  #appended: Promise<void> = Promise.resolve()
  #resuming: Promise<void> = Promise.resolve()
  #joining = false
  #closed = false

  /** `durable`: the newest pin; undefined in a new volume, which is its own image 0 as soon as that is pinned. */
  constructor(host: DestinationHost, logs: MirrorLogFiles, record: DestinationRecord, durable?: Pin) {
    this.#host = host
    this.logs = logs
    this.id = record.id
    this.#record = record
    this.#durable = durable ?? NOTHING
    this.#complete = durable === undefined ? NOTHING : undefined
    this.#staged = durable !== undefined
  }

  /** Finds out what the log files have. */
  async open(): Promise<void> {
    await this.logs.open()
    if (this.#complete !== undefined) this.#host.wantCp()
    this.#last = this.#durable.covers
    for (const { last } of await this.logs.frames()) this.#last = Math.max(this.#last, last)
  }

  get state(): DestinationState {
    return this.#record.state
  }
  get durableImage(): number {
    return this.#durable.image
  }
  /** The newest complete image, which the next consistency point may have. */
  get completeImage(): number {
    return this.#newest.image
  }
  /** Epoch and incarnation of the source that it listens to. */
  get fence(): readonly [number, number] {
    return this.#record.fence
  }
  get opening(): number {
    return this.#record.opening
  }
  get session(): number {
    return this.#session
  }
  get generation(): number {
    return this.#record.generation
  }
  get connected(): boolean {
    return this.#session !== 0
  }
  /** Last record that it has. */
  get last(): number {
    return this.#last
  }
  get #newest(): Pin {
    return this.#complete ?? this.#frozen ?? this.#durable
  }

  // Messages. `answer` sends to the source's filer that the message came from.

  message({ head, body }: Message): void {
    if (this.#closed) return
    const message = head as ToDestination
    if (message.type === 'resume') {
      this.#resuming = this.#resuming
        .then(() => this.#resume(message))
        .catch((error: unknown) => this.#failed(error))
      return
    }
    if (message.session !== this.#session) return
    switch (message.type) {
      case 'operations':
        return this.#operations(message.start, body)
      case 'blocks':
      case 'free':
      case 'end':
        return this.#arrive({ head: message, body })
      case 'join':
        return this.#join(message.image)
      case 'flush':
        return this.#host.wantCp()
      case 'reversible':
        return this.#tell({ type: 'willing', yes: this.state === 'InSync' && this.#host.mayReverse() })
      case 'reverse':
        return this.#reverse(message.last)
    }
  }

  async #resume(message: ToDestination & { type: 'resume' }): Promise<void> {
    const { generation, fence, opening, session, last } = message
    const answer = (head: Body<ToSource>): void => this.#host.send({ ...head, mirror: this.id, session })
    const known = this.#record
    const refuse = (reason: Refusal): void =>
      answer({ type: 'refused', reason, generation: known.generation })
    if (message.version !== MIRROR_VERSION) return refuse('Version')
    if (known.state === 'Broken' || known.state === 'Breaking')
      return refuse(known.reversing === true ? 'Source' : 'Broken')
    if (generation < known.generation) return refuse('Generation')
    const order = fence[0] - known.fence[0] || fence[1] - known.fence[1]
    if (order < 0 && generation === known.generation && this.#host.broken.noFence !== true)
      return refuse('Fence')
    // From here on nothing of an older session is listened to.
    this.#session = 0
    this.#arrived = []
    this.#buffered = 0
    this.#joining = false
    await this.#taking
    await this.#appended
    if (opening !== this.#record.opening && this.#host.broken.noCut !== true) {
      await this.logs.cut(last)
      this.#last = Math.min(this.#last, Math.max(last, this.#newest.covers))
    }
    if (order !== 0 || opening !== known.opening || generation !== known.generation) {
      await this.#host.record({ fence, opening, generation })
      this.#record = { ...this.#record, fence, opening, generation }
    }
    if (this.#staged) {
      while (this.#frozen !== undefined && !this.#closed)
        await waiting('destination', 'space', this.#host.consistencyPoint())
      this.#host.reset()
      this.#staged = false
    }
    if (this.#closed) return
    this.#session = session
    const { image, generation: of } = this.#newest
    const frozen = this.#frozen?.image ?? 0
    answer({ type: 'resumed', last: this.#last, image, of, durable: this.#durable.image, frozen })
  }

  #tell(head: Body<ToSource>): void {
    if (this.#session !== 0) this.#host.send({ ...head, mirror: this.id, session: this.#session })
  }

  #failed(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error)
    this.#host.log('mirror refuses', { mirror: this.id, reason })
    this.#tell({ type: 'failed', reason })
  }

  #operations(start: boolean, body: Uint8Array): void {
    const frame = decodeFrame(this.#host.crc32, body)?.frame
    if (frame === undefined) return this.#failed('a frame is damaged')
    if (start) this.#last = Math.max(this.#last, frame.previous)
    // What is up to the last record here is in log files or in an image, of whatever volume the record is.
    if (frame.previous > this.#last)
      return this.#failed(`record ${frame.previous} is missing behind ${this.#last}`)
    this.#last = Math.max(this.#last, frame.last)
    const session = this.#session
    const before = this.#appended
    const append = isReleased(frame.epoch, this.#durable.image)
      ? Promise.resolve(true)
      : this.logs.append(frame.epoch, body.slice())
    this.#appended = (async () => {
      const done = await waiting('destination', 'space', append)
      await before
      if (session !== this.#session) return
      if (done) this.#tell({ type: 'acknowledged', last: frame.last })
      else this.#failed('no room for log files')
    })().catch((error: unknown) => this.#failed(error))
  }

  // Images.

  #arrive(arrived: Arrived): void {
    this.#arrived.push(arrived)
    if (arrived.head.type === 'blocks') this.#buffered += blocksIn(arrived)
    // Behind a complete image blocks may wait here, so that it does not matter how long this filer's consistency point takes.
    if (arrived.head.type === 'blocks' && this.#complete !== undefined && this.#buffered <= BUFFERED_BLOCKS) {
      this.#tell({ type: 'taken', blocks: blocksIn(arrived) })
      this.#early.add(arrived)
    }
    if (this.#complete !== undefined && this.#buffered > BUFFERED_BLOCKS / 2) this.#host.wantCp()
    this.#take()
  }

  /** Blocks that were told as taken when they arrived. */
  readonly #early = new WeakSet<Arrived>()

  #take(): void {
    this.#look = true
    if (this.#taking !== undefined) return
    this.#taking = this.#takeWhileAsked()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#taking = undefined
        if (this.#look && !this.#closed) this.#take()
      })
  }

  async #takeWhileAsked(): Promise<void> {
    while (this.#look && !this.#closed) {
      this.#look = false
      await this.#takeAll()
    }
  }

  async #takeAll(): Promise<void> {
    for (let next = this.#arrived[0]; next !== undefined && !this.#closed; next = this.#arrived[0]) {
      if (this.#complete !== undefined && !this.#replaceComplete()) {
        const end = this.#arrived.some(({ head }) => head.type === 'end')
        if (end) this.#host.wantCp()
        return
      }
      if (this.#arrived[0] !== next) continue
      if (next.head.type === 'blocks') {
        const blocks = [...decodeBlocks(next.body)]
        await waiting('destination', 'space', this.#host.room(blocks.length))
        while (
          blocks.some(({ number }) => !this.#host.isFree(number)) &&
          this.#arrived[0] === next &&
          !this.#closed
        ) {
          this.#host.wantCp()
          await waiting('destination', 'space', this.#host.consistencyPoint())
        }
      }
      // A new session, or a freeze, may have come meanwhile.
      if (this.#arrived[0] !== next || this.#closed) continue
      this.#apply(next)
    }
  }

  /** The whole next image is here: it takes the place of the one that waits for a freeze, in one turn. */
  #replaceComplete(): boolean {
    const end = this.#arrived.findIndex(({ head }) => head.type === 'end')
    if (end < 0) return false
    const image = this.#arrived.slice(0, end + 1)
    for (const { head, body } of image) {
      if (head.type !== 'blocks') continue
      for (const { number } of decodeBlocks(body)) if (!this.#host.isFree(number)) return false
    }
    for (const one of image) this.#apply(one)
    return true
  }

  #apply(arrived: Arrived): void {
    this.#arrived.shift()
    const { head, body } = arrived
    if (head.type === 'blocks') {
      for (const block of decodeBlocks(body)) this.#host.receive(block)
      this.#buffered -= blocksIn(arrived)
      this.#staged = true
      if (!this.#early.has(arrived)) this.#tell({ type: 'taken', blocks: blocksIn(arrived) })
    } else if (head.type === 'free') {
      for (const number of decodeNumbers(body)) this.#host.free(number)
      this.#staged = true
    } else if (head.type === 'end') {
      const { pin } = head
      this.#host.become(body.slice(), pin)
      this.#complete = pin
      this.#last = Math.max(this.#last, pin.covers)
      this.#staged = false
      this.#tell({ type: 'complete', image: pin.image })
      // Nobody waits for it in sync; else the log says when.
      if (this.#record.state !== 'InSync' || this.#joining) this.#host.wantCp()
    }
  }

  // Consistency points.

  /** At a freeze, synchronously, before the volume is frozen. */
  freezing(): void {
    const complete = this.#complete
    if (complete === undefined || !this.#host.pin(complete)) return
    this.#frozen = complete
    this.#complete = undefined
    this.#tell({ type: 'frozen', image: complete.image })
  }

  /** Behind the freeze. */
  frozen(): void {
    if (this.#arrived.length > 0) this.#take()
  }

  /** The consistency point is complete on both filers. */
  committed(): void {
    const covered = this.#frozen
    this.#frozen = undefined
    if (covered === undefined) return
    this.#durable = covered
    this.#host.unpinBelow(covered.image)
    const released = this.#host.broken.releaseLate === true ? this.#newest.image : covered.image
    void this.logs.remove(released).catch((error: unknown) => this.#failed(error))
    this.#tell({ type: 'durable', image: covered.image })
  }

  #join(image: number): void {
    if (this.#durable.image < image && this.#host.broken.joinEarly !== true) {
      this.#joining = true
      this.#host.wantCp()
      return
    }
    if (this.#record.state === 'InSync') return this.#tell({ type: 'joined' })
    const session = this.#session
    void this.#host.record({ state: 'InSync' }).then(() => {
      if (this.#record.state === 'Breaking' || this.#record.state === 'Broken') return
      this.#record = { ...this.#record, state: 'InSync' }
      this.#joining = false
      if (session === this.#session) this.#tell({ type: 'joined' })
    })
  }

  /** The source changes nothing any more: all that it has is here, so this end goes on as the source. */
  #reverse(last: number): void {
    const session = this.#session
    void this.#appended.then(() => {
      if (session !== this.#session || this.#record.state !== 'InSync') return
      // What images cover counts what the side of the source logged for others, too.
      if (last > this.#last || !this.#host.mayReverse())
        return this.#tell({ type: 'willing', yes: false, reverse: true })
      this.#tell({ type: 'reversed' })
      this.#host.reverse()
    })
  }

  /** Nothing is listened to any more: the mirror is broken, or the side is lost. */
  async close(): Promise<void> {
    this.#closed = true
    this.#session = 0
    this.#arrived = []
    await this.#resuming
    await this.#taking
    await this.#appended
  }
}

function blocksIn({ body }: Arrived): number {
  return Math.round(body.length / 4104)
}
