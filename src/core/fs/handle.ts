/**
 * File handles: 32 opaque bytes that name one object of one volume for ever. They hold nothing of a place or a filer, so they
 * survive restart, takeover and giveback; the generation makes the handle of a removed object STALE, and never another object's.
 *
 * | Offset | Bytes | Field |
 * |---|---|---|
 * | 0 | 1 | version, 1 |
 * | 1 | 1 | 0 |
 * | 2 | 6 | file-system id of the volume |
 * | 8 | 8 | inode number |
 * | 16 | 4 | generation of the inode |
 * | 20 | 4 | id of the snapshot that it belongs to, 0: none; all ones: the directory of the snapshots |
 * | 24 | 4 | 0 |
 * | 28 | 4 | CRC-32 of bytes 0-27 |
 */
import type { Crc32 } from '../env/env.ts'
import { HANDLE_BYTES } from '../vfs/vfs.ts'
import { getU32, getU48, getU64, putU32, putU48, putU64 } from './bytes.ts'

export interface HandleFields {
  readonly fsid: number
  readonly ino: number
  readonly generation: number
  /** 0: the files as they are. */
  readonly snapshot: number
}

/** Stands for a snapshot's id in the handle of the directory that lists them. */
export const SNAPSHOT_DIRECTORY = 0xffffffff

const VERSION = 1
const AT_SNAPSHOT = 20
const AT_CRC = HANDLE_BYTES - 4

export function encodeHandle(
  crc32: Crc32,
  fsid: number,
  ino: number,
  generation: number,
  snapshot = 0,
): Uint8Array {
  const bytes = new Uint8Array(HANDLE_BYTES)
  bytes[0] = VERSION
  putU48(bytes, 2, fsid)
  putU64(bytes, 8, ino)
  putU32(bytes, 16, generation)
  putU32(bytes, AT_SNAPSHOT, snapshot)
  putU32(bytes, AT_CRC, crc32(bytes.subarray(0, AT_CRC)))
  return bytes
}

/** Undefined for bytes that are no handle of ours. */
export function decodeHandle(crc32: Crc32, bytes: Uint8Array): HandleFields | undefined {
  if (bytes.length !== HANDLE_BYTES || bytes[0] !== VERSION) return undefined
  if (getU32(bytes, AT_CRC) !== crc32(bytes.subarray(0, AT_CRC)) >>> 0) return undefined
  return {
    fsid: getU48(bytes, 2),
    ino: getU64(bytes, 8),
    generation: getU32(bytes, 16),
    snapshot: getU32(bytes, AT_SNAPSHOT),
  }
}

/** The snapshot's id in a handle of the right length, which may be no handle of ours: 0 for the files as they are. */
export function snapshotOf(handle: Uint8Array): number {
  return getU32(handle, AT_SNAPSHOT)
}

/** Likewise the inode number. */
export function inoOf(handle: Uint8Array): number {
  return getU64(handle, 8)
}
