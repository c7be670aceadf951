/** The manager over real gRPC with real certificates on loopback addresses; its protocol is tested in the simulator. */
import { connect } from 'node:net'
import { crc32 } from 'node:zlib'
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { Metadata, Server, status } from '@grpc/grpc-js'
import type { ServerDuplexStream, ServiceError } from '@grpc/grpc-js'
import type { Channel, ChannelClient, Region } from '../../core/connection/client.ts'
import { ConnectionManager } from '../../core/connection/manager.ts'
import type { Frame } from '../../core/connection/frames.ts'
import type { Env } from '../../core/env/env.ts'
import { InterconnectClient, InterconnectService } from '../../proto/gen/interconnect.ts'
import type { Batch } from '../../proto/gen/interconnect.ts'
import { filerUri, issue, newAuthority } from '../pki.ts'
import type { Authority } from '../pki.ts'
import { GrpcDriver } from './driver.ts'
import { clientCredentials, RefreshedServerCredentials } from './tls.ts'
import type { TlsMaterial } from './tls.ts'

let authority: Authority
let stranger: Authority
const lines: { event: string; fields: unknown }[] = []

const env: Env = {
  clock: {
    now: () => performance.now(),
    wall: () => ({ seconds: 0, nanoseconds: 0 }),
    after: (delayMs, task) => {
      const timer = setTimeout(task, delayMs)
      return { cancel: () => clearTimeout(timer) }
    },
  },
  random: { u32: () => Math.floor(Math.random() * 0x100000000) },
  crc32: (data, seed) => crc32(data, seed),
  log: (_level, event, fields) => {
    lines.push({ event, fields })
  },
  metrics: { add: () => undefined, set: () => undefined, observe: () => undefined },
}

async function material(from: Authority, uri: string): Promise<TlsMaterial> {
  const { certificate, key } = await issue(from, uri, Date.now())
  return { ca: authority.bundle, certificate, key }
}

class Memory implements Region {
  readonly key = 1
  readonly bytes = 1 << 22
  readonly content = new Uint8Array(1 << 22)
  place(offset: number, chunks: readonly Uint8Array[]): Promise<void> {
    let at = offset
    for (const chunk of chunks) {
      this.content.set(chunk, at)
      at += chunk.byteLength
    }
    return Promise.resolve()
  }
  read(offset: number, bytes: number): Promise<Uint8Array> {
    return Promise.resolve(this.content.slice(offset, offset + bytes))
  }
  flush(): Promise<void> {
    return Promise.resolve()
  }
}

class Twin implements ChannelClient {
  readonly id = 'log'
  readonly version = 1
  readonly ports = 1
  readonly memoryBytes = 4 << 20
  readonly policy = 'ordered'
  readonly memory = new Memory()
  readonly regions = [this.memory]
  readonly messages: string[] = []
  readonly events: string[] = []
  channel: Channel | undefined
  #waiting: (() => void)[] = []
  up(channel: Channel): void {
    this.channel = channel
    this.#note(`up ${channel.generation}`)
  }
  error(channel: Channel): void {
    this.channel = undefined
    this.#note(`error ${channel.generation}`)
  }
  down(channel: Channel): void {
    this.channel = undefined
    this.#note(`down ${channel.generation}`)
  }
  message(_channel: Channel, message: Uint8Array): void {
    this.messages.push(new TextDecoder().decode(message))
  }
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }
  #note(event: string): void {
    this.events.push(event)
    for (const waiter of this.#waiting.splice(0)) waiter()
  }
}

interface Filer {
  readonly manager: ConnectionManager
  readonly twin: Twin
  readonly drivers: GrpcDriver[]
}

const running: ConnectionManager[] = []

async function pair(
  tlsA: { current(): TlsMaterial },
  tlsB: { current(): TlsMaterial },
  links: readonly string[],
): Promise<[Filer, Filer]> {
  const make = async (
    name: string,
    partner: string,
    tls: { current(): TlsMaterial },
    host: string,
  ): Promise<Filer> => {
    const twin = new Twin()
    const drivers = links.map(
      (link, i) =>
        new GrpcDriver({
          name: link,
          listen: `127.0.${i + 1}.${host}:0`,
          tls,
          partnerUri: filerUri('ns', 'p', partner),
          log: env.log,
          certificateRefreshMs: 50,
        }),
    )
    const manager = new ConnectionManager({
      env,
      systemId: name,
      partnerId: partner,
      incarnation: 1,
      logBytes: 1,
      drivers,
    })
    manager.register(twin)
    manager.start()
    running.push(manager)
    return { manager, twin, drivers }
  }
  const a = await make('a', 'b', tlsA, '1')
  const b = await make('b', 'a', tlsB, '2')
  // Ports were chosen by the host: known once bound.
  for (;;) {
    if ([...a.drivers, ...b.drivers].every((driver) => !driver.address.endsWith(':0'))) break
    await new Promise((resolve) => setImmediate(resolve))
  }
  const addresses = (drivers: GrpcDriver[]) =>
    Object.fromEntries(drivers.map((driver) => [driver.name, driver.address]))
  a.manager.setPeerAddresses(addresses(b.drivers))
  b.manager.setPeerAddresses(addresses(a.drivers))
  return [a, b]
}

beforeAll(async () => {
  authority = await newAuthority('pair p', Date.now())
  stranger = await newAuthority('elsewhere', Date.now())
})

afterEach(async () => {
  await Promise.all(running.splice(0).map((manager) => manager.stop()))
  lines.length = 0
})

const FENCE = { epoch: 1, incarnation: 1 }

describe('interconnect over gRPC', () => {
  test('A1, A5: channels come up over mutual TLS; regions, messages and large writes arrive whole', async () => {
    const tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    const tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    const [a, b] = await pair({ current: () => tlsA }, { current: () => tlsB }, ['default'])
    await Promise.all([
      a.twin.until(() => a.twin.channel !== undefined),
      b.twin.until(() => b.twin.channel !== undefined),
    ])
    const channel = a.twin.channel!
    const data = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7) & 255)
    await channel.write(1, 5, [data.subarray(0, 1000), data.subarray(1000)], FENCE)
    expect(Buffer.compare(b.twin.memory.content.subarray(5, 5 + data.length), data)).toBe(0)
    const back = await channel.read(1, 5, data.length, FENCE)
    expect(Buffer.compare(back, data)).toBe(0)
    await Promise.all(
      Array.from({ length: 500 }, (_, i) => channel.send(new TextEncoder().encode(String(i)))),
    )
    expect(b.twin.messages).toEqual(Array.from({ length: 500 }, (_, i) => String(i)))
    await channel.flush(1, FENCE)
    expect(a.manager.peer()?.systemId).toBe('b')
  })

  test('A7: one of two drivers stopped: the channel goes on over the other', async () => {
    const tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    const tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    const [a, b] = await pair({ current: () => tlsA }, { current: () => tlsB }, ['one', 'two'])
    await a.twin.until(() => a.twin.channel !== undefined)
    const used = () => a.manager.drivenLinks.filter((link) => link.usable).length
    for (;;) {
      if (used() === 2) break
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await b.drivers[0]!.stop()
    for (;;) {
      await a.twin.until(() => a.twin.channel !== undefined)
      // Whether it was on that driver is not known: then the first attempt fails.
      const written = a.twin.channel!.write(1, 0, [new Uint8Array(100).fill(3)], FENCE)
      if (
        await written.then(
          () => true,
          () => false,
        )
      )
        break
    }
    expect(b.twin.memory.content[99]).toBe(3)
    expect(b.twin.events[0]).toBe('up 1')
  })

  test("a certificate of another filer, or of another CA, does not get in; the filer's line says why", async () => {
    const tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    const tlsB = await material(authority, filerUri('ns', 'other', 'b'))
    const [a, b] = await pair({ current: () => tlsA }, { current: () => tlsB }, ['default'])
    const reason = () => a.manager.links()[0]!.reason
    while (!reason().includes('not expected here')) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(a.twin.events).toEqual([])
    expect(b.twin.events).toEqual([])
    await Promise.all(running.splice(0).map((manager) => manager.stop()))
    const foreign = await material(stranger, filerUri('ns', 'p', 'b'))
    const [c] = await pair({ current: () => tlsA }, { current: () => foreign }, ['default'])
    while (!/certificate|signature|issuer/.test(c.manager.links()[0]!.reason))
      await new Promise((resolve) => setTimeout(resolve, 5))
    expect(c.twin.events).toEqual([])
  })

  test('R2: garbage on the port is cut off with one line, and the pair stays up', async () => {
    const tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    const tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    const [a] = await pair({ current: () => tlsA }, { current: () => tlsB }, ['default'])
    await a.twin.until(() => a.twin.channel !== undefined)
    const [host, port] = a.drivers[0]!.address.split(':')
    lines.length = 0
    for (const garbage of [
      'GET / HTTP/1.1\r\n\r\n',
      '\x16\x03\x01\xff\xff' + 'x'.repeat(2000),
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect({ host: host!, port: Number(port) }, () => socket.write(garbage))
        socket.on('error', () => undefined)
        socket.on('close', () => resolve())
        socket.on('data', () => undefined)
        socket.on('end', () => socket.end())
      })
    }
    expect(lines.filter((line) => line.event === 'interconnect caller refused')).toHaveLength(1)
    await a.twin.channel!.send(new Uint8Array(1))
    expect(a.twin.events).toEqual(['up 1'])
  })

  test('grpc-js understands both ends: it calls the listener, and is called', async () => {
    const tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    const tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    const driver = (listen: string) =>
      new GrpcDriver({
        name: 'default',
        listen,
        tls: { current: () => tlsA },
        partnerUri: filerUri('ns', 'p', 'b'),
        log: env.log,
      })
    const heartbeat = (seq: number): Batch => ({
      frames: [
        {
          body: { $case: 'heartbeat', value: { seq, incarnation: 1, slow: false } },
          payload: new Uint8Array(0),
        },
      ],
    })
    const big = { kind: 'message' as const, port: 1, generation: 1, seq: 1, bytes: 700_000, more: false }
    const payload = [new Uint8Array(700_000).fill(5)]

    const ours = driver('127.0.0.1:0')
    const received: Frame[] = []
    const reasons: string[] = []
    await ours.start((stream) => ({
      opened: () => undefined,
      received: (frames) => {
        received.push(...frames)
        stream.send([
          { kind: 'heartbeat-reply', seq: 7, incarnation: 2 },
          { ...big, payload },
        ])
      },
      drained: () => undefined,
      closed: (reason) => reasons.push(reason),
    }))
    const client = new InterconnectClient(
      ours.address,
      clientCredentials({ current: () => tlsB }, (uri) => uri === filerUri('ns', 'p', 'a')),
      { 'grpc.ssl_target_name_override': 'tandem' },
    )
    const metadata = new Metadata()
    metadata.set('tandem-link', 'default')
    const call = client.link(metadata)
    call.write(heartbeat(3))
    const answer = await new Promise<Batch>((resolve) => call.once('data', resolve))
    expect(received).toEqual([{ kind: 'heartbeat', seq: 3, incarnation: 1, slow: false }])
    expect(answer.frames.map(({ body }) => body?.$case)).toEqual(['heartbeatReply', 'message'])
    expect(Buffer.compare(answer.frames[1]!.payload, payload[0]!)).toBe(0)
    call.on('error', () => undefined)
    call.cancel()
    while (reasons.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const refused = client.link(new Metadata())
    const error = await new Promise<ServiceError>((resolve) => refused.once('error', resolve))
    expect(error).toMatchObject({ code: status.PERMISSION_DENIED, details: 'call for driver undefined' })
    client.close()
    await ours.stop()

    const server = new Server()
    const calls: ServerDuplexStream<Batch, Batch>[] = []
    server.addService(InterconnectService, {
      link: (taken: ServerDuplexStream<Batch, Batch>) => {
        calls.push(taken)
        taken.sendMetadata(new Metadata())
        taken.on('data', (batch: Batch) => taken.write(batch))
      },
    })
    const credentials = new RefreshedServerCredentials({ current: () => tlsB }, 10_000)
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', credentials.credentials, (failure, bound) =>
        failure === null ? resolve(bound) : reject(failure),
      ),
    )
    const echoed: Frame[] = []
    const end = await new Promise<string>((resolve) => {
      const stream = driver('127.0.0.1:0').dial(`127.0.0.1:${port}`, {
        opened: () => void stream.send([{ ...big, payload }]),
        received: (frames) => {
          echoed.push(...frames)
          calls[0]!.emit('error', { code: status.UNAVAILABLE, details: 'over – now' })
        },
        drained: () => undefined,
        closed: resolve,
      })
    })
    expect(end).toBe('over – now')
    expect(echoed.map((frame) => frame.kind)).toEqual(['message'])
    credentials.stop()
    server.forceShutdown()
  })

  test('certificates renew without dropping a channel, and new connections use the new one', async () => {
    let tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    let tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    const [a, b] = await pair({ current: () => tlsA }, { current: () => tlsB }, ['default'])
    await a.twin.until(() => a.twin.channel !== undefined)
    // A new CA altogether: an old certificate would be refused now.
    authority = await newAuthority('pair p', Date.now())
    tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    await new Promise((resolve) => setTimeout(resolve, 120))
    await a.twin.channel!.send(new Uint8Array(1))
    expect(a.twin.events).toEqual(['up 1'])
    a.manager.drivenLinks[0]!.fail('test')
    await a.twin.until(() => a.twin.events.length >= 3 && a.twin.channel !== undefined)
    await b.twin.until(() => b.twin.channel !== undefined)
    expect(a.twin.events.slice(0, 2)).toEqual(['up 1', 'down 1'])
  })
})
