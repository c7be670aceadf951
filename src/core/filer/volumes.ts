/** Volumes of an aggregate as logged operations make and change them. */
import type { Aggregate } from '../block/aggregate.ts'
import type { Json } from '../block/codec.ts'
import type { Volume } from '../block/volume.ts'
import { FileSystem } from '../fs/volume.ts'
import { isKnown } from '../mirror/records.ts'
import { assert } from '../std/assert.ts'
import { backTo } from './mirror-pins.ts'
import type { VolumeOperation, VolumeProperties } from './volume-operation.ts'

export type FilerVolume = Volume<FileSystem>
export type FilerAggregate = Aggregate<FileSystem>

/** Kept in the volume's properties by the operation that made it, so that replay makes the same volume. */
function newVolumeOf(volume: FilerVolume): Parameters<typeof FileSystem.make>[1] {
  const { seed, seconds } = volume.properties as { seed: number; seconds: number }
  return {
    fsid: volume.fsid,
    hashSeed: seed,
    time: { seconds, nanoseconds: 0 },
    mode: 0o755,
    uid: 0,
    gid: 0,
  }
}

/** It takes in images of another pair's volume, and serves nothing. */
export function isDestination(volume: FilerVolume): boolean {
  const { mirror } = volume.properties as unknown as VolumeProperties
  return mirror?.role === 'Destination' && mirror.state !== 'Broken'
}

/** Its files are for clients: not those of a destination, nor of a source that is about to be one, nor of an end that a later release made. */
export function isServed(volume: FilerVolume): boolean {
  const { mirror } = volume.properties as unknown as VolumeProperties
  if (mirror !== undefined && !isKnown(mirror)) return false
  return !isDestination(volume) && !(mirror?.role === 'Source' && mirror.state === 'Reversing')
}

/** For a new volume. */
export function freeIndex(aggregate: FilerAggregate): number {
  let index = 1
  while (aggregate.volumeAt(index) || aggregate.removed.some(({ entry }) => entry.index === index)) index += 1
  return index
}

/** The root of a new volume's files. */
export function newContent(volume: FilerVolume): Uint8Array {
  const spec = newVolumeOf(volume)
  return isDestination(volume) ? FileSystem.makeEmpty(volume, spec) : FileSystem.make(volume, spec)
}

export function applyOperation(aggregate: FilerAggregate, operation: VolumeOperation): void {
  switch (operation.op) {
    case 'create': {
      const { id, name, type = 'Flexible', sizeBytes, fsid, index, properties } = operation
      aggregate.createVolume({ id, name, type, sizeBytes, fsid, index, properties: { ...properties } })
      return
    }
    case 'change': {
      const { id, name, sizeBytes, properties } = operation
      aggregate.changeVolume(id, { name, sizeBytes, properties: { ...properties } })
      return
    }
    case 'restore': {
      const { id, snapshot, requestId, seconds } = operation
      aggregate.restoreVolume(id, snapshot, requestId, seconds)
      return
    }
    case 'mirror': {
      const { id, mirror, fsid, index, image } = operation
      const volume = aggregate.volume(id)!
      const before = volume.properties as unknown as VolumeProperties
      const known = 'role' in mirror ? {} : before.mirror
      const properties = { ...before, mirror: { ...known, ...mirror } } as unknown as Json
      if (index === undefined)
        aggregate.changeVolume(id, { properties, ...(fsid === undefined ? {} : { fsid }) })
      else {
        const { name, sizeBytes, fsid: same } = volume
        aggregate.removeVolume(id)
        aggregate.createVolume({ id, name, type: 'Flexible', sizeBytes, fsid: same, index, properties })
      }
      if (image !== undefined) backTo(volume, image)
      return
    }
    case 'unmirror': {
      const { mirror: _, ...properties } = aggregate.volume(operation.id)!
        .properties as unknown as VolumeProperties
      aggregate.changeVolume(operation.id, { properties: { ...properties } })
      return
    }
    case 'remove':
      aggregate.removeVolume(operation.id)
      return
    case 'adopt':
    case 'undo':
      // They concern two aggregates: store-conversions.ts.
      assert(false, 'an operation of the store')
  }
}

/** The volume is flexible already, and not yet whole: blocks are absent, or its old devices are no part of the aggregate. */
export function isConverting({ old }: FilerAggregate, volume: FilerVolume): boolean {
  return old?.record.volume === volume.index && (old.state === 'absent' || old.state === 'built')
}
