/** FSSTAT (RFC 1813, 3.3.18). */
import type { FsstatResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, refused, writePostOp, writeStatus } from './types.ts'

export const FSSTAT: Procedure<FsstatResult> = {
  name: 'FSSTAT',
  replyBytesMax: 4 + POST_OP_ATTR_BYTES + 6 * 8 + 4,
  run(call) {
    const root = readHandle(call.args)
    const status = call.enter(root)
    return status ? refused(status) : call.vfs.fsstat(root)
  },
  encode(w, result) {
    if (result.ok) w.u32(NFS3_OK)
    else writeStatus(w, result.status)
    writePostOp(w, result.attributes)
    if (!result.ok) return
    w.u64(result.totalBytes)
    w.u64(result.freeBytes)
    w.u64(result.freeBytes)
    w.u64(result.totalFiles)
    w.u64(result.freeFiles)
    w.u64(result.freeFiles)
    // invarsec: how long this is expected to stay; it may change with the next write.
    w.u32(0)
  },
}
