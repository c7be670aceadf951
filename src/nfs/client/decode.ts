/** The client's side of v3/types.ts: reads attributes and weak cache consistency data, writes sattr3. */
import type { Attributes, PreAttributes, SetAttributes, Wcc } from '../../core/vfs/vfs.ts'
import { FTYPE_NAMES } from '../v3/constants.ts'
import { readTime, writeTime } from '../v3/types.ts'
import type { XdrReader, XdrWriter } from '../xdr.ts'
import { XdrError } from '../xdr.ts'

export const SATTR_BYTES_MAX = 60

export function readAttributes(r: XdrReader): Attributes {
  const type = FTYPE_NAMES[r.u32()]
  if (!type) throw new XdrError('ftype3 is none of its values')
  return {
    type,
    mode: r.u32(),
    nlink: r.u32(),
    uid: r.u32(),
    gid: r.u32(),
    size: r.u64(),
    used: r.u64(),
    rdevMajor: r.u32(),
    rdevMinor: r.u32(),
    fsid: r.u64(),
    fileid: r.u64(),
    atime: readTime(r),
    mtime: readTime(r),
    ctime: readTime(r),
  }
}

export const readPostOp = (r: XdrReader): Attributes | undefined => (r.bool() ? readAttributes(r) : undefined)

export function readWcc(r: XdrReader): Wcc {
  const before: PreAttributes | undefined = r.bool()
    ? { size: r.u64(), mtime: readTime(r), ctime: readTime(r) }
    : undefined
  const after = readPostOp(r)
  return { ...(before && { before }), ...(after && { after }) }
}

export function writeSattr(w: XdrWriter, set: SetAttributes): void {
  for (const value of [set.mode, set.uid, set.gid]) {
    w.bool(value !== undefined)
    if (value !== undefined) w.u32(value)
  }
  w.bool(set.size !== undefined)
  if (set.size !== undefined) w.u64(set.size)
  for (const time of [set.atime, set.mtime]) {
    w.u32(time === undefined ? 0 : time === 'now' ? 1 : 2)
    if (time !== undefined && time !== 'now') writeTime(w, time)
  }
}
