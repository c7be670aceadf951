import { expect, test } from '@jest/globals'
import { movesNeeded } from '../e2e/chaos/owners.ts'
import type { Answer } from '../e2e/chaos/owners.ts'

const answers = (...list: [filer: string, startedMs: number, answeredMs: number][]): Answer[] =>
  list.map(([filer, startedMs, answeredMs]) => ({ filer, startedMs, answeredMs }))

test('one owner needs no move, a takeover needs one, a giveback another', () => {
  expect(movesNeeded([], 'a')).toBe(0)
  expect(movesNeeded(answers(['a', 0, 1], ['a', 1, 2]), 'a')).toBe(0)
  expect(movesNeeded(answers(['a', 0, 1], ['b', 0, 9], ['b', 9, 10]), 'a')).toBe(1)
  expect(movesNeeded(answers(['a', 0, 1], ['b', 0, 9], ['a', 10, 11], ['a', 11, 12]), 'a')).toBe(2)
  expect(movesNeeded(answers(['b', 0, 1]), 'a')).toBe(1)
})

test('a call from before a takeover may be answered after it: its effect may be older', () => {
  expect(movesNeeded(answers(['b', 0, 5], ['a', 4, 8], ['b', 5, 7]), 'a')).toBe(1)
})

test('an answer of the old owner to a call from after the takeover needs a move back', () => {
  expect(movesNeeded(answers(['b', 0, 5], ['a', 6, 8]), 'a')).toBe(2)
})

test('two owners at once need a move for almost every answer', () => {
  const both = Array.from({ length: 20 }, (_, n) => answers(['a', n, n + 0.9], ['b', n + 0.05, n + 0.95]))
  expect(movesNeeded(both.flat(), 'a')).toBeGreaterThan(15)
})
