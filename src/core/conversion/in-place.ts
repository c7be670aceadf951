/**
 * The steps of a conversion in place, over an aggregate that is one traditional volume's (`source`) and an empty one of flexible volumes (`target`):
 *
 *   fence (the source's last image) → adopt → scan … → join → enable
 *
 * What each step changes, it changes in memory at once; a consistency point makes it durable. Who runs them, logs the adoption, and waits for consistency points
 * and for both plexes, is core/filer. Why it is right: docs/conversion.md.
 */
import type { Aggregate, VolumeSpec } from '../block/aggregate.ts'
import { AggregateError } from '../block/errors.ts'
import type { OldBlocksRecord } from '../block/old-blocks.ts'
import type { Volume, VolumeContent } from '../block/volume.ts'
import { convertVolumeRoot } from '../fs/absent.ts'
import { BUILD_START } from '../fs/build.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { assert } from '../std/assert.ts'

/** All that the adoption needs to be repeated: it is logged as it is. */
export interface Adoption {
  readonly volume: Omit<VolumeSpec, 'type' | 'properties'> & { readonly index: number }
  readonly record: OldBlocksRecord
  /** The file layer's root of the old volume at the fence, in hexadecimal. */
  readonly root: string
}

/** What becomes of the old volume, whose last image is on disk and has nothing beyond it. */
export function adoptionOf<C extends VolumeContent>(
  source: Aggregate<C>,
  old: Volume<C>,
  target: Aggregate<C>,
  cutOver: string,
  estimate: number,
): Adoption {
  assert(!old.isDirty, 'the old volume has changes that are not in its image')
  const sizes = source.layout.devices.map(({ blocks }) => blocks)
  return {
    volume: {
      id: old.id,
      name: old.name,
      fsid: old.fsid,
      // All that its devices hold: what its maps took there is the aggregate's now.
      sizeBytes: source.layout.data * BLOCK_BYTES,
      index: 1,
    },
    record: {
      volume: 1,
      aggregate: source.name,
      aggregateId: source.id,
      oldVolume: old.index,
      cp: source.root.cp,
      first: target.layout.behind([sizes[0]!])[0]!.first,
      sizes,
      state: 'absent',
      cursor: BUILD_START,
      pending: old.used,
      cutOver,
      changed: 0,
      built: 0,
      copied: 0,
      estimate,
    },
    root: hexOf(old.contentRoot),
  }
}

/** The flexible volume, in memory at once: no file of it is built, and all can be read and changed. */
export function adopt<C extends VolumeContent>(
  target: Aggregate<C>,
  source: Aggregate<C>,
  adoption: Adoption,
  properties: VolumeSpec['properties'],
  content: (volume: Volume<C>, root: Uint8Array) => C,
): Volume<C> {
  const { volume: spec, record, root } = adoption
  if (record.aggregateId !== source.id) {
    throw new AggregateError(
      'LABELS',
      `volume ${spec.name} was converted from ${record.aggregateId}, not ${source.id}`,
    )
  }
  const volume = target.adoptVolume(
    { ...spec, type: 'Flexible', ...(properties === undefined ? {} : { properties }) },
    record,
    (made) => {
      const allocate = (block: Uint8Array): number => made.allocate('indirect', block).bn
      return content(made, convertVolumeRoot(bytesOf(root), record.first, allocate))
    },
  )
  target.attachOld(source.io)
  return volume
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) =>
    Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16),
  )
}
