import { expect, test } from '@jest/globals'
import { keptCases } from '../cmd/fuzz.ts'
import { runCase } from './case.ts'
import { fuzz, replayOf } from './fuzz.ts'
import { TARGETS } from './targets.ts'

/** Of each target; `make fuzz` runs for longer, and watches time and memory too. */
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 1)
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 1e9)

test.each(TARGETS.map((target) => [target.name, target] as const))(
  'R2: damaged inputs to %s end in an answer',
  async (name, target) => {
    const end = performance.now() + SECONDS * 1000
    let inputs = 0
    for (let seed = FIRST_SEED; performance.now() < end; seed++) {
      try {
        inputs += await runCase(target, seed)
      } catch (error) {
        throw new Error(`repeat it: ${replayOf(name, seed)}`, { cause: error })
      }
    }
    expect(inputs).toBeGreaterThan(0)
  },
)

test('what found something once finds nothing now', async () => {
  for (const { target, seed } of keptCases()) {
    const found = TARGETS.find(({ name }) => name === target)
    expect(found).toBeDefined()
    await runCase(found!, seed)
  }
})

test('the same seed tries the same inputs', async () => {
  for (const target of TARGETS) expect(await runCase(target, 5)).toBe(await runCase(target, 5))
})

test('a thread that is watched ends by itself, and counts', async () => {
  const result = await fuzz({ targets: ['rpc'], inputs: 1, seed: 1, print: () => {} })
  expect(result).toMatchObject({ findings: 0 })
  expect(result.byTarget.get('rpc')).toBe(result.inputs)
})
