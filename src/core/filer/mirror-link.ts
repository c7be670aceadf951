/**
 * Messages of mirrors to and from the filers of other pairs: two clients of each connection, so that operations never stand behind blocks of images.
 * It knows no mirrors: it says who can be reached, and hands messages on.
 */
import type { Channel, ChannelClient, Connection } from '../connection/client.ts'
import type { Message, ToDestination, ToSource } from '../mirror/messages.ts'
import { decodeMessage, encodeMessage } from '../mirror/messages.ts'

const VERSION = 1
const OPERATIONS = 'mirror'
const IMAGES = 'mirror-images'
const RECEIVE_BYTES = 16 << 20

export interface MirrorLinkHandlers {
  message(peer: string, message: Message): void
  up(peer: string): void
  down(peer: string): void
}

export class MirrorLink {
  readonly #handlers: MirrorLinkHandlers
  readonly #channels = new Map<string, Map<string, Channel>>()

  constructor(peers: Readonly<Record<string, Connection>>, handlers: MirrorLinkHandlers) {
    this.#handlers = handlers
    for (const [peer, connection] of Object.entries(peers)) this.connect(peer, connection)
  }

  /** From now on the peer of that name is reached by this connection; one that it had before is no longer listened to. */
  connect(peer: string, connection: Connection): void {
    this.disconnect(peer)
    const channels = new Map<string, Channel>()
    this.#channels.set(peer, channels)
    connection.register(this.#client(peer, OPERATIONS, channels))
    connection.register(this.#client(peer, IMAGES, channels))
  }

  disconnect(peer: string): void {
    const wasUp = this.isUp(peer)
    this.#channels.delete(peer)
    if (wasUp) this.#handlers.down(peer)
  }

  isUp(peer: string): boolean {
    return this.#channels.get(peer)?.size === 2
  }

  /** Without a promise of arrival: a channel that is lost ends the session. */
  send(peer: string, head: ToDestination | ToSource, body?: Uint8Array): void {
    const { type } = head
    const images = type === 'blocks' || type === 'free' || type === 'end'
    this.#channels
      .get(peer)
      ?.get(images ? IMAGES : OPERATIONS)
      ?.send(encodeMessage(head, body))
      .catch(() => undefined)
  }

  #client(peer: string, id: string, channels: Map<string, Channel>): ChannelClient {
    const current = (): boolean => this.#channels.get(peer) === channels
    const gone = (channel: Channel): void => {
      if (channels.get(id)?.generation !== channel.generation) return
      const wasUp = this.isUp(peer)
      channels.delete(id)
      if (wasUp && current()) this.#handlers.down(peer)
    }
    return {
      id,
      version: VERSION,
      ports: 1,
      memoryBytes: RECEIVE_BYTES,
      policy: 'ordered',
      regions: [],
      up: (channel) => {
        channels.set(id, channel)
        if (this.isUp(peer) && current()) this.#handlers.up(peer)
      },
      error: gone,
      down: gone,
      message: (_channel, bytes) => {
        const message = decodeMessage(bytes)
        if (message !== undefined && current()) this.#handlers.message(peer, message)
      },
    }
  }
}
