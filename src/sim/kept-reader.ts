/** Reads what a kept image (sim/kept-image.ts) must have, object by object, as its list has it. */
import { createHash } from 'node:crypto'
import type { Attributes, Caller as Credential, Result } from '../core/vfs/vfs.ts'
import type { Caller } from './caller.ts'
import { textOf } from './caller.ts'
import type { KeptObject } from './kept-image.ts'

export const ROOT: Credential = { uid: 0, gid: 0, gids: [] }
/** Parts of files by their paths: offset, length, and whatever. */
export type Runs = ReadonlyMap<string, readonly (readonly [number, number, ...unknown[]])[]>

export function done<T>(what: string, result: Result<T>): T {
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

/** A volume, or a snapshot of one, read as a client does. */
export class Reader {
  readonly caller: Caller
  readonly root: Uint8Array

  constructor(caller: Caller, root: Uint8Array) {
    this.caller = caller
    this.root = root
  }

  async snapshot(name: string): Promise<Reader> {
    let at = this.root
    for (const one of ['.snapshot', name]) {
      const from = at
      at = done(one, await this.caller.call((vfs) => vfs.lookup(ROOT, from, one))).object.handle
    }
    return new Reader(this.caller, at)
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

  /** Everything below a directory, with checksums of the parts of files that are `wanted`. */
  async tree(wanted: Runs, directory = this.root, at = ''): Promise<KeptObject[]> {
    const found: KeptObject[] = []
    for (const { name, handle } of await this.names(directory)) {
      const path = at === '' ? name : `${at}/${name}`
      const object = await this.object(handle, path)
      if (object.type === 'LNK') {
        const { path: link } = done(path, await this.caller.call((vfs) => vfs.readlink(ROOT, handle)))
        found.push({ ...object, link })
      } else if (object.type === 'REG') {
        const runs: [number, number, string][] = []
        for (const [offset, length] of wanted.get(path) ?? []) {
          runs.push([offset, length, await this.sum(handle, offset, length)])
        }
        found.push({ ...object, runs })
      } else found.push(object)
      if (object.type === 'DIR') found.push(...(await this.tree(wanted, handle, path)))
    }
    return found
  }
}
