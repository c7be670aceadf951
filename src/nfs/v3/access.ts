/** ACCESS (RFC 1813, 3.3.4). A read-only export grants nothing that changes. */
import type { AccessResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { ACCESS3_CHANGES, NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, refused, writePostOp, writeStatus } from './types.ts'

export const ACCESS: Procedure<AccessResult> = {
  name: 'ACCESS',
  replyBytesMax: 4 + POST_OP_ATTR_BYTES + 4,
  run(call) {
    const object = readHandle(call.args)
    const wanted = call.args.u32()
    const status = call.enter(object)
    if (status) return refused(status)
    const may = call.rule.access === 'ReadOnly' ? wanted & ~ACCESS3_CHANGES : wanted
    return call.vfs.access(call.caller, object, may >>> 0)
  },
  encode(w, result) {
    if (result.ok) w.u32(NFS3_OK)
    else writeStatus(w, result.status)
    writePostOp(w, result.attributes)
    if (result.ok) w.u32(result.access)
  },
}
