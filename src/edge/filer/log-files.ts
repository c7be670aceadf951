/**
 * The files of the log volume: one log per side and the mailbox. Opened with O_DSYNC, so a write that was answered is durable.
 *
 * A file is sparse when it is made, except for the part of each half that is used first: writing into a hole makes the host's file system allocate
 * and journal on every batch. What follows is filled once in the life of the file.
 */
import fs from 'node:fs'
import { BLOCK_BYTES } from '../../core/env/device.ts'
import type { LogDevice } from '../../core/nvlog/log-device.ts'
import { LOG_BLOCKS_MIN } from '../../core/nvlog/log-device.ts'
import { FileDevice } from '../node/device.ts'

const FILLED_BYTES = 32 << 20
const ZEROS = 1 << 20

export interface LogFile extends LogDevice {
  close(): Promise<void>
}

/** Opens or makes the file. Throws the host's error. */
export function openLogFile(path: string, blocks: number): LogFile {
  const isNew = !fs.existsSync(path)
  if (isNew) make(path, blocks)
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_DSYNC)
  return new FileDevice(path, fd, Math.floor(fs.fstatSync(fd).size / BLOCK_BYTES))
}

function make(path: string, blocks: number): void {
  const temporary = `${path}.new`
  const fd = fs.openSync(temporary, 'w', 0o600)
  try {
    const bytes = blocks * BLOCK_BYTES
    fs.ftruncateSync(fd, bytes)
    const half = Math.floor((blocks - 1) / 2) * BLOCK_BYTES
    const zeros = Buffer.alloc(ZEROS)
    for (const start of [0, BLOCK_BYTES + half]) {
      const end = Math.min(start + FILLED_BYTES, bytes)
      for (let at = start; at < end; at += ZEROS) fs.writeSync(fd, zeros, 0, Math.min(ZEROS, end - at), at)
    }
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(temporary, path)
}

export function logBlocks(sizeBytes: number): number {
  return Math.max(LOG_BLOCKS_MIN, Math.floor(sizeBytes / BLOCK_BYTES))
}
