import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { NumberMap } from './number-map.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

/** Leaves of an active map in which these numbers are marked. */
function leavesOf(numbers: Iterable<number>): Map<number, Uint8Array> {
  const leaves = new Map<number, Uint8Array>()
  for (const number of numbers) {
    const index = Math.floor(number / MAP_LEAF_BITS)
    let leaf = leaves.get(index)
    if (leaf === undefined) leaves.set(index, (leaf = new Uint8Array(MAP_LEAF_BITS / 8)))
    leaf[(number % MAP_LEAF_BITS) >> 3]! |= 1 << (number & 7)
  }
  return leaves
}

describe('numbers of a volume', () => {
  test('the last taken number of a loaded leaf stays taken when the others are released', () => {
    for (const base of [0, MAP_LEAF_BITS]) {
      const taken = [base + 3, base + 700, base + 701]
      const map = new NumberMap(1 << 16, 2 * MAP_LEAF_BITS + 5)
      for (const [index, leaf] of leavesOf(taken)) map.load(index, leaf)
      map.release(taken[0]!)
      map.release(taken[2]!)
      expect(map.isTaken(taken[1]!)).toBe(true)
      map.release(taken[1]!)
      expect(map.isTaken(taken[1]!)).toBe(false)
    }
  })

  test('as a set: taken until released, never handed out twice, over restarts', () => {
    const operation = fc.oneof(
      fc.record({ op: fc.constant('take' as const), count: fc.integer({ min: 1, max: 1500 }) }),
      fc.record({ op: fc.constant('release' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ op: fc.constant('restart' as const) }),
      fc.record({ op: fc.constant('jump' as const), to: fc.integer({ min: 1, max: 2 ** 17 - 1 }) }),
    )
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
        let map = new NumberMap(1, 1)
        const taken: number[] = []
        const model = new Set<number>()
        for (const step of operations) {
          if (step.op === 'take') {
            for (let i = 0; i < step.count; i++) {
              const number = map.take()
              if (number === 0 || model.has(number)) throw new Error(`${number} was handed out twice`)
              model.add(number)
              taken.push(number)
            }
          } else if (step.op === 'release') {
            const keep = Math.floor(taken.length * step.share)
            while (taken.length > keep) {
              const number = taken.shift()!
              model.delete(number)
              map.release(number)
            }
          } else if (step.op === 'jump') map.cursor = step.to
          else {
            const { cursor } = map
            map = new NumberMap(1, cursor)
            for (const [index, leaf] of leavesOf(model)) map.load(index, leaf)
          }
          const lost = taken.find((number) => !map.isTaken(number))
          expect(lost).toBeUndefined()
        }
      }),
      { numRuns: 40 },
    )
  })
})
