/** The whole file layer against a plain model: any operations, with misses, freezes, and a replay that must give the very same volume. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { DUAL, SINGLE } from './block-store.ts'
import { commandArbitrary, compare, dump, Run } from './testing/commands.ts'
import { problemsOf, Volume } from './testing/harness.ts'

describe.each([SINGLE, DUAL])('a volume of $name pointers', (format) => {
  test('is what a plain model is, is consistent, and a replay over any earlier image gives the same', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(commandArbitrary, { minLength: 20, maxLength: 120 }), async (commands) => {
        const volume = Volume.make(format)
        const { store, fs } = volume
        store.strict = true
        let start = volume.image()
        const run = new Run({
          fs,
          begin: () => store.endOperation(),
          disturb: (what, n) => {
            if (what === 'freeze') store.freeze()
            else if (what === 'forget') store.forget((bn) => bn % 4 !== n % 4)
            else start = volume.image()
          },
        })
        run.model.root.handle = await volume.root()
        for (const command of commands) await run.step(command)
        start.store.forget()
        const partner = new Volume(start.store, start.root)
        for (const record of volume.journal.records.slice(start.records)) await partner.fs.replay(record)
        await compare(fs, run.model.root)
        expect(await dump(partner.fs, run.model.root.handle)).toEqual(await dump(fs, run.model.root.handle))
        expect(await fs.reclaim()).toBe(true)
        for (const one of [volume, partner]) {
          one.store.freeze()
          expect(await problemsOf(one.store, one.fs.freeze())).toEqual([])
        }
      }),
      { numRuns: Number(process.env.FS_RUNS ?? 15) },
    )
  })
})
