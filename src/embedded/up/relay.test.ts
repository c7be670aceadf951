import { afterEach, describe, expect, test } from '@jest/globals'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { Relay, WHOLE } from './relay.ts'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** An echo server behind a relay, and a client of it. */
async function setUp(): Promise<{ relay: Relay; client: Socket; received: () => string; server: Server }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const relay = new Relay()
  const port = await freePort()
  await relay.open([
    {
      from: 'a',
      to: 'b',
      listen: { host: '127.0.0.1', port },
      target: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    },
  ])
  const client = connect(port, '127.0.0.1')
  let text = ''
  client.on('data', (chunk) => (text += chunk.toString()))
  client.on('error', () => undefined)
  cleanups.push(() => {
    client.destroy()
    relay.close()
    server.close()
  })
  return { relay, client, received: () => text, server }
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('a relay', () => {
  test('carries bytes, holds them during a cut without closing anything, and lets them go afterwards', async () => {
    const { relay, client, received } = await setUp()
    client.write('one')
    await until(() => received() === 'one')
    relay.set({ ...WHOLE, cut: ['a', 'b'] })
    client.write('two')
    // A whole relay beside it shows that enough time went by.
    const other = await setUp()
    other.client.write('x')
    await until(() => other.received() === 'x')
    expect(received()).toBe('one')
    expect(client.destroyed).toBe(false)
    relay.set(WHOLE)
    await until(() => received() === 'onetwo')
  })

  test('cut in one direction, the other still carries', async () => {
    const { relay, client, received, server } = await setUp()
    const arrived = new Promise<string>((resolve) => {
      server.on('connection', (socket: Socket) => socket.on('data', (chunk) => resolve(chunk.toString())))
    })
    relay.set({ ...WHOLE, cut: ['b'] })
    client.write('one')
    expect(await arrived).toBe('one')
    expect(received()).toBe('')
    relay.set(WHOLE)
    await until(() => received() === 'one')
  })

  test('closing passes like bytes: held during a cut, late on a slow link', async () => {
    const { relay, client } = await setUp()
    relay.set({ ...WHOLE, delayMs: 30 })
    let ended = false
    client.on('end', () => (ended = true))
    const began = performance.now()
    client.end('bye')
    await until(() => ended)
    // Two ways, 30 ms each.
    expect(performance.now() - began).toBeGreaterThanOrEqual(59)
  })

  test('what comes from some address can be cut and slowed alone', async () => {
    const { relay, client, received } = await setUp()
    await until(() => client.remotePort !== undefined)
    const { remotePort } = client
    const other = connect({ host: '127.0.0.1', port: remotePort!, localAddress: '127.0.0.2' })
    cleanups.push(() => other.destroy())
    let text = ''
    other.on('data', (chunk) => (text += chunk.toString()))
    other.write('one')
    await until(() => text === 'one')
    relay.setCallers(['127.0.0.2'], { ...WHOLE, cut: ['p2'] })
    other.write('two')
    client.write('x')
    await until(() => received() === 'x')
    expect(text).toBe('one')
    relay.setCallers(['127.0.0.2'], { ...WHOLE, delayMs: 30 })
    await until(() => text === 'onetwo')
    const began = performance.now()
    other.write('three')
    await until(() => text === 'onetwothree')
    expect(performance.now() - began).toBeGreaterThanOrEqual(59)
  })
})
