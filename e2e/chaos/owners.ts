/**
 * Who owned a side, by what its clients saw: the check that there are never two acknowledging owners. Pure.
 */

/** An answer of a filer to a client that is connected to it alone, to a call that was first made at `startedMs`. */
export interface Answer {
  readonly filer: string
  readonly startedMs: number
  readonly answeredMs: number
}

/**
 * The least number of times that ownership must have moved, `first` owning at the beginning, so that each answer was given by an owner at
 * some moment between its call and itself. Two filers that answer at the same time need a move for almost every answer.
 */
export function movesNeeded(answers: readonly Answer[], first: string): number {
  let owner = first
  let sinceMs = -Infinity
  for (let moves = 0; ; moves++) {
    // A call from before `sinceMs` may have been answered by the owner of then.
    const foreign = answers.filter(({ filer, startedMs }) => filer !== owner && startedMs >= sinceMs)
    if (foreign.length === 0) return moves
    // The owner may have owned until the first of these answers, no longer.
    const next = foreign.reduce((a, b) => (b.answeredMs < a.answeredMs ? b : a))
    owner = next.filer
    sinceMs = next.answeredMs
  }
}
