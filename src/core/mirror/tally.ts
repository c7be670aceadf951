/** How far the records of a mirrored volume go: the last one in the log of its side, and the bytes of all since the mirror began. Kept in its properties at every freeze. */
export interface Extent {
  readonly last: number
  readonly bytes: number
}

export class Tally implements Extent {
  last: number
  bytes: number

  constructor({ last, bytes }: Extent) {
    this.last = last
    this.bytes = bytes
  }

  /** False for a record that is counted already: replay shows those of the image, too. */
  add(seq: number, bytes: number): boolean {
    if (seq <= this.last) return false
    this.last = seq
    this.bytes += bytes
    return true
  }
}
