/**
 * The files of the log volume: one log per side and the mailbox. Opened with O_DSYNC, so a write that was answered is durable.
 *
 * A file is sparse when it is made, except for the part of each half that is used first: writing into a hole makes the host's file system allocate
 * and journal on every batch. What follows is filled beside the first batches (log-fill.ts).
 */
import fs from 'node:fs'
import { BLOCK_BYTES } from '../../core/env/device.ts'
import type { LogDevice } from '../../core/nvlog/log-device.ts'
import { LOG_BLOCKS_MIN } from '../../core/nvlog/log-device.ts'
import { FileDevice } from '../node/device.ts'
import { LogFill, LogUse } from './log-fill.ts'
import type { Hole } from './log-fill.ts'

const FILLED_BYTES = 32 << 20
const ZEROS = 1 << 20

export interface LogFile extends LogDevice {
  /** Resolves when a new file has no holes any more, or was closed before. */
  readonly filled: Promise<void>
  close(): Promise<void>
}

/** Opens or makes the file; `use` is that of all logs on the same disk. Throws the host's error. */
export function openLogFile(path: string, blocks: number, use = new LogUse()): LogFile {
  const holes = fs.existsSync(path) ? [] : make(path, blocks)
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_DSYNC)
  const file = new FileDevice(path, fd, Math.floor(fs.fstatSync(fd).size / BLOCK_BYTES))
  return new FillingFile(file, new LogFill(fs.openSync(path, 'r+'), holes, use))
}

class FillingFile implements LogFile {
  readonly blocks: number
  readonly #file: FileDevice
  readonly #fill: LogFill

  constructor(file: FileDevice, fill: LogFill) {
    this.blocks = file.blocks
    this.#file = file
    this.#fill = fill
  }

  get filled(): Promise<void> {
    return this.#fill.done
  }

  read(block: number, into: Uint8Array): Promise<void> {
    return this.#file.read(block, into)
  }

  write(block: number, chunks: readonly Uint8Array[]): Promise<void> {
    let bytes = 0
    for (const chunk of chunks) bytes += chunk.length
    const at = block * BLOCK_BYTES
    const zeros = this.#fill.before(at, at + bytes)
    return zeros === undefined
      ? this.#file.write(block, chunks)
      : zeros.then(() => this.#file.write(block, chunks))
  }

  async close(): Promise<void> {
    await this.#fill.stop()
    await this.#file.close()
  }
}

/** Returns what is left to be filled. */
function make(path: string, blocks: number): Hole[] {
  const temporary = `${path}.new`
  const bytes = blocks * BLOCK_BYTES
  const starts = [0, (1 + Math.floor((blocks - 1) / 2)) * BLOCK_BYTES]
  const fd = fs.openSync(temporary, 'w', 0o600)
  try {
    fs.ftruncateSync(fd, bytes)
    const zeros = Buffer.alloc(ZEROS)
    for (const start of starts) {
      const end = Math.min(start + FILLED_BYTES, bytes)
      for (let at = start; at < end; at += ZEROS) fs.writeSync(fd, zeros, 0, Math.min(ZEROS, end - at), at)
    }
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(temporary, path)
  return starts.map((start, i) => ({ at: start + FILLED_BYTES, end: starts[i + 1] ?? bytes }))
}

export function logBlocks(sizeBytes: number): number {
  return Math.max(LOG_BLOCKS_MIN, Math.floor(sizeBytes / BLOCK_BYTES))
}
