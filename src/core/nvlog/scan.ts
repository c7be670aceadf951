/**
 * What a log says after a crash: which batches count, where the next one goes, or that it is damaged. Reads only.
 *
 * A batch is written when the one before it is durable, so what follows the first invalid batch was never acknowledged,
 * unless a later valid batch says so itself (`acknowledged`): then a durable batch was lost or rotted, and the copy is refused (H9) rather
 * than replayed with a hole (H3).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Crc32 } from '../env/env.ts'
import type { BatchHeader, LogRecord } from './batch.ts'
import { blocksOf, isIntact, lastSeqOf, readBatchHeader, readRecords } from './batch.ts'
import type { LogDevice, LogGeometry } from './log-device.ts'
import { geometryOf, halfStart } from './log-device.ts'

export interface PlacedBatch {
  readonly block: number
  readonly header: BatchHeader
}

/** Where the next batch goes. */
export interface LogPosition {
  readonly halfNumber: number
  /** Blocks of the half already used. */
  readonly usedBlocks: number
  readonly nextSeq: number
  /** Last sequence number in the other half, 0 if that is free. */
  readonly otherLastSeq: number
}

export interface LogTail {
  /** Batches with records beyond `covers`, in order. */
  readonly batches: readonly PlacedBatch[]
  readonly lastSeq: number
  /** Epoch of the last batch; the root's when there is none. */
  readonly lastEpoch: number
  readonly position: LogPosition
}

/**
 * The highest consistency point that any batch says was durable on every copy that counted. A copy whose newest root is older has lost a root: what
 * that root freed may be written over, so the older one is no image any more.
 */
export async function newestRootCp(device: LogDevice, origin: number, crc32: Crc32): Promise<number> {
  const geometry = geometryOf(device)
  let newest = 0
  for (const half of [0, 1]) {
    const { batches } = await scanHalf(device, geometry, half, origin, crc32)
    for (const { header } of batches) newest = Math.max(newest, header.rootCp)
  }
  return newest
}

export type ScanResult =
  | { readonly ok: true; readonly tail: LogTail }
  | { readonly ok: false; readonly code: 'DAMAGED'; readonly message: string }

/** Bytes behind the end of a chain that are searched for proof of damage; above the largest batch. */
const PROOF_BLOCKS = 1024

async function readBatchAt(
  device: LogDevice,
  origin: number,
  crc32: Crc32,
  block: number,
  endBlock: number,
): Promise<{ header: BatchHeader; bytes: Uint8Array } | undefined> {
  if (block >= endBlock) return undefined
  const first = new Uint8Array(BLOCK_BYTES)
  await device.read(block, first)
  const header = readBatchHeader(first, origin)
  if (!header) return undefined
  const blocks = blocksOf(header.bytes)
  if (block + blocks > endBlock) return undefined
  let bytes = first
  if (blocks > 1) {
    bytes = new Uint8Array(blocks * BLOCK_BYTES)
    await device.read(block, bytes)
  }
  return isIntact(bytes, header, crc32) ? { header, bytes } : undefined
}

interface HalfChain {
  readonly batches: PlacedBatch[]
  /** Of a batch whose checksum holds and whose records contradict its lengths: nobody writes such. */
  readonly contradiction: number | undefined
  readonly halfNumber: number
  readonly endBlock: number
}

async function scanHalf(
  device: LogDevice,
  geometry: LogGeometry,
  index: number,
  origin: number,
  crc32: Crc32,
): Promise<HalfChain> {
  const start = halfStart(geometry, index)
  const batches: PlacedBatch[] = []
  let block = start
  let contradiction: number | undefined
  for (;;) {
    const found = await readBatchAt(device, origin, crc32, block, start + geometry.halfBlocks)
    if (!found) break
    const before = batches.at(-1)
    const { header } = found
    if (header.halfNumber % 2 !== index) break
    if (before) {
      if (header.halfNumber !== before.header.halfNumber) break
      if (header.firstSeq !== lastSeqOf(before.header) + 1 || header.epoch < before.header.epoch) break
    }
    if (readRecords(found.bytes, header) === undefined) {
      contradiction = block
      break
    }
    batches.push({ block, header })
    block += blocksOf(header.bytes)
  }
  return { batches, contradiction, halfNumber: batches[0]?.header.halfNumber ?? -1, endBlock: block }
}

/** True if a valid batch close behind `block` says that `seq` was acknowledged. */
async function provesDamage(
  device: LogDevice,
  geometry: LogGeometry,
  origin: number,
  crc32: Crc32,
  block: number,
  seq: number,
): Promise<boolean> {
  const half = block <= geometry.halfBlocks ? 0 : 1
  const end = halfStart(geometry, half) + geometry.halfBlocks
  const searchEnd = Math.min(end, block + PROOF_BLOCKS)
  const step = 64
  for (let at = block; at < searchEnd; at += step) {
    const count = Math.min(step, searchEnd - at)
    const bytes = new Uint8Array(count * BLOCK_BYTES)
    await device.read(at, bytes)
    for (let n = 0; n < count; n++) {
      const header = readBatchHeader(bytes.subarray(n * BLOCK_BYTES), origin)
      if (!header || header.acknowledged < seq) continue
      if (await readBatchAt(device, origin, crc32, at + n, end)) return true
    }
  }
  return false
}

/** `covers` and `epoch` are the root's: the oldest root of the side's aggregates, when there are several. */
export async function scanLog(
  device: LogDevice,
  origin: number,
  crc32: Crc32,
  covers: number,
  epoch: number,
): Promise<ScanResult> {
  const geometry = geometryOf(device)
  const halves = [
    await scanHalf(device, geometry, 0, origin, crc32),
    await scanHalf(device, geometry, 1, origin, crc32),
  ].sort((one, two) => one.halfNumber - two.halfNumber)
  const [older, newer] = [halves[0]!, halves[1]!]
  const chain: PlacedBatch[] = []
  const damaged = (message: string): ScanResult => ({ ok: false, code: 'DAMAGED', message })
  for (const { contradiction } of halves) {
    if (contradiction !== undefined) return damaged(`the batch at block ${contradiction} contradicts itself`)
  }
  const newest = newer.batches[0]
  if (newest) {
    const olderLast = older.batches.at(-1)
    if (olderLast && older.halfNumber + 1 === newer.halfNumber) {
      if (lastSeqOf(olderLast.header) + 1 === newest.header.firstSeq) {
        if (newest.header.epoch >= olderLast.header.epoch) chain.push(...older.batches)
      } else if (newest.header.firstSeq > covers + 1 && newest.header.epoch >= epoch) {
        return damaged(
          `records ${lastSeqOf(olderLast.header) + 1} to ${newest.header.firstSeq - 1} are missing`,
        )
      }
    }
    chain.push(...newer.batches)
  }
  const batches: PlacedBatch[] = []
  for (const batch of chain) {
    if (lastSeqOf(batch.header) <= covers) continue
    if (batch.header.epoch < epoch) break
    if (batches.length === 0 && batch.header.firstSeq > covers + 1) {
      return damaged(`records ${covers + 1} to ${batch.header.firstSeq - 1} are missing`)
    }
    batches.push(batch)
  }
  const last = batches.at(-1)
  const lastSeq = last ? lastSeqOf(last.header) : covers
  const ends = [older.endBlock, newer.endBlock]
  if (older.batches.length === 0 && newer.batches.length === 0) {
    ends.splice(0, 2, halfStart(geometry, 0), halfStart(geometry, 1))
  } else if (older.batches.length === 0) ends[0] = halfStart(geometry, newer.halfNumber + 1)
  for (const end of ends) {
    if (await provesDamage(device, geometry, origin, crc32, end, lastSeq + 1)) {
      return damaged(`record ${lastSeq + 1} was acknowledged but its batch is not valid`)
    }
  }
  return {
    ok: true,
    tail: {
      batches,
      lastSeq,
      lastEpoch: last?.header.epoch ?? epoch,
      position: positionAfter(geometry, batches, lastSeq, Math.max(newer.halfNumber, -1)),
    },
  }
}

/** Continues behind the last batch that counts, or begins the next half when none does. */
function positionAfter(
  geometry: LogGeometry,
  batches: readonly PlacedBatch[],
  lastSeq: number,
  newestHalf: number,
): LogPosition {
  const last = batches.at(-1)
  if (!last) return { halfNumber: newestHalf + 1, usedBlocks: 0, nextSeq: lastSeq + 1, otherLastSeq: 0 }
  const { halfNumber } = last.header
  const other = batches.findLast((batch) => batch.header.halfNumber !== halfNumber)
  return {
    halfNumber,
    usedBlocks: last.block + blocksOf(last.header.bytes) - halfStart(geometry, halfNumber),
    nextSeq: lastSeq + 1,
    otherLastSeq: other ? lastSeqOf(other.header) : 0,
  }
}

/** The records of one placed batch; the scan has checked it. */
export async function readBatch(
  device: LogDevice,
  batch: PlacedBatch,
): Promise<{ bytes: Uint8Array; records: LogRecord[] }> {
  const bytes = new Uint8Array(blocksOf(batch.header.bytes) * BLOCK_BYTES)
  await device.read(batch.block, bytes)
  const records = readRecords(bytes, batch.header)
  if (!records) throw new Error(`log batch at block ${batch.block} has contradicting lengths`)
  return { bytes, records }
}
