/**
 * Memory of what was received, given back to the host as soon as all of it is placed. Node takes new memory for every read; left to the collector it
 * counts although nobody uses it, and every few dozen MiB of it cost a collection of the whole heap: a third of what the receiver of a log did.
 *
 * Node cuts a read into chunks while they are handed out, and may have to wait in the middle: memory stays until bytes of a later read
 * have come. What is never released is left to the collector.
 */
import type { Frame } from '../../core/connection/frames.ts'

/** Smaller memory may be a part of Node's pool, and is not worth it. */
const BYTES_MIN = 12 << 10

export class ReceivedMemory {
  readonly #buffer: ArrayBufferLike
  /** Who needs it; the reader does until the next read. */
  #users = 1

  constructor(buffer: ArrayBufferLike) {
    this.#buffer = buffer
  }

  holds(chunk: Uint8Array): boolean {
    return chunk.buffer === this.#buffer
  }

  use(): void {
    this.#users += 1
  }

  release(): void {
    this.#users -= 1
    if (this.#users > 0 || this.#buffer.byteLength < BYTES_MIN) return
    if (this.#buffer instanceof ArrayBuffer && this.#buffer.byteLength !== Buffer.poolSize)
      this.#buffer.transfer(0)
  }
}

/** Frames of one message, and the memory that they lie in. Whoever gets a `message` or `data` may keep it; a `write` is over when it is placed. */
export function lend(frames: readonly Frame[], memory: readonly ReceivedMemory[]): readonly Frame[] {
  let left = 0
  for (const frame of frames) {
    if (!('payload' in frame) || frame.payload.length === 0) continue
    if (frame.kind !== 'write') return frames
    left += 1
  }
  const release = (): void => {
    for (const part of memory) part.release()
  }
  if (left === 0) {
    release()
    return frames
  }
  const placed = (): void => {
    left -= 1
    if (left === 0) release()
  }
  return frames.map((frame) =>
    frame.kind === 'write' && frame.payload.length > 0 ? { ...frame, placed } : frame,
  )
}
