import { expect, test } from '@jest/globals'
import { ImageSender } from './image-sender.ts'
import type { SourceHost, SourcePin } from './source-host.ts'

function sender() {
  let pins: SourcePin[] = []
  const host = {
    broken: {},
    pins: () => pins,
    unpin: (image: number) => void (pins = pins.filter((pin) => pin.image !== image)),
    stream: () => new Promise<void>(() => undefined),
  } as unknown as SourceHost
  const images = new ImageSender(host, 256)
  return {
    images,
    /** A consistency point of the source ends. */
    pinned: (image: number) => {
      pins.push({ image, covers: image, generation: 1, bytes: 0, sizeBytes: 0, seconds: 0, blocks: 1 })
      images.next()
      images.prune()
    },
    complete: (image: number) => {
      images.completed(image)
      images.next()
    },
    left: () => pins.map(({ image }) => image),
  }
}

test('the image that a consistency point of the destination is making durable stays pinned while later ones become complete (B10)', () => {
  const { images, pinned, complete, left } = sender()
  pinned(1)
  complete(1)
  images.durable = 1
  pinned(2)
  complete(2)
  images.frozen = 2
  pinned(3)
  complete(3)
  pinned(4)
  expect(left()).toEqual([1, 2, 3, 4])
  // 3 was replaced by 4 before it was frozen: the destination does not have it any more.
  complete(4)
  pinned(5)
  images.prune()
  expect(left()).toEqual([1, 2, 4, 5])
  images.durable = 2
  images.prune()
  expect(left()).toEqual([2, 4, 5])
})

test('a new session says which image is being made durable', () => {
  const { images, pinned, left } = sender()
  for (const image of [1, 2, 3]) {
    pinned(image)
    images.completed(image)
    images.frozen = image
  }
  images.stop()
  images.resumed(3, 1, 2)
  pinned(4)
  expect(left()).toEqual([2, 3, 4])
})
