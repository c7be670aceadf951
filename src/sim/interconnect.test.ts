/** Acceptance test 7 and invariant A10 of the connection manager (docs/SPEC-wire.md) on whole pairs: what follows from the loss of every driver. */
import { describe, expect, test } from '@jest/globals'
import { Caller, SideAnswers } from './caller.ts'
import { Client } from './client.ts'
import { FilerPair } from './filer-pair.ts'
import { FILERS, LINKS } from './names.ts'

/** Both sides mirrored and their clients at work. */
async function busy(seed: number) {
  const pair = new FilerPair({
    seed,
    deviceBlocks: [3000],
    volumeBytes: 8 << 20,
    logBlocks: 257,
    cacheBytes: 8 << 20,
    givebackDelayMs: 2000,
  })
  const clients = FILERS.map((side) => {
    const peers: Client[] = []
    const client = new Client(new Caller(pair, side, `${side}0`, new SideAnswers()), `/${side}`, peers)
    client.pauseMs = 20
    peers.push(client)
    return client
  })
  const answers = () => clients.map(({ caller }) => caller.operations)
  for (const name of FILERS) pair.start(name)
  await pair.untilGood(20_000)
  for (const client of clients) client.run()
  await pair.world.run(600 + pair.world.random.between(0, 200))
  expect(Math.min(...answers())).toBeGreaterThan(10)
  const loseAll = () => {
    for (const link of LINKS)
      if (pair.world.random.chance(0.5)) pair.network.cut(link)
      else pair.network.silence(link)
  }
  const heal = async () => {
    for (const link of LINKS) pair.network.heal(link)
    await pair.untilGood(60_000)
    for (const client of clients) client.stop()
    await pair.world.until(() => clients.every(({ idle }) => idle), 5000, 'answers')
  }
  return { pair, answers, loseAll, heal }
}

/** After an answer on one log alone, nobody may take the side over. */
async function servedAlone({ pair, answers }: Awaited<ReturnType<typeof busy>>, before: readonly number[]) {
  for (const [n, side] of FILERS.entries()) {
    await pair.world.until(() => answers()[n]! > before[n]!, 5000, 'service')
    expect(pair.vote.record?.sides[side]?.mirrored).toBe(false)
  }
}

test('blocks go to the other plex over all interconnects, records of the log over one', async () => {
  const { pair } = await busy(3)
  const sent = (): number[] => pair.running.a!.connection.links().map(({ bytesSent }) => bytesSent)
  const channels = pair.running.a!.connection.channels()
  const linksOf = (id: string): number => channels.find(({ clientId }) => clientId === id)!.links.length
  expect([linksOf('plex'), linksOf('nvlog')]).toEqual([LINKS.length, 1])
  const before = sent()
  await pair.world.run(3000)
  for (const [n, bytes] of sent().entries()) expect(bytes - before[n]!).toBeGreaterThan(30_000)
})

describe('all interconnects lost', () => {
  test('7: takeover is ruled out by the owners, who serve on; nobody takes over; both are mirrored again later', async () => {
    for (let seed = 1; seed <= 2; seed++) {
      const run = await busy(seed)
      const { pair, answers, loseAll, heal } = run
      const owners = () => FILERS.map((side) => pair.vote.record?.sides[side]?.owner)
      loseAll()
      await pair.world.run(1000)
      await servedAlone(run, answers())
      await pair.world.run(2000)
      expect(owners()).toEqual([...FILERS])
      await heal()
      expect(owners()).toEqual([...FILERS])
    }
  })

  test('A10: while the vote cannot rule takeover out, nothing is answered', async () => {
    for (let seed = 1; seed <= 2; seed++) {
      const run = await busy(seed)
      const { pair, answers, loseAll, heal } = run
      pair.vote.silent = true
      loseAll()
      // The loss is noticed, what was placed at both is answered, leases run out.
      await pair.world.run(1000)
      const before = answers()
      await pair.world.run(2000)
      expect(answers()).toEqual(before)
      pair.vote.silent = false
      await servedAlone(run, before)
      await heal()
    }
  })
})
