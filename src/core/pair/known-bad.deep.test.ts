/** Every rule of the pair that is left out must be noticed: a checker that finds nothing proves nothing. */
import { describe, expect, jest, test } from '@jest/globals'
import type { BrokenBuild } from './options.ts'
import type { Harness, HarnessOptions } from './testing/harness.ts'
import { FILERS, Violation, settled } from './testing/harness.ts'

jest.setTimeout(600_000)

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

/** The right build passes the same play. */
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
