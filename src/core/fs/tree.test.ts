import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { BLOCK_BYTES } from '../env/device.ts'
import { DUAL, SINGLE } from './block-store.ts'
import type { PointerFormat } from './block-store.ts'
import { MemoryStore } from './testing/memory-store.ts'
import { decodeTreeRoot, encodeTreeRoot, loaded, newTreeRoot, Tree, TREE_ROOT_BYTES } from './tree.ts'

/** Blocks at the borders of levels of both formats, and near them. */
const borders = [
  0,
  1,
  9,
  10,
  19,
  20,
  340,
  341,
  681,
  682,
  3409,
  3410,
  13639,
  13640,
  10 * 341 ** 2,
  20 * 682 ** 2,
  2 ** 32 - 1,
]
const fbnArbitrary = fc
  .tuple(fc.constantFrom(...borders), fc.integer({ min: -2, max: 12 }))
  .map(([border, offset]) => Math.max(0, border + offset))

type Step =
  | { do: 'put' | 'overwrite' | 'punch'; fbn: number; value: number }
  | { do: 'truncate'; fbn: number; limit: number }
  | { do: 'freeze' | 'forget' }

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('put' as const, 'overwrite' as const),
      fbn: fbnArbitrary,
      value: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('punch' as const), fbn: fbnArbitrary, value: fc.constant(0) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('truncate' as const),
      fbn: fbnArbitrary,
      limit: fc.constantFrom(16, 20, Infinity),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('freeze' as const, 'forget' as const) }) },
)

async function apply(step: Step, store: MemoryStore, tree: Tree, model: Map<number, number>): Promise<void> {
  switch (step.do) {
    case 'put': {
      const room = await loaded(() => tree.prepare(step.fbn))
      expect(store.canAllocate(room)).toBe(true)
      const block = tree.put(step.fbn)
      expect(block[0]).toBe(model.get(step.fbn) ?? 0)
      block.fill(step.value)
      model.set(step.fbn, step.value)
      return
    }
    case 'overwrite': {
      expect(store.canAllocate(await loaded(() => tree.prepare(step.fbn, true)))).toBe(true)
      if (step.value % 2 === 0) tree.overwrite(step.fbn).fill(step.value)
      else tree.put(step.fbn, new Uint8Array(BLOCK_BYTES).fill(step.value))
      model.set(step.fbn, step.value)
      return
    }
    case 'punch':
      expect(store.canAllocate(await loaded(() => tree.prepare(step.fbn, true)))).toBe(true)
      expect(tree.punch(step.fbn)).toBe(model.delete(step.fbn))
      return
    case 'truncate':
      for (;;) {
        expect(store.canAllocate(await loaded(() => tree.prepareTruncate(step.fbn, step.limit)))).toBe(true)
        const before = tree.blocks
        const done = tree.truncate(step.fbn, step.limit)
        expect(before - tree.blocks).toBeLessThanOrEqual(step.limit)
        if (done) break
      }
      for (const fbn of [...model.keys()]) if (fbn >= step.fbn) model.delete(fbn)
      return
    case 'freeze':
      store.freeze()
      return
    case 'forget':
      store.forget((bn) => bn % 3 !== 0)
  }
}

async function compare(store: MemoryStore, tree: Tree, model: Map<number, number>): Promise<void> {
  const leaves = new Map<number, number>()
  const seen = new Set<number>()
  await tree.walk(({ level, fbn, bn }) => {
    expect(seen.has(bn)).toBe(false)
    seen.add(bn)
    if (level === 0) leaves.set(fbn, bn)
  })
  expect([...leaves.keys()]).toEqual([...model.keys()].sort((a, b) => a - b))
  for (const [fbn, value] of model) {
    const block = (await loaded(() => tree.get(fbn)))!
    expect(block[0]).toBe(value)
    expect(block[BLOCK_BYTES - 1]).toBe(value)
    expect((await loaded(() => tree.lookup(fbn)))!.bn).toBe(leaves.get(fbn))
  }
  // Nothing is lost and nothing is left behind.
  expect(seen).toEqual(store.numbers())
  expect(tree.blocks).toBe(seen.size)
  if (model.size === 0) expect(tree.level).toBe(0)
  for (const fbn of borders) {
    const next = [...leaves.keys()].find((leaf) => leaf >= fbn)
    expect(await loaded(() => tree.next(fbn))).toBe(next)
  }
}

describe.each([SINGLE, DUAL])('a tree of $name pointers', (format: PointerFormat) => {
  test('equals a plain map through puts, punches, truncates, growth, misses and freezes; no frozen block changes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 60 }), async (steps) => {
        const store = new MemoryStore(format)
        store.strict = true
        const tree = new Tree(store, newTreeRoot(format), 'data')
        const model = new Map<number, number>()
        for (const step of steps) {
          store.endOperation()
          await apply(step, store, tree, model)
        }
        store.verifyAll()
        await compare(store, tree, model)
      }),
      { numRuns: 120 },
    )
  })

  test('an image at a freeze keeps its content, whatever happens afterwards', async () => {
    const store = new MemoryStore(format)
    const root = newTreeRoot(format)
    const tree = new Tree(store, root, 'data')
    for (let fbn = 0; fbn < 2000; fbn++) tree.put(fbn).fill(fbn % 251)
    store.freeze()
    const image = new Tree(store.image(), root.slice(), 'data')
    tree.prepareTruncate(5)
    expect(tree.truncate(5)).toBe(true)
    for (let fbn = 0; fbn < 5; fbn++) tree.put(fbn).fill(255)
    for (let fbn = 0; fbn < 2000; fbn++) expect(image.get(fbn)![7]).toBe(fbn % 251)
  })

  test('a full overwrite and a free never read the old leaf', () => {
    const store = new MemoryStore(format)
    const tree = new Tree(store, newTreeRoot(format), 'data')
    for (let fbn = 0; fbn < 40; fbn++) tree.put(fbn)
    store.freeze()
    for (let fbn = 0; fbn < 40; fbn++) store.damaged.add(tree.lookup(fbn)!.bn)
    tree.prepare(3, true)
    tree.overwrite(3).fill(1)
    tree.prepare(4, true)
    tree.punch(4)
    tree.prepareTruncate(5)
    tree.truncate(5)
    expect(tree.next(4)).toBeUndefined()
  })

  test('a root survives encoding', () => {
    const store = new MemoryStore(format)
    const root = newTreeRoot(format)
    const tree = new Tree(store, root, 'data')
    for (const fbn of [0, 5, 100000]) tree.put(fbn)
    const copy = new Uint8Array(TREE_ROOT_BYTES + 3)
    encodeTreeRoot(format, decodeTreeRoot(format, root), copy, 3)
    expect(copy.subarray(3)).toEqual(root)
  })
})
