/**
 * Sockets for a protocol server that has none: listens, or takes sockets from outside, and couples each with a connection.
 *
 * Bytes are read from the kernel straight into the connection's memory: Node offers that (`onread`) only when a Socket is
 * made, so an accepted socket's handle is put into a new Socket. Replies are written with one system call per burst. Nagle's algorithm
 * is off; a reply is never held back. A socket that is not read and not written for long is probed by TCP keep-alive.
 */
import { Server, Socket } from 'node:net'
import type { AddressInfo, SocketConstructorOpts } from 'node:net'
import type { Log } from '../../core/env/env.ts'

/** What the server makes of a socket. */
export interface StreamConnection {
  /** Where the next bytes are to be put. */
  inputSpace(): Uint8Array
  /** That many bytes are there. */
  input(bytes: number): void
  /** The other side is gone. */
  ended(): void
}

/** What a connection may do with its socket. */
export interface StreamTransport {
  send(chunks: readonly Uint8Array[], taken: () => void): void
  pause(): void
  resume(): void
  close(): void
  soon(task: () => void): void
}

export interface StreamServer {
  /** undefined: not wanted, the socket is closed. */
  connect(address: string, transport: StreamTransport): StreamConnection | undefined
  closeAll(): void
}

const KEEP_ALIVE_MS = 30_000
const BACKLOG = 511

export class TcpServer {
  readonly #server: StreamServer
  readonly #log: Log
  readonly #sockets = new Set<Socket>()
  #listener: Server | undefined

  constructor(server: StreamServer, log: Log) {
    this.#server = server
    this.#log = log
  }

  /** Listens; rejects if it cannot. Gives the port (port 0 asks for any). */
  listen(port: number, host: string): Promise<number> {
    const listener = new Server({ pauseOnConnect: true }, (socket) => this.serve(socket))
    this.#listener = listener
    return new Promise((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ port, host, backlog: BACKLOG }, () => {
        listener.off('error', reject)
        listener.on('error', (error) => this.#log('error', 'NFS listener failed', { error: error.message }))
        resolve((listener.address() as AddressInfo).port)
      })
    })
  }

  /** Serves a socket that was accepted here or elsewhere and from which nothing has been read. */
  serve(accepted: Socket): void {
    const { _handle: handle } = accepted as unknown as { _handle: SocketConstructorOpts['handle'] | null }
    const address = accepted.remoteAddress
    const link = new Link()
    const connection = handle && address !== undefined ? this.#server.connect(address, link) : undefined
    if (!handle || !connection) {
      accepted.destroy()
      return
    }
    const options: SocketConstructorOpts = {
      handle,
      onread: {
        buffer: () => connection.inputSpace(),
        callback(bytes) {
          connection.input(bytes)
          return true
        },
      },
    }
    const socket = new Socket(options)
    link.socket = socket
    socket.setNoDelay(true)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    this.#sockets.add(socket)
    // A reset is the client's way to leave; 'close' follows.
    socket.on('error', () => undefined)
    socket.on('end', () => socket.destroy())
    socket.on('close', () => {
      this.#sockets.delete(socket)
      connection.ended()
    })
  }

  /** No new connections, and the end of those that are. */
  close(): void {
    this.#listener?.close()
    this.#listener = undefined
    this.#server.closeAll()
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** A connection's way to its socket, which is made after the connection, because it reads into its memory. */
class Link implements StreamTransport {
  socket: Socket | undefined

  send(chunks: readonly Uint8Array[], taken: () => void): void {
    const { socket } = this
    if (!socket || socket.destroyed) {
      taken()
      return
    }
    const last = chunks.length - 1
    if (last > 0) socket.cork()
    for (const [i, chunk] of chunks.entries()) {
      if (i < last) socket.write(chunk)
      else socket.write(chunk, taken)
    }
    if (last > 0) socket.uncork()
  }

  pause(): void {
    this.socket?.pause()
  }

  resume(): void {
    this.socket?.resume()
  }

  close(): void {
    this.socket?.destroy()
  }

  soon(task: () => void): void {
    process.nextTick(task)
  }
}
