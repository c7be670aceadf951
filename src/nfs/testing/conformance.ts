/**
 * What every file system behind the server must show a client, whatever lies below: run by the tests of the protocol layer over the file
 * system in memory, and over the real one.
 */
import { describe, expect, test, beforeAll, afterAll } from '@jest/globals'
import type { NfsClient } from '../client/nfs-client.ts'
import { NfsError } from '../client/nfs-client.ts'

export interface Subject {
  readonly client: NfsClient
  readonly path: string
  close(): Promise<void> | void
}

async function status(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return 'OK'
  } catch (error) {
    if (error instanceof NfsError) return error.status
    throw error
  }
}

const bytes = (length: number, seed = 1): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed * 7) & 255))

export function conformance(name: string, open: () => Promise<Subject>): void {
  describe(name, () => {
    let subject: Subject
    let nfs: NfsClient
    let root: Uint8Array
    beforeAll(async () => {
      subject = await open()
      nfs = subject.client
      root = await nfs.mount(subject.path)
    })
    afterAll(() => subject.close())

    const directory = async (as: string): Promise<Uint8Array> => (await nfs.mkdir(root, as)).handle!

    test('MOUNT: flavours, exports, unmounting, unknown paths', async () => {
      expect(await nfs.mountFlavors(subject.path)).toEqual([1])
      expect((await nfs.exports()).map(({ path }) => path)).toContain(subject.path)
      expect(await nfs.dump()).toBe(0)
      await nfs.unmount(subject.path)
      await nfs.unmountAll()
      expect(await status(nfs.mount('/no/such/export'))).toBe('NOENT')
      await directory('mounted')
      expect((await nfs.getattr(await nfs.mount(subject.path + '/mounted'))).type).toBe('DIR')
      expect(await status(nfs.mount(subject.path + '/not-there'))).toBe('NOENT')
    })

    test('NULL, FSINFO, PATHCONF, FSSTAT', async () => {
      await nfs.null()
      const fsinfo = await nfs.fsinfo(root)
      expect(fsinfo).toMatchObject({ rtmax: 1 << 20, wtmax: 1 << 20, dtpref: 65536, properties: 0x1b })
      expect(fsinfo.timeDelta).toEqual({ seconds: 0, nanoseconds: 1 })
      expect(fsinfo.maxFileSize).toBeGreaterThanOrEqual(2 ** 44)
      expect(await nfs.pathconf(root)).toMatchObject({ nameMax: 255, noTrunc: true, caseInsensitive: false })
      const fsstat = await nfs.fsstat(root)
      expect(fsstat.freeBytes).toBeLessThanOrEqual(fsstat.totalBytes)
    })

    test('CREATE: unchecked, guarded, exclusive', async () => {
      const dir = await directory('create')
      const made = await nfs.create(dir, 'a', { mode: 'GUARDED', attributes: { mode: 0o600 } })
      expect(made.attributes).toMatchObject({ type: 'REG', mode: 0o600, size: 0, nlink: 1 })
      expect(made.wcc.before).toBeDefined()
      expect(made.wcc.after).toMatchObject({ type: 'DIR' })
      expect(await status(nfs.create(dir, 'a', { mode: 'GUARDED', attributes: {} }))).toBe('EXIST')
      await nfs.write(made.handle!, 0, bytes(100))
      const again = await nfs.create(dir, 'a', { mode: 'UNCHECKED', attributes: { size: 0 } })
      expect(again.handle).toEqual(made.handle)
      expect((await nfs.getattr(made.handle!)).size).toBe(0)
      const verifier = Buffer.from('12345678')
      const exclusive = await nfs.create(dir, 'x', { mode: 'EXCLUSIVE', verifier })
      expect((await nfs.create(dir, 'x', { mode: 'EXCLUSIVE', verifier })).handle).toEqual(exclusive.handle)
      const other = Buffer.from('abcdefgh')
      expect(await status(nfs.create(dir, 'x', { mode: 'EXCLUSIVE', verifier: other }))).toBe('EXIST')
    })

    test('WRITE and READ: sizes, offsets, end of file, holes', async () => {
      const dir = await directory('io')
      const file = (await nfs.create(dir, 'f')).handle!
      for (const [offset, length] of [
        [0, 1],
        [0, 4096],
        [4095, 3],
        [10_000, 65_537],
        [0, 1 << 20],
        [(1 << 20) - 5, 1 << 20],
      ] as const) {
        const data = bytes(length, offset)
        const written = await nfs.write(file, offset, data)
        expect([written.count, written.committed]).toEqual([length, 'FILE_SYNC'])
        expect(written.wcc.after!.size).toBeGreaterThanOrEqual(offset + length)
        const read = await nfs.read(file, offset, length)
        expect(Buffer.compare(read.data, data)).toBe(0)
      }
      const { size } = await nfs.getattr(file)
      expect(size).toBe(2 * (1 << 20) - 5)
      const end = await nfs.read(file, size - 10, 100)
      expect([end.data.byteLength, end.eof]).toEqual([10, true])
      const beyond = await nfs.read(file, size + 10, 100)
      expect([beyond.data.byteLength, beyond.eof]).toEqual([0, true])
      await nfs.write(file, size + 10_000, bytes(1))
      expect((await nfs.read(file, size, 10_000)).data.every((byte) => byte === 0)).toBe(true)
      const unstable = await nfs.write(file, 0, bytes(5), 'UNSTABLE')
      expect((await nfs.commit(file)).verifier).toEqual(unstable.verifier)
      expect(await status(nfs.read(dir, 0, 1))).toMatch(/INVAL|ISDIR/)
    })

    test('SETATTR: mode, owner, times, truncation, guard', async () => {
      const dir = await directory('setattr')
      const file = (await nfs.create(dir, 'f')).handle!
      await nfs.write(file, 0, bytes(9000))
      const mtime = { seconds: 1_234_567_890, nanoseconds: 123_456_789 }
      await nfs.setattr(file, { mode: 0o640, uid: 7, gid: 8, mtime, atime: 'now' })
      const before = await nfs.getattr(file)
      expect(before).toMatchObject({ mode: 0o640, uid: 7, gid: 8, mtime })
      const stale = { seconds: 1, nanoseconds: 1 }
      expect(await status(nfs.setattr(file, { size: 1 }, stale))).toBe('NOT_SYNC')
      const wcc = await nfs.setattr(file, { size: 5000 }, before.ctime)
      expect(wcc.before!.size).toBe(9000)
      expect(wcc.after!.size).toBe(5000)
      await nfs.setattr(file, { size: 9000 })
      const { data } = await nfs.read(file, 0, 9000)
      expect(Buffer.compare(data.subarray(0, 5000), bytes(9000).subarray(0, 5000))).toBe(0)
      expect(data.subarray(5000).every((byte) => byte === 0)).toBe(true)
    })

    test('LOOKUP, ACCESS, and names that are no ASCII', async () => {
      const dir = await directory('lookup')
      const utf8 = Buffer.from('Grüße, 世界').toString('latin1')
      const made = await nfs.create(dir, utf8)
      const found = await nfs.lookup(dir, utf8)
      expect(found.handle).toEqual(made.handle)
      expect(found.directory).toMatchObject({ type: 'DIR' })
      expect((await nfs.lookup(dir, '.')).handle).toEqual(dir)
      expect((await nfs.lookup(dir, '..')).handle).toEqual(root)
      expect(await status(nfs.lookup(dir, 'nothing'))).toBe('NOENT')
      expect(await status(nfs.lookup(made.handle!, 'x'))).toBe('NOTDIR')
      expect(await status(nfs.create(dir, 'n'.repeat(256)))).toBe('NAMETOOLONG')
      await nfs.create(dir, 'n'.repeat(255))
      expect((await nfs.access(dir, 0x3f)) & 0x01).toBe(0x01)
    })

    test('SYMLINK, READLINK, MKNOD', async () => {
      const dir = await directory('special')
      const link = await nfs.symlink(dir, 'l', '../somewhere/else')
      expect(link.attributes).toMatchObject({ type: 'LNK' })
      expect(await nfs.readlink(link.handle!)).toBe('../somewhere/else')
      expect(await status(nfs.readlink(dir))).toBe('INVAL')
      const fifo = await nfs.mknod(dir, 'fifo', 'FIFO', { mode: 0o600 })
      expect(fifo.attributes).toMatchObject({ type: 'FIFO' })
      const device = await nfs.mknod(dir, 'dev', 'CHR', { mode: 0o600 }, 4, 64)
      expect(device.attributes).toMatchObject({ type: 'CHR', rdevMajor: 4, rdevMinor: 64 })
    })

    test('REMOVE, RMDIR, LINK, and what is gone is STALE', async () => {
      const dir = await directory('remove')
      const file = (await nfs.create(dir, 'f')).handle!
      const linked = await nfs.link(file, dir, 'g')
      expect(linked.attributes).toMatchObject({ nlink: 2 })
      expect(await status(nfs.link(file, dir, 'g'))).toBe('EXIST')
      const wcc = await nfs.remove(dir, 'f')
      expect(wcc.before).toBeDefined()
      expect((await nfs.getattr(file)).nlink).toBe(1)
      await nfs.remove(dir, 'g')
      expect(await status(nfs.getattr(file))).toBe('STALE')
      expect(await status(nfs.remove(dir, 'g'))).toBe('NOENT')
      const child = (await nfs.mkdir(dir, 'd')).handle!
      expect((await nfs.getattr(dir)).nlink).toBe(3)
      await nfs.create(child, 'x')
      expect(await status(nfs.rmdir(dir, 'd'))).toBe('NOTEMPTY')
      expect(await status(nfs.remove(dir, 'd'))).toMatch(/ISDIR|PERM/)
      await nfs.remove(child, 'x')
      await nfs.rmdir(dir, 'd')
      expect((await nfs.getattr(dir)).nlink).toBe(2)
      expect(await status(nfs.getattr(child))).toBe('STALE')
    })

    test('RENAME: within, across, over', async () => {
      const a = await directory('rename-a')
      const b = await directory('rename-b')
      const file = (await nfs.create(a, 'f')).handle!
      const over = (await nfs.create(b, 'g')).handle!
      const both = await nfs.rename(a, 'f', b, 'g')
      expect(both.from.before).toBeDefined()
      expect(both.to.after).toBeDefined()
      expect((await nfs.lookup(b, 'g')).handle).toEqual(file)
      expect(await status(nfs.getattr(over))).toBe('STALE')
      expect(await status(nfs.lookup(a, 'f'))).toBe('NOENT')
      expect(await status(nfs.rename(a, 'f', b, 'h'))).toBe('NOENT')
      const inner = (await nfs.mkdir(a, 'inner')).handle!
      expect(await status(nfs.rename(root, 'rename-a', inner, 'x'))).toBe('INVAL')
      await nfs.rename(a, 'inner', b, 'moved')
      expect((await nfs.lookup(inner, '..')).handle).toEqual(b)
    })

    test('READDIR and READDIRPLUS: limits in bytes, cookies that survive removals', async () => {
      const dir = await directory('readdir')
      const names = Array.from({ length: 300 }, (_, i) => `entry-${String(i).padStart(5, '0')}`)
      await Promise.all(names.map((entry) => nfs.create(dir, entry)))
      const listed = await nfs.list(dir)
      expect(listed.map((entry) => entry.name).sort()).toEqual(names)
      for (const entry of listed) expect(entry.object?.attributes.fileid).toBe(entry.fileid)

      const seen: string[] = []
      let cookie = 0
      let verifier: Uint8Array = Buffer.alloc(8)
      for (let eof = false; !eof;) {
        const part = await nfs.readdir(dir, cookie, verifier, 1024)
        expect(part.entries.length).toBeGreaterThan(0)
        seen.push(...part.entries.map((entry) => entry.name))
        ;({ eof, verifier } = part)
        cookie = part.entries.at(-1)!.cookie
        // Removing what was seen must not move what was not.
        const seenNow = part.entries.filter((entry) => names.includes(entry.name))
        await Promise.all(seenNow.slice(0, 3).map((entry) => nfs.remove(dir, entry.name)))
      }
      expect(seen.filter((entry) => entry !== '.' && entry !== '..').sort()).toEqual(names)

      expect(await status(nfs.readdir(dir, 0, Buffer.alloc(8), 110))).toBe('TOOSMALL')
      expect((await nfs.readdirplus(dir, 0, Buffer.alloc(8), 65536, 24)).entries).toHaveLength(1)
      expect(await status(nfs.readdir((await nfs.create(dir, 'file')).handle!))).toBe('NOTDIR')
    })

    test('handles that are none', async () => {
      expect(await status(nfs.getattr(Buffer.alloc(32)))).toMatch(/BADHANDLE|STALE/)
      expect(await status(nfs.getattr(Buffer.alloc(5)))).toBe('BADHANDLE')
      expect(await status(nfs.remove(Buffer.alloc(64), 'x'))).toMatch(/BADHANDLE|STALE/)
    })
  })
}
