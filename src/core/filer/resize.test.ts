import { expect, test } from '@jest/globals'
import { Caller, SideAnswers } from '../../sim/caller.ts'
import { FilerPair } from '../../sim/filer-pair.ts'
import { FILERS } from '../../sim/names.ts'

const ROOT = { uid: 0, gid: 0, gids: [] }
const MIB = 2 ** 20
const LIMIT_MS = 60_000

test('a volume grows, and shrinks to what is used and no further; the refusal names the least size', async () => {
  const pair = new FilerPair({
    seed: 4,
    deviceBlocks: [8000],
    volumeBytes: 16 * MIB,
    logBlocks: 1 + 2 * 1024,
    cacheBytes: 8 * MIB,
    givebackDelayMs: 2000,
  })
  const { world } = pair
  for (const name of FILERS) pair.start(name)
  await pair.untilGood(LIMIT_MS)
  const filer = pair.running.a!.filer!
  const caller = new Caller(pair, 'a', 'client', new SideAnswers())
  const root = filer.vfs.exports().find(({ path }) => path === '/a')!.root
  const write = async (name: string, bytes: number): Promise<string> => {
    const made = await caller.call((vfs) =>
      vfs.create(ROOT, root, name, { mode: 'UNCHECKED', attributes: {} }),
    )
    if (!made.ok) return made.status
    const { handle } = made.object
    const written = await caller.call((vfs) =>
      vfs.write(ROOT, handle, 0, new Uint8Array(bytes).fill(1), 'FILE_SYNC'),
    )
    return written.ok ? 'OK' : written.status
  }
  const resize = async (sizeBytes: number): Promise<string | undefined> => {
    const { generation, volumes, ...rest } = filer.desired!
    const changed = volumes.map((one) => (one.name === 'a' ? { ...one, sizeBytes } : one))
    await world.wait(filer.apply({ generation: generation + 1, volumes: changed, ...rest }), LIMIT_MS)
    return filer.volumes.failures.get('volume-a')
  }
  const volume = filer.stores.get('a')!.aggregates.get('aggr-a')!.volume('volume-a')!
  expect(await world.wait(write('file', MIB), LIMIT_MS)).toBe('OK')

  const refused = await resize(MIB)
  const least = Number(/the least possible size is (\d+) bytes/.exec(refused!)![1])
  expect(least).toBe(volume.used * 4096)
  expect(volume.sizeBytes).toBe(16 * MIB)
  expect(await world.wait(write('still', 8192), LIMIT_MS)).toBe('OK')

  expect(await resize(volume.used * 4096)).toBeUndefined()
  expect(volume.sizeBytes).toBe(volume.used * 4096)
  expect(await world.wait(write('more', MIB), LIMIT_MS)).toBe('NOSPC')
  expect(await resize(24 * MIB)).toBeUndefined()
  expect(await world.wait(write('more', MIB), LIMIT_MS)).toBe('OK')
})
