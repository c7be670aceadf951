/**
 * The administration service (proto/admin.proto) on port 7401: mutual TLS, for the operator and the filers of the pair only.
 */
import { createServer } from 'node:net'
import type { Server as TcpServer } from 'node:net'
import { Server, status } from '@grpc/grpc-js'
import type { ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js'
import type {
  DesiredState,
  FilerStatus,
  SnapshotRequest as SnapshotOrder,
} from '../../api/v1alpha1/filer-config.ts'
import type { Log } from '../../core/env/env.ts'
import { AdministrationService } from '../../proto/gen/admin.ts'
import type {
  AdministrationServer,
  ApplyReply,
  ApplyRequest,
  SnapshotReply,
  SnapshotRequest,
  StatusReply,
  StatusRequest,
  TakeoverReply,
  TakeoverRequest,
} from '../../proto/gen/admin.ts'
import type { TlsSource } from '../grpc/tls.ts'
import { RefreshedServerCredentials, uriNames } from '../grpc/tls.ts'

export interface Administered {
  apply(desired: DesiredState): Promise<number>
  status(): FilerStatus
  takeover(side: string, epoch: number): Promise<TakeoverReply>
  giveback(side: string, epoch: number): Promise<TakeoverReply>
  snapshot(order: SnapshotOrder): Promise<SnapshotReply>
}

const NOT_ALLOWED = 'not the operator, nor a filer of this pair'
const WATCH_MS = 500
const WATCH_FIGURES_MS = 10_000
const REFRESH_MS = 10_000

interface Peer {
  readonly subjectaltname?: string
}

export class AdminServer {
  readonly #administered: Administered
  readonly #allowed: ReadonlySet<string>
  readonly #log: Log
  readonly #credentials: RefreshedServerCredentials
  readonly #server: Server
  #listener: TcpServer | undefined

  constructor(administered: Administered, tls: TlsSource, allowed: readonly string[], log: Log) {
    this.#administered = administered
    this.#allowed = new Set(allowed)
    this.#log = log
    this.#credentials = new RefreshedServerCredentials(tls, REFRESH_MS)
    this.#server = new Server({ 'grpc.max_receive_message_length': 16 << 20 })
    this.#server.addService(AdministrationService, this.#implementation())
  }

  async listen(port: number, host: string): Promise<number> {
    const injector = this.#server.createConnectionInjector(this.#credentials.credentials)
    const listener = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      injector.injectConnection(socket)
    })
    this.#listener = listener
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ host, port }, () => {
        listener.off('error', reject)
        resolve()
      })
    })
    return (listener.address() as { port: number }).port
  }

  close(): void {
    this.#credentials.stop()
    this.#listener?.close()
    this.#server.forceShutdown()
  }

  #implementation(): AdministrationServer {
    const administered = this.#administered
    return {
      apply: this.#unary<ApplyRequest, ApplyReply>(async ({ desiredJson }) => ({
        generation: await administered.apply(JSON.parse(desiredJson) as DesiredState),
      })),
      status: this.#unary<StatusRequest, StatusReply>(() =>
        Promise.resolve({ statusJson: JSON.stringify(administered.status()) }),
      ),
      watch: (call) => this.#watch(call),
      takeover: this.#unary<TakeoverRequest, TakeoverReply>(({ side, epoch }) =>
        administered.takeover(side, epoch),
      ),
      giveback: this.#unary<TakeoverRequest, TakeoverReply>(({ side, epoch }) =>
        administered.giveback(side, epoch),
      ),
      snapshot: this.#unary<SnapshotRequest, SnapshotReply>(({ requestJson }) =>
        administered.snapshot(JSON.parse(requestJson) as SnapshotOrder),
      ),
    }
  }

  /** Who has a certificate of the pair's CA and one of the expected names. */
  #isAllowed(call: { getAuthContext(): unknown }): boolean {
    const context = call.getAuthContext() as { sslPeerCertificate?: Peer }
    const certificate = context.sslPeerCertificate
    if (!certificate) return false
    return uriNames({ subjectaltname: certificate.subjectaltname ?? '' }).some((name) =>
      this.#allowed.has(name),
    )
  }

  #unary<Q, A>(answer: (request: Q) => Promise<A>) {
    return (call: ServerUnaryCall<Q, A>, callback: sendUnaryData<A>): void => {
      if (!this.#isAllowed(call)) {
        callback({ code: status.PERMISSION_DENIED, details: NOT_ALLOWED })
        return
      }
      answer(call.request).then(
        (reply) => callback(null, reply),
        (error: unknown) => {
          const details = error instanceof Error ? error.message : String(error)
          this.#log('warn', 'administration call failed', { cause: details })
          callback({ code: status.INTERNAL, details })
        },
      )
    }
  }

  #watch(call: ServerWritableStream<StatusRequest, StatusReply>): void {
    if (!this.#isAllowed(call)) {
      // Not destroy: that ends the stream before the refusal is on its way, and the caller waits for ever.
      call.emit('error', { code: status.PERMISSION_DENIED, details: NOT_ALLOWED })
      return
    }
    let lastStates = ''
    let lastText = ''
    let lastSent = -Infinity
    const send = (): void => {
      const now = performance.now()
      const current = this.#administered.status()
      const states = statesOf(current)
      const text = JSON.stringify(current)
      if (states === lastStates && (text === lastText || now - lastSent < WATCH_FIGURES_MS)) return
      lastStates = states
      lastText = text
      lastSent = now
      call.write({ statusJson: text })
    }
    send()
    const timer = setInterval(send, WATCH_MS)
    timer.unref()
    const end = (): void => clearInterval(timer)
    call.on('cancelled', end)
    call.on('close', end)
    call.on('error', end)
  }
}

/** A status without figures: what a change of which is worth telling at once. */
const FIGURES: ReadonlySet<string> = new Set([
  'usedBytes',
  'snapshotUsedBytes',
  'roundTripMicroseconds',
  'resyncPercent',
  'lagSeconds',
  'lagBytes',
  'sentBytes',
  'baselinePercent',
  'logFiles',
  'durableImage',
  'unacknowledged',
  'heardSeconds',
])

function statesOf(current: FilerStatus): string {
  return JSON.stringify(current, (key, value: unknown) => (FIGURES.has(key) ? undefined : value))
}
