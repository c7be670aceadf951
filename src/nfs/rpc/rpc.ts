/** ONC RPC version 2 (RFC 5531): the numbers, and the two headers. Record marking is in server/connection.ts. */
import type { XdrReader, XdrWriter } from '../xdr.ts'
import { XdrError } from '../xdr.ts'

export const RPC_VERSION = 2
export const CALL = 0
export const REPLY = 1
export const MSG_ACCEPTED = 0
export const MSG_DENIED = 1

/** accept_stat */
export const SUCCESS = 0
export const PROG_UNAVAIL = 1
export const PROG_MISMATCH = 2
export const PROC_UNAVAIL = 3
export const GARBAGE_ARGS = 4
export const SYSTEM_ERR = 5

/** reject_stat */
export const RPC_MISMATCH = 0
export const AUTH_ERROR = 1

/** auth_stat */
export const AUTH_BADCRED = 1
export const AUTH_REJECTEDCRED = 2

/** auth_flavor */
export const AUTH_NONE = 0
export const AUTH_SYS = 1

export const AUTH_BODY_BYTES_MAX = 400
export const MACHINE_BYTES_MAX = 255
export const GIDS_MAX = 16

/** Record mark, xid, REPLY, MSG_ACCEPTED, empty verifier, accept_stat. */
export const REPLY_HEADER_BYTES = 28
export const LAST_FRAGMENT = 0x8000_0000

/** The credential of AUTH_SYS (RFC 5531, appendix A) without its stamp. */
export interface Credential {
  readonly machine: string
  readonly uid: number
  readonly gid: number
  readonly gids: readonly number[]
}

/** Reads the body of an AUTH_SYS credential. */
export function readAuthSys(r: XdrReader): Credential {
  r.u32()
  const machine = r.string(MACHINE_BYTES_MAX)
  const uid = r.u32()
  const gid = r.u32()
  const count = r.u32()
  if (count > GIDS_MAX) throw new XdrError('more groups than AUTH_SYS allows')
  const gids: number[] = []
  for (let i = 0; i < count; i++) gids.push(r.u32())
  return { machine, uid, gid, gids }
}

/** Writes an accepted reply's header up to accept_stat; the record mark is set when its length is known. */
export function writeAccepted(w: XdrWriter, xid: number, stat: number): void {
  const { view, at } = w
  view.setUint32(at + 4, xid)
  view.setUint32(at + 8, REPLY)
  view.setUint32(at + 12, MSG_ACCEPTED)
  view.setUint32(at + 16, AUTH_NONE)
  view.setUint32(at + 20, 0)
  view.setUint32(at + 24, stat)
  w.at = at + REPLY_HEADER_BYTES
}

/** Sets the record mark of the record that began at `start` and ends where the writer is. */
export function closeRecord(w: XdrWriter, start: number): void {
  w.view.setUint32(start, LAST_FRAGMENT + (w.at - start - 4))
}
