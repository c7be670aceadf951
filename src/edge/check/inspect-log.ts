/**
 * What `tandem inspect` shows of the log volume: the halves of a side's log with their batches and records as operations in words, and the mailbox. What is not whole is shown as such.
 */
import { BLOCK_BYTES } from '../../core/env/device.ts'
import type { Env } from '../../core/env/env.ts'
import { getU32 } from '../../core/fs/bytes.ts'
import type { Change } from '../../core/fs/record.ts'
import { decodeRecord } from '../../core/fs/record.ts'
import { blocksOf, isIntact, lastSeqOf, readBatchHeader, readRecords } from '../../core/nvlog/batch.ts'
import type { LogRecord } from '../../core/nvlog/batch.ts'
import { geometryOf, halfStart } from '../../core/nvlog/log-device.ts'
import type { LogDevice } from '../../core/nvlog/log-device.ts'
import { peekMailbox } from '../../core/pair/mailbox.ts'
import { AssertionError } from '../../core/std/assert.ts'
import { decodeJson } from '../../core/std/ascii-json.ts'
import type { Facts } from './inspect.ts'

const MAGIC = 0x474c4e54

const quoted = (name: string): string => JSON.stringify(Buffer.from(name, 'latin1').toString())

/** A change as a person would say it. */
export function describeChange(change: Change): string {
  switch (change.type) {
    case 'write':
      return `write ${change.data.length} bytes at ${change.offset} of inode ${change.ino}`
    case 'setattr':
      return `setattr of inode ${change.ino}: mode ${change.mode.toString(8)}, owner ${change.uid}:${change.gid}, size ${change.size}`
    case 'make':
      return `make ${change.kind} inode ${change.ino}, generation ${change.generation}, as ${quoted(change.name)} in inode ${change.directory}`
    case 'remove':
      return `remove ${quoted(change.name)} (inode ${change.ino}) from inode ${change.directory}`
    case 'rename':
      return `rename ${quoted(change.fromName)} (inode ${change.ino}) of inode ${change.from} to ${quoted(change.toName)} in inode ${change.to}${change.replaced === 0 ? '' : `, replacing inode ${change.replaced}`}`
    case 'link':
      return `link inode ${change.ino} as ${quoted(change.name)} in inode ${change.directory}`
    case 'reclaim':
      return `free a slice of surplus blocks of inode ${change.ino}`
    case 'reply':
      return 'keep the reply to a refused call'
  }
}

function describeRecord(record: LogRecord): string {
  if (record.volume === 0)
    return `operation on the aggregate: ${JSON.stringify(decodeJson(record.body) ?? 'not JSON')}`
  try {
    const { change, kept } = decodeRecord(record.body)
    const xid =
      kept === undefined
        ? ''
        : `, reply to xid ${kept.key.xid.toString(16)} kept (${kept.reply.length} bytes)`
    return `${describeChange(change)}${xid}`
  } catch (error) {
    if (!(error instanceof AssertionError)) throw error
    return `cannot be read: ${error.message}`
  }
}

/** One side's log. `records`: with every record in words. */
export async function log(env: Env, path: string, device: LogDevice, records: boolean): Promise<Facts> {
  const head = new Uint8Array(BLOCK_BYTES)
  await device.read(0, head)
  const whole = getU32(head, 0) === MAGIC && getU32(head, 20) === env.crc32(head.subarray(0, 20))
  const origin = getU32(head, 8)
  const header = whole
    ? {
        version: getU32(head, 4),
        origin: origin.toString(16),
        id: getU32(head, 12).toString(16),
        halfBlocks: getU32(head, 16),
      }
    : { invalid: 'no valid header: new, or damaged' }
  const geometry = geometryOf(device)
  const halves: Facts[] = []
  for (const index of [0, 1]) {
    const start = halfStart(geometry, index)
    const batches: Facts[] = []
    for (let block = start; block < start + geometry.halfBlocks;) {
      const found = await batchAt(env, device, block, start + geometry.halfBlocks, origin)
      if (found === undefined) break
      const { header: one, list } = found
      batches.push({
        block,
        half: one.halfNumber,
        records: `${one.firstSeq}-${lastSeqOf(one)}`,
        acknowledged: one.acknowledged,
        rootCp: one.rootCp,
        epoch: one.epoch,
        incarnation: one.incarnation,
        bytes: one.bytes,
        ...(records
          ? {
              operations: list?.map(
                (record) => `${record.seq} volume ${record.volume}: ${describeRecord(record)}`,
              ) ?? ['lengths contradict each other'],
            }
          : {}),
      })
      block += blocksOf(one.bytes)
    }
    halves.push({ half: index, firstBlock: start, batches })
  }
  return { log: path, header, halves }
}

async function batchAt(env: Env, device: LogDevice, block: number, end: number, origin: number) {
  const first = new Uint8Array(BLOCK_BYTES)
  await device.read(block, first)
  const header = readBatchHeader(first, origin)
  if (header === undefined || block + blocksOf(header.bytes) > end) return undefined
  const bytes = new Uint8Array(blocksOf(header.bytes) * BLOCK_BYTES)
  await device.read(block, bytes)
  return isIntact(bytes, header, env.crc32) ? { header, list: readRecords(bytes, header) } : undefined
}

export async function mailbox(env: Env, path: string, device: LogDevice): Promise<Facts> {
  const blocks = await peekMailbox(env, device)
  const newest = blocks.reduce(
    (best, one) => (one !== undefined && one.generation > (best?.generation ?? -1) ? one : best),
    undefined,
  )
  return {
    mailbox: path,
    blocks: blocks.map((one, block) => ({
      block,
      ...(one === undefined ? { invalid: 'not whole' } : { generation: one.generation }),
    })),
    content: newest?.mail ?? 'none that makes sense',
  }
}
