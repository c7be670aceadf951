/**
 * What may be written on the standby's copy of a side: frames of the owner that was greeted in this incarnation, with a fence that is not older than the
 * one stored here (H5). A frame that was let in is counted, so that a new owner can wait until the last one is on the devices.
 */
import type { Fence, Region } from '../connection/client.ts'
import { ChannelError } from '../connection/client.ts'
import type { DeviceError } from '../env/device.ts'
import { compareFence } from './fence.ts'
import { logRegion, plexRegion } from './regions.ts'
import type { SideView } from './side-context.ts'

export class FrameGate {
  readonly #side: SideView
  #frames = 0
  #drained: (() => void)[] = []

  constructor(side: SideView) {
    this.#side = side
  }

  regions(): { log: Region; plex: Region[] } {
    const side = this.#side
    const { env } = side.context
    const gate = {
      enter: (fence: Fence) => this.#enter(fence),
      leave: () => this.#leave(),
      log: () => side.standbyLog,
      failed: (error: DeviceError) => this.#failed(error),
    }
    const read = (block: number, into: Uint8Array): Promise<void> => side.logDevice.read(block, into)
    return {
      log: logRegion(env, side.name, side.logDevice.blocks, read, gate),
      plex: side.copy.devices.map((device) => plexRegion(env, device, gate)),
    }
  }

  /** What an earlier owner wrote and was let in is on the devices when this resolves. */
  drain(): Promise<void> {
    if (this.#frames === 0) return Promise.resolve()
    return new Promise((resolve) => this.#drained.push(resolve))
  }

  async #enter(fence: Fence): Promise<void> {
    const side = this.#side
    if (side.context.broken.noFence) {
      this.#frames += 1
      return
    }
    const older = (): void => {
      if (compareFence(fence, side.mail.fence) < 0) {
        throw new ChannelError('FENCED', `fence of side ${side.name} is higher`, side.mail.fence)
      }
      if (side.isServedHere) {
        throw new ChannelError('FENCED', `side ${side.name} is served here`, side.mail.fence)
      }
    }
    older()
    const { state } = side.mail
    if (!side.greeted || (state !== 'Complete' && state !== 'Resyncing')) {
      throw new ChannelError('REFUSED', `side ${side.name}: greet first`)
    }
    if (compareFence(fence, side.mail.fence) > 0) {
      await side.context.mailbox.changeSide(side.name, { fence })
      older()
    }
    this.#frames += 1
  }

  /** Said at once, with the next heartbeat: else the owner would hold every answer until it calls this filer slow. */
  #failed(error: DeviceError): void {
    const { name, context, mail } = this.#side
    if (mail.state !== 'Complete') return
    context.env.log('error', 'own copy failed; it must be filled again', { side: name, cause: error.message })
    context.mailbox.changeSide(name, { state: 'Resyncing' }).catch((failure: unknown) => {
      context.fatal('mailbox cannot be written', failure)
    })
  }

  #leave(): void {
    this.#frames -= 1
    if (this.#frames === 0) for (const resolve of this.#drained.splice(0)) resolve()
  }
}
