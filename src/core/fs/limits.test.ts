/** The borders of what a volume can hold, and that work at them stays bounded. */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { FILE_BYTES_MAX, LINK_BYTES_MAX } from '../vfs/vfs.ts'
import { DUAL, SINGLE } from './block-store.ts'
import { Inodes, SLICE_BLOCKS } from './inodes.ts'
import { decodeRecord } from './record.ts'
import { good, problemsOf, ROOT, statusOf, Volume } from './testing/harness.ts'

const GUARDED = { mode: 'GUARDED' as const, attributes: {} }

async function fileIn(volume: Volume, name: string): Promise<Uint8Array> {
  return (await good(volume.fs.create(ROOT, await volume.root(), name, GUARDED))).object.handle
}

/** An inode to be changed behind the file system's back, in the image that is being built. */
function changed(volume: Volume, ino: number, change: (inode: ReturnType<Inodes['change']>) => void): void {
  // The store has not been frozen: its blocks may be changed here.
  change(new Inodes(volume.store, volume.fs.freeze()).get(ino))
}

describe.each([SINGLE, DUAL])('limits over $name pointers', (format) => {
  test('a block at the very end of a file of 16 TiB, and none behind it', async () => {
    const volume = Volume.make(format)
    const handle = await fileIn(volume, 'end')
    const block = new Uint8Array(BLOCK_BYTES).fill(7)
    await good(volume.fs.write(ROOT, handle, FILE_BYTES_MAX - BLOCK_BYTES, block, 'FILE_SYNC'))
    const { data, eof } = await good(
      volume.fs.read(ROOT, handle, FILE_BYTES_MAX - BLOCK_BYTES - 1, 10_000, (n) => new Uint8Array(n)),
    )
    expect([data.length, data[0], data[1], eof]).toEqual([BLOCK_BYTES + 1, 0, 7, true])
    expect((await good(volume.fs.getattr(handle))).attributes.used).toBeLessThan(10 * BLOCK_BYTES)
    expect(
      await statusOf(volume.fs.write(ROOT, handle, FILE_BYTES_MAX - 1, new Uint8Array(2), 'FILE_SYNC')),
    ).toBe('FBIG')
    expect(await statusOf(volume.fs.setattr(ROOT, handle, { size: FILE_BYTES_MAX + 1 }))).toBe('FBIG')
    await good(volume.fs.setattr(ROOT, handle, { size: 1 }))
    await volume.fs.reclaim()
    expect((await good(volume.fs.getattr(handle))).attributes.used).toBe(0)
    expect(await problemsOf(volume.store, volume.fs.freeze())).toEqual([])
  })

  test('a sparse file over 16 TiB is cut and removed in bounded slices, with other calls between them, and its space returns', async () => {
    const volume = Volume.make(format)
    const empty = volume.store.used
    const handle = await fileIn(volume, 'sparse')
    const step = 2 ** 33
    for (let offset = 0; offset < FILE_BYTES_MAX; offset += step) {
      await good(volume.fs.write(ROOT, handle, offset, new Uint8Array(2 * BLOCK_BYTES).fill(1), 'FILE_SYNC'))
    }
    volume.store.freeze()
    const full = volume.store.used
    expect(full).toBeGreaterThan(2 * 2048 + 2048)
    const from = volume.journal.records.length
    await good(volume.fs.remove(ROOT, await volume.root(), 'sparse'))
    let before = volume.store.used
    expect(full - before).toBeLessThanOrEqual(SLICE_BLOCKS + 8)
    for (let slice = 0; !(await volume.fs.reclaim(1)); slice++) {
      volume.store.freeze()
      expect(before - volume.store.used).toBeLessThanOrEqual(SLICE_BLOCKS + 8)
      before = volume.store.used
      await fileIn(volume, `between-${slice}`)
    }
    const slices = volume.journal.records
      .slice(from)
      .filter((one) => decodeRecord(one).change.type === 'reclaim')
    expect(slices.length).toBeGreaterThan(3)
    volume.store.freeze()
    expect(volume.store.used).toBeLessThanOrEqual(empty + 4)
    expect(await problemsOf(volume.store, volume.fs.freeze())).toEqual([])
  })

  test('symbolic links of 1 to 1,024 bytes, wherever the path is kept', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    for (const length of [1, 127, 128, 129, LINK_BYTES_MAX]) {
      const path = '\u00e9/'.repeat(length).slice(0, length)
      const { object } = await good(volume.fs.symlink(ROOT, root, `link-${length}`, path, {}))
      volume.store.freeze()
      expect((await good(volume.fs.readlink(ROOT, object.handle))).path).toBe(path)
    }
    const long = 'x'.repeat(LINK_BYTES_MAX + 1)
    expect(await statusOf(volume.fs.symlink(ROOT, root, 'long', long, {}))).toBe('NAMETOOLONG')
    expect(await problemsOf(volume.store, volume.fs.freeze())).toEqual([])
  })

  test('times to the nanosecond, to the last second that NFSv3 can say', async () => {
    const volume = Volume.make(format)
    const handle = await fileIn(volume, 'old')
    const times = {
      atime: { seconds: 0, nanoseconds: 1 },
      mtime: { seconds: 2 ** 32 - 1, nanoseconds: 999_999_999 },
    }
    await good(volume.fs.setattr(ROOT, handle, times))
    volume.store.freeze()
    expect((await good(volume.fs.getattr(handle))).attributes).toMatchObject(times)
  })

  test('a file that has all the links it can have takes no more, and a directory no more directories', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    const handle = await fileIn(volume, 'popular')
    const { attributes } = await good(volume.fs.getattr(handle))
    const links = attributes.nlink
    // The count alone is raised: to make so many names takes too long.
    changed(volume, attributes.fileid, (inode) => (inode.nlink = 2 ** 32 - 1))
    expect(await statusOf(volume.fs.link(ROOT, handle, root, 'one-more'))).toBe('MLINK')
    changed(volume, attributes.fileid, (inode) => (inode.nlink = links))
    await good(volume.fs.link(ROOT, handle, root, 'one-more'))
    changed(volume, 2, (inode) => (inode.nlink = 2 ** 32 - 1))
    expect(await statusOf(volume.fs.mkdir(ROOT, root, 'dir', {}))).toBe('MLINK')
  })

  test('generations of an inode wrap without the value 0, and an old handle is STALE all the same', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    const first = await good(volume.fs.create(ROOT, root, 'a', GUARDED))
    const { fileid } = first.object.attributes
    await good(volume.fs.remove(ROOT, root, 'a'))
    const { bytes, at } = new Inodes(volume.store, volume.fs.freeze()).get(fileid) as unknown as {
      bytes: Uint8Array
      at: number
    }
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(at + 4, 2 ** 32 - 2, true)
    const last = await good(volume.fs.create(ROOT, root, 'b', GUARDED))
    await good(volume.fs.remove(ROOT, root, 'b'))
    const wrapped = await good(volume.fs.create(ROOT, root, 'c', GUARDED))
    expect(wrapped.object.attributes.fileid).toBe(fileid)
    expect(wrapped.object.handle.slice(16, 20)).toEqual(new Uint8Array([1, 0, 0, 0]))
    expect(await statusOf(volume.fs.getattr(last.object.handle))).toBe('STALE')
    expect(await statusOf(volume.fs.getattr(wrapped.object.handle))).toBe('OK')
  })
})
