/**
 * The connection manager of one filer (US 7,716,323; US 7,593,996; docs/SPEC-wire.md): the sole authority that opens,
 * maintains and closes channels to the partner's twin. A state machine: its inputs are frames, link events and one tick,
 * its outputs frames and the clients' callbacks; clock and chance come in `Env`.
 *
 * Parts: link.ts (one driver: proof, heartbeats), slots.ts (channels and their generations), channel.ts (one generation's
 * data), outbox.ts (what waits to be sent), placement.ts (which driver).
 *
 * Invariants: clients are called back one at a time and after the state is consistent; `onPeer(peer)` comes before the
 * first `up`, `onPeer(undefined)` after the last `down`. The manager reports; it never decides a takeover.
 */
import { assert } from '../std/assert.ts'
import type { Env } from '../env/env.ts'
import type { ChannelClient, ChannelStatus, Connection, LinkStatus, PeerInformation } from './client.ts'
import type { ControlFrame, DataFrame, PeerAddress, ReplyFrame } from './frames.ts'
import type { Identity } from './handshake.ts'
import { Link } from './link.ts'
import type { LinkOwner } from './link.ts'
import type { BrokenConnection, ConnectionTimes, ManagerOptions } from './options.ts'
import { DEFAULT_TIMES, WIRE_VERSION } from './options.ts'
import { Meters } from './meters.ts'
import { grey } from './placement.ts'
import { Slots } from './slots.ts'
import type { SlotsOwner } from './slots.ts'

/** Payload per frame, and bytes per batch: small enough that a heartbeat behind it is not late, large enough for speed. */
const FRAME_BYTES = 262144
/** Between two reports of metrics. */
const METER_MS = 500
export const DRIVERS_MAX = 8
/** Pause between attempts to bind a driver's address. */
const BIND_RETRY_MS = 1000

export class ConnectionManager implements Connection, LinkOwner, SlotsOwner {
  readonly env: Env
  readonly times: ConnectionTimes
  readonly frameBytes: number
  readonly batchBytes: number
  readonly drivenLinks: readonly Link[]
  readonly leads: boolean
  readonly broken: BrokenConnection
  loopMs = 0
  readonly #options: ManagerOptions
  readonly #slots: Slots
  readonly #meters: Meters
  #addresses: Record<string, string>
  #peer: PeerInformation | undefined
  #peerIncarnation: number | undefined
  #peerListRevision = 0
  #revision = 0
  #peerListeners: ((peer: PeerInformation | undefined) => void)[] = []
  #addressListeners: ((addresses: Readonly<Record<string, string>>) => void)[] = []
  #lastTickMs = 0
  #meteredMs = -Infinity
  #depth = 0
  #callbacks: (() => void)[] = []
  #started = false
  #stopped = false

  constructor(options: ManagerOptions) {
    const { drivers } = options
    assert(options.systemId !== options.partnerId, 'a filer is not its own partner')
    assert(
      drivers.length >= 1 && drivers.length <= DRIVERS_MAX,
      `1 to ${DRIVERS_MAX} drivers, not ${drivers.length}`,
    )
    assert(new Set(drivers.map(({ name }) => name)).size === drivers.length, 'two drivers have the same name')
    this.#options = options
    this.env = options.env
    this.times = { ...DEFAULT_TIMES, ...options.times }
    this.frameBytes = options.frameBytes ?? FRAME_BYTES
    this.batchBytes = this.frameBytes
    this.broken = options.broken ?? {}
    this.leads = options.systemId < options.partnerId
    this.#addresses = { ...options.peerAddresses }
    this.drivenLinks = drivers.map((driver) => new Link(this, driver))
    this.#slots = new Slots(this)
    this.#meters = new Meters(options.env.metrics, options.partnerId)
  }

  /** Binds the drivers and starts to dial. Clients may be registered before and after. */
  start(): void {
    assert(!this.#started, 'started twice')
    this.#started = true
    this.#lastTickMs = this.env.clock.now()
    for (const link of this.drivenLinks) this.#bind(link)
    this.#tick()
  }

  /** What is known of the partner's addresses (Pod annotation, log volume), by driver name; handshakes pass them on as well. */
  setPeerAddresses(addresses: Readonly<Record<string, string>>): void {
    this.run(() => {
      for (const link of this.drivenLinks) {
        const address = addresses[link.name]
        if (address === undefined || address === this.#addresses[link.name]) continue
        this.#addresses[link.name] = address
        link.retryNow()
      }
    })
  }

  /** Called when a handshake taught other addresses than those known: to be kept for the next start. */
  onPeerAddresses(listener: (addresses: Readonly<Record<string, string>>) => void): void {
    this.#addressListeners.push(listener)
  }

  register(client: ChannelClient): void {
    assert(
      !this.#slots.entries().some((entry) => entry.id === client.id),
      `client ${client.id} is registered already`,
    )
    this.run(() => {
      this.#slots.add(client)
      this.#announce()
    })
  }

  unregister(clientId: string): Promise<void> {
    let closed = Promise.resolve()
    this.run(() => {
      // The list first, so that the partner does not open the channel anew.
      const entries = this.#slots.entries().filter((entry) => entry.id !== clientId)
      this.#revision++
      this.#broadcast({ kind: 'clients', revision: this.#revision, clients: entries })
      closed = this.#slots.close(clientId)
    })
    return closed
  }

  peer(): PeerInformation | undefined {
    return this.#peer
  }

  onPeer(listener: (peer: PeerInformation | undefined) => void): void {
    this.#peerListeners.push(listener)
  }

  /** The states of all drivers, for the pair's status. */
  links(): readonly LinkStatus[] {
    return this.drivenLinks.map((link) => link.status())
  }

  /** The states of all channels, those that wait included. */
  channels(): readonly ChannelStatus[] {
    return this.#slots.status()
  }

  /** Ports in use, and frames of dead generations that were dropped. */
  counters(): { readonly ports: number; readonly late: number } {
    const { size, late } = this.#slots.ports
    return { ports: size, late }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#slots.entries().map((entry) => this.unregister(entry.id)))
    this.#stopped = true
    this.run(() => {
      for (const link of this.drivenLinks) link.stop()
    })
    this.#meter(this.env.clock.now())
    await Promise.all(this.drivenLinks.map((link) => link.driver.stop()))
  }

  // What links and slots ask.

  run(task: () => void): void {
    this.#depth++
    try {
      task()
      if (this.#depth > 1) return
      for (;;) {
        const callback = this.#callbacks.shift()
        if (callback === undefined) break
        callback()
      }
    } finally {
      this.#depth--
    }
  }

  defer(task: () => void): void {
    this.#callbacks.push(task)
    if (this.#depth === 0) this.run(() => undefined)
  }

  identity(link: string): Identity {
    const { systemId, partnerId, incarnation, version = WIRE_VERSION } = this.#options
    return { link, systemId, partnerId, version, incarnation }
  }

  greeting(): readonly ControlFrame[] {
    const { systemId, version = WIRE_VERSION, incarnation, logBytes } = this.#options
    const addresses = this.drivenLinks
      .map((link) => ({ link: link.name, address: link.driver.address }))
      .filter(({ address }) => address !== '')
    return [{ kind: 'hello', systemId, version, incarnation, logBytes, addresses }, this.#list()]
  }

  peerAddress(link: string): string | undefined {
    return this.#addresses[link]
  }

  incarnationSeen(link: Link, incarnation: number): boolean {
    const known = this.#peerIncarnation
    if (incarnation === known) return true
    if (known !== undefined) {
      const connected = this.drivenLinks.some((other) => other.state === 'READY')
      if (incarnation < known && connected) return false
      this.env.log('warn', 'partner restarted', { before: known, now: incarnation })
      this.#slots.partnerRestarted('partner restarted')
    }
    this.#peerIncarnation = incarnation
    this.#peerListRevision = 0
    for (const other of this.drivenLinks) {
      if (other.state === 'READY' || (other !== link && other.state === 'LINKED'))
        other.fail('partner restarted')
    }
    return true
  }

  linkReady(peer: PeerInformation, addresses: readonly PeerAddress[]): void {
    if (this.#peer === undefined) {
      this.#peer = peer
      this.#tellPeer(peer)
    }
    this.#learn(addresses)
    this.#slots.reconcile()
  }

  linkFailed(link: Link, cause: string): void {
    this.#slots.linkFailed(link, cause)
    if (this.#peer === undefined || this.drivenLinks.some((other) => other.state === 'READY')) return
    this.#peer = undefined
    this.#tellPeer(undefined)
  }

  onControl(link: Link, frame: ControlFrame): void {
    if (frame.kind !== 'clients') {
      this.#slots.onControl(link, frame)
      return
    }
    if (frame.revision <= this.#peerListRevision) return
    this.#peerListRevision = frame.revision
    this.#slots.peerClients(frame.clients)
  }

  onData(link: Link, frame: DataFrame): void {
    this.#slots.onData(link, frame)
  }

  onReply(link: Link, frame: ReplyFrame): void {
    this.#slots.onReply(link, frame)
  }

  #bind(link: Link): void {
    if (this.#stopped) return
    link.driver
      .start((stream) => link.accept(stream))
      .catch((error: unknown) => {
        this.env.log('error', 'interconnect address cannot be bound', {
          link: link.name,
          error: String(error),
        })
        this.env.clock.after(BIND_RETRY_MS, () => this.#bind(link))
      })
  }

  #tick(): void {
    if (this.#stopped) return
    const intervalMs = this.times.heartbeatMs / 2
    const now = this.env.clock.now()
    // A loop that stood still has not listened either: what it missed does not count as the partner's silence.
    this.loopMs += Math.min(now - this.#lastTickMs, 2 * intervalMs)
    this.#lastTickMs = now
    this.run(() => {
      for (const link of this.drivenLinks) link.tick()
      this.#watchGrey()
      this.#slots.tick()
      if (now - this.#meteredMs >= METER_MS) this.#meter(now)
    })
    this.env.clock.after(intervalMs, () => this.#tick())
  }

  /** A driver that answers much more slowly than its twin is demoted before it fails. Either filer's measurement counts. */
  #watchGrey(): void {
    const { slowFactor, slowFloorMs } = this.times
    const slow = grey(this.drivenLinks, slowFactor, slowFloorMs)
    for (const link of this.drivenLinks) {
      const { heartbeats } = link
      heartbeats.judge(slow.has(link))
      if (link.slow === heartbeats.demoted) continue
      heartbeats.demoted = link.slow
      this.env.log('warn', link.slow ? 'interconnect slow' : 'interconnect no longer slow', {
        link: link.name,
        roundTripMs: heartbeats.roundTripMs,
      })
      if (link.slow) this.#slots.linkSlow(link)
    }
  }

  #meter(now: number): void {
    this.#meteredMs = now
    this.#meters.links(this.drivenLinks)
    this.#meters.channels(this.#slots.status())
  }

  #list(): ControlFrame {
    return { kind: 'clients', revision: this.#revision, clients: this.#slots.entries() }
  }

  #announce(): void {
    this.#revision++
    this.#broadcast(this.#list())
  }

  #broadcast(frame: ControlFrame): void {
    for (const link of this.drivenLinks)
      if (link.state === 'READY' || link.state === 'LINKED') link.request(frame)
  }

  #learn(addresses: readonly PeerAddress[]): void {
    let changed = false
    for (const { link: name, address } of addresses) {
      const link = this.drivenLinks.find((candidate) => candidate.name === name)
      if (link === undefined || this.#addresses[name] === address) continue
      this.#addresses[name] = address
      changed = true
      link.retryNow()
    }
    if (!changed) return
    const known = { ...this.#addresses }
    for (const listener of this.#addressListeners) this.defer(() => listener(known))
  }

  #tellPeer(peer: PeerInformation | undefined): void {
    for (const listener of this.#peerListeners) this.defer(() => listener(peer))
  }
}
