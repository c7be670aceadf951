/** Quantities (`100Gi`) and durations (`1h30m`) of the API, to and from numbers. Sizes are whole bytes; durations milliseconds. */
const factors: Readonly<Record<string, number>> = {
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
}

/** The number that a quantity stands for; undefined if it is none. */
export function parseQuantity(text: string): number | undefined {
  const match = /^([0-9]+(?:[.][0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/.exec(text)
  if (match === null) return undefined
  return Number(match[1]) * factors[match[2] ?? '']!
}

/** A quantity that is known to be valid, in whole bytes. */
export function quantityBytes(text: string): number {
  const value = parseQuantity(text)
  if (value === undefined) throw new RangeError(`not a quantity: ${text}`)
  return Math.ceil(value)
}

/** The form in which an API server gives a number of bytes back, so that comparing texts compares sizes. */
export function formatBytes(bytes: number): string {
  for (const suffix of ['Pi', 'Ti', 'Gi', 'Mi', 'Ki']) {
    const factor = factors[suffix]!
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${suffix}`
  }
  return String(bytes)
}

/** For people: at most three digits, `1.23Gi`. */
export function roundBytes(bytes: number): string {
  for (const suffix of ['Pi', 'Ti', 'Gi', 'Mi', 'Ki']) {
    const value = bytes / factors[suffix]!
    if (value >= 1) return `${Number(value.toPrecision(3))}${suffix}`
  }
  return String(Math.round(bytes))
}

export function parseDuration(text: string): number | undefined {
  if (!/^([0-9]+(h|m|s|ms))+$/.test(text)) return undefined
  const unitMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
  let totalMs = 0
  for (const [, digits, unit] of text.matchAll(/([0-9]+)(ms|h|m|s)/g))
    totalMs += Number(digits) * unitMs[unit!]!
  return totalMs
}

export function durationMs(text: string): number {
  const value = parseDuration(text)
  if (value === undefined) throw new RangeError(`not a duration: ${text}`)
  return value
}
