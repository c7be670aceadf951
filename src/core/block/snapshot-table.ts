/**
 * Entries of a volume's snapshot table: four to a leaf of a metafile (docs/SPEC.md, 5.1).
 */
import { SINGLE } from '../fs/block-store.ts'
import { getU16, getU32, getU64, putU16, putU32, putU64 } from '../fs/bytes.ts'
import { isTreeRoot, TREE_ROOT_BYTES } from '../fs/tree.ts'
import { assert } from '../std/assert.ts'
import { getString, putString } from './codec.ts'

export const SNAPSHOT_ENTRY_BYTES = 1024
export const SNAPSHOTS_PER_LEAF = 4
/** Of a file layer's root in a snapshot's entry. */
export const SNAPSHOT_ROOT_BYTES_MAX = 512
export const SNAPSHOT_NAME_BYTES_MAX = 63
export const REQUEST_BYTES_MAX = 127
const AT_NAME = 64
const AT_MAP = 128
const AT_REQUEST = 256
const AT_CONTENT = 512

export interface SnapshotEntry {
  /** Deleting: nobody sees it any more, its blocks come back by and by. */
  readonly state: 'ordinary' | 'deleting'
  readonly id: number
  readonly name: string
  /** The order that made it. */
  readonly requestId: string
  /** Seconds since the epoch. */
  readonly created: number
  /** The consistency point whose image it is. */
  readonly cp: number
  /** Numbers in use in the image. */
  readonly used: number
  /** While it is being deleted: leaves of its map below this one hold nothing any more. */
  readonly cursor: number
  /** Tree root of the image's active map. */
  readonly map: Uint8Array
  /** The file layer's root of the image. */
  readonly content: Uint8Array
}

/** Writes entry `slot` of a leaf; undefined: there is none. */
export function encodeSnapshot(leaf: Uint8Array, slot: number, entry: SnapshotEntry | undefined): void {
  const bytes = leaf.subarray(slot * SNAPSHOT_ENTRY_BYTES, (slot + 1) * SNAPSHOT_ENTRY_BYTES)
  bytes.fill(0)
  if (entry === undefined) return
  assert(entry.content.length <= SNAPSHOT_ROOT_BYTES_MAX, 'root of a snapshot too large')
  bytes[0] = entry.state === 'ordinary' ? 1 : 2
  putU16(bytes, 2, entry.content.length)
  putU32(bytes, 4, entry.id)
  putU64(bytes, 8, entry.created)
  putU64(bytes, 16, entry.cp)
  putU64(bytes, 24, entry.used)
  putU64(bytes, 32, entry.cursor)
  putString(bytes, AT_NAME, 64, entry.name)
  bytes.set(entry.map, AT_MAP)
  putString(bytes, AT_REQUEST, 128, entry.requestId)
  bytes.set(entry.content, AT_CONTENT)
}

/** 'NONE' for an unused entry; undefined if it makes no sense. */
export function decodeSnapshot(leaf: Uint8Array, slot: number): SnapshotEntry | 'NONE' | undefined {
  const bytes = leaf.subarray(slot * SNAPSHOT_ENTRY_BYTES, (slot + 1) * SNAPSHOT_ENTRY_BYTES)
  if (bytes[0] === 0) return 'NONE'
  const length = getU16(bytes, 2)
  if (bytes[0]! > 2 || length > SNAPSHOT_ROOT_BYTES_MAX || !isTreeRoot(SINGLE, bytes, AT_MAP))
    return undefined
  return {
    state: bytes[0] === 1 ? 'ordinary' : 'deleting',
    id: getU32(bytes, 4),
    name: getString(bytes, AT_NAME, 64),
    requestId: getString(bytes, AT_REQUEST, 128),
    created: getU64(bytes, 8),
    cp: getU64(bytes, 16),
    used: getU64(bytes, 24),
    cursor: getU64(bytes, 32),
    map: bytes.slice(AT_MAP, AT_MAP + TREE_ROOT_BYTES),
    content: bytes.slice(AT_CONTENT, AT_CONTENT + length),
  }
}
