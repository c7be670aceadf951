/**
 * What a client sees of damage: nothing, while one plex has the block; else an error for exactly what needs it, and everything else goes on.
 */
import { describe, expect, test } from '@jest/globals'
import { getContext } from '../block/context.ts'
import type { AggregateType } from '../block/label.ts'
import { GROUP_BLOCKS } from '../block/layout.ts'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { BlockKind } from './block-store.ts'
import { Inode } from './inode.ts'
import { good, ROOT, statusOf } from './testing/harness.ts'
import { Stack } from './testing/stack.ts'

const FILE_BLOCKS = 40
const TYPES = ['Flexible', 'Traditional'] as const
const bytes = (stamp: number): Uint8Array => new Uint8Array(BLOCK_BYTES).fill(stamp)

class Files {
  readonly stack: Stack
  readonly directory: Uint8Array
  readonly file: Uint8Array
  readonly other: Uint8Array

  private constructor(stack: Stack, directory: Uint8Array, file: Uint8Array, other: Uint8Array) {
    this.stack = stack
    this.directory = directory
    this.file = file
    this.other = other
  }

  /** A directory with many files; one of FILE_BLOCKS blocks, block n full of n+1, in several indirect blocks; another of one block. */
  static async make(seed: number, mirrored: boolean, type: AggregateType): Promise<Files> {
    const stack = new Stack(seed, type)
    stack.mirrored = mirrored
    await stack.make()
    const { fs } = stack
    const root = await fs.rootHandle()
    const made = await good(fs.mkdir(ROOT, root, 'dir', { mode: 0o755 }))
    const directory = made.object.handle
    const create = async (where: Uint8Array, name: string, uid = 0): Promise<Uint8Array> =>
      (await good(fs.create(ROOT, where, name, { mode: 'GUARDED', attributes: { mode: 0o644, uid } }))).object
        .handle
    const file = await create(directory, 'file')
    for (let n = 0; n < 60; n++) await create(directory, `filler-${n}`, n)
    const other = await create(root, 'other')
    for (let n = 0; n < FILE_BLOCKS; n++) {
      await good(fs.write(ROOT, file, n * BLOCK_BYTES, bytes(n + 1), 'FILE_SYNC'))
    }
    await good(fs.write(ROOT, other, 0, bytes(200), 'FILE_SYNC'))
    await stack.reopen()
    return new Files(stack, directory, file, other)
  }

  /** PVBNs of blocks in use of one kind, in order, and what they hold. */
  blocks(kind: BlockKind): { pvbn: number; content: Uint8Array }[] {
    const { aggregate, bed } = this.stack
    const found: { pvbn: number; content: Uint8Array }[] = []
    for (let pvbn = 1; pvbn < aggregate.layout.end; pvbn++) {
      if (!aggregate.isUsable(pvbn)) continue
      const sums = aggregate.layout.locateChecksums(Math.floor(pvbn / GROUP_BLOCKS))
      const entry = bed.media[0]![sums.device]!.read(sums.block)!
      const context = getContext(bed.env.crc32, entry, pvbn % GROUP_BLOCKS)
      const { device, block } = aggregate.layout.locate(pvbn)
      if (context?.kind === kind && context.volume > 0) {
        found.push({ pvbn, content: bed.media[0]![device]!.read(block)!.slice() })
      }
    }
    return found
  }

  /** Where block n of the file lies. */
  place(n: number): number {
    return this.blocks('data').find(({ content }) => content[0] === n + 1)!.pvbn
  }

  rot(pvbn: number, plexes: readonly number[]): void {
    const { device, block } = this.stack.aggregate.layout.locate(pvbn)
    for (const plex of plexes) this.stack.bed.media[plex]![device]!.rot(block, 12_345)
  }

  async read(n: number, count: number, file = this.file): Promise<{ status: string; stamps: number[] }> {
    const { fs } = this.stack
    const result = await fs.read(
      ROOT,
      file,
      n * BLOCK_BYTES,
      count * BLOCK_BYTES,
      (size) => new Uint8Array(size),
    )
    if (!result.ok) return { status: result.status, stamps: [] }
    const stamps: number[] = []
    for (let at = 0; at < result.data.length; at += BLOCK_BYTES) stamps.push(result.data[at]!)
    expect(result.data.length % BLOCK_BYTES).toBe(0)
    expect(result.eof).toBe(n + stamps.length === FILE_BLOCKS || file === this.other)
    return { status: 'OK', stamps }
  }
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i + 1)

describe.each(TYPES)('one plex is damaged, %s', (type) => {
  for (const plex of [0, 1]) {
    test(`plex ${plex}: every block of every kind is read right, and the own one is repaired`, async () => {
      const files = await Files.make(3 + plex, true, type)
      const { stack } = files
      const kinds: BlockKind[] = ['data', 'indirect', 'inode', 'directory']
      const bad = kinds.flatMap((kind) => files.blocks(kind))
      expect(bad.length).toBeGreaterThan(FILE_BLOCKS + 5)
      for (const { pvbn } of bad) files.rot(pvbn, [plex])
      expect(await files.read(0, FILE_BLOCKS)).toEqual({ status: 'OK', stamps: range(0, FILE_BLOCKS) })
      expect(await statusOf(stack.fs.lookup(ROOT, files.directory, 'filler-17'))).toBe('OK')
      await stack.aggregate.io.repairing.settled()
      expect(stack.aggregate.io.unrepairable.size).toBe(0)
      if (plex === 1) expect(stack.aggregate.io.damaged).toBe(0)
      else expect(stack.aggregate.io.repaired).toBeGreaterThanOrEqual(FILE_BLOCKS)
      await stack.reopen()
      expect(await files.read(0, FILE_BLOCKS)).toEqual({ status: 'OK', stamps: range(0, FILE_BLOCKS) })
      expect(stack.aggregate.io.damaged).toBe(0)
    })
  }

  test('a device that cannot read a range is answered for by the other plex, and written anew', async () => {
    const files = await Files.make(7, true, type)
    const { device, block } = files.stack.aggregate.layout.locate(files.place(20))
    let unreadable = true
    const { faults } = files.stack.bed.devices[0]![device]!
    faults.onRead = (from, blocks) => {
      if (unreadable && from <= block && block < from + blocks) throw new DeviceError('EIO', 'bad sector')
    }
    faults.onWrite = (from, blocks) => {
      if (from <= block && block < from + blocks) unreadable = false
    }
    expect(await files.read(0, FILE_BLOCKS)).toEqual({ status: 'OK', stamps: range(0, FILE_BLOCKS) })
    await files.stack.aggregate.io.repairing.settled()
    expect(unreadable).toBe(false)
  })
})

describe.each([
  ['both plexes are damaged', 'Flexible', true, [0, 1]],
  ['both plexes are damaged', 'Traditional', true, [0, 1]],
  ['there is no other plex', 'Flexible', false, [0]],
  ['there is no other plex', 'Traditional', false, [0]],
] as const)('%s, %s', (_, type, mirrored, plexes) => {
  test('a READ gives what lies before the block, then EIO for it, then what lies behind', async () => {
    const files = await Files.make(11, mirrored, type)
    files.rot(files.place(10), plexes)
    files.rot(files.place(12), plexes)
    for (let again = 0; again < 2; again++) {
      expect(await files.read(4, 20)).toEqual({ status: 'OK', stamps: range(4, 10) })
      expect(await files.read(10, 1)).toEqual({ status: 'IO', stamps: [] })
      expect(await files.read(10, 8)).toEqual({ status: 'IO', stamps: [] })
      expect(await files.read(11, 8)).toEqual({ status: 'OK', stamps: range(11, 12) })
      expect(await files.read(13, 27)).toEqual({ status: 'OK', stamps: range(13, 40) })
    }
    const { fs, aggregate } = files.stack
    expect(await statusOf(fs.getattr(files.file))).toBe('OK')
    expect(await files.read(0, 1, files.other)).toEqual({ status: 'OK', stamps: [200] })
    expect([...aggregate.io.unrepairable.keys()].sort()).toEqual([files.place(10), files.place(12)].sort())
  })

  test('a WRITE that needs the old content fails and changes nothing; one of the whole block heals it', async () => {
    const files = await Files.make(12, mirrored, type)
    const { fs } = files.stack
    files.rot(files.place(10), plexes)
    const some = new Uint8Array(100).fill(77)
    expect(await statusOf(fs.write(ROOT, files.file, 10 * BLOCK_BYTES + 5, some, 'FILE_SYNC'))).toBe('IO')
    expect(await files.read(9, 1)).toEqual({ status: 'OK', stamps: [10] })
    expect(await statusOf(fs.write(ROOT, files.file, 10 * BLOCK_BYTES, bytes(77), 'FILE_SYNC'))).toBe('OK')
    expect(await files.read(9, 3)).toEqual({ status: 'OK', stamps: [10, 77, 12] })
    await files.stack.reopen()
    expect(await files.read(9, 3)).toEqual({ status: 'OK', stamps: [10, 77, 12] })
    await files.stack.consistencyPoint()
    await files.stack.consistencyPoint()
    expect(await files.stack.problems()).toEqual([])
  })

  test('a damaged block of a directory, and one of inodes, fail what needs them and nothing else', async () => {
    const files = await Files.make(13, mirrored, type)
    const { fs } = files.stack
    const directory = files
      .blocks('directory')
      .find(({ content }) => Buffer.from(content).includes('filler-7'))!
    const before: Uint8Array[] = []
    for (let n = 0; n < 60; n++) {
      before.push((await good(fs.lookup(ROOT, files.directory, `filler-${n}`))).object.handle)
    }
    // The inodes of filler-11 to filler-26 share a block.
    const inodes = files.blocks('inode').find(({ content }) => new Inode(16, content).uid === 11)!
    await files.stack.reopen()
    files.rot(directory.pvbn, plexes)
    files.rot(inodes.pvbn, plexes)
    const failing: number[] = []
    for (let n = 0; n < 60; n++) {
      if ((await statusOf(files.stack.fs.getattr(before[n]!))) !== 'OK') failing.push(n)
    }
    expect(failing).toEqual(range(10, 26))
    let unnamed = 0
    for (let n = 0; n < 60; n++) {
      const status = await statusOf(files.stack.fs.lookup(ROOT, files.directory, `filler-${n}`))
      if (status === 'IO') unnamed += 1
    }
    expect(unnamed).toBeGreaterThan(16)
    expect(await files.read(0, FILE_BLOCKS)).toEqual({ status: 'OK', stamps: range(0, FILE_BLOCKS) })
    const root = await files.stack.fs.rootHandle()
    expect(await statusOf(files.stack.fs.lookup(ROOT, root, 'dir'))).toBe('OK')
    expect(await statusOf(files.stack.fs.mkdir(ROOT, root, 'new', { mode: 0o755 }))).toBe('OK')
    await files.stack.consistencyPoint()
  })

  test('a number is free of its old damage when it names another block', async () => {
    const files = await Files.make(14, mirrored, type)
    const { fs } = files.stack
    for (const n of [5, 6, 7]) files.rot(files.place(n), plexes)
    // Found for a READ that ends at the first of them: what was found of the others is not told to whoever comes later.
    expect(await files.read(0, 10)).toEqual({ status: 'OK', stamps: range(0, 5) })
    expect(await statusOf(fs.setattr(ROOT, files.file, { size: 0 }))).toBe('OK')
    await fs.reclaim()
    await files.stack.consistencyPoint()
    for (let n = 0; n < FILE_BLOCKS; n++) {
      await good(fs.write(ROOT, files.file, n * BLOCK_BYTES, bytes(n + 1), 'FILE_SYNC'))
    }
    await files.stack.reopen()
    expect(await files.read(0, FILE_BLOCKS)).toEqual({ status: 'OK', stamps: range(0, FILE_BLOCKS) })
  })
})
