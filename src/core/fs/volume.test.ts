import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { isPromise } from '../std/maybe.ts'
import type { Caller, Duplicate, MakeResult, RemoveResult } from '../vfs/vfs.ts'
import { DUAL, SINGLE } from './block-store.ts'
import { good, now, problemsOf, ROOT, statusOf, Volume } from './testing/harness.ts'
import { loaded, Tree } from './tree.ts'

const UNCHECKED = { mode: 'UNCHECKED', attributes: {} } as const
const GUARDED = { mode: 'GUARDED', attributes: {} } as const
const alice: Caller = { uid: 1000, gid: 100, gids: [100, 200] }
const bob: Caller = { uid: 1001, gid: 100, gids: [] }
const bytes = (text: string) => new TextEncoder().encode(text)
const reserve = (length: number) => new Uint8Array(length).fill(0xee)

async function file(volume: Volume, name: string, caller = ROOT, mode = 0o644) {
  const how = { mode: 'UNCHECKED', attributes: { mode } } as const
  return (await good(volume.fs.create(caller, await volume.root(), name, how))).object.handle
}
async function directory(volume: Volume, parent: Uint8Array, name: string, caller = ROOT, mode = 0o755) {
  return (await good(volume.fs.mkdir(caller, parent, name, { mode }))).object.handle
}
async function contentOf(volume: Volume, handle: Uint8Array, offset = 0, count = 1 << 20) {
  return (await good(volume.fs.read(ROOT, handle, offset, count, reserve))).data
}
async function attributesOf(volume: Volume, handle: Uint8Array) {
  return (await good(volume.fs.getattr(handle))).attributes
}

describe.each([SINGLE, DUAL])('a volume, $name pointers', (format) => {
  test('keeps what is written, across blocks and holes', async () => {
    const volume = Volume.make(format)
    const handle = await file(volume, 'f')
    await good(volume.fs.write(ROOT, handle, 4090, bytes('hello world'), 'UNSTABLE'))
    await good(volume.fs.write(ROOT, handle, 2 ** 43, bytes('far'), 'UNSTABLE'))
    expect(await contentOf(volume, handle, 4088, 16)).toEqual(bytes('\0\0hello world\0\0\0'))
    expect(await contentOf(volume, handle, 2 ** 43 - 1, 100)).toEqual(bytes('\0far'))
    const { size, used } = await attributesOf(volume, handle)
    expect(size).toBe(2 ** 43 + 3)
    expect(used).toBeLessThan(20 * BLOCK_BYTES)
  })

  test('what is in memory needs no promise', async () => {
    const volume = Volume.make(format)
    const handle = await file(volume, 'f')
    const root = await volume.root()
    expect(now(volume.fs.write(ROOT, handle, 0, new Uint8Array(BLOCK_BYTES).fill(1), 'FILE_SYNC')).ok).toBe(
      true,
    )
    expect(now(volume.fs.read(ROOT, handle, 0, BLOCK_BYTES, reserve)).ok).toBe(true)
    expect(now(volume.fs.lookup(ROOT, root, 'f')).ok).toBe(true)
    expect(now(volume.fs.getattr(handle)).ok).toBe(true)
  })

  test('a full overwrite of a block does not read the old one, nor does one up to the end of the file', async () => {
    const volume = Volume.make(format)
    const handle = await file(volume, 'f')
    await good(volume.fs.write(ROOT, handle, 0, new Uint8Array(3 * BLOCK_BYTES - 5).fill(1), 'FILE_SYNC'))
    volume.store.freeze()
    volume.store.forget()
    const write = async (offset: number, length: number) => {
      await good(volume.fs.write(ROOT, handle, offset, new Uint8Array(length).fill(2), 'FILE_SYNC'))
      return volume.store.loads
    }
    // The inode's block alone is loaded.
    expect(await write(BLOCK_BYTES, BLOCK_BYTES)).toBe(1)
    expect(await write(2 * BLOCK_BYTES, BLOCK_BYTES - 5)).toBe(1)
    expect(await write(0, 5)).toBe(2)
  })

  test('an answer waits for the last change of what it shows, and for nothing else', async () => {
    const volume = Volume.make(format)
    const a = await file(volume, 'a')
    const b = await file(volume, 'b')
    await good(volume.fs.write(ROOT, a, 0, bytes('x'), 'UNSTABLE'))
    const { answered, records } = volume.journal
    expect(answered[answered.length - 1]).toBe(records.length)
    await good(volume.fs.getattr(b))
    expect(answered[answered.length - 1]).toBe(records.length - 1)
    await good(volume.fs.commit(ROOT, a, 0, 0))
    expect(answered[answered.length - 1]).toBe(records.length)
    let open = () => {}
    volume.journal.gate = new Promise<void>((resolve) => (open = resolve))
    const pending = volume.fs.getattr(a)
    expect(isPromise(pending)).toBe(true)
    open()
    expect((await pending).ok).toBe(true)
  })

  test('damage costs EIO for its range only', async () => {
    const volume = Volume.make(format)
    const handle = await file(volume, 'f')
    const before = volume.store.numbers()
    await good(volume.fs.write(ROOT, handle, 0, new Uint8Array(BLOCK_BYTES).fill(1), 'FILE_SYNC'))
    const bn = [...volume.store.numbers()].find((number) => !before.has(number))!
    await good(volume.fs.write(ROOT, handle, BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(2), 'FILE_SYNC'))
    volume.store.freeze()
    volume.store.damaged.add(bn)
    expect(await statusOf(volume.fs.read(ROOT, handle, 0, 10, reserve))).toBe('IO')
    expect(await statusOf(volume.fs.write(ROOT, handle, 5, bytes('x'), 'FILE_SYNC'))).toBe('IO')
    expect((await contentOf(volume, handle, BLOCK_BYTES, 1))[0]).toBe(2)
    await good(volume.fs.write(ROOT, handle, 0, new Uint8Array(BLOCK_BYTES).fill(3), 'FILE_SYNC'))
    expect((await contentOf(volume, handle, 0, 1))[0]).toBe(3)
  })

  test('calls at once that all miss are each done once, and leave a consistent volume', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    for (let i = 0; i < 300; i++) await good(volume.fs.mknod(ROOT, root, `old-${i}`, 'FIFO', {}, 0, 0))
    volume.store.freeze()
    volume.store.forget()
    const calls = Array.from({ length: 300 }, (_, i) => [
      statusOf(volume.fs.create(ROOT, root, `new-${i % 200}`, GUARDED)),
      statusOf(volume.fs.remove(ROOT, root, `old-${i}`)),
      statusOf(volume.fs.rename(ROOT, root, `new-${i % 200}`, root, `moved-${i % 100}`)),
    ])
    const counts = new Map<string, number>()
    for (const status of await Promise.all(calls.flat())) counts.set(status, (counts.get(status) ?? 0) + 1)
    expect([...counts.keys()].filter((status) => !['OK', 'EXIST', 'NOENT'].includes(status))).toEqual([])
    for (let i = 0; i < 300; i++)
      expect(await statusOf(volume.fs.lookup(ROOT, root, `old-${i}`))).toBe('NOENT')
    volume.store.freeze()
    expect(await problemsOf(volume.store, volume.fs.freeze())).toEqual([])
  })

  test('what does not fit is refused before it is logged, and a full volume can be emptied', async () => {
    const volume = Volume.make(format, 200)
    volume.store.strict = true
    const root = await volume.root()
    const handles = []
    let status = 'OK'
    for (let i = 0; status === 'OK'; i++) {
      const handle = await file(volume, `f${i}`).catch(() => undefined)
      if (handle === undefined) break
      handles.push(`f${i}`)
      const records = volume.journal.records.length
      status = await statusOf(volume.fs.write(ROOT, handle, 0, new Uint8Array(40000), 'UNSTABLE'))
      if (status !== 'OK') expect(volume.journal.records.length).toBe(records)
    }
    expect(status).toBe('NOSPC')
    for (const name of handles) {
      volume.store.freeze()
      await good(volume.fs.remove(ROOT, root, name))
    }
    expect(volume.fs.files).toBe(1)
  })
})

describe.each([SINGLE, DUAL])('names, $name pointers', (format) => {
  test('the corner cases of rename', async () => {
    const volume = Volume.make(format)
    const { fs } = volume
    const root = await volume.root()
    const a = await directory(volume, root, 'a')
    const b = await directory(volume, a, 'b')
    const rename = (from: Uint8Array, fromName: string, to: Uint8Array, toName: string) =>
      statusOf(fs.rename(ROOT, from, fromName, to, toName))
    expect(await rename(root, 'a', b, 'x')).toBe('INVAL')
    expect(await rename(root, 'a', a, 'x')).toBe('INVAL')
    expect(await rename(root, 'a', root, 'a')).toBe('OK')
    expect(await rename(root, '.', root, 'x')).toBe('INVAL')
    expect(await rename(root, 'gone', root, 'x')).toBe('NOENT')
    await file(volume, 'f')
    expect(await rename(root, 'f', root, 'a')).toBe('ISDIR')
    expect(await rename(root, 'a', root, 'f')).toBe('NOTDIR')
    const c = await directory(volume, root, 'c')
    expect(await rename(root, 'c', root, 'a')).toBe('NOTEMPTY')
    expect(await rename(a, 'b', c, 'b2')).toBe('OK')
    const parent = await good(fs.lookup(ROOT, b, '..'))
    expect(parent.object.handle).toEqual(c)
    expect([(await attributesOf(volume, a)).nlink, (await attributesOf(volume, c)).nlink]).toEqual([2, 3])
    expect(await rename(root, 'c', root, 'a')).toBe('OK')
    expect(await statusOf(fs.getattr(a))).toBe('STALE')
    expect((await attributesOf(volume, root)).nlink).toBe(3)
    // Two names of one object: nothing happens.
    const f = (await good(fs.lookup(ROOT, root, 'f'))).object.handle
    await good(fs.link(ROOT, f, root, 'g'))
    expect(await rename(root, 'f', root, 'g')).toBe('OK')
    expect((await attributesOf(volume, f)).nlink).toBe(2)
  })

  test('removal: types, emptiness, hard links, and the handle afterwards', async () => {
    const volume = Volume.make(format)
    const { fs } = volume
    const root = await volume.root()
    const d = await directory(volume, root, 'd')
    await directory(volume, d, 'e')
    const f = await file(volume, 'f')
    expect(await statusOf(fs.remove(ROOT, root, 'd'))).toBe('ISDIR')
    expect(await statusOf(fs.rmdir(ROOT, root, 'f'))).toBe('NOTDIR')
    expect(await statusOf(fs.rmdir(ROOT, root, 'd'))).toBe('NOTEMPTY')
    expect(await statusOf(fs.rmdir(ROOT, root, '.'))).toBe('INVAL')
    await good(fs.link(ROOT, f, d, 'l'))
    await good(fs.remove(ROOT, root, 'f'))
    expect((await attributesOf(volume, f)).nlink).toBe(1)
    await good(fs.remove(ROOT, d, 'l'))
    expect(await statusOf(fs.getattr(f))).toBe('STALE')
    const again = await file(volume, 'again')
    expect((await attributesOf(volume, again)).fileid).toBeDefined()
    expect(await statusOf(fs.getattr(f))).toBe('STALE')
  })

  test('permissions: bits, groups, owner override, sticky, set-id', async () => {
    const volume = Volume.make(format)
    const { fs } = volume
    const root = await volume.root()
    await good(fs.setattr(ROOT, root, { mode: 0o1777 }))
    const f = await file(volume, 'f', alice, 0o600)
    expect(await statusOf(fs.read(bob, f, 0, 1, reserve))).toBe('ACCES')
    expect(await statusOf(fs.setattr(bob, f, { mode: 0o777 }))).toBe('PERM')
    await good(fs.setattr(alice, f, { mode: 0 }))
    expect(await statusOf(fs.read(alice, f, 0, 1, reserve))).toBe('OK')
    expect((await good(fs.access(alice, f, 0x3f))).access).toBe(0)
    expect(await statusOf(fs.setattr(alice, f, { uid: 0 }))).toBe('PERM')
    expect(await statusOf(fs.setattr(alice, f, { gid: 300 }))).toBe('PERM')
    await good(fs.setattr(alice, f, { gid: 200, mode: 0o4755 }))
    expect(await statusOf(fs.remove(bob, root, 'f'))).toBe('PERM')
    expect(await statusOf(fs.rename(bob, root, 'f', root, 'g'))).toBe('PERM')
    await good(fs.setattr(ROOT, f, { mode: 0o6777 }))
    await good(fs.write(bob, f, 0, bytes('x'), 'UNSTABLE'))
    expect((await attributesOf(volume, f)).mode).toBe(0o777)
    const d = await directory(volume, root, 'd', alice, 0o700)
    expect(await statusOf(fs.lookup(bob, d, 'x'))).toBe('ACCES')
    expect(await statusOf(fs.readdir(bob, d, 0, new Uint8Array(8), 10, false))).toBe('ACCES')
    await good(fs.setattr(ROOT, d, { gid: 200, mode: 0o2777 }))
    const inherited = await good(fs.mkdir(bob, d, 's', { mode: 0o755 }))
    expect(inherited.object.attributes).toMatchObject({ uid: 1001, gid: 200, mode: 0o2755 })
  })

  test('exclusive create is known again by its verifier', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    const how = { mode: 'EXCLUSIVE', verifier: bytes('12345678') } as const
    const first = await good(volume.fs.create(ROOT, root, 'x', how))
    const second = await good(volume.fs.create(ROOT, root, 'x', how))
    expect(second.object.handle).toEqual(first.object.handle)
    const other = { mode: 'EXCLUSIVE', verifier: bytes('87654321') } as const
    expect(await statusOf(volume.fs.create(ROOT, root, 'x', other))).toBe('EXIST')
    expect(await statusOf(volume.fs.create(ROOT, root, 'x', GUARDED))).toBe('EXIST')
    await good(volume.fs.write(ROOT, first.object.handle, 0, bytes('abc'), 'FILE_SYNC'))
    const cut = await good(volume.fs.create(ROOT, root, 'x', { mode: 'UNCHECKED', attributes: { size: 0 } }))
    expect(cut.object.attributes.size).toBe(0)
    await good(volume.fs.create(ROOT, root, 'x', UNCHECKED))
  })

  test('special files and links keep what they are given', async () => {
    const volume = Volume.make(format)
    const { fs } = volume
    const root = await volume.root()
    for (const path of ['short', 'p'.repeat(128), 'q'.repeat(129), 'r'.repeat(1024)]) {
      const made = await good(fs.symlink(ROOT, root, `l${path.length}`, path, {}))
      expect((await good(fs.readlink(ROOT, made.object.handle))).path).toBe(path)
      expect(made.object.attributes.size).toBe(path.length)
    }
    expect(await statusOf(fs.symlink(ROOT, root, 'long', 's'.repeat(1025), {}))).toBe('NAMETOOLONG')
    const device = await good(fs.mknod(ROOT, root, 'dev', 'BLK', { mode: 0o600 }, 8, 17))
    expect(device.object.attributes).toMatchObject({ type: 'BLK', rdevMajor: 8, rdevMinor: 17 })
    for (const type of ['SOCK', 'FIFO'] as const) {
      expect((await good(fs.mknod(ROOT, root, type, type, {}, 1, 2))).object.attributes).toMatchObject({
        type,
        rdevMajor: 0,
      })
    }
    expect(await statusOf(fs.mkdir(ROOT, root, 'n'.repeat(256), {}))).toBe('NAMETOOLONG')
    expect(await statusOf(fs.mkdir(ROOT, root, 'n'.repeat(255), {}))).toBe('OK')
    expect(await statusOf(fs.mkdir(ROOT, root, 'a/b', {}))).toBe('INVAL')
  })

  test('handles that are not ours are refused', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    const bad = root.slice()
    bad[9] = 1
    expect(await statusOf(volume.fs.getattr(bad))).toBe('BADHANDLE')
    expect(await statusOf(volume.fs.getattr(new Uint8Array(3)))).toBe('BADHANDLE')
  })
})

describe.each([SINGLE, DUAL])('a retransmission, $name pointers', (format) => {
  const key = { machine: 'client', xid: 77, procedure: 12, checksum: 5 }
  const removal: Duplicate<RemoveResult> = {
    key,
    encode: (result) => bytes(result.ok ? 'done' : result.status),
  }

  test('gets the first answer, also after a replay elsewhere and from the image', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    await file(volume, 'f')
    const image = volume.image()
    expect(await volume.fs.duplicate(root, key)).toBeUndefined()
    await good(volume.fs.remove(ROOT, root, 'f', removal))
    expect(await volume.fs.duplicate(root, key)).toEqual(bytes('done'))
    const refused = { ...removal, key: { ...key, xid: 78 } }
    expect(await statusOf(volume.fs.remove(ROOT, root, 'f', refused))).toBe('NOENT')
    const partner = new Volume(image.store, image.root)
    for (const record of volume.journal.records.slice(image.records)) await partner.fs.replay(record)
    expect(await partner.fs.duplicate(root, key)).toEqual(bytes('done'))
    expect(await partner.fs.duplicate(root, refused.key)).toEqual(bytes('NOENT'))
    const later = volume.image()
    later.store.forget()
    expect(await new Volume(later.store, later.root).fs.duplicate(root, key)).toEqual(bytes('done'))
  })

  test('waits for a call that is still under way', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    await file(volume, 'f')
    volume.store.freeze()
    volume.store.forget()
    const first = volume.fs.remove(ROOT, root, 'f', removal)
    expect(isPromise(first)).toBe(true)
    expect(await volume.fs.duplicate(root, key)).toEqual(bytes('done'))
    expect((await first).ok).toBe(true)
  })

  test('is remembered for the last 2048 calls', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    const make = (xid: number): Duplicate<MakeResult> => ({
      key: { ...key, xid },
      encode: () => bytes(`${xid}`),
    })
    await good(volume.fs.mkdir(ROOT, root, 'd', {}, make(0)))
    for (let xid = 1; xid <= 2048; xid++) await volume.fs.mkdir(ROOT, root, 'd', {}, make(xid))
    expect(await volume.fs.duplicate(root, { ...key, xid: 0 })).toBeUndefined()
    for (const xid of [1, 1000, 2048]) {
      expect(await volume.fs.duplicate(root, { ...key, xid })).toEqual(bytes(`${xid}`))
    }
  })
})

describe.each([SINGLE, DUAL])('big files, $name pointers', (format) => {
  const blocks = 5000

  async function bigFile(volume: Volume) {
    const handle = await file(volume, 'big')
    for (let i = 0; i < blocks; i += 250) {
      await good(
        volume.fs.write(ROOT, handle, i * BLOCK_BYTES, new Uint8Array(250 * BLOCK_BYTES).fill(9), 'UNSTABLE'),
      )
    }
    return handle
  }

  test('are removed at once and freed in slices, which a replay repeats', async () => {
    const volume = Volume.make(format)
    const root = await volume.root()
    const empty = volume.store.used
    const handle = await bigFile(volume)
    const image = volume.image()
    await good(volume.fs.remove(ROOT, root, 'big'))
    expect(await statusOf(volume.fs.getattr(handle))).toBe('STALE')
    expect(volume.store.used).toBeGreaterThan(blocks - 1100)
    expect(await volume.fs.reclaim(1)).toBe(false)
    const half = volume.image()
    expect(await volume.fs.reclaim()).toBe(true)
    expect(volume.store.used).toBeLessThanOrEqual(empty + 2)
    expect(volume.fs.files).toBe(1)
    for (const start of [image, half]) {
      start.store.forget()
      const partner = new Volume(start.store, start.root)
      for (const record of volume.journal.records.slice(start.records)) await partner.fs.replay(record)
      expect(partner.fs.freeze()).toHaveLength(volume.fs.freeze().length)
      expect([partner.store.used, partner.fs.files]).toEqual([volume.store.used, 1])
    }
  })

  test('that are cut short grow again over nothing but zeroes', async () => {
    const volume = Volume.make(format)
    const handle = await bigFile(volume)
    volume.store.freeze()
    await good(volume.fs.setattr(ROOT, handle, { size: 10000 }))
    expect((await attributesOf(volume, handle)).used).toBeGreaterThan(1000 * BLOCK_BYTES)
    await good(volume.fs.write(ROOT, handle, 20000000, bytes('end'), 'UNSTABLE'))
    expect((await attributesOf(volume, handle)).used).toBeLessThan(10 * BLOCK_BYTES)
    const content = await contentOf(volume, handle, 9990, 4000)
    expect([content[9], content[10], content[3999]]).toEqual([9, 0, 0])
    expect(await contentOf(volume, handle, 19999998, 5)).toEqual(bytes('\0\0end'))
  })

  test('a serving volume frees them by itself', async () => {
    const volume = Volume.make(format)
    await bigFile(volume)
    volume.fs.start()
    await good(volume.fs.remove(ROOT, await volume.root(), 'big'))
    await volume.fs.reclaim()
    await volume.fs.stop()
    expect(volume.store.used).toBeLessThan(20)
  })
})

test.each([SINGLE, DUAL])(
  'the walk of a tree survives blocks that must be loaded first, $name pointers',
  async (format) => {
    const volume = Volume.make(format)
    const handle = await file(volume, 'f')
    await good(volume.fs.write(ROOT, handle, 0, new Uint8Array(100 * BLOCK_BYTES), 'UNSTABLE'))
    const image = volume.image()
    image.store.forget()
    const tree = new Tree(image.store, image.root, 'inode', 128)
    const seen: number[] = []
    await tree.walk(({ bn }) => void seen.push(bn))
    expect(seen).toHaveLength(1)
    expect(await loaded(() => tree.get(0))).toHaveLength(BLOCK_BYTES)
  },
)
