/**
 * Where peers call: one address on one network, taken by the drivers of that network, one for each peer (the partner; filers of
 * other pairs). A caller reaches a driver if its certificate names that driver's peer *and* comes from the authority that this peer
 * is trusted by: the authority of another pair can name nobody but its own filers.
 *
 * Whoever speaks anything else on the port, or has another name, is cut off; one line is logged, at most one a second. A new certificate
 * or authority is used for new connections; running ones go on.
 */
import { createSecureServer } from 'node:http2'
import type {
  Http2SecureServer,
  IncomingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2'
import { createServer } from 'node:net'
import type { Server as TcpServer, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Stream, StreamHandler } from '../../core/connection/driver.ts'
import type { Log } from '../../core/env/env.ts'
import { InterconnectService } from '../../proto/gen/interconnect.ts'
import { isWildcard, joinAddress, splitAddress } from './address.ts'
import { OK, outcome, PERMISSION_DENIED, RESPONSE_HEADERS, UNAVAILABLE } from './message-stream.ts'
import { contextOptions, issuedBy, uriNames } from './tls.ts'
import type { TlsSource } from './tls.ts'
import { describe, WireStream } from './wire-stream.ts'

export interface GrpcListenerOptions {
  /** Own address on the network, with port; 0 lets the host choose. */
  readonly listen: string
  /** What peers are told; `listen` if not given. */
  readonly advertise?: string
  readonly log: Log
  /** How often drivers are asked for newer certificates. */
  readonly certificateRefreshMs?: number
}

/** A driver, as its listener knows it. */
export interface Callee {
  readonly name: string
  /** The only one who may call it. */
  readonly partnerUri: string
  /** Own certificate, the same for all drivers of a listener, and the authority of the peer's. */
  readonly tls: TlsSource
  accept(stream: Stream): StreamHandler
}

/** What may be under way towards this end before it is read. */
export const WINDOW_BYTES = 8 << 20
export const SETTINGS = { initialWindowSize: WINDOW_BYTES, enablePush: false } as const
const { path: PATH } = InterconnectService.link
/** A caller that has made no valid call by then is cut off. */
const GREETING_MS = 5000
const MAX_CALLERS = 64
const REFUSAL_LOG_MS = 1000
/** How long the last words of a connection may take. */
const FAREWELL_MS = 100
/** The connection manager's heartbeats find the dead sooner; this is for connections that it has forgotten. */
export const KEEPALIVE_MS = 10_000

interface Running {
  readonly listener: TcpServer
  readonly server: Http2SecureServer
  readonly refresh: NodeJS.Timeout
}

export class GrpcListener {
  readonly #options: GrpcListenerOptions
  readonly #callees = new Set<Callee>()
  /** Connections taken, by the caller's address. */
  readonly #callers = new Map<string, { readonly socket: Socket; known: boolean }>()
  readonly #streams = new Map<WireStream, Callee>()
  #address: string
  #running: Running | undefined
  #context = ''
  /** Starting and stopping take their turns. */
  #turn: Promise<void> = Promise.resolve()
  #lastRefusal = -Infinity

  constructor(options: GrpcListenerOptions) {
    this.#options = options
    this.#address = options.advertise ?? options.listen
  }

  /** Empty where the own address is not known: a wildcard would lead the peer to itself. */
  get address(): string {
    return isWildcard(splitAddress(this.#address).host) ? '' : this.#address
  }

  /** What drivers dial from; undefined: any. */
  get localAddress(): string | undefined {
    const { host } = splitAddress(this.#options.listen)
    return isWildcard(host) ? undefined : host
  }

  /** Rejects when the address cannot be bound. */
  join(callee: Callee): Promise<void> {
    return this.#inTurn(async () => {
      this.#callees.add(callee)
      try {
        if (this.#running === undefined) await this.#start()
        else this.#renew()
      } catch (error) {
        this.#callees.delete(callee)
        throw error
      }
    })
  }

  /** Ends the calls of that driver; the last one to leave closes the address. */
  leave(callee: Callee): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#callees.delete(callee)) return
      for (const [stream, its] of [...this.#streams]) if (its === callee) stream.close('stopped')
      if (this.#callees.size > 0) this.#renew()
      else await this.#stop()
    })
  }

  #inTurn(task: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(task)
    this.#turn = done.catch(() => undefined)
    return done
  }

  async #start(): Promise<void> {
    const { listen, advertise, certificateRefreshMs = 10_000 } = this.#options
    const server = createSecureServer({
      ...this.#newContext(),
      requestCert: true,
      // Whoever comes from no authority is refused like others, at his call: so he is told why.
      rejectUnauthorized: false,
      // A connection carries one link: what is received on it is given back as that one's (received-memory.ts).
      settings: { ...SETTINGS, maxConcurrentStreams: 1 },
    })
    server.on('session', (session: ServerHttp2Session) => {
      session.setLocalWindowSize(WINDOW_BYTES)
      session.on('error', () => undefined)
    })
    server.on('stream', (stream, headers) => this.#onCall(stream, headers))
    server.on('tlsClientError', (_error: Error, socket: TLSSocket) => socket.destroy())
    server.on('unknownProtocol', (socket: TLSSocket) => socket.destroy())
    server.on('sessionError', () => undefined)
    const listener = createServer((socket) =>
      this.#onConnection(socket, (taken) => server.emit('connection', taken)),
    )
    const { host, port } = splitAddress(listen)
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ host, port, exclusive: true }, () => {
        listener.off('error', reject)
        resolve()
      })
    })
    const bound = listener.address()
    if (advertise === undefined && typeof bound === 'object' && bound !== null)
      this.#address = joinAddress(host, bound.port)
    const refresh = setInterval(() => {
      try {
        this.#renew()
      } catch (error) {
        this.#options.log('error', 'certificates cannot be renewed', {
          address: this.#address,
          error: describe(error),
        })
      }
    }, certificateRefreshMs)
    refresh.unref()
    this.#running = { listener, server, refresh }
  }

  async #stop(): Promise<void> {
    if (this.#running === undefined) return
    const { listener, refresh } = this.#running
    this.#running = undefined
    clearInterval(refresh)
    const closed = new Promise<void>((resolve) => listener.close(() => resolve()))
    for (const { socket } of this.#callers.values()) socket.destroySoon()
    setTimeout(() => {
      for (const { socket } of this.#callers.values()) socket.destroy()
    }, 2 * FAREWELL_MS).unref()
    await closed
  }

  /** The own certificate, and the authorities of all peers. */
  #newContext() {
    const materials = [...this.#callees].map(({ tls }) => tls.current())
    const { certificate, key } = materials[0]!
    const ca = [...new Set(materials.map((material) => material.ca))].join('\n')
    this.#context = `${ca}${certificate}${key}`
    return contextOptions({ ca, certificate, key })
  }

  #renew(): void {
    const before = this.#context
    const context = this.#newContext()
    if (this.#context !== before) this.#running?.server.setSecureContext(context)
  }

  #onConnection(socket: Socket, inject: (socket: Socket) => void): void {
    const key = joinAddress(socket.remoteAddress ?? '?', socket.remotePort ?? 0)
    const caller = { socket, known: false }
    socket.setNoDelay()
    socket.setKeepAlive(true, KEEPALIVE_MS)
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

  #onCall(call: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const socket = call.session?.socket as TLSSocket | undefined
    const peer = joinAddress(socket?.remoteAddress ?? '?', socket?.remotePort ?? 0)
    const caller = this.#callers.get(peer)
    if (caller !== undefined) caller.known = true
    const callee = this.#calleeOf(socket, headers)
    if (typeof callee === 'string') {
      this.#refused(peer, callee)
      call.on('error', () => undefined)
      call.respond({ ...RESPONSE_HEADERS, ...outcome(PERMISSION_DENIED, callee) }, { endStream: true })
      setTimeout(() => caller?.socket.destroy(), FAREWELL_MS).unref()
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
    this.#streams.set(stream, callee)
    stream.attach(callee.accept(stream))
  }

  /** Why nobody, if nobody. */
  #calleeOf(socket: TLSSocket | undefined, headers: IncomingHttpHeaders): Callee | string {
    const names = uriNames(socket?.getPeerCertificate() ?? { subjectaltname: '' })
    if (socket?.authorized !== true)
      return `certificate for ${names.join(', ') || 'nobody'} from no authority that is trusted here (${String(socket?.authorizationError)})`
    const raw = socket?.getPeerX509Certificate()
    const known = [...this.#callees].filter(
      ({ partnerUri, tls }) =>
        names.includes(partnerUri) && raw !== undefined && issuedBy(raw, tls.current().ca),
    )
    if (known.length === 0)
      return `certificate names ${names.join(', ') || 'nobody'}, who is not expected here`
    if (headers[':path'] !== PATH) return `call of ${String(headers[':path'])}`
    const link = headers['tandem-link']
    return known.find(({ name }) => name === link) ?? `call for driver ${String(link)}`
  }

  #refused(from: string, reason: string): void {
    const now = performance.now()
    if (now - this.#lastRefusal < REFUSAL_LOG_MS) return
    this.#lastRefusal = now
    this.#options.log('warn', 'interconnect caller refused', { address: this.#address, from, reason })
  }
}
