import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { latestTime, parseCron } from './cron.ts'

const at = (text: string): number => Date.parse(`${text}Z`) / 1000
const latest = (cron: string, after: string, until: string): string | undefined => {
  const time = latestTime(parseCron(cron)!, at(after), at(until))
  return time === undefined ? undefined : new Date(time * 1000).toISOString().slice(0, 16)
}

describe('a cron time', () => {
  test.each([
    ['0 * * * *', '2026-01-01T00:00', '2026-01-01T05:30', '2026-01-01T05:00'],
    ['0 * * * *', '2026-01-01T05:00', '2026-01-01T05:59', undefined],
    ['0 * * * *', '2026-01-01T04:59', '2026-01-01T05:00', '2026-01-01T05:00'],
    ['*/15 * * * *', '2026-01-01T00:00', '2026-01-01T00:44', '2026-01-01T00:30'],
    ['5-50/20 2,14 * * *', '2026-01-01T00:00', '2026-01-02T00:00', '2026-01-01T14:45'],
    ['30 3 * * 0', '2026-11-01T00:00', '2026-11-25T12:00', '2026-11-22T03:30'],
    ['0 0 1 * *', '2026-01-01T00:00', '2026-11-25T12:00', '2026-11-01T00:00'],
    ['0 0 1,15 * 3', '2026-11-01T00:00', '2026-11-24T12:00', '2026-11-18T00:00'],
    ['0 0 20 * 1', '2026-11-01T00:00', '2026-11-22T12:00', '2026-11-20T00:00'],
    ['0 0 31 4 *', '2000-01-01T00:00', '2026-11-22T12:00', undefined],
    ['0 12 29 2 *', '2020-01-01T00:00', '2026-11-22T12:00', '2024-02-29T12:00'],
    ['59 23 31 12 *', '2020-01-01T00:00', '2026-01-01T00:00', '2025-12-31T23:59'],
  ])('%s, behind %s until %s: %s', (cron, after, until, expected) => {
    expect(latest(cron, after, until)).toBe(expected)
  })

  test.each([
    '',
    '* * * *',
    '* * * * * *',
    '60 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * * 13 *',
    '* * * * 7',
    '5-1 * * * *',
    '*/0 * * * *',
    'a * * * *',
    '1,, * * * *',
    '*  * * * *',
    '-1 * * * *',
    '1-2-3 * * * *',
  ])('"%s" is none', (text) => {
    expect(parseCron(text)).toBeUndefined()
  })

  test('is found by looking at every minute, too', () => {
    const number = (least: number, most: number) => fc.integer({ min: least, max: most }).map(String)
    const field = (least: number, most: number) =>
      fc.oneof(
        fc.constant('*'),
        number(least, most),
        fc.integer({ min: 1, max: 30 }).map((step) => `*/${step}`),
        fc.tuple(number(least, most), number(least, most)).map(([a, b]) => `${a},${b}`),
      )
    const cron = fc.tuple(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
    fc.assert(
      fc.property(cron, fc.nat(3 * 1440), fc.nat(365 * 86_400), (fields, minutes, offset) => {
        const parsed = parseCron(fields.join(' '))!
        const until = at('2026-01-01T00:00') + offset
        const after = until - minutes * 60
        let expected: number | undefined
        for (let time = until - (until % 60); time > after && expected === undefined; time -= 60) {
          const date = new Date(time * 1000)
          const day = parsed.days[date.getUTCDate()]!
          const weekday = parsed.weekdays[date.getUTCDay()]!
          const both = !fields[2].startsWith('*') && !fields[4].startsWith('*')
          const fits =
            parsed.minutes[date.getUTCMinutes()]! &&
            parsed.hours[date.getUTCHours()]! &&
            parsed.months[date.getUTCMonth() + 1]! &&
            (both ? day || weekday : day && weekday)
          if (fits) expected = time
        }
        expect(latestTime(parsed, after, until)).toBe(expected)
      }),
    )
  })
})
