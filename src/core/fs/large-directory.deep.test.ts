/**
 * A directory of 10^6 names over the real block layer, in a cache that holds an eightieth of it: each call costs a few blocks, memory stays in its
 * bounds, and a listing that goes on while names come and go has every name that stays exactly once.
 */
import { expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { good, ROOT, statusOf } from './testing/harness.ts'
import { Stack } from './testing/stack.ts'

const NAMES = 1_000_000
const CACHE_BLOCKS = 200
const verifier = new Uint8Array(8)
const nameOf = (n: number): string => `a-file-name-${n}`
/** In no order that the directory could profit from: 7919 and 10^6 have no common divisor. */
const nth = (n: number): number => (n * 7919) % NAMES

test('10^6 names: made, found, listed while others come and go, removed, each in a few blocks and bounded memory', async () => {
  const stack = new Stack(3, 'Flexible', [60_000])
  stack.cacheBlocks = 16_000
  await stack.make()
  const root = await stack.fs.rootHandle()
  const directory = (await good(stack.fs.mkdir(ROOT, root, 'd', {}))).object.handle
  // Hard links of one file: names without the cost of inodes.
  const created = await good(stack.fs.create(ROOT, root, 'f', { mode: 'GUARDED', attributes: {} }))
  const file = created.object.handle
  const link = async (name: string): Promise<void> => {
    await good(stack.fs.link(ROOT, file, directory, name))
  }
  const remove = async (name: string): Promise<void> => {
    await good(stack.fs.remove(ROOT, directory, name))
  }
  /** An image; the records that it covers are of no use any more. */
  const image = async (): Promise<void> => {
    await stack.consistencyPoint()
    stack.journal.records.fill(new Uint8Array(0))
  }
  /** What device reads an operation takes at most, and that the cache keeps its bound beside changed blocks. */
  const small = { reads: 0, bytes: 0 }
  const measured = async <T>(work: () => Promise<T>): Promise<T> => {
    const [medium] = stack.bed.media[0]!
    const before = medium!.reads
    const result = await work()
    const { cache } = stack.aggregate
    small.reads = Math.max(small.reads, medium!.reads - before)
    small.bytes = Math.max(small.bytes, cache.cleanBytes + cache.dirtyBytes)
    return result
  }
  const list = (cookie: number, count: number) =>
    measured(() => good(stack.fs.readdir(ROOT, directory, cookie, verifier, count, false)))

  for (let n = 0; n < NAMES; n++) {
    await link(nameOf(n))
    if (n % 100_000 === 99_999) await image()
  }
  expect((await good(stack.fs.getattr(file))).attributes.nlink).toBe(NAMES + 1)

  stack.cacheBlocks = CACHE_BLOCKS
  await stack.reopen()
  for (let n = 0; n < 2000; n++) {
    const name = nameOf(nth(n))
    await measured(() => good(stack.fs.lookup(ROOT, directory, name)))
    expect(await measured(() => statusOf(stack.fs.lookup(ROOT, directory, `${name}-not`)))).toBe('NOENT')
  }
  // Two indirect blocks and a leaf for the bucket, likewise for the entry block; each with its checksum block.
  expect(small.reads).toBeLessThanOrEqual(12)

  // Of every thousand names three go, and one comes, while the directory is read.
  const seen = new Uint8Array(NAMES)
  const cookies: number[] = []
  let gone = 0
  let come = 0
  let others = 0
  small.reads = 0
  for (let cookie = 0, eof = false; !eof;) {
    const part = await list(cookie, 1000)
    for (const entry of part.entries) {
      const n = /^a-file-name-(\d+)$/.exec(entry.name)?.[1]
      if (n === undefined) others += 1
      else seen[Number(n)]! += 1
      expect(entry.cookie).toBeGreaterThan(cookie)
      cookie = entry.cookie
    }
    cookies.push(cookie)
    ;({ eof } = part)
    for (let i = 0; i < 3; i++) await remove(nameOf(nth(gone++)))
    await link(`comes-meanwhile-${come++}`)
    if (come % 100 === 0) await image()
  }
  const goers = new Set(Array.from({ length: gone }, (_, n) => nth(n)))
  const wrong: number[] = []
  for (let n = 0; n < NAMES; n++) if (goers.has(n) ? seen[n]! > 1 : seen[n] !== 1) wrong.push(n)
  expect(wrong).toEqual([])
  // `.`, `..`, and of those that came meanwhile each once at most.
  expect(others).toBeLessThanOrEqual(2 + come)

  // A position that was given leads to the same place, whatever was removed in front of it.
  const middle = cookies[cookies.length >> 1]!
  const [first] = (await list(middle, 1)).entries
  for (let n = 0; n < NAMES; n += 5000) if (!goers.has(n)) await remove(nameOf(n))
  const again = (await list(middle, 2)).entries
  expect(again.map((entry) => entry.cookie)).toContain(first!.cookie)
  expect(small.reads).toBeLessThan(100)
  // Changed blocks come on top: an image was made after each 400 changes.
  expect(small.bytes).toBeLessThan((CACHE_BLOCKS + 4000) * BLOCK_BYTES)

  await stack.reopen()
  const attributes = (await good(stack.fs.getattr(file))).attributes
  let left = 0
  for (let cookie = 0, eof = false; !eof;) {
    const part = await list(cookie, 5000)
    left += part.entries.length
    cookie = part.entries.at(-1)?.cookie ?? cookie
    ;({ eof } = part)
  }
  expect(left).toBe(attributes.nlink - 1 + 2)
  expect(await stack.problems()).toEqual([])
}, 600_000)
