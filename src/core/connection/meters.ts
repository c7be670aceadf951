/** The metrics of one manager: what its drivers and channels say of themselves, told at intervals. Counters grow by the difference. */
import type { ChannelState, ChannelStatus, LinkStatus } from './client.ts'
import type { LinkState } from './link.ts'
import type { Metrics } from '../env/env.ts'

/** Of a driver; Slow is a READY one that was demoted. */
export const LINK_STATES = ['Down', 'Linked', 'Up', 'Slow', 'Failed'] as const
/** Of a channel, and Closed, which is none. */
export const CHANNEL_STATES = [
  'Closed',
  'Requested',
  'Opening',
  'Open',
  'Ready',
  'Recovering',
  'Closing',
] as const

const LINK_COUNTERS = [
  ['tandem_interconnect_sessions_total', 'sessions'],
  ['tandem_interconnect_failures_total', 'failures'],
  ['tandem_interconnect_sent_bytes_total', 'bytesSent'],
  ['tandem_interconnect_received_bytes_total', 'bytesReceived'],
  ['tandem_interconnect_sent_frames_total', 'framesSent'],
  ['tandem_interconnect_received_frames_total', 'framesReceived'],
] as const
const CHANNEL_COUNTERS = [
  ['tandem_channel_failovers_total', 'failovers'],
  ['tandem_channel_sent_bytes_total', 'bytesSent'],
  ['tandem_channel_received_bytes_total', 'bytesReceived'],
  ['tandem_channel_sent_frames_total', 'framesSent'],
  ['tandem_channel_received_frames_total', 'framesReceived'],
] as const

type Labels = Readonly<Record<string, string>>

export class Meters {
  readonly #metrics: Metrics
  readonly #peer: string
  #told = new Map<string, number>()
  #channels = new Map<string, Labels>()

  constructor(metrics: Metrics, peer: string) {
    this.#metrics = metrics
    this.#peer = peer
  }

  links(links: readonly { readonly state: LinkState; status(): LinkStatus }[]): void {
    for (const link of links) {
      const status = link.status()
      const labels = { peer: this.#peer, link: status.name }
      const up = status.state !== 'Down'
      const words = { DOWN: 'Down', LINKED: 'Linked', READY: status.state, FAILED: 'Failed' } as const
      this.#state('tandem_interconnect_state', labels, words[link.state], LINK_STATES)
      this.#metrics.set('tandem_interconnect_up', up ? 1 : 0, labels)
      if (up) {
        const seconds = status.roundTripMicroseconds / 1_000_000
        this.#metrics.set('tandem_interconnect_round_trip_seconds', seconds, labels)
      }
      for (const [name, field] of LINK_COUNTERS) this.#count(name, labels, status[field])
    }
  }

  channels(channels: readonly ChannelStatus[]): void {
    const gone = new Map(this.#channels)
    for (const channel of channels) {
      const labels = { peer: this.#peer, client: channel.clientId, index: String(channel.index) }
      const key = `${labels.client} ${labels.index}`
      gone.delete(key)
      this.#channels.set(key, labels)
      this.#channelState(labels, wordOf(channel.state))
      this.#metrics.set('tandem_channel_generation', channel.generation, labels)
      for (const [name, field] of CHANNEL_COUNTERS) this.#count(name, labels, channel[field])
    }
    for (const [key, labels] of gone) {
      this.#channels.delete(key)
      this.#channelState(labels, 'Closed')
      // A client of that name that registers again counts from zero.
      for (const [name] of CHANNEL_COUNTERS) this.#told.delete(keyOf(name, labels))
    }
  }

  #channelState(labels: Labels, present: (typeof CHANNEL_STATES)[number]): void {
    this.#state('tandem_channel_state', labels, present, CHANNEL_STATES)
    this.#metrics.set('tandem_channel_ready', present === 'Ready' ? 1 : 0, labels)
  }

  #state(name: string, labels: Labels, present: string, states: readonly string[]): void {
    for (const state of states) this.#metrics.set(name, state === present ? 1 : 0, { ...labels, state })
  }

  #count(name: string, labels: Labels, total: number): void {
    const key = keyOf(name, labels)
    const before = this.#told.get(key) ?? 0
    if (total === before) return
    this.#metrics.add(name, total - before, labels)
    this.#told.set(key, total)
  }
}

function wordOf(state: ChannelState): (typeof CHANNEL_STATES)[number] {
  const word = state.charAt(0) + state.slice(1).toLowerCase()
  return word as (typeof CHANNEL_STATES)[number]
}

function keyOf(name: string, labels: Labels): string {
  return `${name} ${JSON.stringify(labels)}`
}
