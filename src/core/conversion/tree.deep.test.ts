/** A tree of very many files, and how little of it the cut-over has to look at. */
import { expect, test } from '@jest/globals'
import { createHash } from 'node:crypto'
import { BLOCK_BYTES } from '../env/device.ts'
import { good, ROOT } from '../fs/testing/harness.ts'
import { ConversionBed } from './testing/bed.ts'

const FILES = Number(process.env['TANDEM_FILES'] ?? 10_000)
const FOLDER_FILES = 500

/** Folders of files, of which most have some bytes in their inodes, and every twentieth has blocks. */
async function grown(bed: ConversionBed, files: number): Promise<void> {
  const { fs } = bed
  const root = await fs.rootHandle()
  for (let first = 0; first < files; first += FOLDER_FILES) {
    const { object } = await good(fs.mkdir(ROOT, root, `d${first}`, { mode: 0o755 }))
    for (let n = first; n < Math.min(files, first + FOLDER_FILES); n++) {
      const how = { mode: 'UNCHECKED' as const, attributes: { mode: 0o600 + (n % 64) } }
      const made = await good(fs.create(ROOT, object.handle, `file-${n}`, how))
      const bytes = Buffer.from(`${n};`.repeat(n % 20 === 0 ? 2500 : 1 + (n % 9)))
      await good(fs.write(ROOT, made.object.handle, 0, bytes, 'UNSTABLE'))
    }
    // What was copied since the last one comes back with it.
    await bed.consistencyPoint()
  }
  await bed.consistencyPoint()
}

/** Of every name, handle, attribute and byte. */
async function hashOf(bed: ConversionBed): Promise<string> {
  const hash = createHash('sha256')
  const { fs } = bed
  const visit = async (folder: Uint8Array): Promise<void> => {
    const verifier = new Uint8Array(8)
    for (let cookie = 0; ;) {
      const { entries, eof } = await good(fs.readdir(ROOT, folder, cookie, verifier, 200, false))
      for (const entry of entries) {
        cookie = entry.cookie
        if (entry.name === '.' || entry.name === '..') continue
        const { object } = await good(fs.lookup(ROOT, folder, entry.name))
        const { type, size, ...attributes } = object.attributes
        hash.update(`${entry.name} ${entry.cookie} ${JSON.stringify({ type, size, attributes })}`)
        hash.update(object.handle)
        if (type === 'DIR') await visit(object.handle)
        else {
          const bytes = new Uint8Array(Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES)
          await good(fs.read(ROOT, object.handle, 0, bytes.length, () => bytes))
          hash.update(bytes.subarray(0, size))
        }
      }
      if (eof) return
    }
  }
  await visit(await fs.rootHandle())
  return hash.digest('hex')
}

test(`1, 14: ${FILES} files are the same before, absent, built and joined; the cut-over reads and writes as much as for 1000 (C1, C9, C12)`, async () => {
  const costs: unknown[] = []
  for (const files of [1000, FILES]) {
    const blocks = 2000 + files
    const bed = new ConversionBed(41, [blocks, Math.ceil(blocks / 2)], [2000 + files])
    await bed.format()
    await grown(bed, files)
    const before = await hashOf(bed)
    const open = (await good(bed.fs.lookup(ROOT, await bed.fs.rootHandle(), 'd0'))).object.handle
    await bed.consistencyPoint()
    const media = [...bed.oldMedia, ...bed.newMedia].flat()
    const io = (): number[] => [
      media.reduce((sum, { reads }) => sum + reads, 0),
      media.reduce((sum, { blocksWritten }) => sum + blocksWritten, 0),
    ]
    const [reads, writes] = io()
    bed.adoptNow()
    const [readsAfter, writesAfter] = io()
    costs.push([
      readsAfter! - reads!,
      writesAfter! - writes!,
      bed.volume.freshBlocks,
      JSON.stringify({ ...bed.adoption!.adoption, record: 0 }).length,
    ])
    expect((await good(bed.fs.lookup(ROOT, open, 'file-7'))).object.attributes.size).toBe(16)
    expect(await hashOf(bed)).toBe(before)
    await bed.scan(2000)
    expect(await hashOf(bed)).toBe(before)
    await bed.join()
    bed.attach()
    await bed.open(1)
    expect(await hashOf(bed)).toBe(before)
    expect(bed.target.old!.copied).toBe(0)
    expect(await bed.problems()).toEqual([])
  }
  expect(costs[0]).toEqual(costs[1])
}, 600_000)
