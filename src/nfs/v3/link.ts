/** LINK (RFC 1813, 3.3.15). */
import type { LinkResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import type { XdrWriter } from '../xdr.ts'
import { NFS3_OK } from './constants.ts'
import {
  POST_OP_ATTR_BYTES,
  WCC_DATA_BYTES,
  readHandle,
  readName,
  refused,
  writePostOp,
  writeStatus,
  writeWcc,
} from './types.ts'

function encode(w: XdrWriter, result: LinkResult): void {
  if (result.ok) w.u32(NFS3_OK)
  else writeStatus(w, result.status)
  writePostOp(w, result.attributes)
  writeWcc(w, result.wcc)
}

export const LINK: Procedure<LinkResult | Uint8Array> = {
  name: 'LINK',
  replyBytesMax: 4 + POST_OP_ATTR_BYTES + WCC_DATA_BYTES,
  run(call) {
    const { args } = call
    const file = readHandle(args)
    const dir = readHandle(args)
    const name = readName(args)
    const status = call.enterToChange(file) ?? call.enterToChange(dir)
    if (status) return refused(status)
    return call.once(file, encode, (dup) => call.vfs.link(call.caller, file, dir, name, dup))
  },
  encode(w, result) {
    if (result instanceof Uint8Array) w.fixed(result)
    else encode(w, result)
  },
}
