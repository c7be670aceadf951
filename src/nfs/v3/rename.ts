/** RENAME (RFC 1813, 3.3.14). */
import type { RenameResult } from '../../core/vfs/vfs.ts'
import type { Procedure } from '../server/call.ts'
import type { XdrWriter } from '../xdr.ts'
import { NFS3_OK } from './constants.ts'
import { WCC_DATA_BYTES, readHandle, readName, refused, writeStatus, writeWcc } from './types.ts'

function encode(w: XdrWriter, result: RenameResult): void {
  if (result.ok) w.u32(NFS3_OK)
  else writeStatus(w, result.status)
  writeWcc(w, result.from)
  writeWcc(w, result.to)
}

export const RENAME: Procedure<RenameResult | Uint8Array> = {
  name: 'RENAME',
  replyBytesMax: 4 + 2 * WCC_DATA_BYTES,
  run(call) {
    const { args } = call
    const from = readHandle(args)
    const fromName = readName(args)
    const to = readHandle(args)
    const toName = readName(args)
    const status = call.enterToChange(to) ?? call.enterToChange(from)
    if (status) return refused(status)
    return call.once(from, encode, (dup) => call.vfs.rename(call.caller, from, fromName, to, toName, dup))
  },
  encode(w, result) {
    if (result instanceof Uint8Array) w.fixed(result)
    else encode(w, result)
  },
}
