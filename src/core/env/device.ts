/**
 * A block device as the centre sees it: a file or a raw device at the edge, an array with faults in the simulator,
 * or the partner's device behind a channel (pair/remote-device).
 */

/** Bytes in a block, on every device and in every file. */
export const BLOCK_BYTES = 4096

/** A device that could not do what it was asked; `code` is the host's (EIO, ENOSPC, …) or one of ours. */
export class DeviceError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = 'DeviceError'
    this.code = code
  }
}

export interface Device {
  /** For messages: a path, or filer/path. */
  readonly name: string
  /** Size in blocks. */
  readonly blocks: number
  /** Fills `into` (whole blocks) from `block` on. Rejects with DeviceError. */
  read(block: number, into: Uint8Array): Promise<void>
  /** Writes `chunks` (together whole blocks) one behind the other from `block` on. Durable only after `flush`. */
  write(block: number, chunks: readonly Uint8Array[]): Promise<void>
  /** Everything whose write was answered before this call is durable when this resolves. */
  flush(): Promise<void>
  close(): Promise<void>
}
