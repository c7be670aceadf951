import { describe, expect, jest, test } from '@jest/globals'
import type { BrokenBuild } from './options.ts'
import type { HarnessOptions } from './testing/harness.ts'
import { FILERS, Harness, Violation, other } from './testing/harness.ts'

jest.setTimeout(600_000)

async function settled(options: HarnessOptions, clients = 3): Promise<Harness> {
  const h = new Harness(options)
  h.start('a')
  h.start('b')
  await h.untilGood()
  for (let n = 0; n < clients; n++) h.client(`r${n}`).run()
  await h.world.run(50)
  return h
}

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

/** The standby takes over while the old owner lives on, cut off from partner and vote, and somebody still asks it. */
async function islandOwner(h: Harness): Promise<void> {
  h.vote.silentFor.add('a')
  h.wire.cut()
  await h.world.until(() => h.serving().includes('b'), 5000, 'takeover')
  const client = h.client('new', 'b')
  client.run()
  client.watch()
  await h.world.run(1500)
}

/** The owner cannot reach the vote, but thinks of going on alone; then it dies, and its partner takes over. */
async function lonelyOwner(h: Harness): Promise<void> {
  h.vote.silentFor.add('a')
  h.vote.silentFor.add('b')
  h.wire.cut()
  await h.world.run(1000)
  h.crash('a')
  h.vote.silentFor.clear()
  await h.world.until(() => h.serving().includes('b'), 5000, 'takeover')
  await h.world.run(500)
}

/** The owner asks for JOIN, which is applied late; it dies, comes back, goes on alone, dies again. */
async function lateJoin(h: Harness): Promise<void> {
  h.crash('b')
  await h.world.until(() => h.record()?.mirrored === false, 3000, 'ALONE')
  await h.world.run(100)
  h.start('b')
  await h.world.until(() => h.filers.a?.pair?.sides.get('a')?.resync === 'DONE', 5000, 'resync')
  h.vote.late = 1
  h.vote.lateMs = 4000
  await h.world.until(() => h.filers.a!.pair!.votes.isUndecided('a', 'JOIN'), 2000, 'JOIN asked')
  await h.world.run(10)
  h.vote.late = 0
  h.wire.cut()
}
async function lateJoinSurvivor(h: Harness): Promise<void> {
  await lateJoin(h)
  await h.world.until(() => h.record()?.mirrored === true, 6000, 'JOIN applied').catch(() => undefined)
  await h.world.run(50)
  h.crash('a')
  await h.world.run(12_000)
}
async function lateJoinRestart(h: Harness): Promise<void> {
  await lateJoin(h)
  h.crash('a')
  h.start('a')
  await h.world.until(() => h.serving().includes('a'), 3000, 'serving again').catch(() => undefined)
  await h.world.run(300)
  await h.world.until(() => h.record()?.mirrored === true, 5000, 'JOIN applied').catch(() => undefined)
  h.crash('a')
  await h.world.run(12_000)
}

/** Crashes while roots are slow and the log fills fast. */
async function slowRoots(h: Harness): Promise<void> {
  for (let n = 0; n < 6; n++) {
    await h.world.run(h.random.between(200, 900))
    const [owner] = h.serving()
    if (!owner) continue
    h.crash(owner)
    await h.world.until(() => h.serving().length > 0, 20_000, 'served again')
    h.start(owner)
    await h.untilGood()
  }
}

/** Test 7: what the old owner sent stays in the network, and arrives when the new one uses that place of its log. */
async function lateFrames(h: Harness): Promise<void> {
  await h.world.wait(h.filers.a!.pair!.sides.get('a')!.owner!.cpNow())
  await h.world.run(10)
  h.wire.hold('a', 'nvlog')
  await h.world.run(20)
  h.crash('a')
  await h.world.until(() => h.filers.b!.pair!.sides.get('a')!.opened, 5000, 'takeover')
  const { owner } = h.filers.b!.pair!.sides.get('a')!
  for (let n = h.random.between(1, 4); n > 0; n--) {
    await h.world.run(20)
    await h.world.wait(owner!.cpNow())
  }
  await h.world.run(400)
  h.wire.release()
  await h.world.run(20)
  h.crash('b')
}

/** The standby comes back while the owner serves alone, and cannot reach it; then the owner dies. */
async function staleStandby(h: Harness): Promise<void> {
  h.crash('b')
  await h.world.until(() => h.record()?.mirrored === false, 3000, 'ALONE')
  await h.world.run(300)
  h.wire.cut()
  h.start('b')
  await h.world.run(500)
  h.crash('a')
  await h.world.run(5000)
}

/** Both die while a root is on one plex only, again and again. */
async function unequalRoots(h: Harness): Promise<void> {
  for (let n = 0; n < 8; n++) {
    await h.world.run(h.random.between(50, 600))
    for (const name of FILERS) h.crash(name)
    for (const name of FILERS) h.start(name)
    await h.world.until(() => h.serving().length > 0, 20_000, 'served again')
    await watched(h, 600)
    await h.untilGood()
  }
}

/** A consistency point while log frames do not arrive. */
async function slowLog(h: Harness): Promise<void> {
  h.wire.hold('a', 'nvlog')
  await h.world.run(30)
  h.filers.a!.pair!.sides.get('a')!.owner!.wantCp()
  await watched(h, 1000)
  h.wire.release()
  h.wire.cut()
  await h.world.run(500)
}

/** Both die; the standby comes back without its log volume, and before the owner. */
async function forgetfulStandby(h: Harness): Promise<void> {
  for (const name of FILERS) h.crash(name)
  for (const medium of [h.media.b.mailbox, h.media.b.logs['a']!]) medium.stable.clear()
  h.start('b')
  await h.world.run(8000)
}

async function watched(h: Harness, ms: number): Promise<void> {
  for (let n = 0; n < ms; n += 20) {
    await h.checkCopies()
    await h.world.run(20)
  }
}

async function played(options: HarnessOptions, play: (h: Harness) => Promise<void>): Promise<void> {
  const h = await settled(options)
  try {
    await playedOut(h, play)
  } catch (error) {
    if (options.broken) throw error
    throw new Error(h.describe(), { cause: error })
  }
}
async function playedOut(h: Harness, play: (h: Harness) => Promise<void>): Promise<void> {
  for (const client of h.history) client.watch()
  await play(h)
  h.wire.heal()
  h.vote.silentFor.clear()
  for (const name of FILERS) if (!h.filers[name]) h.start(name)
  await h.untilGood()
  await h.world.run(200)
  await h.finish()
  if (h.fatal.length > 0) throw new Violation(h.fatal.join('; '))
}

/** Every rule that is left out must be noticed: a checker that finds nothing proves nothing. The right build passes the same play. */
describe('test 12: known-bad builds are caught, the right one is not', () => {
  const plays: readonly [string, BrokenBuild, (h: Harness) => Promise<void>, Partial<HarnessOptions>?][] = [
    ['no lease wait, no lease', { noLeaseWait: true, noLease: true }, islandOwner],
    ['no fence', { noFence: true }, lateFrames, { logBlocks: 1 + 2 * 2048 }],
    ['answer before ALONE is recorded', { ackBeforeAlone: true }, lonelyOwner],
    ['TAKE when not mirrored', { takeStale: true }, staleStandby],
    ['half freed early', { freeEarly: true }, slowRoots, { plexFlushMs: 200 }],
    ['roots assumed equal', { assumeEqualRoots: true }, unequalRoots, { plexFlushMs: 100 }],
    ['root ahead of the log', { rootAhead: true }, slowLog, { plexFlushMs: 100 }],
    ['JOIN not binding', { joinLoose: true }, lateJoinSurvivor],
    ['restart alone without ALONE', { restartWithoutAlone: true }, lateJoinRestart],
    ['grant after a lost mailbox', { trustLost: true }, forgetfulStandby],
    ['unlogged change shown', { showUnlogged: true }, (h) => lonelyOwner(h)],
  ]
  const SEEDS_EACH = 4
  test.each(plays)(
    '%s',
    async (_name, broken, play, options = {}) => {
      const failures: string[] = []
      for (let seed = 1; seed <= SEEDS_EACH; seed++) {
        await played({ seed, ...options }, play)
        if (failures.length === 0) {
          await played({ seed, ...options, broken }, play).catch((error: unknown) =>
            failures.push(String(error)),
          )
        }
      }
      expect(failures).not.toEqual([])
    },
    120_000,
  )
})
