/** A server over real TCP on the loopback address, for tests. */
import { crc32 } from 'node:zlib'
import type { Clock, Env, LogLevel } from '../../core/env/env.ts'
import type { Vfs } from '../../core/vfs/vfs.ts'
import { TcpServer } from '../../edge/node/tcp-server.ts'
import { nodeClock, nodeRandom } from '../../edge/node/env.ts'
import type { RpcClientOptions } from '../client/rpc-client.ts'
import { NfsClient } from '../client/nfs-client.ts'
import { NfsServer } from '../server/server.ts'

export interface LogLine {
  readonly level: LogLevel
  readonly event: string
  readonly fields: Readonly<Record<string, unknown>>
}

export function testEnv(): { env: Env; lines: LogLine[]; counts: Map<string, number> } {
  const lines: LogLine[] = []
  const counts = new Map<string, number>()
  const count = (name: string, by: number): void => void counts.set(name, (counts.get(name) ?? 0) + by)
  // Timers of a test's server do not keep the process alive.
  const after: Clock['after'] = (delayMs, task) => {
    const timer = setTimeout(task, delayMs).unref()
    return { cancel: () => clearTimeout(timer) }
  }
  const env: Env = {
    clock: { ...nodeClock, after },
    random: nodeRandom(),
    crc32: (data, seed = 0) => crc32(data, seed),
    log: (level, event, fields = {}) => void lines.push({ level, event, fields }),
    metrics: {
      add: (name, value = 1, labels = {}) => count(name + JSON.stringify(labels), value),
      set: (name, value) => void counts.set(name, value),
      observe: (name, _value, labels = {}, times = 1) => count(name + JSON.stringify(labels), times),
    },
  }
  return { env, lines, counts }
}

export class Loopback {
  readonly server: NfsServer
  readonly tcp: TcpServer
  readonly lines: LogLine[]
  readonly counts: Map<string, number>
  port = 0
  readonly #clients: NfsClient[] = []

  constructor(vfs: Vfs, limits: ConstructorParameters<typeof NfsServer>[2] = {}) {
    const { env, lines, counts } = testEnv()
    this.lines = lines
    this.counts = counts
    this.server = new NfsServer(env, vfs, limits)
    this.tcp = new TcpServer(this.server, env.log)
  }

  static async start(
    vfs: Vfs,
    limits?: ConstructorParameters<typeof NfsServer>[2],
    port = 0,
  ): Promise<Loopback> {
    const loopback = new Loopback(vfs, limits)
    loopback.port = await loopback.tcp.listen(port, '127.0.0.1')
    return loopback
  }

  client(options: Partial<RpcClientOptions> = {}): NfsClient {
    const client = new NfsClient({ host: '127.0.0.1', port: this.port, ...options })
    this.#clients.push(client)
    return client
  }

  close(): void {
    for (const client of this.#clients) client.close()
    this.tcp.close()
  }
}
