/** CREATE, MKDIR, SYMLINK, MKNOD and LINK (RFC 1813, 3.3.8 to 3.3.11, 3.3.15). */
import { FILE_BYTES_MAX, LINK_BYTES_MAX } from '../../vfs/vfs.ts'
import type {
  Caller,
  CreateHow,
  Duplicate,
  FileType,
  LinkResult,
  MakeResult,
  SetAttributes,
  Status,
} from '../../vfs/vfs.ts'
import { directoryOf } from '../apply.ts'
import type { Core } from '../core.ts'
import { EXCLUSIVE } from '../inode.ts'
import type { Inode } from '../inode.ts'
import { inGroup, may, MAY_EXECUTE, mayChangeNames, SET_GID } from '../permissions.ts'
import type { MakeChange } from '../record.ts'
import { decideSetattr } from './attributes.ts'
import { isDots, nameProblem } from './names.ts'

/** Names of one object; a directory needs one more for each directory in it. */
const LINKS_MAX = 2 ** 31

interface Special {
  readonly path?: string
  readonly verifier?: Uint8Array
  readonly rdevMajor?: number
  readonly rdevMinor?: number
}

export function create(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  name: string,
  how: CreateHow,
  dup: Duplicate<MakeResult> | undefined,
): MakeResult {
  if (how.mode === 'EXCLUSIVE') {
    return make(core, caller, handle, name, 'REG', { mode: 0 }, { verifier: how.verifier }, dup, (inode) =>
      (inode.flags & EXCLUSIVE) !== 0 && sameBytes(inode.verifier, how.verifier) ? {} : 'EXIST',
    )
  }
  const existing = how.mode === 'UNCHECKED' ? (inode: Inode) => reuse(inode, how.attributes) : undefined
  return make(core, caller, handle, name, 'REG', how.attributes, {}, dup, existing)
}

/** An unchecked create of a file that exists is a SETATTR of its size. */
function reuse(inode: Inode, { size }: SetAttributes): SetAttributes | Status {
  if (inode.type !== 'REG') return inode.type === 'DIR' ? 'ISDIR' : 'EXIST'
  return size === undefined ? {} : { size }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

export function symlink(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  name: string,
  path: string,
  set: SetAttributes,
  dup: Duplicate<MakeResult> | undefined,
): MakeResult {
  const problem = path.length === 0 ? 'INVAL' : path.length > LINK_BYTES_MAX ? 'NAMETOOLONG' : undefined
  return make(core, caller, handle, name, 'LNK', set, { path }, dup, undefined, problem)
}

/** `existing` decides about an object that has the name already: what to set of it, or a status; without it that is EXIST. */
export function make(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  name: string,
  kind: FileType,
  set: SetAttributes,
  special: Special,
  dup: Duplicate<MakeResult> | undefined,
  existing?: (inode: Inode) => SetAttributes | Status,
  problem?: Status,
): MakeResult {
  const directory = core.resolveDirectory(handle)
  if (typeof directory === 'string') return { ok: false, status: directory, wcc: {} }
  const fail = (status: Status): MakeResult => ({ ok: false, status, wcc: core.wccUnchanged(directory) })
  const bad = nameProblem(name) ?? problem
  if (bad !== undefined) return fail(bad)
  if (!may(caller, directory, MAY_EXECUTE)) return fail('ACCES')
  if (isDots(name)) return fail('EXIST')
  const names = directoryOf(core.inodes, directory)
  const entry = names.find(name)
  if (entry !== undefined) {
    return existing === undefined
      ? fail('EXIST')
      : useExisting(core, caller, directory, core.inodes.get(entry.ino), existing, dup)
  }
  if (!mayChangeNames(caller, directory)) return fail('ACCES')
  if (kind === 'DIR' && directory.nlink >= LINKS_MAX) return fail('MLINK')
  const attributes = newAttributes(core, caller, directory, kind, set)
  if (typeof attributes === 'string') return fail(attributes)
  const position = names.findRoom(name)
  if (position === undefined) return fail('NOSPC')
  const { rdevMajor = 0, rdevMinor = 0, ...rest } = special
  const { ino, generation } = core.inodes.nextFree()
  const change: MakeChange = {
    type: 'make',
    directory: directory.ino,
    position,
    name,
    ino,
    generation,
    kind,
    rdevMajor,
    rdevMinor,
    ...attributes,
    ...rest,
  }
  const before = directory.preAttributes()
  const result = core.commit<MakeResult>(change, dup, () => ({
    ok: true,
    object: core.objectRef(ino),
    wcc: { before, after: core.attributesOf(change.directory) },
  }))
  return result ?? fail('NOSPC')
}

function useExisting(
  core: Core,
  caller: Caller,
  directory: Inode,
  inode: Inode,
  existing: (inode: Inode) => SetAttributes | Status,
  dup: Duplicate<MakeResult> | undefined,
): MakeResult {
  const wcc = core.wccUnchanged(directory)
  const fail = (status: Status): MakeResult => ({ ok: false, status, wcc })
  core.show(inode.ino)
  const set = existing(inode)
  if (typeof set === 'string') return fail(set)
  if (set.size === undefined) return { ok: true, object: core.objectRef(inode.ino), wcc }
  const change = decideSetattr(core, caller, inode, set)
  if (typeof change === 'string') return fail(change)
  const result = core.commit<MakeResult>(change, dup, () => ({
    ok: true,
    object: core.objectRef(change.ino),
    wcc,
  }))
  return result ?? fail('NOSPC')
}

type NewAttributes = Pick<MakeChange, 'mode' | 'uid' | 'gid' | 'size' | 'atime' | 'mtime' | 'ctime'>

function newAttributes(
  core: Core,
  caller: Caller,
  directory: Inode,
  kind: FileType,
  set: SetAttributes,
): NewAttributes | Status {
  const inherited = (directory.mode & SET_GID) !== 0
  const gid = set.gid ?? (inherited ? directory.gid : caller.gid)
  const uid = set.uid ?? caller.uid
  if (caller.uid !== 0) {
    if (uid !== caller.uid) return 'PERM'
    if (!inGroup(caller, gid) && !(inherited && gid === directory.gid)) return 'PERM'
  }
  const size = kind === 'REG' ? (set.size ?? 0) : 0
  if (size > FILE_BYTES_MAX) return 'FBIG'
  let mode = (set.mode ?? (kind === 'DIR' ? 0o755 : kind === 'LNK' ? 0o777 : 0o644)) & 0o7777
  if (kind === 'DIR') {
    if (inherited) mode |= SET_GID
  } else if (caller.uid !== 0 && !inGroup(caller, gid)) {
    mode &= ~SET_GID
  }
  const now = core.now()
  const atime = set.atime === undefined || set.atime === 'now' ? now : set.atime
  const mtime = set.mtime === undefined || set.mtime === 'now' ? now : set.mtime
  return { mode, uid, gid, size, atime, mtime, ctime: now }
}

export function link(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  directoryHandle: Uint8Array,
  name: string,
  dup: Duplicate<LinkResult> | undefined,
): LinkResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode, wcc: {} }
  const attributes = core.attributes(inode)
  const directory = core.resolveDirectory(directoryHandle)
  if (typeof directory === 'string') return { ok: false, status: directory, attributes, wcc: {} }
  const fail = (status: Status): LinkResult => ({
    ok: false,
    status,
    attributes,
    wcc: core.wccUnchanged(directory),
  })
  const problem = nameProblem(name)
  if (problem !== undefined) return fail(problem)
  if (inode.type === 'DIR') return fail('PERM')
  if (!may(caller, directory, MAY_EXECUTE)) return fail('ACCES')
  const names = directoryOf(core.inodes, directory)
  if (isDots(name) || names.find(name) !== undefined) return fail('EXIST')
  if (!mayChangeNames(caller, directory)) return fail('ACCES')
  if (inode.nlink >= LINKS_MAX) return fail('MLINK')
  const position = names.findRoom(name)
  if (position === undefined) return fail('NOSPC')
  const { ino } = inode
  const before = directory.preAttributes()
  const change = { type: 'link' as const, ino, directory: directory.ino, position, name, time: core.now() }
  const result = core.commit<LinkResult>(change, dup, () => ({
    ok: true,
    attributes: core.attributesOf(ino),
    wcc: { before, after: core.attributesOf(change.directory) },
  }))
  return result ?? fail('NOSPC')
}
