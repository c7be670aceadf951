/**
 * Where a PVBN lies: groups of one checksum block and 128 data blocks, behind a label area, on the devices of a plex.
 * Pure arithmetic (docs/SPEC.md, 1); equal on every plex of an aggregate. A PVBN that exists never moves: devices come behind the end, or, when they are those of a
 * converted volume, into the gap that was left for them. Groups in a gap have no blocks.
 */
import { assert } from '../std/assert.ts'

export const FORMAT_VERSION = 1
/** Data blocks in a group. */
export const GROUP_BLOCKS = 128
/** Device blocks of a group: the checksum block and the data. */
export const GROUP_STRIDE = GROUP_BLOCKS + 1
export const LABEL_BLOCK = 0
export const ROOT_SLOTS: readonly [number, number] = [1, 2]
/** First block of the first group. */
export const DATA_START = 8
/** Blocks of a device outside its groups: the label area and the label at the end. */
const OVERHEAD_BLOCKS = DATA_START + 1
export const DEVICES_MAX = 64
/** Room for at least one whole group, and nothing smaller makes sense. */
export const DEVICE_BLOCKS_MIN = OVERHEAD_BLOCKS + GROUP_STRIDE

export function dataBlocksOf(deviceBlocks: number): number {
  const area = deviceBlocks - OVERHEAD_BLOCKS
  if (area < 2) return 0
  return GROUP_BLOCKS * Math.floor(area / GROUP_STRIDE) + Math.max(0, (area % GROUP_STRIDE) - 1)
}

export interface DevicePlace {
  /** First PVBN of the device, a multiple of GROUP_BLOCKS. */
  readonly first: number
  /** Data blocks. */
  readonly data: number
  /** Size of the device in blocks. */
  readonly blocks: number
}

export interface Location {
  readonly device: number
  /** Block of the device. */
  readonly block: number
}

/** As a root has it. */
export type RootPlace = Pick<DevicePlace, 'first' | 'blocks'>

export const placeOf = ({ first, blocks }: RootPlace): DevicePlace => ({
  first,
  data: dataBlocksOf(blocks),
  blocks,
})

/** Whether devices can lie so: the first one at the beginning, whole groups each, none in another. */
export function isLayout(places: readonly RootPlace[]): boolean {
  const order = places.map(placeOf).sort((a, b) => a.first - b.first)
  return (
    places[0]?.first === 0 &&
    order.every(({ first }, i) => {
      const before = order[i - 1]
      return first % GROUP_BLOCKS === 0 && (before === undefined || first >= before.first + before.data)
    })
  )
}

export class Layout {
  /** By position. */
  private readonly places: DevicePlace[] = []
  /** Positions by first PVBN. */
  private order: number[] = []
  private count = 0
  private last = 0

  /** Devices of these sizes in blocks one behind the other, or at these places. */
  constructor(devices: readonly number[] | readonly RootPlace[]) {
    assert(devices.length > 0, 'a plex has at least one device')
    for (const device of devices)
      this.append(typeof device === 'number' ? this.behind([device]) : [placeOf(device)])
  }

  /** More devices, with the next positions. */
  append(places: readonly DevicePlace[]): void {
    for (const place of places) {
      this.places.push(place)
      this.count += place.data
      this.last = Math.max(this.last, place.first + place.data)
    }
    const { places: all } = this
    this.order = all.map((_, position) => position).sort((a, b) => all[a]!.first - all[b]!.first)
  }

  /** Where devices of these sizes would come, from `from` on if that is behind the last one. */
  behind(sizes: readonly number[], from = 0): DevicePlace[] {
    let end = Math.max(this.last, from)
    return sizes.map((blocks) => {
      const place = {
        first: Math.ceil(end / GROUP_BLOCKS) * GROUP_BLOCKS,
        data: dataBlocksOf(blocks),
        blocks,
      }
      end = place.first + place.data
      return place
    })
  }

  get devices(): readonly DevicePlace[] {
    return this.places
  }

  /** One more than the largest PVBN. */
  get end(): number {
    return this.last
  }

  /** Data blocks on all devices; PVBN 0 is counted though it is never used. */
  get data(): number {
    return this.count
  }

  deviceOf(pvbn: number): number {
    const { places, order } = this
    let low = 0
    let high = order.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (places[order[middle]!]!.first <= pvbn) low = middle
      else high = middle - 1
    }
    return order[low]!
  }

  /** True if `pvbn` is the number of a block that exists (0 apart). */
  exists(pvbn: number): boolean {
    if (pvbn <= 0 || pvbn >= this.end) return false
    const device = this.places[this.deviceOf(pvbn)]!
    return pvbn < device.first + device.data
  }

  locate(pvbn: number): Location {
    const device = this.deviceOf(pvbn)
    const place = this.places[device]!
    const r = pvbn - place.first
    assert(r < place.data, 'a PVBN between two devices')
    return {
      device,
      block: DATA_START + Math.floor(r / GROUP_BLOCKS) * GROUP_STRIDE + 1 + (r % GROUP_BLOCKS),
    }
  }

  /** The checksum block of group `group`, which is PVBN / GROUP_BLOCKS. */
  locateChecksums(group: number): Location {
    const device = this.deviceOf(group * GROUP_BLOCKS)
    const r = group - this.places[device]!.first / GROUP_BLOCKS
    return { device, block: DATA_START + r * GROUP_STRIDE }
  }

  get groups(): number {
    return Math.ceil(this.end / GROUP_BLOCKS)
  }

  /** Data blocks of one group: fewer in the last one of a device, none in a gap. */
  groupSize(group: number): number {
    const place = this.places[this.deviceOf(group * GROUP_BLOCKS)]!
    return Math.max(0, Math.min(GROUP_BLOCKS, place.first + place.data - group * GROUP_BLOCKS))
  }
}
