/** The takeovers of the last hour: a pair that moves again and again between two living filers does more harm than one that waits. */
const HOUR_MS = 3_600_000

interface Takeover {
  readonly at: number
  /** Of the old owner, as far as known. */
  readonly incarnation: number | undefined
  lives: boolean
}

export class Takeovers {
  #list: Takeover[] = []

  /** This filer took the side by itself; the old owner's incarnation was this. */
  took(at: number, incarnation: number | undefined): void {
    this.#list.push({ at, incarnation, lives: false })
  }
  /** The other filer is heard of: whoever is still in the incarnation that was taken from lived all the time. */
  heard(incarnation: number): void {
    for (const one of this.#list) if (one.incarnation === incarnation) one.lives = true
  }
  /** Within the hour. */
  count(now: number): number {
    this.#list = this.#list.filter(({ at }) => now - at < HOUR_MS)
    return this.#list.length
  }
  /** Within the hour, from an owner that lived. */
  fromLiving(now: number): number {
    this.count(now)
    return this.#list.filter(({ lives }) => lives).length
  }
}
