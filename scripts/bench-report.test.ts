import { describe, expect, test } from '@jest/globals'
import { median, medianSample, rowOf } from '../bench/report.ts'
import type { Outcome } from '../bench/report.ts'
import type { Measure, Sample } from '../bench/measures.ts'

const measure: Measure = {
  id: 'P1',
  title: 'write',
  load: [],
  sides: ['tandem', 'ganesha'],
  goals: [
    { against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 1.5 } },
    { against: 'ganesha', figure: 'p99Microseconds', ratio: { max: 0.25 } },
  ],
}
const sample = (operationsPerSecond: number, p99Microseconds: number): Sample => ({
  operationsPerSecond,
  bytesPerSecond: operationsPerSecond * 4096,
  p50Microseconds: 1,
  p99Microseconds,
})

describe('report of the benchmark', () => {
  test('medians: of an odd and an even number of rounds, figure by figure', () => {
    expect(median([5, 1, 3])).toBe(3)
    expect(median([4, 1, 3, 2])).toBe(2.5)
    expect(medianSample([sample(10, 9), sample(30, 7), sample(20, 8)])).toEqual(sample(20, 8))
  })

  test('a ratio is ours by theirs, and a goal is a floor or a ceiling', () => {
    const outcome: Outcome = {
      measure,
      medians: { tandem: sample(300, 100), ganesha: sample(100, 500) },
      failures: {},
    }
    expect(rowOf(outcome, measure.goals[0]!)).toMatchObject({ ratio: '3.00×', reached: true })
    expect(rowOf(outcome, measure.goals[1]!)).toMatchObject({ ratio: '0.20×', reached: true })
    outcome.medians.tandem = sample(149, 126)
    expect(rowOf(outcome, measure.goals[0]!).reached).toBe(false)
    expect(rowOf(outcome, measure.goals[1]!).reached).toBe(false)
  })

  test('no ratio when a side failed', () => {
    const outcome: Outcome = {
      measure,
      medians: { tandem: sample(300, 100) },
      failures: { ganesha: 'no answer' },
    }
    expect(rowOf(outcome, measure.goals[0]!)).toMatchObject({
      peerValue: 'failed',
      ratio: 'refused',
      reached: undefined,
    })
  })
})
