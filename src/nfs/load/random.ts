/** A small seeded generator (xorshift32): the same seed gives the same load, and the same plan of faults. Not for secrets. */
export class Random {
  #state: number

  constructor(seed: number) {
    // Neighbouring seeds must not give neighbouring sequences.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0 || 1
    for (let i = 0; i < 8; i++) this.next()
  }

  /** 0 ≤ x < 2³² */
  next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return (this.#state = x >>> 0)
  }

  /** 0 ≤ x < limit */
  below(limit: number): number {
    return this.next() % limit
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }
}
