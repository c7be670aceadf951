/**
 * The two aggregates of a conversion in a side's store: the traditional one, which is fenced and read (a *source*), and the one that took its volume in.
 *
 * Which of the two owns the volume follows from the image and the log alone: the root of the new aggregate, or an operation in the log behind it, has the adoption, or has undone
 * it. So a restart and a takeover come to the same end as whoever was stopped. A source takes part in no consistency point, but for one that ends a resync of its other
 * plex; its records in the log are all in its image.
 */
import { adopt } from '../conversion/in-place.ts'
import { AggregateError } from '../block/errors.ts'
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { convertedOn } from '../block/plex-info.ts'
import { restoredRoot } from '../fs/inodes.ts'
import type { FileSystem, FileSystemOptions } from '../fs/volume.ts'
import type { CopyDevice } from '../pair/side-copy.ts'
import type { VolumeOperation } from './volume-operation.ts'
import type { FilerAggregate, FilerVolume } from './volumes.ts'

/** In the properties of a traditional volume's aggregate: the aggregate that it may have become a part of. */
export interface Fence {
  readonly aggregate: string
}

export function fenceOf({ properties }: Pick<FilerAggregate, 'properties'>): Fence | undefined {
  return (properties as { readonly fence?: Fence }).fence
}

type Moved = Pick<FileSystemOptions, 'store' | 'journal' | 'volume' | 'root' | 'space'>

export interface StoreOfSources {
  readonly aggregates: Map<string, FilerAggregate>
  /** What a volume's files need of the store. */
  surroundings(aggregate: string, volume: FilerVolume, root: Uint8Array): Moved
}

/** Devices of each configured aggregate's image: with those that joined it, and none of what joined another. */
export async function imageDevices<D extends { readonly device: Device }>(
  env: Env,
  configured: ReadonlyMap<string, readonly D[]>,
): Promise<Map<string, readonly D[]>> {
  const images = new Map(configured)
  for (const [name, devices] of configured) {
    const old = await convertedOn(
      env,
      devices.map(({ device }) => device),
    )
    if (old?.state !== 'joined') continue
    const joined = configured.get(old.record.aggregate)
    if (joined === undefined) {
      throw new AggregateError(
        'LABELS',
        `the devices of ${old.record.aggregate} joined ${name} and are not configured here: put them back`,
      )
    }
    images.set(name, [...devices, ...joined])
    images.delete(old.record.aggregate)
  }
  return images
}

/** Names of aggregates whose volume another one has taken in, by the newest roots. */
export async function sourcesOn(
  env: Env,
  configured: readonly { readonly name: string; readonly devices: readonly CopyDevice[] }[],
): Promise<Set<string>> {
  const sources = new Set<string>()
  for (const { devices } of configured) {
    const old = await convertedOn(
      env,
      devices.map(({ device }) => device),
    )
    if (old?.holdsDevices === true) sources.add(old.record.aggregate)
  }
  return sources
}

export class StoreConversions {
  readonly #store: StoreOfSources
  /** By the name of the aggregate that took their volume in. */
  readonly sources = new Map<string, FilerAggregate>()

  constructor(store: StoreOfSources) {
    this.#store = store
  }

  /** The aggregate's volume is another's; its devices are or will be. */
  isSource(name: string): boolean {
    for (const { old } of this.#store.aggregates.values()) {
      if (old?.holdsDevices === true && old.record.aggregate === name) return true
    }
    return false
  }

  /** All aggregates are open: those whose volume another one has are its sources. Throws AggregateError if one that may have it is not here. */
  loaded(): void {
    const { aggregates } = this.#store
    for (const [name, { old }] of [...aggregates]) {
      if (old === undefined || !old.holdsDevices || old.state === 'joined') continue
      const source = aggregates.get(old.record.aggregate)
      if (source === undefined) {
        throw new AggregateError(
          'LABELS',
          `the volume in ${name} has its blocks on the devices of ${old.record.aggregate}, which are not configured here: put them back`,
        )
      }
      this.#take(name, source)
    }
    for (const [name, aggregate] of aggregates) {
      const fence = fenceOf(aggregate)
      if (fence === undefined || aggregates.has(fence.aggregate)) continue
      throw new AggregateError(
        'LABELS',
        `the volume of ${name} may be a part of ${fence.aggregate} now, which is not configured here: put it back`,
      )
    }
  }

  /** An operation as it is made, or repeated from the log. Gives the reason when it cannot be repeated. */
  apply(
    target: FilerAggregate,
    operation: VolumeOperation & { readonly op: 'adopt' | 'undo' },
  ): string | undefined {
    const { aggregates } = this.#store
    if (operation.op === 'adopt') {
      const name = operation.adoption.record.aggregate
      const source = aggregates.get(name)
      if (source === undefined)
        return `a volume of ${name} is converted, which is not configured here: put it back, with its devices`
      const files = source.volume(operation.adoption.volume.id)!.content
      adopt(target, source, operation.adoption, { ...operation.properties }, (volume, root) => {
        files.move(this.#store.surroundings(target.name, volume, root))
        return files
      })
      this.#take(target.name, source)
      return undefined
    }
    const source = this.sources.get(target.name)!
    const volume = target.volumeAt(target.old!.record.volume)!
    const files: FileSystem = volume.content
    const old = source.volume(volume.id)!
    const root = restoredRoot(old.contentRoot, files.freeze(), operation.seconds)
    target.undoAdoption()
    this.sources.delete(target.name)
    aggregates.set(source.name, source)
    unfence(source)
    files.move(this.#store.surroundings(source.name, old, root))
    old.content = files
    old.touch()
    return undefined
  }

  /** The devices joined: what is left of the old aggregate, to be closed. */
  joined(name: string): FilerAggregate | undefined {
    const source = this.sources.get(name)
    this.sources.delete(name)
    return source
  }

  /** Served from now on: a fence that came to nothing is no more. */
  served(): void {
    for (const aggregate of this.#store.aggregates.values()) unfence(aggregate)
  }

  #take(target: string, source: FilerAggregate): void {
    this.#store.aggregates.delete(source.name)
    this.sources.set(target, source)
    this.#store.aggregates.get(target)!.attachOld(source.io)
  }
}

export function unfence(aggregate: FilerAggregate): void {
  if (fenceOf(aggregate) === undefined) return
  const { fence: _, ...properties } = aggregate.properties
  aggregate.setProperties(properties)
}
