/**
 * Whole pairs in the simulated world that get devices and aggregates while clients of both sides go on: filers learn of them one after the other, and the
 * space is there when both have them.
 */
import { describe, expect, test } from '@jest/globals'
import { Caller, SideAnswers } from '../../sim/caller.ts'
import { Client } from '../../sim/client.ts'
import type { FilerName, SideName } from '../../sim/names.ts'
import { FilerPair } from '../../sim/filer-pair.ts'
import { FILERS, other } from '../../sim/names.ts'
import { problemsOf, untilEqual } from '../../sim/pair-check.ts'
import type { AggregateStore, FilerAggregate } from './aggregate-store.ts'

const LIMIT_MS = 60_000
const SEEDS = Number(process.env['TANDEM_SEEDS'] ?? 2)
const FIRST_SEED = Number(process.env['TANDEM_SEED'] ?? 10)
const TEST_MS = 60_000 + 30_000 * SEEDS

class Bed {
  readonly pair: FilerPair
  readonly clients: Client[]

  constructor(seed: number, deviceBlocks: readonly number[] = [3000]) {
    this.pair = new FilerPair({
      seed,
      deviceBlocks,
      volumeBytes: 16 * 2 ** 20,
      logBlocks: 257,
      cacheBytes: 8 * 2 ** 20,
      givebackDelayMs: 500,
    })
    this.clients = FILERS.flatMap((side) => {
      const peers: Client[] = []
      const answers = new SideAnswers()
      for (let n = 0; n < 2; n++) {
        peers.push(new Client(new Caller(this.pair, side, `${side}${n}`, answers), `/${side}`, peers))
        peers[n]!.pauseMs = 60
      }
      return peers
    })
  }

  async start(): Promise<void> {
    for (const name of FILERS) this.pair.start(name)
    await this.pair.untilGood(LIMIT_MS)
    for (const client of this.clients) client.run()
    await this.pair.world.run(200)
  }

  store(side: SideName): AggregateStore | undefined {
    return this.pair.running[this.pair.ownerOf(side)]?.filer?.stores.get(side)
  }
  aggregate(side: SideName, name = `aggr-${side}`): FilerAggregate | undefined {
    return this.store(side)?.aggregates.get(name)
  }
  devices(side: SideName): number {
    return this.aggregate(side)?.layout.devices.length ?? 0
  }

  async renew(...names: readonly FilerName[]): Promise<void> {
    for (const name of names) {
      await this.pair.renew(name, LIMIT_MS)
      await this.pair.untilGood(LIMIT_MS)
    }
  }
  /** Both are told of what was added, and crash again and again. */
  async renewUnderCrashes(): Promise<void> {
    const { pair } = this
    for (const name of FILERS) pair.configure(name)
    for (let n = 0; n < 4; n++) {
      pair.crash(pair.world.random.pick(FILERS))
      await pair.world.run(pair.world.random.between(0, 400))
      pair.peace()
      await pair.world.run(pair.world.random.between(0, 6000))
    }
    await this.renew('a', 'b')
  }
  async until(what: string, condition: () => boolean): Promise<void> {
    await this.pair.world.until(condition, LIMIT_MS, what)
  }

  /** Everything that clients did is there, both copies are whole and equal. */
  async end(): Promise<void> {
    const { pair, clients } = this
    pair.peace()
    await pair.untilGood(LIMIT_MS)
    for (const client of clients) client.stop()
    await this.until('clients answered', () => clients.every((client) => client.idle))
    for (const client of clients) await pair.world.wait(client.verify(), LIMIT_MS, 'last reads')
    await untilEqual(pair, LIMIT_MS)
    expect(await problemsOf(pair)).toEqual([])
  }
}

let bed: Bed

describe('devices', () => {
  for (const order of [['a', 'b'] as const, ['b', 'a'] as const]) {
    test(`join both sides when the filers were renewed, ${order.join(' first, then ')}`, async () => {
      bed = new Bed(1)
      await bed.start()
      for (const side of FILERS) bed.pair.add(side, 'device', 2000)
      const [first, second] = order
      await bed.renew(first)
      await bed.pair.world.run(6000)
      for (const side of FILERS) expect(bed.devices(side)).toBe(1)
      const [waits] = FILERS.flatMap((side) => bed.store(side)!.growth.waiting(`aggr-${side}`))
      if (waits) expect(waits.reason).toBe('the other filer does not have the device yet')
      await bed.renew(second)
      await bed.until('devices joined', () => FILERS.every((side) => bed.devices(side) === 2))
      for (const side of FILERS) expect(bed.store(side)!.growth.waiting(`aggr-${side}`)).toEqual([])
      await bed.end()
      for (const side of FILERS) expect(bed.aggregate(side)!.sizes().totalBytes / 4096).toBeGreaterThan(4900)
    })
  }

  test('wait at an owner that is alone, and say why', async () => {
    bed = new Bed(2)
    await bed.start()
    bed.pair.add('a', 'device', 2000)
    await bed.renew('b', 'a')
    await bed.until('joined', () => bed.devices('a') === 2)
    bed.pair.add('a', 'device', 1000)
    bed.pair.crash('b')
    bed.pair.configure('a')
    bed.pair.crash('a')
    bed.pair.start('a')
    await bed.until('alone', () => bed.devices('a') === 2)
    await bed.pair.world.run(8000)
    expect(bed.store('a')!.growth.waiting('aggr-a')).toEqual([
      { name: 'aggr-a-main-2', reason: 'both copies must be current first' },
    ])
    bed.pair.configure('b')
    bed.pair.start('b')
    await bed.until('joined', () => bed.devices('a') === 3)
    await bed.end()
  })

  test(
    'join under crashes of either filer, at any time',
    async () => {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        bed = new Bed(seed)
        await bed.start()
        bed.pair.add('a', 'device', 2000)
        await bed.renewUnderCrashes()
        await bed.until('joined', () => bed.devices('a') === 2)
        await bed.end()
      }
    },
    TEST_MS,
  )
})

describe('aggregates', () => {
  test('join a running pair and take volumes, which a takeover inherits', async () => {
    bed = new Bed(3)
    await bed.start()
    for (const side of FILERS) bed.pair.add(side, 'aggregate', 2000)
    await bed.renew('b')
    await bed.pair.world.run(6000)
    expect(bed.aggregate('a', 'later-a-0')).toBeUndefined()
    await bed.renew('a')
    const made = (side: SideName): boolean =>
      bed.aggregate(side, `later-${side}-0`)?.volume(`volume-${side}-0`) !== undefined
    await bed.until('volumes made', () => FILERS.every(made))
    bed.pair.crash('a')
    await bed.until('taken over', () => bed.pair.serving('a').includes('b') && made('a'))
    await bed.end()
    expect(made('a') && made('b')).toBe(true)
  })

  for (const order of [['a', 'b'] as const, ['b', 'a'] as const]) {
    test(`leave a running pair when nothing is in them and the filers are renewed without them, ${order.join(' first, then ')}`, async () => {
      bed = new Bed(5)
      await bed.start()
      const name = 'later-a-0'
      bed.pair.add('a', 'aggregate', 2000)
      await bed.renew('b', 'a')
      await bed.until('made', () => bed.aggregate('a', name)?.volume('volume-a-0') !== undefined)
      const [first, second] = order
      await bed.pair.world.wait(bed.pair.retire('a'), LIMIT_MS, 'removal')
      await bed.until('removed', () => bed.aggregate('a', name)?.volume('volume-a-0') === undefined)
      await bed.renew(first)
      await bed.renew(second)
      expect(bed.aggregate('a', name)).toBeUndefined()
      expect(
        bed
          .store('a')!
          .roots()
          .map((root) => root.aggregate),
      ).toEqual(['aggr-a'])
      // What left is no part of what the copies must agree in.
      for (const filer of FILERS) bed.pair.media[filer].later.a.length = 0
      bed.pair.crash(bed.pair.ownerOf('a'))
      await bed.until('taken over', () => bed.pair.serving('a').length > 0)
      for (const filer of FILERS) if (!bed.pair.running[filer]) bed.pair.start(filer)
      await bed.end()
    })
  }

  test('with a volume in them do not leave: a filer that is configured without them gets no copy', async () => {
    bed = new Bed(6)
    await bed.start()
    bed.pair.add('a', 'aggregate', 2000)
    await bed.renew('b', 'a')
    await bed.until('made', () => bed.aggregate('a', 'later-a-0')?.volume('volume-a-0') !== undefined)
    const lacks = other(bed.pair.ownerOf('a'))
    bed.pair.crash(lacks)
    bed.pair.configured[lacks].a.aggregates = 0
    bed.pair.start(lacks)
    await bed.pair.world.run(8000)
    expect(bed.aggregate('a', 'later-a-0')?.volume('volume-a-0')).toBeDefined()
    expect(bed.pair.running[lacks]?.filer?.pair.sides.get('a')?.mail.state).not.toBe('Complete')
    bed.pair.crash(lacks)
    bed.pair.configure(lacks)
    bed.pair.start(lacks)
    await bed.end()
  })

  test('whose disk was lost are filled from the partner, never made new', async () => {
    bed = new Bed(4)
    await bed.start()
    bed.pair.add('a', 'aggregate', 2000)
    await bed.renew('b', 'a')
    await bed.until('made', () => bed.aggregate('a', 'later-a-0')?.volume('volume-a-0') !== undefined)
    const owner = bed.pair.ownerOf('a')
    bed.pair.crash(owner)
    bed.pair.media[owner].later.a[0]!.stable.clear()
    bed.pair.start(owner)
    await bed.until('taken over', () => bed.pair.serving('a').includes(other(owner)))
    await bed.pair.untilGood(LIMIT_MS)
    expect(bed.aggregate('a', 'later-a-0')?.volume('volume-a-0')).toBeDefined()
    await bed.end()
  })

  test(
    'join under crashes of either filer, at any time',
    async () => {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        bed = new Bed(seed)
        await bed.start()
        bed.pair.add('a', 'aggregate', 2000)
        await bed.renewUnderCrashes()
        await bed.until('made', () => bed.aggregate('a', 'later-a-0')?.volume('volume-a-0') !== undefined)
        await bed.end()
      }
    },
    TEST_MS,
  )
})
