/**
 * What a client of the connection manager sees: channels, messages, registered regions. The manager (manager.ts) alone
 * opens, maintains and closes channels; data goes from client to driver (US 7,716,323; US 7,593,996).
 */
import type { Traffic } from './traffic.ts'

/** Guards a region: older frames are refused before they are placed. Compared by epoch, then incarnation. */
export interface Fence {
  readonly epoch: number
  readonly incarnation: number
}

export type ChannelErrorCode =
  /** The operation may or may not have taken effect at the far end. */
  | 'UNKNOWN_OUTCOME'
  /** Refused at the far end: its fence is higher (`fence` tells which). Certainly not placed. */
  | 'FENCED'
  /** Channel not READY in this generation, or too many operations wait already. Certainly not sent. */
  | 'NOT_READY'
  /** The far client refused or failed (device error, bad offset); `message` says why. */
  | 'REFUSED'

export class ChannelError extends Error {
  readonly code: ChannelErrorCode
  readonly fence: Fence | undefined
  constructor(code: ChannelErrorCode, message: string, fence?: Fence) {
    super(message)
    this.name = 'ChannelError'
    this.code = code
    this.fence = fence
  }
}

/** A bounded area of this filer that the far client reads and writes without any client code in the path but `place`. */
export interface Region {
  /** Unique within the client, equal on no other condition: it is how the far end names the region. */
  readonly key: number
  readonly bytes: number
  /** Places `chunks` at `offset`; in a durable region the promise resolves when they are flushed. They are not looked at after it is settled. Rejects ChannelError FENCED or REFUSED. */
  place(offset: number, chunks: readonly Uint8Array[], fence: Fence): Promise<void>
  read(offset: number, bytes: number, fence: Fence): Promise<Uint8Array>
  /** Everything placed before is durable when this resolves. */
  flush(fence: Fence): Promise<void>
}

export interface RegionDescriptor {
  readonly key: number
  readonly bytes: number
}

/** One generation of one channel, READY. Everything rejects with ChannelError NOT_READY once `error` or `down` was told. */
export interface Channel {
  readonly clientId: string
  readonly index: number
  readonly generation: number
  readonly remoteRegions: readonly RegionDescriptor[]
  /** Resolves when the far client has taken the message (its `message` returned). In order per channel. Waits for credit. */
  send(message: Uint8Array): Promise<void>
  /**
   * Resolves "placed" (durable region: flushed). In order per channel as to placing: `place` is called in that order, and
   * may be called again before it has resolved. The chunks must not change until the promise settles, and may afterwards.
   */
  write(region: number, offset: number, chunks: readonly Uint8Array[], fence: Fence): Promise<void>
  read(region: number, offset: number, bytes: number, fence: Fence): Promise<Uint8Array>
  flush(region: number, fence: Fence): Promise<void>
  /** Striped channels: resolves when every write before it is placed at the far end. */
  barrier(): Promise<void>
}

/**
 * `up` fires once per generation and ends in exactly one `error` (recovery under way) or `down` (no path, partner gone, closed).
 * If recovery then finds no path after all, nothing more is called: `Connection.onPeer` tells that the partner is lost.
 */
export interface ChannelClient {
  /** Equal on both filers. */
  readonly id: string
  readonly version: number
  /** Channels wanted. */
  readonly ports: number
  /** Bytes of receive memory claimed per channel. */
  readonly memoryBytes: number
  /** Striped: over all drivers, if the far client says so too; nothing has an order but what `barrier` makes. */
  readonly policy: 'ordered' | 'striped'
  readonly regions: readonly Region[]
  up(channel: Channel): void
  error(channel: Channel, cause: string): void
  down(channel: Channel, cause: string): void
  /** The credit goes back when this returns or resolves. */
  message(channel: Channel, message: Uint8Array): void | Promise<void>
}

export interface PeerInformation {
  readonly systemId: string
  readonly version: number
  readonly incarnation: number
  readonly logBytes: number
}

/**
 * REQUESTED: waits for the far client, or for a driver. OPENING, OPEN: the ends are being made. RECOVERING: a generation is dead, the next is
 * due. Data goes in READY only.
 */
export type ChannelState = 'REQUESTED' | 'OPENING' | 'OPEN' | 'READY' | 'RECOVERING' | 'CLOSING'

export interface ChannelStatus extends Traffic {
  readonly clientId: string
  readonly index: number
  readonly state: ChannelState
  readonly generation: number
  /** Drivers that it runs on. */
  readonly links: readonly string[]
  /** Why it is not READY. */
  readonly reason: string
  readonly failovers: number
}

/** VersionMismatch: it speaks another version. WrongPeer: somebody else is there. CertificateRefused: one does not trust the other's certificate. */
export type Refusal = 'VersionMismatch' | 'WrongPeer' | 'CertificateRefused'

export interface LinkStatus extends Traffic {
  readonly name: string
  readonly state: 'Up' | 'Slow' | 'Down'
  readonly roundTripMicroseconds: number
  /** [ours, the partner's]. */
  readonly addresses: readonly string[]
  /** Why it is not Up. */
  readonly reason: string
  /** The partner was reached, or called, and one of the two would not have it; absent for whatever may pass by itself. */
  readonly refusal?: Refusal
  /** Times that it came up. */
  readonly sessions: number
  readonly failures: number
}

export interface Connection {
  /** Enters the client list; channels come up once both sides have registered it. May be called late. */
  register(client: ChannelClient): void
  /** Graceful: outstanding operations drain or fail, the far client gets `down`. */
  unregister(clientId: string): Promise<void>
  /** The partner as last seen in a completed handshake; undefined while no driver is READY. */
  peer(): PeerInformation | undefined
  links(): readonly LinkStatus[]
  channels(): readonly ChannelStatus[]
  /** Called with the peer on READY, with undefined when the last driver is lost. */
  onPeer(listener: (peer: PeerInformation | undefined) => void): void
  stop(): Promise<void>
}
