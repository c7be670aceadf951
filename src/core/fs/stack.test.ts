/**
 * The file layer over the real block layer, on simulated media: operations go on while consistency points are written; after a
 * power cut the newest image and the records behind it give back every acknowledged change, and both checkers find nothing (A1, A6).
 */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { BLOCK_BYTES } from '../env/device.ts'
import { DUAL, SINGLE } from './block-store.ts'
import { commandArbitrary, compare, Run } from './testing/commands.ts'
import { good, ROOT } from './testing/harness.ts'
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

/** Sizes in blocks where a tree of either format fills an inode, an indirect block, or a level; and one block beside. */
const BORDERS = [SINGLE, DUAL]
  .flatMap(({ inInode, fanout }) => [inInode, fanout, inInode * fanout])
  .flatMap((blocks) => [blocks - 1, blocks, blocks + 1])
const block = (stamp: number): Uint8Array => {
  const bytes = new Uint8Array(BLOCK_BYTES).fill(stamp % 251)
  new DataView(bytes.buffer).setUint32(0, stamp)
  return bytes
}

describe.each(['Flexible', 'Traditional'] as const)('a file at the borders of its tree, %s', (type) => {
  const format = type === 'Flexible' ? DUAL : SINGLE

  test.each([0, 1, ...BORDERS.filter((blocks) => blocks <= 700)])(
    'of %i blocks has the blocks that its pointers ask for, and gives them back',
    async (blocks) => {
      const stack = new Stack(blocks, type)
      await stack.make()
      const root = await stack.fs.rootHandle()
      const { object } = await good(
        stack.fs.create(ROOT, root, 'file', { mode: 'GUARDED', attributes: { mode: 0o644 } }),
      )
      const before = stack.aggregate.volume('v')!.used
      for (let n = 0; n < blocks; n++) {
        await good(stack.fs.write(ROOT, object.handle, n * BLOCK_BYTES, block(n), 'FILE_SYNC'))
        if (n % 400 === 399) await stack.consistencyPoint()
      }
      await stack.reopen()
      const indirect = blocks <= format.inInode ? 0 : Math.ceil(blocks / format.fanout)
      const { attributes } = await good(stack.fs.getattr(object.handle))
      expect(attributes).toMatchObject({
        size: blocks * BLOCK_BYTES,
        used: (blocks + indirect) * BLOCK_BYTES,
      })
      expect(stack.aggregate.volume('v')!.used - before).toBe(blocks + indirect)
      for (let n = 0; n < blocks; n += 1) {
        const read = await good(
          stack.fs.read(ROOT, object.handle, n * BLOCK_BYTES, BLOCK_BYTES, (bytes) => new Uint8Array(bytes)),
        )
        expect(Buffer.from(read.data).equals(block(n))).toBe(true)
      }
      await good(stack.fs.setattr(ROOT, object.handle, { size: 0 }))
      await stack.fs.reclaim()
      await stack.reopen()
      expect(stack.aggregate.volume('v')!.used).toBe(before)
      expect(await stack.problems()).toEqual([])
    },
  )

  test('that is sparse grows and shrinks over every border, and holds what was written', async () => {
    const stack = new Stack(5, type)
    await stack.make()
    const root = await stack.fs.rootHandle()
    const { object } = await good(
      stack.fs.create(ROOT, root, 'file', { mode: 'GUARDED', attributes: { mode: 0o644 } }),
    )
    const { handle } = object
    const written = [0, ...BORDERS].sort((a, b) => a - b)
    for (const n of written) {
      await good(stack.fs.write(ROOT, handle, n * BLOCK_BYTES, block(n), 'FILE_SYNC'))
      if (n % 2 === 0) await stack.powerCut()
      else await stack.consistencyPoint()
    }
    const read = async (n: number): Promise<Buffer> =>
      Buffer.from(
        (
          await good(
            stack.fs.read(ROOT, handle, n * BLOCK_BYTES, BLOCK_BYTES, (bytes) => new Uint8Array(bytes)),
          )
        ).data,
      )
    for (const size of [...written].reverse()) {
      for (const n of written) {
        if (n > size) expect((await read(n)).length).toBe(0)
        else expect((await read(n)).equals(block(n))).toBe(true)
        if (n < size && !written.includes(n + 1))
          expect((await read(n + 1)).every((byte) => byte === 0)).toBe(true)
      }
      await good(stack.fs.setattr(ROOT, handle, { size: size * BLOCK_BYTES }))
      if (size % 3 === 0) await stack.powerCut()
    }
    await stack.fs.reclaim()
    await stack.reopen()
    const { attributes } = await good(stack.fs.getattr(handle))
    expect(attributes).toMatchObject({ size: 0, used: 0 })
    expect(await stack.problems()).toEqual([])
  })
})
