/** The vote with the faults of a real API server: slow, silent, answers lost, requests applied long after the caller gave up. */
import type { Vote, VoteRecord } from '../vote.ts'
import { VoteUnreachable } from '../vote.ts'
import type { SimProcess, World } from '../../../sim/world.ts'

const TIMEOUT_MS = 1000

export class SimVoteServer {
  readonly world: World
  record: VoteRecord | undefined
  version = 0
  /** Nobody gets an answer, nothing is applied. */
  silent = false
  /** The same for one filer only. */
  readonly silentFor = new Set<string>()
  /** Chance that an applied swap's answer is lost. */
  loseAnswer = 0
  /** Chance that a swap is applied late (up to `lateMs`), its caller having given up. */
  late = 0
  lateMs = 10_000
  readonly history: { at: number; record: VoteRecord }[] = []

  constructor(world: World) {
    this.world = world
  }

  #swap(version: string | undefined, record: VoteRecord): { applied: boolean; version: string } {
    const current = this.record === undefined ? undefined : String(this.version)
    if (version !== current) return { applied: false, version: '' }
    this.record = record
    this.version += 1
    this.history.push({ at: this.world.now, record })
    return { applied: true, version: String(this.version) }
  }

  /** Somebody deletes the record, restores it from a backup, or puts another pair's into its place. */
  lose(how: 'deleted' | 'older' | 'foreign'): void {
    if (!this.record) return
    this.version += 1
    if (how === 'deleted') this.record = undefined
    else if (how === 'foreign') this.record = { ...this.record, pairUid: 'another' }
    else this.record = this.world.random.pick(this.history).record
  }

  client(process: SimProcess): Vote {
    const { world } = this
    const call = <T>(task: (answer: (value: T) => void) => void): Promise<T> =>
      new Promise((resolve, reject) => {
        world.after(TIMEOUT_MS, () => process.post(() => reject(new VoteUnreachable('time-out'))))
        if (this.silent || this.silentFor.has(process.name)) return
        world.after(world.random.between(0.5, 3), () => {
          task((value) => world.after(world.random.between(0.5, 3), () => process.post(() => resolve(value))))
        })
      })
    return {
      read: () =>
        call((answer) => {
          if (this.silent) return
          answer(
            this.record === undefined ? undefined : { version: String(this.version), record: this.record },
          )
        }),
      swap: (version, record) =>
        call((answer) => {
          if (this.silent) return
          if (world.random.chance(this.late)) {
            world.after(world.random.between(0, this.lateMs), () => this.#swap(version, record))
            return
          }
          const result = this.#swap(version, record)
          if (world.random.chance(this.loseAnswer)) return
          answer(result.applied ? { applied: true, version: result.version } : { applied: false })
        }),
    }
  }
}
