/** Sends what one pinned image of a volume has and another has not: numbers that go, blocks that come, the end. */
import { imageBlock, imageDifference } from '../block/image-difference.ts'
import type { SnapshotImage } from '../block/volume-snapshots.ts'
import { encodeBlocks, encodeNumbers } from '../mirror/messages.ts'
import type { Pin } from '../mirror/records.ts'
import type { MirrorSource } from '../mirror/source.ts'
import type { FilerAggregate, FilerVolume } from './volumes.ts'

const BLOCKS_PER_MESSAGE = 32
const NUMBERS_PER_MESSAGE = 4096

/** `room` is asked before anything is sent: when it says no, the image is not on its way any more, and its pins may be gone. */
export async function streamImage(
  aggregate: FilerAggregate,
  volume: FilerVolume,
  { from, to }: { readonly from: SnapshotImage | undefined; readonly to: SnapshotImage },
  pin: Pin,
  mirror: MirrorSource,
  room: (blocks: number) => Promise<boolean>,
): Promise<void> {
  for await (const { added, removed } of imageDifference(from, to)) {
    for (let at = 0; at < removed.length; at += NUMBERS_PER_MESSAGE) {
      if (!(await room(0))) return
      mirror.tell({ type: 'free' }, encodeNumbers(removed.slice(at, at + NUMBERS_PER_MESSAGE)))
    }
    for (let at = 0; at < added.length; at += BLOCKS_PER_MESSAGE) {
      const numbers = added.slice(at, at + BLOCKS_PER_MESSAGE)
      if (!(await room(numbers.length))) return
      const blocks = await Promise.all(numbers.map((number) => imageBlock(aggregate, volume, number)))
      if (!(await room(0))) return
      mirror.tell({ type: 'blocks' }, encodeBlocks(blocks))
    }
  }
  if (await room(0)) mirror.tell({ type: 'end', pin: plain(pin) }, to.content.slice())
}

/** What travels of it. */
function plain({ image, covers, generation, bytes, sizeBytes }: Pin): Pin {
  return { image, covers, generation, bytes, sizeBytes }
}
