/**
 * What is configured and not part of an opened side yet: devices of its aggregates, and whole aggregates. How they get in, and why not yet.
 *
 * A new aggregate is formatted on both plexes, takes part in the side's consistency points, and is the side's only after both mailboxes name it
 * (core/pair/growth.ts). It is formatted only over devices that are blank, or that hold an aggregate of this name and pair in which nothing ever was (an earlier
 * attempt). Equal images on both filers are taken as they are: an aggregate that had left the configuration, and comes back. Everything else waits.
 */
import { Aggregate } from '../block/aggregate.ts'
import type { CpSpec } from '../block/consistency-point.ts'
import { AggregateError } from '../block/errors.ts'
import type { AggregateType } from '../block/label.ts'
import { readLabel } from '../block/label.ts'
import { clearLabelArea } from '../block/plex.ts'
import { readPlex } from '../block/plex-info.ts'
import { ownerOf } from '../block/growth.ts'
import type { Device } from '../env/device.ts'
import { DeviceError } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { asciiBytes } from '../std/ascii-json.ts'
import type { AggregateOffer, CopyDevice, PartnerDevices, SideGrowth } from '../pair/side-copy.ts'
import type { FileSystem } from '../fs/volume.ts'

type FilerAggregate = Aggregate<FileSystem>

/** Aggregates of a side: each takes part in every consistency point. */
export const AGGREGATES_MAX = 64

interface Configured {
  readonly name: string
  readonly type: AggregateType
  readonly devices: readonly CopyDevice[]
}

export interface GrowthOptions {
  readonly env: Env
  readonly side: string
  readonly pairUid: string
  /** This filer is the side's home: its plex is number 0. */
  readonly home: boolean
  /** All that are configured. */
  readonly configured: readonly Configured[]
  /** Those that the side has. */
  readonly aggregates: ReadonlyMap<string, FilerAggregate>
  readonly open: (name: string, devices: readonly Device[]) => Promise<FilerAggregate>
  /** State of the side that a new aggregate begins with. */
  readonly present: () => CpSpec
  /** Its devices are those of another aggregate, or will be: it is none of its own any more. */
  readonly converted: (name: string) => boolean
  readonly admitted: (name: string, aggregate: FilerAggregate, durable: Promise<void>) => void
}

/** Of an aggregate that the side has. */
export function plainOffer(name: string, devices: readonly CopyDevice[]): AggregateOffer {
  const sizes = devices.map((one) => ({ name: one.name, blocks: one.device.blocks }))
  return { name, devices: sizes, content: 'Image', digest: '', message: '' }
}

/** What a filer has for an aggregate, from labels and roots alone. */
export async function offerOf(
  env: Env,
  pairUid: string,
  name: string,
  devices: readonly CopyDevice[],
): Promise<AggregateOffer> {
  const offer = { ...plainOffer(name, devices) }
  const labels = await Promise.all(devices.map(({ device }) => readLabel(env, device)))
  if (labels.every((label) => label === undefined)) return { ...offer, content: 'Blank' }
  for (const [i, label] of labels.entries()) {
    if (label === undefined) continue
    if (label === 'version' || label.pairUid !== pairUid || label.aggregateName !== name) {
      return { ...offer, content: 'Other', message: `${devices[i]!.name} belongs to ${ownerOf(label)}` }
    }
  }
  const head =
    devices[labels.findIndex((label) => label !== undefined && label !== 'version' && label.position === 0)]
  if (!head) return { ...offer, content: 'Other', message: 'the first device is missing or blank' }
  try {
    const plex = await readPlex(
      env,
      devices.map(({ device }) => device),
    )
    const root = plex?.roots[0]?.root
    const whole = plex?.labels.every((label) => label.state === 'complete') === true
    if (root && root.used > 0) {
      return whole
        ? { ...offer, content: 'Image', digest: root.image }
        : { ...offer, content: 'Other', message: 'it holds an image that is not whole' }
    }
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error
    const only = await readPlex(env, [head.device]).catch(() => undefined)
    // A device that is missing beside an image with something in it was lost; formatting that did not end leaves none.
    if (!only || only.roots.some(({ root }) => root.used > 0)) {
      return { ...offer, content: 'Other', message: error.message }
    }
  }
  return { ...offer, content: 'Empty' }
}

interface Joining {
  readonly aggregate: FilerAggregate
  /** A consistency point has written it to both plexes. */
  complete: boolean
}

export class StoreGrowth implements SideGrowth {
  readonly #options: GrowthOptions
  readonly #joining = new Map<string, Joining>()
  /** Why devices of an aggregate wait, by its name. */
  readonly #reasons = new Map<string, string>()
  /** Counts partners that left: what was prepared with one of them is worth nothing. */
  #partners = 0
  #refused = ''

  constructor(options: GrowthOptions) {
    this.#options = options
  }

  /** Aggregates that take part in consistency points and are not the side's yet. */
  *joining(): Generator<FilerAggregate> {
    for (const { aggregate } of this.#joining.values()) yield aggregate
  }

  get waits(): boolean {
    const { configured, aggregates, converted } = this.#options
    return (
      configured.some(({ name }) => !aggregates.has(name) && !converted(name)) ||
      [...aggregates.values()].some((aggregate) => aggregate.waiting.length > 0)
    )
  }

  get joined(): readonly string[] {
    return [...this.#joining].filter(([, { complete }]) => complete).map(([name]) => name)
  }

  refused(reason: string): void {
    this.#refused = reason
  }

  /** Devices of a configured aggregate that do not belong to its image, and why. */
  waiting(name: string): { readonly name: string; readonly reason: string }[] {
    const { configured, aggregates, converted } = this.#options
    const devices = converted(name) ? [] : (configured.find((one) => one.name === name)?.devices ?? [])
    const aggregate = aggregates.get(name)
    const reason = (this.#reasons.get(name) ?? this.#refused) || 'both copies must be current first'
    return devices
      .filter(({ device }) => aggregate?.waiting.some((one) => one.device === device) ?? true)
      .map((one) => ({ name: one.name, reason }))
  }

  async prepare(offers: readonly AggregateOffer[], partner: PartnerDevices): Promise<boolean> {
    const { env, configured, aggregates, converted } = this.#options
    this.#refused = ''
    let wanted = false
    for (const one of configured) {
      const { name, devices } = one
      const offer = offers.find((one) => one.name === name)
      const known = aggregates.get(name)
      try {
        if (known?.waiting.length === 0 || converted(name)) continue
        if (!offer) {
          this.#reasons.set(name, 'the other filer is not configured with it yet')
          continue
        }
        const attempt = known
          ? await this.#extend(name, known, devices, offer, partner)
          : await this.#join(one, offer, partner)
        wanted ||= attempt
      } catch (error) {
        if (!(error instanceof AggregateError || error instanceof DeviceError)) throw error
        this.#reasons.set(name, error.message)
        env.log('warn', 'devices do not join', { aggregate: name, cause: error.message })
      }
    }
    return wanted
  }

  admit(names: readonly string[], durable: Promise<void>): void {
    for (const name of names) {
      const { aggregate } = this.#joining.get(name)!
      this.#joining.delete(name)
      this.#reasons.delete(name)
      this.#options.admitted(name, aggregate, durable)
    }
  }

  /** A consistency point is complete; `parts` took part in it. */
  completed(parts: readonly FilerAggregate[]): void {
    for (const one of this.#joining.values()) {
      const { aggregate } = one
      if (parts.includes(aggregate) && aggregate.mirrorState === 'mirrored') {
        one.complete ||= aggregate.partner?.failure === undefined
      }
    }
  }

  /** The partner left: what has not joined begins anew. */
  detached(): void {
    this.#partners += 1
    for (const [name, { aggregate }] of this.#joining) {
      aggregate.detachPlex()
      this.#reasons.delete(name)
    }
    this.#joining.clear()
  }

  async #extend(
    name: string,
    aggregate: FilerAggregate,
    devices: readonly CopyDevice[],
    offer: AggregateOffer,
    partner: PartnerDevices,
  ): Promise<boolean> {
    if (aggregate.growing) return true
    const waiting = devices.filter(({ device }) => aggregate.waiting.some((one) => one.device === device))
    const own: Device[] = []
    const theirs: Device[] = []
    for (const one of waiting) {
      const twin =
        offer.devices.some((offered) => offered.name === one.name) && partner(one.name, one.device.blocks)
      if (!twin) continue
      own.push(one.device)
      theirs.push(twin)
    }
    if (own.length === 0) {
      this.#reasons.set(name, 'the other filer does not have the device yet')
      return false
    }
    await aggregate.prepareGrowth(own, theirs)
    this.#reasons.set(name, 'it joins with the next consistency point')
    return true
  }

  async #join(
    { name, type, devices }: Configured,
    theirs: AggregateOffer,
    partner: PartnerDevices,
  ): Promise<boolean> {
    const { env, pairUid, aggregates } = this.#options
    if (this.#joining.has(name)) return true
    const wait = (reason: string): boolean => {
      this.#reasons.set(name, reason)
      return false
    }
    if (aggregates.size + this.#joining.size >= AGGREGATES_MAX) {
      return wait(`a side has at most ${AGGREGATES_MAX} aggregates and traditional volumes`)
    }
    const tag = env.crc32(asciiBytes(name))
    const twin = [...aggregates.keys(), ...this.#joining.keys()].find(
      (one) => env.crc32(asciiBytes(one)) === tag,
    )
    if (twin !== undefined) return wait(`its name cannot be told from ${twin} in the log: choose another`)
    const remote: Device[] = []
    for (const one of devices) {
      const device = partner(one.name, one.device.blocks)
      if (!device) return wait(`the other filer does not have ${one.name} yet`)
      remote.push(device)
    }
    const own = await offerOf(env, pairUid, name, devices)
    const fresh = (offer: AggregateOffer): boolean => offer.content === 'Blank' || offer.content === 'Empty'
    if (fresh(own) && fresh(theirs)) return this.#begin({ name, type, devices }, remote, true)
    if (own.content === 'Image' && theirs.content === 'Image' && own.digest === theirs.digest) {
      return this.#begin({ name, type, devices }, remote, false)
    }
    const say = (whose: string, { content, message }: AggregateOffer): string => {
      const what = { Blank: 'are blank', Empty: 'hold nothing', Image: 'hold an image', Other: message }[
        content
      ]
      return `${whose} ${what}`
    }
    return wait(
      `${say('its devices here', own)}, ${say('those of the other filer', theirs)}: only blank ones can be made new, and nothing is written over`,
    )
  }

  async #begin(
    { name, type, devices }: Configured,
    remote: readonly Device[],
    format: boolean,
  ): Promise<boolean> {
    const { env, side, pairUid, home, open, present } = this.#options
    const own = devices.map(({ device }) => device)
    const partners = this.#partners
    if (format) {
      await Promise.all([clearAll(env, own), clearAll(env, remote)])
      const spec = { id: `${pairUid}/${name}`, name, side, pairUid, type }
      await Aggregate.format(env, spec, home ? [own, remote] : [remote, own], present())
    }
    const aggregate = await open(name, own)
    if (aggregate.type !== type) {
      this.#reasons.set(name, `its devices hold an aggregate of type ${aggregate.type}, not ${type}`)
      return false
    }
    // In the order of the image, as `own` may not be.
    const order = aggregate.own.devices.map((device) => remote[own.indexOf(device)]!)
    await aggregate.attachPlex(order, 'mirrored')
    if (partners !== this.#partners) {
      this.#reasons.set(name, 'the other filer was lost meanwhile')
      return false
    }
    this.#joining.set(name, { aggregate, complete: false })
    this.#reasons.set(name, 'it joins with the next consistency point')
    env.log('info', 'aggregate joins', { side, aggregate: name, formatted: format })
    return true
  }
}

/** The device with position 0 is the last to lose its label: what an attempt that did not end leaves is known by it. */
async function clearAll(env: Env, devices: readonly Device[]): Promise<void> {
  const labels = await Promise.all(devices.map((device) => readLabel(env, device)))
  const isHead = (i: number): boolean => {
    const label = labels[i]
    return label !== undefined && label !== 'version' && label.position === 0
  }
  for (const [i, device] of devices.entries()) if (!isHead(i)) await clearLabelArea(device)
  for (const [i, device] of devices.entries()) if (isHead(i)) await clearLabelArea(device)
}
