/**
 * One driver as the manager keeps it: its two streams (the one dialled carries our requests and their replies, the one
 * accepted the partner's), the handshake over them, heartbeats, round trip, and starting over after a failure.
 *
 * States: DOWN (nothing, or proof under way), LINKED (both proofs done, hello under way), READY, FAILED (waits to retry).
 * Invariants: READY only after both sides have sent link-ready; any failure closes both streams, so that nothing of an
 * older session can arrive; every heartbeat carries the incarnation, so that a restarted partner is seen even if no
 * stream ever breaks.
 *
 * Silence is measured in `loopMs`, time that the own loop has really been running.
 */
import type { LinkStatus, PeerInformation, Refusal } from './client.ts'
import type { Driver, Stream, StreamHandler } from './driver.ts'
import type { ControlFrame, DataFrame, Frame, PeerAddress, ReplyFrame } from './frames.ts'
import { frameBytes } from './frames.ts'
import type { Identity, Step } from './handshake.ts'
import { Handshake } from './handshake.ts'
import { Heartbeats } from './heartbeat.ts'
import type { ConnectionTimes } from './options.ts'
import { Outbox } from './outbox.ts'
import { noTraffic } from './traffic.ts'
import type { Env } from '../env/env.ts'

export type LinkState = 'DOWN' | 'LINKED' | 'READY' | 'FAILED'

/** The manager, seen from a link. */
export interface LinkOwner {
  readonly env: Env
  readonly times: ConnectionTimes
  readonly batchBytes: number
  readonly loopMs: number
  /** Inputs run inside this, so that client callbacks come after the state is consistent. */
  run(task: () => void): void
  identity(link: string): Identity
  greeting(): readonly ControlFrame[]
  peerAddress(link: string): string | undefined
  /** False: this incarnation is older than one that is connected. A newer one closes everything of the older. */
  incarnationSeen(link: Link, incarnation: number): boolean
  linkReady(peer: PeerInformation, addresses: readonly PeerAddress[]): void
  linkFailed(link: Link, cause: string): void
  onControl(link: Link, frame: ControlFrame): void
  onData(link: Link, frame: DataFrame): void
  onReply(link: Link, frame: ReplyFrame): void
}

interface Side {
  readonly stream: Stream
  readonly outbox: Outbox
  heardLoopMs: number
}

/** So many of the longest pauses after a refusal it is still the reason. */
const REFUSED_PAUSES = 5
/** Hello and client lists; both come once. */
const EARLY_FRAMES = 16
/** Answers that a partner has asked for and does not take; more than all channels' windows let it ask for. */
const ANSWERS_MAX = 1 << 17

export class Link {
  readonly name: string
  readonly driver: Driver
  state: LinkState = 'DOWN'
  reason = 'not tried yet'
  readonly heartbeats = new Heartbeats()
  readonly traffic = noTraffic()
  failures = 0
  /** Times that it came up. */
  sessions = 0
  readonly #owner: LinkOwner
  #handshake: Handshake
  #dialled: Side | undefined
  #opened = false
  #accepted: Side | undefined
  #dialledLoopMs = 0
  #retryLoopMs = 0
  #readySinceLoopMs = 0
  #backoff = 0
  #peer: PeerInformation | undefined
  #peerAddresses: readonly PeerAddress[] = []
  #readySent = false
  #readyReceived = false
  /** Hello and client lists that came before our own proof was complete. */
  #early: ControlFrame[] = []
  #pingLoopMs = 0
  #told = ''
  #refused: { readonly refusal: Refusal; readonly cause: string; readonly loopMs: number } | undefined
  #stopped = false

  constructor(owner: LinkOwner, driver: Driver) {
    this.#owner = owner
    this.driver = driver
    this.name = driver.name
    this.#handshake = new Handshake(owner.identity(driver.name), owner.env.random.u32())
  }

  get slow(): boolean {
    return this.heartbeats.slow
  }

  get usable(): boolean {
    return this.state === 'READY'
  }

  request(frame: ControlFrame | DataFrame): void {
    this.#dialled?.outbox.control(frame)
  }

  reply(frame: ControlFrame | ReplyFrame): void {
    this.#accepted?.outbox.control(frame)
  }

  /** Where channels with requests to send register. */
  get requests(): Outbox | undefined {
    return this.#dialled?.outbox
  }

  get replies(): Outbox | undefined {
    return this.#accepted?.outbox
  }

  status(): LinkStatus {
    const state = this.state !== 'READY' ? 'Down' : this.slow ? 'Slow' : 'Up'
    const { roundTripMs } = this.heartbeats
    const refused = state === 'Down' ? this.#refusedLately() : undefined
    return {
      name: this.name,
      state,
      roundTripMicroseconds: Math.round(roundTripMs * 1000),
      addresses: [this.driver.address, this.#owner.peerAddress(this.name) ?? ''],
      reason:
        state === 'Up'
          ? ''
          : state === 'Slow'
            ? `round trip ${roundTripMs.toFixed(1)} ms`
            : (refused?.cause ?? this.reason),
      ...(refused && { refusal: refused.refusal }),
      sessions: this.sessions,
      failures: this.failures,
      ...this.traffic,
    }
  }

  /** The partner calls. */
  accept(stream: Stream): StreamHandler {
    const { loopMs, batchBytes, times } = this.#owner
    const side: Side = { stream, outbox: new Outbox(stream, batchBytes, this.traffic), heardLoopMs: loopMs }
    this.#owner.run(() => {
      if (this.#stopped) return
      if (this.state === 'READY' || this.state === 'LINKED') this.fail('partner started over')
      this.#dropAccepted('replaced')
      this.#handshake.forgetPartner()
      this.#accepted = side
      // It is there: no reason to wait longer than the pause that keeps two filers from chasing each other.
      this.#retryLoopMs = Math.min(this.#retryLoopMs, loopMs + times.retryMinMs)
    })
    return {
      opened: () => undefined,
      received: (frames) => {
        this.#received(
          frames,
          () => this.#accepted === side,
          side,
          (frame) => this.#onRequest(frame),
        )
      },
      drained: () => side.outbox.drained(),
      closed: (reason, refusal) => {
        this.#owner.run(() => {
          if (this.#accepted !== side) return
          this.#note(reason, refusal)
          this.#dropAccepted(reason)
          this.#handshake.forgetPartner()
          if (this.state === 'READY' || this.state === 'LINKED') this.fail(reason)
        })
      },
    }
  }

  /** Heartbeats, time limits, retries. */
  tick(): void {
    const { loopMs, times } = this.#owner
    if (this.#stopped) return
    if (this.#dialled === undefined) {
      if (loopMs >= this.#retryLoopMs) this.#dial()
      return
    }
    if (!this.#handshake.proven) {
      if (loopMs - this.#dialledLoopMs <= times.handshakeMs) return
      if (this.#opened) this.fail('handshake took too long')
      else this.#notReached('no answer')
      return
    }
    if (loopMs - this.#dialled.heardLoopMs > times.failAfterMs) {
      this.fail(`silent for ${times.failAfterMs} ms`)
      return
    }
    if (
      this.state === 'READY' &&
      this.#accepted !== undefined &&
      loopMs - this.#accepted.heardLoopMs > times.failAfterMs
    ) {
      this.fail(`no heartbeat from the partner for ${times.failAfterMs} ms`)
      return
    }
    if (this.#accepted !== undefined && this.#accepted.outbox.waiting > ANSWERS_MAX) {
      this.fail('partner takes no answers')
      return
    }
    if (this.state === 'READY' && loopMs - this.#readySinceLoopMs > 10 * times.retryMaxMs) this.#backoff = 0
    if (loopMs - this.#pingLoopMs >= times.heartbeatMs) this.#ping()
  }

  /** Closes both streams and starts over after a pause. */
  fail(cause: string, refusal?: Refusal): void {
    const { env, times, loopMs } = this.#owner
    const before = this.state
    this.state = 'FAILED'
    this.reason = cause
    this.#note(cause, refusal)
    this.#reset(cause)
    const longest = Math.min(times.retryMaxMs, times.retryMinMs * 2 ** this.#backoff)
    const pauseMs =
      refusal === 'VersionMismatch' ? times.retryMaxMs : longest * (0.5 + env.random.u32() / 0x200000000)
    this.#backoff = Math.min(this.#backoff + 1, 10)
    this.#retryLoopMs = loopMs + pauseMs
    if (before === 'READY' || this.#told !== cause) {
      this.#told = cause
      env.log(before === 'READY' ? 'warn' : 'info', 'interconnect down', { link: this.name, cause })
    }
    if (before === 'READY') {
      this.failures++
      this.#owner.linkFailed(this, cause)
    }
  }

  #note(cause: string, refusal: Refusal | undefined): void {
    if (refusal !== undefined) this.#refused = { refusal, cause, loopMs: this.#owner.loopMs }
  }

  /** Between two refusals there are pauses and broken calls, which are only their consequence. */
  #refusedLately() {
    const { loopMs, times } = this.#owner
    const refused = this.#refused
    return refused && loopMs - refused.loopMs < REFUSED_PAUSES * times.retryMaxMs ? refused : undefined
  }

  /** For the tests of late frames and for a shutdown that tells the partner at once. */
  stop(): void {
    this.#stopped = true
    this.state = 'DOWN'
    this.reason = 'stopped'
    this.#reset('stopped')
  }

  /** The address of the partner has changed: a link that is not up tries it at once. */
  retryNow(): void {
    if (this.#handshake.proven || this.#stopped) return
    if (this.#dialled !== undefined) this.#notReached('address changed')
    this.#retryLoopMs = this.#owner.loopMs
  }

  #dial(): void {
    const { loopMs, batchBytes, times } = this.#owner
    const address = this.#owner.peerAddress(this.name)
    if (address === undefined) {
      this.reason = "partner's address is not known"
      this.#retryLoopMs = loopMs + times.retryMinMs
      return
    }
    this.#opened = false
    this.#dialledLoopMs = loopMs
    let side: Side | undefined = undefined
    const present = () => side !== undefined && this.#dialled === side
    const stream = this.driver.dial(address, {
      opened: () => {
        this.#owner.run(() => {
          if (!present()) return
          this.#opened = true
          this.#dialledLoopMs = this.#owner.loopMs
          this.request(this.#handshake.begin())
        })
      },
      received: (frames) => {
        if (side !== undefined) this.#received(frames, present, side, (frame) => this.#onAnswer(frame))
      },
      drained: () => {
        if (present()) this.#dialled?.outbox.drained()
      },
      closed: (reason, refusal) => {
        this.#owner.run(() => {
          if (!present()) return
          this.#note(reason, refusal)
          if (this.#opened) this.fail(reason)
          else this.#notReached(reason)
        })
      },
    })
    side = { stream, outbox: new Outbox(stream, batchBytes, this.traffic), heardLoopMs: loopMs }
    this.#dialled = side
  }

  /** Nobody took the call. The session goes on, and with it what the partner has proven of it. */
  #notReached(reason: string): void {
    const { env, times, loopMs } = this.#owner
    this.reason = reason
    this.#dropDialled(reason)
    const longest = Math.min(times.retryMaxMs, times.retryMinMs * 2 ** this.#backoff)
    this.#backoff = Math.min(this.#backoff + 1, 10)
    this.#retryLoopMs = loopMs + longest * (0.5 + env.random.u32() / 0x200000000)
    if (this.#told === reason) return
    this.#told = reason
    env.log('info', 'interconnect down', { link: this.name, cause: reason })
  }

  #received(
    frames: readonly Frame[],
    present: () => boolean,
    side: Side,
    take: (frame: Frame) => void,
  ): void {
    this.#owner.run(() => {
      side.heardLoopMs = this.#owner.loopMs
      for (const frame of frames) {
        if (!present()) return
        this.traffic.framesReceived++
        this.traffic.bytesReceived += frameBytes(frame)
        take(frame)
      }
    })
  }

  /** On the accepted stream: what the partner asks. */
  #onRequest(frame: Frame): void {
    switch (frame.kind) {
      case 'status-read':
        this.#follow(this.#handshake.onRead(frame), (answer) => this.reply(answer))
        return
      case 'status-write': {
        if (!this.#owner.incarnationSeen(this, frame.incarnation)) {
          this.fail('called by an older incarnation of the partner')
          return
        }
        this.#follow(this.#handshake.onWrite(frame), (answer) => this.reply(answer))
        if (this.#handshake.outdated) {
          if (this.state === 'READY' || this.state === 'LINKED') this.fail('partner started over')
          else if (this.#dialled !== undefined) this.request(this.#handshake.begin())
          return
        }
        this.#advance()
        return
      }
      case 'heartbeat':
        this.reply({
          kind: 'heartbeat-reply',
          seq: frame.seq,
          incarnation: this.#owner.identity(this.name).incarnation,
        })
        this.heartbeats.peerSlow = frame.slow
        this.#checkIncarnation(frame.incarnation)
        return
      case 'hello':
        if (this.state !== 'LINKED') {
          this.#keepEarly(frame)
          return
        }
        this.#checkIncarnation(frame.incarnation)
        if (this.#accepted === undefined) return
        this.#peer = {
          systemId: frame.systemId,
          version: frame.version,
          incarnation: frame.incarnation,
          logBytes: frame.logBytes,
        }
        this.#peerAddresses = frame.addresses
        this.#readySent = true
        this.request({ kind: 'link-ready' })
        this.#advance()
        return
      case 'link-ready':
        this.#readyReceived = true
        this.#advance()
        return
      case 'write':
      case 'read':
      case 'flush':
      case 'message':
        if (this.usable) this.#owner.onData(this, frame)
        else this.fail(`${frame.kind} before the link was ready`)
        return
      case 'clients':
        if (this.#peer !== undefined) this.#owner.onControl(this, frame)
        else this.#keepEarly(frame)
        return
      case 'open':
      case 'opened':
      case 'refused':
      case 'ready':
      case 'failed':
      case 'close':
      case 'closed':
      case 'move':
      case 'moved':
        if (this.usable) this.#owner.onControl(this, frame)
        else this.fail(`${frame.kind} before the link was ready`)
        return
      default:
        this.fail(`${frame.kind} on the wrong stream`)
    }
  }

  /** On the dialled stream: answers to what we asked. */
  #onAnswer(frame: Frame): void {
    switch (frame.kind) {
      case 'status-page':
        if (!this.#owner.incarnationSeen(this, frame.incarnation)) {
          this.fail('reached an older incarnation of the partner')
          return
        }
        this.#follow(this.#handshake.onPage(frame), (next) => this.request(next))
        return
      case 'status-written':
        this.#follow(this.#handshake.onWritten(frame), (next) => this.request(next))
        this.#advance()
        return
      case 'heartbeat-reply':
        this.#checkIncarnation(frame.incarnation)
        this.heartbeats.answered(frame.seq, this.#owner.env.clock.now(), this.#carried)
        return
      case 'done':
      case 'data':
        this.#owner.onReply(this, frame)
        return
      default:
        this.fail(`${frame.kind} on the wrong stream`)
    }
  }

  /** The partner may be linked a moment earlier: its word comes on one stream, the end of our proof on the other. */
  #keepEarly(frame: ControlFrame): void {
    if (this.#early.length < EARLY_FRAMES && this.state !== 'READY') this.#early.push(frame)
    else this.fail(`${frame.kind} out of turn`)
  }

  #follow(step: Step, send: (frame: ControlFrame) => void): void {
    if (step === undefined) return
    if ('send' in step) send(step.send)
    else if ('fail' in step) this.fail(step.fail, step.refusal)
    else this.#ping()
  }

  #checkIncarnation(incarnation: number): void {
    const proven = this.#handshake.peerIncarnation
    if (proven === undefined || incarnation === proven) return
    this.#owner.incarnationSeen(this, incarnation)
    if (this.#handshake.proven) this.fail('partner restarted')
  }

  #advance(): void {
    if (!this.#handshake.linked || this.#accepted === undefined || this.#dialled === undefined) {
      if (this.#handshake.proven && this.state !== 'READY') this.reason = "waiting for the partner's proof"
      return
    }
    if (this.state === 'DOWN' || this.state === 'FAILED') {
      this.state = 'LINKED'
      this.reason = 'exchanging peer information'
      for (const frame of this.#owner.greeting()) this.request(frame)
      for (const frame of this.#early.splice(0)) this.#onRequest(frame)
    }
    if (this.state !== 'LINKED' || !this.#readySent || !this.#readyReceived || this.#peer === undefined)
      return
    const { loopMs, env } = this.#owner
    this.state = 'READY'
    this.sessions++
    this.reason = ''
    this.#told = ''
    this.#refused = undefined
    this.#readySinceLoopMs = loopMs
    this.#accepted.heardLoopMs = loopMs
    env.log('info', 'interconnect up', {
      link: this.name,
      partner: this.#peer.systemId,
      incarnation: this.#peer.incarnation,
    })
    this.#owner.linkReady(this.#peer, this.#peerAddresses)
  }

  get #carried(): number {
    return this.traffic.bytesSent + this.traffic.bytesReceived
  }

  #ping(): void {
    this.#pingLoopMs = this.#owner.loopMs
    this.request({
      kind: 'heartbeat',
      seq: this.heartbeats.next(this.#owner.env.clock.now(), this.#carried),
      incarnation: this.#owner.identity(this.name).incarnation,
      slow: this.heartbeats.measuredSlow,
    })
  }

  #reset(cause: string): void {
    this.#dropDialled(cause)
    this.#dropAccepted(cause)
    this.#handshake = new Handshake(this.#owner.identity(this.name), this.#owner.env.random.u32())
    this.#peer = undefined
    this.#readySent = false
    this.#readyReceived = false
    this.#early = []
    this.heartbeats.reset(this.#carried)
  }

  #dropDialled(cause: string): void {
    if (this.#dialled === undefined) return
    this.#dialled.outbox.close()
    this.#dialled.stream.close(cause)
    this.#dialled = undefined
  }

  #dropAccepted(cause: string): void {
    if (this.#accepted === undefined) return
    this.#accepted.outbox.close()
    this.#accepted.stream.close(cause)
    this.#accepted = undefined
  }
}
