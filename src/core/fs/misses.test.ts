import { expect, test } from '@jest/globals'
import { Miss } from './block-store.ts'
import { LoadGate, Misses } from './misses.ts'
import { loaded } from './tree.ts'

/** A store of blocks that are there once they were loaded. */
class Blocks {
  readonly here = new Set<number>()
  underWay = 0
  highest = 0
  readonly ends: (() => void)[] = []

  get(bn: number): void {
    if (!this.here.has(bn)) throw new Miss(() => this.load(bn))
  }

  private load(bn: number): Promise<void> {
    this.underWay += 1
    this.highest = Math.max(this.highest, this.underWay)
    return new Promise((resolve) =>
      this.ends.push(() => {
        this.underWay -= 1
        this.here.add(bn)
        resolve()
      }),
    )
  }
}

test('operations that need many blocks load some at a time, and none waits for ever, not even behind one that needs nothing any more', async () => {
  const blocks = new Blocks()
  const gate = new LoadGate()
  let done = 0
  const read = async (first: number, count: number): Promise<void> => {
    await loaded(() => {
      const misses = new Misses()
      for (let bn = first; bn < first + count; bn++) misses.try(() => blocks.get(bn))
      misses.throw(gate)
    })
    done += 1
  }
  // Pairs want the same: when the first of two has what it wanted, the other has it too. One wants more than is ever loaded at once.
  const reads = Array.from({ length: 64 }, (_, n) => read(256 * Math.floor(n / 2), 256))
  reads.push(read(100_000, 5000), read(256, 256))
  while (done < reads.length) {
    expect(blocks.ends.length).toBeGreaterThan(0)
    for (const end of blocks.ends.splice(0)) end()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(reads)
  expect(blocks.underWay).toBe(0)
  expect(blocks.highest).toBeGreaterThanOrEqual(2048)
  expect(blocks.highest).toBeLessThanOrEqual(5000)
})
