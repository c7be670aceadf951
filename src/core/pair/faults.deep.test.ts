/** Tests 1 to 8 of docs/high-availability.md: one story each, at every step or in every order, over the production protocol. */
import { describe, expect, jest, test } from '@jest/globals'
import type { Change } from './rules.ts'
import type { Side } from './side.ts'
import type { FilerName, HarnessOptions } from './testing/harness.ts'
import { FILERS, Harness, other, settled } from './testing/harness.ts'

jest.setTimeout(900_000)

async function watched(options: HarnessOptions, clients = 2): Promise<Harness> {
  const h = await settled(options, clients)
  for (const client of h.history) client.watch()
  return h
}
const sideOf = (h: Harness, name: FilerName): Side => h.filers[name]!.pair!.sides.get('a')!

/** Faults over: all is well again, and nothing acknowledged or shown was lost. */
async function ended(h: Harness): Promise<void> {
  h.wire.heal()
  h.vote.silent = false
  h.vote.silentFor.clear()
  h.vote.late = 0
  h.vote.loseAnswer = 0
  for (const name of FILERS) if (!h.filers[name]) h.start(name)
  await h.untilGood(60_000)
  await h.world.run(100)
  await h.checkCopies()
  await h.finish()
  expect(h.fatal).toEqual([])
}

describe('test 1: TAKE at every message of a consistency point', () => {
  // A consistency point of this toy is over within some 6 ms; frames arrive every 0.1 to 0.4 ms.
  const MOMENTS = Array.from({ length: 24 }, (_, n) => n * 0.25)
  test('H2 H3 H4 H8 whichever root and batches the standby has, it serves everything acknowledged', async () => {
    for (const [n, at] of MOMENTS.entries()) {
      const h = await watched({ seed: 100 + n })
      sideOf(h, 'a').owner!.wantCp()
      await h.world.run(at)
      h.crash('a')
      await h.checkCopies()
      await h.world.until(() => h.serving().includes('b'), 3000, `takeover ${at} ms into it`)
      await h.world.run(50)
      await ended(h)
    }
  })
})

describe("test 2: each change's answer is lost, or it is applied up to 10 s late", () => {
  const stories: readonly [Change, (h: Harness) => Promise<void>][] = [
    ['ALONE', (h) => Promise.resolve(h.crash('b'))],
    ['TAKE', (h) => Promise.resolve(h.crash('a'))],
    [
      'JOIN',
      async (h) => {
        h.crash('b')
        await h.world.until(() => h.record()?.mirrored === false, 30_000, 'ALONE')
        h.start('b')
      },
    ],
    ['HANDOVER', (h) => Promise.resolve(void sideOf(h, 'a').handOver())],
  ]
  test.each(stories)('H1 H2 H10 %s', async (_change, story) => {
    for (const [n, how] of (['lost', 'late', 'lost, and the filer dies'] as const).entries()) {
      const h = await watched({ seed: 130 + n })
      if (how === 'late') Object.assign(h.vote, { late: 1, lateMs: 10_000 })
      else h.vote.loseAnswer = 1
      await story(h)
      await h.world.run(2500)
      if (how === 'lost, and the filer dies') {
        for (const name of FILERS) h.crash(name)
        for (const name of FILERS) h.start(name)
      }
      h.vote.late = 0
      h.vote.loseAnswer = 0
      await h.world.run(1000)
      await ended(h)
    }
  })
})

describe('test 3: links and API cut, in either order, one-way', () => {
  const cuts: readonly [string, (h: Harness) => void, (h: Harness) => void][] = [
    ['link, then API', (h) => h.wire.cut(), (h) => (h.vote.silent = true)],
    ['API, then link', (h) => (h.vote.silent = true), (h) => h.wire.cut()],
    ['from the owner, then its API', (h) => h.wire.cut('a'), (h) => h.vote.silentFor.add('a')],
    ['from the standby, then its API', (h) => h.wire.cut('b'), (h) => h.vote.silentFor.add('b')],
    ["the owner's API, then its link", (h) => h.vote.silentFor.add('a'), (h) => h.wire.cut('a')],
    [
      "the standby's API, then the link from the owner",
      (h) => h.vote.silentFor.add('b'),
      (h) => h.wire.cut('a'),
    ],
  ]
  test.each(cuts)('H1 H2 H6 H10 %s', async (_name, first, second) => {
    for (const [n, between] of [0, 150, 350, 450, 1200].entries()) {
      const h = await watched({ seed: 150 + n })
      first(h)
      await h.world.run(between)
      second(h)
      await h.world.run(3000)
      await ended(h)
    }
  })
})

test('test 4: H1 H6 the owner is stopped for 10 s, clocks 10 % apart', async () => {
  for (const [n, rates] of [
    { a: 0.9, b: 1.1 },
    { a: 1.1, b: 0.9 },
  ].entries()) {
    const h = new Harness({ seed: 170 + n })
    h.rates = rates
    for (const name of FILERS) h.start(name)
    await h.untilGood()
    h.client('r0').run()
    h.history[0]!.watch()
    await h.world.run(200)
    const { process } = h.filers.a!
    process.pause()
    h.wire.cut()
    await h.world.until(() => h.serving().includes('b'), 5000, 'takeover')
    const client = h.client('r1', 'b')
    client.run()
    client.watch()
    await h.world.run(10_000)
    process.resume()
    await h.world.run(500)
    await ended(h)
  }
})

describe('test 5: a crash at each step of resync and hand-over', () => {
  test.each(FILERS)('H7 H10 of %s, while the partner is filled', async (victim) => {
    for (let n = 0; n < 10; n++) {
      const h = await watched({ seed: 180 + n }, 1)
      h.crash('b')
      await h.world.until(() => h.record()?.mirrored === false, 3000, 'ALONE')
      h.start('b')
      await h.world.until(() => sideOf(h, 'a').resync !== 'NONE', 10_000, 'resync')
      await h.world.run(n * 1.5)
      h.crash(victim)
      await h.checkCopies()
      await h.world.run(n % 2 === 0 ? 20 : 1500)
      await ended(h)
    }
  })
  test.each([['a'], ['b'], ['a', 'b']] as const)(
    'H2 H10 of %s, while the side is handed over',
    async (...victims) => {
      for (let n = 0; n < 10; n++) {
        const h = await watched({ seed: 200 + n }, 1)
        void sideOf(h, 'a').handOver()
        await h.world.run(n * 2)
        for (const name of victims) if (name) h.crash(name)
        await h.checkCopies()
        await h.world.run(n % 2 === 0 ? 20 : 1500)
        await ended(h)
      }
    },
  )
})

describe('test 6: both crash, and start in any order, with and without the vote', () => {
  const orders: readonly [FilerName, number, boolean][] = FILERS.flatMap((first) =>
    [0, 300, 6000].flatMap((gap) =>
      [true, false].map((vote): [FilerName, number, boolean] => [first, gap, vote]),
    ),
  )
  test.each(orders)('H1 H2 H9 H10 %s first, the other %d ms later, vote %s', async (first, gap, vote) => {
    const h = await watched({ seed: 220 })
    h.vote.silent = !vote
    for (const name of FILERS) h.crash(name)
    await h.checkCopies()
    h.start(first)
    await h.world.run(gap)
    // By hello, which needs no vote, or with it; never alone without it.
    if (!vote) expect(h.serving()).toEqual([])
    h.start(other(first))
    await h.world.run(4000)
    expect(h.serving()).toHaveLength(1)
    await ended(h)
  })
})

test('test 7: H5 frames of the old owner that are released after a takeover take no effect', async () => {
  for (let n = 0; n < 6; n++) {
    const h = await watched({ seed: 240 + n, logBlocks: 1 + 2 * 1024 })
    h.wire.hold('a', n % 2 === 0 ? 'nvlog' : 'plex')
    sideOf(h, 'a').owner!.wantCp()
    await h.world.run(20)
    h.crash('a')
    await h.world.until(() => h.serving().includes('b'), 3000, 'takeover')
    await h.world.run(200)
    h.wire.release()
    await h.world.run(20)
    await h.checkCopies()
    h.crash('b')
    h.start('b')
    await ended(h)
  }
})

describe('test 8: devices lost, or restored from yesterday', () => {
  const losses = [
    ['its plex is blank', ['plexes'], 'blank'],
    ['its log volume is blank', ['mailbox', 'logs'], 'blank'],
    ['all of it is blank', ['mailbox', 'logs', 'plexes'], 'blank'],
    ['its log volume is of yesterday', ['mailbox', 'logs'], 'yesterday'],
    ['all of it is of yesterday', ['mailbox', 'logs', 'plexes'], 'yesterday'],
  ] as const
  test.each(losses.flatMap((loss) => FILERS.map((name) => [name, ...loss] as const)))(
    'H2 H7 H9 of %s: %s',
    async (victim, _what, parts, how) => {
      const h = await watched({ seed: 260 }, 1)
      const media = (part: (typeof parts)[number]) =>
        part === 'mailbox' ? h.media[victim].mailbox : h.media[victim][part]['a']!
      const yesterday = parts.map((part) => media(part).copy())
      // The configuration changes meanwhile, so that yesterday's mailbox has an older epoch.
      h.crash(other(victim))
      await h.world.until(() => h.record()?.owner === victim && !h.record()!.mirrored, 5000, 'alone')
      h.start(other(victim))
      await h.untilGood()
      await h.world.run(300)
      h.crash(victim)
      for (const [n, part] of parts.entries()) {
        const { stable } = media(part)
        stable.clear()
        if (how === 'yesterday') for (const [block, bytes] of yesterday[n]!.stable) stable.set(block, bytes)
      }
      h.start(victim)
      await h.world.run(1500)
      await ended(h)
    },
  )
})
