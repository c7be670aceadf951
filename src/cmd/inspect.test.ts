import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KeptSide } from '../sim/kept-image.ts'
import { keptImage } from '../sim/kept-image.ts'
import { run } from './inspect.ts'
import { writeMedium } from './testing/media.ts'

let folder: string
let kept: KeptSide
let printed: string[]
let errors: string[]

/** What one filer of a kept image had on its disks. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'inspect-'))
  const { pair, sides } = keptImage('format-1')
  kept = sides.a
  const { plexes, logs, mailbox } = pair.media.a
  plexes.a.forEach((medium, n) => writeMedium(join(folder, 'all', `d${n}`, 'device'), medium))
  writeMedium(join(folder, 'all', 'log', 'log-a'), logs.a)
  writeMedium(join(folder, 'all', 'log', 'mailbox'), mailbox)
})
afterAll(() => rmSync(folder, { recursive: true }))

beforeEach(() => {
  printed = []
  errors = []
  jest.spyOn(console, 'log').mockImplementation((text: unknown) => void printed.push(String(text)))
  jest.spyOn(console, 'error').mockImplementation((text: unknown) => void errors.push(String(text)))
})
afterEach(() => {
  jest.restoreAllMocks()
})

async function shown(...words: string[]): Promise<Record<string, unknown>> {
  printed = []
  expect(await run([...words, join(folder, 'all'), '--json'])).toBe(0)
  return JSON.parse(printed.join('\n')) as Record<string, unknown>
}

test('an inode by its path and by its number, its blocks, and back from a block to the file', async () => {
  const entry = kept.entries.find(({ path }) => path === 'tree/large')!
  const byPath = await shown('inode', 'a', 'tree/large')
  expect(byPath).toMatchObject({ inode: entry.fileid, size: entry.size, type: 'REG', mode: '0640' })
  expect(await shown('inode', 'a', String(entry.fileid))).toEqual(byPath)
  const [run] = byPath['runs'] as { fileBlock: number; number: number; pvbn: number }[]
  expect(await shown('block', String(run!.pvbn))).toMatchObject({
    inUse: true,
    checksum: 'good',
    owner: { number: run!.number, volumeName: 'a' },
    user: { object: `inode ${entry.fileid}`, fileBlock: run!.fileBlock, kind: 'data' },
  })
  expect(await shown('owner', 'a', String(run!.number))).toMatchObject({ pvbn: run!.pvbn })
})

test('a directory with all its names, a symbolic link, a superblock, volumes', async () => {
  const { entries } = (await shown('dir', 'a', 'many')) as { entries: { name: string }[] }
  expect(entries).toHaveLength(260)
  expect(await shown('inode', 'a', 'short')).toMatchObject({ type: 'LNK', path: 'tree/small' })
  expect(await shown('superblock')).toMatchObject({ aggregate: 'aggr-a', roots: [{ slot: 1 }, { slot: 2 }] })
  expect(await shown('volumes')).toMatchObject({ volumes: [{ name: 'a', type: 'Flexible' }] })
  expect(await shown('volume', 'a')).toMatchObject({ files: { inodesInUse: expect.any(Number) } })
})

test('the log as operations in words, and the mailbox', async () => {
  const log = JSON.stringify(await shown('log', '--records'))
  expect(log).toMatch(/rename \\"small\\" \(inode \d+\) of inode \d+ to \\"moved\\" in inode \d+/)
  expect(log).toMatch(/reply to xid [0-9a-f]+ kept/)
  expect(await shown('mailbox')).toMatchObject({ content: { pairUid: 'simulated', sides: { a: {} } } })
})

test('text for people: tables and names', async () => {
  expect(await run(['volumes', join(folder, 'all')])).toBe(0)
  expect(printed.join('\n')).toMatch(/volumes:\n {2}index +name +id .*\n {2}1 +a +volume-a/)
})

test('what is not there, or damaged, is told in words', async () => {
  const all = join(folder, 'all')
  expect(await run(['inode', 'a', 'no/where', all])).toBe(1)
  expect(errors.join('\n')).toMatch(/there is no "no" in inode 2/)
  expect(await run(['volume', 'zz', all])).toBe(1)
  expect(errors.join('\n')).toMatch(/no volume "zz"; there are: a/)
  const { inode } = (await shown('inode', 'a', 'tree')) as { inode: number }
  const block = await shown('owner', 'a', String(1))
  expect(block).toHaveProperty('pvbn')
  // The block of the inode file that has the inode.
  const tree = (await shown('inode', 'a', String(inode))) as { runs: { pvbn: number }[] }
  const place = (await shown('block', String(tree.runs[0]!.pvbn))) as { device: string; deviceOffset: number }
  const fd = openSync(place.device, 'r+')
  writeSync(fd, new Uint8Array([1, 2, 3]), 0, 3, place.deviceOffset + 50)
  closeSync(fd)
  expect(await run(['dir', 'a', 'tree', all])).toBe(1)
  expect(errors.join('\n')).toMatch(/directory \d+: block \d+ is damaged/)
  expect(await run(['blocks', all])).toBe(2)
  expect(await run(['superblock', join(all, 'log', 'log-a')])).toBe(1)
})
