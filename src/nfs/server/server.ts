/**
 * The NFS server without sockets: what all connections share, and their number. Whoever owns the sockets (edge/node/tcp-server.ts, a
 * simulator) makes a `Connection` for each by `connect`.
 *
 * A client that began a record and fell silent is let go after a while, so that half records do not hold memory for ever.
 */
import type { Env, Timer } from '../../core/env/env.ts'
import type { Vfs } from '../../core/vfs/vfs.ts'
import { Peer } from './call.ts'
import type { Host, Limits, Transport } from './connection.ts'
import { Connection } from './connection.ts'
import { parseAddress } from './exports.ts'
import { InProgress } from './in-progress.ts'
import { Operations } from './operations.ts'
import { SlabPool } from './slab.ts'

const MIB = 1 << 20

export const DEFAULT_LIMITS: Limits & { readonly connections: number } = {
  callsInFlight: 256,
  bytesInFlight: 16 * MIB,
  unsentBytes: 4 * MIB,
  memoryBytes: 32 * MIB,
  connections: 1024,
}
const SILENT_MS_MAX = 60_000
const SWEEP_MS = 15_000

export class NfsServer {
  readonly #env: Env
  readonly #host: Host
  readonly #limits: typeof DEFAULT_LIMITS
  readonly #connections = new Set<Connection>()
  #sweep: Timer | undefined

  constructor(env: Env, vfs: Vfs, limits: Partial<typeof DEFAULT_LIMITS> = {}) {
    this.#env = env
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
    this.#host = {
      vfs,
      crc32: env.crc32,
      inProgress: new InProgress(),
      pool: new SlabPool(),
      limits: this.#limits,
      operations: new Operations(env.metrics),
      now: () => env.clock.now(),
      ended: (connection, reason) => this.#ended(connection, reason),
    }
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Memory that connections hold now. */
  get memoryBytes(): number {
    return this.#host.pool.liveBytes
  }

  /** A new connection from a client at `address` (text); undefined if there are too many. */
  connect(address: string, transport: Transport): Connection | undefined {
    const parsed = parseAddress(address)
    if (!parsed || this.#connections.size >= this.#limits.connections) {
      this.#env.log('warn', 'NFS connection refused', {
        client: address,
        reason: parsed ? 'too many connections' : 'address not understood',
      })
      return undefined
    }
    const connection = new Connection(this.#host, new Peer(address, parsed), transport)
    this.#connections.add(connection)
    this.#env.metrics.set('tandem_nfs_connections', this.#connections.size)
    this.#sweep ??= this.#env.clock.after(SWEEP_MS, () => this.#sweepSilent())
    return connection
  }

  /** Ends all connections; clients come back by themselves, perhaps to another filer. */
  closeAll(): void {
    for (const connection of [...this.#connections]) connection.close()
    this.#host.inProgress.clear()
    this.#sweep?.cancel()
    this.#sweep = undefined
  }

  #ended(connection: Connection, reason?: string): void {
    this.#connections.delete(connection)
    this.#env.metrics.set('tandem_nfs_connections', this.#connections.size)
    if (reason === undefined) return
    this.#env.metrics.add('tandem_nfs_bad_connections_total')
    this.#env.log('warn', 'NFS connection closed', { client: connection.peer.name, reason })
  }

  #sweepSilent(): void {
    this.#sweep = undefined
    const now = this.#env.clock.now()
    for (const connection of [...this.#connections])
      if (connection.partial && now - connection.lastInputMs > SILENT_MS_MAX)
        connection.close('silent within a record')
    if (this.#connections.size > 0) this.#sweep = this.#env.clock.after(SWEEP_MS, () => this.#sweepSilent())
  }
}
