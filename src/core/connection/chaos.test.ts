/** Random faults against two connection managers, in the simulator; A1-A5 and A8 are checked by the clients all the time. */
import { describe, expect, test } from '@jest/globals'
import { Bench, client, codeOf, FENCE, readyLinks } from './testing/filers.ts'
import type { CheckedClient, SimFiler } from './testing/filers.ts'

describe('chaos', () => {
  test('A1-A9 under random faults, then READY in bounded time', async () => {
    for (let seed = 1; seed <= Number(process.env['TANDEM_SEEDS'] ?? 10); seed++) await chaos(seed)
  })

  test('a seed repeats its history', async () => {
    expect(await chaos(7)).toBe(await chaos(7))
  })
})

/** Random faults for some seconds, with load in both directions; then quiet, and everything must be up again. */
async function chaos(seed: number): Promise<number> {
  const bench = new Bench(seed)
  const { world, network } = bench
  const filers: SimFiler[] = []
  const clients: CheckedClient[] = []
  const boot = (name: 'a' | 'b') => {
    const i = name === 'a' ? 0 : 1
    const filer = bench.filer(name, {}, world.random.between(0.9, 1.1))
    filers[i] = filer
    clients[i] = client(filer, { ports: 2, policy: seed % 3 === 0 ? 'striped' : 'ordered' })
    filer.manager.start()
  }
  boot('a')
  boot('b')
  let stop = false
  const load = async (i: number) => {
    while (!stop) {
      const own = clients[i]!
      const channel = own.live.get(world.random.below(2))
      if (channel !== undefined) {
        if (world.random.chance(0.5)) own.send(channel, 4 + world.random.below(9000)).catch(codeOf)
        else
          own
            .checked(
              channel,
              channel.write(0, world.random.below(1000), [new Uint8Array(world.random.below(9000))], FENCE),
            )
            .catch(codeOf)
      }
      await new Promise<void>((resolve) => world.after(world.random.between(0, 5), resolve))
    }
  }
  void load(0)
  void load(1)
  for (let step = 0; step < 15; step++) {
    const link = world.random.pick(bench.links)
    const act = world.random.below(8)
    if (act === 0) network.cut(link)
    else if (act === 1) network.silence(link)
    else if (act === 2) network.silence(link, world.random.pick(['a', 'b']))
    else if (act === 3) network.delay(link, world.random.between(0, 100), 20)
    else if (act === 4) {
      const name = world.random.pick(['a', 'b'] as const)
      filers[name === 'a' ? 0 : 1]!.process.kill(world.random.chance(0.5))
      await world.run(world.random.between(0, 200))
      boot(name)
    } else if (act === 5) {
      const { process } = world.random.pick(filers)
      process.pause()
      await world.run(world.random.between(0, 500))
      process.resume()
    } else network.heal(link)
    await world.run(world.random.between(0, 600))
  }
  for (const link of bench.links) network.heal(link)
  await world.until(() => clients.every((each) => each.live.size === 2), 8000, 'everything up')
  await world.until(() => filers.every((filer) => readyLinks(filer) === 2), 8000, 'all drivers')
  stop = true
  await world.run(1500)
  expect(filers.map((filer) => filer.manager.counters().ports)).toEqual([2, 2])
  const generations = (each: CheckedClient) =>
    [...each.live.values()].map((channel) => `${channel.index} ${channel.generation}`).sort()
  expect(generations(clients[0]!)).toEqual(generations(clients[1]!))
  return world.traceHash
}
