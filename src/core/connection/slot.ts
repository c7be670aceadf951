/** One channel of one client, as the manager keeps it through all its generations; slots.ts has the rules. */
import type { ChannelClient, ChannelState, ChannelStatus, RegionDescriptor } from './client.ts'
import type { ChannelEnd, EndOwner } from './channel.ts'
import type { ChannelName, ChannelOffer, ClientEntry, ControlFrame } from './frames.ts'
import type { Link } from './link.ts'
import { addTraffic, noTraffic } from './traffic.ts'

export type FrameOf<K extends ControlFrame['kind']> = Extract<ControlFrame, { kind: K }>

export class Slot {
  readonly client: ChannelClient
  readonly index: number
  readonly owner: EndOwner
  state: ChannelState = 'REQUESTED'
  /** What the last generation ended of. */
  cause = ''
  /** The highest seen, at either end. */
  generation = 0
  end: ChannelEnd | undefined
  /** Work begun in regions by any generation and not over. */
  working = 0
  /** An open that waits for that work. */
  pending: { readonly link: Link; readonly frame: FrameOf<'open'> } | undefined
  retryLoopMs = 0
  moveLoopMs = 0
  closing: { farDone: boolean; deadlineLoopMs: number; done: (() => void)[] } | undefined
  /** Generations that ended in `error`. */
  failovers = 0
  /** Of generations that are over. */
  readonly #past = noTraffic()

  constructor(client: ChannelClient, index: number, owner: (slot: Slot) => EndOwner) {
    this.client = client
    this.index = index
    this.owner = owner(this)
  }

  nameOf(end: ChannelEnd): ChannelName {
    return { client: this.client.id, index: this.index, generation: end.generation }
  }

  offerOf(end: ChannelEnd): ChannelOffer {
    return { port: end.port, memoryBytes: this.client.memoryBytes, regions: this.regions }
  }

  get regions(): readonly RegionDescriptor[] {
    return this.client.regions.map(({ key, bytes }) => ({ key, bytes }))
  }

  status(): Omit<ChannelStatus, 'reason'> {
    const { end } = this
    const traffic = noTraffic()
    addTraffic(traffic, this.#past)
    if (end !== undefined) addTraffic(traffic, end.traffic)
    return {
      clientId: this.client.id,
      index: this.index,
      state: this.state,
      generation: this.generation,
      links: end?.links.map((link) => link.name) ?? [],
      failovers: this.failovers,
      ...traffic,
    }
  }

  /** The present end is over; the next generation is none the wiser. */
  forgetEnd(): void {
    if (this.end === undefined) return
    addTraffic(this.#past, this.end.traffic)
    this.end = undefined
  }
}

/** Undefined if both sides want this channel, else why not. */
export function unwanted(
  client: ChannelClient,
  index: number,
  far: ClientEntry | undefined,
): string | undefined {
  if (far === undefined) return 'the partner has not registered it'
  if (far.version !== client.version) return `version ${client.version} here, ${far.version} there`
  return index < far.ports ? undefined : 'the partner wants fewer channels'
}

export function sameRegions(a: readonly RegionDescriptor[], b: readonly RegionDescriptor[]): boolean {
  return (
    a.length === b.length && a.every((region, i) => region.key === b[i]?.key && region.bytes === b[i]?.bytes)
  )
}
