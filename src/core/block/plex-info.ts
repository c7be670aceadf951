/**
 * What the devices of a plex say of themselves, without opening the aggregate: labels and roots.
 */
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { AggregateError } from './errors.ts'
import { readLabel } from './label.ts'
import type { Label } from './label.ts'
import { readRoots } from './root.ts'
import type { SlotRoot } from './root.ts'

export interface PlexInfo {
  /** Devices and labels in the order of their positions. */
  readonly devices: readonly Device[]
  readonly labels: readonly Label[]
  /** Valid roots, newest first. */
  readonly roots: readonly SlotRoot[]
}

/** Undefined if none of the devices has a label: they are new. Throws AggregateError if they are a mixture, or of a later format. */
export async function readPlex(env: Env, devices: readonly Device[]): Promise<PlexInfo | undefined> {
  const found: { device: Device; label: Label }[] = []
  for (const device of devices) {
    const label = await readLabel(env, device)
    if (label === 'version') throw new AggregateError('VERSION', `${device.name} has a later format`)
    if (label !== undefined) found.push({ device, label })
  }
  if (found.length === 0) return undefined
  if (found.length < devices.length) throw new AggregateError('LABELS', 'some devices have no label')
  found.sort((a, b) => a.label.position - b.label.position)
  const first = found[0]!.label
  for (const [position, { device, label }] of found.entries()) {
    const fits =
      label.aggregateId === first.aggregateId &&
      label.plex === first.plex &&
      label.position === position &&
      label.devices === devices.length &&
      label.blocks <= device.blocks
    if (!fits)
      throw new AggregateError('LABELS', `${device.name} does not belong with ${found[0]!.device.name}`)
  }
  return {
    devices: found.map(({ device }) => device),
    labels: found.map(({ label }) => label),
    roots: await readRoots(env, found[0]!.device),
  }
}
