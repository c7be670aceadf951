/**
 * Devices that join an aggregate's image, at the end of both plexes.
 *
 * They are labelled first, flushed on both plexes ("prepared": nothing refers to them); then the next consistency point that goes to both lists them in its
 * root, and from its completion on their space is allocated. A crash before that root leaves prepared devices, which the same growth, or another, labels
 * again; a crash after it an image that has them. So no state is kept for a growth but what labels and root say.
 *
 * Not here: which devices may join, and when (core/pair, core/filer).
 */
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { assert } from '../std/assert.ts'
import { AggregateError } from './errors.ts'
import { readLabel, writeLabel } from './label.ts'
import { DEVICE_BLOCKS_MIN, DEVICES_MAX } from './layout.ts'
import type { DevicePlace, Layout } from './layout.ts'
import { clearLabelArea } from './plex.ts'
import type { Plex, PreparedDevice } from './plex.ts'

export interface Growth {
  readonly places: readonly DevicePlace[]
  readonly own: readonly PreparedDevice[]
  /** The plex whose devices were prepared beside the own ones, and they. */
  readonly partner: Plex
  readonly theirs: readonly PreparedDevice[]
  /** Devices of a volume that was converted: they get their labels behind the root. */
  readonly joins?: boolean
}

/**
 * Labels `own` and `theirs`, devices that pair by index, for the places behind the image, from PVBN `from` on. A device may be blank or prepared earlier; anything
 * else is refused (LABELS). Of two sizes the smaller one counts. Throws AggregateError, or what a device throws.
 */
export async function prepareGrowth(
  env: Env,
  layout: Layout,
  from: number,
  plexes: readonly [Plex, Plex],
  own: readonly Device[],
  theirs: readonly Device[],
): Promise<Growth> {
  assert(own.length === theirs.length && own.length > 0, 'devices join both plexes')
  const present = layout.devices.length
  if (present + own.length > DEVICES_MAX) {
    throw new AggregateError(
      'TOO_MANY',
      `an aggregate has at most ${DEVICES_MAX} devices; it has ${present}, and ${own.length} more are configured`,
    )
  }
  const sizes = own.map((device, i) => Math.min(device.blocks, theirs[i]!.blocks))
  for (const [i, blocks] of sizes.entries()) {
    if (blocks < DEVICE_BLOCKS_MIN) {
      throw new AggregateError('SIZE', `${own[i]!.name} is smaller than ${DEVICE_BLOCKS_MIN} blocks`)
    }
  }
  const places = layout.behind(sizes, from)
  const [mine, other] = plexes
  const prepare = async (plex: Plex, devices: readonly Device[]): Promise<PreparedDevice[]> => {
    const prepared: PreparedDevice[] = []
    for (const [i, device] of devices.entries()) {
      await assertFree(env, plex, present, device)
      const place = places[i]!
      const label = {
        ...plex.label,
        generation: 1,
        position: present + i,
        devices: present + places.length,
        blocks: place.blocks,
        firstPvbn: place.first,
        dataBlocks: place.data,
      }
      // No older label may count against the new one, however often the growth is repeated.
      await clearLabelArea(device)
      await writeLabel(env, device, label)
      prepared.push({ device, label })
    }
    return prepared
  }
  const [ready, theirReady] = await Promise.all([prepare(mine, own), prepare(other, theirs)])
  return { places, own: ready, partner: other, theirs: theirReady }
}

async function assertFree(env: Env, plex: Plex, present: number, device: Device): Promise<void> {
  const label = await readLabel(env, device)
  if (label === undefined) return
  const { aggregateId, plex: number } = plex.label
  const free =
    label !== 'version' &&
    label.aggregateId === aggregateId &&
    label.plex === number &&
    label.position >= present
  if (!free)
    throw new AggregateError('LABELS', `${device.name} is not blank: it belongs to ${ownerOf(label)}`)
}

/** Of whom a device is, for people. */
export function ownerOf(label: Awaited<ReturnType<typeof readLabel>>): string {
  if (label === 'version') return 'a later version of Tandem'
  if (label === undefined) return 'nobody'
  return `aggregate ${label.aggregateName} (position ${label.position}, plex ${label.plex}) of pair ${label.pairUid}`
}
