/** `.snapshot` as an NFS client meets it: over TCP, over the real file and block layers on simulated media. */
import { afterEach, describe, expect, test } from '@jest/globals'
import { FilerVfs } from '../core/filer/filer-vfs.ts'
import { SnapshotView } from '../core/filer/snapshot-view.ts'
import { env } from '../core/fs/testing/harness.ts'
import { Stack } from '../core/fs/testing/stack.ts'
import type { NfsClient } from './client/nfs-client.ts'
import { Loopback } from './testing/loopback.ts'

const bytes = (text: string): Buffer => Buffer.from(text)

class Served {
  readonly stack: Stack
  readonly client: NfsClient
  readonly root: Uint8Array
  readonly close: () => void

  private constructor(stack: Stack, loopback: Loopback, root: Uint8Array) {
    this.stack = stack
    this.client = loopback.client()
    this.root = root
    this.close = () => loopback.close()
  }

  static async start(): Promise<Served> {
    const stack = new Stack(9)
    await stack.make()
    const volume = stack.aggregate.volume('v')!
    const root = await volume.content.rootHandle()
    const rules = [{ clients: ['127.0.0.0/8'], access: 'ReadWrite' as const, squash: 'None' as const }]
    const entry = {
      files: new SnapshotView(env, volume, stack.journal),
      export: { path: '/v', volume: 'v', rules, root },
    }
    const vfs = new FilerVfs({
      byFsid: (fsid) => (fsid === volume.fsid ? entry : undefined),
      opening: () => false,
      served: () => [entry],
    })
    return new Served(stack, await Loopback.start(vfs), root)
  }

  async make(name: string): Promise<void> {
    const created = 1_700_000_000
    const made = this.stack.aggregate.makeSnapshot('v', { name, requestId: '', created })
    await this.stack.consistencyPoint()
    await made
  }

  async remove(name: string): Promise<void> {
    const removed = this.stack.aggregate.removeSnapshot('v', name, '')
    await this.stack.consistencyPoint()
    await removed
  }

  async write(path: string, text: string): Promise<Uint8Array> {
    const { handle } = await this.client.create(this.root, path)
    await this.client.write(handle!, 0, bytes(text))
    return handle!
  }

  async text(handle: Uint8Array): Promise<string> {
    return Buffer.from((await this.client.read(handle, 0, 1000)).data).toString()
  }
}

let served: Served
afterEach(() => served.close())

describe('.snapshot', () => {
  test('is found in the root directory alone, is listed nowhere, and lists the snapshots', async () => {
    served = await Served.start()
    const { client, root } = served
    const empty = await client.lookup(root, '.snapshot')
    expect((await client.list(empty.handle)).map(({ name }) => name)).toEqual([])
    await client.mkdir(root, 'dir')
    await served.make('one')
    await served.make('two')
    expect((await client.list(root)).map(({ name }) => name).sort()).toEqual(['dir'])
    const dir = await client.lookup(root, 'dir')
    await expect(client.lookup(dir.handle, '.snapshot')).rejects.toMatchObject({ status: 'NOENT' })
    const snapshots = await client.lookup(root, '.snapshot')
    expect(snapshots.attributes).toMatchObject({ type: 'DIR', mode: 0o555, fileid: 1, nlink: 4, fsid: 5 })
    expect(snapshots.attributes.mtime).not.toEqual(empty.attributes.mtime)
    const names = await client.list(snapshots.handle)
    expect(names.map(({ name }) => name)).toEqual(['one', 'two'])
    const plus = await client.readdirplus(snapshots.handle)
    expect(plus.entries.map(({ name }) => name)).toEqual(['.', '..', 'one', 'two'])
    for (const entry of plus.entries) {
      const found = await client.lookup(snapshots.handle, entry.name)
      expect(entry.object?.handle).toEqual(found.handle)
      expect(entry.fileid).toBe(found.attributes.fileid)
    }
    const two = await client.lookup(snapshots.handle, 'two')
    expect((await client.lookup(two.handle, '..')).handle).toEqual(snapshots.handle)
    expect((await client.lookup(snapshots.handle, '..')).handle).toEqual(Buffer.from(root))
    await expect(client.lookup(snapshots.handle, 'three')).rejects.toMatchObject({ status: 'NOENT' })
    await expect(client.read(snapshots.handle, 0, 10)).rejects.toMatchObject({ status: 'ISDIR' })
    expect(await client.access(snapshots.handle, 0x3f)).toBe(0x03)
  })

  test('leads to the files as they were, for reading only, on a file system of their own', async () => {
    served = await Served.start()
    const { client, root } = served
    const file = await served.write('file', 'before')
    await client.symlink(root, 'link', 'file')
    await served.make('one')
    await client.write(file, 0, bytes('behind'))
    await client.remove(root, 'link')
    const later = await served.write('later', 'x')
    await served.stack.consistencyPoint()

    const old = await client.resolve(root, '.snapshot/one/file')
    expect(await served.text(old)).toBe('before')
    expect(await served.text(file)).toBe('behind')
    expect(await client.readlink(await client.resolve(root, '.snapshot/one/link'))).toBe('file')
    const [now, then] = [await client.getattr(file), await client.getattr(old)]
    expect(then.fileid).toBe(now.fileid)
    expect(then.fsid).not.toBe(now.fsid)
    const one = await client.resolve(root, '.snapshot/one')
    expect((await client.list(one)).map(({ name }) => name).sort()).toEqual(['file', 'link'])
    expect((await client.fsstat(one)).freeBytes).toBe(0)
    expect(await client.access(old, 0x3f)).toBe(0x01)

    const snapshots = await client.resolve(root, '.snapshot')
    for (const directory of [one, snapshots]) {
      await expect(client.create(directory, 'new')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.mkdir(directory, 'new')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.symlink(directory, 'new', 'x')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.remove(directory, 'file')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.rmdir(directory, 'one')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.link(later, directory, 'new')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.rename(directory, 'file', root, 'x')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.rename(root, 'later', directory, 'x')).rejects.toMatchObject({ status: 'ROFS' })
      await expect(client.setattr(directory, { mode: 0 })).rejects.toMatchObject({ status: 'ROFS' })
    }
    await expect(client.write(old, 0, bytes('x'))).rejects.toMatchObject({ status: 'ROFS' })
    await expect(client.link(old, root, 'new')).rejects.toMatchObject({ status: 'ROFS' })
    expect(await served.text(old)).toBe('before')
    expect(await served.stack.problems()).toEqual([])
  })

  test('is a name that nothing in the root directory can have', async () => {
    served = await Served.start()
    const { client, root } = served
    await served.write('file', 'x')
    await expect(client.create(root, '.snapshot')).rejects.toMatchObject({ status: 'EXIST' })
    await expect(client.mkdir(root, '.snapshot')).rejects.toMatchObject({ status: 'EXIST' })
    await expect(client.rmdir(root, '.snapshot')).rejects.toMatchObject({ status: 'ACCES' })
    await expect(client.rename(root, '.snapshot', root, 'x')).rejects.toMatchObject({ status: 'ACCES' })
    await expect(client.rename(root, 'file', root, '.snapshot')).rejects.toMatchObject({ status: 'ACCES' })
    const { handle } = await client.mkdir(root, 'dir')
    expect((await client.create(handle!, '.snapshot')).handle).toBeDefined()
  })

  test('handles of a deleted snapshot are STALE, also when its blocks hold something else', async () => {
    served = await Served.start()
    const { client, root, stack } = served
    const file = await served.write('file', 'before')
    await served.make('one')
    await client.write(file, 0, bytes('behind'))
    await stack.consistencyPoint()
    const [one, old] = [
      await client.resolve(root, '.snapshot/one'),
      await client.resolve(root, '.snapshot/one/file'),
    ]
    await served.remove('one')
    for (let i = 0; i < 40; i++) await served.write(`more${i}`, 'more')
    await stack.consistencyPoint()
    await expect(client.getattr(one)).rejects.toMatchObject({ status: 'STALE' })
    await expect(client.read(old, 0, 10)).rejects.toMatchObject({ status: 'STALE' })
    await expect(client.write(old, 0, bytes('x'))).rejects.toMatchObject({ status: 'STALE' })
    await served.make('one')
    await expect(client.getattr(one)).rejects.toMatchObject({ status: 'STALE' })
    expect(await stack.problems()).toEqual([])
  })
})

describe('a restored volume', () => {
  test('has the files of the snapshot; what was made since is STALE for ever, and times go on growing', async () => {
    served = await Served.start()
    const { client, root, stack } = served
    const file = await served.write('file', 'before')
    const gone = await served.write('gone', 'x')
    await served.make('one')
    await client.write(file, 0, bytes('behind'))
    await client.remove(root, 'gone')
    const since = await served.write('since', 'new')
    await served.make('two')
    const changed = await client.getattr(file)
    const { snapshots } = stack.aggregate.volume('v')!
    // Beside a consistency point, with changes that are in none yet.
    await stack.startPoint()
    const fresh = await served.write('fresh', 'new')
    stack.aggregate.restoreVolume('v', snapshots.named('one')!.id, 'r', changed.ctime.seconds)
    expect(await served.text(file)).toBe('before')
    expect(await served.text(gone)).toBe('x')
    await expect(client.getattr(since)).rejects.toMatchObject({ status: 'STALE' })
    await expect(client.getattr(fresh)).rejects.toMatchObject({ status: 'STALE' })
    const later = await client.getattr(file)
    expect(later.ctime.seconds).toBeGreaterThan(changed.ctime.seconds)
    for (let i = 0; i < 20; i++) await served.write(`again${i}`, 'again')
    await expect(client.getattr(since)).rejects.toMatchObject({ status: 'STALE' })
    await expect(client.getattr(fresh)).rejects.toMatchObject({ status: 'STALE' })
    await stack.consistencyPoint()
    expect(await served.text(await client.resolve(root, '.snapshot/two/since'))).toBe('new')
    for (let i = 0; i < 5; i++) await stack.consistencyPoint()
    expect(await stack.problems()).toEqual([])
    expect(stack.aggregate.isBusy).toBe(false)
  })
})
