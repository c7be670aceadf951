/**
 * Connection managers over real gRPC with real certificates on loopback addresses, every network through a relay that can fail, and clients
 * that check what every client may rely on. For tests; the protocol itself is tested in the simulator, where faults are finer.
 */
import { crc32 } from 'node:zlib'
import type { Channel, ChannelClient, Fence, Region } from '../../../core/connection/client.ts'
import type { Driver, StreamHandler } from '../../../core/connection/driver.ts'
import type { Frame } from '../../../core/connection/frames.ts'
import { ConnectionManager } from '../../../core/connection/manager.ts'
import type { ManagerOptions } from '../../../core/connection/options.ts'
import type { Env } from '../../../core/env/env.ts'
import type { Authority } from '../../pki.ts'
import { filerUri, issue, newAuthority } from '../../pki.ts'
import { GrpcDriver } from '../driver.ts'
import { GrpcListener } from '../listener.ts'
import type { TlsMaterial, TlsSource } from '../tls.ts'
import { Relay } from './relay.ts'

export const FENCE: Fence = { epoch: 1, incarnation: 1 }
/** Test files run at the same time, each in a process of its own. */
const NET = 16 + (process.pid % 200)
const PORT = 17400

/** On a machine that is busy with other things a late heartbeat is not what is tested. */
const PATIENT = { failAfterMs: 2000, handshakeMs: 5000 }

export async function until(condition: () => boolean, limitMs = 15_000, what = 'condition'): Promise<void> {
  const end = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what} not reached in ${limitMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

export async function material(from: Authority, uri: string, trusted = from.bundle): Promise<TlsMaterial> {
  const { certificate, key } = await issue(from, uri, Date.now())
  return { ca: trusted, certificate, key }
}

/** A region in memory. Poisoned once it is given back. */
export class Memory implements Region {
  readonly key: number
  readonly content: Uint8Array
  freed = false
  readonly #violations: string[]

  constructor(key: number, bytes: number, violations: string[]) {
    this.key = key
    this.content = new Uint8Array(bytes)
    this.#violations = violations
  }
  get bytes(): number {
    return this.content.byteLength
  }
  async place(offset: number, chunks: readonly Uint8Array[]): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    if (this.freed) this.#violations.push('A8: a write landed in memory that was given back')
    let at = offset
    for (const chunk of chunks) {
      this.content.set(chunk, at)
      at += chunk.byteLength
    }
  }
  read(offset: number, bytes: number): Promise<Uint8Array> {
    return Promise.resolve(this.content.slice(offset, offset + bytes))
  }
  flush(): Promise<void> {
    return Promise.resolve()
  }
}

export interface TwinShape {
  readonly id?: string
  readonly version?: number
  readonly ports?: number
  readonly policy?: 'ordered' | 'striped'
  readonly regionBytes?: number
}

export class Twin implements ChannelClient {
  readonly id: string
  readonly version: number
  readonly ports: number
  readonly memoryBytes = 4 << 20
  readonly policy: 'ordered' | 'striped'
  readonly memory: Memory
  readonly regions: readonly Memory[]
  readonly messages: string[] = []
  readonly events: string[] = []
  readonly live = new Map<number, Channel>()
  readonly #violations: string[]

  constructor(violations: string[], shape: TwinShape = {}) {
    this.id = shape.id ?? 'log'
    this.version = shape.version ?? 1
    this.ports = shape.ports ?? 1
    this.policy = shape.policy ?? 'ordered'
    this.#violations = violations
    this.memory = new Memory(1, shape.regionBytes ?? 1 << 22, violations)
    this.regions = [this.memory, new Memory(2, 4096, violations)]
  }
  get channel(): Channel | undefined {
    return this.live.get(0)
  }
  get whole(): boolean {
    return this.live.size === this.ports
  }
  up(channel: Channel): void {
    if (this.live.has(channel.index)) this.#violations.push(`A4: ${this.id} up twice`)
    this.live.set(channel.index, channel)
    this.events.push(`up ${channel.index} ${channel.generation}`)
  }
  error(channel: Channel): void {
    this.#over(channel, 'error')
  }
  down(channel: Channel): void {
    this.#over(channel, 'down')
  }
  message(_channel: Channel, message: Uint8Array): void {
    this.messages.push(new TextDecoder().decode(message))
  }
  #over(channel: Channel, how: string): void {
    if (this.live.get(channel.index) !== channel) this.#violations.push(`A4: ${how} without its up`)
    this.live.delete(channel.index)
    this.events.push(`${how} ${channel.index} ${channel.generation}`)
  }
}

/** A driver that stops with its filer, and lets the test see what arrives. */
class WatchedDriver implements Driver {
  readonly #driver: GrpcDriver
  readonly #life: { alive: boolean; onFrame: ((frame: Frame) => void) | undefined }

  constructor(driver: GrpcDriver, life: WatchedDriver['life']) {
    this.#driver = driver
    this.#life = life
  }
  get name(): string {
    return this.#driver.name
  }
  get address(): string {
    return this.#driver.address
  }
  get life() {
    return this.#life
  }
  start(accept: Parameters<Driver['start']>[0]): Promise<void> {
    return this.#driver.start((stream) => this.#watched(accept(stream)))
  }
  dial(address: string, handler: StreamHandler) {
    return this.#driver.dial(address, this.#watched(handler))
  }
  stop(): Promise<void> {
    return this.#driver.stop()
  }
  #watched(handler: StreamHandler): StreamHandler {
    const life = this.#life
    return {
      opened: () => life.alive && handler.opened(),
      received: (frames) => {
        for (const frame of frames) {
          if (!life.alive) return
          life.onFrame?.(frame)
        }
        if (life.alive) handler.received(frames)
      },
      drained: () => life.alive && handler.drained(),
      closed: (reason, refusal) => life.alive && handler.closed(reason, refusal),
    }
  }
}

export interface RealFiler {
  readonly manager: ConnectionManager
  readonly peers: (number | undefined)[]
  readonly metrics: Map<string, number>
  onFrame: ((frame: Frame) => void) | undefined
  /** Ends as a killed process does: its sockets close, and it does nothing more. */
  kill(): Promise<void>
}

export class RealPair {
  readonly violations: string[] = []
  readonly lines: {
    readonly event: string
    readonly fields: Readonly<Record<string, unknown>> | undefined
  }[] = []
  readonly links: readonly string[]
  /** By link: what a's calls go through, and what b's do. */
  readonly relays = new Map<string, { readonly toA: Relay; readonly toB: Relay }>()
  readonly tls: Record<'a' | 'b', TlsSource>
  readonly #running = new Set<RealFiler>()
  readonly #incarnations = { a: 0, b: 0 }

  private constructor(links: readonly string[], tls: Record<'a' | 'b', TlsSource>) {
    this.links = links
    this.tls = tls
  }

  static async make(
    links: readonly string[] = ['one', 'two'],
    given?: Record<'a' | 'b', TlsSource>,
  ): Promise<RealPair> {
    const authority = given === undefined ? await newAuthority('pair p', Date.now()) : undefined
    const source = async (name: string): Promise<TlsSource> => {
      const fixed = await material(authority!, filerUri('ns', 'p', name))
      return { current: () => fixed }
    }
    const tls = given ?? { a: await source('a'), b: await source('b') }
    const pair = new RealPair(links, tls)
    for (const [i, link] of links.entries()) {
      const relays = {
        toA: new Relay(addressOf(i, 3), addressOf(i, 1)),
        toB: new Relay(addressOf(i, 4), addressOf(i, 2)),
      }
      pair.relays.set(link, relays)
      await Promise.all([relays.toA.start(), relays.toB.start()])
    }
    return pair
  }

  twin(filer: RealFiler, shape: TwinShape = {}): Twin {
    const twin = new Twin(this.violations, shape)
    filer.manager.register(twin)
    return twin
  }

  filer(name: 'a' | 'b', options: Partial<ManagerOptions> = {}): RealFiler {
    const partner = name === 'a' ? 'b' : 'a'
    const life = { alive: true, onFrame: undefined as ((frame: Frame) => void) | undefined }
    const metrics = new Map<string, number>()
    const env = this.env(life, metrics)
    const drivers = this.links.map((link, i) => {
      const listener = new GrpcListener({
        listen: addressOf(i, name === 'a' ? 1 : 2),
        advertise: addressOf(i, name === 'a' ? 3 : 4),
        log: env.log,
        certificateRefreshMs: 20,
      })
      const driver = new GrpcDriver({
        name: link,
        listener,
        tls: this.tls[name],
        partnerUri: filerUri('ns', 'p', partner),
      })
      return new WatchedDriver(driver, life)
    })
    const manager = new ConnectionManager({
      env,
      systemId: name,
      partnerId: partner,
      incarnation: ++this.#incarnations[name],
      logBytes: 1 << 20,
      drivers,
      peerAddresses: Object.fromEntries(
        this.links.map((link, i) => [link, addressOf(i, name === 'a' ? 4 : 3)]),
      ),
      ...options,
      times: { ...PATIENT, ...options.times },
    })
    const peers: (number | undefined)[] = []
    manager.onPeer((peer) => peers.push(peer?.incarnation))
    const filer: RealFiler = {
      manager,
      peers,
      metrics,
      get onFrame() {
        return life.onFrame
      },
      set onFrame(see) {
        life.onFrame = see
      },
      kill: async () => {
        life.alive = false
        this.#running.delete(filer)
        await Promise.all(drivers.map((driver) => driver.stop()))
      },
    }
    this.#running.add(filer)
    return filer
  }

  cut(link: string): void {
    for (const relay of Object.values(this.relays.get(link)!)) relay.cut()
  }
  silence(link: string): void {
    for (const relay of Object.values(this.relays.get(link)!)) relay.silence()
  }
  /** Each way; a round trip takes twice as long. */
  delay(link: string, ms: number): void {
    for (const relay of Object.values(this.relays.get(link)!)) relay.delay(ms)
  }
  heal(link: string): void {
    for (const relay of Object.values(this.relays.get(link)!)) relay.heal()
  }

  async stop(): Promise<void> {
    for (const link of this.links) this.heal(link)
    await Promise.all([...this.#running].map(({ manager }) => manager.stop()))
    this.#running.clear()
    for (const { toA, toB } of this.relays.values()) await Promise.all([toA.stop(), toB.stop()])
  }

  env(life: { readonly alive: boolean } = { alive: true }, metrics = new Map<string, number>()): Env {
    const key = (name: string, labels: object = {}) => `${name}${JSON.stringify(labels)}`
    return {
      clock: {
        now: () => performance.now(),
        wall: () => ({ seconds: 0, nanoseconds: 0 }),
        after: (delayMs, task) => {
          const timer = setTimeout(() => {
            if (life.alive) task()
          }, delayMs)
          return { cancel: () => clearTimeout(timer) }
        },
      },
      random: { u32: () => Math.floor(Math.random() * 0x100000000) },
      crc32: (data, seed) => crc32(data, seed),
      log: (_level, event, fields) => {
        this.lines.push({ event, fields })
      },
      metrics: {
        add: (name, value = 1, labels) => {
          metrics.set(key(name, labels), (metrics.get(key(name, labels)) ?? 0) + value)
        },
        set: (name, value, labels) => {
          metrics.set(key(name, labels), value)
        },
        observe: () => undefined,
      },
    }
  }
}

/** `end`: 1 and 2 are the filers, 3 and 4 the relays in front of them. */
export function addressOf(link: number, end: number): string {
  return `127.${NET}.${link}.${end}:${PORT}`
}
