/**
 * Labels: what a device is, at both of its ends (docs/SPEC.md, 2). They decide which devices form a plex, and whether its content may be used.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Device } from '../env/device.ts'
import type { Crc32, Env } from '../env/env.ts'
import { getU16, getU32, getU64, putU16, putU32, putU64 } from '../fs/bytes.ts'
import { getString, isSealed, putString, seal } from './codec.ts'
import { FORMAT_VERSION, LABEL_BLOCK } from './layout.ts'
import { getName, hex, putName } from './root.ts'
import type { RootName } from './root.ts'

const MAGIC = 'TANDEMDV'
/** Of the labels of an aggregate that is a traditional volume's: a program of before these must not touch it. */
const TRADITIONAL_VERSION = 2
/** Of those that have to do with a conversion: roots and pointers may say what a program of before these does not know. */
export const CONVERSION_VERSION = 3
/** Of those that grew meanwhile: the root's places of devices count, and there may be gaps between them. */
export const GAPS_VERSION = 4
const AT_TYPE = 512
/** 0: nothing of these. 1: a pass that fills the plex. 2: also what both plexes had before. */
const AT_FILLING = 513
const AT_GROUPS = 520
const AT_PASS = 528
const AT_BASE = 536

/** Flexible: of flexible volumes, as many as one likes. Traditional: of one traditional volume. */
export type AggregateType = 'Flexible' | 'Traditional'

export type PlexState = 'complete' | 'resyncing'

/** What a plex has already while it is filled; in the label of its first device, when its state is `resyncing`. */
export interface Filling {
  /** The image that both plexes had before; nothing of it is lost while it is still in use. */
  readonly base?: RootName
  /** 16 hexadecimal digits. */
  readonly pass: string
  /** Groups, from the first on, that the pass has copied and flushed. */
  readonly groups: number
}

export interface Label {
  readonly plex: number
  readonly state: PlexState
  readonly generation: number
  readonly position: number
  readonly devices: number
  /** Size of the device in blocks. */
  readonly blocks: number
  readonly firstPvbn: number
  readonly dataBlocks: number
  readonly incarnation: number
  readonly pairUid: string
  readonly aggregateId: string
  readonly aggregateName: string
  readonly side: string
  readonly type: AggregateType
  readonly filling?: Filling
  /** Only programs that know this version of the format may touch the device; if not said, as the type asks. */
  readonly version?: number
}

export function encodeLabel(crc32: Crc32, label: Label): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES)
  putU16(bytes, 12, label.version ?? versionOf(label.type))
  bytes[14] = label.plex
  bytes[15] = label.state === 'complete' ? 0 : 1
  putU64(bytes, 16, label.generation)
  putU16(bytes, 24, label.position)
  putU16(bytes, 26, label.devices)
  putU64(bytes, 32, label.blocks)
  putU64(bytes, 40, label.firstPvbn)
  putU64(bytes, 48, label.dataBlocks)
  putU64(bytes, 56, label.incarnation)
  putString(bytes, 64, 64, label.pairUid)
  putString(bytes, 128, 64, label.aggregateId)
  putString(bytes, 192, 256, label.aggregateName)
  putString(bytes, 448, 64, label.side)
  bytes[AT_TYPE] = label.type === 'Flexible' ? 0 : 1
  if (label.filling !== undefined) putFilling(bytes, label.filling)
  seal(crc32, bytes, MAGIC)
  return bytes
}

function putFilling(bytes: Uint8Array, { base, pass, groups }: Filling): void {
  bytes[AT_FILLING] = base === undefined ? 1 : 2
  putU64(bytes, AT_GROUPS, groups)
  putU32(bytes, AT_PASS, parseInt(pass.slice(0, 8), 16))
  putU32(bytes, AT_PASS + 4, parseInt(pass.slice(8), 16))
  if (base !== undefined) putName(bytes, AT_BASE, base)
}

function getFilling(bytes: Uint8Array): { filling?: Filling } {
  if (bytes[AT_FILLING] === 0) return {}
  const pass = hex(getU32(bytes, AT_PASS)) + hex(getU32(bytes, AT_PASS + 4))
  const base = bytes[AT_FILLING] === 2 ? { base: getName(bytes, AT_BASE) } : {}
  return { filling: { ...base, pass, groups: getU64(bytes, AT_GROUPS) } }
}

const versionOf = (type: AggregateType): number =>
  type === 'Flexible' ? FORMAT_VERSION : TRADITIONAL_VERSION

/** 'version': a label of a later format, which this program must not touch. */
export function decodeLabel(crc32: Crc32, bytes: Uint8Array): Label | 'version' | undefined {
  if (!isSealed(crc32, bytes, MAGIC)) return undefined
  const version = getU16(bytes, 12)
  if (version < FORMAT_VERSION || version > GAPS_VERSION || bytes[AT_TYPE]! > 1) return 'version'
  const type = bytes[AT_TYPE] === 0 ? 'Flexible' : 'Traditional'
  return {
    plex: bytes[14]!,
    state: bytes[15] === 0 ? 'complete' : 'resyncing',
    generation: getU64(bytes, 16),
    position: getU16(bytes, 24),
    devices: getU16(bytes, 26),
    blocks: getU64(bytes, 32),
    firstPvbn: getU64(bytes, 40),
    dataBlocks: getU64(bytes, 48),
    incarnation: getU64(bytes, 56),
    pairUid: getString(bytes, 64, 64),
    aggregateId: getString(bytes, 128, 64),
    aggregateName: getString(bytes, 192, 256),
    side: getString(bytes, 448, 64),
    type,
    ...getFilling(bytes),
    ...(version === versionOf(type) ? {} : { version }),
  }
}

/** The label of a device: the newer of its two copies; undefined if there is none. An end that cannot be read counts as none. */
export async function readLabel(env: Env, device: Device): Promise<Label | 'version' | undefined> {
  let found: Label | 'version' | undefined
  for (const block of [LABEL_BLOCK, device.blocks - 1]) {
    const bytes = new Uint8Array(BLOCK_BYTES)
    try {
      await device.read(block, bytes)
    } catch (error) {
      env.log('warn', 'label cannot be read', { device: device.name, block, error })
      continue
    }
    const label = decodeLabel(env.crc32, bytes)
    if (label === 'version') return label
    if (label !== undefined && (found === undefined || label.generation > (found as Label).generation)) {
      found = label
    }
  }
  return found
}

/** The label as it is written next: of the copies on a device the one with the higher generation counts. */
export function nextLabel(label: Label): Label {
  return { ...label, generation: label.generation + 1 }
}

/** Writes both copies, one after the other, each flushed: one of them is always whole. */
export async function writeLabel(env: Env, device: Device, label: Label): Promise<void> {
  const bytes = encodeLabel(env.crc32, label)
  for (const block of [LABEL_BLOCK, device.blocks - 1]) {
    await device.write(block, [bytes])
    await device.flush()
  }
}
