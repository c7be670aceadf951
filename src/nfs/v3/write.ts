/** WRITE (RFC 1813, 3.3.7). The data stays where it was received until the reply is sent. */
import type { WriteResult } from '../../core/vfs/vfs.ts'
import { IO_BYTES_MAX } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { XdrError } from '../xdr.ts'
import { NFS3_OK, NFS3_WRITEVERFSIZE, STABLE_HOW } from './constants.ts'
import { WCC_DATA_BYTES, readHandle, refused, writeStatus, writeWcc } from './types.ts'

export const WRITE: Procedure<WriteResult> = {
  name: 'WRITE',
  replyBytesMax: 4 + WCC_DATA_BYTES + 4 + 4 + NFS3_WRITEVERFSIZE,
  run(call) {
    const { args } = call
    const file = readHandle(args)
    const offset = args.u64()
    const count = args.u32()
    const stable = STABLE_HOW[args.u32()]
    const data = args.opaque(IO_BYTES_MAX)
    if (stable === undefined) throw new XdrError('stable_how is none of its values')
    if (count > data.byteLength) throw new XdrError('count is more than the data')
    const status = call.enterToChange(file)
    if (status) return refused(status)
    return call.vfs.write(
      call.caller,
      file,
      offset,
      count === data.byteLength ? data : data.subarray(0, count),
      stable,
    )
  },
  encode(w, result) {
    if (!result.ok) {
      writeStatus(w, result.status)
      return writeWcc(w, result.wcc)
    }
    w.u32(NFS3_OK)
    writeWcc(w, result.wcc)
    w.u32(result.count)
    w.u32(STABLE_HOW.indexOf(result.committed))
    w.fixed(result.verifier)
  },
  dataBytes: (result) => (result.ok ? result.count : 0),
}
