/** Acceptance tests 9 and 10 of the connection manager (docs/SPEC-wire.md), in the simulator, and what else channels promise. */
import { describe, expect, test } from '@jest/globals'
import { client, codeOf, connected, FENCE, linksOf, readyLinks } from './testing/filers.ts'

describe('channels', () => {
  test('A6, 9: striped over drivers with 100 times different delay: what a barrier precedes is placed', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { bench, world, ca, cb } = await connected(seed, {
        policy: 'striped',
        regionBytes: [1 << 16, 4096],
      })
      await world.until(() => linksOf(ca.channel).length === 2, 5000, 'both drivers')
      bench.network.delay('two', 10, 5)
      const channel = ca.channel!
      const data = Array.from({ length: 16 }, (_, i) =>
        channel.write(0, i * 4096, [new Uint8Array(4096).fill(i + 1)], FENCE),
      )
      const barrier = channel.barrier().then(() => {
        for (let i = 0; i < 16; i++) expect(cb.regions[0]!.content[i * 4096 + 4095]).toBe(i + 1)
        return channel.write(1, 0, [new Uint8Array(1).fill(9)], FENCE)
      })
      await world.wait(Promise.all([...data, barrier]))
      expect(cb.regions[1]!.content[0]).toBe(9)
    }
  })

  test('A6: without the barrier the same history does show metadata before its data', async () => {
    let early = 0
    for (let seed = 1; seed <= 5; seed++) {
      const { bench, world, ca, cb } = await connected(seed, {
        policy: 'striped',
        regionBytes: [1 << 16, 4096],
      })
      await world.until(() => linksOf(ca.channel).length === 2, 5000, 'both drivers')
      bench.network.delay('two', 10, 5)
      const channel = ca.channel!
      const all = Array.from({ length: 17 }, (_, i) =>
        channel.write(i < 16 ? 0 : 1, i < 16 ? i * 4096 : 0, [new Uint8Array(4096).fill(i + 1)], FENCE),
      )
      await world.until(() => cb.regions[1]!.content[0] === 17, 1000)
      for (let i = 0; i < 16; i++) if (cb.regions[0]!.content[i * 4096] !== i + 1) early++
      await world.wait(Promise.all(all))
    }
    expect(early).toBeGreaterThan(0)
  })

  test('10, A8: closed during 1,000 writes in flight: nothing lands in memory that was given back', async () => {
    let interrupted = 0
    for (let seed = 1; seed <= 10; seed++) {
      const { world, b, ca, cb } = await connected(seed, { memoryBytes: 1 << 18, regionBytes: [1 << 16] })
      const channel = ca.channel!
      const outcomes: string[] = []
      for (let i = 0; i < 1000; i++) {
        channel.write(0, (i % 64) * 1024, [new Uint8Array(1024)], FENCE).then(
          () => outcomes.push('placed'),
          (error: unknown) => outcomes.push(codeOf(error)),
        )
      }
      await world.run(world.random.between(0, 2))
      if (outcomes.length < 1000) interrupted++
      const closed = b.manager.unregister('log').then(() => {
        for (const region of cb.regions) region.freed = true
      })
      await world.wait(closed, 3000, 'close')
      await world.until(() => outcomes.length === 1000, 3000, 'outcomes')
      await world.run(2000)
      expect(ca.events).toEqual(['up 0 1', 'down 0 1'])
      expect(cb.events).toEqual(['up 0 1', 'down 0 1'])
      expect(b.manager.counters().ports).toBe(0)
    }
    expect(interrupted).toBeGreaterThan(5)
  })

  test('a client registered anew after it was closed gets a new generation', async () => {
    const { world, b, ca } = await connected(15)
    await world.wait(b.manager.unregister('log'))
    await world.until(() => ca.channel === undefined, 1000)
    client(b)
    await world.until(() => ca.channel !== undefined, 1000)
    expect(ca.channel!.generation).toBeGreaterThan(1)
  })

  test('back-pressure: what is under way at the far end never exceeds the memory that its client claimed', async () => {
    const { world, ca, cb } = await connected(16, { memoryBytes: 65536, regionBytes: [1 << 20] })
    let under = 0
    let most = 0
    const region = cb.regions[0]!
    const place = region.place.bind(region)
    region.place = async (offset, chunks, fence) => {
      const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0)
      most = Math.max(most, (under += bytes))
      await place(offset, chunks, fence)
      under -= bytes
    }
    const channel = ca.channel!
    const writes = Array.from({ length: 200 }, (_, i) =>
      channel.write(0, i * 4096, [new Uint8Array(4096).fill(i)], FENCE),
    )
    await world.wait(Promise.all(writes))
    expect(most).toBeLessThanOrEqual(65536)
    expect(region.order).toEqual(Array.from({ length: 200 }, (_, i) => i * 4096))
    await expect(world.wait(channel.write(0, 0, [new Uint8Array(65536)], FENCE))).rejects.toMatchObject({
      code: 'REFUSED',
    })
  })

  test('fences, bad regions and device errors come back as such', async () => {
    const { world, ca, cb } = await connected(17)
    const channel = ca.channel!
    cb.regions[0]!.fence = 2
    await expect(world.wait(channel.write(0, 0, [new Uint8Array(1)], FENCE))).rejects.toMatchObject({
      code: 'FENCED',
      fence: { epoch: 2 },
    })
    await expect(world.wait(channel.write(7, 0, [new Uint8Array(1)], FENCE))).rejects.toMatchObject({
      code: 'REFUSED',
    })
    await expect(world.wait(channel.read(0, 65530, 10, FENCE))).rejects.toMatchObject({ code: 'REFUSED' })
    cb.regions[0]!.flush = () => Promise.reject(new Error('EIO'))
    await expect(world.wait(channel.flush(0, FENCE))).rejects.toMatchObject({
      code: 'REFUSED',
      message: 'EIO',
    })
  })

  test('reads larger than a frame come back whole, and a small channel is not kept waiting by a large one', async () => {
    const { bench, world, a, b, ca, cb } = await connected(
      18,
      { memoryBytes: 8 << 20, regionBytes: [4 << 20] },
      ['one'],
    )
    const quick = client(a, { id: 'failover' })
    client(b, { id: 'failover' })
    await world.until(() => quick.channel !== undefined, 100)
    cb.regions[0]!.content.fill(5)
    bench.network.bandwidth('one', 100_000)
    const read = ca.channel!.read(0, 0, 4 << 20, FENCE)
    const write = ca.channel!.write(0, 0, [new Uint8Array(4 << 20)], FENCE)
    await world.run(1)
    const begun = world.now
    await world.wait(quick.send(quick.channel!), 1000)
    // Behind what the stream had taken already, not behind 8 MiB.
    expect(world.now - begun).toBeLessThan(25)
    await world.wait(write)
    expect((await world.wait(read)).length).toBe(4 << 20)
  })

  test('channels spread over the drivers, and move back only when idle', async () => {
    const { bench, world, a, ca } = await connected(19, { ports: 4 })
    const spread = () => [...ca.live.values()].map((channel) => linksOf(channel)[0])
    await world.until(
      () => ca.live.size === 4 && spread().filter((link) => link === 'one').length === 2,
      6000,
      'spread',
    )
    bench.network.cut('one')
    await world.until(() => ca.live.size === 4 && spread().every((link) => link === 'two'), 1000)
    const busy = ca.live.get(0)!
    let stop = false
    const load = (async () => {
      while (!stop) await busy.write(0, 0, [new Uint8Array(4096)], FENCE)
    })()
    bench.network.heal('one')
    await world.until(() => readyLinks(a) === 2, 5000)
    await world.until(() => spread().filter((link) => link === 'one').length === 2, 6000, 'back')
    expect(ca.live.get(0)).toBe(busy)
    stop = true
    await world.wait(load)
  })
})
