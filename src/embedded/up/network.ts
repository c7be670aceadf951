/**
 * Addresses of one instance: a /24 of the loopback network 127.0.0.0/8 that no other instance on this machine uses, an address in it
 * for every pod and every end of an interconnect, a port on 127.0.0.1 for every Service. All of them are written down, so that they
 * are the same after a restart when nobody took them meanwhile.
 */
import { createHash } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Server } from 'node:net'

/** Bound on the first address of the subnet as long as the instance runs: who holds it owns the subnet. */
const CLAIM_PORT = 7399
const FIRST_HOST = 10
const LAST_HOST = 254
export const SERVICE_PORT_FIRST = 12049
const SERVICE_PORT_LAST = 12548

interface Saved {
  subnet?: [number, number]
  hosts: Record<string, number>
  ports: Record<string, number>
}

function listen(server: Server, host: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false)
      else reject(error)
    }
    server.once('error', failed)
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', failed)
      resolve(true)
    })
  })
}

export class Network {
  readonly #path: string
  readonly #saved: Saved
  readonly #subnet: readonly [number, number]
  readonly #claim: Server

  private constructor(path: string, saved: Saved, subnet: readonly [number, number], claim: Server) {
    this.#path = path
    this.#saved = saved
    this.#subnet = subnet
    this.#claim = claim
  }

  static async open(path: string): Promise<Network> {
    const saved = readSaved(path)
    const hash = createHash('sha256').update(path).digest()
    for (let attempt = 0; attempt < 200; attempt++) {
      // 127.0.x.y stays with the host's own uses of it.
      const index = (hash.readUInt16LE(0) + attempt) % (200 * 256)
      const subnet: [number, number] =
        attempt === 0 && saved.subnet !== undefined ? saved.subnet : [20 + (index >> 8), index & 255]
      const claim = createServer((socket) => socket.destroy())
      try {
        if (!(await listen(claim, `127.${subnet[0]}.${subnet[1]}.1`, CLAIM_PORT))) continue
      } catch (error) {
        throw new Error(
          `cannot bind an address of 127.0.0.0/8 (${(error as Error).message}): the embedded mode needs Linux's loopback network`,
          { cause: error },
        )
      }
      const network = new Network(path, saved, subnet, claim)
      saved.subnet = subnet
      network.#save()
      return network
    }
    throw new Error('no free subnet in 127.0.0.0/8: end other instances of `tandem up`')
  }

  /** The address of `key`, for ever the same while the instance keeps its subnet. */
  address(key: string): string {
    let host = this.#saved.hosts[key]
    if (host === undefined) {
      const used = new Set(Object.values(this.#saved.hosts))
      host = FIRST_HOST
      while (used.has(host)) host++
      if (host > LAST_HOST) throw new Error('this instance has given out all of its 245 addresses')
      this.#saved.hosts[key] = host
      this.#save()
    }
    return `127.${this.#subnet[0]}.${this.#subnet[1]}.${host}`
  }

  forget(keyPrefix: string): void {
    const before = Object.keys(this.#saved.hosts).length
    for (const key of Object.keys(this.#saved.hosts))
      if (key.startsWith(keyPrefix)) delete this.#saved.hosts[key]
    if (Object.keys(this.#saved.hosts).length !== before) this.#save()
  }

  /** Has `server` listen on 127.0.0.1, on the port that `key` had before if it is free, else on the first free one. */
  async listenService(server: Server, key: string): Promise<number> {
    const before = this.#saved.ports[key]
    const others = new Set(
      Object.entries(this.#saved.ports).flatMap(([other, port]) => (other === key ? [] : [port])),
    )
    const candidates = before === undefined ? [] : [before]
    for (let port = SERVICE_PORT_FIRST; port <= SERVICE_PORT_LAST; port++)
      if (!others.has(port)) candidates.push(port)
    for (const port of [...candidates, 0])
      if (await listen(server, '127.0.0.1', port)) {
        const address = server.address()
        const bound = typeof address === 'object' && address !== null ? address.port : port
        this.#saved.ports[key] = bound
        this.#save()
        return bound
      }
    throw new Error('no free port on 127.0.0.1')
  }

  close(): void {
    this.#claim.close()
  }

  #save(): void {
    writeFileSync(`${this.#path}.new`, `${JSON.stringify(this.#saved, undefined, 1)}\n`)
    renameSync(`${this.#path}.new`, this.#path)
  }
}

function readSaved(path: string): Saved {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Saved
  } catch {
    return { hosts: {}, ports: {} }
  }
}
