/**
 * The partner's copy as an owner writes it: log frames and plex blocks, each with the fence, repeated until they are placed.
 *
 * A write never fails and never gives up by itself. It waits over lost channels (the same bytes at the same place do no harm; a placed
 * batch is not written again by the far end), over a partner that must be greeted first, and ends in one of two ways: placed, or
 * *dissolved*, which the owner calls only when ALONE is recorded, or a resync is given up before JOIN was asked for (H2, H4). So
 * neither the log nor a consistency point ever sees a lost partner; they wait for the vote, as they must.
 */
import type { Channel, Fence } from '../connection/client.ts'
import { ChannelError } from '../connection/client.ts'
import type { Device } from '../env/device.ts'
import { BLOCK_BYTES, DeviceError } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import type { LogMirror } from '../nvlog/log.ts'
import { compareFence } from './fence.ts'
import type { DeviceSize } from './side-copy.ts'
import type { PartnerLink, Traffic } from './partner-link.ts'

export interface PartnershipHooks {
  /** Refused by a higher fence: another filer, or a later incarnation of this one, has the side. */
  fenced(fence: Fence | undefined): void
  /** Something changed that a decision may depend on. */
  changed(): void
}

/** The `devices` of a partner's message. */
export function sizesOf(devices: unknown): ReadonlyMap<string, number> | undefined {
  if (!Array.isArray(devices)) return undefined
  return new Map((devices as readonly DeviceSize[]).map(({ name, blocks }) => [name, blocks]))
}

const DISSOLVED = Symbol('dissolved')
type Outcome<T> = T | typeof DISSOLVED

export class Partnership implements LogMirror {
  readonly #env: Env
  readonly #link: PartnerLink
  readonly #hooks: PartnershipHooks
  readonly #fence: () => Fence
  readonly #logRegion: number
  readonly #regionOf: (deviceName: string) => number
  readonly #since = new Map<object, number>()
  readonly #dirty = new Set<string>()
  /** Incarnation of the partner that was greeted; its writes, and no other's, are known to be in order. */
  partnerIncarnation: number
  /** The far end refused; it must be greeted again, or recorded out of date. */
  trouble = ''
  /** Devices that the partner has, with their sizes in blocks; undefined if it is of a version that does not say. */
  offered: ReadonlyMap<string, number> | undefined
  #dissolved = false
  readonly #cancels = new Set<() => void>()

  constructor(
    env: Env,
    link: PartnerLink,
    fence: () => Fence,
    partnerIncarnation: number,
    regions: { readonly log: number; readonly device: (name: string) => number },
    hooks: PartnershipHooks,
  ) {
    this.#env = env
    this.#link = link
    this.#hooks = hooks
    this.#fence = fence
    this.partnerIncarnation = partnerIncarnation
    this.#logRegion = regions.log
    this.#regionOf = regions.device
  }

  get dissolved(): boolean {
    return this.#dissolved
  }
  /** Age of the oldest write without an answer, 0 if there is none. */
  slowMs(): number {
    let oldest = Infinity
    for (const started of this.#since.values()) oldest = Math.min(oldest, started)
    return oldest === Infinity ? 0 : this.#env.clock.now() - oldest
  }
  /** Writes were placed whose flush has not been answered: a restart of the partner may have lost them. */
  get unflushed(): boolean {
    return this.#dirty.size > 0
  }

  /** See above: only when the record says, or lets, this filer go on by itself. */
  dissolve(): void {
    this.#dissolved = true
    for (const cancel of this.#cancels) cancel()
    this.#cancels.clear()
    this.#link.wake()
  }
  /** The partner's new incarnation showed the same roots and a log that lacks nothing acknowledged. */
  greeted(incarnation: number, devices: unknown): void {
    this.offered = sizesOf(devices)
    this.partnerIncarnation = incarnation
    this.trouble = ''
    this.#link.wake()
  }

  async write(block: number, chunk: Uint8Array): Promise<void> {
    await this.#persist('nvlog', (channel, fence) =>
      channel.write(this.#logRegion, block * BLOCK_BYTES, [chunk], fence),
    )
  }

  /** Undefined if the partner does not have it. */
  device(name: string, ownBlocks: number): Device | undefined {
    const blocks = this.offered ? this.offered.get(name) : ownBlocks
    if (blocks === undefined) return undefined
    const region = this.#regionOf(name)
    const gone = (): DeviceError => new DeviceError('EDETACHED', `partner's ${name} is detached`)
    return {
      name: `partner/${name}`,
      blocks,
      read: async (block, into) => {
        const bytes = await this.#persist('plex', (channel, fence) =>
          channel.read(region, block * BLOCK_BYTES, into.length, fence),
        )
        if (bytes === DISSOLVED) throw gone()
        into.set(bytes)
      },
      write: async (block, chunks) => {
        this.#dirty.add(name)
        await this.#persist('plex', (channel, fence) =>
          channel.write(region, block * BLOCK_BYTES, chunks, fence),
        )
      },
      flush: async () => {
        const done = await this.#persist('plex', (channel, fence) => channel.flush(region, fence))
        if (done !== DISSOLVED) this.#dirty.delete(name)
      },
      close: () => Promise.resolve(),
    }
  }

  async #persist<T>(
    traffic: Traffic,
    operation: (channel: Channel, fence: Fence) => Promise<T>,
  ): Promise<Outcome<T>> {
    const key = {}
    this.#since.set(key, this.#env.clock.now())
    try {
      for (;;) {
        if (this.#dissolved) return DISSOLVED
        const channel = this.trouble === '' ? this.#link.channel(traffic) : undefined
        if (!channel) {
          await this.#link.changed()
          continue
        }
        const result = await this.#attempt(traffic, channel, operation)
        if (result !== undefined) return result.value
      }
    } finally {
      this.#since.delete(key)
    }
  }

  /** Undefined: look again. `dissolve` ends the wait, so that nobody waits for a partner that is recorded out of date. */
  async #attempt<T>(
    traffic: Traffic,
    channel: Channel,
    operation: (channel: Channel, fence: Fence) => Promise<T>,
  ): Promise<{ value: Outcome<T> } | undefined> {
    const fence = this.#fence()
    const result = await new Promise<{ value: Outcome<T> } | { error: unknown }>((resolve) => {
      const cancel = (): void => resolve({ value: DISSOLVED })
      this.#cancels.add(cancel)
      operation(channel, fence).then(
        (value) => {
          this.#cancels.delete(cancel)
          resolve({ value })
        },
        (error: unknown) => {
          this.#cancels.delete(cancel)
          resolve({ error })
        },
      )
    })
    if ('value' in result) return result
    if (!(result.error instanceof ChannelError)) throw result.error
    await this.#failed(traffic, channel, fence, result.error)
    return undefined
  }

  async #failed(traffic: Traffic, channel: Channel, used: Fence, error: ChannelError): Promise<void> {
    switch (error.code) {
      case 'FENCED':
        // Our own epoch moved on while the frame was under way: with the new fence it will do.
        if (compareFence(this.#fence(), used) > 0) return
        this.#hooks.fenced(error.fence)
        await this.#link.changed()
        return
      case 'REFUSED':
        this.trouble = error.message
        this.#hooks.changed()
        return
      case 'NOT_READY':
      case 'UNKNOWN_OUTCOME':
        if (this.#link.channel(traffic)?.generation === channel.generation) await this.#link.changed()
    }
  }
}
