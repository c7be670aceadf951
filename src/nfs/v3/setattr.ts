/** SETATTR (RFC 1813, 3.3.2). */
import type { SetattrResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import type { XdrWriter } from '../xdr.ts'
import { NFS3_OK } from './constants.ts'
import { WCC_DATA_BYTES, readHandle, readSattr, readTime, refused, writeStatus, writeWcc } from './types.ts'

function encode(w: XdrWriter, result: SetattrResult): void {
  if (result.ok) w.u32(NFS3_OK)
  else writeStatus(w, result.status)
  writeWcc(w, result.wcc)
}

export const SETATTR: Procedure<SetattrResult | Uint8Array> = {
  name: 'SETATTR',
  replyBytesMax: 4 + WCC_DATA_BYTES,
  run(call) {
    const object = readHandle(call.args)
    const set = readSattr(call.args)
    const guard = call.args.bool() ? readTime(call.args) : undefined
    const status = call.enterToChange(object)
    if (status) return refused(status)
    const { vfs, caller } = call
    return call.once(object, encode, (dup) => vfs.setattr(caller, object, set, guard, dup))
  },
  encode(w, result) {
    if (result instanceof Uint8Array) w.fixed(result)
    else encode(w, result)
  },
}
