/** `tandem check` and `tandem inspect` of an aggregate in the middle of a conversion: its volume's blocks lie on devices of another one. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ConversionBed } from '../core/conversion/testing/bed.ts'
import type { SimMedium } from '../sim/device.ts'
import { run as check } from './check.ts'
import { run as inspect } from './inspect.ts'
import { writeMedium } from './testing/media.ts'

/** More than a leaf of pointers, so that there are indirect blocks to build. */
const LARGE_BLOCKS = 700
/** Inode blocks and the like that were built: some files are done, some are not. */
const STEPS = 3

let folder: string
let printed: string[]

interface Report {
  aggregates: { aggregate: string; plex: number; notes: string[]; problems: string[] }[]
  copies: { aggregate: string; equalRoots: boolean; problems: string[] }[]
}

/** Devices of both copies, below `folder/name/PLEX/AGGREGATE`. */
function write(name: string, media: { readonly old: SimMedium[][]; readonly fresh: SimMedium[][] }): void {
  for (const plex of [0, 1]) {
    for (const [aggregate, all] of [['vol-t', media.old] as const, ['aggr1', media.fresh] as const])
      all[plex]!.forEach((medium, n) =>
        writeMedium(join(folder, name, `${plex}`, aggregate, `${n}`, 'device'), medium),
      )
  }
}

const copied = (media: SimMedium[][]): SimMedium[][] => media.map((plex) => plex.map((one) => one.copy()))

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'converting-'))
  const bed = new ConversionBed(7, [1100, 900], [900])
  await bed.format()
  for (let n = 0; n < 40; n++) await bed.write(`file-${n}`, 0, n + 1)
  for (let fbn = 0; fbn < LARGE_BLOCKS; fbn++) await bed.write('large', fbn, 1)
  await bed.cutOver()
  for (let step = 0; step < STEPS; step++) expect(await bed.step(1)).toBe(false)
  await bed.write('file-1', 0, 100)
  await bed.consistencyPoint()
  const old = copied(bed.oldMedia)
  write('middle', { old, fresh: bed.newMedia })
  await bed.scan()
  await bed.join()
  write('joined', { old: bed.oldMedia, fresh: bed.newMedia })
  // The root has the devices, and power went before their labels were written.
  write('unlabelled', { old, fresh: bed.newMedia })
})
afterAll(() => rmSync(folder, { recursive: true }))

beforeEach(() => {
  printed = []
  jest.spyOn(console, 'log').mockImplementation((text: unknown) => void printed.push(String(text)))
  jest.spyOn(console, 'error').mockImplementation((text: unknown) => void printed.push(String(text)))
})
afterEach(() => {
  jest.restoreAllMocks()
})

async function checked(...args: string[]): Promise<[number, Report]> {
  printed = []
  const status = await check([
    ...args.map((arg) => (arg.startsWith('-') ? arg : join(folder, arg))),
    '--json',
  ])
  return [status, JSON.parse(printed.join('\n')) as Report]
}

async function shown(...words: string[]): Promise<Record<string, unknown>> {
  printed = []
  const place = join(folder, 'middle')
  expect(await inspect([...words, place, '--aggregate', 'aggr1', '--plex', '0', '--json'])).toBe(0)
  return JSON.parse(printed.join('\n')) as Record<string, unknown>
}

test('both copies of both aggregates are consistent, and the check says what it sees', async () => {
  for (const threads of ['--threads=1', '--threads=2']) {
    const [status, { aggregates, copies }] = await checked('middle', threads)
    expect(aggregates.flatMap(({ problems }) => problems)).toEqual([])
    expect(status).toBe(0)
    expect(aggregates).toHaveLength(4)
    const notes = (name: string) => aggregates.find(({ aggregate }) => aggregate === name)!.notes.join('\n')
    expect(notes('aggr1')).toMatch(/the volume of vol-t is being converted \(\d+ blocks are built\)/)
    expect(notes('vol-t')).toMatch(/its volume is a part of aggr1/)
    expect(copies).toMatchObject([
      { equalRoots: true, problems: [] },
      { equalRoots: true, problems: [] },
    ])
  }
})

test('without the devices that hold its blocks, the check says which are missing', async () => {
  const [status, { aggregates }] = await checked('middle/0/aggr1')
  expect(status).toBe(1)
  expect(aggregates[0]!.problems.join('\n')).toMatch(/the devices of that have not joined it yet: name them/)
  printed = []
  expect(await inspect(['volumes', join(folder, 'middle/0/aggr1')])).toBe(1)
  expect(printed.join('\n')).toMatch(/vol-t.*name them/)
})

test('leaks are told, and nothing is repaired while a conversion is under way', async () => {
  const bed = new ConversionBed(8, [600], [600])
  await bed.format()
  await bed.write('file', 0, 1)
  await bed.cutOver()
  const { target } = bed
  target.meta.changes.push(target.space.take())
  await bed.consistencyPoint()
  write('leaking', { old: bed.oldMedia, fresh: bed.newMedia })
  const [status, { aggregates }] = await checked('leaking', '--repair')
  expect(status).toBe(1)
  const { problems, notes } = aggregates.find(({ aggregate }) => aggregate === 'aggr1')!
  expect(problems.join('\n')).toMatch(/block \d+ is lost/)
  expect(notes.join('\n')).toMatch(/not repaired: a conversion is under way/)
})

test('files are shown whether they are built or not, and a block on the devices that it is on', async () => {
  const { converted } = (await shown('volumes')) as { converted: Record<string, number> }
  expect(converted).toMatchObject({ from: 'vol-t', state: 'absent', dataBlocksCopied: 0 })
  expect(converted['notMarked']).toBeGreaterThan(0)
  const { runs } = (await shown('inode', 'v', 'large')) as {
    runs: { number: number; pvbn: number; blocks: number }[]
  }
  expect(runs.reduce((sum, { blocks }) => sum + blocks, 0)).toBe(LARGE_BLOCKS)
  const { number, pvbn } = runs.at(-1)!
  expect(pvbn - number).toBe(converted['firstBlock'])
  const block = await shown('block', String(pvbn))
  expect(block).toMatchObject({ convertedFrom: { aggregate: 'vol-t', pvbn: number }, checksum: 'good' })
  expect(block['device']).toMatch(/vol-t/)
  expect(await shown('owner', 'v', String(number))).toMatchObject({ pvbn })
})

test('devices that joined are the aggregate’s, also where their labels are still those of before', async () => {
  for (const name of ['joined', 'unlabelled']) {
    const [status, { aggregates, copies }] = await checked(name)
    expect(aggregates.flatMap(({ problems }) => problems)).toEqual([])
    expect(status).toBe(0)
    expect(aggregates.map(({ aggregate }) => aggregate)).toEqual(['aggr1', 'aggr1'])
    expect(copies).toMatchObject([{ equalRoots: true, problems: [] }])
  }
})

test('a damaged old block is found on the devices that have it', async () => {
  const { runs } = (await shown('inode', 'v', 'large')) as { runs: { pvbn: number }[] }
  const { device, deviceOffset } = (await shown('block', String(runs[0]!.pvbn))) as {
    device: string
    deviceOffset: number
  }
  const fd = openSync(device, 'r+')
  const byte = new Uint8Array(1)
  readSync(fd, byte, 0, 1, deviceOffset)
  writeSync(fd, new Uint8Array([byte[0]! ^ 0xff]), 0, 1, deviceOffset)
  closeSync(fd)
  const [status, { aggregates }] = await checked('middle')
  expect(status).toBe(1)
  const damaged = aggregates.filter(({ problems }) => problems.length > 0)
  expect(damaged).toMatchObject([{ aggregate: 'vol-t', plex: 0 }])
  expect(damaged[0]!.problems.join('\n')).toMatch(/checksum error/)
})
