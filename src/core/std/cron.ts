/**
 * Times that repeat, written as in crontab(5): minute, hour, day of the month, month, day of the week (0 is Sunday), in UTC. A field is a star, a
 * number or a range, with or without a step behind a slash, or several of these with commas. If both day fields are restricted, a day that fits
 * either of them counts. Names of months and days are not known. It reads no clock.
 */

export interface Cron {
  /** What each field allows, by value. */
  readonly minutes: readonly boolean[]
  readonly hours: readonly boolean[]
  readonly days: readonly boolean[]
  readonly months: readonly boolean[]
  readonly weekdays: readonly boolean[]
  readonly anyDay: boolean
  readonly anyWeekday: boolean
}

const RANGES = [
  [0, 59],
  [0, 23],
  [1, 31],
  [1, 12],
  [0, 6],
] as const
const PART = /^(?:(\*)|(\d{1,2})(?:-(\d{1,2}))?)(?:\/(\d{1,2}))?$/

const MINUTE = 60
const HOUR = 3600
const DAY = 86_400
/** A day that exists comes within so many days: 29 February, over a century year that is no leap year. */
const DAYS_MAX = 366 * 8 + 3

/** Undefined if the text is no such time. */
export function parseCron(text: string): Cron | undefined {
  const cron = readCron(text)
  return typeof cron === 'string' ? undefined : cron
}

/** What is wrong with the text, for the person who wrote it; undefined if it is such a time. */
export function cronProblem(text: string): string | undefined {
  const cron = readCron(text)
  return typeof cron === 'string' ? cron : undefined
}

function readCron(text: string): Cron | string {
  const fields = text.split(' ')
  if (fields.length !== RANGES.length) return `it has ${fields.length} fields, not ${RANGES.length}`
  const allowed: boolean[][] = []
  for (const [i, field] of fields.entries()) {
    const [least, most] = RANGES[i]!
    const values = valuesOf(field, least, most)
    if (typeof values === 'string') return values
    allowed.push(values)
  }
  const [minutes, hours, days, months, weekdays] = allowed as [
    boolean[],
    boolean[],
    boolean[],
    boolean[],
    boolean[],
  ]
  const [, , day, , weekday] = fields as [string, string, string, string, string]
  const anyDay = day.startsWith('*')
  return { minutes, hours, days, months, weekdays, anyDay, anyWeekday: weekday.startsWith('*') }
}

function valuesOf(field: string, least: number, most: number): boolean[] | string {
  const values = Array.from({ length: most + 1 }, () => false)
  for (const part of field.split(',')) {
    const match = PART.exec(part)
    if (match === null) return `${part} is no star, number or range`
    const [, star, first, last, step] = match
    const from = star === undefined ? Number(first) : least
    const end = last === undefined ? (step === undefined ? from : most) : Number(last)
    const to = star === undefined ? end : most
    const by = step === undefined ? 1 : Number(step)
    if (from < least || to > most) return `${part} is not within ${least}-${most}`
    if (from > to)
      return `${part} goes backwards; put the smaller number first, or write two ranges with a comma`
    if (by < 1) return `${part} has a step of ${by}`
    for (let value = from; value <= to; value += by) values[value] = true
  }
  return values
}

function isDay(cron: Cron, seconds: number): boolean {
  const date = new Date(seconds * 1000)
  if (!cron.months[date.getUTCMonth() + 1]) return false
  const day = cron.days[date.getUTCDate()]!
  const weekday = cron.weekdays[date.getUTCDay()]!
  if (cron.anyDay || cron.anyWeekday) return day && weekday
  return day || weekday
}

/** The last time of `cron` that is behind `after` and not behind `until` (seconds since the epoch); undefined if there is none. */
export function latestTime(cron: Cron, after: number, until: number): number | undefined {
  const last = until - (((until % MINUTE) + MINUTE) % MINUTE)
  let day = last - (((last % DAY) + DAY) % DAY)
  for (let i = 0; i < DAYS_MAX && day + DAY > after; i++, day -= DAY) {
    if (!isDay(cron, day)) continue
    for (let hour = 23; hour >= 0; hour--) {
      if (!cron.hours[hour]) continue
      for (let minute = 59; minute >= 0; minute--) {
        const time = day + hour * HOUR + minute * MINUTE
        if (cron.minutes[minute] && time <= last) return time > after ? time : undefined
      }
    }
  }
  return undefined
}
