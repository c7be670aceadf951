/**
 * A side's copy over real aggregates: what the pair protocol (core/pair) opens, replays, freezes and mirrors.
 *
 * All aggregates of a side freeze at one instant and share CP numbers. Volumes are made, changed and removed by logged operations
 * (records of volume 0, JSON), so that replay and takeover inherit them.
 */
import { Aggregate } from '../block/aggregate.ts'
import { AggregateError } from '../block/errors.ts'
import type { Label } from '../block/label.ts'
import { readLabel } from '../block/label.ts'
import { clearLabelArea } from '../block/plex.ts'
import { readPlex } from '../block/plex-info.ts'
import type {
  AggregateOffer,
  CopyDevice,
  Inspection,
  RootFacts,
  SideCopy,
  SideStore,
} from '../pair/side-copy.ts'
import { imageDevices, sourcesOn } from './store-conversions.ts'
import { offerOf, plainOffer } from './store-growth.ts'
import type { AggregateCopyOptions } from './aggregate-store.ts'
import { AggregateStore } from './aggregate-store.ts'

export class AggregateCopy implements SideCopy {
  readonly devices: readonly CopyDevice[]
  readonly aggregates: readonly string[]
  readonly #options: AggregateCopyOptions

  constructor(options: AggregateCopyOptions) {
    this.#options = options
    this.aggregates = options.aggregates.map(({ name }) => name)
    this.devices = options.aggregates.flatMap((aggregate) => aggregate.devices)
  }

  async inspect(known?: readonly string[]): Promise<Inspection> {
    const { env, aggregates, pairUid } = this.#options
    const roots: RootFacts[] = []
    let blank = 0
    // One whose volume another aggregate has taken in has no root of its own that counts.
    const sources = await sourcesOn(env, aggregates)
    let images: ReadonlyMap<string, readonly CopyDevice[]>
    try {
      images = await this.#images()
    } catch (error) {
      if (!(error instanceof AggregateError)) throw error
      return { state: 'Damaged', message: error.message }
    }
    for (const { name, type = 'Flexible', devices } of aggregates) {
      const image = images.get(name)
      if ((known && !known.includes(name)) || image === undefined) continue
      try {
        const plex = await readPlex(
          env,
          image.map((one) => one.device),
        )
        if (!plex) {
          if (known) return { state: 'Damaged', message: `aggregate ${name}: its devices are blank` }
          blank += 1
          continue
        }
        const label = plex.labels[0]!
        if (label.pairUid !== pairUid || label.aggregateName !== name) {
          return {
            state: 'Foreign',
            message: `${devices[0]!.name} belongs to ${label.aggregateName} of another pair`,
          }
        }
        if (label.type !== type) {
          const message = `${devices[0]!.name} is of an aggregate of type ${label.type}, not ${type}`
          return { state: 'Foreign', message }
        }
        const root = plex.roots[0]?.root
        if (root && sources.has(name) && plex.labels.every((one) => one.state === 'complete')) continue
        if (!root || plex.labels.some((one) => one.state !== 'complete')) {
          return { state: 'Damaged', message: `aggregate ${name} has no complete image` }
        }
        roots.push({
          aggregate: name,
          cp: root.cp,
          epoch: root.epoch,
          covers: root.covers,
          digest: root.image,
        })
      } catch (error) {
        if (!(error instanceof AggregateError)) throw error
        return { state: 'Damaged', message: `aggregate ${name}: ${error.message}` }
      }
    }
    if (aggregates.length > 0 && blank === aggregates.length) {
      return { state: 'Blank', message: 'the devices are new' }
    }
    return { state: 'Complete', roots }
  }

  async offer(known?: readonly string[]): Promise<readonly AggregateOffer[]> {
    const { env, aggregates, pairUid } = this.#options
    const offers: AggregateOffer[] = []
    for (const { name, devices } of aggregates) {
      const has = known?.includes(name) === true
      offers.push(has ? plainOffer(name, devices) : await offerOf(env, pairUid, name, devices))
    }
    return offers
  }

  async format(): Promise<void> {
    const { env, side, pairUid, aggregates } = this.#options
    for (const { name, type = 'Flexible', devices } of aggregates) {
      const plex = devices.map((one) => one.device)
      await Aggregate.format(env, { id: `${pairUid}/${name}`, name, side, pairUid, type }, [plex])
    }
  }

  async prepareTarget(damaged: boolean, known?: readonly string[]): Promise<string | undefined> {
    const { env, pairUid } = this.#options
    for (const [name, devices] of await this.#images()) {
      if (known && !known.includes(name)) continue
      const whole = await readPlex(
        env,
        devices.map((one) => one.device),
      ).catch((error: unknown) => (error instanceof AggregateError ? error : Promise.reject(error as Error)))
      if (!whole) continue
      if (!(whole instanceof AggregateError)) {
        if (whole.labels[0]!.pairUid !== pairUid) {
          return `aggregate ${name}: its devices belong to another pair`
        }
        if (!damaged) continue
      }
      const labels: (Label | 'version' | undefined)[] = []
      for (const { device } of devices) labels.push(await readLabel(env, device))
      for (const label of labels) {
        if (label === 'version') return `aggregate ${name}: a device has a later format`
        if (label && label.pairUid !== pairUid) return `aggregate ${name}: a device belongs to another pair`
      }
      const cause = whole instanceof AggregateError ? whole.message : 'the copy was damaged'
      env.log('warn', 'devices are made new, to be filled', { aggregate: name, cause })
      for (const { device } of devices) await clearLabelArea(device)
    }
    return undefined
  }

  #images() {
    const { env, aggregates } = this.#options
    return imageDevices(env, new Map(aggregates.map(({ name, devices }) => [name, devices])))
  }

  async open(known?: readonly string[]): Promise<SideStore> {
    const store = new AggregateStore(this.#options)
    await store.load(known)
    return store
  }
}
