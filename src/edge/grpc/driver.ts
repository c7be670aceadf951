/**
 * The interconnect over gRPC: one driver on one network. It listens on its own network's address and dials from it; each
 * direction is one HTTP/2 connection with one long call (message-stream.ts has the framing). Both ends prove by certificate which
 * filer of which pair they are.
 *
 * What is sent is bounded by what the connection has not yet taken (`QUEUE_BYTES`): beyond it `send` says no and pressure
 * reaches the channels. What is received is bounded by the channels' windows, so streams are always read.
 *
 * Whoever speaks anything else on the port, or has another name, is cut off; one line is logged, at most one a second.
 */
import { connect as connectHttp2, constants, createSecureServer } from 'node:http2'
import type {
  ClientHttp2Session,
  Http2Stream,
  IncomingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2'
import { createServer } from 'node:net'
import type { Server as TcpServer, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import type { Driver, Stream, StreamHandler } from '../../core/connection/driver.ts'
import type { Frame } from '../../core/connection/frames.ts'
import type { Log } from '../../core/env/env.ts'
import { InterconnectService } from '../../proto/gen/interconnect.ts'
import { joinAddress, splitAddress } from './address.ts'
import { decodeBatch, EncodedBatch } from './codec.ts'
import {
  MessageReader,
  OK,
  outcome,
  outcomeOf,
  PERMISSION_DENIED,
  PREFIX_BYTES,
  putPrefix,
  REQUEST_HEADERS,
  RESPONSE_HEADERS,
  UNAVAILABLE,
} from './message-stream.ts'
import type { TlsSource } from './tls.ts'
import { contextOptions, expecting, onRenewal, uriNames } from './tls.ts'

export interface GrpcDriverOptions {
  /** The network's name, equal on both filers. */
  readonly name: string
  /** Own address on that network, with port; 0 lets the host choose. A wildcard address dials from any. */
  readonly listen: string
  /** What the partner is told; `listen` if not given. */
  readonly advertise?: string
  readonly tls: TlsSource
  /** The partner's name, tandem://<namespace>/<pair>/<filer>. */
  readonly partnerUri: string
  readonly log: Log
  readonly certificateRefreshMs?: number
}

const MAX_MESSAGE_BYTES = 16 << 20
/** Taken by the stream and not yet by the connection. Half a heartbeat's delay on a slow network, enough to keep a fast one busy. */
const QUEUE_BYTES = 1 << 20
/** Holds a batch of the manager's usual size. */
const SCRATCH_BYTES = 320 << 10
const SCRATCH_KEPT = 8
/** What may be under way towards this end before it is read. */
const WINDOW_BYTES = 8 << 20
/** A caller that has made no valid call by then is cut off. */
const GREETING_MS = 5000
const MAX_CALLERS = 64
const REFUSAL_LOG_MS = 1000
/** How long the last words of a connection may take. */
const FAREWELL_MS = 100
const { path: PATH } = InterconnectService.link

export class GrpcDriver implements Driver {
  readonly name: string
  readonly #options: GrpcDriverOptions
  #address: string
  #localAddress: string | undefined
  #listener: TcpServer | undefined
  #renewal: { stop(): void } | undefined
  /** Connections taken, by the caller's address. */
  #callers = new Map<string, { readonly socket: Socket; known: boolean }>()
  #streams = new Set<WireStream>()
  #lastRefusal = -Infinity

  constructor(options: GrpcDriverOptions) {
    this.name = options.name
    this.#options = options
    this.#address = options.advertise ?? options.listen
    const { host } = splitAddress(options.listen)
    this.#localAddress = isWildcard(host) ? undefined : host
  }

  /** Empty where the own address is not known: a wildcard would lead the partner to itself. */
  get address(): string {
    const { host } = splitAddress(this.#address)
    return isWildcard(host) ? '' : this.#address
  }

  async start(accept: (stream: Stream) => StreamHandler): Promise<void> {
    const { listen, advertise, tls, certificateRefreshMs = 10_000 } = this.#options
    const server = createSecureServer({
      ...contextOptions(tls.current()),
      requestCert: true,
      rejectUnauthorized: true,
      settings: { initialWindowSize: WINDOW_BYTES, enablePush: false },
    })
    server.on('session', (session: ServerHttp2Session) => {
      session.setLocalWindowSize(WINDOW_BYTES)
      session.on('error', () => undefined)
    })
    server.on('stream', (stream, headers) => this.#onCall(stream, headers, accept))
    server.on('tlsClientError', (_error: Error, socket: TLSSocket) => socket.destroy())
    server.on('unknownProtocol', (socket: TLSSocket) => socket.destroy())
    server.on('sessionError', () => undefined)
    const renewal = onRenewal(tls, certificateRefreshMs, (fresh) =>
      server.setSecureContext(contextOptions(fresh)),
    )
    const listener = createServer((socket) =>
      this.#onConnection(socket, (taken) => server.emit('connection', taken)),
    )
    const { host, port } = splitAddress(listen)
    try {
      await new Promise<void>((resolve, reject) => {
        listener.once('error', reject)
        listener.listen({ host, port, exclusive: true }, () => {
          listener.off('error', reject)
          resolve()
        })
      })
    } catch (error) {
      renewal.stop()
      throw error
    }
    const bound = listener.address()
    if (advertise === undefined && typeof bound === 'object' && bound !== null)
      this.#address = joinAddress(host, bound.port)
    this.#listener = listener
    this.#renewal = renewal
  }

  dial(address: string, handler: StreamHandler): Stream {
    const { tls, partnerUri } = this.#options
    let socket: TLSSocket
    let session: ClientHttp2Session
    try {
      const { host, port } = splitAddress(address)
      socket = connectTls({
        host,
        port,
        ...(this.#localAddress === undefined ? {} : { localAddress: this.#localAddress }),
        ...contextOptions(tls.current()),
        // Not the host's name: pods' addresses come and go.
        servername: 'tandem',
        checkServerIdentity: expecting((uri) => uri === partnerUri),
        ALPNProtocols: ['h2'],
      })
      socket.setNoDelay()
      session = connectHttp2(`https://${address}`, {
        createConnection: () => socket,
        settings: { initialWindowSize: WINDOW_BYTES, enablePush: false },
      })
    } catch (error) {
      queueMicrotask(() => handler.closed(describe(error)))
      return { send: () => true, close: () => undefined }
    }
    const call = session.request({ ...REQUEST_HEADERS, ':path': PATH, 'tandem-link': this.name })
    const stream = new WireStream(call, () => {
      call.close(constants.NGHTTP2_CANCEL)
      session.destroy()
      this.#streams.delete(stream)
    })
    this.#streams.add(stream)
    session.on('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(WINDOW_BYTES)
    })
    socket.on('error', (error: Error) => stream.ended(error.message))
    session.on('error', (error: Error) => stream.ended(error.message))
    let opened = false
    call.on('response', (headers: IncomingHttpHeaders & { ':status'?: number }) => {
      const end = outcomeOf(headers)
      if (end !== undefined || headers[':status'] !== 200) {
        stream.ended(end ?? `HTTP status ${headers[':status']}`)
      } else if (!opened) {
        opened = true
        stream.handler?.opened()
      }
    })
    call.on('trailers', (trailers: IncomingHttpHeaders) =>
      stream.ended(outcomeOf(trailers) ?? 'closed by the partner'),
    )
    stream.attach(handler)
    return stream
  }

  async stop(): Promise<void> {
    for (const stream of this.#streams) stream.close('stopped')
    this.#renewal?.stop()
    const listener = this.#listener
    this.#listener = undefined
    if (listener !== undefined) {
      const closed = new Promise<void>((resolve) => listener.close(() => resolve()))
      for (const { socket } of this.#callers.values()) socket.destroySoon()
      setTimeout(() => {
        for (const { socket } of this.#callers.values()) socket.destroy()
      }, 2 * FAREWELL_MS).unref()
      await closed
    }
  }

  #onConnection(socket: Socket, inject: (socket: Socket) => void): void {
    const key = joinAddress(socket.remoteAddress ?? '?', socket.remotePort ?? 0)
    const caller = { socket, known: false }
    socket.setNoDelay()
    socket.on('error', () => undefined)
    if (this.#callers.size >= MAX_CALLERS) {
      this.#refused(key, 'too many connections')
      socket.destroy()
      return
    }
    this.#callers.set(key, caller)
    const greeting = setTimeout(() => {
      if (!caller.known) socket.destroy()
    }, GREETING_MS)
    greeting.unref()
    socket.on('close', () => {
      clearTimeout(greeting)
      this.#callers.delete(key)
      if (!caller.known) this.#refused(key, 'closed without a valid call')
    })
    inject(socket)
  }

  #onCall(
    call: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    accept: (stream: Stream) => StreamHandler,
  ): void {
    const socket = call.session?.socket as TLSSocket | undefined
    const peer = joinAddress(socket?.remoteAddress ?? '?', socket?.remotePort ?? 0)
    const caller = this.#callers.get(peer)
    if (caller !== undefined) caller.known = true
    const certificate = socket?.getPeerCertificate()
    const names = uriNames(certificate ?? { subjectaltname: '' })
    const link = headers['tandem-link']
    const refusal = !names.includes(this.#options.partnerUri)
      ? `certificate names ${names.join(', ') || 'nobody'}`
      : headers[':path'] !== PATH
        ? `call of ${String(headers[':path'])}`
        : link !== this.name
          ? `call for driver ${String(link)}`
          : undefined
    if (refusal !== undefined) {
      this.#refused(peer, refusal)
      call.on('error', () => undefined)
      call.respond({ ...RESPONSE_HEADERS, ...outcome(PERMISSION_DENIED, refusal) }, { endStream: true })
      return
    }
    let last = outcome(OK, '')
    call.respond(RESPONSE_HEADERS, { waitForTrailers: true })
    call.on('wantTrailers', () => call.sendTrailers(last))
    const stream = new WireStream(call, (reason) => {
      this.#streams.delete(stream)
      last = outcome(UNAVAILABLE, reason)
      call.end()
      // The status may not get through; the connection carries nothing else.
      setTimeout(() => caller?.socket.destroy(), FAREWELL_MS).unref()
    })
    this.#streams.add(stream)
    stream.attach(accept(stream))
  }

  #refused(from: string, reason: string): void {
    const now = performance.now()
    if (now - this.#lastRefusal < REFUSAL_LOG_MS) return
    this.#lastRefusal = now
    this.#options.log('warn', 'interconnect caller refused', { link: this.name, from, reason })
  }
}

class WireStream implements Stream {
  handler: StreamHandler | undefined
  readonly #call: Http2Stream
  readonly #release: (reason: string) => void
  /** Buffers whose batch the connection has taken: most of the cost of a large batch is the garbage that it leaves. */
  #scratch: Buffer[] = []
  #queued = 0
  #full = false
  #over = false

  constructor(call: Http2Stream, release: (reason: string) => void) {
    this.#call = call
    this.#release = release
  }

  attach(handler: StreamHandler): void {
    this.handler = handler
    const reader = new MessageReader(MAX_MESSAGE_BYTES)
    this.#call.on('error', (error: Error) => this.ended(error.message))
    this.#call.on('end', () => this.#soonEnded())
    this.#call.on('aborted', () => this.#soonEnded())
    this.#call.on('close', () => this.#soonEnded())
    this.#call.on('data', (bytes: Buffer) => {
      let batches: Frame[][]
      try {
        batches = reader.push(bytes).map(decodeBatch)
      } catch (error) {
        this.ended(`not a batch of frames: ${describe(error)}`)
        return
      }
      for (const frames of batches) if (!this.#over) this.handler?.received(frames)
    })
  }

  send(frames: readonly Frame[]): boolean {
    if (this.#over) return true
    const batch = new EncodedBatch(frames)
    const length = PREFIX_BYTES + batch.length
    const scratch =
      length <= SCRATCH_BYTES ? (this.#scratch.pop() ?? Buffer.allocUnsafeSlow(SCRATCH_BYTES)) : undefined
    const bytes = scratch?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length)
    putPrefix(bytes)
    batch.writeTo(bytes, PREFIX_BYTES)
    this.#queued += length
    this.#call.write(bytes, () => {
      this.#queued -= length
      if (scratch !== undefined && this.#scratch.length < SCRATCH_KEPT) this.#scratch.push(scratch)
      if (!this.#full || this.#queued > QUEUE_BYTES / 2 || this.#over) return
      this.#full = false
      this.handler?.drained()
    })
    if (this.#queued < QUEUE_BYTES) return true
    this.#full = true
    return false
  }

  close(reason: string): void {
    if (this.#over) return
    this.#over = true
    this.handler = undefined
    this.#release(reason)
  }

  /** Ended by the other side or by a fault. */
  ended(reason: string): void {
    if (this.#over) return
    const { handler } = this
    this.close(reason)
    handler?.closed(reason)
  }

  /** Who knows why (trailers, the connection's error) is heard first. */
  #soonEnded(): void {
    setImmediate(() => this.ended('closed by the partner'))
  }
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : 'failed'
}
