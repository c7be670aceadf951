/** READLINK (RFC 1813, 3.3.5). */
import type { ReadlinkResult } from '../../core/vfs/vfs.ts'
import { LINK_BYTES_MAX } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { opaqueBytes } from '../xdr.ts'
import { NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, refused, writePostOp, writeStatus } from './types.ts'

export const READLINK: Procedure<ReadlinkResult> = {
  name: 'READLINK',
  replyBytesMax: 4 + POST_OP_ATTR_BYTES + opaqueBytes(LINK_BYTES_MAX),
  run(call) {
    const symlink = readHandle(call.args)
    const status = call.enter(symlink)
    return status ? refused(status) : call.vfs.readlink(call.caller, symlink)
  },
  encode(w, result) {
    if (result.ok) w.u32(NFS3_OK)
    else writeStatus(w, result.status)
    writePostOp(w, result.attributes)
    if (result.ok) w.string(result.path)
  },
}
