/** Addresses of drivers as text. */
import { isIPv6 } from 'node:net'

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

export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}
