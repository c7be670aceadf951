/**
 * The file that holds one copy of a side's log: header block, two halves (docs/SPEC-log.md). This module knows the layout and
 * the header; batches are batch.ts.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { viewOf } from './batch.ts'

export interface LogDevice {
  readonly blocks: number
  /** Fills `into` (whole blocks). Rejects on a device error. */
  read(block: number, into: Uint8Array): Promise<void>
  /** Durable when it resolves (O_DSYNC, or write and flush). */
  write(block: number, chunks: readonly Uint8Array[]): Promise<void>
}

export interface LogGeometry {
  readonly halfBlocks: number
}
export const LOG_BLOCKS_MIN = 1 + 2 * 64

export function geometryOf(device: LogDevice): LogGeometry {
  return { halfBlocks: Math.floor((device.blocks - 1) / 2) }
}
/** First block of the half that half number `halfNumber` lives in. */
export function halfStart(geometry: LogGeometry, halfNumber: number): number {
  return 1 + (halfNumber % 2) * geometry.halfBlocks
}

const MAGIC = 0x474c4e54
const VERSION = 1

/** The id of the log file, or undefined when there is none of this side here (new, lost, foreign). */
export async function readLogId(
  device: LogDevice,
  origin: number,
  crc32: Env['crc32'],
): Promise<number | undefined> {
  const block = new Uint8Array(BLOCK_BYTES)
  await device.read(0, block)
  const view = viewOf(block)
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== VERSION) return undefined
  if (view.getUint32(20, true) !== crc32(block.subarray(0, 20))) return undefined
  if (view.getUint32(8, true) !== origin) return undefined
  if (view.getUint32(16, true) !== geometryOf(device).halfBlocks) return undefined
  return view.getUint32(12, true)
}

/** Makes the log empty and gives it a new id: no batch of an earlier life starts a half any more. */
export async function formatLog(device: LogDevice, origin: number, env: Env): Promise<number> {
  const id = env.random.u32() || 1
  const zero = new Uint8Array(BLOCK_BYTES)
  const geometry = geometryOf(device)
  await device.write(halfStart(geometry, 0), [zero])
  await device.write(halfStart(geometry, 1), [zero])
  const block = new Uint8Array(BLOCK_BYTES)
  const view = viewOf(block)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, VERSION, true)
  view.setUint32(8, origin, true)
  view.setUint32(12, id, true)
  view.setUint32(16, geometry.halfBlocks, true)
  view.setUint32(20, env.crc32(block.subarray(0, 20)), true)
  await device.write(0, [block])
  return id
}
