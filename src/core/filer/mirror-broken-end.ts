/** A destination that is a volume of its own: how far its records go beyond what the other end has. */
import type { BrokenRecord, DestinationRecord } from '../mirror/records.ts'
import { IDLE } from '../mirror/status.ts'
import type { MirrorStatus } from '../mirror/status.ts'
import { Tally } from '../mirror/tally.ts'
import type { EndContext, EndPlace, MirrorEnd } from './mirror-end.ts'
import { noteExtent, recordOf, volumeOf } from './mirror-end.ts'

export class BrokenEnd implements MirrorEnd {
  readonly id: string
  readonly aggregate: string
  readonly volumeId: string
  readonly tally: Tally
  readonly cpLeast = 0
  readonly #context: EndContext

  constructor(context: EndContext, place: EndPlace, record: BrokenRecord) {
    this.id = place.id
    this.aggregate = place.aggregate
    this.volumeId = place.volumeId
    this.#context = context
    this.tally = new Tally(record)
  }

  get #record(): DestinationRecord & { readonly broken: BrokenRecord } {
    return recordOf(this.#context, this) as DestinationRecord & { readonly broken: BrokenRecord }
  }

  replayed(seq: number, body: Uint8Array): void {
    this.tally.add(seq, body.length)
  }

  appended(seq: number, body: readonly Uint8Array[]): void {
    this.tally.add(
      seq,
      body.reduce((sum, { length }) => sum + length, 0),
    )
  }

  freezing(): void {
    const volume = volumeOf(this.#context, this)
    const { last, bytes } = this.tally
    const { broken } = this.#record
    if (volume !== undefined && broken.last !== last)
      noteExtent(volume, { broken: { ...broken, last, bytes } })
  }
  frozen(): void {}
  committed(): void {}
  closed(): void {}
  lost(): void {}

  status(): MirrorStatus {
    const { generation, base, broken } = this.#record
    return {
      ...IDLE,
      id: this.id,
      volumeId: this.volumeId,
      role: 'Destination',
      state: 'Broken',
      reason: 'Broken',
      message: 'the destination is a volume of its own',
      generation,
      durableImage: base,
      brokenSinceSeconds: broken.since,
    }
  }
}
