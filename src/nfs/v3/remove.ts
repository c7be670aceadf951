/** REMOVE and RMDIR (RFC 1813, 3.3.12 and 3.3.13). */
import type { Caller, Duplicate, RemoveResult } from '../../core/vfs/vfs.ts'
import type { MaybePromise } from '../../core/std/maybe.ts'
import type { Call, Procedure } from '../server/call.ts'
import type { XdrWriter } from '../xdr.ts'
import { NFS3_OK } from './constants.ts'
import { WCC_DATA_BYTES, readHandle, readName, refused, writeStatus, writeWcc } from './types.ts'

function encode(w: XdrWriter, result: RemoveResult): void {
  if (result.ok) w.u32(NFS3_OK)
  else writeStatus(w, result.status)
  writeWcc(w, result.wcc)
}

type Operation = (
  call: Call,
  caller: Caller,
  dir: Uint8Array,
  name: string,
  dup: Duplicate<RemoveResult>,
) => MaybePromise<RemoveResult>

const procedure = (name: string, operation: Operation): Procedure<RemoveResult | Uint8Array> => ({
  name,
  replyBytesMax: 4 + WCC_DATA_BYTES,
  run(call) {
    const dir = readHandle(call.args)
    const entry = readName(call.args)
    const status = call.enterToChange(dir)
    if (status) return refused(status)
    return call.once(dir, encode, (dup) => operation(call, call.caller, dir, entry, dup))
  },
  encode(w, result) {
    if (result instanceof Uint8Array) w.fixed(result)
    else encode(w, result)
  },
})

export const REMOVE = procedure('REMOVE', (call, caller, dir, name, dup) =>
  call.vfs.remove(caller, dir, name, dup),
)
export const RMDIR = procedure('RMDIR', (call, caller, dir, name, dup) =>
  call.vfs.rmdir(caller, dir, name, dup),
)
