/** REMOVE, RMDIR and RENAME (RFC 1813, 3.3.12 to 3.3.14). */
import type { Caller, Duplicate, RemoveResult, RenameResult, Status } from '../../vfs/vfs.ts'
import { directoryOf } from '../apply.ts'
import { sound } from '../block-store.ts'
import type { Core } from '../core.ts'
import type { Entry } from '../directory.ts'
import type { Inode } from '../inode.ts'
import { ROOT_INO } from '../inodes.ts'
import { may, MAY_EXECUTE, MAY_WRITE, mayChangeNames, stickyForbids } from '../permissions.ts'
import type { RenameChange } from '../record.ts'
import { isDots, nameProblem } from './names.ts'

/** REMOVE takes anything but a directory, RMDIR an empty directory. */
export function remove(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  name: string,
  what: 'FILE' | 'DIR',
  dup: Duplicate<RemoveResult> | undefined,
): RemoveResult {
  const directory = core.resolveDirectory(handle)
  if (typeof directory === 'string') return { ok: false, status: directory, wcc: {} }
  const fail = (status: Status): RemoveResult => ({ ok: false, status, wcc: core.wccUnchanged(directory) })
  const problem = nameProblem(name)
  if (problem !== undefined) return fail(problem)
  if (isDots(name)) return fail(what === 'DIR' && name === '..' ? 'EXIST' : 'INVAL')
  if (!may(caller, directory, MAY_EXECUTE)) return fail('ACCES')
  const entry = directoryOf(core.inodes, directory).find(name)
  if (entry === undefined) return fail('NOENT')
  const inode = core.inodes.get(entry.ino)
  core.show(entry.ino)
  if (!mayChangeNames(caller, directory)) return fail('ACCES')
  if (stickyForbids(caller, directory, inode)) return fail('PERM')
  if (what === 'FILE') {
    if (inode.type === 'DIR') return fail('ISDIR')
  } else if (inode.type !== 'DIR') {
    return fail('NOTDIR')
  } else if (inode.entries > 0) {
    return fail('NOTEMPTY')
  }
  const before = directory.preAttributes()
  const change = {
    type: 'remove' as const,
    directory: directory.ino,
    position: entry.position,
    name,
    ino: entry.ino,
    time: core.now(),
  }
  const result = core.commit<RemoveResult>(change, dup, () => ({
    ok: true,
    wcc: { before, after: core.attributesOf(change.directory) },
  }))
  return result ?? fail('NOSPC')
}

export function rename(
  core: Core,
  caller: Caller,
  fromHandle: Uint8Array,
  fromName: string,
  toHandle: Uint8Array,
  toName: string,
  dup: Duplicate<RenameResult> | undefined,
): RenameResult {
  const from = core.resolveDirectory(fromHandle)
  const to = core.resolveDirectory(toHandle)
  if (typeof from === 'string') return { ok: false, status: from, from: {}, to: {} }
  if (typeof to === 'string') return { ok: false, status: to, from: core.wccUnchanged(from), to: {} }
  const unchanged = () => ({ from: core.wccUnchanged(from), to: core.wccUnchanged(to) })
  const decided = decideRename(core, caller, from, fromName, to, toName)
  if (decided === 'NOTHING') return { ok: true, ...unchanged() }
  if (typeof decided === 'string') return { ok: false, status: decided, ...unchanged() }
  const fromBefore = from.preAttributes()
  const toBefore = to.preAttributes()
  const result = core.commit<RenameResult>(decided, dup, () => ({
    ok: true,
    from: { before: fromBefore, after: core.attributesOf(decided.from) },
    to: { before: toBefore, after: core.attributesOf(decided.to) },
  }))
  return result ?? { ok: false, status: 'NOSPC', ...unchanged() }
}

/** 'NOTHING': both names are of the same object, and stay (POSIX). */
function decideRename(
  core: Core,
  caller: Caller,
  from: Inode,
  fromName: string,
  to: Inode,
  toName: string,
): RenameChange | 'NOTHING' | Status {
  const { inodes } = core
  const problem = nameProblem(fromName) ?? nameProblem(toName)
  if (problem !== undefined) return problem
  if (isDots(fromName) || isDots(toName)) return 'INVAL'
  if (!may(caller, from, MAY_EXECUTE) || !may(caller, to, MAY_EXECUTE)) return 'ACCES'
  const source = directoryOf(inodes, from).find(fromName)
  if (source === undefined) return 'NOENT'
  const names = directoryOf(inodes, to)
  const target = names.find(toName)
  core.show(source.ino)
  if (target?.ino === source.ino) return 'NOTHING'
  const inode = inodes.get(source.ino)
  // Only in an image that contradicts itself.
  sound(inode.type !== undefined)
  if (!mayChangeNames(caller, from) || !mayChangeNames(caller, to)) return 'ACCES'
  if (stickyForbids(caller, from, inode)) return 'PERM'
  if (inode.type === 'DIR' && from.ino !== to.ino) {
    // The move changes the directory's own `..`.
    if (!may(caller, inode, MAY_WRITE)) return 'ACCES'
    if (isWithin(core, to, inode.ino)) return 'INVAL'
  }
  const refusal = target === undefined ? undefined : refuseReplace(core, caller, to, inode, target)
  if (refusal !== undefined) return refusal
  const toPosition = target === undefined ? names.findRoom(toName) : target.position
  if (toPosition === undefined) return 'NOSPC'
  return {
    type: 'rename',
    from: from.ino,
    fromPosition: source.position,
    fromName,
    to: to.ino,
    toPosition,
    toName,
    ino: source.ino,
    replaced: target?.ino ?? 0,
    time: core.now(),
  }
}

function refuseReplace(
  core: Core,
  caller: Caller,
  to: Inode,
  inode: Inode,
  target: Entry,
): Status | undefined {
  const replaced = core.inodes.get(target.ino)
  core.show(target.ino)
  if (stickyForbids(caller, to, replaced)) return 'PERM'
  if (inode.type === 'DIR') {
    if (replaced.type !== 'DIR') return 'NOTDIR'
    return replaced.entries > 0 ? 'NOTEMPTY' : undefined
  }
  return replaced.type === 'DIR' ? 'ISDIR' : undefined
}

/** True if a directory is `ino` or lies somewhere below it. Throws Miss. */
function isWithin(core: Core, directory: Inode, ino: number): boolean {
  for (let at = directory; ; at = core.inodes.get(at.parent)) {
    if (at.ino === ino) return true
    if (at.ino === ROOT_INO) return false
  }
}
