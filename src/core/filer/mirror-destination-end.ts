/**
 * The destination of a mirror, on a side that is open here: joins the protocol (core/mirror/destination.ts) to the store.
 *
 * Breaking: recorded first, so that no source is listened to any more; the newest pin becomes the files, log files behind it are repeated in the order of their records up to the first gap, and a consistency point makes it
 * durable. Until then a crash begins all of it anew. Then the volume is, in a higher generation, one of its own; or, if the ends change places, the source.
 */
import type { DestinationHost } from '../mirror/destination.ts'
import { MirrorDestination } from '../mirror/destination.ts'
import { MirrorLogFiles } from '../mirror/log-files.ts'
import type { Message } from '../mirror/messages.ts'
import type { DestinationRecord, MirrorProperties, Pin } from '../mirror/records.ts'
import { IDLE } from '../mirror/status.ts'
import type { MirrorReason, MirrorStatus } from '../mirror/status.ts'
import { assert } from '../std/assert.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import type { EndContext, EndPlace, MirrorEnd } from './mirror-end.ts'
import { logVolumeOf, volumeOf } from './mirror-end.ts'
import { becomeImage, pin, pinsOf } from './mirror-pins.ts'
import type { PinnedImage } from './mirror-pins.ts'
import type { FilerVolume } from './volumes.ts'

export class DestinationEnd implements MirrorEnd {
  readonly id: string
  readonly aggregate: string
  readonly volumeId: string
  readonly mirror: MirrorDestination
  readonly cpLeast = 0
  readonly #context: EndContext
  readonly #opened: Promise<void>
  #peer: string | undefined
  #breaking: Promise<void> | undefined
  #heardSeconds: number | undefined

  constructor(context: EndContext, place: EndPlace, record: DestinationRecord) {
    this.id = place.id
    this.aggregate = place.aggregate
    this.volumeId = place.volumeId
    this.#context = context
    const { env } = context.mirrors.options
    const hidden = context.store.aggregates.get(this.aggregate)?.volume(logVolumeOf(this.volumeId))
    assert(hidden !== undefined, 'a mirror without a volume for its log files')
    const logs = new MirrorLogFiles(env.crc32, hidden.content)
    this.mirror = new MirrorDestination(this.#host(), logs, record, this.#durable(record))
    this.#opened = this.mirror.open()
    this.#opened.catch((error: unknown) =>
      env.log('error', 'log files cannot be opened', { cause: String(error) }),
    )
    if (record.state === 'Breaking') this.#breaking = this.#opened.then(() => this.#finishBreaking())
  }

  get #connected(): boolean {
    return this.mirror.connected && this.#peer !== undefined
  }
  get #volume(): FilerVolume {
    return volumeOf(this.#context, this)!
  }
  get #record(): DestinationRecord {
    return (this.#volume.properties as unknown as { mirror: DestinationRecord }).mirror
  }

  #newest(): PinnedImage | undefined {
    return pinsOf(this.#volume, this.#record).at(-1)
  }

  /** Records are counted by the source of the image: those of the source before say nothing. */
  #durable(record: DestinationRecord): Pin | undefined {
    const newest = this.#newest()
    return newest && { ...newest, covers: newest.generation === record.generation ? newest.covers : 0 }
  }

  #host(): DestinationHost {
    const context = this.#context
    const { store, mirrors } = context
    const { env, broken = {} } = mirrors.options
    return {
      crc32: env.crc32,
      broken,
      send: (head) => {
        if (this.#peer !== undefined) mirrors.link.send(this.#peer, head)
      },
      record: (change) => context.change(this.aggregate, { op: 'mirror', id: this.volumeId, mirror: change }),
      wantCp: () => store.wantCp(),
      isFree: (number) => this.#volume.numbers.isFree(number),
      receive: ({ number, kind, content }) => {
        assert(this.#volume.receive(number, kind, content), 'a block of an image has a number that is in use')
      },
      free: (number) => this.#volume.free(number),
      become: (root, { sizeBytes }) => {
        const volume = this.#volume
        volume.content.become(root)
        volume.resize(Math.floor(sizeBytes / BLOCK_BYTES))
      },
      room: (blocks) => this.#room(blocks),
      consistencyPoint: () => context.nextCp(),
      pin: (image) => pin(this.#volume, image, env.clock.wall().seconds),
      unpinBelow: (image) => {
        const volume = this.#volume
        for (const one of pinsOf(volume, this.#record))
          if (one.image < image) volume.snapshots.unpin(one.snapshot.id)
      },
      reset: () => this.#reset(),
      mayReverse: () => {
        const wanted = context.wanted(this.id)
        return wanted?.role === 'Source' && wanted.state === 'Mirrored'
      },
      reverse: () => void this.break(true),
      log: (event, fields) => env.log('info', event, { volume: this.#volume.name, ...fields }),
    }
  }

  async #room(blocks: number): Promise<void> {
    const { store } = this.#context
    const aggregate = store.aggregates.get(this.aggregate)!
    for (let tries = 0; !this.#context.closed; tries++) {
      const fits = aggregate.fits(blocks)
      if (fits && store.pressure() !== 'FULL') return
      if (!fits && tries > 2) throw new Error('no space for an image')
      store.wantCp()
      await this.#context.nextCp()
    }
  }

  /** The files are those of the newest pin; what came of the next image is given back. */
  #reset(): PinnedImage {
    const newest = this.#newest()
    assert(newest !== undefined, 'a destination without a pin')
    becomeImage(this.#volume, newest)
    return newest
  }

  message(peer: string, message: Message): void {
    if (message.head.type === 'resume') this.#peer = peer
    if (this.#peer !== peer) return
    const { clock } = this.#context.mirrors.options.env
    this.#heardSeconds = clock.wall().seconds
    this.mirror.message(message)
  }

  lost(peer: string): void {
    if (this.#peer === peer) this.#peer = undefined
  }

  freezing(): void {
    this.mirror.freezing()
  }
  frozen(): void {
    this.mirror.frozen()
  }
  committed(): void {
    this.mirror.committed()
  }
  replayed(): void {}

  closed(): void {
    const { id, session } = this.mirror
    void this.mirror.close()
    if (this.#peer !== undefined)
      this.#context.mirrors.link.send(this.#peer, { type: 'elsewhere', mirror: id, session })
  }

  /** Makes it a volume of its own, or the source. */
  break(reversing: boolean): Promise<void> {
    this.#breaking ??= this.#break(reversing)
    return this.#breaking
  }

  async #break(reversing: boolean): Promise<void> {
    const mirror = { state: 'Breaking' as const, reversing }
    const closed = this.mirror.close()
    await this.#context.change(this.aggregate, { op: 'mirror', id: this.volumeId, mirror })
    await closed
    await this.#opened
    await this.#finishBreaking()
  }

  async #finishBreaking(): Promise<void> {
    const context = this.#context
    const { env } = context.mirrors.options
    const volume = this.#volume
    // An image that is complete becomes a pin first.
    await context.wholeCp()
    const image = this.#reset()
    let { covers: last, bytes } = image
    let repeated = 0
    for (const frame of await this.mirror.logs.frames(image.image + 1)) {
      if (frame.last <= last) continue
      if (frame.previous > last) break
      for (const { seq, body } of frame.records) {
        if (seq <= last) continue
        await volume.content.replay(body)
        repeated += 1
        bytes += body.length
      }
      last = frame.last
    }
    await context.wholeCp()
    if (context.closed) return
    const { fsid } = volume.content
    const { id, generation, reversing, fence, opening } = this.#record
    const extent = { last: context.newestSeq, bytes }
    const mirror: MirrorProperties =
      reversing === true
        ? {
            id,
            role: 'Source',
            state: 'OutOfSync',
            generation: generation + 1,
            base: image.image,
            has: last,
            from: extent,
            strict: context.wanted(id)?.policy === 'Strict',
            ...extent,
          }
        : {
            id,
            role: 'Destination',
            state: 'Broken',
            generation: generation + 1,
            base: image.image,
            fence,
            opening,
            broken: { has: last, from: extent, since: env.clock.wall().seconds, ...extent },
          }
    await context.change(this.aggregate, { op: 'mirror', id: this.volumeId, mirror, fsid })
    const hidden = logVolumeOf(this.volumeId)
    await context.change(this.aggregate, { op: 'remove', id: hidden })
    env.log('info', reversing === true ? 'mirror reversed' : 'mirror broken', {
      volume: volume.name,
      image: image.image,
      repeated,
    })
    context.store.startContent(context.store.aggregates.get(this.aggregate)!, volume)
    await context.publish(this)
  }

  status(): MirrorStatus {
    const { mirror } = this
    const { durableImage, generation } = mirror
    const state = this.#breaking === undefined ? mirror.state : 'Breaking'
    const [reason, message] = this.#reason()
    return {
      ...IDLE,
      id: this.id,
      volumeId: this.volumeId,
      role: 'Destination',
      state: state === 'InSync' && !this.#connected ? 'OutOfSync' : state,
      reason,
      message,
      connected: this.#connected,
      generation,
      logFiles: mirror.logs.epochs.length,
      logFilesMax: this.#context.wanted(this.id)?.logFilesMax ?? 0,
      durableImage,
      ...(this.#heardSeconds === undefined ? {} : { heardSeconds: this.#heardSeconds }),
    }
  }

  #reason(): readonly [MirrorReason, string] {
    const { mirror } = this
    const wanted = this.#context.wanted(this.id)
    if (this.#breaking !== undefined) return ['Switching', 'log files are being repeated']
    if (wanted?.role === 'Source' && wanted.state === 'Mirrored') {
      if (mirror.state !== 'InSync') return ['NotInSync', 'the mirror is reversed when it is in sync']
      return this.#connected
        ? ['Switching', 'waits until the source hands over']
        : [
            'NotInSync',
            'nothing is heard of the source, which serves nothing either if it was handing over; breaking the mirror makes this end serve',
          ]
    }
    if (!this.#connected) return ['LinkLost', 'nothing is heard of the source']
    if (mirror.state === 'Baseline') return ['Baseline', 'the first image is on its way']
    return mirror.state === 'InSync' ? ['', ''] : ['CatchingUp', 'images come until operations can']
  }
}
