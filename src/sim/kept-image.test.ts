import { expect, test } from '@jest/globals'
import { createHash } from 'node:crypto'
import type { Attributes, Caller as Credential, Result } from '../core/vfs/vfs.ts'
import { Caller, handleOf, SideAnswers, textOf } from './caller.ts'
import type { FilerPair } from './filer-pair.ts'
import type { SideName } from './names.ts'
import { FILERS } from './names.ts'
import type { KeptObject, KeptSide } from './kept-image.ts'
import { keptImage } from './kept-image.ts'
import { problemsOf, untilEqual } from './pair-check.ts'

const ROOT: Credential = { uid: 0, gid: 0, gids: [] }
const LIMIT_MS = 60_000

function done<T>(what: string, result: Result<T>): T {
  if (!result.ok) throw new Error(`${what}: ${result.status}`)
  return result
}

const shownOf = (at: Attributes): Omit<KeptObject, 'path' | 'handle'> => ({
  type: at.type,
  mode: at.mode,
  nlink: at.nlink,
  uid: at.uid,
  gid: at.gid,
  size: at.size,
  used: at.used,
  fileid: at.fileid,
  rdev: [at.rdevMajor, at.rdevMinor],
  mtime: at.mtime,
  ctime: at.ctime,
})

/** The volume of one side, read and changed as a client does. */
class Reader {
  readonly caller: Caller
  readonly root: Uint8Array
  constructor(pair: FilerPair, side: SideName, root: string) {
    this.caller = new Caller(pair, side, `reader-${side}`, new SideAnswers())
    this.root = handleOf(root)
  }

  async object(handle: Uint8Array, path: string): Promise<KeptObject> {
    const { attributes } = done(path, await this.caller.call((vfs) => vfs.getattr(handle)))
    return { path, ...shownOf(attributes), handle: textOf(handle) }
  }

  async names(directory: Uint8Array): Promise<readonly { name: string; handle: Uint8Array }[]> {
    const found: { name: string; handle: Uint8Array }[] = []
    for (let cookie = 0, eof = false; !eof;) {
      const from = cookie
      const answer = done(
        'readdir',
        await this.caller.call((vfs) => vfs.readdir(ROOT, directory, from, new Uint8Array(8), 50, true)),
      )
      for (const { name, object, cookie: next } of answer.entries) {
        cookie = next
        if (name !== '.' && name !== '..') found.push({ name, handle: object!.handle })
      }
      eof = answer.eof
    }
    return found
  }

  async sum(handle: Uint8Array, offset: number, length: number): Promise<string> {
    const { data } = done(
      'read',
      await this.caller.call((vfs) => vfs.read(ROOT, handle, offset, length, (n) => new Uint8Array(n))),
    )
    return createHash('sha256').update(data).digest('hex').slice(0, 16)
  }

  /** Everything below a directory, as the image's list has it. */
  async tree(wanted: ReadonlyMap<string, KeptObject>, directory = this.root, at = ''): Promise<KeptObject[]> {
    const found: KeptObject[] = []
    for (const { name, handle } of await this.names(directory)) {
      const path = at === '' ? name : `${at}/${name}`
      const object = await this.object(handle, path)
      if (object.type === 'LNK') {
        const { path: link } = done(path, await this.caller.call((vfs) => vfs.readlink(ROOT, handle)))
        found.push({ ...object, link })
      } else if (object.type === 'REG') {
        const runs: [number, number, string][] = []
        for (const [offset, length] of wanted.get(path)?.runs ?? []) {
          runs.push([offset, length, await this.sum(handle, offset, length)])
        }
        found.push({ ...object, runs })
      } else found.push(object)
      if (object.type === 'DIR') found.push(...(await this.tree(wanted, handle, path)))
    }
    return found
  }
}

async function everythingIsThere(reader: Reader, kept: KeptSide): Promise<void> {
  const wanted = new Map(kept.entries.map((entry) => [entry.path, entry]))
  const found = await reader.tree(wanted)
  expect(found.sort((a, b) => (a.path < b.path ? -1 : 1))).toEqual(
    [...kept.entries].sort((a, b) => (a.path < b.path ? -1 : 1)),
  )
}

test.each(['format-1'])(
  'an image of %s opens with nothing lost, remembers its calls, can be changed, and is clean before and after',
  async (name) => {
    const { pair, sides } = keptImage(name)
    const { world } = pair
    expect(await problemsOf(pair)).toEqual([])

    for (const filer of FILERS) pair.start(filer)
    await pair.untilGood(LIMIT_MS)
    const readers = FILERS.map((side) => ({
      side,
      kept: sides[side],
      reader: new Reader(pair, side, sides[side].root),
    }))
    for (const { kept, reader } of readers) {
      expect(kept.logged).toBeGreaterThan(10)
      await world.wait(everythingIsThere(reader, kept), LIMIT_MS)
      for (const { key, answer } of kept.remembered) {
        const known = await world.wait(
          Promise.resolve(reader.caller.call((vfs) => vfs.duplicate(reader.root, key))),
        )
        expect(JSON.parse(Buffer.from(known!).toString())).toEqual(answer)
      }
    }

    const change = async (reader: Reader): Promise<void> => {
      const { caller, root } = reader
      const made = done(
        'create',
        await caller.call((vfs) => vfs.create(ROOT, root, 'new', { mode: 'GUARDED', attributes: {} })),
      )
      const { handle } = made.object
      const data = new Uint8Array(50_000).fill(77)
      done('write', await caller.call((vfs) => vfs.write(ROOT, handle, 0, data, 'FILE_SYNC')))
      for (const { name: old, handle: file } of await reader.names(root)) {
        if (old === 'hard')
          done('overwrite', await caller.call((vfs) => vfs.write(ROOT, file, 8192, data, 'FILE_SYNC')))
        if (old === 'many') {
          for (const { name: one } of await reader.names(file))
            done('remove', await caller.call((vfs) => vfs.remove(ROOT, file, one)))
          done('rmdir', await caller.call((vfs) => vfs.rmdir(ROOT, root, old)))
        }
      }
    }
    for (const { reader } of readers) await world.wait(change(reader), LIMIT_MS)
    await untilEqual(pair, LIMIT_MS)
    expect(await problemsOf(pair)).toEqual([])

    for (const filer of FILERS) pair.crash(filer)
    for (const filer of FILERS) pair.start(filer)
    await pair.untilGood(LIMIT_MS)
    for (const { reader } of readers) {
      const names = await world.wait(reader.names(reader.root), LIMIT_MS)
      expect(names.map((one) => one.name).sort()).toEqual([
        'disk',
        'exclusive',
        'fifo',
        'gone',
        'hard',
        'late-too',
        'long',
        'new',
        'once',
        'short',
        'tree',
      ])
      const made = names.find((one) => one.name === 'new')!
      expect(await world.wait(reader.object(made.handle, 'new'))).toMatchObject({ size: 50_000 })
    }
  },
)
