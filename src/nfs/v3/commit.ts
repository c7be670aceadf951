/** COMMIT (RFC 1813, 3.3.21). */
import type { CommitResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { NFS3_OK, NFS3_WRITEVERFSIZE } from './constants.ts'
import { WCC_DATA_BYTES, readHandle, refused, writeStatus, writeWcc } from './types.ts'

export const COMMIT: Procedure<CommitResult> = {
  name: 'COMMIT',
  replyBytesMax: 4 + WCC_DATA_BYTES + NFS3_WRITEVERFSIZE,
  run(call) {
    const { args } = call
    const file = readHandle(args)
    const offset = args.u64()
    const count = args.u32()
    const status = call.enterToChange(file)
    return status ? refused(status) : call.vfs.commit(call.caller, file, offset, count)
  },
  encode(w, result) {
    if (result.ok) w.u32(NFS3_OK)
    else writeStatus(w, result.status)
    writeWcc(w, result.wcc)
    if (result.ok) w.fixed(result.verifier)
  },
}
