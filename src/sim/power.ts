/**
 * When the power of filers fails: after so many more writes of one filer, for runs that chance chooses; or at one given moment of a stretch, so that a series of
 * runs can visit each of them. A moment is a write to any device of the counted filer that was made and not flushed, or a flush that has ended.
 */
import type { FilerName } from './names.ts'

interface Stretch {
  readonly counted: FilerName
  readonly dying: readonly FilerName[]
  /** Moments to go; 0: it has come. */
  left: number
}

export class Power {
  readonly #fails: (names: readonly FilerName[]) => void
  readonly #writesLeft: Record<FilerName, number> = { a: Infinity, b: Infinity }
  #stretch: Stretch | undefined
  /** What was done at the moment of the stretch, once it has come. */
  struck: string | undefined

  constructor(fails: (names: readonly FilerName[]) => void) {
    this.#fails = fails
  }

  failsAfter(writes: number, name: FilerName): void {
    this.#writesLeft[name] = writes
  }

  /** No failure is to come for this filer, but that of a stretch. */
  lasts(name: FilerName): void {
    this.#writesLeft[name] = Infinity
  }

  /** From here on moments of `counted` are counted; at the one with this number the power of `dying` fails. */
  begin(counted: FilerName, dying: readonly FilerName[], moment: number): void {
    this.#stretch = { counted, dying, left: moment }
  }

  end(): void {
    this.#stretch = undefined
  }

  writes(name: FilerName, medium: string, block: number): void {
    this.#writesLeft[name] -= 1
    if (this.#writesLeft[name] === 0) this.#fails([name])
    this.#moment(name, `write of ${placeOf(medium, block)}`)
  }

  flushes(name: FilerName, medium: string): void {
    this.#moment(name, `flush of ${placeOf(medium)}`)
  }

  #moment(name: FilerName, what: string): void {
    const stretch = this.#stretch
    if (stretch?.counted !== name || stretch.left === 0) return
    stretch.left -= 1
    if (stretch.left > 0) return
    this.struck = what
    this.#fails(stretch.dying)
  }
}

/** For counting: the kind of the medium, and of the block if it is one of the few that are kinds of their own. */
function placeOf(medium: string, block = -1): string {
  const [, name = ''] = medium.split('/')
  if (name === 'mailbox' || name.startsWith('log-')) return name
  const plex = name.replace(/-main-\d+$/, '')
  if (block === 1 || block === 2) return `${plex} (root)`
  return block === 0 ? `${plex} (label)` : plex
}
