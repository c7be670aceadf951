/**
 * Addresses of drivers, and dialling from the own one: each driver uses its own network only, in both directions, so that
 * two drivers never silently share a cable. grpc-js has no option for the local address; its resolver interface hands
 * addresses to `net.connect` as they are, so a resolver of our own adds it.
 */
import { isIPv6 } from 'node:net'
import { experimental } from '@grpc/grpc-js'

/** `host:port` or `[v6]:port`. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const at = address.lastIndexOf(':')
  const port = Number(address.slice(at + 1))
  const host = address.slice(0, Math.max(at, 0)).replace(/^\[(.*)\]$/, '$1')
  if (host === '' || !Number.isInteger(port) || port < 0 || port > 65535)
    throw new Error(`not an address: ${address}`)
  return { host, port }
}

export function joinAddress(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
}

const SCHEME = 'tandem'
/** Channel option that carries the own address to the resolver. */
export const LOCAL_ADDRESS_OPTION = 'tandem.local_address'

export function targetOf(address: string): string {
  return `${SCHEME}:${address}`
}

class LocalAddressResolver implements experimental.Resolver {
  readonly #listener: experimental.ResolverListener
  readonly #endpoint: experimental.Endpoint
  #done = false

  constructor(
    target: experimental.GrpcUri,
    listener: experimental.ResolverListener,
    options: Readonly<Record<string, unknown>>,
  ) {
    this.#listener = listener
    const address = splitAddress(target.path)
    const local = options[LOCAL_ADDRESS_OPTION]
    const connect = typeof local === 'string' ? { ...address, localAddress: local } : address
    this.#endpoint = { addresses: [connect] }
  }

  updateResolution(): void {
    if (this.#done) return
    this.#done = true
    process.nextTick(() => {
      this.#listener(experimental.statusOrFromValue([this.#endpoint]), {}, null, '')
    })
  }

  destroy(): void {
    this.#done = false
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return target.path
  }
}

experimental.registerResolver(SCHEME, LocalAddressResolver)
