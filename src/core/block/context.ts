/**
 * The context of a data block: 32 bytes in its group's checksum block that say what the block is, so that rot, misdirected and lost
 * writes show when it is read (docs/SPEC.md, 1.2).
 */
import type { Crc32 } from '../env/env.ts'
import type { BlockKind } from '../fs/block-store.ts'
import { getU16, getU32, getU48, putU16, putU32, putU48 } from '../fs/bytes.ts'

export const CONTEXT_BYTES = 32
const AT_NUMBER = 4
const AT_VOLUME = 10
const AT_GENERATION = 12
const AT_KIND = 18
const AT_PVBN = 20
const AT_CHECK = 28

const KIND_CODES: Readonly<Record<BlockKind, number>> = {
  data: 1,
  indirect: 2,
  inode: 3,
  directory: 4,
  symlink: 5,
  meta: 6,
}
const KINDS: readonly (BlockKind | undefined)[] = [
  undefined,
  'data',
  'indirect',
  'inode',
  'directory',
  'symlink',
  'meta',
]

/** What a block must be: what its parent's pointer asks for. */
export interface Identity {
  /** Index of the volume; 0 for metafiles of the aggregate. */
  readonly volume: number
  /** VVBN, or PVBN for metafiles and in traditional volumes. */
  readonly number: number
  readonly kind: BlockKind
  /** The consistency point that wrote it, where that is known. */
  readonly generation?: number
  /** The place that its context names, where that is not where it lies now: a block of a volume that was converted. */
  readonly place?: number
  /** The last consistency point that can have written it, where that is known. */
  readonly latest?: number
}

export interface Context extends Identity {
  readonly crc: number
  readonly generation: number
  readonly pvbn: number
}

/** Writes the context of `content` into entry `slot` of a checksum block. */
export function putContext(
  crc32: Crc32,
  checksums: Uint8Array,
  slot: number,
  volume: number,
  number: number,
  kind: BlockKind,
  generation: number,
  pvbn: number,
  content: Uint8Array,
): void {
  const at = slot * CONTEXT_BYTES
  putU32(checksums, at, crc32(content))
  putU48(checksums, at + AT_NUMBER, number)
  putU16(checksums, at + AT_VOLUME, volume)
  putU48(checksums, at + AT_GENERATION, generation)
  checksums[at + AT_KIND] = KIND_CODES[kind]
  checksums[at + AT_KIND + 1] = 0
  putU48(checksums, at + AT_PVBN, pvbn)
  putU16(checksums, at + AT_PVBN + 6, 0)
  putU32(checksums, at + AT_CHECK, crc32(checksums.subarray(at, at + AT_CHECK)))
}

/** The context in entry `slot`; undefined if it is damaged or was never written. */
export function getContext(crc32: Crc32, checksums: Uint8Array, slot: number): Context | undefined {
  const at = slot * CONTEXT_BYTES
  const kind = KINDS[checksums[at + AT_KIND]!]
  if (kind === undefined) return undefined
  if (getU32(checksums, at + AT_CHECK) !== crc32(checksums.subarray(at, at + AT_CHECK))) return undefined
  return {
    crc: getU32(checksums, at),
    number: getU48(checksums, at + AT_NUMBER),
    volume: getU16(checksums, at + AT_VOLUME),
    generation: getU48(checksums, at + AT_GENERATION),
    kind,
    pvbn: getU48(checksums, at + AT_PVBN),
  }
}

/** True if `content` is the block that a pointer asks for, undamaged. */
export function isGood(
  crc32: Crc32,
  checksums: Uint8Array,
  slot: number,
  identity: Identity,
  pvbn: number,
  content: Uint8Array,
): boolean {
  const context = getContext(crc32, checksums, slot)
  return (
    context !== undefined &&
    context.volume === identity.volume &&
    context.number === identity.number &&
    context.kind === identity.kind &&
    (identity.generation === undefined || context.generation === identity.generation) &&
    (identity.latest === undefined || context.generation <= identity.latest) &&
    context.pvbn === (identity.place ?? pvbn) &&
    context.crc === crc32(content)
  )
}

/** What the owner map says of a place. */
export interface OwnerEntry {
  /** Index of the volume; 0: a metafile of the aggregate. */
  readonly volume: number
  /** In the volume. */
  readonly number: number
  /** Of what has its place as its number: metafiles, and blocks of a traditional volume. */
  readonly generation: number | undefined
}

/** True if the context at `pvbn` is that of the block which the owner map has there. */
export function isOwned(context: Context | undefined, owner: OwnerEntry, pvbn: number): boolean {
  if (context === undefined || context.pvbn !== pvbn || context.volume !== owner.volume) return false
  if (owner.generation !== undefined && context.generation !== owner.generation) return false
  return context.number === owner.number
}
