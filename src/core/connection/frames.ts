/**
 * What two connection managers say to each other on one stream, as plain values. The drivers encode them
 * (src/proto/interconnect.proto, docs/SPEC-wire.md); the simulator hands them over as they are.
 *
 * Requests travel on the stream that the requester dialled, replies come back on the same stream. A channel's traffic is
 * addressed by `port`, a number that the receiving end chose for exactly one generation, and carries the generation as
 * well: whatever is left of an older one finds no port and is dropped.
 */
import type { ChannelErrorCode, Fence, RegionDescriptor } from './client.ts'

export interface PeerAddress {
  readonly link: string
  readonly address: string
}

export interface ClientEntry {
  readonly id: string
  readonly version: number
  readonly ports: number
  readonly memoryBytes: number
  readonly policy: 'ordered' | 'striped'
}

/** Names one channel in one generation: in control frames, where no port is agreed yet. */
export interface ChannelName {
  readonly client: string
  readonly index: number
  readonly generation: number
}

/** BOOT: reachable, nothing proven. LIVE: the writer has completed its liveness proof against the reader's page. */
export type PageState = 'BOOT' | 'LIVE'

export interface StatusPage {
  readonly link: string
  readonly systemId: string
  readonly version: number
  readonly incarnation: number
  /** Names one attempt of one driver; a page that shows another one has started over. */
  readonly session: number
  /** What the reader last wrote here. */
  readonly echoIncarnation: number
  readonly echoSession: number
}

export type ControlFrame =
  | { readonly kind: 'status-read'; readonly id: number; readonly link: string; readonly systemId: string }
  | ({ readonly kind: 'status-page'; readonly id: number } & StatusPage)
  | {
      readonly kind: 'status-write'
      readonly id: number
      readonly incarnation: number
      readonly session: number
      readonly state: PageState
      /** LIVE only: whom the proof was about. */
      readonly peerIncarnation: number
      readonly peerSession: number
    }
  | { readonly kind: 'status-written'; readonly id: number; readonly accepted: boolean }
  | {
      readonly kind: 'hello'
      readonly systemId: string
      readonly version: number
      readonly incarnation: number
      readonly logBytes: number
      readonly addresses: readonly PeerAddress[]
    }
  | { readonly kind: 'link-ready' }
  | { readonly kind: 'heartbeat'; readonly seq: number; readonly incarnation: number; readonly slow: boolean }
  | { readonly kind: 'heartbeat-reply'; readonly seq: number; readonly incarnation: number }
  /** The whole list; a lower `revision` is older. */
  | { readonly kind: 'clients'; readonly revision: number; readonly clients: readonly ClientEntry[] }
  | ({ readonly kind: 'open' } & ChannelName & ChannelOffer & { readonly links: readonly string[] })
  | ({ readonly kind: 'opened' } & ChannelName & ChannelOffer)
  /** `generation` is the highest that the refusing end has seen. */
  | ({ readonly kind: 'refused' } & ChannelName & { readonly reason: string })
  /** `regions`: those of the receiver, as the sender holds them. */
  | ({ readonly kind: 'ready' } & ChannelName & { readonly regions: readonly RegionDescriptor[] })
  /** The generation is dead at the sender's end. `generation` may be one that the receiver has not heard of. */
  | ({ readonly kind: 'failed' } & ChannelName & { readonly cause: string })
  | ({ readonly kind: 'close' } & ChannelName)
  | ({ readonly kind: 'closed' } & ChannelName)
  /** May the channel move to another driver now? Answered yes only by an idle end, for which the generation then is over. */
  | ({ readonly kind: 'move' } & ChannelName)
  | ({ readonly kind: 'moved' } & ChannelName & { readonly agreed: boolean })

/** What one end of a channel offers to the other. */
export interface ChannelOffer {
  readonly port: number
  readonly memoryBytes: number
  readonly regions: readonly RegionDescriptor[]
}

/** Where a data frame belongs: the receiver's port, the generation, and the place in this driver's order. */
export interface Place {
  readonly port: number
  readonly generation: number
  readonly seq: number
}

export type DataFrame =
  /** A write of `bytes` in all, in as many frames as it takes; `more` on all but the last. */
  | ({
      readonly kind: 'write'
      readonly region: number
      readonly offset: number
      readonly bytes: number
      readonly fence: Fence
      readonly more: boolean
      readonly payload: readonly Uint8Array[]
      /** Of a received frame: the payload is not needed any more. */
      readonly placed?: () => void
    } & Place)
  | ({
      readonly kind: 'read'
      readonly region: number
      readonly offset: number
      readonly bytes: number
      readonly fence: Fence
    } & Place)
  | ({ readonly kind: 'flush'; readonly region: number; readonly fence: Fence } & Place)
  | ({
      readonly kind: 'message'
      readonly bytes: number
      readonly more: boolean
      readonly payload: readonly Uint8Array[]
    } & Place)

export type ReplyFrame =
  /** `code` undefined: done. `seq` is that of the request. */
  | ({
      readonly kind: 'done'
      readonly code: ChannelErrorCode | undefined
      readonly message: string
      readonly fence: Fence | undefined
    } & Place)
  /** What a read found, `more` on all frames but the last. */
  | ({ readonly kind: 'data'; readonly more: boolean; readonly payload: readonly Uint8Array[] } & Place)

export type Frame = ControlFrame | DataFrame | ReplyFrame

/** Rough size on the wire, for budgets and counters. */
export function frameBytes(frame: Frame): number {
  let bytes = 32
  if ('payload' in frame) for (const chunk of frame.payload) bytes += chunk.byteLength
  return bytes
}
