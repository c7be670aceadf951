/** The structures that several procedures share (RFC 1813, 2.5 and 2.6): attributes, weak cache consistency data, handles. */
import type { Time } from '../../core/env/env.ts'
import type { Attributes, ObjectRef, SetAttributes, Status, Wcc } from '../../core/vfs/vfs.ts'
import type { XdrReader, XdrWriter } from '../xdr.ts'
import { XdrError } from '../xdr.ts'
import { FTYPE, NFS3_FHSIZE, STATUS } from './constants.ts'

export const FATTR3_BYTES = 84
export const POST_OP_ATTR_BYTES = 4 + FATTR3_BYTES
export const WCC_DATA_BYTES = 4 + 24 + POST_OP_ATTR_BYTES
export const POST_OP_FH3_BYTES = 4 + 4 + NFS3_FHSIZE

/** What a failed call gives back that never reached the file system. */
export interface Refused {
  readonly ok: false
  readonly status: Status
  readonly wcc: Wcc
  readonly from: Wcc
  readonly to: Wcc
}
const NO_WCC: Wcc = {}
export const refused = (status: Status): Refused => ({
  ok: false,
  status,
  wcc: NO_WCC,
  from: NO_WCC,
  to: NO_WCC,
})

export const readHandle = (r: XdrReader): Uint8Array => r.opaque(NFS3_FHSIZE)
/** A name of any length: one that is too long is the file system's to refuse, not malformed. */
export const readName = (r: XdrReader): string => r.string(r.left)

export function readTime(r: XdrReader): Time {
  const seconds = r.u32()
  return { seconds, nanoseconds: r.u32() }
}

export function writeTime(w: XdrWriter, time: Time): void {
  w.u32(time.seconds)
  w.u32(time.nanoseconds)
}

/** set_atime, set_mtime */
function readSetTime(r: XdrReader): Time | 'now' | undefined {
  switch (r.u32()) {
    case 0:
      return undefined
    case 1:
      return 'now'
    case 2:
      return readTime(r)
    default:
      throw new XdrError('time_how is none of its values')
  }
}

/** sattr3 */
export function readSattr(r: XdrReader): SetAttributes {
  const mode = r.bool() ? r.u32() : undefined
  const uid = r.bool() ? r.u32() : undefined
  const gid = r.bool() ? r.u32() : undefined
  const size = r.bool() ? r.u64() : undefined
  const atime = readSetTime(r)
  const mtime = readSetTime(r)
  return {
    ...(mode !== undefined && { mode: mode & 0o7777 }),
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(size !== undefined && { size }),
    ...(atime !== undefined && { atime }),
    ...(mtime !== undefined && { mtime }),
  }
}

/** fattr3; written in place, because nearly every reply has one. */
export function writeAttributes(w: XdrWriter, a: Attributes): void {
  const { view, at } = w
  view.setUint32(at, FTYPE[a.type])
  view.setUint32(at + 4, a.mode)
  view.setUint32(at + 8, a.nlink)
  view.setUint32(at + 12, a.uid)
  view.setUint32(at + 16, a.gid)
  w.at = at + 20
  w.u64(a.size)
  w.u64(a.used)
  view.setUint32(at + 36, a.rdevMajor)
  view.setUint32(at + 40, a.rdevMinor)
  w.at = at + 44
  w.u64(a.fsid)
  w.u64(a.fileid)
  view.setUint32(at + 60, a.atime.seconds)
  view.setUint32(at + 64, a.atime.nanoseconds)
  view.setUint32(at + 68, a.mtime.seconds)
  view.setUint32(at + 72, a.mtime.nanoseconds)
  view.setUint32(at + 76, a.ctime.seconds)
  view.setUint32(at + 80, a.ctime.nanoseconds)
  w.at = at + FATTR3_BYTES
}

/** post_op_attr */
export function writePostOp(w: XdrWriter, attributes: Attributes | undefined): void {
  if (!attributes) return w.u32(0)
  w.u32(1)
  writeAttributes(w, attributes)
}

/** wcc_data */
export function writeWcc(w: XdrWriter, { before, after }: Wcc): void {
  if (before) {
    w.u32(1)
    w.u64(before.size)
    writeTime(w, before.mtime)
    writeTime(w, before.ctime)
  } else w.u32(0)
  writePostOp(w, after)
}

/** post_op_fh3 and post_op_attr of a new object. */
export function writeMade(w: XdrWriter, object: ObjectRef): void {
  w.u32(1)
  w.opaque(object.handle)
  writePostOp(w, object.attributes)
}

export const writeStatus = (w: XdrWriter, status: Status): void => w.u32(STATUS[status])
