/**
 * Two managers in one simulated world, with clients that check what every client may rely on (A1-A5): any violation ends
 * the run. For the tests of the manager; the pair's own tests build on sim/ directly.
 */
import type { Channel, ChannelClient, ChannelErrorCode, Fence, Region } from '../client.ts'
import { ChannelError } from '../client.ts'
import type { Frame } from '../frames.ts'
import { ConnectionManager } from '../manager.ts'
import type { ManagerOptions } from '../options.ts'
import { SimNetwork } from '../../../sim/network.ts'
import type { SimProcess } from '../../../sim/world.ts'
import { World } from '../../../sim/world.ts'

export const FENCE: Fence = { epoch: 1, incarnation: 1 }

/** A region in memory whose placements take virtual time. Poisoned once it is given back. */
export class SimRegion implements Region {
  readonly key: number
  readonly bytes: number
  readonly content: Uint8Array
  readonly order: number[] = []
  fence = 0
  freed = false
  readonly #process: SimProcess
  readonly delayMs: number

  constructor(process: SimProcess, key: number, bytes: number, delayMs = 0.2) {
    this.#process = process
    this.key = key
    this.bytes = bytes
    this.delayMs = delayMs
    this.content = new Uint8Array(bytes)
  }

  place(offset: number, chunks: readonly Uint8Array[], fence: Fence): Promise<void> {
    if (fence.epoch < this.fence) {
      return Promise.reject(new ChannelError('FENCED', 'older', { epoch: this.fence, incarnation: 0 }))
    }
    this.order.push(offset)
    return this.#later(() => {
      if (this.freed) this.#process.world.fail(new Error('A8: a write landed in memory that was given back'))
      let at = offset
      for (const chunk of chunks) {
        this.content.set(chunk, at)
        at += chunk.byteLength
      }
    })
  }

  read(offset: number, bytes: number): Promise<Uint8Array> {
    return this.#later(() => this.content.slice(offset, offset + bytes))
  }

  flush(): Promise<void> {
    return this.#later(() => undefined)
  }

  #later<T>(work: () => T): Promise<T> {
    return new Promise((resolve) => {
      this.#process.env.clock.after(this.#process.random.between(0, this.delayMs), () => resolve(work()))
    })
  }
}

export interface Shape {
  readonly id?: string
  readonly version?: number
  readonly ports?: number
  readonly memoryBytes?: number
  readonly policy?: 'ordered' | 'striped'
  readonly regionBytes?: readonly number[]
}

/** Records what it is told, and fails the world when that breaks a promise. */
export class CheckedClient implements ChannelClient {
  readonly id: string
  readonly version: number
  readonly ports: number
  readonly memoryBytes: number
  readonly policy: 'ordered' | 'striped'
  readonly regions: readonly SimRegion[]
  readonly events: string[] = []
  readonly live = new Map<number, Channel>()
  received = 0
  readonly #filer: SimFiler
  #generations = new Map<number, number>()
  #sent = new Map<Channel, number>()
  #got = new Map<Channel, number>()

  constructor(filer: SimFiler, shape: Shape = {}) {
    this.#filer = filer
    this.id = shape.id ?? 'log'
    this.version = shape.version ?? 1
    this.ports = shape.ports ?? 1
    this.memoryBytes = shape.memoryBytes ?? 1 << 20
    this.policy = shape.policy ?? 'ordered'
    this.regions = (shape.regionBytes ?? [65536]).map(
      (bytes, key) => new SimRegion(filer.process, key, bytes),
    )
  }

  get channel(): Channel | undefined {
    return this.live.get(0)
  }

  up(channel: Channel): void {
    this.#check(!this.live.has(channel.index), `A4: up(${channel.generation}) while a generation is up`)
    const last = this.#generations.get(channel.index) ?? 0
    this.#check(channel.generation > last, `A4: up(${channel.generation}) after up(${last})`)
    const key = `${this.#filer.partnerName} ${this.id} ${channel.index} ${channel.generation}`
    this.#check(
      this.#filer.readies.has(key),
      `A1: up(${channel.generation}) of ${this.id} before the partner's READY came`,
    )
    this.#generations.set(channel.index, channel.generation)
    this.live.set(channel.index, channel)
    this.events.push(`up ${channel.index} ${channel.generation}`)
  }
  error(channel: Channel): void {
    this.#over(channel, 'error')
  }
  down(channel: Channel): void {
    this.#over(channel, 'down')
  }
  message(channel: Channel, message: Uint8Array): void | Promise<void> {
    this.#check(
      this.live.get(channel.index) === channel,
      `A3: message of generation ${channel.generation} after its end`,
    )
    const number = new DataView(message.buffer, message.byteOffset).getUint32(0)
    const expected = this.#got.get(channel) ?? 0
    this.#check(number === expected, `A5: message ${number} where ${expected} was due`)
    this.#got.set(channel, expected + 1)
    this.received++
  }

  /** Sends the next numbered message. */
  send(channel: Channel, bytes = 4): Promise<void> {
    const number = this.#sent.get(channel) ?? 0
    this.#sent.set(channel, number + 1)
    const message = new Uint8Array(Math.max(4, bytes))
    new DataView(message.buffer).setUint32(0, number)
    return this.checked(channel, channel.send(message))
  }

  /** A completion may not come after the generation's end was told. */
  checked<T>(channel: Channel, operation: Promise<T>): Promise<T> {
    return operation.then((value) => {
      if (this.live.get(channel.index) !== channel) {
        this.#filer.process.world.fail(
          new Error(`A3: completion of generation ${channel.generation} after its end`),
        )
      }
      return value
    })
  }

  #over(channel: Channel, how: string): void {
    this.#check(this.live.get(channel.index) === channel, `A4: ${how}(${channel.generation}) without its up`)
    this.live.delete(channel.index)
    this.events.push(`${how} ${channel.index} ${channel.generation}`)
  }

  #check(condition: boolean, message: string): void {
    if (!condition) this.#filer.process.world.fail(new Error(`${this.#filer.process.name}: ${message}`))
  }
}

export interface SimFiler {
  readonly name: string
  readonly partnerName: string
  readonly process: SimProcess
  readonly manager: ConnectionManager
  /** READY frames that have arrived here: `<sender> <client> <index> <generation>`. */
  readonly readies: Set<string>
  readonly peers: (number | undefined)[]
}

export class Bench {
  readonly world: World
  readonly network: SimNetwork
  readonly links: readonly string[]
  readonly frames: { readonly from: string; readonly link: string; readonly frame: Frame }[] = []
  /** Looks at, or changes, what is about to arrive. */
  onBatch:
    | ((batch: { link: string; from: string; frames: readonly Frame[] }) => readonly Frame[] | undefined)
    | undefined
  recording = false
  #filers = new Map<string, SimFiler>()
  #incarnations = new Map<string, number>()

  constructor(seed: number, links: readonly string[] = ['one', 'two']) {
    this.world = new World(seed)
    this.network = new SimNetwork(this.world)
    this.links = links
    this.network.tap = (batch) => {
      const to = this.#filers.get(batch.to)
      for (const frame of batch.frames) {
        if (frame.kind === 'ready')
          to?.readies.add(`${batch.from} ${frame.client} ${frame.index} ${frame.generation}`)
        if (this.recording) this.frames.push({ from: batch.from, link: batch.link, frame })
      }
      return this.onBatch === undefined ? batch.frames : this.onBatch(batch)
    }
  }

  /** Makes (or, after a kill, makes anew) a filer; `start` boots it. */
  filer(name: 'a' | 'b', options: Partial<ManagerOptions> = {}, rate = 1): SimFiler {
    const partnerName = name === 'a' ? 'b' : 'a'
    const process = this.world.process(name, { rate })
    const incarnation = (this.#incarnations.get(name) ?? 0) + 1
    this.#incarnations.set(name, incarnation)
    const peers: (number | undefined)[] = []
    const manager = new ConnectionManager({
      env: process.env,
      systemId: name,
      partnerId: partnerName,
      incarnation,
      logBytes: 1 << 20,
      drivers: this.links.map((link) => this.network.driver(process, link)),
      peerAddresses: Object.fromEntries(this.links.map((link) => [link, `${partnerName}/${link}`])),
      frameBytes: 4096,
      ...options,
    })
    manager.onPeer((peer) => peers.push(peer?.incarnation))
    const filer: SimFiler = { name, partnerName, process, manager, readies: new Set(), peers }
    this.#filers.set(name, filer)
    return filer
  }
}

export function codeOf(error: unknown): ChannelErrorCode {
  if (error instanceof ChannelError) return error.code
  throw error
}

export function client(filer: SimFiler, shape: Shape = {}): CheckedClient {
  const made = new CheckedClient(filer, shape)
  filer.manager.register(made)
  return made
}

/** Two filers with one client each, up. */
export async function connected(
  seed: number,
  shape: Shape = {},
  links?: readonly string[],
  options: Partial<ManagerOptions> = {},
) {
  const bench = new Bench(seed, links)
  const a = bench.filer('a', options)
  const b = bench.filer('b', options)
  const ca = client(a, shape)
  const cb = client(b, shape)
  a.manager.start()
  b.manager.start()
  const allUp = () => [a, b].every((filer) => filer.manager.links().every((link) => link.state === 'Up'))
  const ports = shape.ports ?? 1
  await bench.world.until(() => allUp() && ca.live.size === ports && cb.live.size === ports, 5000, 'all up')
  return { bench, world: bench.world, a, b, ca, cb }
}

export const readyLinks = (filer: SimFiler): number =>
  filer.manager.links().filter((link) => link.state !== 'Down').length

/** Names of the drivers that a channel runs on. */
export function linksOf(channel: Channel | undefined): readonly string[] {
  if (channel === undefined) return []
  return (channel as Channel & { readonly links: readonly { readonly name: string }[] }).links.map(
    (link) => link.name,
  )
}
