/** GETATTR, SETATTR, ACCESS, READLINK and FSSTAT (RFC 1813, 3.3.1, 3.3.2, 3.3.4, 3.3.5, 3.3.18). */
import type { Time } from '../../env/env.ts'
import { FILE_BYTES_MAX, LINK_BYTES_MAX } from '../../vfs/vfs.ts'
import type {
  AccessResult,
  Caller,
  Duplicate,
  FsstatResult,
  GetattrResult,
  ReadlinkResult,
  SetAttributes,
  SetattrResult,
  Status,
} from '../../vfs/vfs.ts'
import { BLOCK_BYTES } from '../../env/device.ts'
import { sound } from '../block-store.ts'
import { getBytes } from '../bytes.ts'
import type { Core } from '../core.ts'
import { INLINE, INODE_BYTES } from '../inode.ts'
import type { Inode } from '../inode.ts'
import {
  inGroup,
  may,
  MAY_EXECUTE,
  MAY_READ,
  MAY_WRITE,
  mayWriteData,
  owns,
  SET_GID,
  SET_UID,
  withoutSetId,
} from '../permissions.ts'
import type { SetattrChange } from '../record.ts'

export function getattr(core: Core, handle: Uint8Array): GetattrResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode }
  return { ok: true, attributes: core.attributes(inode) }
}

const ACCESS_READ = 0x01
const ACCESS_LOOKUP = 0x02
const ACCESS_MODIFY = 0x04
const ACCESS_EXTEND = 0x08
const ACCESS_DELETE = 0x10
const ACCESS_EXECUTE = 0x20

export function access(core: Core, caller: Caller, handle: Uint8Array, wanted: number): AccessResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode }
  let granted = 0
  if (may(caller, inode, MAY_READ)) granted |= ACCESS_READ
  const changeable = core.snapshot === 0
  if (changeable && may(caller, inode, MAY_WRITE)) granted |= ACCESS_MODIFY | ACCESS_EXTEND
  if (inode.type === 'DIR') {
    if (may(caller, inode, MAY_EXECUTE)) granted |= ACCESS_LOOKUP
    if (changeable && may(caller, inode, MAY_WRITE | MAY_EXECUTE)) granted |= ACCESS_DELETE
  } else if (may(caller, inode, MAY_EXECUTE)) {
    granted |= ACCESS_EXECUTE
  }
  return { ok: true, attributes: core.attributes(inode), access: granted & wanted }
}

export function readlink(core: Core, handle: Uint8Array): ReadlinkResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode }
  const attributes = core.attributes(inode)
  if (inode.type !== 'LNK') return { ok: false, status: 'INVAL', attributes }
  if ((inode.flags & INLINE) !== 0) return { ok: true, attributes, path: inode.inlinePath }
  const block = inode.tree(core.store).get(0)
  sound(block !== undefined && inode.size <= LINK_BYTES_MAX)
  return { ok: true, attributes, path: getBytes(block, 0, inode.size) }
}

/** Bytes of the whole volume, as its quota and its aggregate allow. */
export interface Space {
  readonly totalBytes: number
  readonly freeBytes: number
}

export function fsstat(core: Core, handle: Uint8Array, space: Space): FsstatResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode }
  // Inodes are made as they are needed, so free space bounds their number.
  const freeFiles = Math.floor(space.freeBytes / (BLOCK_BYTES + INODE_BYTES))
  return {
    ok: true,
    attributes: core.attributes(inode),
    ...space,
    totalFiles: core.inodes.files + freeFiles,
    freeFiles,
  }
}

function sameTime(a: Time, b: Time): boolean {
  return a.seconds === b.seconds && a.nanoseconds === b.nanoseconds
}

export function setattr(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  set: SetAttributes,
  guard: Time | undefined,
  dup: Duplicate<SetattrResult> | undefined,
): SetattrResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode, wcc: {} }
  const before = inode.preAttributes()
  const fail = (status: Status): SetattrResult => ({ ok: false, status, wcc: core.wccUnchanged(inode) })
  if (guard !== undefined && !sameTime(guard, before.ctime)) return fail('NOT_SYNC')
  const change = decideSetattr(core, caller, inode, set)
  if (typeof change === 'string') return fail(change)
  const result = core.commit<SetattrResult>(change, dup, () => ({
    ok: true,
    wcc: { before, after: core.attributesOf(change.ino) },
  }))
  return result ?? fail('NOSPC')
}

/** The attributes that an object gets, or why the caller may not set them. Throws Miss for a file that still frees what was cut off. */
export function decideSetattr(
  core: Core,
  caller: Caller,
  inode: Inode,
  set: SetAttributes,
): SetattrChange | Status {
  const refusal = refuse(caller, inode, set)
  if (refusal !== undefined) return refusal
  const now = core.now()
  const { size, uid, gid } = set
  let { mode } = inode
  if ((uid !== undefined || gid !== undefined) && inode.type !== 'DIR') {
    mode &= ~SET_UID & ~((mode & 0o010) !== 0 ? SET_GID : 0)
  }
  if (size !== undefined) {
    mode = withoutSetId(caller, mode)
    if (size > inode.size) core.requireNoSurplus(inode)
  }
  if (set.mode !== undefined) {
    mode = set.mode & 0o7777
    if (caller.uid !== 0 && inode.type !== 'DIR' && !inGroup(caller, gid ?? inode.gid)) mode &= ~SET_GID
  }
  const mtimeUnset = size === undefined ? inode.mtime : now
  return {
    type: 'setattr',
    ino: inode.ino,
    mode,
    uid: uid ?? inode.uid,
    gid: gid ?? inode.gid,
    size: size ?? inode.size,
    atime: set.atime === undefined ? inode.atime : set.atime === 'now' ? now : set.atime,
    mtime: set.mtime === undefined ? mtimeUnset : set.mtime === 'now' ? now : set.mtime,
    ctime: now,
  }
}

function refuse(caller: Caller, inode: Inode, set: SetAttributes): Status | undefined {
  const { size, uid, gid } = set
  if (set.mode !== undefined && !owns(caller, inode)) return 'PERM'
  if (caller.uid !== 0) {
    if (uid !== undefined && (uid !== inode.uid || caller.uid !== inode.uid)) return 'PERM'
    if (gid !== undefined && gid !== inode.gid && !(owns(caller, inode) && inGroup(caller, gid)))
      return 'PERM'
  }
  for (const time of [set.atime, set.mtime]) {
    if (time === undefined || owns(caller, inode)) continue
    if (time !== 'now') return 'PERM'
    if (!may(caller, inode, MAY_WRITE)) return 'ACCES'
  }
  if (size === undefined) return undefined
  if (inode.type === 'DIR') return 'ISDIR'
  if (inode.type !== 'REG') return 'INVAL'
  if (!mayWriteData(caller, inode)) return 'ACCES'
  return size > FILE_BYTES_MAX ? 'FBIG' : undefined
}
