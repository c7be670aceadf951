import { describe, expect, jest, test } from '@jest/globals'
import type { Harness } from './testing/harness.ts'
import { settled } from './testing/harness.ts'

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
