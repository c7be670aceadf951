/**
 * A relay of TCP connections that can do what networks do without telling: stop the bytes (nothing is closed, new connections are
 * taken and answer nothing), delay them, or stop them in one direction. Closing is news too, so it passes the same way.
 *
 * Each route is one end of an interconnect: who connects to its listener is `from`, whom it leads to is `to`. Filers of other pairs connect to it too; they are told apart by the
 * address that they come from, and what happens to their connections alone is a state of its own.
 */
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'

export interface Route {
  readonly from: string
  readonly to: string
  readonly listen: { readonly host: string; readonly port: number }
  readonly target: { readonly host: string; readonly port: number }
}

export interface LinkState {
  /** Senders whose bytes stop. */
  readonly cut: readonly string[]
  readonly delayMs: number
  /** Cut and whole in turn, changing each time after so long; 0: not. */
  readonly flapMs: number
}

export const WHOLE: LinkState = { cut: [], delayMs: 0, flapMs: 0 }

/** Bytes under way in one direction beyond which the sender is not read. */
const IN_FLIGHT_MAX = 4 << 20

class Direction {
  readonly #source: Socket
  readonly #sink: Socket
  readonly #state: () => { open: boolean; delayMs: number }
  readonly #queue: { dueMs: number; chunk: Buffer | 'end' | 'reset' }[] = []
  #bytes = 0
  #timer: NodeJS.Timeout | undefined
  #full = false

  constructor(source: Socket, sink: Socket, state: () => { open: boolean; delayMs: number }) {
    this.#source = source
    this.#sink = sink
    this.#state = state
    source.on('data', (chunk: Buffer) => this.#push(chunk))
    source.on('end', () => this.#push('end'))
    source.on('error', () => undefined)
    source.on('close', (failed) => {
      if (failed) this.#push('reset')
    })
    sink.on('drain', () => {
      this.#full = false
      this.pump()
    })
  }

  #push(chunk: Buffer | 'end' | 'reset'): void {
    this.#queue.push({ dueMs: performance.now() + this.#state().delayMs, chunk })
    if (typeof chunk !== 'string') this.#bytes += chunk.length
    if (this.#bytes > IN_FLIGHT_MAX) this.#source.pause()
    this.pump()
  }

  pump(): void {
    clearTimeout(this.#timer)
    while (this.#state().open && !this.#full) {
      const next = this.#queue[0]
      if (next === undefined) break
      const waitMs = next.dueMs - performance.now()
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.pump(), waitMs)
        break
      }
      this.#queue.shift()
      this.#deliver(next.chunk)
    }
    if (this.#bytes <= IN_FLIGHT_MAX && this.#source.isPaused()) this.#source.resume()
  }

  #deliver(chunk: Buffer | 'end' | 'reset'): void {
    if (chunk === 'end') this.#sink.end()
    else if (chunk === 'reset') this.#sink.resetAndDestroy()
    else {
      this.#bytes -= chunk.length
      this.#full = !this.#sink.write(chunk) && !this.#sink.destroyed
    }
  }
}

export class Relay {
  #state: LinkState = WHOLE
  /** By the address that a caller comes from. */
  readonly #callers = new Map<string, LinkState>()
  #flapped = false
  #flapTimer: NodeJS.Timeout | undefined
  readonly #directions = new Set<Direction>()
  readonly #sockets = new Set<Socket>()
  readonly #servers: Server[] = []

  async open(routes: readonly Route[]): Promise<void> {
    for (const route of routes) {
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
        this.#accept(route, socket),
      )
      this.#servers.push(server)
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen({ ...route.listen }, resolve)
      })
    }
  }

  set(state: LinkState): void {
    this.#state = state
    this.#flapped = false
    clearInterval(this.#flapTimer)
    if (state.flapMs > 0)
      this.#flapTimer = setInterval(() => {
        this.#flapped = !this.#flapped
        this.#pumpAll()
      }, state.flapMs)
    this.#pumpAll()
  }

  /** Of connections from these addresses; `cut` with any name in it means both ways, and they do not flap. */
  setCallers(hosts: readonly string[], state: LinkState): void {
    for (const host of hosts) this.#callers.set(host, state)
    this.#pumpAll()
  }

  close(): void {
    clearInterval(this.#flapTimer)
    for (const server of this.#servers) server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #pumpAll(): void {
    for (const direction of this.#directions) direction.pump()
  }

  #accept(route: Route, near: Socket): void {
    const far = connect({ ...route.target, allowHalfOpen: true, noDelay: true })
    const host = near.remoteAddress ?? ''
    const state = (sender: string) => () => {
      const caller = this.#callers.get(host) ?? WHOLE
      return {
        open: !this.#state.cut.includes(sender) && !this.#flapped && caller.cut.length === 0,
        delayMs: this.#state.delayMs + caller.delayMs,
      }
    }
    const directions = [
      new Direction(near, far, state(route.from)),
      new Direction(far, near, state(route.to)),
    ]
    for (const direction of directions) this.#directions.add(direction)
    for (const socket of [near, far]) {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    }
    let open = 2
    const closed = (): void => {
      if (--open === 0) for (const direction of directions) this.#directions.delete(direction)
    }
    near.once('close', closed)
    far.once('close', closed)
  }
}
