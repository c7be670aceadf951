/** Pinned images of a mirrored volume: hidden snapshots of it. */
import type { SnapshotImage } from '../block/volume-snapshots.ts'
import type { Volume } from '../block/volume.ts'
import type { FileSystem } from '../fs/volume.ts'
import { isOfHistory, noteOf, pinOf } from '../mirror/records.ts'
import type { MirrorProperties, Pin } from '../mirror/records.ts'
import type { SourcePin } from '../mirror/source-host.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { assert } from '../std/assert.ts'

const PREFIX = ':image.'

export interface PinnedImage extends SourcePin {
  readonly snapshot: SnapshotImage
}

/** Everything that is pinned and durable, in the order of its making. */
export function allPins(volume: Volume<FileSystem> | undefined): PinnedImage[] {
  return (volume?.snapshots.pins(PREFIX) ?? []).map(pinnedImage)
}

/** Only in tests: those of a consistency point that is under way, too. */
export function earlyPins(volume: Volume<FileSystem> | undefined): PinnedImage[] {
  const images = volume?.snapshots.images() ?? []
  return images.filter(({ name, deleting }) => name.startsWith(PREFIX) && !deleting).map(pinnedImage)
}

function pinnedImage(snapshot: SnapshotImage): PinnedImage {
  return {
    ...pinOf(Number(snapshot.name.slice(PREFIX.length)), snapshot.requestId),
    seconds: snapshot.created,
    blocks: snapshot.used,
    snapshot,
  }
}

/** Those of the mirror's history. */
export function pinsOf(volume: Volume<FileSystem> | undefined, record: MirrorProperties): PinnedImage[] {
  return allPins(volume).filter((pin) => isOfHistory(pin, record))
}

/** Pins what the freeze in this turn finds. */
export function pin(volume: Volume<FileSystem>, image: Pin, seconds: number): boolean {
  // A freeze looks only at volumes that changed, and nobody else may have changed this one.
  volume.touch()
  return volume.snapshots.pin(`${PREFIX}${image.image}`, noteOf(image), seconds)
}

/** The files are those of a pinned image, whatever came since; the volume does not serve. */
export function becomeImage(volume: Volume<FileSystem>, image: PinnedImage): void {
  volume.reset(image.snapshot)
  volume.content.become(image.snapshot.content)
  if (image.sizeBytes > 0) volume.resize(Math.floor(image.sizeBytes / BLOCK_BYTES))
}

/** So, and no other pin is of account any more. */
export function backTo(volume: Volume<FileSystem>, image: number): void {
  const pins = allPins(volume)
  const found = pins.find((one) => one.image === image)
  assert(found !== undefined, 'a volume that goes back to an image that is not pinned')
  becomeImage(volume, found)
  for (const one of pins) if (one !== found) volume.snapshots.unpin(one.snapshot.id)
}
