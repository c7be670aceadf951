/**
 * The three clients of the connection manager through which a pair works: `failover` (small JSON messages and requests), `nvlog`
 * (log regions), `plex` (device regions). It keeps the channel of each, matches replies to requests, and wakes who waits for a channel.
 * It knows nothing of sides, epochs or rights.
 */
import type { Channel, ChannelClient, Connection, Region } from '../connection/client.ts'
import type { Env } from '../env/env.ts'
import { decodeJson, encodeJson } from '../std/ascii-json.ts'

export type Traffic = 'nvlog' | 'plex'

/** A message is a JSON object with a `type`. `reply` answers a request of that id. */
export interface Message {
  readonly type: string
  readonly id?: number
  readonly [field: string]: unknown
}

/** Why a request was not granted, for people. */
export function reasonOf(reply: Message | undefined): string {
  const reason = reply?.['reason']
  return typeof reason === 'string' ? reason : 'no answer'
}

export interface LinkHandlers {
  /** A message that is not a reply; what it returns (or resolves to) answers a request. */
  message(message: Message): Message | undefined | Promise<Message | undefined>
  /** A channel came or went. */
  changed(): void
}

const VERSION = 1
const RECEIVE_BYTES = 16 << 20

export class PartnerLink {
  readonly #env: Env
  readonly #handlers: LinkHandlers
  readonly #channels = new Map<string, Channel>()
  readonly #requests = new Map<number, (reply: Message | undefined) => void>()
  readonly #waiters = new Set<() => void>()
  #nextId = 1

  constructor(
    env: Env,
    connection: Connection,
    regions: { readonly nvlog: readonly Region[]; readonly plex: readonly Region[] },
    handlers: LinkHandlers,
  ) {
    this.#env = env
    this.#handlers = handlers
    connection.register(this.#client('failover', []))
    connection.register(this.#client('nvlog', regions.nvlog))
    connection.register(this.#client('plex', regions.plex))
  }

  get connected(): boolean {
    return this.#channels.has('failover')
  }
  channel(traffic: Traffic): Channel | undefined {
    return this.#channels.get(traffic)
  }

  /** Wakes everybody who waits in `changed`. */
  wake(): void {
    for (const waiter of [...this.#waiters]) waiter()
  }
  /** Resolves at the next change of a channel, or `wake`. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      const waiter = (): void => {
        this.#waiters.delete(waiter)
        resolve()
      }
      this.#waiters.add(waiter)
    })
  }

  /** Sends without a promise of arrival: whoever needs an answer asks. */
  notify(message: Message): void {
    this.#channels
      .get('failover')
      ?.send(encodeJson(message))
      .catch(() => undefined)
  }

  /** The reply; undefined when there is no channel, it was lost, or `timeoutMs` passed. */
  async request(message: Message, timeoutMs: number): Promise<Message | undefined> {
    const channel = this.#channels.get('failover')
    if (!channel) return undefined
    const id = this.#nextId++
    return new Promise((resolve) => {
      const finish = (reply: Message | undefined): void => {
        if (!this.#requests.delete(id)) return
        timer.cancel()
        resolve(reply)
      }
      const timer = this.#env.clock.after(timeoutMs, () => finish(undefined))
      this.#requests.set(id, finish)
      channel.send(encodeJson({ ...message, id })).catch(() => finish(undefined))
    })
  }

  #client(id: string, regions: readonly Region[]): ChannelClient {
    const gone = (channel: Channel): void => {
      if (this.#channels.get(id)?.generation !== channel.generation) return
      this.#channels.delete(id)
      if (id === 'failover') for (const finish of [...this.#requests.values()]) finish(undefined)
      this.wake()
      this.#handlers.changed()
    }
    return {
      id,
      version: VERSION,
      ports: 1,
      memoryBytes: id === 'failover' ? 1 << 20 : RECEIVE_BYTES,
      // Device regions have no order of their own: who needs one waits for `placed` before it goes on, as with a local device.
      policy: id === 'plex' ? 'striped' : 'ordered',
      regions,
      up: (channel) => {
        this.#channels.set(id, channel)
        this.wake()
        this.#handlers.changed()
      },
      error: gone,
      down: gone,
      message: (_channel, bytes) => {
        const message = decodeJson(bytes) as Message | undefined
        if (typeof message?.type !== 'string') return
        this.#receive(message)
      },
    }
  }

  #receive(message: Message): void {
    if (message.type === 'reply') {
      this.#requests.get(message.id ?? 0)?.(message)
      return
    }
    const answer = this.#handlers.message(message)
    if (message.id === undefined) return
    Promise.resolve(answer)
      .then((reply) => {
        if (reply) this.notify({ ...reply, type: 'reply', id: message.id! })
      })
      .catch((error: unknown) => {
        this.#env.log('error', 'request of the partner failed', {
          request: message.type,
          cause: String(error),
        })
      })
  }
}
