/**
 * An image whose blocks are whole and say different things: two files have the same blocks. Freeing them twice must not be written over it, nor end one filer after the
 * other for ever: the owner gives the side up, its partner tries once, both say why, and the other side goes on.
 */
import { expect, test } from '@jest/globals'
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import { BLOCK_BYTES } from '../core/env/device.ts'
import { AT_TREE, INODE_BYTES } from '../core/fs/inode.ts'
import { Inodes } from '../core/fs/inodes.ts'
import { env, good, MemoryJournal, ROOT } from '../core/fs/testing/harness.ts'
import { FileSystem } from '../core/fs/volume.ts'
import { Caller, SideAnswers } from './caller.ts'
import { SimDevice } from './device.ts'
import { FilerPair } from './filer-pair.ts'
import { FILERS } from './names.ts'
import { problemsOf, untilEqual } from './pair-check.ts'

const LIMIT_MS = 60_000

/** While both filers are down, on both copies: the second file gets the blocks of the first, too. */
async function share(pair: FilerPair): Promise<void> {
  const [devices, mirror] = FILERS.map((filer) =>
    pair.media[filer].plexes.a.map((medium) => new SimDevice(medium)),
  )
  const aggregate = await Aggregate.open<FileSystem>(pair.world.process('hand').env, devices!, {
    cache: new BufferCache(8 << 20),
    mirror: mirror!,
    content: (store, root) =>
      new FileSystem({
        env,
        store,
        journal: new MemoryJournal(),
        volume: store.index,
        root: root!,
        space: () => ({ totalBytes: 0, freeBytes: 0 }),
      }),
  })
  const volume = aggregate.volume('volume-a')!
  const { content: fs } = volume
  const root = await fs.rootHandle()
  const second = (await good(fs.lookup(ROOT, root, 'second'))).object
  const first = (await good(fs.lookup(ROOT, root, 'first'))).object
  // Its block may be changed from here on.
  await good(fs.setattr(ROOT, second.handle, { mode: 0o600 }))
  const inodes = new Inodes(volume, fs.freeze())
  const treeOf = (ino: number): Uint8Array => {
    const { bytes, at } = inodes.get(ino) as unknown as { bytes: Uint8Array; at: number }
    return bytes.subarray(at + AT_TREE, at + INODE_BYTES)
  }
  treeOf(second.attributes.fileid).set(treeOf(first.attributes.fileid))
  const { cp, epoch, covers } = aggregate.root
  const point = aggregate.freeze({ cp: cp + 1, epoch, covers })
  await point.write()
  await point.commitRoot(0)
  await point.commitRoot(1)
  await point.complete()
  await aggregate.close()
}

test('two files with the same blocks: nothing is written over it, each filer tries once and says why, the other side goes on', async () => {
  const pair = new FilerPair({
    seed: 5,
    deviceBlocks: [3000],
    volumeBytes: 8 << 20,
    logBlocks: 257,
    cacheBytes: 8 << 20,
    givebackDelayMs: 2000,
  })
  const { world } = pair
  const [caller, other] = FILERS.map((side) => new Caller(pair, side, `client-${side}`, new SideAnswers()))
  const ok = async <R extends { readonly ok: boolean }>(
    answer: Promise<R>,
  ): Promise<Extract<R, { ok: true }>> => {
    const result = await world.wait(answer, LIMIT_MS)
    if (!result.ok) throw new Error('refused')
    return result as Extract<R, { ok: true }>
  }
  const start = async (): Promise<void> => {
    for (const name of FILERS) pair.start(name)
    await pair.untilGood(LIMIT_MS)
  }
  await start()
  const rootOf = async (by: Caller, path: string): Promise<Uint8Array> => {
    for (;;) {
      const found = await world.wait(by.call((vfs) => vfs.exports().find((one) => one.path === path)?.root))
      if (found !== undefined) return found
      // Its volume is not made yet.
      await world.run(20)
    }
  }
  const root = await rootOf(caller!, '/a')
  for (const name of ['first', 'second']) {
    const { object } = await ok(
      caller!.call((vfs) => vfs.create(ROOT, root, name, { mode: 'GUARDED', attributes: {} })),
    )
    const data = new Uint8Array(5 * BLOCK_BYTES).fill(name.length)
    await ok(caller!.call((vfs) => vfs.write(ROOT, object.handle, 0, data, 'FILE_SYNC')))
  }
  await untilEqual(pair, LIMIT_MS)
  for (const name of FILERS) pair.crash(name)
  await share(pair)
  expect((await problemsOf(pair)).join()).toMatch(/belongs to another file too/)

  await start()
  for (const name of ['first', 'second']) await ok(caller!.call((vfs) => vfs.remove(ROOT, root, name)))
  const sides = () => FILERS.map((name) => pair.running[name]!.filer!.pair.sides.get('a')!)
  await world.until(
    () => sides().every((side) => side.unfit !== '' && !side.serving),
    LIMIT_MS,
    'both gave up',
  )
  for (const side of sides())
    expect(side.decision).toMatchObject({
      reason: 'CopyOutOfDate',
      message: expect.stringMatching(
        /the image contradicts itself: block number \d+ was freed twice.*tandem check/,
      ),
    })
  const { epoch } = pair.vote.record!.sides.a!
  await world.run(30_000)
  // Nobody tries again and again, and nothing of it was written.
  expect(pair.vote.record!.sides.a!.epoch).toBe(epoch)
  expect(pair.isGood('b')).toBe(true)
  const root2 = await rootOf(other!, '/b')
  await ok(other!.call((vfs) => vfs.create(ROOT, root2, 'new', { mode: 'GUARDED', attributes: {} })))
})
