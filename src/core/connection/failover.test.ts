/** Acceptance tests 6-8, 11 and 12 of the connection manager (docs/SPEC-wire.md), in the simulator: what drivers and partners do wrong. */
import { describe, expect, test } from '@jest/globals'
import type { Frame } from './frames.ts'
import { client, codeOf, connected, FENCE, linksOf, readyLinks } from './testing/filers.ts'

describe('failures', () => {
  test('6, A3, A5, A7: a driver cut under load: error, then up of the next generation; the log re-mirrored is byte-equal', async () => {
    for (let seed = 1; seed <= 50; seed++) {
      const { bench, world, ca, cb } = await connected(seed, { regionBytes: [1 << 16], memoryBytes: 1 << 16 })
      const log = new Uint8Array(1 << 16)
      let placed = 0
      const writeAll = async () => {
        while (placed < 60) {
          const { channel } = ca
          if (channel === undefined) {
            await new Promise<void>((resolve) => world.after(1, resolve))
            continue
          }
          const offset = placed * 1024
          log.fill(placed + 1, offset, offset + 1024)
          try {
            await ca.checked(channel, channel.write(0, offset, [log.subarray(offset, offset + 1024)], FENCE))
            placed++
          } catch (error) {
            expect(['UNKNOWN_OUTCOME', 'NOT_READY']).toContain(codeOf(error))
          }
        }
      }
      const done = writeAll()
      const victim = world.random.pick(['one', 'two'])
      world.after(world.random.between(0, 15), () =>
        seed % 2 === 0 ? bench.network.cut(victim) : bench.network.silence(victim),
      )
      await world.wait(done, 5000, 'writes')
      expect(Buffer.compare(cb.regions[0]!.content, log)).toBe(0)
      expect(ca.events.filter((event) => event.startsWith('down'))).toEqual([])
    }
  })

  test('A7: one-way cuts are noticed by both sides within the limit, and the other driver takes over', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const { bench, world, a, b, ca, cb } = await connected(seed, { ports: 2 })
      const victim = world.random.pick(['one', 'two'])
      bench.network.silence(victim, seed % 2 === 0 ? 'a' : 'b')
      await world.until(() => readyLinks(a) === 1 && readyLinks(b) === 1, 600, 'detection')
      await world.until(() => ca.live.size === 2 && cb.live.size === 2, 50, 'take-over')
      bench.network.heal(victim)
      await world.until(() => readyLinks(a) === 2 && readyLinks(b) === 2, 4000, 'return')
    }
  })

  test('7, A7: all drivers lost: down, the partner is unknown, and everything returns when they do', async () => {
    const { bench, world, a, b, ca, cb } = await connected(7)
    bench.network.cut('one')
    bench.network.silence('two')
    await world.until(() => a.manager.peer() === undefined && b.manager.peer() === undefined, 600)
    // The first to go is an error, as there seems to be another way; then nothing more is up, and the peer is unknown.
    expect([ca.live.size, cb.live.size]).toEqual([0, 0])
    expect(a.peers).toEqual([1, undefined])
    await world.run(10_000)
    expect([ca.live.size, cb.live.size]).toEqual([0, 0])
    bench.network.heal('one')
    bench.network.heal('two')
    await world.until(() => ca.channel !== undefined && cb.channel !== undefined, 2000)
    expect(a.peers).toEqual([1, undefined, 1])
  })

  test('8, A3: late completions and late data of an old generation are dropped', async () => {
    const { bench, world, a, b, ca } = await connected(8)
    bench.recording = true
    const first = ca.channel!
    for (let i = 0; i < 10; i++) await world.wait(ca.send(first))
    await world.wait(first.write(0, 0, [new Uint8Array(10).fill(1)], FENCE))
    const done = bench.frames.filter(
      ({ frame }) => frame.kind === 'done' && frame.generation === first.generation,
    )
    const data = bench.frames.filter(
      ({ frame }) => frame.kind === 'write' && frame.generation === first.generation,
    )
    const link = data[0]!.link
    bench.network.cut(link)
    await world.until(() => ca.channel !== undefined && ca.channel !== first, 1000)
    const other = link === 'one' ? 'two' : 'one'
    let injected = 0
    bench.onBatch = ({ link: on, from, frames }) => {
      if (on !== other) return frames
      if (from === 'b' && injected < 2 && frames.some((frame) => frame.kind === 'heartbeat-reply')) {
        injected++
        return [...done.map(({ frame }) => frame), ...frames]
      }
      if (from === 'a' && injected < 2 && frames.some((frame) => frame.kind === 'heartbeat')) {
        injected++
        return [...data.map(({ frame }) => frame), ...frames]
      }
      return frames
    }
    await world.until(() => injected === 2, 2000, 'injection')
    await world.run(10)
    expect(a.manager.counters().late + b.manager.counters().late).toBeGreaterThanOrEqual(done.length)
    for (let i = 0; i < 10; i++) await world.wait(ca.send(ca.channel!))
    expect(ca.live.size).toBe(1)
  })

  test('a hole or a repetition within a generation is a fault of the driver', async () => {
    for (const fault of ['drop', 'repeat'] as const) {
      const { bench, world, a, b, ca } = await connected(81)
      let armed = true
      bench.onBatch = ({ frames }) => {
        const i = frames.findIndex((frame) => frame.kind === 'message')
        if (!armed || i < 0) return frames
        armed = false
        return fault === 'drop'
          ? frames.filter((_, at) => at !== i)
          : [...frames.slice(0, i), frames[i]!, ...frames.slice(i)]
      }
      const channel = ca.channel!
      for (let i = 0; i < 5; i++) ca.send(channel).catch(() => undefined)
      await world.until(
        () => ca.live.get(0) !== undefined && ca.live.get(0) !== channel,
        1000,
        'next generation',
      )
      await world.until(() => readyLinks(a) === 2 && readyLinks(b) === 2, 2000)
    }
  })

  test('11, A9: the partner reboots faster than the heartbeat: everything of the old incarnation is closed', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { bench, world, a, b, ca } = await connected(seed)
      b.process.kill(true)
      await world.run(world.random.between(0, 50))
      const again = bench.filer('b')
      const cb = client(again)
      again.manager.start()
      await world.until(() => a.manager.peer()?.incarnation === 2, 1500, 'new incarnation')
      await world.until(() => ca.channel !== undefined && cb.channel !== undefined, 1000)
      expect(ca.events).toHaveLength(3)
    }
  })

  test('11, A9: even over links that never drop, another incarnation in a heartbeat closes all channels', async () => {
    const { bench, world, a, ca } = await connected(111)
    bench.onBatch = ({ from, frames }) =>
      from === 'b'
        ? frames.map((frame) => (frame.kind === 'heartbeat' ? { ...frame, incarnation: 2 } : frame))
        : frames
    await world.until(() => ca.channel === undefined, 200)
    expect(ca.events).toEqual(['up 0 1', 'down 0 1'])
    expect(a.peers.slice(0, 2)).toEqual([1, undefined])
  })

  test('12: a driver flapping at 10 Hz: bounded callbacks, no port is leaked', async () => {
    const { bench, world, a, b, ca, cb } = await connected(12, { ports: 4 })
    for (let i = 0; i < 100; i++) {
      bench.network.cut('one')
      await world.run(50)
      bench.network.heal('one')
      await world.run(50)
    }
    await world.until(() => ca.live.size === 4 && cb.live.size === 4, 2000)
    await world.run(100)
    expect(a.manager.counters().ports).toBe(4)
    expect(b.manager.counters().ports).toBe(4)
    // At worst each channel moves once for every cut, and back once.
    expect(ca.events.length).toBeLessThanOrEqual(4 * (1 + 2 * 2 * 100))
    expect(ca.events.filter((event) => event.startsWith('down'))).toEqual([])
  })

  test('A7: of eight drivers any seven may fail: every channel is READY in bounded time; the eighth gives down', async () => {
    const names = Array.from({ length: 8 }, (_, i) => `n${i}`)
    for (let seed = 1; seed <= 10; seed++) {
      const { bench, world, a, b, ca, cb } = await connected(seed, { ports: 16 }, names)
      const spread = () => names.map((name) => a.manager.channels().filter(({ links }) => links[0] === name))
      await world.until(() => spread().every((on) => on.length === 2), 20_000, 'spread')
      const left = [...names]
      while (left.length > 1) {
        const [victim] = left.splice(world.random.below(left.length), 1)
        if (world.random.chance(0.5)) bench.network.cut(victim!)
        else bench.network.silence(victim!)
        await world.until(
          () => readyLinks(a) === left.length && readyLinks(b) === left.length,
          600,
          'detection',
        )
        await world.until(() => ca.live.size === 16 && cb.live.size === 16, 50, 'take-over')
      }
      expect(ca.events.filter((event) => event.startsWith('down'))).toEqual([])
      bench.network.cut(left[0]!)
      await world.until(() => ca.live.size === 0 && cb.live.size === 0, 600, 'end')
      expect(ca.events.filter((event) => event.startsWith('down'))).toHaveLength(16)
      expect(a.peers).toEqual([1, undefined])
    }
  })

  test('a link fifty times slower than its twin is Slow and carries nothing; it is trusted again later', async () => {
    for (const delayMs of [15, 60]) {
      const { bench, world, a, b, ca } = await connected(13, { ports: 2 })
      bench.network.delay('one', delayMs)
      await world.until(() => a.manager.links()[0]!.state === 'Slow', 5000, 'demotion')
      await world.until(() => b.manager.links()[0]!.state === 'Slow', 500, 'the partner knows')
      await world.until(() => ca.live.size === 2, 100)
      for (const channel of ca.live.values()) await world.wait(ca.send(channel))
      expect([...ca.live.values()].flatMap(linksOf)).toEqual(['two', 'two'])
      bench.network.heal('one')
      await world.until(() => a.manager.links()[0]!.state === 'Up', 20_000, 'trust')
    }
  })

  test('a link that is thirty times slower, or slow only because of its load, is not demoted', async () => {
    const thirty = await connected(131, { ports: 2 })
    thirty.bench.network.delay('one', 4)
    for (let i = 0; i < 200; i++) {
      await thirty.world.run(50)
      expect(thirty.a.manager.links()[0]!.state).toBe('Up')
    }
    const { bench, world, a, b, ca } = await connected(132, { memoryBytes: 8 << 20, regionBytes: [1 << 20] })
    // A gigabit: what is queued on it takes many times the round trip of the idle twin.
    for (const link of bench.links) bench.network.bandwidth(link, 125_000)
    let stop = false
    const load = Array.from({ length: 8 }, async () => {
      while (!stop) await ca.channel!.write(0, 0, [new Uint8Array(1 << 19)], FENCE)
    })
    for (let i = 0; i < 40; i++) {
      await world.run(50)
      for (const filer of [a, b])
        expect(filer.manager.links().map(({ state }) => state)).toEqual(['Up', 'Up'])
    }
    const trips = a.manager.links().map(({ roundTripMicroseconds }) => roundTripMicroseconds)
    expect(Math.max(...trips) / Math.min(...trips)).toBeGreaterThan(20)
    stop = true
    await world.wait(Promise.all(load))
  })

  test('R2: frames that make no sense cost the driver, never the process', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const { bench, world, a, b, ca, cb } = await connected(seed)
      bench.recording = true
      for (let i = 0; i < 3; i++) await world.wait(ca.send(ca.channel!))
      const writes = ca.channel!.write(0, 0, [new Uint8Array(9000)], FENCE)
      await world.wait(writes)
      const { random } = world
      let left = 20
      bench.onBatch = ({ frames }) => {
        if (left === 0 || random.chance(0.5)) return frames
        left--
        const garbled: Record<string, unknown> = { ...random.pick(bench.frames).frame }
        for (const key of Object.keys(garbled)) {
          if (key === 'kind' || !random.chance(0.4)) continue
          if (typeof garbled[key] === 'number')
            garbled[key] = random.pick([0, 1, 2, 0xffffffff, Number.MAX_SAFE_INTEGER])
          if (typeof garbled[key] === 'boolean') garbled[key] = !garbled[key]
          if (typeof garbled[key] === 'string') garbled[key] = random.pick(['', 'one', 'log', 'x'])
        }
        return [...frames, garbled as unknown as Frame]
      }
      // What the clients are promised under faults of the partner is not promised under its lies: only progress counts here.
      const until = async (condition: () => boolean, limitMs: number) => {
        const end = world.now + limitMs
        while (!condition() && world.now < end) await world.run(10).catch(() => undefined)
        expect(condition()).toBe(true)
      }
      await until(() => left === 0, 60_000)
      bench.onBatch = undefined
      await until(() => readyLinks(a) === 2 && readyLinks(b) === 2, 30_000)
      await until(() => ca.channel !== undefined && cb.channel !== undefined, 10_000)
    }
  })

  test('a loop that stood still blames nobody', async () => {
    const { world, b, ca, cb } = await connected(14)
    b.process.pause()
    await world.run(200)
    b.process.resume()
    await world.run(500)
    expect(ca.events).toEqual(['up 0 1'])
    expect(cb.events).toEqual(['up 0 1'])
  })
})
