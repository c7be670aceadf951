import { describe, expect, jest, test } from '@jest/globals'
import type { HarnessOptions } from './testing/harness.ts'
import { FILERS, Harness, Violation, other, settled } from './testing/harness.ts'

jest.setTimeout(600_000)

async function ended(h: Harness): Promise<void> {
  await h.untilGood()
  await h.world.run(200)
  await h.finish()
  expect(h.fatal).toEqual([])
}

describe('one side, two filers, toy data', () => {
  test('H7 H10 a new pair: the home filer makes the side, fills the partner, both copies count', async () => {
    const h = await settled({ seed: 1 })
    expect(h.record()).toMatchObject({ owner: 'a', mirrored: true })
    await ended(h)
  })

  test('H1 H2 the owner dies: the standby serves after detection and lease, nothing is lost', async () => {
    const h = await settled({ seed: 2 })
    h.crash('a')
    await h.world.until(() => h.serving().includes('b'), 1500, 'takeover')
    expect(h.record()).toMatchObject({ owner: 'b', mirrored: false })
    await h.world.run(300)
    h.start('a')
    await ended(h)
    expect(Math.max(...h.history.map((client) => client.longestGapMs))).toBeLessThan(1500)
  })

  test('H4 the standby dies: answers wait for ALONE and go on; it comes back and is filled again', async () => {
    const h = await settled({ seed: 3 })
    h.crash('b')
    await h.world.until(() => h.record()?.mirrored === false, 1500, 'ALONE')
    expect(h.record()?.owner).toBe('a')
    await h.world.run(500)
    h.start('b')
    await ended(h)
    expect(h.record()?.owner).toBe('a')
  })

  test('a cut link moves nothing: the owner asks first', async () => {
    const h = await settled({ seed: 4 })
    h.wire.cut()
    await h.world.run(3000)
    expect(h.record()).toMatchObject({ owner: 'a', mirrored: false })
    h.wire.heal()
    await ended(h)
  })

  test('H2 vote silent, partner lost: the owner holds, nobody takes over; with the vote it goes on', async () => {
    const h = await settled({ seed: 5 })
    h.vote.silent = true
    h.wire.cut()
    await h.world.run(1000)
    const before = h.history.map((client) => client.acknowledgedCount)
    await h.world.run(5000)
    expect(h.history.map((client) => client.acknowledgedCount)).toEqual(before)
    h.vote.silent = false
    h.wire.heal()
    await ended(h)
  })

  test('vote silent, both filers see each other: they serve on', async () => {
    const h = await settled({ seed: 6 })
    h.vote.silent = true
    const before = h.history.map((client) => client.acknowledgedCount)
    await h.world.run(5000)
    for (const [n, client] of h.history.entries())
      expect(client.acknowledgedCount).toBeGreaterThan(before[n]! + 100)
    h.vote.silent = false
    await ended(h)
  })

  test('a standby that restarts while the vote is silent is greeted again', async () => {
    const h = await settled({ seed: 7 })
    h.vote.silent = true
    h.crash('b')
    await h.world.run(20)
    h.start('b')
    await h.world.run(1000)
    const before = h.history.map((client) => client.acknowledgedCount)
    await h.world.run(1000)
    for (const [n, client] of h.history.entries())
      expect(client.acknowledgedCount).toBeGreaterThan(before[n]!)
    h.vote.silent = false
    await ended(h)
  })

  test.each([
    ['a', 'b'],
    ['b', 'a'],
  ] as const)('H10 both crash, %s comes back first: a complete copy goes on', async (first, second) => {
    const h = await settled({ seed: 8 })
    h.crash('a')
    h.crash('b')
    await h.world.run(1000)
    h.start(first)
    await h.world.until(() => h.serving().includes(first), 10_000, 'served by the first')
    h.start(second)
    await ended(h)
  })

  test('both crash and return together: hello, no vote needed', async () => {
    const h = await settled({ seed: 9 })
    const epoch = h.record()!.epoch
    h.crash('a')
    h.crash('b')
    h.vote.silent = true
    h.start('a')
    h.start('b')
    await h.world.until(() => h.serving().includes('a'), 5000, 'hello')
    await h.world.run(500)
    h.vote.silent = false
    await ended(h)
    expect(h.record()?.epoch).toBe(epoch)
  })

  test('hand-over: a planned move keeps both copies current and pauses shortly; giveback the same', async () => {
    const h = await settled({ seed: 10 })
    const { epoch } = h.record()!
    await expect(h.world.wait(h.filers.a!.pair!.sides.get('a')!.handOver())).resolves.toMatchObject({
      accepted: true,
    })
    await h.untilGood(2000)
    expect(h.record()).toMatchObject({ owner: 'b', mirrored: true, epoch: epoch + 1 })
    await h.world.run(300)
    await expect(h.world.wait(h.filers.b!.pair!.sides.get('a')!.handOver())).resolves.toMatchObject({
      accepted: true,
    })
    await ended(h)
    expect(h.record()).toMatchObject({ owner: 'a', mirrored: true })
    expect(Math.max(...h.history.map((client) => client.longestGapMs))).toBeLessThan(700)
  })

  test('an idle side whose copy was just filled can be handed over: an empty log is equal to what the root covers', async () => {
    const h = await settled({ seed: 14 }, 1)
    await h.finish()
    h.crash('b')
    await h.world.until(() => h.record()?.mirrored === false, 1500, 'ALONE')
    h.start('b')
    await h.untilGood()
    await expect(h.world.wait(h.filers.a!.pair!.sides.get('a')!.handOver())).resolves.toMatchObject({
      accepted: true,
    })
    await ended(h)
  })

  test('hand-over with a vote that applies late: the old owner goes on, then the move happens as a restart', async () => {
    const h = await settled({ seed: 11 })
    h.vote.late = 1
    h.vote.lateMs = 6000
    const moved = await h.world.wait(h.filers.a!.pair!.sides.get('a')!.handOver())
    expect(moved.accepted).toBe(false)
    h.vote.late = 0
    await ended(h)
  })

  test('H9 a filer that lost its log volume grants and takes nothing until it was filled', async () => {
    const h = await settled({ seed: 12 })
    h.crash('b')
    const { mailbox, logs } = h.media.b
    for (const medium of [mailbox, logs['a']!]) medium.stable.clear()
    h.crash('a')
    await h.world.run(100)
    h.start('b')
    await h.world.run(10_000)
    expect(h.serving()).toEqual([])
    h.start('a')
    await ended(h)
  })

  test('test 9, one filer: a vote that was rolled back is refused, not believed (H9)', async () => {
    const h = await settled({ seed: 13 })
    const old = h.vote.record!
    h.crash('b')
    await h.world.until(() => h.record()?.mirrored === false, 1500, 'ALONE')
    await h.world.run(500)
    h.crash('a')
    h.vote.record = old
    h.vote.version += 1
    h.start('a')
    await h.world.run(8000)
    expect(h.serving()).toEqual([])
    expect(h.filers.a!.pair!.sides.get('a')!.decision.reason).toBe('VoteRolledBack')
  })
})

async function storm(options: HarnessOptions, rounds = 12): Promise<Harness> {
  const h = new Harness(options)
  try {
    await blow(h, rounds)
  } catch (error) {
    throw process.env['TANDEM_SEED'] === undefined ? error : new Error(h.describe(), { cause: error })
  }
  return h
}

/** Crashes, cuts, pauses, lost and late votes at random; then peace, and everything must be well again. */
async function blow(h: Harness, rounds: number): Promise<void> {
  const { random } = h
  h.rates = { a: random.between(0.9, 1.1), b: random.between(0.9, 1.1) }
  h.wire.ghostChance = 0.3
  h.start('a')
  h.start('b')
  await h.untilGood()
  for (let n = 0; n < 3; n++) {
    const client = h.client(`r${n}`)
    client.run()
    client.watch()
  }
  for (let round = 0; round < rounds; round++) {
    await h.world.run(random.between(0, 1500))
    h.vote.loseAnswer = random.pick([0, 0, 0.5])
    h.vote.late = random.pick([0, 0, 0.3])
    h.vote.lateMs = 3000
    const victim = random.pick(FILERS)
    switch (random.below(8)) {
      case 0:
      case 1:
        h.crash(victim)
        await h.world.run(random.between(0, 1200))
        break
      case 2:
        h.crash('a')
        h.crash('b')
        break
      case 3:
        h.wire.cut()
        await h.world.run(random.between(0, 1500))
        break
      case 4:
        h.wire.cut(victim)
        await h.world.run(random.between(0, 1500))
        break
      case 5: {
        const paused = h.filers[victim]?.process
        paused?.pause()
        await h.world.run(random.between(0, 2500))
        paused?.resume()
        break
      }
      case 6:
        h.vote.silent = true
        await h.world.run(random.between(0, 1000))
        if (random.chance(0.5)) h.wire.cut()
        if (random.chance(0.3)) h.crash(victim)
        await h.world.run(random.between(0, 2000))
        break
      case 7: {
        const [owner] = h.serving()
        void h.filers[owner ?? victim]?.pair?.sides.get('a')?.handOver()
        if (random.chance(0.5)) {
          await h.world.run(random.between(0, 50))
          h.crash(random.chance(0.5) ? victim : other(victim))
        }
      }
    }
    h.vote.silent = false
    if (random.chance(0.7)) h.wire.heal()
    for (const name of FILERS) if (!h.filers[name] && random.chance(0.8)) h.start(name)
  }
  h.vote.loseAnswer = 0
  h.vote.late = 0
  h.wire.heal()
  for (const name of FILERS) if (!h.filers[name]) h.start(name)
  await h.untilGood(60_000)
  await h.world.run(300)
  await h.finish()
  if (h.fatal.length > 0) throw new Violation(`seed ${h.world.seed}: ${h.fatal.join('; ')}`)
}

const SEEDS = Number(process.env['TANDEM_SEEDS'] ?? 3)
const FIRST = Number(process.env['TANDEM_SEED'] ?? 1)

describe('storms (R1)', () => {
  test('H1 H2 H3 H5 H6 H10 hold over random failures', async () => {
    let acknowledged = 0
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const h = await storm({ seed })
      for (const client of h.history) acknowledged += client.acknowledgedCount
    }
    expect(acknowledged).toBeGreaterThan(100)
  }, 1_800_000)
})
