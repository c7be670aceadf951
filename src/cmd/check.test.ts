import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import { FileSystem } from '../core/fs/volume.ts'
import { BATCH_HEADER_BYTES, sealBatch, writeRecord } from '../core/nvlog/batch.ts'
import { formatLog, LOG_BLOCKS_MIN } from '../core/nvlog/log-device.ts'
import { Mailbox } from '../core/pair/mailbox.ts'
import { openDevice } from '../edge/node/device.ts'
import { nodeEnv } from '../edge/node/env.ts'
import { check, run } from './check.ts'
import type { CheckFlags } from './check.ts'

const MIB = 2 ** 20
/** Sparse; large enough that threads get work. */
const DEVICE_BYTES = 2 ** 30
const SPEC = { id: 'id', name: 'aggr1', side: 'a', pairUid: 'pair' }
const CALLER = { uid: 0, gid: 0, gids: [] }
const env = nodeEnv({ write: () => {} })
let folder: string
let printed: string[]
/** Where some block of a file lies, in bytes of the device. */
let place = 0

type Files = Aggregate<FileSystem>

const paths = (name: string): [string, string] => [
  join(folder, name, 'a/device'),
  join(folder, name, 'b/device'),
]

async function consistencyPoint(aggregate: Files): Promise<void> {
  const point = aggregate.freeze({ cp: aggregate.root.cp + 1, epoch: 1, covers: 0 })
  await point.write()
  await point.commitRoot(0)
  await point.commitRoot(1)
  await point.complete()
}

/** An aggregate with files, both copies, below `folder/name`; `damage` gets it open, with a consistency point to follow. */
async function makeAggregate(
  name: string,
  damage: (aggregate: Files) => void | Promise<void> = () => {},
): Promise<void> {
  const devices = paths(name).map((path) => {
    mkdirSync(join(path, '..'), { recursive: true })
    return openDevice(path, { bytes: DEVICE_BYTES })
  })
  await Aggregate.format(
    env,
    SPEC,
    devices.map((device) => [device]),
  )
  const journal = { admit() {}, append: () => 1, answer() {} }
  const aggregate: Files = await Aggregate.open<FileSystem>(env, [devices[0]!], {
    cache: new BufferCache(16 * MIB),
    mirror: [devices[1]!],
    content: (store, root) =>
      new FileSystem({
        env,
        store,
        journal,
        volume: store.index,
        root:
          root ??
          FileSystem.make(store, {
            fsid: store.fsid,
            hashSeed: 1,
            time: env.clock.wall(),
            mode: 0o755,
            uid: 0,
            gid: 0,
          }),
        space: () => ({ totalBytes: MIB, freeBytes: MIB }),
      }),
  })
  const volume = aggregate.createVolume({ id: 'v', name: 'home', sizeBytes: 32 * MIB, fsid: 77 })
  const root = await volume.content.rootHandle()
  for (let i = 0; i < 40; i++) {
    const made = await volume.content.create(CALLER, root, `file-${i}`, { mode: 'GUARDED', attributes: {} })
    if (!made.ok) throw new Error(made.status)
    await volume.content.write(CALLER, made.object.handle, 0, new Uint8Array(i * 3000).fill(i), 'FILE_SYNC')
    if (i % 3 === 0) await volume.content.remove(CALLER, root, `file-${i}`)
  }
  await consistencyPoint(aggregate)
  place = aggregate.layout.locate(5).block * 4096
  await damage(aggregate)
  await consistencyPoint(aggregate)
  await aggregate.close()
  for (const device of devices) await device.close()
}

/** A block that the active map has and nothing refers to, and a number that no file has. */
function leak(aggregate: Files): void {
  aggregate.meta.changes.push(aggregate.space.take())
  const volume = aggregate.volume('v')!
  volume.allocate('data')
  volume.allocate('data')
}

const checked = async (name: string, flags: Partial<CheckFlags> = {}): Promise<[number, Report]> => {
  printed = []
  const status = await check([join(folder, name)], { json: true, force: false, ...flags })
  return [status, JSON.parse(printed.join('\n')) as Report]
}
interface Report {
  aggregates: {
    notes: string[]
    problems: string[]
    leaks: number
    cp: number
    blocksUsed: number
    repaired?: object
  }[]
  copies: { equalRoots: boolean; blocks: number; problems: string[] }[]
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'check-'))
  await makeAggregate('good')
})
afterAll(() => rmSync(folder, { recursive: true }))

beforeEach(() => {
  printed = []
  jest.spyOn(console, 'log').mockImplementation((text: unknown) => void printed.push(String(text)))
})
afterEach(() => {
  jest.restoreAllMocks()
})

test('a sound aggregate with files passes, both copies, found by their folder', async () => {
  expect(await run([join(folder, 'good')])).toBe(0)
  expect(printed.join('\n')).toMatch(/aggregate aggr1 of a, plex 0 .*\n.*1 volumes\n {2}consistent/)
  expect(printed.join('\n')).toMatch(/copies of aggr1: equal roots, \d+ blocks compared\n {2}equal/)
})

test('threads find what one finds', async () => {
  const [one, two] = [await checked('good', { threads: 1 }), await checked('good', { threads: 2 })]
  const facts = ([status, { aggregates, copies }]: [number, Report]) => [
    status,
    aggregates.map(({ problems, cp, blocksUsed }) => ({ problems, cp, blocksUsed })),
    copies,
  ]
  expect(facts(two)).toEqual(facts(one))
})

test('leaks are told, given back by a new image on both copies, and nothing else changes', async () => {
  await makeAggregate('leaks', leak)
  const [status, before] = await checked('leaks')
  expect(status).toBe(1)
  expect(before.aggregates[0]).toMatchObject({ leaks: 3, cp: 2 })
  expect(before.aggregates[0]!.problems.join('\n')).toMatch(
    /volume v: block \d+ is lost[^]*volume v: block \d+ is lost[^]*block \d+ is lost/,
  )
  const [repaired, { aggregates, copies }] = await checked('leaks', { repair: true })
  expect(repaired).toBe(0)
  expect(aggregates[0]).toMatchObject({ problems: [], cp: 3, repaired: { block: 1, number: 2 } })
  expect(aggregates[1]).toMatchObject({ problems: [], cp: 3 })
  expect(copies[0]!.equalRoots).toBe(true)
  const [again, after] = await checked('leaks')
  expect(again).toBe(0)
  expect(after.copies[0]).toMatchObject({ equalRoots: true, problems: [] })
})

test('inodes that are on no list join theirs', async () => {
  await makeAggregate('inodes', async (aggregate) => {
    const volume = aggregate.volume('v')!
    const { inodes } = volume.content['core']
    const root = await volume.content.rootHandle()
    for (let i = 1; i < 40; i += 3) await volume.content.remove(CALLER, root, `file-${i}`)
    // The list of free inodes is cut behind its head.
    const { freeHead } = inodes
    inodes.prepare(freeHead)
    inodes.change(freeHead).next = 0
  })
  const [status, before] = await checked('inodes')
  expect(status).toBe(1)
  expect(before.aggregates[0]!.leaks).toBe(before.aggregates[0]!.problems.length)
  expect(before.aggregates[0]!.leaks).toBeGreaterThan(5)
  expect((await checked('inodes', { repair: true }))[0]).toBe(0)
  expect((await checked('inodes'))[0]).toBe(0)
})

test('an image with more wrong than leaks is not repaired', async () => {
  await makeAggregate('both', (aggregate) => {
    leak(aggregate)
    const { inodes } = aggregate.volume('v')!.content['core']
    const ino = inodes.inoEnd - 2
    inodes.prepare(ino)
    inodes.change(ino).nlink = 7
  })
  const [status, { aggregates }] = await checked('both', { repair: true })
  expect(status).toBe(1)
  expect(aggregates[0]).toMatchObject({ cp: 2, leaks: 3 })
  expect(JSON.stringify(aggregates[0])).toMatch(/not repaired: more is wrong than leaks/)
})

test('one changed byte is found and named, in the one copy that has it; nothing is written', async () => {
  const path = paths('good')[0]
  const fd = openSync(path, 'r+')
  writeSync(fd, new Uint8Array([0x55]), 0, 1, place + 100)
  closeSync(fd)
  const [status, { aggregates }] = await checked('good')
  expect(status).toBe(1)
  expect(aggregates[0]!.problems.join('\n')).toMatch(/block 5: checksum error/)
  expect(aggregates[1]!.problems).toEqual([])
})

test('the log of a copy that the mailbox calls unfinished is not held against it', async () => {
  await makeAggregate('filling')
  const log = openDevice(join(folder, 'filling/a/log-a'), { bytes: LOG_BLOCKS_MIN * 4096 })
  const mail = openDevice(join(folder, 'filling/a/mailbox'), { bytes: 2 * 4096 })
  const origin = 7
  await formatLog(log, origin, env)
  // From before the log was emptied: it says that more was acknowledged than the image covers.
  const batch = new Uint8Array(4096)
  const end = writeRecord(batch, BATCH_HEADER_BYTES, 1, 1, [], 0)
  const header = {
    bytes: end,
    count: 1,
    firstSeq: 9,
    acknowledged: 9,
    halfNumber: 0,
    epoch: 1,
    incarnation: 1,
    rootCp: 0,
  }
  sealBatch(batch, { ...header, origin }, env.crc32)
  await log.write(3, [batch])
  const mailbox = await Mailbox.open(env, mail, SPEC.pairUid)
  await mailbox.changeSide('a', { state: 'Complete' })
  const [bad, { aggregates }] = await checked('filling')
  expect(bad).toBe(1)
  expect(aggregates[0]!.problems).toEqual([expect.stringContaining('was acknowledged')])
  await mailbox.changeSide('a', { state: 'Resyncing' })
  const [good, report] = await checked('filling')
  expect([good, report.aggregates[0]!.problems]).toEqual([0, []])
  expect(report.aggregates[0]!.notes).toEqual([expect.stringContaining('Resyncing')])
  await log.close()
  await mail.close()
})

test('a folder without devices is a wrong usage', async () => {
  mkdirSync(join(folder, 'empty'))
  expect(await run([join(folder, 'empty')])).toBe(2)
})
