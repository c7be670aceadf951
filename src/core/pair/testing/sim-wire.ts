/**
 * Two connection managers and the network between them, reduced to what the pair protocol sees: channels that come and go,
 * operations with an unknown outcome, frames that arrive late. The production manager has tests of its own (core/connection).
 */
import type { Channel, ChannelClient, Connection, Fence, Region } from '../../connection/client.ts'
import { ChannelError } from '../../connection/client.ts'
import type { SimProcess, World } from '../../../sim/world.ts'

/** Silence after which a manager gives a driver up. */
const DETECT_MS = 300
const CONNECT_MS = 30

interface End {
  readonly process: SimProcess
  readonly clients: Map<string, ChannelClient>
  readonly open: Map<string, SimChannel>
}

export class SimWire {
  readonly world: World
  readonly #ends = new Map<string, End>()
  /** Names of filers whose sending is cut. */
  readonly #mute = new Set<string>()
  #generation = 0
  /** Sender and client whose frames are kept back: see `hold`. */
  #held: { readonly name: string; readonly client: string } | undefined
  #frames: (() => void)[] = []
  /** Chance that a frame under way when its channel ends is placed later after all. */
  ghostChance = 0

  constructor(world: World) {
    this.world = world
  }

  connection(name: string, process: SimProcess): Connection {
    const end: End = { process, clients: new Map(), open: new Map() }
    this.#ends.set(name, end)
    process.onKill(() => {
      if (this.#ends.get(name) === end) this.#ends.delete(name)
      this.#endAll('connection reset', 1)
    })
    return {
      register: (client) => {
        end.clients.set(client.id, client)
        this.#connect()
      },
      unregister: () => Promise.resolve(),
      peer: () => undefined,
      links: () => [],
      channels: () => [],
      onPeer: () => undefined,
      stop: () => {
        this.#ends.delete(name)
        this.#endAll('stopped', 1)
        return Promise.resolve()
      },
    }
  }

  /** What `from` sends no longer arrives; without a name, nothing does. Nobody is told: both notice by silence. */
  cut(from?: string): void {
    for (const name of from === undefined ? ['a', 'b'] : [from]) this.#mute.add(name)
    this.world.after(DETECT_MS, () => {
      if (this.#mute.size > 0) this.#endAll('silent', 0)
    })
  }
  heal(): void {
    this.#mute.clear()
    this.#connect()
  }
  /** From now on what `name` writes through this client stays in the network, and is placed at `release`, whatever has become of its sender. */
  hold(name: string, client: 'nvlog' | 'plex'): void {
    this.#held = { name, client }
  }
  release(): void {
    this.#held = undefined
    for (const frame of this.#frames.splice(0)) frame()
  }
  /** True if the frame is kept back. */
  keeps(name: string, client: string, frame: () => void): boolean {
    if (this.#held?.name !== name || this.#held.client !== client) return false
    this.#frames.push(frame)
    return true
  }
  isMute(name: string): boolean {
    return this.#mute.has(name)
  }

  #endAll(cause: string, delayMs: number): void {
    for (const end of this.#ends.values()) {
      for (const [id, channel] of [...end.open]) {
        end.open.delete(id)
        this.world.after(delayMs, () => end.process.post(() => channel.end(cause)))
      }
    }
    this.#connect()
  }

  #connect(): void {
    this.world.after(CONNECT_MS, () => {
      const [one, two] = [...this.#ends]
      if (!one || !two || this.#mute.size > 0) return
      for (const id of one[1].clients.keys()) {
        const [near, far] = [one[1].clients.get(id)!, two[1].clients.get(id)]
        if (!far || one[1].open.has(id) || two[1].open.has(id)) continue
        const generation = ++this.#generation
        this.#open(one[0], one[1], near, two[1], far, generation)
        this.#open(two[0], two[1], far, one[1], near, generation)
      }
    })
  }

  #open(
    name: string,
    end: End,
    client: ChannelClient,
    far: End,
    farClient: ChannelClient,
    generation: number,
  ): void {
    const channel = new SimChannel(this, name, client, end.process, far, farClient, generation)
    end.open.set(client.id, channel)
    end.process.post(() => client.up(channel))
  }
}

class SimChannel implements Channel {
  readonly clientId: string
  readonly index = 0
  readonly generation: number
  readonly remoteRegions = []
  readonly #wire: SimWire
  readonly #name: string
  readonly #client: ChannelClient
  readonly #process: SimProcess
  readonly #far: End
  readonly #farClient: ChannelClient
  readonly #regions: Map<number, Region>
  readonly #outstanding = new Set<(error: ChannelError) => void>()
  #ended = false
  #lastArrival = 0
  #lastReturn = 0

  constructor(
    wire: SimWire,
    name: string,
    client: ChannelClient,
    process: SimProcess,
    far: End,
    farClient: ChannelClient,
    generation: number,
  ) {
    this.#wire = wire
    this.#name = name
    this.clientId = client.id
    this.#client = client
    this.#process = process
    this.#far = far
    this.#farClient = farClient
    this.#regions = new Map(farClient.regions.map((region) => [region.key, region]))
    this.generation = generation
  }

  end(cause: string): void {
    if (this.#ended) return
    this.#ended = true
    for (const fail of [...this.#outstanding]) fail(new ChannelError('UNKNOWN_OUTCOME', cause))
    this.#client.down(this, cause)
  }

  send(message: Uint8Array): Promise<void> {
    const copy = message.slice()
    return this.#call(async (channel) => {
      await this.#farClient.message(channel, copy)
    })
  }
  write(region: number, offset: number, chunks: readonly Uint8Array[], fence: Fence): Promise<void> {
    const copies = chunks.map((chunk) => chunk.slice())
    return this.#call(() => this.#region(region).place(offset, copies, fence), true)
  }
  read(region: number, offset: number, bytes: number, fence: Fence): Promise<Uint8Array> {
    return this.#call(() => this.#region(region).read(offset, bytes, fence))
  }
  flush(region: number, fence: Fence): Promise<void> {
    return this.#call(() => this.#region(region).flush(fence))
  }
  barrier(): Promise<void> {
    return Promise.resolve()
  }

  #region(key: number): Region {
    const region = this.#regions.get(key)
    if (!region) throw new ChannelError('REFUSED', 'no such region')
    return region
  }

  /** There in order, and back in order; lost when the sender is cut at the time of arrival. */
  #call<T>(task: (channel: Channel) => Promise<T>, mayHaunt = false): Promise<T> {
    if (this.#ended) return Promise.reject(new ChannelError('NOT_READY', 'channel is gone'))
    const { world } = this.#wire
    return new Promise<T>((resolve, reject) => {
      const fail = (error: unknown): void => {
        this.#outstanding.delete(fail)
        reject(error)
      }
      this.#outstanding.add(fail)
      const back = (settle: () => void): void => {
        this.#lastReturn = Math.max(world.now + world.random.between(0.1, 0.4), this.#lastReturn + 0.001)
        world.after(this.#lastReturn - world.now, () => {
          const farName = this.#name === 'a' ? 'b' : 'a'
          if (this.#wire.isMute(farName) || this.#ended) return
          this.#process.post(() => {
            this.#outstanding.delete(fail)
            settle()
          })
        })
      }
      const run = (): void => {
        this.#far.process.post(() => {
          const there = this.#far.open.get(this.clientId)
          Promise.resolve()
            .then(() => task(there ?? this))
            .then(
              (value) => back(() => resolve(value)),
              (error: unknown) => back(() => fail(error)),
            )
        })
      }
      this.#lastArrival = Math.max(world.now + world.random.between(0.1, 0.4), this.#lastArrival + 0.001)
      world.after(this.#lastArrival - world.now, () => {
        if (mayHaunt && this.#wire.keeps(this.#name, this.clientId, run)) return
        if (this.#ended || this.#wire.isMute(this.#name)) {
          if (mayHaunt && world.random.chance(this.#wire.ghostChance))
            world.after(world.random.between(1, 2500), run)
          return
        }
        run()
      })
    })
  }
}
