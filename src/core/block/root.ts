/**
 * The root of an aggregate's image: one self-checking block in one of two slots on each plex (docs/SPEC.md, 3).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Device } from '../env/device.ts'
import type { Crc32, Env } from '../env/env.ts'
import { getU16, getU32, getU48, getU64, putU16, putU32, putU48, putU64 } from '../fs/bytes.ts'
import { SINGLE } from '../fs/block-store.ts'
import { isTreeRoot, TREE_ROOT_BYTES } from '../fs/tree.ts'
import { getJson, getString, isSealed, putJson, putString, seal } from './codec.ts'
import type { Json } from './codec.ts'
import { DEVICES_MAX, FORMAT_VERSION, isLayout, ROOT_SLOTS } from './layout.ts'
import type { RootPlace } from './layout.ts'

const MAGIC = 'TANDEMRT'
const AT_ACTIVE = 128
const AT_OWNERS = 256
const AT_VOLUMES = 384
const AT_DEVICES = 528
const AT_SHARED = 1552
const AT_ANCESTORS = 1560
const NAME_BYTES = 24
const ANCESTORS_MAX = 2
const AT_PROPERTIES = 2048

/** What the pair wants to know of a root. */
export interface RootInfo {
  readonly cp: number
  readonly epoch: number
  /** Sequence number of the last log record whose effect is in the image. */
  readonly covers: number
  /** Names the image: equal roots, equal images. */
  readonly image: string
}

/** Names a root without its checksum. */
export interface RootName {
  readonly cp: number
  readonly epoch: number
  readonly random: readonly [number, number]
}

export interface Root extends RootInfo {
  readonly random: readonly [number, number]
  /** The consistency point went to both plexes: this root may be on the other one too. */
  readonly shared: boolean
  /** The latest ancestors of which that is true. */
  readonly ancestors: readonly RootName[]
  readonly aggregateId: string
  readonly used: number
  /** Tree roots, TREE_ROOT_BYTES each. */
  readonly active: Uint8Array
  readonly owners: Uint8Array
  readonly volumes: Uint8Array
  readonly devices: readonly RootPlace[]
  readonly properties: Json
}

export type RootFields = Omit<Root, 'image'>

export function encodeRoot(crc32: Crc32, root: RootFields): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES)
  putU16(bytes, 12, FORMAT_VERSION)
  putU64(bytes, 16, root.cp)
  putU64(bytes, 24, root.epoch)
  putU64(bytes, 32, root.covers)
  putU32(bytes, 40, root.random[0])
  putU32(bytes, 44, root.random[1])
  putU64(bytes, 48, root.used)
  putString(bytes, 64, 64, root.aggregateId)
  bytes.set(root.active, AT_ACTIVE)
  bytes.set(root.owners, AT_OWNERS)
  bytes.set(root.volumes, AT_VOLUMES)
  putU16(bytes, 512, root.devices.length)
  root.devices.forEach((device, i) => {
    putU48(bytes, AT_DEVICES + 16 * i, device.first)
    putU48(bytes, AT_DEVICES + 16 * i + 6, device.blocks)
  })
  bytes[AT_SHARED] = root.shared ? 1 : 0
  const ancestors = root.ancestors.slice(0, ANCESTORS_MAX)
  bytes[AT_SHARED + 1] = ancestors.length
  ancestors.forEach((ancestor, i) => {
    putName(bytes, AT_ANCESTORS + NAME_BYTES * i, ancestor)
  })
  putJson(bytes, AT_PROPERTIES, BLOCK_BYTES - AT_PROPERTIES, root.properties)
  seal(crc32, bytes, MAGIC)
  return bytes
}

export function putName(bytes: Uint8Array, at: number, name: RootName): void {
  putU64(bytes, at, name.cp)
  putU64(bytes, at + 8, name.epoch)
  putU32(bytes, at + 16, name.random[0])
  putU32(bytes, at + 20, name.random[1])
}

export const getName = (bytes: Uint8Array, at: number): RootName => ({
  cp: getU64(bytes, at),
  epoch: getU64(bytes, at + 8),
  random: [getU32(bytes, at + 16), getU32(bytes, at + 20)],
})

export const hex = (value: number): string => value.toString(16).padStart(8, '0')

export function decodeRoot(crc32: Crc32, bytes: Uint8Array): Root | undefined {
  if (!isSealed(crc32, bytes, MAGIC) || getU16(bytes, 12) !== FORMAT_VERSION) return undefined
  const count = getU16(bytes, 512)
  const properties = getJson(bytes, AT_PROPERTIES, BLOCK_BYTES - AT_PROPERTIES)
  if (count === 0 || count > DEVICES_MAX || properties === undefined) return undefined
  for (const at of [AT_ACTIVE, AT_OWNERS, AT_VOLUMES]) if (!isTreeRoot(SINGLE, bytes, at)) return undefined
  const devices = Array.from({ length: count }, (_, i) => {
    const at = AT_DEVICES + 16 * i
    return { first: getU48(bytes, at), blocks: getU48(bytes, at + 6) }
  })
  if (!isLayout(devices)) return undefined
  const ancestors = Array.from({ length: Math.min(bytes[AT_SHARED + 1]!, ANCESTORS_MAX) }, (_, i) =>
    getName(bytes, AT_ANCESTORS + NAME_BYTES * i),
  )
  const cp = getU64(bytes, 16)
  const epoch = getU64(bytes, 24)
  return {
    cp,
    epoch,
    covers: getU64(bytes, 32),
    image: `${cp}-${epoch}-${hex(getU32(bytes, 40))}${hex(getU32(bytes, 44))}${hex(getU32(bytes, 8))}`,
    random: [getU32(bytes, 40), getU32(bytes, 44)],
    shared: bytes[AT_SHARED] === 1,
    ancestors,
    aggregateId: getString(bytes, 64, 64),
    used: getU64(bytes, 48),
    active: bytes.slice(AT_ACTIVE, AT_ACTIVE + TREE_ROOT_BYTES),
    owners: bytes.slice(AT_OWNERS, AT_OWNERS + TREE_ROOT_BYTES),
    volumes: bytes.slice(AT_VOLUMES, AT_VOLUMES + TREE_ROOT_BYTES),
    devices,
    properties,
  }
}

/** Roots that the other plex may have had, newest first: this one if it is shared, and ancestors. */
export function lineage(
  root: Pick<Root, 'cp' | 'epoch' | 'random' | 'shared' | 'ancestors'>,
): readonly RootName[] {
  const { cp, epoch, random, shared, ancestors } = root
  return shared ? [{ cp, epoch, random }, ...ancestors] : ancestors
}

export function isNamed(root: RootName, name: RootName): boolean {
  return (
    root.cp === name.cp &&
    root.epoch === name.epoch &&
    root.random[0] === name.random[0] &&
    root.random[1] === name.random[1]
  )
}

export interface SlotRoot {
  readonly slot: number
  readonly root: Root
}

/** The valid roots on the first device of a plex, newest first. Slots that cannot be read count as empty. */
export async function readRoots(env: Env, device: Device): Promise<SlotRoot[]> {
  const found: SlotRoot[] = []
  for (const slot of ROOT_SLOTS) {
    const bytes = new Uint8Array(BLOCK_BYTES)
    try {
      await device.read(slot, bytes)
    } catch (error) {
      env.log('warn', 'root cannot be read', { device: device.name, block: slot, error })
      continue
    }
    const root = decodeRoot(env.crc32, bytes)
    if (root !== undefined) found.push({ slot, root })
  }
  return found.sort((a, b) => b.root.cp - a.root.cp || b.root.epoch - a.root.epoch)
}

/** The slot for the next root: never the one that holds the live root. */
export function nextSlot(live: number | undefined): number {
  return live === ROOT_SLOTS[0] ? ROOT_SLOTS[1] : ROOT_SLOTS[0]
}
