import { expect, test } from '@jest/globals'
import { inRuns } from './adjacent.ts'

test('views that lie one behind the other become one, in their order, and no others', () => {
  const [one, two] = [Uint8Array.from([0, 1, 2, 3, 4, 5]), Uint8Array.from([6, 7])]
  const views = [
    one.subarray(0, 2),
    one.subarray(2, 3),
    one.subarray(4, 5),
    one.subarray(3, 4),
    two,
    one.subarray(4),
  ]
  const runs = inRuns(views)
  expect(runs.map((run) => [...run])).toEqual([[0, 1, 2], [4], [3], [6, 7], [4, 5]])
  expect(runs[0]!.buffer).toBe(one.buffer)
  expect(runs[3]).toBe(two)
  expect(inRuns([])).toEqual([])
})
