/**
 * The acceptance tests of the connection manager (docs/SPEC-wire.md) over real gRPC with real TLS on loopback, by number, where real sockets
 * can show something that the simulator (core/connection) cannot.
 */
import { afterEach, describe, expect, test } from '@jest/globals'
import type { Channel } from '../../core/connection/client.ts'
import { ChannelError } from '../../core/connection/client.ts'
import type { ManagerOptions } from '../../core/connection/options.ts'
import { FENCE, RealPair, until } from './testing/real-filers.ts'
import type { RealFiler, Twin, TwinShape } from './testing/real-filers.ts'

let pair: RealPair

async function make(links?: readonly string[]) {
  pair = await RealPair.make(links)
}

async function up(shape: TwinShape = {}, options: Partial<ManagerOptions> = {}) {
  const [a, b] = [pair.filer('a', options), pair.filer('b', options)]
  const twins = { a: pair.twin(a, shape), b: pair.twin(b, shape) }
  a.manager.start()
  b.manager.start()
  await allUp(a, b)
  await until(() => twins.a.whole && twins.b.whole, 15_000, 'channels')
  return { a, b, twins }
}

const upLinks = (filer: RealFiler) => filer.manager.links().filter(({ state }) => state !== 'Down').length
const allUp = (a: RealFiler, b: RealFiler) =>
  until(
    () => upLinks(a) === pair.links.length && upLinks(b) === pair.links.length,
    15_000,
    'all interconnects',
  )
const linksOf = (filer: RealFiler) => filer.manager.channels().flatMap(({ links }) => links)
const generations = (twin: Twin) =>
  [...twin.live.values()].map((each) => [each.index, each.generation]).sort()

function codeOf(error: unknown): string {
  if (error instanceof ChannelError) return error.code
  throw error
}

/** Writes a log piece by piece, again from its own copy what a lost generation left unknown. */
function writer(twin: Twin, pieces: number, bytes: number) {
  const log = new Uint8Array(pieces * bytes)
  const progress = { placed: 0 }
  const done = (async () => {
    while (progress.placed < pieces) {
      const { channel } = twin
      if (channel === undefined) {
        await until(() => twin.channel !== undefined, 15_000, 'a channel')
        continue
      }
      const offset = progress.placed * bytes
      const piece = log.subarray(offset, offset + bytes).fill((progress.placed % 255) + 1)
      const placed = await channel.write(1, offset, [piece], FENCE).then(
        () => true,
        (error: unknown) => !['UNKNOWN_OUTCOME', 'NOT_READY'].includes(codeOf(error)),
      )
      if (placed) progress.placed++
    }
  })()
  return { log, progress, done }
}

afterEach(async () => {
  await pair.stop()
  expect(pair.violations).toEqual([])
})

describe('over gRPC', () => {
  test('1, A1, A2: simultaneous boot at random offsets: always READY, one channel per client and index', async () => {
    for (let round = 0; round < 8; round++) {
      await make()
      const [a, b] = [pair.filer('a'), pair.filer('b')]
      const twins = [a, b].flatMap((filer) => [
        pair.twin(filer, { ports: 2 }),
        pair.twin(filer, { id: 'plex', policy: 'striped' }),
      ])
      const starts = [a, b].map(
        (filer) =>
          new Promise<void>((resolve) => {
            setTimeout(() => {
              filer.manager.start()
              resolve()
            }, Math.random() * 60)
          }),
      )
      await Promise.all(starts)
      await until(() => twins.every((twin) => twin.whole), 15_000, 'channels')
      const [log, plex, farLog, farPlex] = twins
      expect(generations(log!)).toEqual(generations(farLog!))
      expect(generations(plex!)).toEqual(generations(farPlex!))
      expect(log!.channel!.remoteRegions).toEqual(farLog!.regions.map(({ key, bytes }) => ({ key, bytes })))
      if (round < 7) await pair.stop()
    }
  })

  test('3: the partner crashes after each of the four operations, and comes back', async () => {
    await make(['default'])
    const a = pair.filer('a')
    const twin = pair.twin(a)
    a.manager.start()
    for (let operation = 1; operation <= 4; operation++) {
      const b = pair.filer('b')
      let seen = 0
      let killed: Promise<void> | undefined
      b.onFrame = (frame) => {
        if (frame.kind !== 'status-read' && frame.kind !== 'status-write') return
        if (++seen === operation) killed = b.kill()
      }
      b.manager.start()
      await until(() => killed !== undefined, 15_000, 'crash')
      await killed
      expect(twin.events).toEqual([])
    }
    const b = pair.filer('b')
    const far = pair.twin(b)
    b.manager.start()
    await until(() => twin.whole && far.whole, 15_000, 'channels')
    expect(a.manager.peer()?.incarnation).toBe(5)
  })

  test('4: another version is refused, and both sides say why', async () => {
    await make(['default'])
    const [a, b] = [pair.filer('a'), pair.filer('b', { version: 2 })]
    const twins = [pair.twin(a), pair.twin(b)]
    a.manager.start()
    b.manager.start()
    await until(() => a.manager.links()[0]!.reason === 'partner speaks version 2, this filer 1')
    await until(() => b.manager.links()[0]!.reason === 'partner speaks version 1, this filer 2')
    expect(twins.flatMap(({ events }) => events)).toEqual([])
    expect(a.manager.peer()).toBeUndefined()
  })

  test.each(['cut', 'silence'] as const)(
    '6, A3, A7: an interconnect is lost under load (%s): error, then up of a later generation; the log is byte-equal',
    async (fault) => {
      await make()
      const { a, twins } = await up()
      const { log, progress, done } = writer(twins.a, 2000, 2000)
      await until(() => progress.placed > 100, 15_000, 'load')
      const victim = linksOf(a)[0]!
      pair[fault](victim)
      await done
      // A generation that is tried before both filers have noticed the loss does not come up: then it is a later one.
      expect(twins.a.events).toEqual(['up 0 1', 'error 0 1', expect.stringMatching(/^up 0 [2-9]$/)])
      await until(() => twins.b.whole, 15_000, 'the other end')
      expect(generations(twins.b)).toEqual(generations(twins.a))
      expect(Buffer.compare(twins.b.memory.content.subarray(0, log.length), log)).toBe(0)
      expect(linksOf(a)).not.toContain(victim)
      expect(a.metrics.get('tandem_interconnect_up{"peer":"b","link":"one"}')).toBeDefined()
    },
  )

  test('7: all interconnects are lost: down, the partner is unknown, nothing else happens; it returns with them', async () => {
    await make()
    const { a, b, twins } = await up()
    pair.silence('one')
    pair.cut('two')
    await until(() => a.manager.peer() === undefined && b.manager.peer() === undefined, 15_000, 'loss')
    expect([twins.a.live.size, twins.b.live.size]).toEqual([0, 0])
    expect(a.manager.channels()[0]).toMatchObject({ reason: 'no interconnect works' })
    pair.heal('one')
    pair.heal('two')
    await until(() => twins.a.whole && twins.b.whole, 15_000, 'return')
    expect(a.peers).toEqual([1, undefined, 1])
  })

  test('A7: of eight interconnects any seven may go: the channels stay READY; the eighth gives down', async () => {
    await make(Array.from({ length: 8 }, (_, i) => `n${i}`))
    const { a, b, twins } = await up({ ports: 8 })
    const left = [...pair.links]
    while (left.length > 1) {
      const [victim] = left.splice(Math.floor(Math.random() * left.length), 1)
      pair.cut(victim!)
      await until(() => upLinks(a) === left.length && upLinks(b) === left.length, 15_000, 'detection')
      await until(() => twins.a.whole && twins.b.whole, 15_000, 'channels')
      expect(linksOf(a).every((link) => left.includes(link))).toBe(true)
      await Promise.all([...twins.a.live.values()].map((channel) => channel.send(new Uint8Array(1))))
    }
    expect(twins.a.events.filter((event) => event.startsWith('down'))).toEqual([])
    pair.cut(left[0]!)
    await until(() => a.manager.peer() === undefined, 15_000, 'loss')
    expect(twins.a.events.filter((event) => event.startsWith('down'))).toHaveLength(8)
  })

  test('9, A6: striped over interconnects of very different delay: what a barrier precedes is placed', async () => {
    await make()
    const { a, twins } = await up({ policy: 'striped' }, { times: { slowFactor: 10_000 } })
    await until(() => twins.a.whole && twins.b.whole && linksOf(a).length === 2, 15_000, 'both interconnects')
    pair.delay('two', 25)
    for (let round = 1; round <= 5; round++) {
      const channel: Channel = twins.a.channel!
      const data = Array.from({ length: 16 }, (_, i) =>
        channel.write(1, i * 4096, [new Uint8Array(4096).fill(round)], FENCE),
      )
      await channel.barrier()
      for (let i = 0; i < 16; i++) expect(twins.b.memory.content[i * 4096 + 4095]).toBe(round)
      await channel.write(2, 0, [new Uint8Array(1).fill(round)], FENCE)
      await Promise.all(data)
    }
  })

  test('10, A8: closed with 1,000 writes in flight: nothing lands in memory that was given back', async () => {
    await make(['default'])
    const { b, twins } = await up()
    const outcomes = Array.from({ length: 1000 }, (_, i) =>
      twins.a.channel!.write(1, (i % 64) * 4096, [new Uint8Array(4096)], FENCE).then(
        () => 'placed',
        (error: unknown) => codeOf(error),
      ),
    )
    await b.manager.unregister('log')
    for (const region of twins.b.regions) region.freed = true
    const told = new Set(await Promise.all(outcomes))
    expect([...told].every((code) => ['placed', 'NOT_READY', 'UNKNOWN_OUTCOME'].includes(code))).toBe(true)
    expect([twins.a.events, twins.b.events]).toEqual([
      ['up 0 1', 'down 0 1'],
      ['up 0 1', 'down 0 1'],
    ])
    expect(b.manager.counters().ports).toBe(0)
  })

  test('11, A9: the partner restarts faster than a heartbeat: everything of the old incarnation is closed', async () => {
    await make()
    const { a, b, twins } = await up()
    await b.kill()
    const again = pair.filer('b')
    const far = pair.twin(again)
    again.manager.start()
    await until(() => a.manager.peer()?.incarnation === 2, 15_000, 'new incarnation')
    await until(() => twins.a.whole && far.whole, 15_000, 'channels')
    expect(twins.a.events.filter((event) => event.startsWith('up'))).toHaveLength(2)
  })

  test('12: an interconnect that flaps at 10 Hz under load: bounded callbacks, no port or stream is leaked, nothing is lost', async () => {
    await make()
    const { a, b, twins } = await up({ regionBytes: 16 << 20 })
    const { log, done } = writer(twins.a, 4000, 4000)
    for (let i = 0; i < 30; i++) {
      pair.cut('one')
      await new Promise((resolve) => setTimeout(resolve, 50))
      pair.heal('one')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    await done
    expect(Buffer.compare(twins.b.memory.content.subarray(0, log.length), log)).toBe(0)
    await allUp(a, b)
    await until(() => twins.a.whole && twins.b.whole)
    expect([a.manager.counters().ports, b.manager.counters().ports]).toEqual([1, 1])
    expect(twins.a.events.filter((event) => event.startsWith('down'))).toEqual([])
    expect(twins.a.events.length).toBeLessThanOrEqual(1 + 2 * 2 * 30)
  })

  test('a grey interconnect: fifty times slower than its twin it is Slow, loses its channels, and is trusted again later', async () => {
    await make()
    const { a, twins } = await up({ ports: 2 })
    pair.delay('one', 40)
    await until(() => a.manager.links()[0]!.state === 'Slow', 15_000, 'demotion')
    expect(a.manager.links()[0]!.reason).toMatch(/^round trip \d+\.\d ms/)
    await until(() => twins.a.whole && !linksOf(a).includes('one'), 15_000, 'move')
    pair.heal('one')
    await until(() => a.manager.links()[0]!.state === 'Up', 25_000, 'trust')
  })
})
