/** Mirrors between whole pairs: B1, B2, B8 by what clients were told and find at the destination after a break; B9 by the old source's return; B11 by losing the source at once. */
import { describe, expect, test } from '@jest/globals'
import { MirrorRing } from './mirrors.ts'
import { parseScenario } from './scenario.ts'
import { simulate } from './simulation.ts'

async function passes(name: string, text: string, seeds: readonly number[]): Promise<number> {
  let operations = 0
  for (const seed of seeds) {
    const { failure, operations: some } = await simulate(parseScenario(name, text), seed)
    if (failure) throw new Error(`seed ${seed}: ${failure.message}\n${failure.story}`)
    operations += some
  }
  return operations
}

describe('mirrors of whole pairs', () => {
  test('7: a source pair is lost with what it has not flushed: nothing acknowledged is missing at the destination', async () => {
    expect(await passes('lost', 'option pairs 2\nrun 300..900', [1, 2])).toBeGreaterThan(1000)
  }, 120_000)

  test('5: filers of both pairs crash and are taken over: still in sync, no baseline', async () => {
    const text =
      'option pairs 2\nrun 100..400\non 1 crash owner a\nrun 200\nsettle\nsync\non 2 crash owner a\nrun 200\nsettle\nsync'
    expect(await passes('crashes', text, [1, 2, 3])).toBeGreaterThan(1000)
  }, 120_000)

  test('an owner whose epoch changed in the middle of its service (JOIN) is the source that it was', async () => {
    const text =
      'option pairs 2\nrun 100\non 1 crash owner a\nrun 600\nsettle\nsync\nrun 300\ncut between\nrun 800\nheal between\nrun 100'
    expect(await passes('joined', text, [1, 2])).toBeGreaterThan(500)
  }, 120_000)

  test('8: the network between them is cut: the source goes on alone, and they are in sync again by themselves', async () => {
    const text = 'option pairs 2\nrun 300\ncut between\nrun 7000\nheal between\nsync\nrun 300'
    expect(await passes('cut', text, [1])).toBeGreaterThan(1000)
  }, 120_000)

  test('2: two pairs mirror to each other, and three in a ring, without anything ever leaving sync', async () => {
    for (const pairs of [2, 3]) {
      const ring = new MirrorRing({ seed: pairs, pairs, closed: true, clients: 2 })
      await ring.start()
      await ring.untilInSync()
      await ring.world.run(2500)
      for (const n of ring.whole) expect(ring.status(n)).toMatchObject({ state: 'InSync', reason: '' })
      expect(ring.world.lines.filter(({ event }) => event === 'mirror leaves sync')).toEqual([])
      for (const n of ring.whole) await ring.verify(n)
    }
  }, 240_000)

  test('a destination that is ten times as slow holds its own mirror up and nothing else; log files stay under the cap', async () => {
    const ring = new MirrorRing({ seed: 7, pairs: 2, closed: false, clients: 2 })
    await ring.start()
    await ring.untilInSync()
    for (const name of ['a', 'b'] as const) ring.pairs[1]!.slowness[name] = 10
    let most = 0
    for (let n = 0; n < 40; n++) {
      await ring.world.run(100)
      const status = ring.status(0)!
      most = Math.max(most, status.logFiles)
      expect(status.logFiles).toBeLessThanOrEqual(status.logFilesMax)
    }
    expect(most).toBeGreaterThan(1)
    expect(ring.world.lines.filter(({ event }) => event === 'mirror leaves sync')).toEqual([])
    await ring.part(0)
    await ring.verify(0)
  }, 120_000)
})
