/**
 * The command line of one verb: flags and arguments declared once, for parsing, for `--help`, and for errors that name the nearest
 * known flag. A wrong usage is a UsageError: exit status 2.
 */
import { nearest } from '../../api/nearest.ts'

export interface Flag {
  /** `switch` has no value; `text` keeps the last, `texts` all values given. */
  readonly kind: 'switch' | 'text' | 'texts'
  readonly short?: string
  /** What the value is called in the help. */
  readonly value?: string
  readonly meaning: string
  /** Allowed values. */
  readonly choices?: readonly string[]
}

export interface Usage {
  readonly verb: string
  readonly summary: string
  /** As in the help: `PAIR LINK`, `[KIND] [NAME…]`. */
  readonly operands: string
  readonly operandsMin: number
  readonly operandsMax: number
  readonly flags: Readonly<Record<string, Flag>>
  readonly notes?: string
}

export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

export class Parsed {
  readonly operands: readonly string[]
  readonly #values: ReadonlyMap<string, readonly string[]>
  constructor(operands: readonly string[], values: ReadonlyMap<string, readonly string[]>) {
    this.operands = operands
    this.#values = values
  }
  has(flag: string): boolean {
    return this.#values.has(flag)
  }
  text(flag: string): string | undefined {
    return this.#values.get(flag)?.at(-1)
  }
  texts(flag: string): readonly string[] {
    return this.#values.get(flag) ?? []
  }
}

export const HELP: Flag = { kind: 'switch', short: 'h', meaning: 'this text' }

export function parseArguments(usage: Usage, args: readonly string[]): Parsed {
  const flags: Readonly<Record<string, Flag>> = { ...usage.flags, help: HELP }
  const values = new Map<string, string[]>()
  const operands: string[] = []
  const queue = [...args]
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (word === '--') {
      operands.push(...queue)
      break
    }
    if (!word.startsWith('-') || word === '-') {
      operands.push(word)
      continue
    }
    const [name, inline] = flagName(usage, flags, word)
    const flag = flags[name]!
    if (flag.kind === 'switch') {
      if (inline !== undefined) throw new UsageError(`--${name} takes no value`)
      values.set(name, [])
      continue
    }
    const value = inline ?? queue.shift()
    if (value === undefined)
      throw new UsageError(`--${name} needs a value: --${name} ${flag.value ?? 'VALUE'}`)
    if (flag.choices !== undefined && !flag.choices.includes(value))
      throw new UsageError(`--${name} ${JSON.stringify(value)} is not one of ${flag.choices.join(', ')}`)
    values.set(name, [...(values.get(name) ?? []), value])
  }
  if (!values.has('help')) {
    if (operands.length < usage.operandsMin) throw new UsageError(`something is missing: ${synopsis(usage)}`)
    if (operands.length > usage.operandsMax)
      throw new UsageError(
        `${JSON.stringify(operands[usage.operandsMax])} is one word too many: ${synopsis(usage)}`,
      )
  }
  return new Parsed(operands, values)
}

function flagName(
  usage: Usage,
  flags: Readonly<Record<string, Flag>>,
  word: string,
): [string, string | undefined] {
  const long = /^--([^=]+)(?:=(.*))?$/s.exec(word)
  if (long !== null) {
    const name = long[1]!
    if (Object.hasOwn(flags, name)) return [name, long[2]]
    const near = nearest(name, Object.keys(flags))
    throw new UsageError(
      `no flag --${name}${near === undefined ? '' : `; the nearest is --${near}`} (tandem ${usage.verb} --help lists them)`,
    )
  }
  const short = word[1]
  const found = Object.entries(flags).find(([, flag]) => flag.short === short)
  if (found === undefined) throw new UsageError(`no flag ${word} (tandem ${usage.verb} --help lists them)`)
  return [found[0], word.length > 2 ? word.slice(2).replace(/^=/, '') : undefined]
}

function synopsis(usage: Usage): string {
  return `tandem ${usage.verb}${usage.operands === '' ? '' : ` ${usage.operands}`}`
}

export function helpText(usage: Usage): string {
  const rows = Object.entries({ ...usage.flags, help: HELP }).map(([name, flag]): [string, string] => [
    `${flag.short === undefined ? '    ' : `-${flag.short}, `}--${name}${flag.kind === 'switch' ? '' : ` ${flag.value ?? 'VALUE'}`}`,
    flag.choices === undefined ? flag.meaning : `${flag.meaning} (${flag.choices.join(', ')})`,
  ])
  const width = Math.max(...rows.map(([left]) => left.length))
  return [
    `${synopsis(usage)}: ${usage.summary}`,
    '',
    ...rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`),
    ...(usage.notes === undefined ? [] : ['', usage.notes]),
  ].join('\n')
}

/** What a command module's `run` does around its work: parse, help, wrong usage. */
export async function withArguments(
  usage: Usage,
  args: readonly string[],
  work: (parsed: Parsed) => Promise<number>,
  print: { out: (text: string) => void; error: (text: string) => void } = {
    out: (text) => process.stdout.write(`${text}\n`),
    error: (text) => process.stderr.write(`${text}\n`),
  },
): Promise<number> {
  try {
    const parsed = parseArguments(usage, args)
    if (parsed.has('help')) {
      print.out(helpText(usage))
      return 0
    }
    return await work(parsed)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    print.error(`tandem ${usage.verb}: ${error.message}`)
    return 2
  }
}
