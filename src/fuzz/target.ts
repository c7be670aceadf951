/**
 * What a fuzz target is, and the mutations that all share.
 *
 * A *case* is one seed of one target: it builds its world from nothing, tries a number of inputs and returns how many. So a seed repeats a
 * case whatever ran before it. It throws when something is wrong: any error but those that the target names as answers.
 */
import type { SimRandom } from '../sim/world.ts'

export interface Target {
  readonly name: string
  /** In one sentence. */
  readonly meaning: string
  run(random: SimRandom): Promise<number>
}

const INTERESTING = [
  0, 1, 2, 3, 7, 0x7f, 0x80, 0xff, 0x100, 0x1000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
]

/** Changes `bytes` in place between `from` and `to`, at one to four places: bits, bytes, words, runs. */
export function mutate(random: SimRandom, bytes: Uint8Array, from = 0, to = bytes.length): void {
  if (to <= from) return
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = from + random.below(to - from)
    switch (random.below(5)) {
      case 0:
        bytes[at]! ^= 1 << random.below(8)
        break
      case 1:
        bytes[at] = random.below(256)
        break
      case 2:
        for (let i = 0, word = random.pick(INTERESTING); i < 4 && at + i < to; i++)
          bytes[at + i] = word >>> (8 * i)
        break
      case 3: {
        const length = Math.min(1 + random.below(64), to - at)
        bytes.fill(random.chance(0.5) ? 0 : random.below(256), at, at + length)
        break
      }
      default: {
        const source = from + random.below(to - from)
        bytes.copyWithin(at, source, Math.min(to, source + 1 + random.below(32), source + to - at))
      }
    }
  }
}

/** A mutated copy that may be shorter or longer. */
export function mutated(random: SimRandom, bytes: Uint8Array): Uint8Array {
  let copy: Uint8Array = new Uint8Array(bytes)
  if (random.chance(0.2)) copy = copy.slice(0, random.below(copy.length + 1))
  if (random.chance(0.1)) {
    const longer = new Uint8Array(copy.length + 1 + random.below(40))
    longer.set(copy)
    for (let i = copy.length; i < longer.length; i++) longer[i] = random.below(256)
    copy = longer
  }
  mutate(random, copy)
  return copy
}
