/**
 * What the manager needs of a transport: one driver per network, each able to dial the partner and to take its calls.
 * Implemented over gRPC (edge/grpc) and by the simulator (sim/network). A driver moves frames, in order and once per
 * stream, proves who the other end is (certificates), and knows nothing of channels, generations or heartbeats.
 */
import type { Refusal } from './client.ts'
import type { Frame } from './frames.ts'

/** What happens on a stream. After `closed`, and after the own `close`, nothing is called any more. */
export interface StreamHandler {
  /** A dialled stream reached the partner. Not called on accepted streams. */
  opened(): void
  /** Payload chunks belong to the receiver from here on; those of a write until it calls `placed`. */
  received(frames: readonly Frame[]): void
  /** There is room again after `send` said no. */
  drained(): void
  closed(reason: string, refusal?: Refusal): void
}

export interface Stream {
  /**
   * Takes the frames in any case; payload is copied or sent before this returns or while nothing else may change it.
   * False: enough is queued, wait for `drained`.
   */
  send(frames: readonly Frame[]): boolean
  close(reason: string): void
}

export interface Driver {
  /** The network's name, equal on both filers. */
  readonly name: string
  /** Where the partner reaches this end; empty if that is not known here. */
  readonly address: string
  /** Starts to take calls. Rejects when the address cannot be bound; the manager tries again. */
  start(accept: (stream: Stream) => StreamHandler): Promise<void>
  dial(address: string, handler: StreamHandler): Stream
  stop(): Promise<void>
}
