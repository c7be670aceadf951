/**
 * `tandem inspect`: what is on the devices and in the log volume, for people and as JSON. Nothing is written.
 */
import { devicesOf, findPlaces, missingFrom, openImages, usersOf } from '../edge/check/images.ts'
import type { Images, Places } from '../edge/check/images.ts'
import { AggregateError } from '../core/block/errors.ts'
import { DeviceError } from '../core/env/device.ts'
import * as inspect from '../edge/check/inspect.ts'
import { InspectError } from '../edge/check/inspect.ts'
import type { Facts } from '../edge/check/inspect.ts'
import { log, mailbox } from '../edge/check/inspect-log.ts'
import { openReadOnly } from '../edge/check/open.ts'
import type { OpenImage } from '../edge/check/open.ts'
import { openDevice } from '../edge/node/device.ts'
import { nodeEnv } from '../edge/node/env.ts'
import { nearest } from '../api/nearest.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import type { Parsed } from '../embedded/cli/args.ts'

const CACHE_BYTES = 128 * 2 ** 20

/** Words of each view before the devices. */
const VIEWS = {
  superblock: [],
  volumes: [],
  volume: ['VOLUME'],
  inode: ['VOLUME', 'INODE|PATH'],
  dir: ['VOLUME', 'INODE|PATH'],
  block: ['PVBN'],
  owner: ['VOLUME', 'NUMBER'],
  log: [],
  mailbox: [],
} as const satisfies Record<string, readonly string[]>
type View = keyof typeof VIEWS

const env = nodeEnv({ write: () => {} })

function number(text: string, what: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0)
    throw new UsageError(`${what} ${JSON.stringify(text)} is no whole number`)
  return value
}

/** The image that a view is about: the first copy that is complete, of the only aggregate or the one that was named. */
async function openChosen(images: Images, parsed: Parsed): Promise<OpenImage> {
  const name = parsed.text('aggregate')
  const plex = parsed.text('plex')
  const fitting = images.plexes.filter(
    ({ label }) =>
      (name === undefined || label.aggregateName === name) &&
      (plex === undefined || String(label.plex) === plex),
  )
  const names = [...new Set(fitting.map(({ label }) => label.aggregateName))]
  if (names.length > 1)
    throw new UsageError(`several aggregates (${names.join(', ')}): name one with --aggregate`)
  const complete = fitting.find(({ members }) => members.every(({ label }) => label.state === 'complete'))
  if (complete === undefined) throw new InspectError('no complete copy of such an aggregate here')
  const missing = missingFrom(complete)
  if (missing !== undefined) throw new InspectError(missing)
  return openReadOnly(env, devicesOf(complete), CACHE_BYTES)
}

async function ofFiles(
  paths: readonly string[],
  what: string,
  look: (path: string, device: ReturnType<typeof openDevice>) => Promise<Facts>,
): Promise<Facts[]> {
  if (paths.length === 0) throw new UsageError(`no ${what} in what was named`)
  const facts: Facts[] = []
  for (const path of paths) {
    const device = openDevice(path, { readOnly: true })
    try {
      facts.push(await look(path, device))
    } finally {
      await device.close()
    }
  }
  return facts
}

async function view(
  what: View,
  words: readonly string[],
  places: Places,
  parsed: Parsed,
): Promise<readonly Facts[]> {
  if (what === 'log')
    return ofFiles(places.logs, 'log', (path, device) => log(env, path, device, parsed.has('records')))
  if (what === 'mailbox')
    return ofFiles(places.mailboxes, 'mailbox', (path, device) => mailbox(env, path, device))
  const images = await openImages(env, places)
  try {
    if (images.plexes.length === 0) throw new InspectError('no device with a label (blank, or not of Tandem)')
    if (what === 'superblock') {
      const facts: Facts[] = []
      for (const plex of images.plexes) facts.push(await inspect.superblock(env, plex))
      return facts
    }
    const image = await openChosen(images, parsed)
    const { aggregate } = image
    switch (what) {
      case 'volumes':
        return [inspect.volumes(aggregate)]
      case 'volume':
        return [inspect.volume(aggregate, words[0]!)]
      case 'inode':
        return [await inspect.inode(aggregate, words[0]!, words[1]!)]
      case 'dir':
        return [await inspect.directory(aggregate, words[0]!, words[1]!)]
      case 'owner':
        return [await inspect.owner(aggregate, words[0]!, number(words[1]!, 'NUMBER'))]
      case 'block': {
        const { facts, content } = await inspect.block(image, number(words[0]!, 'PVBN'))
        return [parsed.has('dump') ? { ...facts, dump: hexLines(content) } : facts]
      }
    }
  } finally {
    await images.close()
  }
}

/** 16 bytes a line with their text; equal lines in a row as one `*`. */
function hexLines(bytes: Uint8Array): string[] {
  const lines: string[] = []
  let before = ''
  for (let at = 0; at < bytes.length; at += 16) {
    const part = Buffer.from(bytes.subarray(at, at + 16))
    const hex = part.toString('hex').replace(/../g, '$& ')
    if (hex === before) {
      if (lines.at(-1) !== '*') lines.push('*')
      continue
    }
    before = hex
    lines.push(
      `${at.toString(16).padStart(4, '0')}  ${hex} ${part.toString('latin1').replace(/[^ -~]/g, '.')}`,
    )
  }
  return lines
}

const isFacts = (value: unknown): value is Facts =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function inline(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(inline).join(', ')
  if (isFacts(value))
    return Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .map(([key, one]) => `${key} ${inline(one)}`)
      .join(', ')
  return typeof value === 'string' ? value : JSON.stringify(value)
}

const isFlat = (facts: Facts): boolean =>
  Object.values(facts).every((value) => typeof value !== 'object' || value === null)

/** Lists of equal flat objects as a table, everything else as `name: value`. */
function render(facts: Facts, indent: string): string[] {
  const lines: string[] = []
  for (const [key, value] of Object.entries(facts)) {
    if (Array.isArray(value) && value.length > 0 && value.every(isFacts)) {
      lines.push(`${indent}${key}:`)
      lines.push(
        ...(value.every(isFlat)
          ? table(value, `${indent}  `)
          : value.flatMap((one) => ['', ...render(one, `${indent}  `)].slice(1))),
      )
    } else if (
      Array.isArray(value) &&
      value.every((one) => typeof one === 'string') &&
      value.join(', ').length > 60
    ) {
      lines.push(`${indent}${key}:`, ...value.map((one) => `${indent}  ${one}`))
    } else if (isFacts(value) && !isFlat(value))
      lines.push(`${indent}${key}:`, ...render(value, `${indent}  `))
    else lines.push(`${indent}${key}: ${inline(value)}`)
  }
  return lines
}

function table(rows: readonly Facts[], indent: string): string[] {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const cells = [
    columns,
    ...rows.map((row) => columns.map((column) => (column in row ? inline(row[column]) : ''))),
  ]
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)))
  return cells.map((row) => `${indent}${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`.trimEnd())
}

async function show(parsed: Parsed): Promise<number> {
  const [what = '', ...rest] = parsed.operands
  if (!Object.hasOwn(VIEWS, what)) {
    const near = nearest(what, Object.keys(VIEWS))
    throw new UsageError(
      `no view ${JSON.stringify(what)}${near === undefined ? '' : `; the nearest is "${near}"`} (${Object.keys(VIEWS).join(', ')})`,
    )
  }
  const names: readonly string[] = VIEWS[what as View]
  const words = rest.slice(0, names.length)
  const paths = rest.slice(names.length)
  if (paths.length === 0)
    throw new UsageError(
      `something is missing: tandem inspect ${[what, ...names].join(' ')} DEVICE… | FOLDER…`,
    )
  const places = findPlaces(paths)
  const users = usersOf([...places.devices, ...places.logs, ...places.mailboxes])
  if (users.length > 0) {
    console.error(
      `tandem inspect: in use by process ${users.join(', ')}: what is shown changes under the eyes, and may look damaged`,
    )
  }
  try {
    const facts = await view(what as View, words, places, parsed)
    if (parsed.has('json')) console.log(JSON.stringify(facts.length === 1 ? facts[0] : facts, null, 2))
    else console.log(facts.map((one) => render(one, '').join('\n')).join('\n\n'))
    return 0
  } catch (error) {
    if (!(error instanceof InspectError || error instanceof AggregateError || error instanceof DeviceError))
      throw error
    if (parsed.has('json')) console.log(JSON.stringify({ error: error.message }, null, 2))
    console.error(`tandem inspect: ${error.message}`)
    return 1
  }
}

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'inspect',
      summary: 'show what is on devices and in logs: superblock, volumes, inodes, blocks, records',
      operands: 'VIEW … DEVICE… | FOLDER…',
      operandsMin: 1,
      operandsMax: Infinity,
      flags: {
        json: { kind: 'switch', meaning: 'print JSON' },
        aggregate: { kind: 'text', value: 'NAME', meaning: 'of this aggregate, where there are several' },
        plex: {
          kind: 'text',
          value: 'N',
          meaning: 'of this copy (0: at the filer whose side it is, 1: at its partner)',
        },
        dump: { kind: 'switch', meaning: 'block: its content in hexadecimal' },
        records: { kind: 'switch', meaning: 'log: every record as an operation in words' },
      },
      notes: `Views:
${Object.entries(VIEWS)
  .map(([name, words]) => `  ${[name, ...words].join(' ')}`)
  .join('\n')}
VOLUME is a name, an id or an index. docs/tools.md has examples. Exit status: 0 shown, 1 cannot be shown (the message says why), 2 wrong usage.`,
    },
    args,
    show,
  )
}
