/**
 * READ (RFC 1813, 3.3.6). The file system copies the data to the very place that the reply is sent from: behind a status,
 * attributes, count, eof and the data's length, all of fixed size when the read succeeds.
 */
import type { ReadResult } from '../../core/vfs/vfs.ts'
import { IO_BYTES_MAX } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import { NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, refused, writePostOp, writeStatus } from './types.ts'

export const READ3_BEFORE_DATA = 4 + POST_OP_ATTR_BYTES + 4 + 4 + 4

export const READ: Procedure<ReadResult> = {
  name: 'READ',
  replyBytesMax: READ3_BEFORE_DATA,
  run(call) {
    const file = readHandle(call.args)
    const offset = call.args.u64()
    const count = Math.min(call.args.u32(), IO_BYTES_MAX)
    const status = call.enter(file)
    if (status) return refused(status)
    return call.vfs.read(call.caller, file, offset, count, (bytes) => call.reserve(READ3_BEFORE_DATA, bytes))
  },
  encode(w, result) {
    if (!result.ok) {
      writeStatus(w, result.status)
      return writePostOp(w, result.attributes)
    }
    const { data } = result
    w.u32(NFS3_OK)
    writePostOp(w, result.attributes)
    w.u32(data.byteLength)
    w.bool(result.eof)
    w.u32(data.byteLength)
    const inPlace = data.buffer === w.bytes.buffer && data.byteOffset === w.bytes.byteOffset + w.at
    if (!inPlace) w.bytes.set(data, w.at)
    w.at += data.byteLength
    w.pad(data.byteLength)
  },
  dataBytes: (result) => (result.ok ? result.data.byteLength : 0),
}
