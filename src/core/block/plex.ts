/**
 * One full copy of an aggregate: its devices in order, on this filer or behind a channel. It moves blocks and keeps slot and labels; what is in
 * them is checked by who asks.
 */
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { assert } from '../std/assert.ts'
import { nextLabel, writeLabel } from './label.ts'
import type { AggregateType, Filling, Label, PlexState } from './label.ts'
import { DATA_START, ROOT_SLOTS } from './layout.ts'
import type { Layout } from './layout.ts'
import { nextSlot } from './root.ts'

/** A device with a label that puts it behind the image. */
export interface PreparedDevice {
  readonly device: Device
  readonly label: Label
}

export class Plex {
  readonly layout: Layout
  private readonly env: Env
  private list: readonly Device[]
  private labels: Label[]
  /** The slot of the live root; undefined if the plex has none. */
  slot: number | undefined
  /** The first error of a write or flush: from then on the copy is out of date. */
  failure: Error | undefined

  constructor(
    env: Env,
    devices: readonly Device[],
    layout: Layout,
    labels: Label[],
    slot: number | undefined,
  ) {
    this.env = env
    this.list = devices
    this.layout = layout
    this.labels = labels
    this.slot = slot
  }

  get devices(): readonly Device[] {
    return this.list
  }

  /** Prepared devices belong to the image from now on; the layout has them. */
  extend(added: readonly PreparedDevice[]): void {
    this.list = [...this.list, ...added.map(({ device }) => device)]
    this.labels.push(...added.map(({ label }) => label))
    assert(this.list.length === this.layout.devices.length, 'a plex has the devices of its layout')
  }

  get state(): PlexState {
    return this.labels.every((label) => label.state === 'complete') ? 'complete' : 'resyncing'
  }

  get label(): Label {
    return this.labels[0]!
  }

  labelOf(device: number): Label {
    return this.labels[device]!
  }

  /** Data blocks from `pvbn` on, all in one group. */
  async readData(pvbn: number, into: Uint8Array): Promise<void> {
    const { device, block } = this.layout.locate(pvbn)
    await this.devices[device]!.read(block, into)
  }

  async readChecksums(group: number): Promise<Uint8Array> {
    const { device, block } = this.layout.locateChecksums(group)
    const bytes = new Uint8Array(BLOCK_BYTES)
    await this.devices[device]!.read(block, bytes)
    return bytes
  }

  /** A whole group, checksum block first. */
  async readGroup(group: number): Promise<Uint8Array> {
    const { device, block } = this.layout.locateChecksums(group)
    const bytes = new Uint8Array((1 + this.layout.groupSize(group)) * BLOCK_BYTES)
    await this.devices[device]!.read(block, bytes)
    return bytes
  }

  write(device: number, block: number, chunks: readonly Uint8Array[]): Promise<void> {
    return this.devices[device]!.write(block, chunks)
  }

  async flush(): Promise<void> {
    await Promise.all(this.devices.map((device) => device.flush()))
  }

  /** Writes the root to the slot that does not hold the live one, and flushes it. */
  async writeRoot(root: Uint8Array): Promise<void> {
    const slot = nextSlot(this.slot)
    await this.devices[0]!.write(slot, [root])
    await this.devices[0]!.flush()
    this.slot = slot
  }

  /** Makes both root slots empty: what the plex holds is no image any more. */
  async clearRoots(): Promise<void> {
    const empty = new Uint8Array(BLOCK_BYTES)
    for (const slot of ROOT_SLOTS) await this.devices[0]!.write(slot, [empty])
    await this.devices[0]!.flush()
    this.slot = undefined
  }

  /** Changes the labels of all devices, one after the other. What fills the plex is forgotten when it is complete. */
  async relabel(
    change: Partial<Pick<Label, 'state' | 'incarnation' | 'plex' | 'devices' | 'version'>>,
  ): Promise<void> {
    for (const i of this.devices.keys()) {
      const { filling, ...label } = { ...nextLabel(this.labels[i]!), ...change }
      await this.writeLabel(
        i,
        label.state === 'complete' || filling === undefined ? label : { ...label, filling },
      )
    }
  }

  /** The plex has so much; everything of it was flushed before. */
  async fill(filling: Filling): Promise<void> {
    await this.writeLabel(0, { ...nextLabel(this.label), filling })
  }

  private async writeLabel(device: number, label: Label): Promise<void> {
    await writeLabel(this.env, this.devices[device]!, label)
    this.labels[device] = label
  }

  /** Notes the first failure; true if this is it. */
  fail(error: unknown): boolean {
    if (this.failure !== undefined) return false
    this.failure = error instanceof Error ? error : new DeviceError('EIO', String(error))
    return true
  }
}

export interface LabelSpec {
  readonly id: string
  readonly name: string
  readonly side: string
  readonly pairUid: string
  /** Flexible if not said. */
  readonly type?: AggregateType
  readonly version?: number | undefined
}

export function newLabels(spec: LabelSpec, plex: number, state: PlexState, layout: Layout): Label[] {
  return layout.devices.map((place, position) => ({
    plex,
    state,
    generation: 1,
    position,
    devices: layout.devices.length,
    blocks: place.blocks,
    firstPvbn: place.first,
    dataBlocks: place.data,
    incarnation: 0,
    pairUid: spec.pairUid,
    aggregateId: spec.id,
    aggregateName: spec.name,
    side: spec.side,
    type: spec.type ?? 'Flexible',
    ...(spec.version === undefined ? {} : { version: spec.version }),
  }))
}

/** The device is blank when it resolves: no label, no root. */
export async function clearLabelArea(device: Device): Promise<void> {
  const empty = new Uint8Array(BLOCK_BYTES)
  const area = Array.from({ length: DATA_START }, () => empty)
  await device.write(0, area)
  await device.write(device.blocks - 1, [empty])
  await device.flush()
}

/**
 * Makes devices a new plex with `root` as its live root, or with none. Labels come last: what has labels is whole. What lies in the groups
 * stays: contexts mean something only for blocks in use.
 */
export async function formatPlex(
  env: Env,
  devices: readonly Device[],
  layout: Layout,
  labels: Label[],
  root?: Uint8Array,
): Promise<Plex> {
  const plex = new Plex(env, devices, layout, labels, undefined)
  for (const device of devices) await clearLabelArea(device)
  if (root !== undefined) await plex.writeRoot(root)
  for (const [i, device] of devices.entries()) await writeLabel(env, device, labels[i]!)
  return plex
}
