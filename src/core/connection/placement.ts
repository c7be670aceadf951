/**
 * Which driver a channel runs on. An ordered channel is pinned to one driver, the least loaded; a striped one runs over
 * all. Demoted drivers carry channels only while there is nothing better.
 */

export interface Candidate {
  readonly name: string
  readonly usable: boolean
  readonly slow: boolean
  readonly heartbeats: Pulse
}

export interface Pulse {
  readonly roundTripMs: number
  /** Of it, what the load does not explain. */
  readonly unexplainedMs: number
  readonly measuredSlow: boolean
}

/** Drivers that may carry channels now, the demoted ones only if there are no others. */
export function fit<T extends Candidate>(links: readonly T[]): readonly T[] {
  const usable = links.filter((link) => link.usable)
  const quick = usable.filter((link) => !link.slow)
  return quick.length > 0 ? quick : usable
}

export function place<T extends Candidate>(
  policy: 'ordered' | 'striped',
  links: readonly T[],
  load: (link: T) => number,
): readonly T[] {
  const candidates = fit(links)
  if (policy === 'striped') return candidates
  let best: T | undefined
  for (const link of candidates) if (best === undefined || load(link) < load(best)) best = link
  return best === undefined ? [] : [best]
}

/** Would a channel that is idle be better off elsewhere? Loads must differ by two, else two channels would chase each other. */
export function misplaced<T extends Candidate>(
  policy: 'ordered' | 'striped',
  present: readonly T[],
  links: readonly T[],
  load: (link: T) => number,
): boolean {
  const candidates = fit(links)
  if (policy === 'striped') {
    return (
      candidates.some((link) => !present.includes(link)) || present.some((link) => !candidates.includes(link))
    )
  }
  const [own] = present
  if (own === undefined) return false
  if (!candidates.includes(own)) return candidates.length > 0
  return candidates.some((link) => load(own) - load(link) >= 2)
}

/**
 * The links whose answers take more than `factor` times as long as the quickest one's, and at least `floorMs`. One that is slow already
 * must do twice as well before it is trusted.
 */
export function grey<T extends Candidate>(
  links: readonly T[],
  factor: number,
  floorMs: number,
): ReadonlySet<T> {
  const measured = links.filter((link) => link.usable && link.heartbeats.roundTripMs > 0)
  const quickest = Math.min(...measured.map((link) => link.heartbeats.roundTripMs))
  const limitMs = Math.max(floorMs, factor * quickest)
  return new Set(
    measured.filter(({ heartbeats: { unexplainedMs, measuredSlow } }) =>
      measuredSlow ? unexplainedMs > limitMs / 2 : unexplainedMs > limitMs,
    ),
  )
}
