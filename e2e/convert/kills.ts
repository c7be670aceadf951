/** kill -9 of filers at random moments of a conversion. The plan follows from the seed; the moments are those of a real machine. */
import { Random } from '../../src/nfs/load/random.ts'
import { sleep, until } from '../lib/process.ts'
import type { ConvertBed } from './bed.ts'

const REDUNDANT_WITHIN_MS = 300_000

export class Killer {
  readonly #bed: ConvertBed
  readonly #random: Random
  kills = 0
  longestPauseMs = 0

  constructor(bed: ConvertBed, seed: number) {
    this.#bed = bed
    this.#random = new Random(seed)
  }

  /** After a random time: one filer or both are killed, and start again at once. Resolves when clients are served. */
  async strike(withinMs: number): Promise<void> {
    const { pair } = this.#bed
    const victims = this.#random.pick([['b'], ['b'], ['a'], ['a', 'b']])
    await sleep(this.#random.below(withinMs))
    this.#bed.load.resetPause()
    for (const victim of victims) pair.kill(victim)
    this.kills += 1
    await this.#bed.served()
    this.longestPauseMs = Math.max(this.longestPauseMs, this.#bed.load.longestPauseMs)
    // The next kill may hit a filer that is alone, or is being filled.
    if (this.#random.below(3) > 0) await pair.redundant(REDUNDANT_WITHIN_MS)
  }

  /** Both are killed and held, and what they leave is looked at as it is, without a log. */
  async strikeAndCheck(): Promise<void> {
    const { pair } = this.#bed
    for (const filer of ['a', 'b']) {
      const held = await pair.tandem('hold', `east/${filer}`)
      if (held.status !== 0) throw new Error(`tandem hold: ${held.stderr}`)
    }
    for (const filer of ['a', 'b']) pair.kill(filer)
    this.kills += 1
    await until('both filers are gone', 5000, () => pair.filers().size === 0, 10)
    await pair.check()
    for (const filer of ['a', 'b']) {
      const released = await pair.tandem('release', `east/${filer}`)
      if (released.status !== 0) throw new Error(`tandem release: ${released.stderr}`)
    }
    await this.#bed.served()
  }
}
