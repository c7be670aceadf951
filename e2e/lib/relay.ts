/**
 * relay.ts LISTEN TARGET: passes TCP connections on, each address `host:port` or the path of a Unix socket (which leads from one network
 * namespace to another). Says `listens`, and `connection` for each.
 */
import { connect, createServer } from 'node:net'
import type { NetConnectOpts } from 'node:net'

function address(text: string): NetConnectOpts & { host?: string; port?: number; path?: string } {
  if (text.startsWith('/')) return { path: text }
  const [host, port] = text.split(':') as [string, string]
  return { host, port: Number(port) }
}

const [listen, target] = process.argv.slice(2) as [string, string]
createServer({ noDelay: true }, (from) => {
  console.log('connection')
  const to = connect({ ...address(target), noDelay: true })
  from.pipe(to).pipe(from)
  for (const [one, other] of [
    [from, to],
    [to, from],
  ] as const) {
    one.on('error', () => undefined)
    one.on('close', () => other.destroy())
  }
}).listen(address(listen), () => console.log('listens'))
