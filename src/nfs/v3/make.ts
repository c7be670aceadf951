/** CREATE, MKDIR, SYMLINK and MKNOD (RFC 1813, 3.3.8 to 3.3.11): one shape of result, the new object and its directory's wcc data. */
import type { CreateHow, Duplicate, MakeResult } from '../../core/vfs/vfs.ts'
import type { MaybePromise } from '../../core/std/maybe.ts'
import type { Call, Procedure } from '../server/call.ts'
import type { XdrReader, XdrWriter } from '../xdr.ts'
import { XdrError } from '../xdr.ts'
import { FTYPE_NAMES, NFS3_CREATEVERFSIZE, NFS3_OK } from './constants.ts'
import {
  POST_OP_ATTR_BYTES,
  POST_OP_FH3_BYTES,
  WCC_DATA_BYTES,
  readHandle,
  readName,
  readSattr,
  refused,
  writeMade,
  writeStatus,
  writeWcc,
} from './types.ts'

function encodeMade(w: XdrWriter, result: MakeResult): void {
  if (result.ok) {
    w.u32(NFS3_OK)
    writeMade(w, result.object)
  } else writeStatus(w, result.status)
  writeWcc(w, result.wcc)
}

type Made = MakeResult | Uint8Array
type Operation = (dup: Duplicate<MakeResult>) => MaybePromise<MakeResult>

function make(name: string, run: (call: Call, dir: Uint8Array, name: string) => Operation): Procedure<Made> {
  return {
    name,
    replyBytesMax: 4 + POST_OP_FH3_BYTES + POST_OP_ATTR_BYTES + WCC_DATA_BYTES,
    run(call) {
      const dir = readHandle(call.args)
      const operation = run(call, dir, readName(call.args))
      const status = call.enterToChange(dir)
      return status ? refused(status) : call.once(dir, encodeMade, operation)
    },
    encode(w, result) {
      if (result instanceof Uint8Array) w.fixed(result)
      else encodeMade(w, result)
    },
  }
}

/** createhow3 */
function readHow(r: XdrReader): CreateHow {
  switch (r.u32()) {
    case 0:
      return { mode: 'UNCHECKED', attributes: readSattr(r) }
    case 1:
      return { mode: 'GUARDED', attributes: readSattr(r) }
    case 2:
      return { mode: 'EXCLUSIVE', verifier: r.fixed(NFS3_CREATEVERFSIZE) }
    default:
      throw new XdrError('createmode3 is none of its values')
  }
}

export const CREATE = make('CREATE', (call, dir, name) => {
  const how = readHow(call.args)
  return (dup) => call.vfs.create(call.caller, dir, name, how, dup)
})

export const MKDIR = make('MKDIR', (call, dir, name) => {
  const set = readSattr(call.args)
  return (dup) => call.vfs.mkdir(call.caller, dir, name, set, dup)
})

export const SYMLINK = make('SYMLINK', (call, dir, name) => {
  const set = readSattr(call.args)
  const path = readName(call.args)
  return (dup) => call.vfs.symlink(call.caller, dir, name, path, set, dup)
})

export const MKNOD = make('MKNOD', (call, dir, name) => {
  const { args } = call
  const type = FTYPE_NAMES[args.u32()]
  if (type === undefined) throw new XdrError('ftype3 is none of its values')
  if (type === 'REG' || type === 'DIR' || type === 'LNK') return () => refused('BADTYPE')
  const set = readSattr(args)
  const device = type === 'BLK' || type === 'CHR'
  const major = device ? args.u32() : 0
  const minor = device ? args.u32() : 0
  return (dup) => call.vfs.mknod(call.caller, dir, name, type, set, major, minor, dup)
})
