/**
 * The connections of a filer to the filers of other pairs, for mirrors: one manager for each, over drivers that share the listeners of the partner's.
 *
 * What the operator hands over says who they are, which authority their certificates must come from, and where they are. Where they are may change without it: their
 * handshakes tell (as long as one interconnect works), and what was learned is kept on the log volume, so that a filer that starts without the operator finds them.
 */
import { X509Certificate } from 'node:crypto'
import type { FilerPodConfig, PeerDesired, PeerStatus } from '../../api/v1alpha1/filer-config.ts'
import type { Connection } from '../../core/connection/client.ts'
import { ConnectionManager } from '../../core/connection/manager.ts'
import type { Env } from '../../core/env/env.ts'
import { filerUri } from '../pki.ts'
import { GrpcDriver, REFUSED_HERE, REFUSED_THERE } from '../grpc/driver.ts'
import type { GrpcListener } from '../grpc/listener.ts'
import type { TlsSource } from '../grpc/tls.ts'
import type { AddressMap } from './addresses.ts'

/** What the mirrors are told of connections. */
export interface PeerUser {
  connect(peer: string, connection: Connection): void
  disconnect(peer: string): void
  isUp(peer: string): boolean
}

export interface PeerConnectionsOptions {
  readonly env: Env
  readonly config: Pick<FilerPodConfig, 'namespace' | 'pair' | 'filer' | 'log'>
  readonly incarnation: number
  /** By interconnect. */
  readonly listeners: ReadonlyMap<string, GrpcListener>
  readonly tls: TlsSource
  readonly user: PeerUser
  readonly stored: AddressStore
}

/** Addresses that were learned, by peer. */
export interface AddressStore {
  read(): Record<string, LearnedAddresses> | undefined
  write(addresses: Record<string, LearnedAddresses>): void
}
interface LearnedAddresses {
  /** What had been handed over then: anything newer counts more. */
  readonly told: AddressMap
  readonly learned: AddressMap
}

/** Longer than within a pair: nothing is decided by it, and networks between pairs may be slow. Who waits for the other pair has a limit of its own. */
const TIMES = { failAfterMs: 1000, handshakeMs: 3000 }
/** More than one process ever makes. */
const MANAGERS_MAX = 2 ** 20

type Problem = Pick<PeerStatus, 'reason' | 'message'>

/** One filer of another pair. */
interface Peer {
  /** What the connection is made of; another one needs another connection. */
  readonly identity: string
  readonly manager: ConnectionManager | undefined
  readonly problem: Problem | undefined
  told: AddressMap
  ca: string
}

export class PeerConnections {
  readonly #options: PeerConnectionsOptions
  readonly #peers = new Map<string, Peer>()
  readonly #addresses: Record<string, LearnedAddresses>
  readonly #ending = new Set<Promise<void>>()
  #made = 0

  constructor(options: PeerConnectionsOptions) {
    this.#options = options
    this.#addresses = options.stored.read() ?? {}
  }

  /** These, and no others. */
  set(wanted: readonly PeerDesired[]): void {
    const names = new Set<string>()
    for (const pair of wanted) {
      for (const { name, addresses } of pair.filers) {
        const key = `${pair.name}/${name}`
        names.add(key)
        this.#setPeer(key, pair, name, addresses)
      }
    }
    for (const key of [...this.#peers.keys()]) if (!names.has(key)) this.#end(key)
  }

  #setPeer(key: string, pair: PeerDesired, filer: string, told: AddressMap): void {
    const { listeners, env } = this.#options
    const links = [...listeners.keys()].filter((link) => told[link] !== undefined)
    const identity = JSON.stringify([pair.namespace, pair.pair, filer, links])
    const known = this.#peers.get(key)
    const problem = this.#problemOf(pair, links)
    if (known?.manager !== undefined && known.identity === identity) {
      // A bundle that cannot be read leaves the last good one in force.
      if (problem === undefined) known.ca = pair.ca
      if (JSON.stringify(told) === JSON.stringify(known.told)) return
      known.told = told
      known.manager.setPeerAddresses(told)
      return
    }
    this.#end(key)
    if (problem !== undefined) {
      this.#peers.set(key, { identity, manager: undefined, problem, told, ca: pair.ca })
      env.log('warn', 'filer of another pair cannot be connected', { peer: key, ...problem })
      return
    }
    const made: Peer = { identity, manager: undefined, problem: undefined, told, ca: pair.ca }
    const manager = this.#connect(key, pair, filer, links, made)
    this.#peers.set(key, Object.assign(made, { manager }))
    this.#options.user.connect(key, manager)
    manager.start()
  }

  #connect(
    key: string,
    { namespace, pair }: PeerDesired,
    filer: string,
    links: readonly string[],
    peer: Peer,
  ): ConnectionManager {
    const { env, config, incarnation, listeners, tls } = this.#options
    const source: TlsSource = {
      current: () => {
        const { certificate, key: secret } = tls.current()
        return { ca: peer.ca, certificate, key: secret }
      },
    }
    const drivers = links.map((name) => {
      const partnerUri = filerUri(namespace, pair, filer)
      return new GrpcDriver({ name, listener: listeners.get(name)!, tls: source, partnerUri })
    })
    const { told, learned } = this.#addresses[key] ?? {}
    const manager = new ConnectionManager({
      env: { ...env, log: (level, event, fields) => env.log(level, event, { peer: key, ...fields }) },
      systemId: `${config.namespace}/${config.pair}/${config.filer}`,
      partnerId: `${namespace}/${pair}/${filer}`,
      // A manager that is made anew is another start, to the other end.
      incarnation: incarnation * MANAGERS_MAX + this.#made++,
      logBytes: config.log.sizeBytes,
      drivers,
      times: TIMES,
      peerAddresses: JSON.stringify(told) === JSON.stringify(peer.told) ? learned! : peer.told,
    })
    manager.onPeerAddresses((addresses) => {
      this.#addresses[key] = { told: peer.told, learned: { ...addresses } }
      this.#options.stored.write(this.#addresses)
    })
    return manager
  }

  #problemOf({ namespace, pair, ca }: PeerDesired, links: readonly string[]): Problem | undefined {
    const { config, listeners } = this.#options
    if (namespace === config.namespace && pair === config.pair) {
      const message = `the other pair is called ${namespace}/${pair} as this one is: filers know each other by these names, so one of the two needs another`
      return { reason: 'InvalidPeer', message }
    }
    if (!areCertificates(ca))
      return { reason: 'InvalidPeer', message: 'its authority is not a list of certificates in PEM' }
    if (links.length > 0) return undefined
    const message = `it has none of the interconnects of this pair (${[...listeners.keys()].join(', ')})`
    return { reason: 'NoCommonInterconnect', message }
  }

  #end(key: string): void {
    const peer = this.#peers.get(key)
    this.#peers.delete(key)
    if (peer?.manager === undefined) return
    this.#options.user.disconnect(key)
    const ended = peer.manager.stop().finally(() => this.#ending.delete(ended))
    this.#ending.add(ended)
  }

  status(): PeerStatus[] {
    return [...this.#peers].map(([name, { manager, problem }]): PeerStatus => {
      if (this.#options.user.isUp(name)) return { name, state: 'Up', reason: '', message: '' }
      return { name, state: 'Down', ...(problem ?? whyDown(manager!)) }
    })
  }

  async stop(): Promise<void> {
    for (const key of [...this.#peers.keys()]) this.#end(key)
    await Promise.all(this.#ending)
  }
}

/** Certificates say more than silence. */
function whyDown(manager: ConnectionManager): Problem {
  const links = manager.links().filter(({ state }) => state === 'Down')
  const message = links.map(({ name, reason }) => `${name}: ${reason}`).join('; ')
  const all = (prefix: string): boolean => links.some(({ reason }) => reason.startsWith(prefix))
  if (all(REFUSED_HERE)) return { reason: 'NotTrusted', message }
  if (all(REFUSED_THERE)) return { reason: 'NotListed', message }
  return { reason: 'Unreachable', message: message || 'channels are being made' }
}

function areCertificates(bundle: string): boolean {
  const texts = bundle.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  try {
    for (const text of texts) new X509Certificate(text)
  } catch {
    return false
  }
  return texts.length > 0
}
