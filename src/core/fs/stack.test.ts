/**
 * The file layer over the real block layer, on simulated media: operations go on while consistency points are written; after a
 * power cut the newest image and the records behind it give back every acknowledged change, and both checkers find nothing (A1, A6).
 */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { commandArbitrary, compare, Run } from './testing/commands.ts'
import { Stack } from './testing/stack.ts'

test.each(['Flexible', 'Traditional'] as const)(
  '%s: acknowledged changes survive power cuts during consistency points, and nothing is lost or leaked',
  async (type) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(commandArbitrary, { minLength: 20, maxLength: 120 }),
        fc.nat(1e6),
        async (commands, seed) => {
          const stack = new Stack(seed, type)
          await stack.make()
          const run = new Run({
            get fs() {
              return stack.fs
            },
            begin() {},
            async disturb(what) {
              if (what === 'image') await stack.powerCut()
              else await stack.startPoint()
            },
          })
          run.model.root.handle = await stack.fs.rootHandle()
          for (const command of commands) await run.step(command)
          await compare(stack.fs, run.model.root)
          await stack.powerCut()
          await compare(stack.fs, run.model.root)
          await stack.fs.reclaim()
          await stack.consistencyPoint()
          await stack.consistencyPoint()
          expect(await stack.problems()).toEqual([])
        },
      ),
      { numRuns: Number(process.env.FS_RUNS ?? 8) },
    )
  },
)
