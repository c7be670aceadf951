import { expect, test } from '@jest/globals'
import { Caller, handleOf, SideAnswers } from './caller.ts'
import type { KeptObject, KeptVolume } from './kept-image.ts'
import { keptImage } from './kept-image.ts'
import { done, Reader, ROOT } from './kept-reader.ts'
import { FILERS } from './names.ts'
import { problemsOf, untilEqual } from './pair-check.ts'

const LIMIT_MS = 60_000

const byPath = (objects: readonly KeptObject[]): KeptObject[] =>
  [...objects].sort((a, b) => (a.path < b.path ? -1 : 1))

async function everythingIsThere(reader: Reader, entries: readonly KeptObject[]): Promise<void> {
  const wanted = new Map(entries.map(({ path, runs }) => [path, runs ?? []]))
  expect(byPath(await reader.tree(wanted))).toEqual(byPath(entries))
}

/** Without what a snapshot has of its own, and what a restore moves on. */
const contentOf = (entries: readonly KeptObject[]): unknown[] =>
  byPath(entries).map(({ handle: _handle, ctime: _ctime, ...content }) => content)

interface Opened {
  readonly kept: KeptVolume
  readonly reader: Reader
  readonly id: string
}

test.each(['format-1', 'format-1-snapshots'])(
  'an image of %s opens with nothing lost, remembers its calls, can be changed, has snapshots made and restored, and is clean before and after',
  async (name) => {
    const { pair, sides } = keptImage(name)
    const { world } = pair
    expect(await problemsOf(pair)).toEqual([])

    for (const filer of FILERS) pair.start(filer)
    await pair.untilGood(LIMIT_MS)
    const volumes = FILERS.flatMap((side): Opened[] => {
      const { traditional, ...kept } = sides[side]
      expect(kept.logged).toBeGreaterThan(10)
      return [
        { kept, id: `volume-${side}` },
        ...(traditional === undefined ? [] : [{ kept: traditional, id: `volume-t${side}` }]),
      ].map((one) => ({
        ...one,
        reader: new Reader(
          new Caller(pair, side, `reader-${one.id}`, new SideAnswers()),
          handleOf(one.kept.root),
        ),
      }))
    })
    const each = async (work: (opened: Opened, n: number) => Promise<void>): Promise<void> => {
      for (const [n, opened] of volumes.entries()) await world.wait(work(opened, n), LIMIT_MS)
    }
    const order = async ({ reader, id }: Opened, op: 'Create' | 'Delete' | 'Restore', snapshot: string) => {
      const request = { volumeId: id, op, snapshot, requestId: `${op}-${snapshot}` }
      expect(await reader.caller.call((_, filer) => filer.snapshot(request))).toMatchObject({
        accepted: true,
      })
    }
    const namesIn = async (reader: Reader): Promise<string[]> =>
      (await reader.names(reader.root)).map((one) => one.name).sort()

    await each(async ({ kept, reader }) => {
      await everythingIsThere(reader, kept.entries)
      for (const { name: old, entries } of kept.snapshots ?? [])
        await everythingIsThere(await reader.snapshot(old), entries)
      for (const { key, answer } of kept.remembered) {
        const known = await reader.caller.call((vfs) => vfs.duplicate(reader.root, key))
        expect(JSON.parse(Buffer.from(known!).toString())).toEqual(answer)
      }
    })

    const change = async (reader: Reader): Promise<void> => {
      const { caller, root } = reader
      const made = done(
        'create',
        await caller.call((vfs) => vfs.create(ROOT, root, 'new', { mode: 'GUARDED', attributes: {} })),
      )
      const { handle } = made.object
      const data = new Uint8Array(50_000).fill(77)
      done('write', await caller.call((vfs) => vfs.write(ROOT, handle, 0, data, 'FILE_SYNC')))
      for (const { name: old, handle: file } of await reader.names(root)) {
        if (old === 'hard')
          done('overwrite', await caller.call((vfs) => vfs.write(ROOT, file, 8192, data, 'FILE_SYNC')))
        if (old === 'many') {
          for (const { name: one } of await reader.names(file))
            done('remove', await caller.call((vfs) => vfs.remove(ROOT, file, one)))
          done('rmdir', await caller.call((vfs) => vfs.rmdir(ROOT, root, old)))
        }
      }
    }
    await each(async (opened, n) => {
      const { kept, reader } = opened
      await order(opened, 'Create', 'upgraded')
      await change(reader)
      const runs = new Map(kept.entries.map((entry) => [entry.path, entry.runs ?? []]))
      const snapshot = await reader.snapshot('upgraded')
      expect(contentOf(await snapshot.tree(runs))).toEqual(contentOf(kept.entries))
      if (n % 2 === 0) {
        await order(opened, 'Restore', 'upgraded')
        expect(contentOf(await reader.tree(runs))).toEqual(contentOf(kept.entries))
      }
      for (const { name: old } of kept.snapshots?.slice(1) ?? []) await order(opened, 'Delete', old)
    })
    await untilEqual(pair, LIMIT_MS)
    expect(await problemsOf(pair)).toEqual([])

    for (const filer of FILERS) pair.crash(filer)
    for (const filer of FILERS) pair.start(filer)
    await pair.untilGood(LIMIT_MS)
    await each(async (opened, n) => {
      const { kept, reader } = opened
      const before = kept.entries.map(({ path }) => path).filter((path) => !path.includes('/'))
      const restored = n % 2 === 0
      const wanted = restored ? before : [...before.filter((path) => path !== 'many'), 'new']
      expect(await namesIn(reader)).toEqual(wanted.sort())
      for (const { name: old, entries } of kept.snapshots?.slice(0, 1) ?? [])
        await everythingIsThere(await reader.snapshot(old), entries)
      await order(opened, 'Delete', 'upgraded')
      if (restored) return
      const made = (await reader.names(reader.root)).find((one) => one.name === 'new')!
      expect(await reader.object(made.handle, 'new')).toMatchObject({ size: 50_000 })
    })
    await untilEqual(pair, LIMIT_MS)
    expect(await problemsOf(pair)).toEqual([])
  },
)
