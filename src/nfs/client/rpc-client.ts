/**
 * ONC RPC over one TCP connection, for tests, the demonstration and load: many calls in flight, and the patience of a "hard" mount.
 * When the connection breaks, or nothing has come for `silenceMs` though calls wait, it connects anew and sends every unanswered call
 * again, same bytes and same xid, in the order they were first made, so that a server's change of place is only a pause.
 *
 * It measures that pause: the longest time between two answers while calls were waiting. And it keeps the last calls that must not
 * happen twice, with their answers, so that a test can send them once more, as a client does whose network lost the answer.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { AUTH_SYS, CALL, LAST_FRAGMENT, MSG_ACCEPTED, REPLY, RPC_VERSION, SUCCESS } from '../rpc/rpc.ts'
import { XdrReader, XdrWriter, opaqueBytes } from '../xdr.ts'

export interface RpcClientOptions {
  readonly host: string
  readonly port: number
  /** Names the client to the server, together with xid, across connections. */
  readonly machine?: string
  readonly uid?: number
  readonly gid?: number
  readonly gids?: readonly number[]
  readonly firstXid?: number
  /** Without an answer for so long, the connection counts as dead. */
  readonly silenceMs?: number
  readonly reconnectDelayMs?: number
  /** A call fails after so long; never by default. */
  readonly callTimeoutMs?: number
  /** Told of each answer: when the call was made, and now (performance.now). */
  readonly onAnswer?: (startedMs: number, nowMs: number) => void
}

/** The server answered that it cannot execute the call, or no answer came in time. */
export class RpcError extends Error {
  readonly code: 'DENIED' | 'NOT_ACCEPTED' | 'TIMEOUT' | 'CLOSED'
  /** accept_stat or reject_stat. */
  readonly stat: number
  constructor(code: RpcError['code'], stat = 0) {
    super(`RPC ${code} ${stat}`)
    this.name = 'RpcError'
    this.code = code
    this.stat = stat
  }
}

interface Pending {
  readonly chunks: readonly Uint8Array[]
  readonly startedMs: number
  readonly once: boolean
  readonly resolve: (results: XdrReader) => void
  readonly reject: (error: Error) => void
}

interface Answered {
  readonly xid: number
  readonly chunks: readonly Uint8Array[]
  readonly record: Buffer
}

const HEADER_BYTES_MAX = 4 + 24 + 400 + 8
const ANSWERED_MAX = 64

export class RpcClient {
  readonly #options: Required<Omit<RpcClientOptions, 'host' | 'port' | 'callTimeoutMs' | 'onAnswer'>>
  readonly #callTimeoutMs: number
  readonly #onAnswer: RpcClientOptions['onAnswer']
  #server: { readonly host: string; readonly port: number }
  readonly #credential: Buffer
  readonly #pending = new Map<number, Pending>()
  /** The last answered calls that must not happen twice, the oldest first. */
  #answered: Answered[] = []
  #socket: Socket | undefined
  #connected = false
  #closed = false
  #xid: number
  #parts: Uint8Array[] = []
  #corked = false
  #lastHeardMs = 0
  #busySinceMs = 0
  #longestGapMs = 0
  #reconnects = -1
  #answers = 0
  readonly #watch: NodeJS.Timeout
  /** The stream: what is left of the last chunk, or the record being collected. */
  #rest: Buffer = Buffer.alloc(0)
  #record: Buffer | undefined
  #recordFilled = 0

  constructor(options: RpcClientOptions) {
    this.#options = {
      machine: 'tandem-client',
      uid: 0,
      gid: 0,
      gids: [],
      firstXid: Math.floor(Math.random() * 2 ** 32),
      silenceMs: 1000,
      reconnectDelayMs: 20,
      ...options,
    }
    this.#server = { host: options.host, port: options.port }
    this.#onAnswer = options.onAnswer
    this.#callTimeoutMs = options.callTimeoutMs ?? Infinity
    this.#xid = this.#options.firstXid >>> 0
    this.#credential = this.#encodeCredential()
    const watchMs = Math.min(this.#options.silenceMs, this.#callTimeoutMs) / 4
    this.#watch = setInterval(() => this.#check(), Math.max(5, watchMs))
    this.#watch.unref()
    this.#connect()
  }

  /** Longest time in which calls waited and no answer came, the running one included. */
  get longestGapMs(): number {
    return Math.max(this.#longestGapMs, this.#pending.size > 0 ? this.#gapMs(performance.now()) : 0)
  }

  resetLongestGap(): void {
    this.#longestGapMs = 0
    this.#busySinceMs = performance.now()
  }

  get reconnects(): number {
    return Math.max(0, this.#reconnects)
  }

  get inFlight(): number {
    return this.#pending.size
  }

  get answers(): number {
    return this.#answers
  }

  #encodeCredential(): Buffer {
    const { machine, uid, gid, gids } = this.#options
    const w = new XdrWriter(Buffer.alloc(24 + opaqueBytes(machine.length) + 4 * gids.length))
    w.u32(0)
    w.string(machine)
    for (const word of [uid, gid, gids.length, ...gids]) w.u32(word)
    return w.bytes.subarray(0, w.at)
  }

  /**
   * Calls a procedure; `write` encodes at most `bytesMax` bytes of arguments, `tail` follows them (with padding), uncopied. `once`: the
   * call must not happen twice.
   */
  call(
    program: number,
    version: number,
    procedure: number,
    bytesMax: number,
    write: (w: XdrWriter) => void,
    tail?: Uint8Array,
    once = false,
  ): Promise<XdrReader> {
    if (this.#closed) return Promise.reject(new RpcError('CLOSED'))
    const xid = (this.#xid = (this.#xid + 1) >>> 0)
    const w = new XdrWriter(Buffer.allocUnsafe(HEADER_BYTES_MAX + bytesMax))
    w.u32(0)
    for (const word of [xid, CALL, RPC_VERSION, program, version, procedure, AUTH_SYS]) w.u32(word)
    w.opaque(this.#credential)
    w.u32(0)
    w.u32(0)
    write(w)
    const tailBytes = tail ? tail.byteLength + (-tail.byteLength & 3) : 0
    w.view.setUint32(0, LAST_FRAGMENT + w.at - 4 + tailBytes)
    const chunks: Uint8Array[] = [w.bytes.subarray(0, w.at)]
    if (tail) chunks.push(tail)
    if (tail && tailBytes > tail.byteLength) chunks.push(Buffer.alloc(tailBytes - tail.byteLength))
    return this.#ask(xid, chunks, once)
  }

  #ask(xid: number, chunks: readonly Uint8Array[], once: boolean): Promise<XdrReader> {
    return new Promise((resolve, reject) => {
      const startedMs = performance.now()
      if (this.#pending.size === 0) this.#busySinceMs = startedMs
      this.#pending.set(xid, { chunks, startedMs, once, resolve, reject })
      if (this.#connected) this.#send(chunks)
    })
  }

  /** Sends the last calls that must not happen twice once more, same bytes and xid; gives how many, and how many had another answer than before. */
  async repeatAnswered(): Promise<{ repeated: number; different: number }> {
    const answered = this.#answered
    this.#answered = []
    const same = await Promise.all(
      answered.map(async ({ xid, chunks, record }) => {
        const { bytes } = await this.#ask(xid, chunks, false)
        return record.equals(bytes)
      }),
    )
    return { repeated: same.length, different: same.filter((is) => !is).length }
  }

  /** The call with this answer was not executed, so that a repetition would be. */
  notExecuted(answer: XdrReader): void {
    const xid = answer.view.getUint32(0)
    this.#answered = this.#answered.filter((one) => one.xid !== xid)
  }

  /** Breaks the connection, as a network would; the client connects anew. */
  breakConnection(): void {
    this.#socket?.destroy()
  }

  /** Goes on at another address: unanswered calls are sent again there. */
  redirect(host: string, port: number): void {
    this.#server = { host, port }
    this.breakConnection()
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#watch)
    this.#socket?.destroy()
    for (const { reject } of this.#pending.values()) reject(new RpcError('CLOSED'))
    this.#pending.clear()
  }

  /** Calls made in one tick leave as one write. */
  #send(chunks: readonly Uint8Array[]): void {
    this.#parts.push(...chunks)
    if (this.#corked) return
    this.#corked = true
    process.nextTick(() => {
      this.#corked = false
      const parts = this.#parts
      this.#parts = []
      if (!this.#connected || !this.#socket) return
      if (parts.length === 1) {
        this.#socket.write(parts[0]!)
        return
      }
      this.#socket.cork()
      for (const part of parts) this.#socket.write(part)
      this.#socket.uncork()
    })
  }

  #connect(): void {
    if (this.#closed) return
    const socket = connect({ ...this.#server, noDelay: true })
    this.#socket = socket
    this.#rest = Buffer.alloc(0)
    this.#record = undefined
    this.#parts = []
    this.#lastHeardMs = performance.now()
    socket.on('connect', () => {
      this.#connected = true
      this.#reconnects++
      this.#lastHeardMs = performance.now()
      for (const { chunks } of this.#pending.values()) this.#send(chunks)
    })
    socket.on('data', (chunk) => {
      if (socket === this.#socket) this.#receive(chunk)
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (socket !== this.#socket) return
      this.#connected = false
      setTimeout(() => this.#connect(), this.#options.reconnectDelayMs)
    })
  }

  #check(): void {
    const now = performance.now()
    if (this.#callTimeoutMs < Infinity) {
      for (const [xid, call] of this.#pending) {
        if (now - call.startedMs < this.#callTimeoutMs) continue
        this.#pending.delete(xid)
        call.reject(new RpcError('TIMEOUT'))
      }
    }
    const waitingSince = Math.max(this.#lastHeardMs, this.#busySinceMs)
    if (this.#pending.size > 0 && now - waitingSince > this.#options.silenceMs) {
      this.#lastHeardMs = now
      this.#socket?.destroy()
    }
  }

  #gapMs(now: number): number {
    return now - this.#busySinceMs
  }

  #receive(chunk: Buffer): void {
    this.#lastHeardMs = performance.now()
    let at = 0
    while (at < chunk.length) {
      const record = this.#record
      if (record) {
        const part = Math.min(record.length - this.#recordFilled, chunk.length - at)
        chunk.copy(record, this.#recordFilled, at, at + part)
        this.#recordFilled += part
        at += part
        if (this.#recordFilled < record.length) return
        this.#record = undefined
        this.#answer(record)
        continue
      }
      if (this.#rest.length > 0) {
        chunk = Buffer.concat([this.#rest, chunk.subarray(at)])
        at = 0
        this.#rest = Buffer.alloc(0)
      }
      if (chunk.length - at < 4) {
        this.#rest = Buffer.copyBytesFrom(chunk, at)
        return
      }
      const bytes = chunk.readUInt32BE(at) & 0x7fff_ffff
      at += 4
      if (chunk.length - at >= bytes) {
        this.#answer(chunk.subarray(at, at + bytes))
        at += bytes
      } else {
        this.#record = Buffer.allocUnsafe(bytes)
        this.#recordFilled = 0
      }
    }
  }

  #answer(record: Buffer): void {
    const r = new XdrReader(record)
    const xid = r.u32()
    const call = this.#pending.get(xid)
    if (!call || r.u32() !== REPLY) return
    this.#pending.delete(xid)
    this.#answers++
    const now = performance.now()
    this.#longestGapMs = Math.max(this.#longestGapMs, this.#gapMs(now))
    this.#busySinceMs = now
    this.#onAnswer?.(call.startedMs, now)
    if (call.once) {
      this.#answered.push({ xid, chunks: call.chunks, record: Buffer.copyBytesFrom(record) })
      if (this.#answered.length > ANSWERED_MAX) this.#answered.shift()
    }
    if (r.u32() !== MSG_ACCEPTED) return call.reject(new RpcError('DENIED', r.u32()))
    r.u32()
    r.opaque(400)
    const stat = r.u32()
    if (stat === SUCCESS) call.resolve(r)
    else call.reject(new RpcError('NOT_ACCEPTED', stat))
  }
}
