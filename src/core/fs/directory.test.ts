import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { DUAL } from './block-store.ts'
import { bucketOf, hashName } from './directory.ts'
import { good, now, problemsOf, ROOT, statusOf, Volume } from './testing/harness.ts'

const verifier = new Uint8Array(8)

function list(volume: Volume, handle: Uint8Array, cookie = 0, limit = Infinity) {
  const entries: { name: string; cookie: number }[] = []
  for (let at = cookie; entries.length < limit;) {
    const part = now(
      volume.fs.readdir(ROOT, handle, at, verifier, Math.min(500, limit - entries.length), false),
    )
    if (!part.ok) throw new Error(part.status)
    entries.push(...part.entries.map(({ name, cookie: behind }) => ({ name, cookie: behind })))
    if (part.eof) break
    at = entries[entries.length - 1]!.cookie
  }
  return entries
}

describe('a directory of 10^5 names', () => {
  const count = 100_000

  test('finds, lists and removes them in a few blocks each; the index and the map stay right', async () => {
    const volume = Volume.make(DUAL)
    const root = await volume.root()
    const directory = (await good(volume.fs.mkdir(ROOT, root, 'd', {}))).object.handle
    // Hard links of one file: names without the cost of inodes.
    const file = (await good(volume.fs.create(ROOT, root, 'f', { mode: 'GUARDED', attributes: {} }))).object
      .handle
    for (let i = 0; i < count; i++) {
      if (!now(volume.fs.link(ROOT, file, directory, `a-file-name-${i}`)).ok) throw new Error(`link ${i}`)
    }
    volume.store.freeze()
    volume.store.forget()
    await good(volume.fs.lookup(ROOT, directory, 'a-file-name-77777'))
    // Path to the bucket, the bucket, path to the entry block, the entry block, the inode file.
    expect(volume.store.loads).toBeLessThan(12)
    volume.store.forget(() => false)
    const names = new Set((await loadAll(volume, directory)).map(({ name }) => name))
    expect(names.size).toBe(count + 2)
    for (let i = 0; i < count; i += 2) {
      if (!(await volume.fs.remove(ROOT, directory, `a-file-name-${i}`)).ok) throw new Error(`remove ${i}`)
    }
    expect(list(volume, directory)).toHaveLength(count / 2 + 2)
    expect(await statusOf(volume.fs.lookup(ROOT, directory, 'a-file-name-0'))).toBe('NOENT')
    const { size } = (await good(volume.fs.getattr(directory))).attributes
    // Room left by names is found again.
    for (let i = 0; i < count / 10; i++) {
      if (!now(volume.fs.link(ROOT, file, directory, `b-file-name-${i}`)).ok) throw new Error(`link ${i}`)
    }
    expect((await good(volume.fs.getattr(directory))).attributes.size).toBe(size)
    volume.store.freeze()
    expect(await problemsOf(volume.store, volume.fs.freeze())).toEqual([])
  })

  async function loadAll(volume: Volume, directory: Uint8Array) {
    for (let cookie = 0; ;) {
      const part = await good(volume.fs.readdir(ROOT, directory, cookie, verifier, 5000, false))
      if (part.eof) return list(volume, directory)
      cookie = part.entries[part.entries.length - 1]!.cookie
    }
  }
})

describe('cookies', () => {
  test('a listing names every entry once that is there all the time, whatever comes and goes meanwhile', async () => {
    const script = fc.array(
      fc.record({ add: fc.boolean(), i: fc.nat(400), read: fc.integer({ min: 1, max: 30 }) }),
      {
        maxLength: 80,
      },
    )
    await fc.assert(
      fc.asyncProperty(script, async (steps) => {
        const volume = Volume.make(DUAL)
        const root = await volume.root()
        const kept = Array.from({ length: 300 }, (_, i) => `kept-${i}`)
        for (const name of kept) await good(volume.fs.mknod(ROOT, root, name, 'FIFO', {}, 0, 0))
        const seen: string[] = []
        let cookie = 0
        for (const { add, i, read } of steps) {
          const name = `comes-and-goes-${i}`
          await (add
            ? volume.fs.mknod(ROOT, root, name, 'FIFO', {}, 0, 0)
            : volume.fs.remove(ROOT, root, name))
          const part = list(volume, root, cookie, read)
          seen.push(...part.map((entry) => entry.name))
          cookie = part[part.length - 1]?.cookie ?? cookie
        }
        seen.push(...list(volume, root, cookie).map((entry) => entry.name))
        expect(seen.filter((name) => name.startsWith('kept')).sort()).toEqual([...kept].sort())
      }),
      { numRuns: 15 },
    )
  })
})

test('linear hashing: a bucket splits only into itself and the one added, and every name has one bucket', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), fc.integer({ min: 2, max: 100000 }), (name, buckets) => {
      const hash = hashName(name, 1)
      const before = bucketOf(hash, buckets)
      const after = bucketOf(hash, buckets + 1)
      expect(before).toBeLessThan(buckets)
      expect(after === before || after === buckets).toBe(true)
    }),
  )
})
