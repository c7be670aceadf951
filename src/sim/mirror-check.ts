/**
 * What must hold of mirrors at any moment, as far as it can be seen in filers from outside: looked at behind every event of the world. The letters are those of docs/mirroring.md.
 *
 * - B3: a log file that goes away is covered by an image that the destination's filers have durably.
 * - B4, B10: the images that a destination has, complete or durable, are pinned at its source.
 * - B6: beyond its durable image a destination in sync has at most W + Q + 1 log files, W being the source's freezes since that of the destination's last complete consistency point.
 * - B7: what the log files have is in the order of its records, each once and none missing, in the file of its epoch (`readLogs`; reading takes time).
 * - B9: the destination listens to no older source.
 * - B11: a source in sync has a destination that recorded it, and has all that was before the operations it was sent.
 */
import type { SourceLimits } from '../core/mirror/source-host.ts'
import { SOURCE_LIMITS } from '../core/mirror/source-host.ts'
import type { Extent } from '../core/mirror/tally.ts'
import { logFilesAtMost } from '../core/mirror/decisions.ts'
import type { AggregateStore } from '../core/filer/aggregate-store.ts'
import { DestinationEnd } from '../core/filer/mirror-destination-end.ts'
import { allPins } from '../core/filer/mirror-pins.ts'
import { SourceEnd } from '../core/filer/mirror-source-end.ts'
import { Violation } from './caller.ts'
import type { FilerPair } from './filer-pair.ts'
import type { World } from './world.ts'

/** One mirror, as it was made: where its first source and destination are. */
export interface Edge {
  readonly home: FilerPair
  readonly away: FilerPair
  readonly volumeId: string
  readonly path: string
}

export interface Checked {
  readonly world: World
  readonly pairs: readonly FilerPair[]
  readonly edges: readonly Edge[]
}

/** Freezes of a pair's side. */
interface Freezes {
  store: AggregateStore
  /** Number of the newest one, and of the last whose consistency point is complete. */
  newest: number
  complete: number
  count: number
}

/** Freezes of the source when the destination's newest consistency point was frozen, and its last complete one. */
interface Window {
  store: AggregateStore
  newest: number
  atNewest: number
  atComplete: number
}

interface Seen {
  destination: DestinationEnd
  epochs: readonly number[]
  generation: number
  fence: readonly [number, number]
}

/** How often log files are read, in milliseconds. */
const READ_MS = 150
/** So many records of a source may be on their way. */
const EXTENTS = 200

export class MirrorChecks {
  readonly #ring: Checked
  readonly #incompleteEpochs: number
  readonly #freezes = new Map<FilerPair, Freezes>()
  readonly #seen = new Map<number, Seen>()
  readonly #windows = new Map<string, Window>()
  /** How far a source was, of late. */
  readonly #extents = new Map<SourceEnd, Extent[]>()
  #reading = false
  #readAt = 0
  /** Most log files that each mirror had, and the bound then. */
  readonly most = new Map<number, { files: number; bound: number }>()
  /** How near log files came to the bound, while the source froze. */
  nearest = Infinity
  /** Times that log files were read and compared. */
  reads = 0

  constructor(ring: Checked, limits: Partial<SourceLimits> = {}) {
    this.#ring = ring
    this.#incompleteEpochs = { ...SOURCE_LIMITS, ...limits }.incompleteEpochs
  }

  #fail(n: number, what: string): never {
    throw new Violation(`mirror ${n} at ${this.#ring.world.now.toFixed(2)} ms: ${what}`)
  }

  #endAt(pair: FilerPair, n: number): SourceEnd | DestinationEnd | undefined {
    for (const end of pair.running[pair.ownerOf('a')]?.filer?.mirrors.ends() ?? []) {
      if (end.id === `m${n}` && (end instanceof SourceEnd || end instanceof DestinationEnd)) return end
    }
    return undefined
  }

  #storeAt(pair: FilerPair): AggregateStore | undefined {
    return pair.running[pair.ownerOf('a')]?.filer?.stores.get('a')
  }

  look(): void {
    for (const pair of this.#ring.pairs) this.#count(pair)
    for (const [n, { home, away }] of this.#ring.edges.entries()) {
      for (const [from, to] of [[home, away] as const, [away, home] as const]) {
        const source = this.#endAt(from, n)
        const destination = this.#endAt(to, n)
        if (destination instanceof DestinationEnd) this.#destination(n, to, destination)
        if (source instanceof SourceEnd && destination instanceof DestinationEnd)
          this.#both(n, from, source, to, destination)
      }
    }
    if (this.#reading || this.#ring.world.now - this.#readAt < READ_MS) return
    this.#reading = true
    this.#readAt = this.#ring.world.now
    this.#readLogs()
      .catch((error: unknown) => this.#ring.world.fail(error))
      .finally(() => {
        this.#reading = false
      })
  }

  /** Freezes of a side, and its last complete consistency point. */
  #count(pair: FilerPair): void {
    const store = this.#storeAt(pair)
    const owner = pair.running[pair.ownerOf('a')]?.filer?.pair.sides.get('a')?.owner
    if (store === undefined || owner === undefined) return
    const { newestCp } = store
    let freezes = this.#freezes.get(pair)
    if (freezes === undefined) {
      freezes = { store, newest: newestCp, complete: 0, count: 0 }
      this.#freezes.set(pair, freezes)
    } else if (freezes.store !== store) {
      // What was under way when the side was taken over may be in the image, or not.
      Object.assign(freezes, { store, newest: newestCp, count: freezes.count + 1 })
    } else if (newestCp !== freezes.newest) {
      freezes.complete = freezes.newest
      freezes.newest = newestCp
      freezes.count += 1
    }
    if (!owner.cpRunning) freezes.complete = newestCp
  }

  #destination(n: number, pair: FilerPair, destination: DestinationEnd): void {
    const { mirror } = destination
    const { epochs } = mirror.logs
    const { generation, fence } = mirror
    const seen = this.#seen.get(n)
    const same = seen?.destination === destination
    if (same && seen.epochs !== epochs) {
      const gone = seen.epochs.filter((epoch) => !epochs.includes(epoch))
      if (gone.length > 0) {
        const durable = Math.max(0, ...this.#pins(pair, destination).map(({ image }) => image))
        const early = gone.filter((epoch) => epoch > durable)
        if (early.length > 0) this.#fail(n, `log file ${early.join()} went; the image is ${durable} (B3)`)
      }
    }
    const older = seen !== undefined && (fence[0] - seen.fence[0] || fence[1] - seen.fence[1]) < 0
    if (same && older && generation === seen.generation)
      this.#fail(n, `listens to source ${fence.join('.')} behind ${seen.fence.join('.')} (B9)`)
    this.#seen.set(n, { destination, epochs, generation, fence })
  }

  #pins(pair: FilerPair, { aggregate, volumeId }: SourceEnd | DestinationEnd) {
    return allPins(this.#storeAt(pair)?.aggregates.get(aggregate)?.volume(volumeId))
  }

  #both(n: number, from: FilerPair, source: SourceEnd, to: FilerPair, destination: DestinationEnd): void {
    const { mirror } = destination
    const { record, inSync, joinImage } = source.mirror
    // An end that goes another way is none of the other one's.
    if (record.generation !== mirror.generation || record.state === 'Broken') return
    const pins = this.#pins(from, source).map(({ image }) => image)
    for (const image of [mirror.durableImage, mirror.completeImage])
      if (image !== 0 && !pins.includes(image))
        this.#fail(n, `the destination has image ${image}, the source has ${pins.join()} (B4, B10)`)
    if (!inSync || record.state !== 'InSync') return
    const { last, bytes } = source.mirror.tally
    const extents = this.#extents.get(source) ?? []
    if (extents.at(-1)?.last !== last) extents.push({ last, bytes })
    if (extents.length > EXTENTS) extents.shift()
    this.#extents.set(source, extents)
    if (mirror.state !== 'InSync' || mirror.durableImage < (joinImage ?? 0)) {
      const { state, durableImage } = mirror
      this.#fail(
        n,
        `in sync from ${joinImage ?? 0} on; the destination: ${state}, image ${durableImage} (B11)`,
      )
    }
    this.#bound(n, from, to, destination)
  }

  #bound(n: number, from: FilerPair, to: FilerPair, { mirror }: DestinationEnd): void {
    const [theirs, ours] = [this.#freezes.get(from), this.#freezes.get(to)]
    if (theirs === undefined || ours === undefined) return
    const { store, newest, complete } = ours
    const key = `${n} ${from.uid}`
    let window = this.#windows.get(key)
    if (window === undefined) {
      window = { store, newest, atNewest: 0, atComplete: 0 }
      this.#windows.set(key, window)
    } else if (window.store !== store) Object.assign(window, { store, newest, atNewest: window.atComplete })
    else if (window.newest !== newest) {
      window.atComplete = window.atNewest
      window.newest = newest
      window.atNewest = theirs.count
    }
    if (complete === newest) window.atComplete = window.atNewest
    const files = mirror.logs.epochs.filter((epoch) => epoch > mirror.durableImage).length
    const bound = logFilesAtMost(theirs.count - window.atComplete, this.#incompleteEpochs)
    if (files > bound) this.#fail(n, `${files} log files, at most ${bound} can be needed (B6)`)
    if (bound > this.#incompleteEpochs + 1) this.nearest = Math.min(this.nearest, bound - files)
    if (files > (this.most.get(n)?.files ?? 0)) this.most.set(n, { files, bound })
  }

  async #readLogs(): Promise<void> {
    for (const [n, { home, away }] of this.#ring.edges.entries()) {
      await this.#readLog(n, home, away)
      await this.#readLog(n, away, home)
    }
  }

  /** B7: the image and the log files are the source's records up to what the destination had when reading began. */
  async #readLog(n: number, from: FilerPair, to: FilerPair): Promise<void> {
    const source = this.#endAt(from, n)
    const destination = this.#endAt(to, n)
    if (!(source instanceof SourceEnd) || !(destination instanceof DestinationEnd)) return
    const { mirror } = destination
    const { session, durableImage } = mirror
    if (!source.mirror.inSync || source.mirror.record.state !== 'InSync' || session === 0) return
    const known = this.#extents.get(source)?.findLast(({ last }) => last <= mirror.last)
    const before = mirror.logs.epochs.join()
    const image = this.#pins(to, destination).find((pin) => pin.image === durableImage)
    if (image === undefined || known === undefined || known.last < image.covers) return
    const pins = this.#pins(from, source).filter(({ generation }) => generation === image.generation)
    const frames = await mirror.logs.frames().catch(() => undefined)
    // What was cut, released or left meanwhile was not read as it is.
    const moved =
      this.#endAt(to, n) !== destination ||
      this.#endAt(from, n) !== source ||
      mirror.session !== session ||
      !source.mirror.inSync ||
      mirror.durableImage !== durableImage ||
      mirror.logs.epochs.join() !== before
    if (frames === undefined || moved) return
    let [at, sum] = [image.covers, image.bytes]
    for (const { epoch, records } of frames) {
      for (const { seq, body } of records) {
        const first = pins.find((pin) => pin.covers >= seq)
        if (first !== undefined && epoch > first.image)
          this.#fail(n, `record ${seq} of image ${first.image} is in log file ${epoch} (B7)`)
        const above = pins.find((pin) => pin.image >= epoch && pin.covers < seq)
        if (above !== undefined)
          this.#fail(
            n,
            `record ${seq} is in log file ${epoch}, and image ${above.image} ends at ${above.covers} (B7)`,
          )
        if (seq <= at || seq > known.last) continue
        at = seq
        sum += body.length
      }
    }
    this.reads += 1
    if (sum !== known.bytes) {
      const { last, bytes } = known
      this.#fail(n, `up to record ${last} the source has ${bytes} bytes, image and log files ${sum} (B7)`)
    }
  }

  /** A run in which nothing was looked at shows nothing. */
  ended(): void {
    if (this.reads === 0) throw new Violation('no log file of a mirror was ever read (B7)')
  }
}
