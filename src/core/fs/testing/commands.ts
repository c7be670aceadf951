/** Random operations on a file system and on the plain model beside it, and the comparison of the two: what property tests of the file layer run. */
import { expect } from '@jest/globals'
import fc from 'fast-check'
import { BLOCK_BYTES } from '../../env/device.ts'
import type { MaybePromise } from '../../std/maybe.ts'
import type { DirectoryEntry, MakeResult } from '../../vfs/vfs.ts'
import { putU32 } from '../bytes.ts'
import type { FileSystem } from '../volume.ts'
import { good, ROOT, statusOf } from './harness.ts'
import { Model, newNode } from './model.ts'
import type { Node } from './model.ts'

const operations = [
  'create',
  'create',
  'mkdir',
  'symlink',
  'mknod',
  'exclusive',
  'many',
  'few',
  'remove',
  'remove',
  'rmdir',
  'rename',
  'rename',
  'rename',
  'link',
  'write',
  'write',
  'write',
  'resize',
  'resize',
  'mode',
  'reclaim',
  'stale',
  'freeze',
  'forget',
  'image',
] as const
/** What each number means is up to the operation: objects and names are taken modulo what there is. */
export const commandArbitrary = fc.record({
  do: fc.constantFrom(...operations),
  a: fc.nat(30),
  b: fc.nat(30),
  x: fc.nat(15),
  y: fc.nat(15),
  n: fc.nat(1 << 16),
})
export type Command = {
  do: (typeof operations)[number]
  a: number
  b: number
  x: number
  y: number
  n: number
}

const LONG = 'long'.repeat(60)
function nameOf(x: number): string {
  return x < 10 ? `name-${x}` : `${LONG}${x}`
}
const OFFSETS = [0, 1, 4095, 4096, 40000, 81919, 20 * BLOCK_BYTES, 700 * BLOCK_BYTES, 2 ** 40]
const SIZES = [0, 1, 100, 4095, 4096, 8192, 9000]

/** What the commands are run on: a file system, and what belongs to its bed rather than to it. */
export interface Subject {
  fs: FileSystem
  /** A new operation begins. */
  begin(): void
  /** A command that is no operation of a client. */
  disturb(what: 'freeze' | 'forget' | 'image', n: number): void | Promise<void>
}

export class Run {
  readonly subject: Subject
  readonly model = new Model()
  private verifiers = 0

  constructor(subject: Subject) {
    this.subject = subject
  }

  private directory(i: number): Node {
    const all = this.model.nodes.filter((node) => node.type === 'DIR' && node.nlink > 0)
    return all[i % all.length]!
  }

  private object(i: number): Node {
    const all = this.model.nodes.filter((node) => node.nlink > 0)
    return all[i % all.length]!
  }

  private async made(
    directory: Node,
    name: string,
    node: Node,
    result: MaybePromise<MakeResult>,
  ): Promise<void> {
    const made = await result
    if (directory.entries.has(name)) {
      expect(made).toMatchObject({ ok: false, status: 'EXIST' })
      return
    }
    const { object } = await good(made)
    node.handle = object.handle
    this.model.add(directory, name, node)
  }

  /** Unlike any before: the same one would find its file again. */
  private newVerifier(): Uint8Array {
    this.verifiers += 1
    const verifier = new Uint8Array(8)
    putU32(verifier, 0, this.verifiers)
    return verifier
  }

  async step(command: Command): Promise<void> {
    const { fs } = this.subject
    const { model } = this
    const { a, b, x, y, n } = command
    const directory = this.directory(a)
    const name = nameOf(x)
    this.subject.begin()
    switch (command.do) {
      case 'create': {
        const existing = directory.entries.get(name)
        const size = y % 2 === 0 ? n : 0
        const how = {
          mode: n % 2 === 0 ? 'UNCHECKED' : 'GUARDED',
          attributes: { mode: 0o640, size },
        } as const
        const result = fs.create(ROOT, directory.handle, name, how)
        if (existing !== undefined && how.mode === 'UNCHECKED') {
          const expected = existing.type === 'REG' ? 'OK' : existing.type === 'DIR' ? 'ISDIR' : 'EXIST'
          expect(await statusOf(result)).toBe(expected)
          if (expected === 'OK') model.resize(existing, size)
          return
        }
        const node = newNode('REG', 0o640)
        node.size = size
        return this.made(directory, name, node, result)
      }
      case 'exclusive': {
        const how = { mode: 'EXCLUSIVE', verifier: this.newVerifier() } as const
        const existed = directory.entries.has(name)
        const result = fs.create(ROOT, directory.handle, name, how)
        await this.made(directory, name, newNode('REG', 0), result)
        if (!existed) expect(await statusOf(fs.create(ROOT, directory.handle, name, how))).toBe('OK')
        return
      }
      case 'mkdir': {
        const result = fs.mkdir(ROOT, directory.handle, name, { mode: 0o711 })
        return this.made(directory, name, newNode('DIR', 0o711, directory), result)
      }
      case 'symlink': {
        const path = 'p'.repeat(1 + (n % 1024))
        const result = fs.symlink(ROOT, directory.handle, name, path, {})
        return this.made(directory, name, newNode('LNK', 0o777, undefined, path), result)
      }
      case 'mknod': {
        const result = fs.mknod(ROOT, directory.handle, name, 'FIFO', { mode: 0o600 }, 0, 0)
        return this.made(directory, name, newNode('FIFO', 0o600), result)
      }
      case 'many':
        for (let i = 0; i < 60; i++) {
          this.subject.begin()
          const each = `${y < 4 ? LONG : 'm'}-${n % 97}-${i}`
          const result = fs.mknod(ROOT, directory.handle, each, 'SOCK', { mode: 0 }, 0, 0)
          await this.made(directory, each, newNode('SOCK', 0), result)
        }
        return
      case 'few':
        for (const each of [...directory.entries.keys()].filter((_, i) => i % 3 !== y % 3)) {
          this.subject.begin()
          expect(await statusOf(fs.remove(ROOT, directory.handle, each))).toBe(
            model.remove(directory, each, 'FILE'),
          )
        }
        return
      case 'remove':
        expect(await statusOf(fs.remove(ROOT, directory.handle, name))).toBe(
          model.remove(directory, name, 'FILE'),
        )
        return
      case 'rmdir':
        expect(await statusOf(fs.rmdir(ROOT, directory.handle, name))).toBe(
          model.remove(directory, name, 'DIR'),
        )
        return
      case 'rename': {
        const to = this.directory(b)
        const result = await statusOf(fs.rename(ROOT, directory.handle, name, to.handle, nameOf(y)))
        expect(result).toBe(model.rename(directory, name, to, nameOf(y)))
        return
      }
      case 'link': {
        const node = this.object(b)
        const result = await statusOf(fs.link(ROOT, node.handle, directory.handle, name))
        expect(result).toBe(model.link(node, directory, name))
        return
      }
      case 'write': {
        const node = this.object(b)
        const offset = OFFSETS[x % OFFSETS.length]! + (n % 3)
        const data = new Uint8Array(SIZES[y % SIZES.length]!).fill(1 + (n % 255))
        const result = await statusOf(fs.write(ROOT, node.handle, offset, data, 'UNSTABLE'))
        expect(result).toBe(node.type === 'REG' ? 'OK' : node.type === 'DIR' ? 'ISDIR' : 'INVAL')
        if (result === 'OK') model.write(node, offset, data)
        return
      }
      case 'resize': {
        const node = this.object(b)
        const size = OFFSETS[x % OFFSETS.length]! + (n % 3)
        const result = await statusOf(fs.setattr(ROOT, node.handle, { size }))
        expect(result).toBe(node.type === 'REG' ? 'OK' : node.type === 'DIR' ? 'ISDIR' : 'INVAL')
        if (result === 'OK') model.resize(node, size)
        return
      }
      case 'mode': {
        const node = this.object(b)
        expect(await statusOf(fs.setattr(ROOT, node.handle, { mode: n & 0o777 }))).toBe('OK')
        node.mode = n & 0o777
        return
      }
      case 'reclaim':
        await fs.reclaim(1)
        return
      case 'stale': {
        const gone = model.nodes.filter((node) => node.nlink === 0)
        if (gone.length > 0) expect(await statusOf(fs.getattr(gone[n % gone.length]!.handle))).toBe('STALE')
        return
      }
      case 'freeze':
      case 'forget':
      case 'image':
        await this.subject.disturb(command.do, n)
    }
  }
}

async function listOf(fs: FileSystem, handle: Uint8Array, chunk: number): Promise<DirectoryEntry[]> {
  const entries: DirectoryEntry[] = []
  for (let cookie = 0; ;) {
    const part = await good(fs.readdir(ROOT, handle, cookie, new Uint8Array(8), chunk, true))
    entries.push(...part.entries)
    if (part.eof) return entries
    cookie = part.entries[part.entries.length - 1]!.cookie
  }
}

export async function compare(fs: FileSystem, node: Node): Promise<void> {
  const { attributes } = await good(fs.getattr(node.handle))
  const { type, mode, nlink, size } = attributes
  expect({ type, mode, nlink }).toEqual({ type: node.type, mode: node.mode, nlink: node.nlink })
  if (node.type !== 'DIR') expect(size).toBe(node.size)
  if (node.type === 'LNK') expect((await good(fs.readlink(ROOT, node.handle))).path).toBe(node.path)
  if (node.type === 'REG') {
    for (const fbn of new Set([
      0,
      1,
      9,
      10,
      19,
      20,
      21,
      Math.floor(size / BLOCK_BYTES),
      ...node.blocks.keys(),
    ])) {
      const offset = fbn * BLOCK_BYTES
      const read = await good(
        fs.read(ROOT, node.handle, offset, BLOCK_BYTES, (length) => new Uint8Array(length).fill(7)),
      )
      const expected = (node.blocks.get(fbn) ?? new Uint8Array(BLOCK_BYTES)).subarray(
        0,
        Math.max(0, size - offset),
      )
      expect(Buffer.compare(read.data, expected)).toBe(0)
      expect(read.eof).toBe(offset + BLOCK_BYTES >= size)
    }
  }
  if (node.type !== 'DIR') return
  const entries = await listOf(fs, node.handle, 7)
  expect(entries.map(({ name }) => name).sort()).toEqual([...node.entries.keys(), '.', '..'].sort())
  for (const [name, child] of node.entries) {
    const found = await good(fs.lookup(ROOT, node.handle, name))
    expect(Buffer.compare(found.object.handle, child.handle)).toBe(0)
    await compare(fs, child)
  }
}

/** All that a client can see of a volume: names with cookies and handles, attributes with times, contents. */
export async function dump(fs: FileSystem, handle: Uint8Array, into: string[] = []): Promise<string[]> {
  const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
  const { attributes } = await good(fs.getattr(handle))
  into.push(`${hex(handle)} ${JSON.stringify(attributes)}`)
  if (attributes.type === 'REG') {
    for (const offset of [0, 40000, 20 * BLOCK_BYTES, 700 * BLOCK_BYTES, 2 ** 40]) {
      const { data } = await good(
        fs.read(ROOT, handle, offset, 3 * BLOCK_BYTES, (length) => new Uint8Array(length)),
      )
      into.push(Buffer.from(data).toString('latin1'))
    }
  }
  if (attributes.type === 'DIR') {
    for (const { name, cookie, object } of await listOf(fs, handle, 50)) {
      into.push(`${name} ${cookie} ${hex(object!.handle)}`)
      if (name !== '.' && name !== '..') await dump(fs, object!.handle, into)
    }
  }
  return into
}
