/**
 * The interconnects between the filers of a pair, and between filers of two pairs. Each filer has an address of its own per interconnect; with relayed links what it
 * tells its partner (`advertise`) is an address of the relay, one process per interconnect, which leads to where it listens.
 */
import type { ChildProcess } from 'node:child_process'
import type { Network } from './network.ts'
import type { FilerIdentity } from './pod-spec.ts'
import { end, exited } from './processes.ts'
import type { Launch } from './processes.ts'
import { WHOLE } from './relay.ts'
import type { LinkState, Route } from './relay.ts'

export const INTERCONNECT_PORT = 7400

interface Link {
  readonly pair: string
  readonly name: string
  readonly filers: readonly [string, string]
  state: LinkState
  /** Where its filers listen, and dial from. */
  readonly hosts: readonly string[]
  /** By the other pair: what happens to the connections of its filers. */
  readonly peers: Map<string, { readonly hosts: readonly string[]; readonly state: LinkState }>
  child: ChildProcess | undefined
  ended: boolean
}

export class Links {
  readonly #network: Network
  readonly #launch: Launch
  readonly #log: (message: string) => void
  readonly relayed: boolean
  readonly #links = new Map<string, Link>()
  #stopped = false

  constructor(network: Network, launch: Launch, relayed: boolean, log: (message: string) => void) {
    this.#network = network
    this.#launch = launch
    this.relayed = relayed
    this.#log = log
  }

  /** The value of TANDEM_ADDRESSES for a filer; its relays are started if they are not there yet. */
  addresses(filer: FilerIdentity, podIp: string): Record<string, { listen: string; advertise: string }> {
    const result: Record<string, { listen: string; advertise: string }> = {}
    for (const name of filer.interconnects) {
      const listen = this.#listenHost(filer, filer.filer, name)
      const host = name === 'default' ? podIp : listen
      const advertise = this.relayed ? this.#relayHost(filer, filer.filer, name) : host
      result[name] = {
        listen: `${host}:${String(INTERCONNECT_PORT)}`,
        advertise: `${advertise}:${String(INTERCONNECT_PORT)}`,
      }
      if (this.relayed) this.#ensure(filer, name)
    }
    return result
  }

  get all(): { pair: string; link: string; relayed: boolean; state: LinkState; peer?: string }[] {
    return [...this.#links.values()].flatMap(({ pair, name, state, peers }) => [
      { pair, link: name, relayed: true, state },
      ...[...peers].map(([peer, one]) => ({ pair, link: name, relayed: true, state: one.state, peer })),
    ])
  }

  /** Throws a sentence for a person when there is no such link. */
  set(pair: string, name: string, state: LinkState): void {
    const link = this.#find(pair, name)
    const strange = state.cut.filter((filer) => !link.filers.includes(filer))
    if (strange.length > 0)
      throw new Error(
        `pair ${link.pair} has no filer ${strange.join(', ')}; it has ${link.filers.join(' and ')}`,
      )
    link.state = state
    link.child?.send({ type: 'set', state })
  }

  /** Of connections between two pairs alone. Throws as `set` does. */
  setBetween(pair: string, peer: string, name: string, state: LinkState): void {
    const ends = [this.#find(pair, name), this.#find(peer, name)] as const
    if (ends[0] === ends[1]) throw new Error(`${pair} and ${peer} are one pair`)
    if (state.flapMs > 0) throw new Error('what is between two pairs can be cut and slowed; it does not flap')
    for (const [link, other] of [ends, [ends[1], ends[0]] as const]) {
      link.peers.set(other.pair, { hosts: other.hosts, state })
      link.child?.send({ type: 'set-callers', hosts: other.hosts, state })
    }
  }

  #find(pair: string, name: string): Link {
    if (!this.relayed)
      throw new Error('the links are direct: start `tandem up --links relayed` to be able to cut them')
    const pairs = [...new Set([...this.#links.values()].map((link) => link.pair))]
    const wanted = pair.includes('/') ? [pair] : pairs.filter((candidate) => candidate.endsWith(`/${pair}`))
    if (wanted.length !== 1)
      throw new Error(
        `${wanted.length === 0 ? 'no pair' : 'more than one pair'} ${pair}; pairs are: ${pairs.join(', ') || 'none'}`,
      )
    const link = this.#links.get(`${wanted[0]!}/${name}`)
    if (link !== undefined) return link
    const names = [...this.#links.values()].flatMap((other) => (other.pair === wanted[0] ? [other.name] : []))
    throw new Error(`pair ${wanted[0]!} has no interconnect ${name}; it has ${names.join(', ') || 'none'}`)
  }

  /** Both filers of the pair, to cut a link altogether. */
  filersOf(pair: string, name: string): readonly string[] {
    for (const link of this.#links.values())
      if (link.name === name && (link.pair === pair || link.pair.endsWith(`/${pair}`))) return link.filers
    return []
  }

  async stop(): Promise<void> {
    this.#stopped = true
    const children = [...this.#links.values()].flatMap(({ child }) => (child === undefined ? [] : [child]))
    await Promise.all(children.map((child) => end(child, 1000)))
  }

  #key(filer: FilerIdentity, name: string): string {
    return `${filer.namespace}/${filer.pair}/${name}`
  }

  #listenHost(pair: FilerIdentity, filer: string, name: string): string {
    if (name === 'default')
      return this.#network.address(podAddressKey(pair.namespace, `${pair.pair}-${filer}-0`))
    return this.#network.address(`link/${this.#key(pair, name)}/${filer}`)
  }

  #relayHost(pair: FilerIdentity, filer: string, name: string): string {
    return this.#network.address(`relay/${this.#key(pair, name)}/${filer}`)
  }

  #ensure(filer: FilerIdentity, name: string): void {
    const key = this.#key(filer, name)
    if (this.#links.has(key)) return
    const filers = [filer.filer, filer.partner].sort() as [string, string]
    const link: Link = {
      pair: `${filer.namespace}/${filer.pair}`,
      name,
      filers,
      state: WHOLE,
      hosts: filers.map((one) => this.#listenHost(filer, one, name)),
      peers: new Map(),
      child: undefined,
      ended: false,
    }
    this.#links.set(key, link)
    const port = INTERCONNECT_PORT
    const route = (from: string, to: string): Route => ({
      from,
      to,
      listen: { host: this.#relayHost(filer, to, name), port },
      target: { host: this.#listenHost(filer, to, name), port },
    })
    this.#start(link, [route(filers[0], filers[1]), route(filers[1], filers[0])])
  }

  #start(link: Link, routes: Route[]): void {
    if (this.#stopped) return
    const child = this.#launch(`relay-${link.pair.replace('/', '-')}-${link.name}`, ['relay'], {})
    link.child = child
    child.send({ type: 'open', routes })
    child.send({ type: 'set', state: link.state })
    for (const peer of link.peers.values()) child.send({ type: 'set-callers', ...peer })
    void exited(child).then((how) => {
      link.child = undefined
      if (this.#stopped) return
      this.#log(`relay of ${link.pair} ${link.name} ended (${how}); started again`)
      setTimeout(() => this.#start(link, routes), 500)
    })
  }
}

/** Under which key a pod's address is kept. */
export function podAddressKey(namespace: string, pod: string): string {
  return `pod/${namespace}/${pod}`
}
