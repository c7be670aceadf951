/**
 * Where a PVBN lies: groups of one checksum block and 128 data blocks, behind a label area, on the devices of a plex in order.
 * Pure arithmetic (docs/SPEC.md, 1); equal on every plex of an aggregate. It grows at its end only: a PVBN that exists never moves.
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

export class Layout {
  private readonly places: DevicePlace[] = []
  private count = 0
  private last = 0

  constructor(sizes: readonly number[]) {
    assert(sizes.length > 0, 'a plex has at least one device')
    this.append(sizes)
  }

  /** Devices of these sizes in blocks, behind those that are there. */
  append(sizes: readonly number[]): void {
    for (const place of this.behind(sizes)) {
      this.places.push(place)
      this.count += place.data
      this.last = place.first + place.data
    }
  }

  /** Where devices of these sizes would come. */
  behind(sizes: readonly number[]): DevicePlace[] {
    let end = this.last
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
    let low = 0
    let high = this.places.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.places[middle]!.first <= pvbn) low = middle
      else high = middle - 1
    }
    return low
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

  /** Data blocks of one group: fewer in the last one of a device. */
  groupSize(group: number): number {
    const place = this.places[this.deviceOf(group * GROUP_BLOCKS)]!
    return Math.min(GROUP_BLOCKS, place.first + place.data - group * GROUP_BLOCKS)
  }
}
