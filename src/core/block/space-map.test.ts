/** The space map against a plain set of numbers: whatever is taken, released, planned, added or loaded anew. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { GROUP_BLOCKS, Layout } from './layout.ts'
import { MAP_LEAF_BITS, SpaceMap } from './space-map.ts'

const groupOf = (pvbn: number): number => Math.floor(pvbn / GROUP_BLOCKS)

/** What must be true of a space map, said in the plainest way. */
class Model {
  readonly layout: Layout
  readonly busy = new Set<number>()
  /** A group that allocation moves to has at least so many free blocks, unless none has. */
  private least = 64
  private place = 0

  constructor(sizes: readonly number[]) {
    this.layout = new Layout(sizes)
  }

  get free(): number {
    return this.layout.data - 1 - this.busy.size
  }

  /** Free blocks of each group. */
  private get counts(): number[] {
    const counts = Array.from({ length: this.layout.groups }, (_, group) => this.layout.groupSize(group))
    counts[0]! -= 1
    for (const pvbn of this.busy) counts[groupOf(pvbn)]! -= 1
    return counts
  }

  /** The emptiest groups that together have room. */
  plan(blocks: number): void {
    const counts = this.counts
    const room = (least: number): number =>
      counts.filter((free) => free >= least).reduce((sum, free) => sum + free, 0)
    this.least = 64
    while (this.least > 1 && room(this.least) < blocks) this.least -= 1
  }

  opened(): void {
    this.least = 64
    this.place = 0
  }

  /** Why a map must not have handed out this number; undefined if it may. */
  take(pvbn: number): string | undefined {
    if (!this.layout.exists(pvbn)) return `${pvbn} is no block`
    if (this.busy.has(pvbn)) return `${pvbn} was taken before`
    const group = groupOf(pvbn)
    const moved = group !== groupOf(this.place) || pvbn < this.place
    const left = this.firstFree(this.place + 1, moved ? (groupOf(this.place) + 1) * GROUP_BLOCKS : pvbn)
    if (left !== undefined) return `${pvbn} was taken, ${left} in front of it is free`
    if (moved) {
      const counts = this.counts
      this.least = Math.min(this.least, Math.max(...counts))
      if (counts[group]! < this.least) return `group ${group} was taken, emptier ones are there`
      const missed = this.firstFree(group * GROUP_BLOCKS, pvbn)
      if (missed !== undefined) return `${missed} of the group was left out`
    }
    this.busy.add(pvbn)
    this.place = pvbn
    return undefined
  }

  private firstFree(from: number, to: number): number | undefined {
    for (let n = from; n < to; n++) if (this.layout.exists(n) && !this.busy.has(n)) return n
    return undefined
  }

  /** As the active map of an image has it. */
  leaf(index: number): Uint8Array {
    const leaf = new Uint8Array(MAP_LEAF_BITS / 8)
    for (const pvbn of this.busy) {
      const bit = pvbn - index * MAP_LEAF_BITS
      if (bit >= 0 && bit < MAP_LEAF_BITS) leaf[bit >> 3]! |= 1 << (bit & 7)
    }
    return leaf
  }
}

const size = fc.integer({ min: 138, max: 1100 })
const step = fc.oneof(
  fc.record({ op: fc.constant('take' as const), count: fc.integer({ min: 1, max: 900 }) }),
  fc.record({
    op: fc.constant('release' as const),
    /** Every so manieth busy block, from one of them on. */
    stride: fc.integer({ min: 1, max: 9 }),
    from: fc.nat(2000),
  }),
  fc.record({ op: fc.constant('plan' as const), blocks: fc.nat(3000) }),
  fc.record({ op: fc.constant('grow' as const), size }),
  fc.record({ op: fc.constant('reopen' as const) }),
)

test('is a set of numbers: each block is handed out once until it is released, forward and emptiest groups first, over growth and reopening', () => {
  fc.assert(
    fc.property(
      fc.array(size, { minLength: 1, maxLength: 4 }),
      fc.array(step, { maxLength: 40 }),
      (sizes, steps) => {
        const model = new Model(sizes)
        let space = new SpaceMap(model.layout)
        for (const one of steps) {
          switch (one.op) {
            case 'take':
              for (let n = Math.min(one.count, space.free); n > 0; n--) {
                const wrong = model.take(space.take())
                if (wrong !== undefined) throw new Error(wrong)
              }
              break
            case 'release':
              for (const pvbn of [...model.busy].filter((_, n) => n >= one.from && n % one.stride === 0)) {
                space.release(pvbn)
                model.busy.delete(pvbn)
              }
              break
            case 'plan':
              space.plan(one.blocks)
              model.plan(one.blocks)
              break
            case 'grow':
              if (model.layout.devices.length === 8) break
              model.layout.append(model.layout.behind([one.size]))
              expect(space.free).toBe(model.free - model.layout.devices.at(-1)!.data)
              space.grow()
              model.plan(0)
              break
            case 'reopen':
              space = new SpaceMap(model.layout)
              for (let index = 0; index * MAP_LEAF_BITS < model.layout.end; index++)
                space.load(index, model.leaf(index))
              space.reckon()
              model.opened()
          }
          expect(space.free).toBe(model.free)
        }
        const wrong: string[] = []
        for (let group = 0; group < model.layout.groups; group++) {
          const first = group * GROUP_BLOCKS
          const busy = [...model.busy].filter((pvbn) => groupOf(pvbn) === group).length
          if (space.busyIn(group) !== busy) wrong.push(`group ${group}: ${space.busyIn(group)}, not ${busy}`)
          for (let pvbn = Math.max(first, 1); pvbn < first + model.layout.groupSize(group); pvbn++)
            if (space.isBusy(pvbn) !== model.busy.has(pvbn)) wrong.push(`block ${pvbn}`)
        }
        expect(wrong).toEqual([])
      },
    ),
    { numRuns: 60 },
  )
})
