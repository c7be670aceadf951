/**
 * A device of 4 KiB blocks on a file (sparse) or a raw block device, through positioned reads and writes of node:fs.
 *
 * The callback functions are used, not the promises of FileHandle: they cost about half the CPU per call. Nothing is cached or
 * reordered here; what is not flushed may be lost with the host, as the `Device` contract says.
 */
import fs from 'node:fs'
import { BLOCK_BYTES, DeviceError } from '../../core/env/device.ts'
import type { Device } from '../../core/env/device.ts'

function failure(name: string, what: string, error: NodeJS.ErrnoException): DeviceError {
  return new DeviceError(error.code ?? 'EIO', `${what} ${name}: ${error.message}`)
}

/** Size in bytes of an open file or block device. */
function sizeOf(fd: number): number {
  const stat = fs.fstatSync(fd)
  if (!stat.isBlockDevice()) return stat.size
  const major = (stat.rdev >> 8) & 0xfff
  const minor = (stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00)
  return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512
}

export class FileDevice implements Device {
  readonly name: string
  readonly blocks: number
  private readonly fd: number
  private open = true

  constructor(name: string, fd: number, blocks: number) {
    this.name = name
    this.fd = fd
    this.blocks = blocks
  }

  read(block: number, into: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.within(block, into.length)
      const step = (done: number): void => {
        fs.read(this.fd, into, done, into.length - done, block * BLOCK_BYTES + done, (error, bytes) => {
          if (error !== null) reject(failure(this.name, 'read', error))
          else if (bytes === 0)
            reject(new DeviceError('EIO', `read ${this.name}: unexpected end at block ${block}`))
          else if (done + bytes < into.length) step(done + bytes)
          else resolve()
        })
      }
      step(0)
    })
  }

  write(block: number, chunks: readonly Uint8Array[]): Promise<void> {
    let bytes = 0
    for (const chunk of chunks) bytes += chunk.length
    return new Promise((resolve, reject) => {
      this.within(block, bytes)
      // libuv gathers (pwritev), splits beyond IOV_MAX, and may still write less than asked.
      const step = (rest: readonly Uint8Array[], at: number): void => {
        fs.writev(this.fd, rest, at, (error, written) => {
          if (error !== null) return reject(failure(this.name, 'write', error))
          let skip = written
          let first = 0
          while (first < rest.length && skip >= rest[first]!.length) skip -= rest[first++]!.length
          if (first === rest.length) return resolve()
          if (written === 0) return reject(new DeviceError('EIO', `write ${this.name}: no progress`))
          step([rest[first]!.subarray(skip), ...rest.slice(first + 1)], at + written)
        })
      }
      step(chunks, block * BLOCK_BYTES)
    })
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.fd, (error) =>
        error === null ? resolve() : reject(failure(this.name, 'flush', error)),
      )
    })
  }

  close(): Promise<void> {
    if (!this.open) return Promise.resolve()
    this.open = false
    return new Promise((resolve, reject) => {
      fs.close(this.fd, (error) =>
        error === null || error === undefined ? resolve() : reject(failure(this.name, 'close', error)),
      )
    })
  }

  private within(block: number, bytes: number): void {
    if (bytes % BLOCK_BYTES !== 0 || block < 0 || block + bytes / BLOCK_BYTES > this.blocks) {
      throw new DeviceError(
        'EINVAL',
        `${this.name}: ${bytes} bytes at block ${block} are outside ${this.blocks} blocks`,
      )
    }
  }
}

export interface OpenDeviceOptions {
  /** Creates or grows (sparsely) a file to this many bytes; a raw device has the size that it has. */
  readonly bytes?: number
  readonly readOnly?: boolean
  /** Name for messages; the path by default. */
  readonly name?: string
}

/** Opens a file or raw block device. Throws DeviceError. */
export function openDevice(path: string, options: OpenDeviceOptions = {}): FileDevice {
  let fd: number | undefined
  try {
    const create = options.bytes !== undefined && options.readOnly !== true ? fs.constants.O_CREAT : 0
    fd = fs.openSync(
      path,
      options.readOnly === true ? fs.constants.O_RDONLY : fs.constants.O_RDWR | create,
      0o600,
    )
    let bytes = sizeOf(fd)
    if (options.bytes !== undefined && options.readOnly !== true && bytes < options.bytes) {
      if (fs.fstatSync(fd).isBlockDevice()) {
        throw new DeviceError('ENOSPC', `${path} has ${bytes} bytes, ${options.bytes} are asked for`)
      }
      fs.ftruncateSync(fd, options.bytes)
      fs.fsyncSync(fd)
      bytes = options.bytes
    }
    return new FileDevice(options.name ?? path, fd, Math.floor(bytes / BLOCK_BYTES))
  } catch (error) {
    if (fd !== undefined) fs.closeSync(fd)
    throw error instanceof DeviceError ? error : failure(path, 'open', error as NodeJS.ErrnoException)
  }
}
