import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import { FileSystem } from '../core/fs/volume.ts'
import { openDevice } from '../edge/node/device.ts'
import { nodeEnv } from '../edge/node/env.ts'
import { check, run } from './check.ts'

const MIB = 2 ** 20
let folder: string
let printed: string[]
/** Where some block of a file lies, in bytes of the device. */
let place = 0

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'check-'))
  const env = nodeEnv({ write: () => {} })
  mkdirSync(join(folder, 'claims/one'), { recursive: true })
  const device = openDevice(join(folder, 'claims/one/device'), { bytes: 64 * MIB })
  await Aggregate.format(env, { id: 'id', name: 'aggr1', side: 'a', pairUid: 'pair' }, [[device]])
  let seq = 0
  const journal = { admit() {}, append: () => ++seq, answer() {} }
  const aggregate = await Aggregate.open<FileSystem>(env, [device], {
    cache: new BufferCache(16 * MIB),
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
  const caller = { uid: 0, gid: 0, gids: [] }
  for (let i = 0; i < 40; i++) {
    const made = await volume.content.create(caller, root, `file-${i}`, { mode: 'GUARDED', attributes: {} })
    if (!made.ok) throw new Error(made.status)
    await volume.content.write(caller, made.object.handle, 0, new Uint8Array(i * 3000).fill(i), 'FILE_SYNC')
    if (i % 3 === 0) await volume.content.remove(caller, root, `file-${i}`)
  }
  const point = aggregate.freeze({ cp: 1, epoch: 1, covers: seq })
  await point.write()
  await point.commitRoot(0)
  await point.commitRoot(1)
  point.complete()
  const { block } = aggregate.layout.locate(5)
  place = block * 4096
  await device.close()
})
afterAll(() => rmSync(folder, { recursive: true }))

beforeEach(() => {
  printed = []
  jest.spyOn(console, 'log').mockImplementation((text: unknown) => void printed.push(String(text)))
})
afterEach(() => {
  jest.restoreAllMocks()
})

test('a sound aggregate with files passes, found by its folder', async () => {
  expect(await run([folder])).toBe(0)
  expect(printed.join('\n')).toMatch(/aggregate aggr1 of a, plex 0 .*\n.*1 volumes\n {2}consistent/)
})

test('one changed byte is found and named; nothing is written', async () => {
  const path = join(folder, 'claims/one/device')
  const fd = openSync(path, 'r+')
  writeSync(fd, new Uint8Array([0x55]), 0, 1, place + 100)
  closeSync(fd)
  expect(await check([path], { json: true, force: false })).toBe(1)
  const { aggregates } = JSON.parse(printed.join('\n')) as { aggregates: { problems: string[] }[] }
  expect(aggregates[0]!.problems.join('\n')).toMatch(/block 5: checksum error/)
})

test('a folder without devices is a wrong usage', async () => {
  mkdirSync(join(folder, 'empty'))
  expect(await run([join(folder, 'empty')])).toBe(2)
})
