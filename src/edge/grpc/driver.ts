/**
 * The interconnect over gRPC: one driver on one network. It listens on its own network's address and dials from it; each
 * direction is one HTTP/2 connection with one long stream (retries off). Both ends prove by certificate which filer of
 * which pair they are.
 *
 * What is sent is bounded by what the connection has not yet taken (`QUEUE_BYTES`): beyond it `send` says no and pressure
 * reaches the channels. What is received is bounded by the channels' windows, so streams are always read.
 *
 * Whoever speaks anything else on the port, or has another name, is cut off; one line is logged, at most one a second.
 */
import { createServer } from 'node:net'
import type { Server as TcpServer, Socket } from 'node:net'
import { Client, Metadata, Server, status } from '@grpc/grpc-js'
import type { ChannelOptions, ServerDuplexStream, ServiceDefinition } from '@grpc/grpc-js'
import type { Driver, Stream, StreamHandler } from '../../core/connection/driver.ts'
import type { Frame } from '../../core/connection/frames.ts'
import type { Log } from '../../core/env/env.ts'
import { InterconnectService } from '../../proto/gen/interconnect.ts'
import { joinAddress, LOCAL_ADDRESS_OPTION, splitAddress, targetOf } from './address.ts'
import { decodeBatch, EncodedBatch } from './codec.ts'
import type { TlsSource } from './tls.ts'
import { clientCredentials, RefreshedServerCredentials, uriNames } from './tls.ts'

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
/** A caller that has made no valid call by then is cut off. */
const GREETING_MS = 5000
const MAX_CALLERS = 64
const REFUSAL_LOG_MS = 1000

const channelOptions: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.enable_retries': 0,
  'grpc.keepalive_time_ms': 5000,
  'grpc.keepalive_timeout_ms': 2000,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_channelz': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.initial_reconnect_backoff_ms': 60_000,
  'grpc-node.flow_control_window': 8 << 20,
}

const identity = (bytes: Buffer): Buffer => bytes

/** The generated service, with (de)serialization left to codec.ts. */
const service: ServiceDefinition = {
  link: {
    ...InterconnectService.link,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  },
}

export class GrpcDriver implements Driver {
  readonly name: string
  readonly #options: GrpcDriverOptions
  #address: string
  #localAddress: string | undefined
  #server: Server | undefined
  #listener: TcpServer | undefined
  #credentials: RefreshedServerCredentials | undefined
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
    const refreshed = new RefreshedServerCredentials(tls, certificateRefreshMs)
    const server = new Server(channelOptions)
    server.addService(service, {
      link: (call: ServerDuplexStream<Buffer, Buffer>) => this.#onCall(call, accept),
    })
    const injector = server.createConnectionInjector(refreshed.credentials)
    const listener = createServer((socket) =>
      this.#onConnection(socket, (taken) => injector.injectConnection(taken)),
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
      refreshed.stop()
      throw error
    }
    const bound = listener.address()
    if (advertise === undefined && typeof bound === 'object' && bound !== null)
      this.#address = joinAddress(host, bound.port)
    this.#server = server
    this.#listener = listener
    this.#credentials = refreshed
  }

  dial(address: string, handler: StreamHandler): Stream {
    const { tls, partnerUri } = this.#options
    const options: ChannelOptions = { ...channelOptions, 'grpc.ssl_target_name_override': 'tandem' }
    if (this.#localAddress !== undefined) options[LOCAL_ADDRESS_OPTION] = this.#localAddress
    let client: Client
    try {
      client = new Client(
        targetOf(address),
        clientCredentials(tls, (uri) => uri === partnerUri),
        options,
      )
    } catch (error) {
      queueMicrotask(() => handler.closed(describe(error)))
      return { send: () => true, close: () => undefined }
    }
    const metadata = new Metadata()
    metadata.set('tandem-link', this.name)
    const call = client.makeBidiStreamRequest(service.link!.path, identity, identity, metadata)
    const stream = new WireStream(call, () => {
      call.cancel()
      client.close()
      this.#streams.delete(stream)
    })
    this.#streams.add(stream)
    call.on('metadata', () => stream.handler?.opened())
    stream.attach(handler)
    return stream
  }

  async stop(): Promise<void> {
    for (const stream of this.#streams) stream.close('stopped')
    this.#credentials?.stop()
    const listener = this.#listener
    this.#listener = undefined
    if (listener !== undefined) {
      const closed = new Promise<void>((resolve) => listener.close(() => resolve()))
      for (const { socket } of this.#callers.values()) socket.destroySoon()
      setTimeout(() => {
        for (const { socket } of this.#callers.values()) socket.destroy()
      }, 200).unref()
      await closed
    }
    this.#server?.forceShutdown()
    this.#server = undefined
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

  #onCall(call: ServerDuplexStream<Buffer, Buffer>, accept: (stream: Stream) => StreamHandler): void {
    const peer = call.getPeer()
    const caller = this.#callers.get(peer)
    if (caller !== undefined) caller.known = true
    const names = uriNames(call.getAuthContext().sslPeerCertificate ?? { subjectaltname: '' })
    const [link] = call.metadata.get('tandem-link')
    const refusal = !names.includes(this.#options.partnerUri)
      ? `certificate names ${names.join(', ') || 'nobody'}`
      : link !== this.name
        ? `call for driver ${String(link)}`
        : undefined
    if (refusal !== undefined) {
      this.#refused(peer, refusal)
      call.on('error', () => undefined)
      call.emit('error', { code: status.PERMISSION_DENIED, details: refusal })
      return
    }
    call.sendMetadata(new Metadata())
    const stream = new WireStream(call, (reason) => {
      this.#streams.delete(stream)
      call.emit('error', { code: status.UNAVAILABLE, details: reason })
      // The status may not get through; the connection carries nothing else.
      setTimeout(() => caller?.socket.destroy(), 100).unref()
    })
    this.#streams.add(stream)
    call.on('cancelled', () => stream.ended('closed by the partner'))
    stream.attach(accept(stream))
  }

  #refused(from: string, reason: string): void {
    const now = performance.now()
    if (now - this.#lastRefusal < REFUSAL_LOG_MS) return
    this.#lastRefusal = now
    this.#options.log('warn', 'interconnect caller refused', { link: this.name, from, reason })
  }
}

/** What both kinds of call have in common. */
interface Call {
  write(bytes: Buffer, done: () => void): boolean
  on(event: 'data', listener: (bytes: Buffer) => void): unknown
  on(event: 'end', listener: () => void): unknown
  on(event: 'error', listener: (error: Error & { details?: string }) => void): unknown
}

class WireStream implements Stream {
  handler: StreamHandler | undefined
  readonly #call: Call
  readonly #release: (reason: string) => void
  /** Buffers whose batch grpc-js has copied and sent: most of the cost of a large batch was the garbage it left. */
  #scratch: Buffer[] = []
  #queued = 0
  #full = false
  #over = false

  constructor(call: Call, release: (reason: string) => void) {
    this.#call = call
    this.#release = release
  }

  attach(handler: StreamHandler): void {
    this.handler = handler
    this.#call.on('error', (error) => this.ended(error.details ?? error.message))
    this.#call.on('end', () => this.ended('closed by the partner'))
    this.#call.on('data', (bytes) => {
      if (this.#over) return
      let frames: Frame[]
      try {
        frames = decodeBatch(bytes)
      } catch (error) {
        this.ended(`not a batch of frames: ${describe(error)}`)
        return
      }
      this.handler?.received(frames)
    })
  }

  send(frames: readonly Frame[]): boolean {
    if (this.#over) return true
    const batch = new EncodedBatch(frames)
    const scratch =
      batch.length <= SCRATCH_BYTES
        ? (this.#scratch.pop() ?? Buffer.allocUnsafeSlow(SCRATCH_BYTES))
        : undefined
    const bytes = scratch?.subarray(0, batch.length) ?? Buffer.allocUnsafeSlow(batch.length)
    batch.writeTo(bytes)
    this.#queued += batch.length
    this.#call.write(bytes, () => {
      this.#queued -= batch.length
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
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : 'failed'
}
