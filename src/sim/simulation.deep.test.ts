/** A short run of the simulator for every check; `make sim` is the long one. */
import { describe, expect, test } from '@jest/globals'
import { readFileSync } from 'node:fs'
import { parseScenario } from './scenario.ts'
import { simulate } from './simulation.ts'

const STEPS = `
option clients 2
option pause-ms 8
repeat 2
  run 50..200
  pick
    crash owner a
  or
    crash-in 1..40 any
    run 0..200
  or
    crash all
  or
    silence all
    run 0..900
  or
    giveback a
    run 0..40
  or
    vote late 0.5 1500
    run 0..300
    crash any
  end
  run 0..300
  peace
  run 0..500
end
`
const SHORT = parseScenario('short', STEPS)
/** With a traditional volume on each side beside the flexible one. */
const BOTH = parseScenario('both kinds', `option traditional-blocks 1000\n${STEPS}`)

const SNAPSHOTS = parseScenario(
  'snapshots-short',
  `
option clients 1
option snapshots 1
option traditional-blocks 3000
option pause-ms 4
repeat 2
  run 100..300
  pick
    crash owner a
  or
    crash-in 1..60 any
    run 0..300
  or
    crash all
  or
    giveback a
    run 0..100
  end
  run 0..300
  settle
end
`,
)

describe('whole pairs under faults', () => {
  test('H1 H2 H3 H6 H8 H10 hold, both copies are consistent and equal at the end', async () => {
    let operations = 0
    for (let seed = 1; seed <= 4; seed++) {
      const result = await simulate(SHORT, seed)
      if (result.failure) throw new Error(`seed ${seed}: ${result.failure.message}\n${result.failure.story}`)
      operations += result.operations
    }
    expect(operations).toBeGreaterThan(2000)
  }, 300_000)

  test('they hold with traditional volumes too', async () => {
    let operations = 0
    for (let seed = 21; seed <= 23; seed++) {
      const result = await simulate(BOTH, seed)
      if (result.failure) throw new Error(`seed ${seed}: ${result.failure.message}\n${result.failure.story}`)
      operations += result.operations
    }
    expect(operations).toBeGreaterThan(1500)
  }, 300_000)

  test('they hold with snapshots made, deleted, read and restored beside them', async () => {
    let operations = 0
    for (let seed = 31; seed <= 32; seed++) {
      const result = await simulate(SNAPSHOTS, seed)
      if (result.failure) throw new Error(`seed ${seed}: ${result.failure.message}\n${result.failure.story}`)
      operations += result.operations
    }
    expect(operations).toBeGreaterThan(2000)
  }, 300_000)

  test('a seed repeats its run, event by event', async () => {
    const runs = [await simulate(SHORT, 11), await simulate(SHORT, 11), await simulate(SHORT, 12)]
    expect(runs[1]!.traceHash).toBe(runs[0]!.traceHash)
    expect(runs[2]!.traceHash).not.toBe(runs[0]!.traceHash)
  }, 120_000)

  test('a build that shows what is not logged yet is caught', async () => {
    const text = readFileSync(new URL('./scenarios/kill-owner.txt', import.meta.url), 'utf8')
    const result = await simulate(parseScenario('kill-owner', text), 1, {
      broken: { showUnlogged: true },
    })
    expect(result.failure?.message).toMatch(/expected|acknowledged/)
  }, 120_000)
})

test('a scenario that is written wrongly says where', () => {
  expect(() => parseScenario('x', 'run 5\nrepat 3\nend')).toThrow('scenario x, line 2: no step repat')
  expect(() => parseScenario('x', 'repeat 3\nrun 5')).toThrow('line 1: has no end')
  expect(() => parseScenario('x', 'run')).toThrow('line 1: run: wrong words')
})
