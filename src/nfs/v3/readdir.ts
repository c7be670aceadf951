/**
 * READDIR and READDIRPLUS (RFC 1813, 3.3.16 and 3.3.17). The file system gives entries, the byte limits are kept here: what does
 * not fit is left for the next call; TOOSMALL when not even one entry fits.
 */
import type { DirectoryEntry, ReaddirResult } from '../../core/vfs/vfs.ts'
import type { MaybePromise } from '../../core/std/maybe.ts'
import { isPromise } from '../../core/std/maybe.ts'
import type { Call, Procedure } from '../server/call.ts'
import type { XdrWriter } from '../xdr.ts'
import { opaqueBytes } from '../xdr.ts'
import { NFS3_COOKIEVERFSIZE, NFS3_OK } from './constants.ts'
import { POST_OP_ATTR_BYTES, readHandle, refused, writePostOp, writeStatus } from './types.ts'

/** Most bytes of results that a reply to READDIR or READDIRPLUS takes, whatever the client allows. */
export const READDIR_BYTES_MAX = 1 << 20
/** Most entries that one call asks of the file system. */
const ENTRIES_MAX = 4096

/** Attributes, verifier, the end of the list and eof; the limits of the RFC do not count the status. */
const FRAME_BYTES = POST_OP_ATTR_BYTES + NFS3_COOKIEVERFSIZE + 4 + 4
/** fileid, name's length word, cookie. */
const ENTRY_BYTES = 8 + 4 + 8
const NAME_BYTES_LIKELY = 8
const PLUS_BYTES_LIKELY = POST_OP_ATTR_BYTES + 4 + 4 + 32

/** Bytes of an entry that dircount limits. */
const directoryBytes = (entry: DirectoryEntry): number => 8 + opaqueBytes(entry.name.length) + 8
const plusBytes = ({ object }: DirectoryEntry): number =>
  object ? POST_OP_ATTR_BYTES + 4 + opaqueBytes(object.handle.byteLength) : 8

interface Listing {
  readonly result: ReaddirResult
  readonly plus: boolean
}

/** Keeps the entries that fit. */
function fit(call: Call, result: ReaddirResult, plus: boolean, dircount: number, maxcount: number): Listing {
  if (!result.ok) return { result, plus }
  let names = 0
  let all = FRAME_BYTES
  let kept = 0
  for (const entry of result.entries) {
    names += directoryBytes(entry)
    const more = 4 + directoryBytes(entry) + (plus ? plusBytes(entry) : 0)
    // dircount is a hint: the first entry is given even if it is longer.
    if (all + more > maxcount || (kept > 0 && names > dircount)) break
    all += more
    kept++
  }
  call.replyBytes = all
  if (kept === result.entries.length) return { result, plus }
  if (kept === 0) return { result: { ok: false, status: 'TOOSMALL', attributes: result.attributes }, plus }
  return { result: { ...result, entries: result.entries.slice(0, kept), eof: false }, plus }
}

function encode(w: XdrWriter, { result, plus }: Listing): void {
  if (!result.ok) {
    writeStatus(w, result.status)
    return writePostOp(w, result.attributes)
  }
  w.u32(NFS3_OK)
  writePostOp(w, result.attributes)
  w.fixed(result.verifier)
  for (const entry of result.entries) {
    w.u32(1)
    w.u64(entry.fileid)
    w.string(entry.name)
    w.u64(entry.cookie)
    if (plus) {
      writePostOp(w, entry.object?.attributes)
      w.bool(entry.object !== undefined)
      if (entry.object) w.opaque(entry.object.handle)
    }
  }
  w.u32(0)
  w.bool(result.eof)
}

const procedure = (name: string, plus: boolean): Procedure<Listing> => ({
  name,
  replyBytesMax: 4 + FRAME_BYTES,
  run(call): MaybePromise<Listing> {
    const { args } = call
    const dir = readHandle(args)
    const cookie = args.u64()
    const verifier = args.fixed(NFS3_COOKIEVERFSIZE)
    const dircount = plus ? args.u32() : READDIR_BYTES_MAX
    const maxcount = Math.min(args.u32(), READDIR_BYTES_MAX)
    const status = call.enter(dir)
    if (status) return { result: refused(status), plus }
    if (maxcount < FRAME_BYTES) return { result: refused('TOOSMALL'), plus }
    const likely = ENTRY_BYTES + NAME_BYTES_LIKELY
    const entries = Math.ceil(
      Math.min((maxcount - FRAME_BYTES) / (4 + likely + (plus ? PLUS_BYTES_LIKELY : 0)), dircount / likely),
    )
    const found = call.vfs.readdir(
      call.caller,
      dir,
      cookie,
      verifier,
      Math.max(1, Math.min(entries, ENTRIES_MAX)),
      plus,
    )
    return isPromise(found)
      ? found.then((result) => fit(call, result, plus, dircount, maxcount))
      : fit(call, found, plus, dircount, maxcount)
  },
  encode,
})

export const READDIR = procedure('READDIR', false)
export const READDIRPLUS = procedure('READDIRPLUS', true)
