/**
 * What the devices of a plex say of themselves, without opening the aggregate: labels and roots.
 *
 * The newest root says how many devices the image has; they are those with the lowest positions. What is configured beyond them waits: blank, or
 * prepared by a growth that did not end. A device of the image that has no label is a lost disk, never a new one.
 */
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { AggregateError } from './errors.ts'
import { readLabel } from './label.ts'
import type { Label } from './label.ts'
import { Layout } from './layout.ts'
import { joinedLabel, OldBlocks } from './old-blocks.ts'
import { readRoots } from './root.ts'
import type { SlotRoot } from './root.ts'

/** A device that is configured and does not belong to the image. */
export interface WaitingDevice {
  readonly device: Device
  /** Undefined if it is blank. */
  readonly label: Label | undefined
}

export interface PlexInfo {
  /** Devices of the image and their labels, in the order of their positions. */
  readonly devices: readonly Device[]
  readonly labels: readonly Label[]
  /** Valid roots, newest first. */
  readonly roots: readonly SlotRoot[]
  /** In the order given. */
  readonly waiting: readonly WaitingDevice[]
  /** Some of the labels are those of the aggregate that the devices joined from: to be written again. */
  readonly unlabelled: boolean
}

/**
 * Undefined if none of the devices has a label: they are new. Throws AggregateError if a device of the image is missing or blank (LABELS), if they are a
 * mixture (LABELS), or of a later format (VERSION).
 */
export async function readPlex(env: Env, devices: readonly Device[]): Promise<PlexInfo | undefined> {
  const all: WaitingDevice[] = []
  for (const device of devices) {
    const label = await readLabel(env, device)
    if (label === 'version') throw new AggregateError('VERSION', `${device.name} has a later format`)
    all.push({ device, label })
  }
  if (all.every(({ label }) => label === undefined)) return undefined
  const heads = await withoutJoined(
    env,
    all.filter(({ label }) => label?.position === 0),
  )
  const head = heads[0]
  if (head?.label === undefined)
    throw new AggregateError('LABELS', 'the first device of the aggregate is missing or blank')
  for (const { device } of heads.slice(1)) {
    throw new AggregateError('LABELS', `${device.name} does not belong with ${head.device.name}`)
  }
  const { aggregateId, plex } = head.label
  const roots = await readRoots(env, head.device)
  // While a resync fills the plex there is no root; then the labels say how many there are.
  const newest = roots.find(({ root }) => root.aggregateId === aggregateId)?.root
  const count = newest?.devices.length ?? head.label.devices
  const old = newest && OldBlocks.in(newest.properties)
  const layout = new Layout(newest?.devices ?? [head.label.blocks])
  let unlabelled = false
  if (count === 0) throw new AggregateError('LABELS', `the label of ${head.device.name} makes no sense`)
  const found: { device: Device; label: Label }[] = []
  const waiting: WaitingDevice[] = []
  for (const { device, label: written } of all) {
    const joined = written && joinedLabel(written, head.label, old, layout)
    const label = joined ?? written
    if (joined !== undefined) unlabelled = true
    const member = label?.aggregateId === aggregateId && label.plex === plex
    if (!member || label.position >= count) {
      waiting.push({ device, label })
      continue
    }
    const twin = found[label.position]
    if (twin !== undefined) {
      throw new AggregateError('LABELS', `${device.name} and ${twin.device.name} have the same position`)
    }
    if (label.blocks > device.blocks) {
      throw new AggregateError('SIZE', `${device.name} is smaller than it was when it was labelled`)
    }
    found[label.position] = { device, label }
  }
  for (let position = 0; position < count; position++) {
    if (found[position] !== undefined) continue
    const others = waiting.map(({ device }) => device.name).join(', ')
    throw new AggregateError(
      'LABELS',
      `device ${position + 1} of ${count} is missing or blank${others === '' ? '' : ` (no part of the image: ${others})`}`,
    )
  }
  return {
    devices: found.map(({ device }) => device),
    labels: found.map(({ label }) => label),
    roots,
    waiting,
    unlabelled,
  }
}

/** First devices, without those that joined another one's aggregate and may still have the label of before. */
async function withoutJoined(env: Env, heads: readonly WaitingDevice[]): Promise<readonly WaitingDevice[]> {
  if (heads.length < 2) return heads
  const joined = new Set<string>()
  for (const { device, label } of heads) {
    const newest = (await readRoots(env, device)).find(({ root }) => root.aggregateId === label?.aggregateId)
    const old = newest && OldBlocks.in(newest.root.properties)
    if (old?.state === 'joined') joined.add(old.record.aggregateId)
  }
  return heads.filter(({ label }) => label === undefined || !joined.has(label.aggregateId))
}

/** What the aggregate on these devices took in, by its newest root. `devices`: all or some of the aggregate's own. */
export async function convertedOn(env: Env, devices: readonly Device[]): Promise<OldBlocks | undefined> {
  for (const device of devices) {
    const label = await readLabel(env, device)
    if (label === undefined || label === 'version' || label.position !== 0) continue
    const newest = (await readRoots(env, device)).find(({ root }) => root.aggregateId === label.aggregateId)
    return newest && OldBlocks.in(newest.root.properties)
  }
  return undefined
}
