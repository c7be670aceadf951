/**
 * Batches and records of the operation log as bytes (docs/SPEC-log.md). Encoding and decoding only: where batches go, and when
 * they are durable, is log.ts; which of them count after a crash is scan.ts.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Crc32 } from '../env/env.ts'

export const BATCH_MAGIC = 0x424c4e54
export const BATCH_HEADER_BYTES = 64
export const RECORD_HEADER_BYTES = 12
const CRC_OFFSET = 60
const VERSION = 1

export interface BatchHeader {
  /** Header and records, without padding. */
  readonly bytes: number
  readonly count: number
  readonly firstSeq: number
  readonly acknowledged: number
  readonly halfNumber: number
  readonly epoch: number
  readonly incarnation: number
  readonly origin: number
  /**
   * Number of the newest consistency point whose root was durable on every copy that counts when the batch was made: a copy whose roots are all older has
   * lost one. 0: not known (batches of programs before this field).
   */
  readonly rootCp: number
}

export interface LogRecord {
  readonly seq: number
  /** CRC-32 of the aggregate's name. */
  readonly aggregate: number
  readonly volume: number
  readonly body: Uint8Array
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true)
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true)
}
function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true)
}

export function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES)
}
export function lastSeqOf(header: BatchHeader): number {
  return header.firstSeq + header.count - 1
}

/** Writes the header, with the checksum of everything, in front of the records that already stand in `batch`. */
export function sealBatch(batch: Uint8Array, header: BatchHeader, crc32: Crc32): void {
  const view = viewOf(batch)
  view.setUint32(0, BATCH_MAGIC, true)
  view.setUint16(4, VERSION, true)
  view.setUint16(6, 0, true)
  view.setUint32(8, header.bytes, true)
  view.setUint32(12, header.count, true)
  setU64(view, 16, header.firstSeq)
  setU64(view, 24, header.acknowledged)
  setU64(view, 32, header.halfNumber)
  view.setUint32(40, header.epoch, true)
  view.setUint32(44, header.incarnation, true)
  view.setUint32(48, header.origin, true)
  setU64(view, 52, header.rootCp)
  view.setUint32(CRC_OFFSET, 0, true)
  view.setUint32(CRC_OFFSET, crc32(batch.subarray(0, header.bytes)), true)
}

/** The header at the start of `bytes` as far as it makes sense by itself; the checksum is `isIntact`'s to judge. */
export function readBatchHeader(bytes: Uint8Array, origin: number): BatchHeader | undefined {
  if (bytes.length < BATCH_HEADER_BYTES) return undefined
  const view = viewOf(bytes)
  if (view.getUint32(0, true) !== BATCH_MAGIC || view.getUint16(4, true) !== VERSION) return undefined
  const header: BatchHeader = {
    bytes: view.getUint32(8, true),
    count: view.getUint32(12, true),
    firstSeq: getU64(view, 16),
    acknowledged: getU64(view, 24),
    halfNumber: getU64(view, 32),
    epoch: view.getUint32(40, true),
    incarnation: view.getUint32(44, true),
    origin: view.getUint32(48, true),
    rootCp: getU64(view, 52),
  }
  if (header.origin !== origin || header.count < 1 || header.firstSeq < 1) return undefined
  if (header.bytes < BATCH_HEADER_BYTES + RECORD_HEADER_BYTES * header.count) return undefined
  return header
}

export function isIntact(batch: Uint8Array, header: BatchHeader, crc32: Crc32): boolean {
  if (batch.length < header.bytes) return false
  const view = viewOf(batch)
  const head = batch.slice(0, BATCH_HEADER_BYTES)
  viewOf(head).setUint32(CRC_OFFSET, 0, true)
  return (
    view.getUint32(CRC_OFFSET, true) === crc32(batch.subarray(BATCH_HEADER_BYTES, header.bytes), crc32(head))
  )
}

/** Appends a record at `offset`; the caller made sure that it fits. Returns the offset behind it. */
export function writeRecord(
  batch: Uint8Array,
  offset: number,
  aggregate: number,
  volume: number,
  body: readonly Uint8Array[],
  bodyBytes: number,
): number {
  const view = viewOf(batch)
  view.setUint32(offset, bodyBytes, true)
  view.setUint32(offset + 4, aggregate, true)
  view.setUint32(offset + 8, volume, true)
  let at = offset + RECORD_HEADER_BYTES
  for (const chunk of body) {
    batch.set(chunk, at)
    at += chunk.length
  }
  return at
}

/** The records of an intact batch; undefined if lengths contradict each other (a bug of the writer, not a torn write). */
export function readRecords(batch: Uint8Array, header: BatchHeader): LogRecord[] | undefined {
  const view = viewOf(batch)
  const records: LogRecord[] = []
  let at = BATCH_HEADER_BYTES
  for (let n = 0; n < header.count; n++) {
    if (at + RECORD_HEADER_BYTES > header.bytes) return undefined
    const bytes = view.getUint32(at, true)
    const end = at + RECORD_HEADER_BYTES + bytes
    if (end > header.bytes) return undefined
    records.push({
      seq: header.firstSeq + n,
      aggregate: view.getUint32(at + 4, true),
      volume: view.getUint32(at + 8, true),
      body: batch.subarray(at + RECORD_HEADER_BYTES, end),
    })
    at = end
  }
  return at === header.bytes ? records : undefined
}
