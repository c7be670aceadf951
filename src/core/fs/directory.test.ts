import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { DUAL, SINGLE } from './block-store.ts'
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

describe('a directory of 20,000 names', () => {
  const count = 20_000

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
    await good(volume.fs.lookup(ROOT, directory, 'a-file-name-17777'))
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

describe('a directory', () => {
  /** A directory and a file of its own, whose links are its names. */
  async function made(volume: Volume) {
    const root = await volume.root()
    const directory = (await good(volume.fs.mkdir(ROOT, root, 'd', {}))).object.handle
    const { object } = await good(volume.fs.create(ROOT, root, 'f', { mode: 'GUARDED', attributes: {} }))
    return { directory, file: object.handle }
  }
  const consistent = async (volume: Volume) => {
    volume.store.freeze()
    expect(await problemsOf(volume.store, volume.fs.freeze())).toEqual([])
  }

  test('grows over the end of a map, whose successor is there before its turn', async () => {
    const volume = Volume.make(DUAL)
    const { directory, file } = await made(volume)
    // 15 names of this length fill a block: all 4,095 of the first map, the one behind it, and some of the next one.
    const name = (n: number) => `${n}`.padEnd(255, 'x')
    const borders = [4095 * 15, 4096 * 15, 4097 * 15]
    for (let n = 0; n <= borders[2]!; n++) {
      if (!now(volume.fs.link(ROOT, file, directory, name(n))).ok) throw new Error(`link ${n}`)
      if (borders.includes(n)) await consistent(volume)
    }
    for (let n = borders[0]! - 5; n < borders[2]!; n++) await good(volume.fs.remove(ROOT, directory, name(n)))
    await consistent(volume)
    expect(list(volume, directory)).toHaveLength(2 + borders[0]! - 5 + 1)
  })

  test('is what a plain map of names is, whatever their number and length', async () => {
    const some = fc.record({
      op: fc.constantFrom('add', 'remove', 'rename'),
      from: fc.nat(2000),
      count: fc.integer({ min: 1, max: 700 }),
      stride: fc.integer({ min: 1, max: 7 }),
    })
    // One number, one name; lengths from 1 to 255 bytes.
    const nameOf = (n: number) => `${n}`.padEnd((n * n) % 9 === 0 ? 1 + ((n * 31) % 255) : (n % 20) + 1, 'y')
    await fc.assert(
      fc.asyncProperty(
        fc.array(some, { minLength: 3, maxLength: 12 }),
        fc.constantFrom(SINGLE, DUAL),
        async (steps, format) => {
          const volume = Volume.make(format)
          const { directory, file } = await made(volume)
          const other = (await good(volume.fs.mknod(ROOT, await volume.root(), 'o', 'FIFO', {}, 0, 0))).object
          const files = {
            f: (await good(volume.fs.getattr(file))).attributes.fileid,
            o: other.attributes.fileid,
          }
          const model = new Map<string, number>()
          for (const { op, from, count, stride } of steps) {
            for (let i = 0; i < count; i++) {
              const n = from + i * stride
              const name = nameOf(n)
              const which = n % 3 === 0 ? 'o' : 'f'
              const handle = which === 'o' ? other.handle : file
              if (op === 'add') {
                const there = model.has(name)
                expect(await statusOf(volume.fs.link(ROOT, handle, directory, name))).toBe(
                  there ? 'EXIST' : 'OK',
                )
                if (!there) model.set(name, files[which])
              } else if (op === 'remove') {
                const there = model.delete(name)
                expect(await statusOf(volume.fs.remove(ROOT, directory, name))).toBe(there ? 'OK' : 'NOENT')
              } else {
                const to = nameOf(n + 1)
                const ino = model.get(name)
                const status = await statusOf(volume.fs.rename(ROOT, directory, name, directory, to))
                expect(status).toBe(ino === undefined ? 'NOENT' : 'OK')
                // Two names of one object: a rename of one over the other does nothing.
                if (ino === undefined || model.get(to) === ino) continue
                model.delete(name)
                model.set(to, ino)
              }
            }
            volume.store.freeze()
            volume.store.forget((bn) => bn % 3 !== 0)
          }
          const found = new Map<string, number>()
          for (let cookie = 0, eof = false; !eof;) {
            const part = await good(volume.fs.readdir(ROOT, directory, cookie, verifier, 300, false))
            for (const entry of part.entries) {
              expect(found.has(entry.name)).toBe(false)
              found.set(entry.name, entry.fileid)
              cookie = entry.cookie
            }
            ;({ eof } = part)
          }
          found.delete('.')
          found.delete('..')
          expect(found).toEqual(model)
          for (const [name, ino] of model) {
            const { object } = await good(volume.fs.lookup(ROOT, directory, name))
            expect(object.attributes.fileid).toBe(ino)
          }
          await consistent(volume)
        },
      ),
      { numRuns: Number(process.env.FS_RUNS ?? 8) },
    )
  })
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
