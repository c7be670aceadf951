/** Orders about snapshots at a pair of filers: carried out once, durable on both, refused with a reason. */
import { afterEach, expect, test } from '@jest/globals'
import type { MakeResult } from '../vfs/vfs.ts'
import { FilerPair } from '../../sim/filer-pair.ts'
import { FILERS } from '../../sim/names.ts'
import type { FilerName } from '../../sim/names.ts'
import { problemsOf, untilEqual } from '../../sim/pair-check.ts'
import type { SnapshotAnswer, SnapshotOrder } from './snapshot-orders.ts'

const ROOT = { uid: 0, gid: 0, gids: [] }
const ACCEPTED = { accepted: true, reason: '', message: '' }

let pair: FilerPair

async function started(seed: number, snapshots = false): Promise<FilerPair> {
  const sizes = { deviceBlocks: [6000, 4000], volumeBytes: 32 * 2 ** 20, logBlocks: 257 }
  pair = new FilerPair({ seed, ...sizes, cacheBytes: 8 * 2 ** 20, givebackDelayMs: 600_000, snapshots })
  for (const name of FILERS) pair.start(name)
  await pair.untilGood(20_000)
  return pair
}

afterEach(async () => {
  pair.peace()
  await pair.untilGood(60_000)
  await untilEqual(pair, 60_000)
  expect(await problemsOf(pair)).toEqual([])
})

function order(name: FilerName, some: Partial<SnapshotOrder>): Promise<SnapshotAnswer> {
  const whole = { volumeId: 'volume-a', op: 'Create' as const, snapshot: 'one', requestId: '', ...some }
  return pair.world.wait(pair.running[name]!.filer!.snapshot(whole), 10_000, 'an order')
}

async function write(name: FilerName, file: string, text: string): Promise<void> {
  const { vfs } = pair.running[name]!.filer!
  const root = vfs.exports().find(({ path }) => path === '/a')!.root
  const how = { mode: 'UNCHECKED' as const, attributes: { size: 0 } }
  const made: MakeResult = await pair.world.wait(
    Promise.resolve(vfs.create(ROOT, root, file, how)),
    5000,
    'CREATE',
  )
  if (!made.ok) throw new Error(made.status)
  const data = Buffer.from(text)
  const { handle } = made.object
  await pair.world.wait(Promise.resolve(vfs.write(ROOT, handle, 0, data, 'FILE_SYNC')), 5000, 'WRITE')
}

async function read(name: FilerName, path: string): Promise<string> {
  const { vfs } = pair.running[name]!.filer!
  let handle = vfs.exports().find((one) => one.path === '/a')!.root
  for (const part of path.split('/')) {
    const found = await pair.world.wait(Promise.resolve(vfs.lookup(ROOT, handle, part)), 5000, 'LOOKUP')
    if (!found.ok) return found.status
    handle = found.object.handle
  }
  const result = await pair.world.wait(
    Promise.resolve(vfs.read(ROOT, handle, 0, 100, (bytes) => new Uint8Array(bytes))),
    5000,
    'READ',
  )
  return result.ok ? Buffer.from(result.data).toString() : result.status
}

test('what is ordered is done once, is there after a takeover, and can be undone', async () => {
  await started(1)
  await write('a', 'file', 'before')
  expect(await order('a', { requestId: 'r1' })).toEqual(ACCEPTED)
  await write('a', 'file', 'behind')
  expect(await order('a', { requestId: 'r1' })).toEqual(ACCEPTED)
  expect(await order('a', { requestId: 'r2' })).toMatchObject({ accepted: false, reason: 'SnapshotExists' })
  expect(await read('a', '.snapshot/one/file')).toBe('before')

  pair.crash('a')
  await pair.world.until(() => pair.serving('a').includes('b'), 60_000, 'takeover')
  await pair.world.until(() => !pair.running.b!.filer!.volumes.opening(), 10_000, 'volumes opened')
  expect(await order('b', { requestId: 'r1' })).toEqual(ACCEPTED)
  expect(await read('b', 'file')).toBe('behind')
  expect(await read('b', '.snapshot/one/file')).toBe('before')
  await write('b', 'file', 'later')
  const restore = { op: 'Restore' as const, requestId: 'r3' }
  expect(await order('b', restore)).toEqual(ACCEPTED)
  expect(await read('b', 'file')).toBe('before')
  await write('b', 'file', 'and on')
  expect(await order('b', restore)).toEqual(ACCEPTED)
  expect(await read('b', 'file')).toBe('and on')

  pair.peace()
  await pair.untilGood(60_000)
  pair.crash('b')
  await pair.world.until(() => pair.serving('a').includes('a'), 60_000, 'takeover')
  await pair.world.until(() => !pair.running.a!.filer!.volumes.opening(), 10_000, 'volumes opened')
  expect(await read('a', 'file')).toBe('and on')
  expect(await order('a', restore)).toEqual(ACCEPTED)
  expect(await read('a', 'file')).toBe('and on')
  expect(await order('a', { op: 'Delete', requestId: 'r4' })).toEqual(ACCEPTED)
  expect(await order('a', { op: 'Delete', requestId: 'r4' })).toEqual(ACCEPTED)
  expect(await order('a', { op: 'Delete', requestId: 'r5' })).toMatchObject({ reason: 'NoSuchSnapshot' })
  expect(await read('a', '.snapshot/one/file')).toBe('NOENT')
}, 120_000)

test('a restore that only the log has is done again by who takes over', async () => {
  await started(2)
  await write('a', 'file', 'before')
  expect(await order('a', {})).toEqual(ACCEPTED)
  await write('a', 'file', 'behind')
  await write('a', 'since', 'x')
  expect(await order('a', { op: 'Restore', requestId: 'r' })).toEqual(ACCEPTED)
  await write('a', 'after', 'y')
  pair.crash('a')
  await pair.world.until(() => pair.serving('a').includes('b'), 60_000, 'takeover')
  await pair.world.until(() => !pair.running.b!.filer!.volumes.opening(), 10_000, 'volumes opened')
  expect(await read('b', 'file')).toBe('before')
  expect(await read('b', 'since')).toBe('NOENT')
  expect(await read('b', 'after')).toBe('y')
}, 120_000)

test('schedules go on with the volume, whoever serves it', async () => {
  await started(4, true)
  const names = (name: FilerName): string[] => {
    for (const store of pair.running[name]!.filer!.stores.values()) {
      const volume = store.aggregates.get('aggr-a')?.volume('volume-snap-a')
      if (volume !== undefined) return volume.snapshots.list().map((one) => one.name)
    }
    return []
  }
  await pair.world.run(3 * 60_000)
  const before = names('a')
  expect(before).toHaveLength(2)
  expect(before.every((name) => /^auto[.]2023-11-14T22[0-9]{2}Z$/.test(name))).toBe(true)
  pair.crash('a')
  await pair.world.until(() => pair.serving('a').includes('b'), 60_000, 'takeover')
  await pair.world.run(2 * 60_000)
  expect(names('b')).toHaveLength(2)
  expect(names('b')).not.toEqual(before)
}, 120_000)

test('what cannot be done says why', async () => {
  await started(3)
  expect(await order('b', {})).toMatchObject({ accepted: false, reason: 'NotServedHere' })
  expect(await order('a', { volumeId: 'volume-x' })).toMatchObject({ reason: 'NotServedHere' })
  expect(await order('a', { snapshot: '../x' })).toMatchObject({ reason: 'InvalidName' })
  expect(await order('a', { op: 'Restore' })).toMatchObject({ reason: 'NoSuchSnapshot' })
  expect(await order('a', { op: 'Destroy' as 'Delete' })).toMatchObject({ reason: 'Failed' })
  // Asked while the filer dies: the order is refused, and the snapshot is there wholly or not at all.
  const lost = pair.running.a!.filer!.snapshot({
    volumeId: 'volume-a',
    op: 'Create',
    snapshot: 'lost',
    requestId: 'r',
  })
  await pair.world.run(1)
  pair.crash('a')
  await pair.world.until(() => pair.serving('a').includes('b'), 60_000, 'takeover')
  await pair.world.until(() => !pair.running.b!.filer!.volumes.opening(), 10_000, 'volumes opened')
  expect(await read('b', '.snapshot/lost/x')).toBe('NOENT')
  expect(await order('b', { snapshot: 'lost', requestId: 'r' })).toEqual(ACCEPTED)
  void lost
}, 120_000)
