/**
 * The standby's side of mirroring: this filer's own log file and devices as regions that the owner writes. Every frame passes the
 * side's gate first, which refuses what is older than the fence (H5) and what comes from an owner that was not greeted in this incarnation.
 */
import type { Fence, Region } from '../connection/client.ts'
import { ChannelError } from '../connection/client.ts'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import type { StandbyLog } from '../nvlog/standby-log.ts'
import type { CopyDevice } from './side-copy.ts'

export interface Gate {
  /** Resolves when a frame with this fence may take effect; rejects ChannelError FENCED or REFUSED. */
  enter(fence: Fence): void | Promise<void>
  leave(): void
  /** The own device did not do what a frame asked for. */
  failed(error: DeviceError): void
  log(): StandbyLog
}

/** Names a region on both filers. */
export function regionKey(env: Env, name: string): number {
  const bytes = new Uint8Array(name.length)
  for (let n = 0; n < name.length; n++) bytes[n] = name.charCodeAt(n) & 0xff
  return env.crc32(bytes)
}
export const logRegionKey = (env: Env, side: string): number => regionKey(env, `log/${side}`)
export const plexRegionKey = (env: Env, device: string): number => regionKey(env, `plex/${device}`)

function refuse(message: string): never {
  throw new ChannelError('REFUSED', message)
}

async function guarded<T>(gate: Gate, fence: Fence, task: () => Promise<T>, changes = true): Promise<T> {
  await gate.enter(fence)
  try {
    return await task()
  } catch (error) {
    if (error instanceof ChannelError) throw error
    if (error instanceof DeviceError && changes) gate.failed(error)
    throw new ChannelError('REFUSED', error instanceof Error ? error.message : String(error))
  } finally {
    gate.leave()
  }
}

export function logRegion(env: Env, side: string, blocks: number, read: ReadBlocks, gate: Gate): Region {
  return {
    key: logRegionKey(env, side),
    bytes: blocks * BLOCK_BYTES,
    place: (offset, chunks, fence) =>
      guarded(gate, fence, async () => {
        const result = await gate.log().place(offset, chunks)
        if (result === 'GAP' || result === 'NOT_A_BATCH') refuse(`log frame refused: ${result}`)
      }),
    read: (offset, bytes, fence) => guarded(gate, fence, () => readBytes(read, offset, bytes), false),
    flush: (fence) => guarded(gate, fence, () => Promise.resolve()),
  }
}

type ReadBlocks = (block: number, into: Uint8Array) => Promise<void>

async function readBytes(read: ReadBlocks, offset: number, bytes: number): Promise<Uint8Array> {
  if (offset % BLOCK_BYTES !== 0 || bytes % BLOCK_BYTES !== 0) refuse('not whole blocks')
  const into = new Uint8Array(bytes)
  await read(offset / BLOCK_BYTES, into)
  return into
}

export function plexRegion(env: Env, { name, device }: CopyDevice, gate: Gate): Region {
  return {
    key: plexRegionKey(env, name),
    bytes: device.blocks * BLOCK_BYTES,
    place: (offset, chunks, fence) =>
      guarded(gate, fence, async () => {
        if (offset % BLOCK_BYTES !== 0) refuse('not at a block')
        await device.write(offset / BLOCK_BYTES, chunks)
      }),
    read: (offset, bytes, fence) =>
      guarded(
        gate,
        fence,
        () => readBytes((block, into) => readOrZero(device, block, into), offset, bytes),
        false,
      ),
    flush: (fence) => guarded(gate, fence, () => device.flush()),
  }
}

/**
 * Places that the device cannot read are given as zeros, which no reader takes for a block, a label or a root: one bad place is damage of that
 * place, and no reason to give up the copy.
 */
async function readOrZero(device: Device, block: number, into: Uint8Array): Promise<void> {
  const blocks = into.length / BLOCK_BYTES
  try {
    await device.read(block, into)
  } catch (error) {
    if (!(error instanceof DeviceError) || error.code !== 'EIO') throw error
    if (blocks === 1) into.fill(0)
    else {
      for (let n = 0; n < blocks; n++) {
        await readOrZero(device, block + n, into.subarray(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES))
      }
    }
  }
}
