/** Crashes, cuts, pauses and a vote that misbehaves, at random moments; `TANDEM_SEEDS=200 TANDEM_SEED=1000` runs more and tells the story of a failure. */
import { describe, expect, test } from '@jest/globals'
import type { HarnessOptions } from './testing/harness.ts'
import { FILERS, Harness, Violation, other } from './testing/harness.ts'

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

const SEEDS = Number(process.env['TANDEM_SEEDS'] ?? 8)
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
