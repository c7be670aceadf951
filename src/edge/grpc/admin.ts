/**
 * The administration service (src/proto/admin.proto) over the same mutual TLS as the interconnect. Who may call is decided
 * by the URI in the caller's certificate, whom we call likewise. Knows the messages, not what is in them.
 */
import { Metadata, Server, status } from '@grpc/grpc-js'
import type { ChannelOptions, sendUnaryData, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js'
import type { Log } from '../../core/env/env.ts'
import { AdministrationClient, AdministrationService } from '../../proto/gen/admin.ts'
import type { AdministrationServer, StatusReply, TakeoverReply } from '../../proto/gen/admin.ts'
import { joinAddress, splitAddress, targetOf } from './address.ts'
import type { TlsSource } from './tls.ts'
import { clientCredentials, RefreshedServerCredentials, uriNames } from './tls.ts'

export interface AdminService {
  /** `caller`: URI of who asks. Gives the generation in force. */
  apply(desiredJson: string, caller: string): Promise<number>
  status(): string
  /** Calls `listener` whenever the status has changed; the first time is the server's affair. Gives the way to end it. */
  watch(listener: (statusJson: string) => void): () => void
  takeover(side: string, epoch: number, caller: string): Promise<TakeoverReply>
  giveback(side: string, epoch: number, caller: string): Promise<TakeoverReply>
}

export interface AdminServerOptions {
  /** `host:port`; port 0 lets the host choose. */
  readonly listen: string
  readonly tls: TlsSource
  readonly allowed: (uri: string) => boolean
  readonly service: AdminService
  readonly log: Log
  readonly certificateRefreshMs?: number
}

export interface AdminServer {
  readonly address: string
  stop(): Promise<void>
}

const STATUS_BYTES = 16 << 20

const channelOptions: ChannelOptions = {
  'grpc.max_receive_message_length': STATUS_BYTES,
  'grpc.enable_retries': 0,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_channelz': 0,
  'grpc.service_config_disable_resolution': 1,
}

interface CallWithPeer {
  getPeer(): string
  getAuthContext(): { sslPeerCertificate?: { subjectaltname?: string | undefined } }
}

/** Rejects if the address cannot be bound. */
export async function createAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const { allowed, service, log } = options
  const refreshed = new RefreshedServerCredentials(options.tls, options.certificateRefreshMs ?? 10_000)
  const server = new Server(channelOptions)

  /** The caller's name, if it is one of those allowed. */
  const callerOf = (call: CallWithPeer): string | undefined => {
    const names = uriNames({ subjectaltname: call.getAuthContext().sslPeerCertificate?.subjectaltname ?? '' })
    const caller = names.find(allowed)
    if (caller === undefined)
      log('warn', 'administration refused', { from: call.getPeer(), names: names.join(', ') })
    return caller
  }
  const denied = { code: status.PERMISSION_DENIED, details: 'not one of those who may administer this filer' }

  function unary<Q, R>(answer: (request: Q, caller: string) => R | Promise<R>) {
    return (call: ServerUnaryCall<Q, R>, done: sendUnaryData<R>): void => {
      const caller = callerOf(call)
      if (caller === undefined) {
        done(denied)
        return
      }
      // `then` first, so that what `answer` throws at once is a rejection as well.
      Promise.resolve()
        .then(() => answer(call.request, caller))
        .then(
          (reply) => done(null, reply),
          (error: unknown) =>
            done({ code: status.INTERNAL, details: error instanceof Error ? error.message : 'failed' }),
        )
    }
  }

  const handlers: AdministrationServer = {
    apply: unary(async ({ desiredJson }, caller) => ({
      generation: await service.apply(desiredJson, caller),
    })),
    status: unary(() => ({ statusJson: service.status() })),
    takeover: unary(({ side, epoch }, caller) => service.takeover(side, epoch, caller)),
    giveback: unary(({ side, epoch }, caller) => service.giveback(side, epoch, caller)),
    watch: (call: ServerWritableStream<unknown, StatusReply>) => {
      if (callerOf(call) === undefined) {
        call.emit('error', denied)
        return
      }
      // A watcher that reads slowly gets the newest status, not all of them.
      let full = false
      let due: string | undefined
      const write = (statusJson: string) => {
        if (full) due = statusJson
        else full = !call.write({ statusJson })
      }
      call.on('drain', () => {
        full = false
        const next = due
        due = undefined
        if (next !== undefined) write(next)
      })
      write(service.status())
      const end = service.watch(write)
      call.on('cancelled', end)
      call.on('error', end)
    },
  }
  server.addService(AdministrationService, handlers)
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(options.listen, refreshed.credentials, (error, bound) => {
      if (error === null) resolve(bound)
      else reject(error)
    })
  }).catch((error: unknown) => {
    refreshed.stop()
    throw error
  })
  return {
    address: joinAddress(splitAddress(options.listen).host, port),
    stop: () => {
      refreshed.stop()
      server.forceShutdown()
      return Promise.resolve()
    },
  }
}

export interface AdminCallerOptions {
  /** `host:port` */
  readonly address: string
  readonly tls: TlsSource
  /** Whom the server's certificate must name. */
  readonly serverUri: (uri: string) => boolean
  readonly timeoutMs?: number
}

/** Every call rejects with an Error whose message says what the server, or the way to it, had to say. */
export interface AdminCaller {
  apply(desiredJson: string): Promise<number>
  status(): Promise<string>
  /** Hands over every status until the signal; rejects when the server does not answer (any more). */
  watch(onStatus: (statusJson: string) => void, signal: AbortSignal): Promise<void>
  takeover(side: string, epoch: number): Promise<TakeoverReply>
  giveback(side: string, epoch: number): Promise<TakeoverReply>
  close(): void
}

export function createAdminClient(options: AdminCallerOptions): AdminCaller {
  const { address, tls, serverUri, timeoutMs = 10_000 } = options
  const client: AdministrationClient = new AdministrationClient(
    targetOf(address),
    clientCredentials(tls, serverUri),
    {
      ...channelOptions,
      'grpc.ssl_target_name_override': 'tandem',
    },
  )
  type Done<R> = (error: Error | null, reply: R) => void
  const call = <R>(
    begin: (metadata: Metadata, deadline: { deadline: number }, done: Done<R>) => unknown,
  ): Promise<R> =>
    new Promise((resolve, reject) => {
      begin(new Metadata(), { deadline: Date.now() + timeoutMs }, (error, reply) => {
        if (error === null) resolve(reply)
        else reject(error)
      })
    })
  return {
    apply: async (desiredJson) =>
      (await call<{ generation: number }>((m, d, done) => client.apply({ desiredJson }, m, d, done)))
        .generation,
    status: async () => (await call<StatusReply>((m, d, done) => client.status({}, m, d, done))).statusJson,
    takeover: (side, epoch) => call((m, d, done) => client.takeover({ side, epoch }, m, d, done)),
    giveback: (side, epoch) => call((m, d, done) => client.giveback({ side, epoch }, m, d, done)),
    watch: (onStatus, signal) =>
      new Promise((resolve, reject) => {
        const stream = client.watch({})
        const cancel = () => stream.cancel()
        signal.addEventListener('abort', cancel, { once: true })
        if (signal.aborted) cancel()
        const over = (finish: () => void) => {
          signal.removeEventListener('abort', cancel)
          if (signal.aborted) resolve()
          else finish()
        }
        stream.on('data', ({ statusJson }: StatusReply) => onStatus(statusJson))
        stream.on('error', (error) => over(() => reject(error)))
        stream.on('end', () => over(() => reject(new Error('the filer ended the watch'))))
      }),
    close: () => client.close(),
  }
}
