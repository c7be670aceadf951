/** FSINFO and PATHCONF (RFC 1813, 3.3.19 and 3.3.20): what is the same for every file here. */
import type { GetattrResult } from '../../core/vfs/vfs.ts'
import { FILE_BYTES_MAX, IO_BYTES_MAX, NAME_BYTES_MAX } from '../../core/vfs/vfs.ts'
import type { Call, Procedure } from '../server/call.ts'
import type { MaybePromise } from '../../core/std/maybe.ts'
import { FSF3_PROPERTIES, NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, refused, writePostOp, writeStatus } from './types.ts'

const BLOCK_BYTES = 4096
const DIRECTORY_BYTES_PREFERRED = 64 * 1024
/** Beyond what anybody makes; clients may read it as a signed number. */
export const LINK_MAX = 2 ** 31 - 1

function run(call: Call): MaybePromise<GetattrResult> {
  const object = readHandle(call.args)
  const status = call.enter(object)
  return status ? refused(status) : call.vfs.getattr(object)
}

export const FSINFO: Procedure<GetattrResult> = {
  name: 'FSINFO',
  replyBytesMax: 4 + POST_OP_ATTR_BYTES + 7 * 4 + 8 + 8 + 4,
  run,
  encode(w, result) {
    if (!result.ok) {
      writeStatus(w, result.status)
      return writePostOp(w, undefined)
    }
    w.u32(NFS3_OK)
    writePostOp(w, result.attributes)
    // rtmax, rtpref, rtmult, wtmax, wtpref, wtmult, dtpref
    w.u32(IO_BYTES_MAX)
    w.u32(IO_BYTES_MAX)
    w.u32(BLOCK_BYTES)
    w.u32(IO_BYTES_MAX)
    w.u32(IO_BYTES_MAX)
    w.u32(BLOCK_BYTES)
    w.u32(DIRECTORY_BYTES_PREFERRED)
    w.u64(FILE_BYTES_MAX)
    // time_delta: one nanosecond
    w.u32(0)
    w.u32(1)
    w.u32(FSF3_PROPERTIES)
  },
}

export const PATHCONF: Procedure<GetattrResult> = {
  name: 'PATHCONF',
  replyBytesMax: 4 + POST_OP_ATTR_BYTES + 6 * 4,
  run,
  encode(w, result) {
    if (!result.ok) {
      writeStatus(w, result.status)
      return writePostOp(w, undefined)
    }
    w.u32(NFS3_OK)
    writePostOp(w, result.attributes)
    w.u32(LINK_MAX)
    w.u32(NAME_BYTES_MAX)
    // no_trunc, chown_restricted, case_insensitive, case_preserving
    w.bool(true)
    w.bool(true)
    w.bool(false)
    w.bool(true)
  },
}
