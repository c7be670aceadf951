/**
 * Frames of a mirror's log files (docs/mirroring.md, Formats): records of one epoch, byte for byte those of the source's own log. A frame travels and is appended as it is.
 */
import type { Crc32 } from '../env/env.ts'
import { getU32, getU64, putU32, putU64 } from '../fs/bytes.ts'

const MAGIC = 0x464d4e54
const VERSION = 1
export const FRAME_HEADER_BYTES = 64
const RECORD_HEADER_BYTES = 12

export interface MirrorRecord {
  /** In the log of the source's side: grows, with gaps where records are of other volumes. */
  readonly seq: number
  readonly body: Uint8Array
}

export interface MirrorFrame {
  readonly epoch: number
  /** Of the record of this volume before the first one in the frame: frames chain by it, so that a gap shows. */
  readonly previous: number
  readonly last: number
  readonly records: readonly MirrorRecord[]
}

export function encodeFrame(crc32: Crc32, { epoch, previous, last, records }: MirrorFrame): Uint8Array {
  let size = FRAME_HEADER_BYTES
  for (const { body } of records) size += RECORD_HEADER_BYTES + body.length
  const bytes = new Uint8Array(size)
  putU32(bytes, 0, MAGIC)
  putU32(bytes, 4, VERSION)
  putU32(bytes, 8, size)
  putU32(bytes, 12, records.length)
  putU64(bytes, 16, epoch)
  putU64(bytes, 24, previous)
  putU64(bytes, 32, last)
  let at = FRAME_HEADER_BYTES
  for (const { seq, body } of records) {
    putU32(bytes, at, body.length)
    putU64(bytes, at + 4, seq)
    bytes.set(body, at + RECORD_HEADER_BYTES)
    at += RECORD_HEADER_BYTES + body.length
  }
  putU32(bytes, 60, crc32(bytes))
  return bytes
}

/** The frame that begins at `from` and how many bytes it has; undefined if there is no whole one. */
export function decodeFrame(
  crc32: Crc32,
  bytes: Uint8Array,
  from = 0,
): { readonly frame: MirrorFrame; readonly bytes: number } | undefined {
  if (bytes.length < from + FRAME_HEADER_BYTES || getU32(bytes, from) !== MAGIC) return undefined
  const size = getU32(bytes, from + 8)
  if (getU32(bytes, from + 4) !== VERSION || size < FRAME_HEADER_BYTES || from + size > bytes.length)
    return undefined
  const copy = bytes.slice(from, from + size)
  putU32(copy, 60, 0)
  if (crc32(copy) !== getU32(bytes, from + 60)) return undefined
  const records: MirrorRecord[] = []
  for (let at = FRAME_HEADER_BYTES; at < size;) {
    const length = getU32(copy, at)
    const body = copy.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length)
    records.push({ seq: getU64(copy, at + 4), body })
    at += RECORD_HEADER_BYTES + length
  }
  if (records.length !== getU32(copy, 12)) return undefined
  const frame = { epoch: getU64(copy, 16), previous: getU64(copy, 24), last: getU64(copy, 32), records }
  return { frame, bytes: size }
}
