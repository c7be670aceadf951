/** GETATTR (RFC 1813, 3.3.1). */
import type { GetattrResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { NFS3_OK } from './constants.ts'
import { FATTR3_BYTES, readHandle, refused, writeAttributes, writeStatus } from './types.ts'

export const GETATTR: Procedure<GetattrResult> = {
  name: 'GETATTR',
  replyBytesMax: 4 + FATTR3_BYTES,
  run(call) {
    const object = readHandle(call.args)
    const status = call.enter(object)
    return status ? refused(status) : call.vfs.getattr(object)
  },
  encode(w, result) {
    if (!result.ok) return writeStatus(w, result.status)
    w.u32(NFS3_OK)
    writeAttributes(w, result.attributes)
  },
}
