/** How a manager is made: what it is, whom it talks to, over what, and its patience. */
import type { Env } from '../env/env.ts'
import type { Driver } from './driver.ts'

/** Version of what managers say to each other; see docs/SPEC-wire.md. */
export const WIRE_VERSION = 1

export interface ConnectionTimes {
  readonly heartbeatMs: number
  /** Silence after which a driver has failed. Counted in ticks of the own loop, so that a loop that stood still blames nobody. */
  readonly failAfterMs: number
  /** From dialling to READY. */
  readonly handshakeMs: number
  /** Pause before a failed driver is tried again: at least, and at most after repeated failures. */
  readonly retryMinMs: number
  readonly retryMaxMs: number
  /** How long an unregistered client's operations may take to drain before they are failed. */
  readonly closeMs: number
  /** How often a channel that is not on its best driver asks whether it may move. */
  readonly rebalanceMs: number
  /** A driver whose round trip is this many times its best twin's, and at least `slowFloorMs`, is demoted (heartbeat.ts). */
  readonly slowFactor: number
  readonly slowFloorMs: number
}

export const DEFAULT_TIMES: ConnectionTimes = {
  heartbeatMs: 100,
  failAfterMs: 300,
  handshakeMs: 1000,
  retryMinMs: 50,
  retryMaxMs: 1000,
  closeMs: 1000,
  rebalanceMs: 1000,
  slowFactor: 50,
  slowFloorMs: 20,
}

/** Builds that leave out one rule each: a checker that does not catch them proves nothing. */
export interface BrokenConnection {
  /** `barrier` waits for nothing. */
  readonly noBarrier?: boolean
  /** Port numbers are used again, and a frame's generation is not looked at. */
  readonly noGenerationCheck?: boolean
  /** `unregister` gives the memory back before what is under way is over. */
  readonly memoryFirst?: boolean
}

export interface ManagerOptions {
  readonly env: Env
  /**
   * This filer's name and the partner's, as in the pair. For a filer of another pair both are written `<namespace>/<pair>/<filer>`: filers of
   * two pairs may have the same name.
   */
  readonly systemId: string
  readonly partnerId: string
  /** Grows with every start of this filer (kept in its mailbox). */
  readonly incarnation: number
  readonly logBytes: number
  readonly drivers: readonly Driver[]
  /** Where the partner's drivers are, by driver name; may be handed in later (`setPeerAddresses`). */
  readonly peerAddresses?: Readonly<Record<string, string>>
  readonly times?: Partial<ConnectionTimes>
  /** Other than WIRE_VERSION only in tests. */
  readonly version?: number
  /** Bound of one frame's payload; a heartbeat waits for at most a few of them. */
  readonly frameBytes?: number
  readonly broken?: BrokenConnection
}
