/**
 * Which end of a mirror is the source: makes the ends of one side what the operator wants them to be.
 *
 * An end goes its way by itself only where nothing can be lost: a destination that is a volume of its own becomes the source; an empty volume becomes a destination. Whoever has changes that the other
 * end has not becomes the destination when that one greets it as the source, they have an image in common, and what would be lost is nothing, or exactly what was agreed to. A mirror in sync is
 * reversed by the two ends together (core/mirror/source.ts).
 */
import type { Message, Refusal } from '../mirror/messages.ts'
import { MIRROR_VERSION } from '../mirror/messages.ts'
import type { DestinationRecord, Divergence, Pin, SourceRecord } from '../mirror/records.ts'
import { divergenceOf, newestCommon } from '../mirror/records.ts'
import { SOURCE_LIMITS } from '../mirror/source-host.ts'
import { IDLE } from '../mirror/status.ts'
import type { MirrorStatus } from '../mirror/status.ts'
import type { Extent } from '../mirror/tally.ts'
import { BrokenEnd } from './mirror-broken-end.ts'
import { DestinationEnd } from './mirror-destination-end.ts'
import type { EndContext, EndPlace, MirrorEnd, Resume } from './mirror-end.ts'
import { logVolumeOf, recordOf, unpinAll, volumeOf } from './mirror-end.ts'
import { pinsOf } from './mirror-pins.ts'
import { SourceEnd } from './mirror-source-end.ts'
import { UnknownEnd } from './mirror-unknown-end.ts'
import type { DesiredMirror } from './served-volumes.ts'
import { freeIndex, isConverting } from './volumes.ts'
import type { FilerAggregate, FilerVolume } from './volumes.ts'

const NOTHING: Extent = { last: 0, bytes: 0 }

/** What the other end, as the source, said of itself. */
interface Greeting {
  readonly common: Pin & { readonly seconds: number }
  readonly other: { readonly has: number; readonly cut: boolean }
}

export class MirrorDirections {
  readonly #store: EndContext
  readonly #greetings = new Map<string, Greeting>()
  readonly #turning = new Set<string>()

  constructor(store: EndContext) {
    this.#store = store
  }

  async reconcile(wanted: DesiredMirror): Promise<void> {
    const end = this.#store.end(wanted.id)
    if (end === undefined) return await this.#begin(wanted)
    if (end instanceof UnknownEnd) return
    if (wanted.state === 'Removed') return await this.#remove(end)
    if (wanted.state === 'Broken') return await this.#break(end)
    if (end instanceof SourceEnd) {
      end.mirror.want(wanted.policy === 'Strict', wanted.logFilesMax)
      end.mirror.wanted = 'Mirrored'
      end.mirror.reversing = wanted.role === 'Destination'
    } else if (end instanceof BrokenEnd && wanted.role === 'Source') await this.#becomeSource(end, wanted)
  }

  async #break(end: MirrorEnd): Promise<void> {
    if (end instanceof SourceEnd) end.mirror.break()
    else if (end instanceof DestinationEnd) await end.break(false)
  }

  async #remove(end: MirrorEnd): Promise<void> {
    await this.#break(end)
    const store = this.#store
    await store.change(end.aggregate, { op: 'unmirror', id: end.volumeId })
    unpinAll(volumeOf(store, end))
    store.store.wantCp()
  }

  /** Of mirrors whose destination is here and was written before they began: nothing is begun, and it is told. */
  refused(desired: readonly DesiredMirror[]): MirrorStatus[] {
    return desired.flatMap(({ id, role, volumeId, state, logFilesMax = 0 }) => {
      const volume = [...this.#store.store.aggregates.values()].flatMap((a) => a.volume(volumeId) ?? [])[0]
      if (role !== 'Destination' || state !== 'Mirrored' || volume === undefined) return []
      if (volume.properties['mirror'] !== undefined || isEmpty(volume)) return []
      return [
        {
          ...IDLE,
          id,
          volumeId,
          role,
          state: 'Broken' as const,
          reason: 'DestinationNotEmpty' as const,
          message: 'the volume has been written, and is not overwritten',
          generation: 0,
          logFilesMax,
          durableImage: 0,
        },
      ]
    })
  }

  // Beginning.

  async #begin({ id, role, volumeId, state, policy }: DesiredMirror): Promise<void> {
    if (state !== 'Mirrored') return
    const store = this.#store
    for (const [name, aggregate] of store.store.aggregates) {
      const volume = aggregate.volume(volumeId)
      const free = volume?.type === 'Flexible' && volume.properties['mirror'] === undefined
      if (volume === undefined || !free || volume.properties['retained'] === true) continue
      // Images of a volume that is being converted name blocks that no other pair could find.
      if (isConverting(aggregate, volume)) continue
      const place = { id, aggregate: name, volumeId }
      if (role === 'Source') {
        const mirror: SourceRecord = {
          id,
          role,
          state: 'Baseline',
          generation: 1,
          base: 0,
          has: 0,
          from: NOTHING,
          strict: policy === 'Strict',
          ...NOTHING,
        }
        await store.change(name, { op: 'mirror', id: volumeId, mirror })
      } else if (isEmpty(volume)) await this.#beginDestination(place, aggregate, volume)
    }
  }

  async #beginDestination(place: EndPlace, aggregate: FilerAggregate, volume: FilerVolume): Promise<void> {
    const store = this.#store
    const { id, volumeId } = place
    await this.#makeLogVolume(place, aggregate, volume)
    await volume.content.stop()
    const mirror: DestinationRecord = {
      id,
      role: 'Destination',
      state: 'Baseline',
      generation: 1,
      base: 0,
      fence: [0, 0],
      opening: 0,
    }
    await store.store.change(aggregate.name, () => {
      const now = aggregate.volume(volumeId)
      if (now !== volume || !isEmpty(now)) return undefined
      return { op: 'mirror', id: volumeId, mirror, index: freeIndex(aggregate) }
    })
    await store.publish(place)
  }

  async #makeLogVolume(
    { aggregate: name, volumeId }: EndPlace,
    aggregate: FilerAggregate,
    { name: volumeName }: FilerVolume,
  ): Promise<void> {
    const { env, volumes, limits } = this.#store.mirrors.options
    const { logFiles, epochBytes } = { ...SOURCE_LIMITS, ...limits }
    const id = logVolumeOf(volumeId)
    await this.#store.store.change(name, () =>
      aggregate.volume(id) === undefined
        ? {
            op: 'create',
            id,
            name: `${volumeName}.log`,
            sizeBytes: 2 * logFiles * epochBytes,
            fsid: volumes().fsidOf(id),
            index: freeIndex(aggregate),
            properties: {
              export: { path: '', rules: [] },
              seed: env.random.u32(),
              seconds: env.clock.wall().seconds,
              hidden: true,
            },
          }
        : undefined,
    )
  }

  // Other ways.

  async #becomeSource(end: BrokenEnd, { policy }: DesiredMirror): Promise<void> {
    const store = this.#store
    const known = recordOf(store, end) as DestinationRecord
    const { last, bytes } = end.tally
    const { broken, id, generation } = known
    const mirror: SourceRecord = {
      id,
      role: 'Source',
      state: 'OutOfSync',
      generation: generation + 1,
      base: pinsOf(volumeOf(store, end), known).at(-1)?.image ?? 0,
      has: broken!.has,
      from: broken!.from,
      strict: policy === 'Strict',
      last,
      bytes,
    }
    await store.change(end.aggregate, { op: 'mirror', id: end.volumeId, mirror })
  }

  /** The other end greets this one, which is no destination, as the source. */
  greeted(end: MirrorEnd, peer: string, message: Message): void {
    const head = message.head as Resume
    const { mirror, session, generation, images, has, opening, last } = head
    const store = this.#store
    const wanted = store.wanted(mirror)
    const record = recordOf(store, end)
    if (record === undefined) return
    const refuse = (reason: Refusal): void =>
      store.mirrors.link.send(peer, {
        type: 'refused',
        mirror,
        session,
        reason,
        generation: record.generation,
      })
    if (head.version !== MIRROR_VERSION || end instanceof UnknownEnd) return refuse('Version')
    if (wanted?.role !== 'Destination' || wanted.state !== 'Mirrored')
      return refuse(end instanceof SourceEnd ? 'Source' : 'Broken')
    // In sync the two ends change places together.
    if (end instanceof SourceEnd && record.state === 'InSync') return refuse('Source')
    if (generation <= record.generation) return refuse('Generation')
    const common = newestCommon(pinsOf(volumeOf(store, end), record), images) as
      Greeting['common'] | undefined
    if (common === undefined) return refuse('NoImage')
    const broken = record.role === 'Destination' ? record.broken : undefined
    const cut =
      broken !== undefined && record.role === 'Destination' && opening !== record.opening && last < broken.has
    this.#greetings.set(end.id, { common, other: { has, cut } })
    const divergence = this.#divergence(end)
    if (divergence !== undefined && wanted.discardChanges !== divergence.id)
      return refuse('WouldDiscardChanges')
    if (!this.#turning.has(end.id)) void this.#becomeDestination(end, generation, common.image)
  }

  #divergence(end: MirrorEnd): Divergence | undefined {
    const greeting = this.#greetings.get(end.id)
    const record = recordOf(this.#store, end)
    const tally =
      end instanceof BrokenEnd ? end.tally : end instanceof SourceEnd ? end.mirror.tally : undefined
    if (greeting === undefined || record === undefined || tally === undefined) return undefined
    return divergenceOf(record, tally, greeting.common, greeting.other)
  }

  async #becomeDestination(end: MirrorEnd, generation: number, image: number): Promise<void> {
    const store = this.#store
    const aggregate = store.store.aggregates.get(end.aggregate)!
    const volume = aggregate.volume(end.volumeId)!
    const agreed = this.#divergence(end)?.id
    this.#turning.add(end.id)
    try {
      await this.#makeLogVolume(end, aggregate, volume)
      await volume.content.stop()
      const mirror: DestinationRecord = {
        id: end.id,
        role: 'Destination',
        state: 'OutOfSync',
        generation,
        base: image,
        fence: [0, 0],
        opening: 0,
      }
      let turned = false
      await store.store.change(end.aggregate, () => {
        // What came in meanwhile nobody agreed to.
        if (aggregate.volume(end.volumeId) !== volume || this.#divergence(end)?.id !== agreed)
          return undefined
        turned = true
        return { op: 'mirror', id: end.volumeId, mirror, image }
      })
      if (!turned) return store.store.startContent(aggregate, volume)
      this.#greetings.delete(end.id)
      await store.publish(end)
      store.mirrors.options.env.log('info', 'mirror takes the other end as its source', {
        volume: volume.name,
        image,
        discarded: agreed ?? '',
      })
    } finally {
      this.#turning.delete(end.id)
    }
  }

  status(end: MirrorEnd): MirrorStatus {
    const status = end.status()
    if (end instanceof UnknownEnd) return status
    const wanted = this.#store.wanted(end.id)
    if (wanted?.state !== 'Mirrored') return status
    const divergence = wanted.role === 'Destination' ? this.#divergence(end) : undefined
    if (divergence !== undefined && wanted.discardChanges !== divergence.id) {
      const message = `becoming the destination would discard ${divergence.bytes} bytes of changes since ${new Date(divergence.sinceSeconds * 1000).toISOString()}; discardChanges: ${divergence.id} gives them up`
      return { ...status, reason: 'WouldDiscardChanges', message, divergence }
    }
    if (end instanceof BrokenEnd)
      return { ...status, reason: 'Resyncing', message: 'waits to hear of the other end' }
    if (end instanceof SourceEnd && wanted.role === 'Destination' && status.state !== 'InSync')
      return status.state === 'Reversing'
        ? status
        : { ...status, reason: 'NotInSync', message: 'the mirror is reversed when it is in sync' }
    return status
  }
}

function isEmpty({ content, snapshots }: FilerVolume): boolean {
  return content.files <= 1 && snapshots.none
}
