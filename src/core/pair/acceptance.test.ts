/** The tests of docs/high-availability.md that need a story of their own; storms are in storms.deep.test.ts, known-bad builds in known-bad.deep.test.ts. */
import { describe, expect, jest, test } from '@jest/globals'
import { DEFAULT_PAIR_TIMES, checkTimes } from './options.ts'
import type { Side } from './side.ts'
import { takeoverProblem } from './side-facts.ts'
import { Takeovers } from './takeovers.ts'
import type { FilerName, Harness } from './testing/harness.ts'
import { FILERS, settled } from './testing/harness.ts'

jest.setTimeout(600_000)

const sideOf = (h: Harness, name: FilerName): Side => h.filers[name]!.pair!.sides.get('a')!

async function ended(h: Harness): Promise<void> {
  await h.untilGood()
  await h.world.run(200)
  await h.finish()
  expect(h.fatal).toEqual([])
}

type Loss = 'deleted' | 'rolled back' | 'rolled back by beats only' | 'foreign'
function changeVote(h: Harness, how: Loss, old = h.vote.record): void {
  if (how === 'rolled back by beats only') old = { ...h.vote.record!, beat: 0 }
  h.vote.version += 1
  h.vote.record =
    how === 'deleted' ? undefined : how === 'foreign' ? { ...h.vote.record!, pairUid: 'uid-2' } : old
}

describe('test 9: the vote deleted, rolled back, foreign', () => {
  test.each(['deleted', 'rolled back', 'rolled back by beats only', 'foreign'] as const)(
    'H1 H9 H10 %s while both filers are up: the owner serves on, and writes the record anew with a higher epoch',
    async (how) => {
      const h = await settled({ seed: 31, times: { beatMs: 1000 } })
      await h.world.run(1500)
      const first = h.vote.history[0]!.record
      const { epoch } = h.record()!
      const before = h.history[0]!.acknowledgedCount
      changeVote(h, how, first)
      await h.world.until(() => (h.record()?.epoch ?? 0) > epoch, 10_000, 'the record written anew')
      expect(h.vote.record).toMatchObject({ pairUid: 'uid-1' })
      expect(h.record()).toMatchObject({ owner: 'a', mirrored: true })
      expect(h.serving()).toEqual(['a'])
      await h.world.until(
        () => FILERS.every((name) => !sideOf(h, name).doubtsVote),
        5000,
        'the vote believed again',
      )
      await h.world.run(500)
      expect(h.history[0]!.acknowledgedCount).toBeGreaterThan(before)
      h.crash('a')
      await h.world.until(() => h.serving().includes('b'), 3000, 'takeover by the new record')
      h.start('a')
      await ended(h)
    },
  )

  test('H9 deleted, and one filer is gone: nobody begins, status says why and what to do; a person may', async () => {
    const h = await settled({ seed: 32, times: { beatMs: 1000 } })
    const { epoch } = h.record()!
    h.crash('a')
    h.crash('b')
    changeVote(h, 'deleted')
    h.start('b')
    await h.world.run(10_000)
    expect(h.serving()).toEqual([])
    expect(sideOf(h, 'b').decision).toMatchObject({
      reason: 'VoteLost',
      message: expect.stringContaining('acceptLoss'),
    })
    expect(takeoverProblem(sideOf(h, 'b'))).toMatchObject({ reason: 'VoteLost' })
    h.policy = { ...h.policy, acceptLoss: { filer: 'b', sides: { a: epoch } } }
    await h.world.until(() => h.serving().includes('b'), 5000, 'served by choice')
    expect(h.record()!.epoch).toBeGreaterThan(epoch + 1)
    h.policy = { ...h.policy, acceptLoss: { filer: 'b', sides: { a: epoch }, otherCopy: 'Discarded' } }
    h.start('a')
    await ended(h)
  })

  test('H9 a filer that lost its mailbox has no say in what the record was', async () => {
    const h = await settled({ seed: 33, times: { beatMs: 1000 } })
    for (const name of FILERS) h.crash(name)
    h.media.b.mailbox.stable.clear()
    changeVote(h, 'deleted')
    for (const name of FILERS) h.start(name)
    await h.world.run(15_000)
    expect(h.record()).toBeUndefined()
    expect(h.serving()).toEqual([])
  })
})

describe('acceptLoss', () => {
  async function ownerLost(seed: number): Promise<Harness> {
    const h = await settled({ seed, times: { beatMs: 1000 } }, 0)
    await h.world.run(2000)
    h.crash('b')
    await h.world.until(() => h.record()?.mirrored === false, 2000, 'ALONE')
    await h.world.run(500)
    h.start('b')
    h.wire.cut()
    await h.world.run(3000)
    return h
  }

  test('is refused while the old owner lives, and is carried out once when its beat stands still', async () => {
    const h = await ownerLost(34)
    const { epoch } = h.record()!
    h.policy = { ...h.policy, acceptLoss: { filer: 'b', sides: { a: epoch } } }
    await h.world.run(5000)
    expect(h.record()!.owner).toBe('a')
    expect(sideOf(h, 'b').losses.refused).toMatch(/beat/)
    h.crash('a')
    await h.world.until(() => h.serving().includes('b'), 8000, 'forced')
    expect(h.record()).toMatchObject({ owner: 'b', mirrored: false, epoch: epoch + 16 })
    expect(sideOf(h, 'b').losses.accepted).toMatchObject({ epoch })
    expect(sideOf(h, 'b').losses.accepted!.dataFromSeconds).toBeGreaterThan(0)
    expect(h.filers.b!.copies['a']!.store!.losses).toBe(1)

    // The other copy is kept, also over a restart of the one that serves, until somebody discards it.
    h.start('a')
    h.wire.heal()
    await h.world.run(5000)
    expect(sideOf(h, 'b').decision.reason).toBe('LossAccepted')
    h.crash('b')
    await h.world.run(2000)
    expect(h.serving()).toEqual([])
    h.start('b')
    await h.world.until(() => h.serving().includes('b'), 8000, 'served again')
    expect(h.record()).toMatchObject({ owner: 'b', mirrored: false })
    h.policy = { ...h.policy, acceptLoss: { filer: 'b', sides: { a: epoch }, otherCopy: 'Discarded' } }
    await ended(h)
    expect(sideOf(h, 'b').losses.accepted).toBeUndefined()
  })

  test('of another epoch, or of another filer, does nothing', async () => {
    const h = await ownerLost(35)
    const { epoch } = h.record()!
    h.crash('a')
    for (const acceptLoss of [
      { filer: 'b', sides: { a: epoch - 1 } },
      { filer: 'a', sides: { a: epoch } },
    ]) {
      h.policy = { ...h.policy, acceptLoss }
      await h.world.run(6000)
      expect(h.serving()).toEqual([])
    }
  })
})

describe('test 10: logs in memory', () => {
  const options = { durability: 'Memory', logBlocks: 1 + 2 * 256 } as const

  test.each(FILERS)('H2 one crash, of %s, loses nothing', async (victim) => {
    const h = await settled({ seed: 36, ...options })
    for (const name of FILERS) expect(sideOf(h, name).mail.memoryLog).toBe(true)
    h.crash(victim)
    await h.world.until(() => h.serving().length === 1 && h.record()?.mirrored === false, 3000, 'survivor')
    const [survivor] = h.serving()
    await h.world.until(() => sideOf(h, survivor!).logDurability.onDevice, 2000, 'alone is Disk')
    await h.world.run(500)
    h.crash(survivor!)
    h.start(survivor!)
    await h.world.until(() => h.serving().length === 1, 5000, 'its own log is there')
    h.start(victim)
    await ended(h)
    expect(sideOf(h, 'a').mail.memoryLog).toBe(true)
  })

  test('H9 both crash: down, until a person accepts; then the image is served, and write verifiers change', async () => {
    const h = await settled({ seed: 37, times: { beatMs: 1000 }, ...options }, 0)
    const { epoch } = h.record()!
    for (const name of FILERS) h.crash(name)
    for (const name of FILERS) h.start(name)
    await h.world.run(10_000)
    expect(h.serving()).toEqual([])
    for (const name of FILERS) expect(sideOf(h, name).decision.reason).toBe('LogLost')
    h.policy = { ...h.policy, acceptLoss: { filer: 'a', sides: { a: epoch }, otherCopy: 'Discarded' } }
    await h.world.until(() => h.serving().includes('a'), 5000, 'served by choice')
    expect(h.filers.a!.copies['a']!.store!.losses).toBe(1)
    await ended(h)
  })

  test('H9 a filer that lost its log is worth nothing after a TAKE of the other that never served', async () => {
    const h = await settled({ seed: 38, ...options }, 1)
    h.crash('a')
    await h.world.until(() => h.record()?.owner === 'b', 3000, 'TAKE')
    h.crash('b')
    h.start('a')
    await h.world.run(8000)
    expect(h.serving()).toEqual([])
  })

  test('a planned end loses nothing: logs are on the device, and both start as always', async () => {
    const h = await settled({ seed: 39, ...options })
    h.policy = { ...h.policy, state: 'Stopped' }
    await h.world.until(
      () => FILERS.every((name) => h.filers[name]!.pair!.resting === 'DONE'),
      5000,
      'stopped',
    )
    for (const name of FILERS) expect(sideOf(h, name).mail.memoryLog).toBe(false)
    for (const name of FILERS) h.crash(name)
    h.policy = { ...h.policy, state: 'Running' }
    for (const name of FILERS) h.start(name)
    await ended(h)
  })
})

describe('test 11: two pods of one filer, links that flap', () => {
  test('H1 a filer alone whose mailbox another process of it has opened answers nothing more', async () => {
    const h = await settled({ seed: 40 })
    h.crash('b')
    await h.world.until(() => h.record()?.mirrored === false, 2000, 'ALONE')
    const first = h.filers.a!
    h.start('a')
    await h.world.until(() => h.serving().includes('a') && h.filers.a !== first, 5000, 'the second serves')
    let isAnswered = false
    void first.copies['a']!.store!.write('x', 1).then(() => (isAnswered = true))
    await h.world.until(() => h.fatal.length > 0, 3000, 'the first process ends')
    expect(h.fatal).toEqual([expect.stringMatching(/incarnation .* of this filer runs/)])
    expect(first.process.alive).toBe(false)
    expect(isAnswered).toBe(false)
  })

  test('H1 H2 H10 links that flap at 1 Hz move nothing, and all is well when they rest', async () => {
    const h = await settled({ seed: 41, times: { resyncPauseMs: 1000, resyncPauseMaxMs: 8000 } })
    for (let n = 0; n < 15; n++) {
      h.wire.cut()
      await h.world.run(500)
      h.wire.heal()
      await h.world.run(500)
    }
    expect(h.record()!.owner).toBe('a')
    await ended(h)
  })
})

describe('grey failures', () => {
  test('takeovers from an owner that lives are limited, from a dead one they are not', async () => {
    const h = await settled({ seed: 42, times: { takeoversAnHour: 1, beatMs: 1000 } })
    for (const from of ['a', 'b'] as const) {
      const owner = h.filers[from]!
      const to = from === 'a' ? 'b' : 'a'
      h.vote.silentFor.add(from)
      owner.process.pause()
      h.wire.cut()
      await h.world.until(() => h.serving().includes(to), 5000, `takeover by ${to}`)
      owner.process.resume()
      h.vote.silentFor.clear()
      h.wire.heal()
      await h.untilGood()
    }
    // Both took the side from a living owner once. Now `a` owns it; its loop stops, and its beat with it.
    h.vote.silentFor.add('a')
    h.wire.cut()
    await h.world.run(1500)
    expect(h.record()!.owner).toBe('a')
    expect(sideOf(h, 'b').decision.reason).toBe('TakeoverLimit')
    await h.world.until(() => h.serving().includes('b'), 5000, 'its beat stands still')
    h.vote.silentFor.clear()
    h.wire.heal()
    await ended(h)
  })

  test('an owner whose disk fails asks the standby, keeps its process, and is filled again', async () => {
    const h = await settled({ seed: 43 })
    await h.world.run(500)
    h.failing.add('a/plex-a')
    await h.world.until(() => h.serving().includes('b'), 15_000, 'the standby takes over')
    expect(h.fatal).toEqual([])
    await ended(h)
  })
})

test('a standby whose disk fails says so: answers wait less than a second, and it is filled again', async () => {
  const h = await settled({ seed: 47 })
  await h.world.run(500)
  h.failing.add('b/plex-a')
  await h.world.until(() => h.record()?.mirrored === false, 15_000, 'ALONE')
  expect(h.filers.b!.process.alive).toBe(true)
  await ended(h)
  expect(Math.max(...h.history.map((client) => client.longestGapMs))).toBeLessThan(1000)
})

test('both filers end at once: nothing is handed over, both copies stay complete, and the next start is a hello', async () => {
  const h = await settled({ seed: 48, sides: ['a', 'b'] })
  await h.untilGood(30_000, 'b')
  await h.world.run(500)
  const epochs = h.sides.map((side) => h.record(side)!.epoch)
  const pairs = FILERS.map((name) => h.filers[name]!.pair!)
  await h.world.wait(Promise.all(pairs.map((pair) => pair.stop())), 10_000, 'both end')
  await h.world.run(2000)
  for (const side of h.sides) expect(h.serving(side)).toEqual([])
  for (const pair of pairs) {
    for (const side of pair.sides.values()) expect(side.mail.state).toBe('Complete')
  }
  expect(h.sides.map((side) => h.record(side)!.epoch)).toEqual(epochs)
  for (const name of FILERS) h.crash(name)
  for (const name of FILERS) h.start(name)
  await h.untilGood(30_000, 'b')
  await ended(h)
})

describe('policies', () => {
  test('reads that the standby confirms: no answer of a paused owner after a takeover, whatever its clock says', async () => {
    const h = await settled({ seed: 44 })
    h.policy = { ...h.policy, reads: 'Confirmed' }
    await h.world.run(500)
    const before = h.history.map((client) => client.acknowledgedCount)
    await h.world.run(1000)
    for (const [n, client] of h.history.entries())
      expect(client.acknowledgedCount).toBeGreaterThan(before[n]! + 50)
    for (const client of h.history) client.watch()
    // A host that pauses the machine: its clock stands still, so to itself its lease goes on for ever.
    Object.assign(sideOf(h, 'a').lease, { valid: () => true })
    const old = h.filers.a!
    h.vote.silentFor.add('a')
    h.wire.cut()
    await h.world.until(() => h.serving().includes('b'), 5000, 'takeover')
    expect(sideOf(h, 'a').serving).toBe(true)
    const client = h.client('new', 'b')
    client.run()
    client.watch()
    await h.world.run(1500)
    expect(old.process.alive).toBe(true)
    h.wire.heal()
    h.vote.silentFor.clear()
    await ended(h)
  })

  test('H6 the first answer after a takeover is noticed', async () => {
    const h = await settled({ seed: 45 })
    const { answered } = h
    h.crash('a')
    await h.world.until(() => h.serving().includes('b'), 2000, 'takeover')
    await h.world.until(() => h.answered > answered, 2000, 'a first answer')
    h.start('a')
    await ended(h)
  })

  test('manual takeovers: the owner is silent, nobody takes over until somebody puts it into maintenance', async () => {
    const h = await settled({ seed: 46 })
    h.policy = { ...h.policy, automatic: false }
    h.crash('a')
    await h.world.run(5000)
    expect(h.serving()).toEqual([])
    expect(sideOf(h, 'b').decision.reason).toBe('Manual')
    h.policy = { ...h.policy, maintenance: 'a' }
    await h.world.until(() => h.serving().includes('b'), 2000, 'takeover by order')
    h.start('a')
    await ended(h)
  })
})

test('times that contradict each other are refused, with the reason', () => {
  expect(checkTimes(DEFAULT_PAIR_TIMES)).toBe(DEFAULT_PAIR_TIMES)
  const wrong = (change: object, message: RegExp): void =>
    expect(() => checkTimes({ ...DEFAULT_PAIR_TIMES, ...change })).toThrow(message)
  wrong({ takeAfterMs: 300 }, /takeAfterMs must exceed aloneAfterMs/)
  wrong({ grantWaitMs: 450 }, /grantWaitMs must be 1.25 times leaseMs/)
  wrong({ heartbeatMs: 200 }, /aloneAfterMs must span two heartbeats/)
  wrong({ tickMs: 0 }, /tickMs must be a positive number/)
  wrong({ resyncPauseMs: 1e9 }, /resyncPauseMs must not exceed/)
})

test('takeovers count for an hour, and those from an incarnation that is heard of again as from a living owner', () => {
  const takeovers = new Takeovers()
  takeovers.took(0, 7)
  takeovers.took(1000, 8)
  takeovers.heard(8)
  expect([takeovers.count(2000), takeovers.fromLiving(2000)]).toEqual([2, 1])
  expect([takeovers.count(3_600_500), takeovers.fromLiving(3_601_500)]).toEqual([1, 0])
})
