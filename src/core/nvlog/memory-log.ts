/**
 * A log file whose newest batches may be in memory only (`durability: Memory`): quick while the other filer's memory has them as well.
 *
 * What is written while `inMemory` is on the device after `persist`, and lost with the process before. Whoever switches it on has noted that durably first, so that a
 * filer knows after a crash that it lost something (pair/log-durability.ts).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { LogDevice } from './log-device.ts'

const RUN_BLOCKS = 256

export class MemoryLog implements LogDevice {
  readonly blocks: number
  inMemory = false
  readonly #device: LogDevice
  readonly #kept = new Map<number, Uint8Array>()
  #persisting: Promise<void> | undefined

  constructor(device: LogDevice) {
    this.#device = device
    this.blocks = device.blocks
  }

  async read(block: number, into: Uint8Array): Promise<void> {
    await this.#device.read(block, into)
    for (let n = 0; n < into.length / BLOCK_BYTES; n++) {
      const kept = this.#kept.get(block + n)
      if (kept) into.set(kept, n * BLOCK_BYTES)
    }
  }

  async write(block: number, chunks: readonly Uint8Array[]): Promise<void> {
    // A block that is being persisted must not land behind a newer one of the same place.
    while (this.#persisting) await this.#persisting
    const bytes = joined(chunks)
    if (this.inMemory) {
      for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
        this.#kept.set(block + at / BLOCK_BYTES, bytes.slice(at, at + BLOCK_BYTES))
      }
      return
    }
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) this.#kept.delete(block + at / BLOCK_BYTES)
    await this.#device.write(block, chunks)
  }

  /** Everything so far is on the device when this resolves. */
  async persist(): Promise<void> {
    while (this.#persisting) await this.#persisting
    if (this.#kept.size === 0) return
    this.#persisting = this.#persistAll().finally(() => (this.#persisting = undefined))
    await this.#persisting
  }

  /** What was in memory only is worth nothing any more. */
  forget(): void {
    this.#kept.clear()
  }

  async #persistAll(): Promise<void> {
    const blocks = [...this.#kept.keys()].sort((one, two) => one - two)
    for (let from = 0; from < blocks.length;) {
      let to = from + 1
      while (to < blocks.length && to - from < RUN_BLOCKS && blocks[to] === blocks[to - 1]! + 1) to += 1
      const run = blocks.slice(from, to)
      await this.#device.write(
        run[0]!,
        run.map((block) => this.#kept.get(block)!),
      )
      for (const block of run) this.#kept.delete(block)
      from = to
    }
  }
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length === 1) return chunks[0]!
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
