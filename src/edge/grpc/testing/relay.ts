/** A network of one driver that can fail: TCP connections to `listen` go to `target`, until they are cut, held or delayed. */
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { splitAddress } from '../address.ts'

export class Relay {
  readonly listen: string
  readonly #target: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #cut = false
  #silent = false
  #delayMs = 0

  constructor(listen: string, target: string) {
    this.listen = listen
    this.#target = target
    this.#server = createServer((near) => this.#take(near))
  }

  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ ...splitAddress(this.listen), exclusive: true }, resolve)
    })
  }

  stop(): Promise<void> {
    this.cut()
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }

  /** Resets everything, and whoever comes. */
  cut(): void {
    this.#cut = true
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Nothing arrives and nobody is told. */
  silence(): void {
    this.#silent = true
    for (const socket of this.#sockets) socket.pause()
  }

  delay(ms: number): void {
    this.#delayMs = ms
  }

  heal(): void {
    this.#cut = false
    this.#silent = false
    this.#delayMs = 0
    for (const socket of this.#sockets) socket.resume()
  }

  #take(near: Socket): void {
    if (this.#cut) {
      near.destroy()
      return
    }
    const far = connect(splitAddress(this.#target))
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from)
      from.setNoDelay()
      let due = 0
      // What is under way keeps its order when the delay changes.
      const pass = (task: () => void) => {
        const now = performance.now()
        due = Math.max(due, now + this.#delayMs)
        if (due <= now) task()
        else setTimeout(task, due - now)
      }
      from.on('data', (bytes: Buffer) => pass(() => to.writable && to.write(bytes)))
      from.on('end', () => pass(() => to.end()))
      from.on('error', () => undefined)
      from.on('close', () => {
        this.#sockets.delete(from)
        pass(() => to.destroy())
      })
      if (this.#silent) from.pause()
    }
  }
}
