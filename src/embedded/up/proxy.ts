/**
 * Stands for kube-proxy: one listener on 127.0.0.1 per Service, and each accepted socket goes whole to the filer that the Service
 * names, over the channel of its process. No byte of a connection passes here.
 *
 * A hand-over is complete when the filer says `taken`. A socket that is not taken in time, or whose Service has moved on meanwhile,
 * is shut down for both ends, though a copy of it may lie in the channel of a process that does not run: nothing is left pointing to
 * the old one.
 */
import type { ChildProcess } from 'node:child_process'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { hasExited } from './processes.ts'

const TAKE_WITHIN_MS = 1000

interface Pending {
  readonly socket: Socket
  readonly service: string
  readonly child: ChildProcess
  readonly timer: NodeJS.Timeout
}

export class ServiceProxy {
  readonly #pending = new Map<number, Pending>()
  readonly #known = new WeakSet<ChildProcess>()
  readonly #log: (message: string) => void
  readonly #takeWithinMs: number
  #next = 1

  constructor(log: (message: string) => void, takeWithinMs = TAKE_WITHIN_MS) {
    this.#log = log
    this.#takeWithinMs = takeWithinMs
  }

  /** A listener, not yet listening, whose connections go to what `target` names at that moment. */
  listener(service: string, target: () => ChildProcess | undefined): Server {
    return createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      socket.on('error', () => undefined)
      const child = target()
      if (child === undefined || hasExited(child) || !child.connected) return void socket.resetAndDestroy()
      this.#handOver(service, socket, child)
    })
  }

  /** The Service names another process now (or none): what is still under way to the old one ends. */
  moved(service: string, child: ChildProcess | undefined): void {
    for (const [id, pending] of this.#pending)
      if (pending.service === service && pending.child !== child) this.#close(id, 'the service has moved')
  }

  get pending(): number {
    return this.#pending.size
  }

  #handOver(service: string, socket: Socket, child: ChildProcess): void {
    this.#listenTo(child)
    const id = this.#next++
    const timer = setTimeout(() => this.#close(id, 'not taken in time'), this.#takeWithinMs)
    this.#pending.set(id, { socket, service, child, timer })
    child.send({ type: 'connection', id, service }, socket, { keepOpen: true }, (error) => {
      if (error !== null) this.#close(id, error.message)
    })
  }

  #listenTo(child: ChildProcess): void {
    if (this.#known.has(child)) return
    this.#known.add(child)
    child.on('message', (message: unknown) => {
      const { type, id } = (message ?? {}) as { type?: string; id?: number }
      if (type === 'taken' && id !== undefined) this.#taken(id)
    })
    child.once('exit', () => {
      for (const [id, pending] of this.#pending)
        if (pending.child === child) this.#close(id, 'the filer has ended')
    })
  }

  #taken(id: number): void {
    const pending = this.#forget(id)
    // Only this process's copy: the connection lives on in the filer.
    pending?.socket.destroy()
  }

  #close(id: number, why: string): void {
    const pending = this.#forget(id)
    if (pending === undefined) return
    this.#log(`connection to ${pending.service} closed: ${why}`)
    // A shutdown reaches the connection itself, a close only this process's copy of it.
    pending.socket.end(() => pending.socket.destroy())
  }

  #forget(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    if (pending === undefined) return undefined
    clearTimeout(pending.timer)
    this.#pending.delete(id)
    return pending
  }
}
