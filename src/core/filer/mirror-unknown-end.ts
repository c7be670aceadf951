/** An end whose record a later release wrote: the volume is not served, nothing is changed, and it is told. */
import type { MirrorProperties } from '../mirror/records.ts'
import { RECORD_VERSION } from '../mirror/records.ts'
import { IDLE } from '../mirror/status.ts'
import type { MirrorStatus } from '../mirror/status.ts'
import type { EndContext, EndPlace, MirrorEnd } from './mirror-end.ts'

export class UnknownEnd implements MirrorEnd {
  readonly id: string
  readonly aggregate: string
  readonly volumeId: string
  readonly cpLeast = 0
  readonly #record: MirrorProperties

  constructor(context: EndContext, place: EndPlace, record: MirrorProperties) {
    this.id = place.id
    this.aggregate = place.aggregate
    this.volumeId = place.volumeId
    this.#record = record
    context.mirrors.options.env.log('error', 'mirror of a later release', {
      mirror: place.id,
      ...this.#versions,
    })
  }

  get #versions() {
    return { version: this.#record.version ?? 1, known: RECORD_VERSION }
  }

  replayed(): void {}
  freezing(): void {}
  frozen(): void {}
  committed(): void {}
  closed(): void {}
  lost(): void {}

  status(): MirrorStatus {
    const { version, known } = this.#versions
    return {
      ...IDLE,
      id: this.id,
      volumeId: this.volumeId,
      role: this.#record.role,
      state: 'OutOfSync',
      reason: 'VersionMismatch',
      message: `a later release wrote what this volume says of its mirror (version ${version}; this one knows ${known}): update this pair; nothing is served meanwhile`,
      generation: this.#record.generation,
      durableImage: 0,
    }
  }
}
