/**
 * The interconnect to one peer over gRPC: one driver on one network. It takes calls on its network's listener and dials from the same
 * address; each direction is one HTTP/2 connection with one long call (message-stream.ts has the framing). Both ends prove by
 * certificate which filer of which pair they are.
 */
import { connect as connectHttp2, constants } from 'node:http2'
import type { ClientHttp2Session, IncomingHttpHeaders } from 'node:http2'
import { connect as connectTls } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import type { Refusal } from '../../core/connection/client.ts'
import type { Driver, Stream, StreamHandler } from '../../core/connection/driver.ts'
import { InterconnectService } from '../../proto/gen/interconnect.ts'
import { splitAddress } from './address.ts'
import type { Callee, GrpcListener } from './listener.ts'
import { KEEPALIVE_MS, SETTINGS, WINDOW_BYTES } from './listener.ts'
import { outcomeOf, PERMISSION_DENIED, REQUEST_HEADERS } from './message-stream.ts'
import type { TlsSource } from './tls.ts'
import { contextOptions, expecting, isCertificateError } from './tls.ts'
import { describe, WireStream } from './wire-stream.ts'

export interface GrpcDriverOptions {
  /** The network's name, equal on both filers. */
  readonly name: string
  readonly listener: GrpcListener
  /** Own certificate, and the authority from which the peer's must come: of the own pair for the partner, of its own for another. */
  readonly tls: TlsSource
  /** The peer's name, tandem://<namespace>/<pair>/<filer>. */
  readonly partnerUri: string
}

const { path: PATH } = InterconnectService.link
/** How reasons begin that are about certificates: what answers is not who it should be, or takes us for a stranger. */
export const REFUSED_HERE = 'not trusted here: '
export const REFUSED_THERE = 'not trusted there: '

export class GrpcDriver implements Driver {
  readonly name: string
  readonly #options: GrpcDriverOptions
  readonly #dialled = new Set<WireStream>()
  #callee: Callee | undefined

  constructor(options: GrpcDriverOptions) {
    this.name = options.name
    this.#options = options
  }

  get address(): string {
    return this.#options.listener.address
  }

  async start(accept: (stream: Stream) => StreamHandler): Promise<void> {
    const { name, partnerUri, tls, listener } = this.#options
    const callee = { name, partnerUri, tls, accept }
    await listener.join(callee)
    this.#callee = callee
  }

  dial(address: string, handler: StreamHandler): Stream {
    const { tls, partnerUri, listener } = this.#options
    const { localAddress } = listener
    let socket: TLSSocket
    let session: ClientHttp2Session
    try {
      const { host, port } = splitAddress(address)
      socket = connectTls({
        host,
        port,
        ...(localAddress === undefined ? {} : { localAddress }),
        ...contextOptions(tls.current()),
        // Not the host's name: pods' addresses come and go.
        servername: 'tandem',
        checkServerIdentity: expecting((uri) => uri === partnerUri),
        ALPNProtocols: ['h2'],
      })
      socket.setNoDelay()
      socket.setKeepAlive(true, KEEPALIVE_MS)
      session = connectHttp2(`https://${address}`, {
        createConnection: () => socket,
        settings: SETTINGS,
      })
    } catch (error) {
      queueMicrotask(() => handler.closed(describe(error)))
      return { send: () => true, close: () => undefined }
    }
    const call = session.request({ ...REQUEST_HEADERS, ':path': PATH, 'tandem-link': this.name })
    const stream = new WireStream(call, () => {
      call.close(constants.NGHTTP2_CANCEL)
      session.destroy()
      this.#dialled.delete(stream)
    })
    this.#dialled.add(stream)
    session.on('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(WINDOW_BYTES)
    })
    const failed = (error: Error): void =>
      stream.ended(reasonOf(error, socket), isCertificateError(error) ? 'CertificateRefused' : undefined)
    socket.on('error', failed)
    session.on('error', failed)
    let opened = false
    call.on('response', (headers: IncomingHttpHeaders & { ':status'?: number }) => {
      const end = endOf(headers)
      if (end !== undefined || headers[':status'] !== 200) {
        stream.ended(end ?? `HTTP status ${headers[':status']}`, deniedFor(headers))
      } else if (!opened) {
        opened = true
        stream.handler?.opened()
      }
    })
    call.on('trailers', (trailers: IncomingHttpHeaders) =>
      stream.ended(endOf(trailers) ?? 'closed by the partner'),
    )
    stream.attach(handler)
    return stream
  }

  async stop(): Promise<void> {
    for (const stream of this.#dialled) stream.close('stopped')
    if (this.#callee !== undefined) await this.#options.listener.leave(this.#callee)
    this.#callee = undefined
  }
}

function endOf(headers: IncomingHttpHeaders): string | undefined {
  const refused = headers['grpc-status'] === String(PERMISSION_DENIED)
  const reason = outcomeOf(headers)
  return refused && reason !== undefined ? REFUSED_THERE + reason : reason
}

function reasonOf(error: Error, { authorizationError }: TLSSocket): string {
  // Null while nothing was found wrong, whatever its type says.
  const unverified = authorizationError as unknown
  return unverified === null || unverified === undefined ? error.message : REFUSED_HERE + error.message
}

/** The listener lets everybody in whose authority it knows, and then says what it has against them (listener.ts). */
function deniedFor(headers: IncomingHttpHeaders): Refusal | undefined {
  if (headers['grpc-status'] !== String(PERMISSION_DENIED)) return undefined
  return outcomeOf(headers)?.startsWith('certificate') === true ? 'CertificateRefused' : 'WrongPeer'
}
