/**
 * Simulated networks between simulated processes: an implementation of `Driver` with faults. One network per driver
 * name; each filer's driver on it has an address. A stream delivers in order and once, as TCP does; what a fault can do
 * is delay, hold back, or break it. What arrives within a tenth of a millisecond is delivered in one turn now and then, as one read of a socket has it.
 */
import type { Driver, Stream, StreamHandler } from '../core/connection/driver.ts'
import type { Frame } from '../core/connection/frames.ts'
import { frameBytes } from '../core/connection/frames.ts'
import type { SimProcess, World } from './world.ts'

/** One direction of one network. */
interface Path {
  delayMs: number
  jitterMs: number
  /** 0: as much as is asked. */
  bytesPerMs: number
  /** Nothing arrives, nobody is told; what was sent arrives when this ends. */
  silent: boolean
}

/** Chance that what arrives waits for what comes right behind it, and how long. */
const TOGETHER = 0.2
const TOGETHER_MS = 0.1
/** Bytes under way on a stream from which on `send` says no. */
const QUEUE_BYTES = 1 << 20

export class SimNetwork {
  readonly world: World
  #paths = new Map<string, Path>()
  #cut = new Set<string>()
  #drivers = new Map<string, SimDriver>()
  #wires = new Set<Wire>()
  delayMs = 0.1
  jitterMs = 0.1
  /** Sees every batch before it is delivered; may change it, or return undefined to break the stream. */
  tap:
    | ((batch: {
        link: string
        from: string
        to: string
        frames: readonly Frame[]
      }) => readonly Frame[] | undefined)
    | undefined

  constructor(world: World) {
    this.world = world
  }

  /** The driver of `process` on network `link`; its address is `<process>/<link>` unless given. */
  driver(process: SimProcess, link: string, address = `${process.name}/${link}`): Driver {
    return new SimDriver(this, process, link, address)
  }

  /** Breaks every stream of the network and refuses new ones, until `heal`. */
  cut(link: string): void {
    this.#cut.add(link)
    for (const wire of [...this.#wires]) if (wire.link === link) wire.break('network cut')
  }

  /** Nothing arrives any more and nobody is told: in both directions, or only from `from`. */
  silence(link: string, from?: string): void {
    for (const path of this.#pathsOf(link, from)) path.silent = true
  }

  delay(link: string, delayMs: number, jitterMs = 0, from?: string): void {
    for (const path of this.#pathsOf(link, from)) {
      path.delayMs = delayMs
      path.jitterMs = jitterMs
    }
  }

  bandwidth(link: string, bytesPerMs: number): void {
    for (const path of this.#pathsOf(link)) path.bytesPerMs = bytesPerMs
  }

  /** Ends `cut`, `silence`, `delay`; held frames of streams that still live arrive now. */
  heal(link: string): void {
    this.#cut.delete(link)
    for (const path of this.#pathsOf(link)) {
      path.silent = false
      path.delayMs = this.delayMs
      path.jitterMs = this.jitterMs
    }
    for (const wire of this.#wires) if (wire.link === link) wire.release()
  }

  isCut(link: string): boolean {
    return this.#cut.has(link)
  }

  path(link: string, from: string): Path {
    const key = `${link}\n${from}`
    let path = this.#paths.get(key)
    if (path === undefined) {
      path = { delayMs: this.delayMs, jitterMs: this.jitterMs, bytesPerMs: 0, silent: false }
      this.#paths.set(key, path)
    }
    return path
  }

  attach(driver: SimDriver): void {
    this.#drivers.set(driver.address, driver)
  }
  detach(driver: SimDriver): void {
    if (this.#drivers.get(driver.address) === driver) this.#drivers.delete(driver.address)
  }
  find(address: string): SimDriver | undefined {
    return this.#drivers.get(address)
  }
  add(wire: Wire): void {
    this.#wires.add(wire)
  }
  remove(wire: Wire): void {
    this.#wires.delete(wire)
  }
  wiresOf(process: SimProcess): readonly Wire[] {
    return [...this.#wires].filter((wire) => wire.near.process === process || wire.far?.process === process)
  }

  #pathsOf(link: string, from?: string): Path[] {
    for (const driver of this.#drivers.values())
      if (driver.name === link) this.path(link, driver.process.name)
    if (from !== undefined) return [this.path(link, from)]
    return [...this.#paths].filter(([key]) => key.startsWith(`${link}\n`)).map(([, path]) => path)
  }
}

class SimDriver implements Driver {
  readonly name: string
  readonly address: string
  readonly process: SimProcess
  readonly network: SimNetwork
  accept: ((stream: Stream) => StreamHandler) | undefined

  constructor(network: SimNetwork, process: SimProcess, name: string, address: string) {
    this.network = network
    this.process = process
    this.name = name
    this.address = address
    process.onKill((silent) => {
      network.detach(this)
      if (!silent)
        for (const wire of network.wiresOf(process)) if (wire.link === name) wire.break('connection reset')
    })
  }

  start(accept: (stream: Stream) => StreamHandler): Promise<void> {
    this.accept = accept
    this.network.attach(this)
    return Promise.resolve()
  }

  dial(address: string, handler: StreamHandler): Stream {
    const wire = new Wire(this, handler)
    wire.dial(address)
    return wire.near
  }

  stop(): Promise<void> {
    this.network.detach(this)
    this.accept = undefined
    for (const wire of this.network.wiresOf(this.process)) if (wire.link === this.name) wire.break('stopped')
    return Promise.resolve()
  }
}

type Item = { readonly frames: readonly Frame[]; readonly bytes: number } | { readonly close: string }

class End implements Stream {
  readonly wire: Wire
  readonly process: SimProcess
  handler: StreamHandler | undefined
  peer: End | undefined
  /** Sent by this end, not yet arrived. */
  queue: Item[] = []
  queuedBytes = 0
  full = false
  closing = false
  /** Arrived, and not handed over yet. */
  readonly unread: (readonly Frame[])[] = []
  lastArrival = 0
  held = false

  constructor(wire: Wire, process: SimProcess) {
    this.wire = wire
    this.process = process
  }

  send(frames: readonly Frame[]): boolean {
    if (this.closing || this.wire.broken) return true
    const copies = frames.map(copyFrame)
    let bytes = 0
    for (const frame of copies) bytes += frameBytes(frame)
    this.queuedBytes += bytes
    this.wire.transmit(this, { frames: copies, bytes })
    if (this.queuedBytes < QUEUE_BYTES) return true
    this.full = true
    return false
  }

  close(reason: string): void {
    if (this.closing) return
    this.closing = true
    this.handler = undefined
    this.wire.transmit(this, { close: reason })
  }
}

class Wire {
  readonly network: SimNetwork
  readonly link: string
  readonly near: End
  far: End | undefined
  broken = false

  constructor(driver: SimDriver, handler: StreamHandler) {
    this.network = driver.network
    this.link = driver.name
    this.near = new End(this, driver.process)
    this.near.handler = handler
  }

  dial(address: string): void {
    const { world } = this.network
    const path = this.network.path(this.link, this.near.process.name)
    world.after(path.delayMs + world.random.between(0, path.jitterMs), () => {
      if (this.near.closing || this.broken) return
      const target = this.network.find(address)
      const back = target === undefined ? undefined : this.network.path(this.link, target.process.name)
      // A silent network swallows the call: the caller's own time limit ends it.
      if (path.silent || back?.silent === true) return
      if (
        target?.accept === undefined ||
        !target.process.alive ||
        this.network.isCut(this.link) ||
        target.name !== this.link
      ) {
        this.broken = true
        const handler = this.near.handler
        this.near.process.post(() => handler?.closed('connection refused'))
        return
      }
      const far = new End(this, target.process)
      far.peer = this.near
      this.near.peer = far
      this.far = far
      this.network.add(this)
      const accept = target.accept
      target.process.post(() => {
        if (!this.broken) far.handler = accept(far)
      })
      this.near.process.post(() => this.near.handler?.opened())
      for (const item of this.near.queue.splice(0)) this.transmit(this.near, item)
    })
  }

  transmit(from: End, item: Item): void {
    if (this.broken) return
    from.queue.push(item)
    if (this.far === undefined) return
    this.#schedule(from, item)
  }

  #schedule(from: End, item: Item): void {
    const { world } = this.network
    const path = this.network.path(this.link, from.process.name)
    if (path.silent || from.held) {
      from.held = true
      return
    }
    const bytes = 'bytes' in item ? item.bytes : 0
    const start = Math.max(
      world.now + path.delayMs + world.random.between(0, path.jitterMs),
      from.lastArrival,
    )
    from.lastArrival = start + (path.bytesPerMs > 0 ? bytes / path.bytesPerMs : 0) + 0.0001
    world.after(from.lastArrival - world.now, () => this.#arrive(from, item, path))
  }

  #arrive(from: End, item: Item, path: Path): void {
    if (this.broken || from.queue[0] !== item) return
    if (path.silent) {
      from.held = true
      return
    }
    from.queue.shift()
    const to = from.peer
    if (to === undefined) return
    if ('close' in item) {
      this.#read(to)
      const handler = to.handler
      this.#forget()
      to.process.post(() => handler?.closed(item.close))
      return
    }
    from.queuedBytes -= item.bytes
    const { tap } = this.network
    const frames =
      tap === undefined
        ? item.frames
        : tap({ link: this.link, from: from.process.name, to: to.process.name, frames: item.frames })
    if (frames === undefined) {
      this.break('broken by a fault')
      return
    }
    this.network.world.note(`${this.link} ${from.process.name} ${frames.map((frame) => frame.kind).join()}`)
    to.unread.push(frames)
    if (to.unread.length === 1) {
      const { world } = this.network
      if (world.random.chance(TOGETHER)) world.after(TOGETHER_MS, () => this.#read(to))
      else this.#read(to)
    }
    if (from.full && from.queuedBytes < QUEUE_BYTES / 2) {
      from.full = false
      from.process.post(() => from.handler?.drained())
    }
  }

  /** All that has arrived, in one turn. */
  #read(to: End): void {
    const unread = to.unread.splice(0)
    if (this.broken || unread.length === 0) return
    to.process.post(() => {
      for (const frames of unread) if (!to.closing && frames.length > 0) to.handler?.received(frames)
    })
  }

  /** What a silent time held back sets out now. */
  release(): void {
    for (const end of [this.near, this.far]) {
      if (end?.held !== true) continue
      end.held = false
      for (const item of [...end.queue]) this.#schedule(end, item)
    }
  }

  /** Reset: both ends are told, unless the way to them is silent, and what is under way is lost. */
  break(reason: string): void {
    if (this.broken) return
    this.#forget()
    const { world } = this.network
    for (const end of [this.near, this.far]) {
      const handler = end?.handler
      if (end?.peer === undefined || handler === undefined || end.closing) continue
      const path = this.network.path(this.link, end.peer.process.name)
      if (path.silent) continue
      world.after(path.delayMs, () =>
        end.process.post(() => {
          if (!end.closing) handler.closed(reason)
        }),
      )
    }
  }

  #forget(): void {
    this.broken = true
    this.network.remove(this)
  }
}

function copyFrame(frame: Frame): Frame {
  if (!('payload' in frame)) return frame
  const payload = frame.payload.map((chunk) => chunk.slice())
  if (frame.kind !== 'write') return { ...frame, payload }
  // Its memory is another's from then on.
  return { ...frame, payload, placed: () => payload.forEach((chunk) => chunk.fill(0xee)) }
}
