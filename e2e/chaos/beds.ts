/** One bed after the other, as cases need them, and what all of them counted. */
import type { FindingKind } from '../../src/nfs/load/worker.ts'
import { Bed } from './bed.ts'
import type { Case } from './cases.ts'

export class Beds {
  readonly tally: Record<FindingKind, number> = { lost: 0, duplicated: 0, stale: 0, error: 0 }
  operations = 0
  repeated = 0
  readonly #seed: number
  #bed: Bed | undefined
  #rounds = 0

  constructor(seed: number) {
    this.#seed = seed
  }

  /** For the next round of this case. */
  async of({ roundsOfDisks }: Case): Promise<Bed> {
    const withDisks = roundsOfDisks !== undefined
    const used = this.#bed
    const fits = used !== undefined && used.disks.size > 0 === withDisks
    if (fits && this.#rounds < (roundsOfDisks ?? Infinity)) {
      this.#rounds++
      return used
    }
    await this.end(false)
    this.#bed = await Bed.start(this.#seed, { withDisks })
    this.#rounds = 1
    return this.#bed
  }

  /** Throws what `tandem check` finds on the devices. */
  async end(keepState: boolean): Promise<void> {
    const bed = this.#bed
    if (bed === undefined) return
    this.#bed = undefined
    let wrong: string
    try {
      wrong = await bed.end(keepState)
    } finally {
      this.operations += bed.load.operations
      this.repeated += bed.load.repeated
      for (const kind of Object.keys(this.tally) as FindingKind[]) this.tally[kind] += bed.load.tally[kind]
    }
    if (keepState || wrong !== '') console.log(`state and logs: ${bed.pair.folder}`)
    if (wrong !== '') throw new Error(wrong)
  }
}
