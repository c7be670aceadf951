/** Acceptance tests 1-5 of the connection manager (docs/SPEC-wire.md), in the simulator: from boot to READY. */
import { describe, expect, test } from '@jest/globals'
import { Bench, client, connected, readyLinks } from './testing/filers.ts'

describe('handshake', () => {
  test('1, A1, A2: simultaneous boot at 1,000 random offsets: always READY, one channel per client and index', async () => {
    for (let seed = 1; seed <= 1000; seed++) {
      const bench = new Bench(seed, seed % 2 === 0 ? ['one'] : ['one', 'two'])
      const { world } = bench
      const a = bench.filer('a')
      const b = bench.filer('b')
      const clients = [a, b].flatMap((filer) => [
        client(filer, { ports: 2 }),
        client(filer, { id: 'plex', policy: 'striped' }),
      ])
      world.after(world.random.between(0, 300), () => a.manager.start())
      world.after(world.random.between(0, 300), () => b.manager.start())
      await world.until(() => clients.every((each) => each.live.size === each.ports), 5000, 'channels')
      await world.run(100)
      const [log, plex, farLog, farPlex] = clients
      for (const [near, far] of [
        [log!, farLog!],
        [plex!, farPlex!],
      ] as const) {
        for (const [index, channel] of near.live) {
          expect(far.live.get(index)?.generation).toBe(channel.generation)
          expect(channel.remoteRegions).toEqual(far.regions.map(({ key, bytes }) => ({ key, bytes })))
        }
      }
    }
  })

  test('2: one filer boots 60 s late: no spurious up', async () => {
    const bench = new Bench(2)
    const a = bench.filer('a')
    const ca = client(a)
    a.manager.start()
    await bench.world.run(60_000)
    expect(ca.events).toEqual([])
    expect(a.manager.peer()).toBeUndefined()
    const b = bench.filer('b')
    client(b)
    b.manager.start()
    await bench.world.until(() => ca.channel !== undefined, 2000)
    expect(ca.events).toEqual(['up 0 1'])
  })

  test('3: the partner crashes after each of the four operations, and comes back', async () => {
    for (let operation = 1; operation <= 4; operation++) {
      for (let seed = 1; seed <= 10; seed++) {
        const bench = new Bench(seed)
        const a = bench.filer('a')
        const ca = client(a)
        let b = bench.filer('b')
        let seen = 0
        bench.onBatch = ({ from, frames }) => {
          for (const frame of frames) {
            if (from !== 'a' || (frame.kind !== 'status-read' && frame.kind !== 'status-write')) continue
            if (++seen === operation)
              b.process.post(() => bench.world.after(0, () => b.process.kill(seed % 2 === 0)))
          }
          return frames
        }
        a.manager.start()
        b.manager.start()
        await bench.world.until(() => !b.process.alive, 2000, 'crash')
        await bench.world.run(seed * 20)
        b = bench.filer('b')
        const cb = client(b)
        b.manager.start()
        await bench.world.until(() => ca.channel !== undefined && cb.channel !== undefined, 5000, 'up')
        expect(a.manager.peer()?.incarnation).toBe(2)
      }
    }
  })

  test('4: another version is refused, with the reason', async () => {
    const bench = new Bench(4)
    const a = bench.filer('a')
    const b = bench.filer('b', { version: 2 })
    const ca = client(a)
    a.manager.start()
    b.manager.start()
    await bench.world.run(5000)
    expect(ca.events).toEqual([])
    expect(a.manager.links()[0]!.reason).toBe('partner speaks version 2, this filer 1')
    expect(b.manager.links()[0]!.state).toBe('Down')
    // Both know, and at every moment: the broken calls between two refusals are no other reason.
    for (let i = 0; i < 40; i++) {
      for (const { manager } of [a, b]) expect(manager.links()[0]!.refusal).toBe('VersionMismatch')
      await bench.world.run(57)
    }
  })

  test('5: a client that only one side has waits; its late twin connects without disturbing others', async () => {
    const { world, a, b, ca, cb } = await connected(5)
    const early = client(a, { id: 'late' })
    await world.run(5000)
    expect(early.events).toEqual([])
    const twin = client(b, { id: 'late' })
    await world.until(() => early.channel !== undefined && twin.channel !== undefined, 100)
    expect(ca.events).toEqual(['up 0 1'])
    expect(cb.events).toEqual(['up 0 1'])
  })

  test('clients of different versions get no channel', async () => {
    const { world, a, b } = await connected(55)
    const old = client(a, { id: 'x', version: 1 })
    const young = client(b, { id: 'x', version: 2 })
    await world.run(1000)
    expect([...old.events, ...young.events]).toEqual([])
  })

  test('the handshake passes addresses on: a partner that moved is found by the drivers that it did not call', async () => {
    const bench = new Bench(56)
    const a = bench.filer('a', { peerAddresses: { one: 'b/one' } })
    const b = bench.filer('b', { peerAddresses: {} })
    const learned: Readonly<Record<string, string>>[] = []
    a.manager.onPeerAddresses((addresses) => learned.push(addresses))
    b.manager.setPeerAddresses({ one: 'a/one' })
    a.manager.start()
    b.manager.start()
    await bench.world.until(() => readyLinks(a) === 2 && readyLinks(b) === 2, 5000)
    expect(learned).toEqual([{ one: 'b/one', two: 'b/two' }])
  })
})
