/** garbage.ts ADDRESS PORT: sends random bytes to a server, which must close the connection within 10 s; exit status 1 if it does not. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'

const [address, port] = process.argv.slice(2)
const socket = connect({ host: address!, port: Number(port) })
const timer = setTimeout(() => {
  console.error('the connection is still open after 10 s')
  process.exit(1)
}, 10_000)
socket.on('connect', () => {
  const bytes = randomBytes(4096)
  bytes[0] = 0xff // as the head of an RPC record: the last fragment, and far too long
  socket.write(bytes)
})
socket.on('error', () => undefined)
socket.on('close', () => clearTimeout(timer))
socket.resume()
