/** Rings of mirrors explored: the builds that are known to be bad stand still, ours does not, and there are as many log files as docs/mirroring.md says. */
import { describe, expect, test } from '@jest/globals'
import { mayWait } from '../std/ranks.ts'
import type { Build, Size } from './testing/ring-model.ts'
import {
  cycleOf,
  explore,
  findStuck,
  KNOWN_BAD,
  OURS,
  printWaits,
  RingModel,
  runOut,
  SMALL,
  TWO_LOGS,
} from './testing/ring-model.ts'

/** Bounds memory; the explorations below stay under it. */
const MOST = 500_000
const TWICE: Size = { ...SMALL, credit: 2, slots: 2 }

/** The story and the graph of waits where it ends: printed with TANDEM_SHOW=1. */
function standsStill(build: Build, size: Size): string {
  const model = new RingModel(build, size)
  const found = findStuck(model, 200_000)
  if (found === undefined) throw new Error(`${build.name} does not stand still`)
  const waits = model.waits(runOut(model, found.state))
  const cycle = cycleOf(waits)
  if (cycle === undefined) throw new Error(`no cycle among\n${printWaits(waits)}`)
  // A cycle cannot be downhill all the way round.
  expect(cycle.some(({ holds, rank }) => !mayWait(holds, rank))).toBe(true)
  const story = `${build.name}, ${size.filers} filers: ${found.trace.join('; ')}\n${printWaits(cycle)}`
  if (process.env['TANDEM_SHOW'] !== undefined) process.stdout.write(`${story}\n`)
  return story
}

describe('1: known to be bad', () => {
  test('two log files stand still between two filers', () => {
    expect(standsStill(TWO_LOGS, SMALL)).toContain(
      "↑ A's consistency point (space) waits for a log file at B (source)",
    )
  })
  test('two log files stand still in a ring of three', () => {
    const story = standsStill(TWO_LOGS, { ...SMALL, filers: 3, otherCalls: false })
    expect(story.match(/↑/g)).toHaveLength(3)
  })
  test.each(KNOWN_BAD.map((build) => [build.name, build] as const))('%s stands still', (_, build) => {
    expect(standsStill(build, TWICE)).toContain('↑')
  })
})

describe('2: ours never stands still', () => {
  const alone = { ...SMALL, otherCalls: false }
  test.each([
    ['one image at a time', { ...SMALL, incompleteEpochs: 1 }],
    ['longer logs', { ...alone, log: 2, logFiles: 2, incompleteEpochs: 1 }],
    ['more on its way', { ...alone, credit: 2, slots: 2, logFiles: 2, incompleteEpochs: 1 }],
    ['images of two blocks', { ...alone, staging: 2, image: 2, incompleteEpochs: 1 }],
  ])(
    'two filers: %s',
    (_, size) => {
      const { stuck, states, logFiles } = explore(new RingModel(OURS, size), MOST)
      expect(states).toBeGreaterThan(10_000)
      // One more at the cap: the epoch whose calls wait for a file.
      expect(logFiles).toBeLessThanOrEqual(size.logFiles + 1)
      expect(stuck).toBeUndefined()
    },
    60_000,
  )

  test('even with one channel and unconfirmed references', () => {
    const worst = { ...OURS, oneChannel: true, unconfirmedReferences: true }
    expect(explore(new RingModel(worst, { ...SMALL, incompleteEpochs: 1 }), MOST).stuck).toBeUndefined()
  })

  test('three filers', () => {
    const size = { ...alone, filers: 3, image: 0, logFiles: 1, incompleteEpochs: 1 }
    const { stuck, states } = explore(new RingModel(OURS, size), MOST)
    expect(states).toBeGreaterThan(200_000)
    expect(stuck).toBeUndefined()
  }, 120_000)

  test('all its waits go downwards, in every state', () => {
    const model = new RingModel(OURS, SMALL)
    const seen = new Set<string>()
    const work = [model.start]
    for (let state = work.pop(); state !== undefined; state = work.pop()) {
      for (const { holds, rank } of model.waits(state)) expect(mayWait(holds, rank)).toBe(true)
      for (const { to } of model.steps(state)) {
        const key = to.join()
        if (seen.has(key) || seen.size > 8_000) continue
        seen.add(key)
        work.push(to)
      }
    }
    expect(seen.size).toBeGreaterThan(5_000)
  })
})
