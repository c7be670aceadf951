/** LOOKUP (RFC 1813, 3.3.3). */
import type { LookupResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { NFS3_FHSIZE, NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, readName, refused, writePostOp, writeStatus } from './types.ts'

export const LOOKUP: Procedure<LookupResult> = {
  name: 'LOOKUP',
  replyBytesMax: 4 + 4 + NFS3_FHSIZE + 2 * POST_OP_ATTR_BYTES,
  run(call) {
    const dir = readHandle(call.args)
    const name = readName(call.args)
    const status = call.enter(dir)
    return status ? refused(status) : call.vfs.lookup(call.caller, dir, name)
  },
  encode(w, result) {
    if (result.ok) {
      w.u32(NFS3_OK)
      w.opaque(result.object.handle)
      writePostOp(w, result.object.attributes)
    } else writeStatus(w, result.status)
    writePostOp(w, result.directory)
  },
}
