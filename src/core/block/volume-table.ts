/**
 * Entries of the volume table: one block per volume (docs/SPEC.md, 5).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { SINGLE } from '../fs/block-store.ts'
import { getU16, getU32, getU64, putU16, putU32, putU64 } from '../fs/bytes.ts'
import { isTreeRoot, treeBlocks, TREE_ROOT_BYTES } from '../fs/tree.ts'
import { assert } from '../std/assert.ts'
import { asciiJson, getJson, getString, putJson, putString } from './codec.ts'
import type { Json } from './codec.ts'

export const VOLUME_INDEX_MAX = 65535
export const CONTENT_ROOT_BYTES_MAX = 512
/** In the byte of the type, while there are snapshots: a program that does not know them must not free what they hold. */
const WITH_SNAPSHOTS = 0x80
const AT_ACTIVE = 384
const AT_CONTAINER = 512
const AT_CONTENT = 640
const AT_SNAPSHOTS = 1152
const AT_LAST_RESTORE = 1280
const AT_LAST_DELETE = 1408
const AT_PROPERTIES = 1664

/** Bytes of a volume's properties as JSON. */
export const PROPERTIES_BYTES_MAX = BLOCK_BYTES - AT_PROPERTIES - 2

/** Why the properties cannot be kept; undefined if they can. They come from people, so this is asked before anything changes. */
export function propertiesProblem(properties: Json): string | undefined {
  const { length } = asciiJson(properties)
  if (length <= PROPERTIES_BYTES_MAX) return undefined
  return `export rules and other properties of the volume take ${length} bytes, ${PROPERTIES_BYTES_MAX} fit`
}

export type VolumeType = 'Flexible' | 'Traditional'
const TYPES: readonly (VolumeType | undefined)[] = [undefined, 'Flexible', 'Traditional']

export interface VolumeEntry {
  readonly state: 'ordinary' | 'removing'
  readonly type: VolumeType
  readonly index: number
  readonly id: string
  readonly name: string
  readonly fsid: number
  readonly properties: Json
  /** 0 in a traditional volume: its size is that of its devices. */
  readonly quotaBlocks: number
  readonly used: number
  readonly nextNumber: number
  /** While being removed: numbers below it are freed. */
  readonly reclaimed: number
  /** Empty for a volume that was never frozen. */
  readonly contentRoot: Uint8Array
  readonly active: Uint8Array | undefined
  /** Undefined, too, in a traditional volume. */
  readonly container: Uint8Array | undefined
  /** Tree root of the snapshot table; undefined if it never had one. */
  readonly snapshots: Uint8Array | undefined
  /** Number of the next snapshot; 0 if there never was one. */
  readonly nextSnapshot: number
  /** Orders carried out last. */
  readonly lastRestore: string
  readonly lastDelete: string
}

export function encodeEntry(entry: VolumeEntry, bytes: Uint8Array): void {
  assert(entry.contentRoot.length <= CONTENT_ROOT_BYTES_MAX, 'root of a volume too large')
  bytes.fill(0)
  bytes[0] = entry.state === 'ordinary' ? 1 : 2
  bytes[1] = TYPES.indexOf(entry.type)
  if (entry.snapshots !== undefined && treeBlocks(entry.snapshots) > 0) bytes[1] |= WITH_SNAPSHOTS
  putU16(bytes, 2, entry.index)
  putU64(bytes, 8, entry.quotaBlocks)
  putU64(bytes, 16, entry.fsid)
  putU64(bytes, 24, entry.used)
  putU64(bytes, 32, entry.nextNumber)
  putU64(bytes, 40, entry.reclaimed)
  putU16(bytes, 48, entry.contentRoot.length)
  putU32(bytes, 52, entry.nextSnapshot)
  putString(bytes, 64, 64, entry.id)
  putString(bytes, 128, 256, entry.name)
  if (entry.active !== undefined) bytes.set(entry.active, AT_ACTIVE)
  if (entry.container !== undefined) bytes.set(entry.container, AT_CONTAINER)
  bytes.set(entry.contentRoot, AT_CONTENT)
  if (entry.snapshots !== undefined) bytes.set(entry.snapshots, AT_SNAPSHOTS)
  putString(bytes, AT_LAST_RESTORE, 128, entry.lastRestore)
  putString(bytes, AT_LAST_DELETE, 128, entry.lastDelete)
  putJson(bytes, AT_PROPERTIES, BLOCK_BYTES - AT_PROPERTIES, entry.properties)
}

/** Undefined if it makes no sense, although its checksum held. */
export function decodeEntry(bytes: Uint8Array): VolumeEntry | undefined {
  const state = bytes[0] === 1 ? 'ordinary' : bytes[0] === 2 ? 'removing' : undefined
  const length = getU16(bytes, 48)
  const properties = getJson(bytes, AT_PROPERTIES, BLOCK_BYTES - AT_PROPERTIES)
  const type = TYPES[bytes[1]! & ~WITH_SNAPSHOTS]
  if (state === undefined || type === undefined || properties === undefined) return undefined
  if (length > CONTENT_ROOT_BYTES_MAX) return undefined
  const mapped = type === 'Flexible'
  if (!isTreeRoot(SINGLE, bytes, AT_ACTIVE)) return undefined
  if (mapped && !isTreeRoot(SINGLE, bytes, AT_CONTAINER)) return undefined
  const snapshots = bytes.slice(AT_SNAPSHOTS, AT_SNAPSHOTS + TREE_ROOT_BYTES)
  const tabled = snapshots.some((byte) => byte !== 0)
  if (tabled && !isTreeRoot(SINGLE, snapshots)) return undefined
  return {
    state,
    type,
    index: getU16(bytes, 2),
    id: getString(bytes, 64, 64),
    name: getString(bytes, 128, 256),
    fsid: getU64(bytes, 16),
    properties,
    quotaBlocks: getU64(bytes, 8),
    used: getU64(bytes, 24),
    nextNumber: getU64(bytes, 32),
    reclaimed: getU64(bytes, 40),
    contentRoot: bytes.slice(AT_CONTENT, AT_CONTENT + length),
    active: bytes.slice(AT_ACTIVE, AT_ACTIVE + TREE_ROOT_BYTES),
    container: mapped ? bytes.slice(AT_CONTAINER, AT_CONTAINER + TREE_ROOT_BYTES) : undefined,
    snapshots: tabled ? snapshots : undefined,
    nextSnapshot: getU32(bytes, 52),
    lastRestore: getString(bytes, AT_LAST_RESTORE, 128),
    lastDelete: getString(bytes, AT_LAST_DELETE, 128),
  }
}
