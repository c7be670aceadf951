/** The source of a mirror, on a side that is open here: joins the protocol (core/mirror/source.ts) to the store. */
import type { ToSource } from '../mirror/messages.ts'
import type { SourceRecord } from '../mirror/records.ts'
import type { SourceHost } from '../mirror/source-host.ts'
import { MirrorSource } from '../mirror/source.ts'
import type { MirrorStatus } from '../mirror/status.ts'
import { streamImage } from './image-stream.ts'
import type { EndContext, EndPlace, MirrorEnd } from './mirror-end.ts'
import { noteExtent, recordOf, volumeOf } from './mirror-end.ts'
import { allPins, earlyPins, pin, pinsOf } from './mirror-pins.ts'

export class SourceEnd implements MirrorEnd {
  readonly id: string
  readonly aggregate: string
  readonly volumeId: string
  readonly mirror: MirrorSource
  readonly #context: EndContext
  #peer: string | undefined

  constructor(context: EndContext, place: EndPlace, record: SourceRecord) {
    this.id = place.id
    this.aggregate = place.aggregate
    this.volumeId = place.volumeId
    this.#context = context
    const { store, served } = context
    const after = served ? store.newestCp + 1 : store.cp + 2
    const at = { openedAt: () => context.openedAt, epoch: Math.max(after, this.cpLeast) }
    this.mirror = new MirrorSource(this.#host(), record, at, context.mirrors.options.limits)
  }

  /** Images of both ends are in one order: those of this one are numbered above all that it has. Behind a takeover the destination may know of epochs that are not in this filer's image. */
  get cpLeast(): number {
    const newest = this.#pins().at(-1)?.image ?? 0
    return newest + 1
  }

  get #record(): SourceRecord {
    return recordOf(this.#context, this) as SourceRecord
  }

  #pins() {
    const record = recordOf(this.#context, this)
    const volume = volumeOf(this.#context, this)
    if (this.#context.mirrors.options.broken?.endEarly === true) return earlyPins(volume)
    return record === undefined ? [] : pinsOf(volume, record)
  }

  #host(): SourceHost {
    const context = this.#context
    const { store, mirrors, opening } = context
    const { env, broken = {}, fence } = mirrors.options
    return {
      crc32: env.crc32,
      broken,
      now: () => env.clock.now(),
      seconds: () => env.clock.wall().seconds,
      after: (ms, task) => env.clock.after(ms, task),
      newSession: () => env.random.u32() || 1,
      fence: () => fence(context.side),
      opening,
      send: (head, body) => {
        if (this.#peer !== undefined) mirrors.link.send(this.#peer, head, body)
      },
      record: (change) => context.change(this.aggregate, { op: 'mirror', id: this.volumeId, mirror: change }),
      wantCp: () => store.wantCp(),
      pins: () => this.#pins(),
      unpin: (image) => {
        const volume = volumeOf(context, this)
        for (const one of allPins(volume)) if (one.image === image) volume?.snapshots.unpin(one.snapshot.id)
      },
      stream: async (from, to, room) => {
        const pins = this.#pins()
        const find = (image: number | undefined) => pins.find((one) => one.image === image)?.snapshot
        const ends = { from: find(from?.image), to: find(to.image)! }
        const aggregate = store.aggregates.get(this.aggregate)!
        await streamImage(aggregate, volumeOf(context, this)!, ends, to, this.mirror, room)
      },
      leaving: (reason, message) => context.leaveTogether(this, reason, message),
      serve: () => void context.publish(this),
      log: (event, fields) => env.log('info', event, { volume: volumeOf(context, this)?.name, ...fields }),
    }
  }

  replayed(seq: number, body: Uint8Array): void {
    this.mirror.replayed(seq, body)
  }

  freezing(cp: number, covers: number): void {
    const volume = volumeOf(this.#context, this)
    if (volume === undefined) return
    const pinned = this.mirror.freezing(cp)
    const { last, bytes } = this.mirror.tally
    const record = this.#record
    if (record.last !== last) noteExtent(volume, { last, bytes })
    if (!pinned) return
    const { generation } = record
    const { sizeBytes } = volume
    const { seconds } = this.#context.mirrors.options.env.clock.wall()
    pin(volume, { image: cp, covers, generation, bytes, sizeBytes }, seconds)
  }

  frozen(): void {}

  committed(): void {
    this.mirror.committed()
  }

  closed(): void {
    this.mirror.close()
  }

  /** Looks for the filer that serves the other end, one after the other. */
  greet(): void {
    if (this.mirror.connected) return
    const { link } = this.#context.mirrors
    const reachable = (this.#context.wanted(this.id)?.peers ?? []).filter((peer) => link.isUp(peer))
    if (reachable.length === 0) return
    const before = this.#peer === undefined ? -1 : reachable.indexOf(this.#peer)
    this.#peer = reachable[(before + 1) % reachable.length]
    this.mirror.greet()
  }

  message(peer: string, head: ToSource): void {
    if (this.#peer === peer) this.mirror.message(head)
  }

  lost(peer: string): void {
    if (this.#peer === peer) this.mirror.disconnected()
  }

  status(): MirrorStatus {
    return { volumeId: this.volumeId, ...this.mirror.status() }
  }
}
