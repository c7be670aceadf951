import { expect, test } from '@jest/globals'
import { AssertionError } from './assert.ts'
import { mayWait, RANKS, waiting } from './ranks.ts'
import type { Rank } from './ranks.ts'

test('a wait goes to a lower rank, or is an error where it begins', async () => {
  expect(await waiting('call', 'space', Promise.resolve(3))).toBe(3)
  expect(waiting('call', 'space', 3)).toBe(3)
  expect(() => waiting('space', 'source', Promise.resolve())).toThrow(AssertionError)
  // What need not be waited for this time may have to be the next time.
  expect(() => waiting('space', 'destination', undefined)).toThrow('who holds space waits for destination')
})

test('no cycle of waits is possible', () => {
  const ranks = Object.keys(RANKS) as Rank[]
  for (const one of ranks) for (const two of ranks) expect(mayWait(one, two) && mayWait(two, one)).toBe(false)
})
