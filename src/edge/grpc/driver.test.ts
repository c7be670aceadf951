/** One driver over real gRPC with real certificates: bytes, framing, strangers. */
import { connect } from 'node:net'
import { afterEach, describe, expect, test } from '@jest/globals'
import { Metadata, Server, status } from '@grpc/grpc-js'
import type { ServerDuplexStream, ServiceError } from '@grpc/grpc-js'
import type { Frame } from '../../core/connection/frames.ts'
import { InterconnectClient, InterconnectService } from '../../proto/gen/interconnect.ts'
import type { Batch } from '../../proto/gen/interconnect.ts'
import { filerUri, newAuthority } from '../pki.ts'
import { GrpcDriver } from './driver.ts'
import { GrpcListener } from './listener.ts'
import { addressOf, FENCE, material, RealPair, until } from './testing/real-filers.ts'
import { clientCredentials, RefreshedServerCredentials } from './tls.ts'

let pair: RealPair | undefined

async function up(links: readonly string[]) {
  pair = await RealPair.make(links)
  const [a, b] = [pair.filer('a'), pair.filer('b')]
  const twins = { a: pair.twin(a), b: pair.twin(b) }
  a.manager.start()
  b.manager.start()
  await until(() => twins.a.whole && twins.b.whole, 15_000, 'channels')
  return { a, b, twins }
}

afterEach(async () => {
  await pair?.stop()
  expect(pair?.violations ?? []).toEqual([])
  pair = undefined
})

describe('a driver over gRPC', () => {
  test('A1, A5: channels come up over mutual TLS; regions, messages and large writes arrive whole', async () => {
    const { a, twins } = await up(['default'])
    const channel = twins.a.channel!
    const data = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7) & 255)
    await channel.write(1, 5, [data.subarray(0, 1000), data.subarray(1000)], FENCE)
    expect(Buffer.compare(twins.b.memory.content.subarray(5, 5 + data.length), data)).toBe(0)
    const back = await channel.read(1, 5, data.length, FENCE)
    expect(Buffer.compare(back, data)).toBe(0)
    await Promise.all(
      Array.from({ length: 500 }, (_, i) => channel.send(new TextEncoder().encode(String(i)))),
    )
    expect(twins.b.messages).toEqual(Array.from({ length: 500 }, (_, i) => String(i)))
    await channel.flush(1, FENCE)
    expect(a.manager.peer()?.systemId).toBe('b')
  })

  test('R2: garbage on the port is cut off with one line, and the pair stays up', async () => {
    const { twins } = await up(['default'])
    const [host, port] = addressOf(0, 1).split(':')
    pair!.lines.length = 0
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
    expect(pair!.lines.filter((line) => line.event === 'interconnect caller refused')).toHaveLength(1)
    await twins.a.channel!.send(new Uint8Array(1))
    expect(twins.a.events).toEqual(['up 0 1'])
  })

  test('grpc-js understands both ends: it calls the listener, and is called', async () => {
    const authority = await newAuthority('pair p', Date.now())
    const tlsA = await material(authority, filerUri('ns', 'p', 'a'))
    const tlsB = await material(authority, filerUri('ns', 'p', 'b'))
    const driver = (listen: string) =>
      new GrpcDriver({
        name: 'default',
        listener: new GrpcListener({ listen, log: () => undefined }),
        tls: { current: () => tlsA },
        partnerUri: filerUri('ns', 'p', 'b'),
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
    // A connection carries one link, whatever its client would like.
    const another = client.link(metadata)
    another.on('error', () => undefined)
    another.write(heartbeat(1))
    call.write(heartbeat(4))
    await new Promise((resolve) => call.once('data', resolve))
    expect(received.map((frame) => frame.kind === 'heartbeat' && frame.seq)).toEqual([3, 4])
    another.cancel()
    call.on('error', () => undefined)
    call.cancel()
    await until(() => reasons.length > 0)
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
})
