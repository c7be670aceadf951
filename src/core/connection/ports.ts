/**
 * Where data frames go: a port is a number that this filer chose for one end, that is for one generation of one channel. What
 * carries another generation than the port's, or a port that is gone, is late and finds nobody.
 */
import type { ChannelEnd } from './channel.ts'
import type { Link } from './link.ts'
import type { BrokenConnection } from './options.ts'

export class Ports {
  readonly #ends = new Map<number, ChannelEnd>()
  readonly #broken: BrokenConnection
  #next = 1
  /** Frames that found nobody. */
  late = 0

  constructor(broken: BrokenConnection) {
    this.#broken = broken
  }

  get size(): number {
    return this.#ends.size
  }

  /** A number that no end had before. */
  choose(): number {
    if (this.#broken.noGenerationCheck === true) {
      let port = 1
      while (this.#ends.has(port)) port++
      return port
    }
    return this.#next++
  }

  add(end: ChannelEnd): void {
    this.#ends.set(end.port, end)
  }

  remove(end: ChannelEnd): void {
    this.#ends.delete(end.port)
  }

  find(port: number, generation: number): ChannelEnd | undefined {
    const end = this.#ends.get(port)
    if (end?.generation === generation || this.#broken.noGenerationCheck === true) return end
    this.late++
    return undefined
  }

  /** Channels that run over `link`. */
  load(link: Link): number {
    let load = 0
    for (const end of this.#ends.values()) if (end.links.includes(link)) load++
    return load
  }
}
