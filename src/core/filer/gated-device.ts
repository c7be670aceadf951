/**
 * An own device as an opened side uses it: once shut, nothing reaches it any more. A side that was lost may have a consistency point under
 * way; the new owner's frames must not meet its writes (H5). Reads do not fail then, they never end: a read that failed would look like a damaged block, and
 * somebody could be told so.
 */
import type { Device } from '../env/device.ts'
import { DeviceError } from '../env/device.ts'

export class GatedDevice implements Device {
  readonly name: string
  readonly blocks: number
  readonly #device: Device
  #shut = false
  #busy = 0
  #idle: (() => void)[] = []

  constructor(device: Device) {
    this.#device = device
    this.name = device.name
    this.blocks = device.blocks
  }

  read(block: number, into: Uint8Array): Promise<void> {
    if (this.#shut) return new Promise(() => undefined)
    return this.#pass(() => this.#device.read(block, into))
  }
  write(block: number, chunks: readonly Uint8Array[]): Promise<void> {
    return this.#pass(() => this.#device.write(block, chunks))
  }
  flush(): Promise<void> {
    return this.#pass(() => this.#device.flush())
  }
  close(): Promise<void> {
    return this.shut()
  }

  /** What is under way has ended when this resolves; the device itself stays open. */
  async shut(): Promise<void> {
    this.#shut = true
    if (this.#busy > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  async #pass(task: () => Promise<void>): Promise<void> {
    if (this.#shut) throw new DeviceError('ESHUTDOWN', `${this.name}: the side is closed`)
    this.#busy += 1
    try {
      await task()
    } finally {
      this.#busy -= 1
      if (this.#busy === 0) for (const resolve of this.#idle.splice(0)) resolve()
    }
  }
}
