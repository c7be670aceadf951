import { describe, expect, test } from '@jest/globals'
import { count, lastLine, table } from './test-summary.ts'

describe('summary of make test', () => {
  test('jest summaries of one part are added up, colours or not', () => {
    const output =
      'x\nTests:       1 skipped, 7 passed, 8 total\n\u001b[1mTests:\u001b[22m       2 passed, 2 total\n'
    expect(count(output, 0)).toEqual({ passed: 9, failed: 0 })
    expect(count('Tests:       1 failed, 7 passed, 8 total', 1)).toEqual({ passed: 7, failed: 1 })
  })

  test('a part may count its own steps', () => {
    expect(count('e2e: 12 passed, 1 failed', 1)).toEqual({ passed: 12, failed: 1 })
  })

  test('a part that tells nothing counts as one', () => {
    expect(count('', 0)).toEqual({ passed: 1, failed: 0 })
    expect(count('', 2)).toEqual({ passed: 0, failed: 1 })
  })

  test('a part that passed all tests and still ended badly has failed', () => {
    expect(count('Tests:       7 passed, 7 total', 1)).toEqual({ passed: 7, failed: 1 })
  })

  test('the table has a row for each part, the last line the sums', () => {
    const results = [
      { part: 'check', status: 0, seconds: 61.2, passed: 400, failed: 0 },
      { part: 'api', status: 1, seconds: 3, passed: 3, failed: 1 },
    ]
    expect(table(results)).toBe(
      'part   result  passed  failed  seconds\ncheck  passed  400     0       61\napi    FAILED  3       1       3',
    )
    expect(lastLine(results)).toBe('403 passed, 1 failed')
  })
})
