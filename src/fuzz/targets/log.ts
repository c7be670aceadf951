/**
 * The operation log: batches damaged on the device, with checksums that hold or not, and records changed and replayed over a volume. A scan must end with a tail or
 * with DAMAGED; a record that we did not write is refused by an assertion (core/fs/record.ts), and by nothing else.
 */
import { AssertionError } from '../../core/std/assert.ts'
import { BLOCK_BYTES } from '../../core/env/device.ts'
import { DamagedBlock, DUAL, SINGLE } from '../../core/fs/block-store.ts'
import { putU32 } from '../../core/fs/bytes.ts'
import { env, ROOT, Volume } from '../../core/fs/testing/harness.ts'
import { FileSystem } from '../../core/fs/volume.ts'
import { BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, sealBatch, writeRecord } from '../../core/nvlog/batch.ts'
import type { LogDevice } from '../../core/nvlog/log-device.ts'
import { readBatch, scanLog } from '../../core/nvlog/scan.ts'
import type { SimRandom } from '../../sim/world.ts'
import { mutate, mutated } from '../target.ts'
import type { Target } from '../target.ts'

const ORIGIN = 77
const HALF = 32
const SCANS = 30
const REPLAYS = 30
const RECORDS_MAX = 40

class MemoryLog implements LogDevice {
  readonly blocks = 1 + 2 * HALF
  readonly content = new Uint8Array((1 + 2 * HALF) * BLOCK_BYTES)
  read(block: number, into: Uint8Array): Promise<void> {
    into.set(this.content.subarray(block * BLOCK_BYTES, block * BLOCK_BYTES + into.length))
    return Promise.resolve()
  }
  write(): Promise<void> {
    return Promise.reject(new Error('a scan writes nothing'))
  }
}

const crc32 = env.crc32

/** Fills the log with batches as a filer does; returns where they begin. */
function fill(log: MemoryLog, random: SimRandom): number[] {
  const starts: number[] = []
  let seq = 1
  for (const halfNumber of [4, 5]) {
    let block = 1 + (halfNumber % 2) * HALF
    const end = block + HALF
    while (block < end - 3) {
      const count = 1 + random.below(4)
      const bodies = Array.from({ length: count }, () => new Uint8Array(random.below(1500)).fill(count))
      const bytes =
        BATCH_HEADER_BYTES + bodies.reduce((sum, body) => sum + RECORD_HEADER_BYTES + body.length, 0)
      const batch = new Uint8Array(bytes)
      let at = BATCH_HEADER_BYTES
      for (const body of bodies) at = writeRecord(batch, at, 1, 1, [body], body.length)
      const header = {
        bytes,
        count,
        firstSeq: seq,
        acknowledged: seq - 1,
        halfNumber,
        epoch: 3,
        incarnation: 2,
        rootCp: 3,
        origin: ORIGIN,
      }
      sealBatch(batch, header, crc32)
      log.content.set(batch, block * BLOCK_BYTES)
      starts.push(block)
      block += Math.ceil(bytes / BLOCK_BYTES)
      seq += count
    }
  }
  return starts
}

async function scan(random: SimRandom): Promise<void> {
  const log = new MemoryLog()
  const starts = fill(log, random)
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = random.pick(starts) * BLOCK_BYTES
    mutate(random, log.content, at, at + (random.chance(0.7) ? 160 : 3 * BLOCK_BYTES))
    if (random.chance(0.3)) continue
    // The checksum holds over as many bytes as the header says.
    const bytes = new DataView(log.content.buffer).getUint32(at + 8, true)
    const batch = log.content.subarray(
      at,
      Math.min(log.content.length, at + Math.max(BATCH_HEADER_BYTES, bytes)),
    )
    putU32(batch, 60, 0)
    putU32(batch, 60, crc32(batch))
  }
  const result = await scanLog(log, ORIGIN, crc32, random.below(60), random.below(5))
  if (!result.ok) return
  for (const batch of result.tail.batches) await readBatch(log, batch)
}

interface Base {
  readonly volume: Volume
  readonly image: ReturnType<Volume['image']>
}
const bases = new Map<string, Promise<Base>>()

/** A volume, and what happened to it after an image was made. */
async function makeBase(format: typeof DUAL): Promise<Base> {
  const volume = Volume.make(format)
  const { fs } = volume
  const root = await volume.root()
  for (let i = 0; i < 60; i++) await fs.mknod(ROOT, root, `early-${i}`, 'FIFO', {}, 0, 0)
  const image = volume.image()
  const dir = await fs.mkdir(ROOT, root, 'dir', {})
  if (!dir.ok) throw new Error('the base cannot be made')
  for (let i = 0; volume.journal.records.length < image.records + RECORDS_MAX; i++) {
    const made = await fs.create(ROOT, root, `file-${i}`, { mode: 'GUARDED', attributes: {} })
    if (!made.ok) throw new Error('the base cannot be made')
    const { handle } = made.object
    await fs.write(ROOT, handle, i * 5000, new Uint8Array(3000 * (i % 4)), 'FILE_SYNC')
    await fs.link(ROOT, handle, dir.object.handle, `link-${i}`)
    await fs.rename(ROOT, root, `file-${i}`, dir.object.handle, `moved-${i}`)
    await fs.setattr(ROOT, handle, { size: 10, mode: 0o600 })
    await fs.symlink(ROOT, root, `path-${i}`, 'p'.repeat(20 + 90 * (i % 3)), {})
    await fs.remove(ROOT, root, `early-${i}`)
  }
  return { volume, image }
}

async function replay(random: SimRandom): Promise<void> {
  const format = random.chance(0.5) ? DUAL : SINGLE
  let made = bases.get(format.name)
  if (made === undefined) {
    made = makeBase(format)
    bases.set(format.name, made)
  }
  const { volume, image } = await made
  const records = volume.journal.records.slice(image.records)
  const fs = new FileSystem({
    env,
    store: image.store.image(),
    journal: volume.journal,
    volume: 7,
    root: image.root,
    space: () => ({ totalBytes: 0, freeBytes: 0 }),
  })
  const at = random.below(RECORDS_MAX)
  for (const record of records.slice(0, at)) await fs.replay(record)
  try {
    await fs.replay(mutated(random, records[at]!))
    for (const record of records.slice(at + 1, at + 4)) await fs.replay(record)
  } catch (error) {
    if (!(error instanceof AssertionError || error instanceof DamagedBlock)) throw error
  }
}

export const log: Target = {
  name: 'log',
  meaning: 'log batches and records: scan, replay over a volume',
  async run(random) {
    for (let i = 0; i < SCANS; i++) await scan(random)
    for (let i = 0; i < REPLAYS; i++) await replay(random)
    return SCANS + REPLAYS
  },
}
