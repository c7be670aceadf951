/** LOOKUP, READDIR and READDIRPLUS (RFC 1813, 3.3.3, 3.3.16, 3.3.17), and what a name may be. */
import { NAME_BYTES_MAX } from '../../vfs/vfs.ts'
import type { Caller, DirectoryEntry, LookupResult, ObjectRef, ReaddirResult, Status } from '../../vfs/vfs.ts'
import { directoryOf } from '../apply.ts'
import { DamagedBlock } from '../block-store.ts'
import type { Core } from '../core.ts'
import { COOKIE_OF_PARENT, COOKIE_OF_SELF, COOKIE_OF_FIRST } from '../directory.ts'
import { Misses } from '../misses.ts'
import type { Inode } from '../inode.ts'
import { may, MAY_EXECUTE, MAY_READ } from '../permissions.ts'

export function isDots(name: string): boolean {
  return name === '.' || name === '..'
}

/** Why a name cannot be one of an entry; undefined if it can (`.` and `..` are the caller's to look after). */
export function nameProblem(name: string): Status | undefined {
  if (name.length > NAME_BYTES_MAX) return 'NAMETOOLONG'
  if (name.length === 0 || name.includes('/') || name.includes('\0')) return 'INVAL'
  return undefined
}

export function lookup(core: Core, caller: Caller, handle: Uint8Array, name: string): LookupResult {
  const directory = core.resolveDirectory(handle)
  if (typeof directory === 'string') return { ok: false, status: directory }
  const fail = (status: Status): LookupResult => ({
    ok: false,
    status,
    directory: core.attributes(directory),
  })
  if (!may(caller, directory, MAY_EXECUTE)) return fail('ACCES')
  const problem = nameProblem(name)
  if (problem !== undefined) return fail(problem)
  const ino = childOf(core, directory, name)
  if (ino === undefined) return fail('NOENT')
  return { ok: true, object: core.objectRef(ino), directory: core.attributes(directory) }
}

function childOf(core: Core, directory: Inode, name: string): number | undefined {
  if (name === '.') return directory.ino
  if (name === '..') return directory.parent
  return directoryOf(core.inodes, directory).find(name)?.ino
}

const NO_VERIFIER = new Uint8Array(8)

/** Cookies are positions that never change, so any cookie at any time names a place: there is no BAD_COOKIE, and the verifier is 0. */
export function readdir(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  cookie: number,
  entriesMax: number,
  plus: boolean,
): ReaddirResult {
  const directory = core.resolveDirectory(handle)
  if (typeof directory === 'string') return { ok: false, status: directory }
  const attributes = core.attributes(directory)
  if (!may(caller, directory, MAY_READ)) return { ok: false, status: 'ACCES', attributes }
  if (entriesMax < 1) return { ok: false, status: 'TOOSMALL', attributes }
  const found: { name: string; ino: number; cookie: number }[] = []
  if (cookie < COOKIE_OF_SELF) found.push({ name: '.', ino: directory.ino, cookie: COOKIE_OF_SELF })
  if (cookie < COOKIE_OF_PARENT && found.length < entriesMax) {
    found.push({ name: '..', ino: directory.parent, cookie: COOKIE_OF_PARENT })
  }
  let eof = false
  if (found[found.length - 1]?.cookie !== COOKIE_OF_SELF) {
    const from = Math.max(cookie, COOKIE_OF_PARENT)
    const rest = directoryOf(core.inodes, directory).list(from, entriesMax - found.length)
    for (const { name, ino, position } of rest.entries) {
      found.push({ name, ino, cookie: position + COOKIE_OF_FIRST })
    }
    eof = rest.eof
  }
  const misses = new Misses()
  const entries = found.map((entry): DirectoryEntry => {
    const { name, ino } = entry
    const object = plus ? misses.try(() => objectUnlessDamaged(core, ino)) : undefined
    return { name, fileid: ino, cookie: entry.cookie, ...(object === undefined ? {} : { object }) }
  })
  misses.throw()
  return { ok: true, attributes, verifier: NO_VERIFIER, entries, eof }
}

/** One damaged inode block must not hide the names of a whole directory. */
function objectUnlessDamaged(core: Core, ino: number): ObjectRef | undefined {
  try {
    return core.objectRef(ino)
  } catch (error) {
    if (error instanceof DamagedBlock) return undefined
    throw error
  }
}
