/**
 * The other plex of an aggregate: attached, filled by a resync, joined by the consistency point that follows, left behind when it fails.
 */
import { DeviceError } from '../env/device.ts'
import type { Device } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { assert } from '../std/assert.ts'
import type { AggregateCore } from './aggregate-core.ts'
import type { Json } from './codec.ts'
import { AggregateError } from './errors.ts'
import { hadBy, NOTHING, withoutPasses, withPass } from './filling.ts'
import { readLabel } from './label.ts'
import type { Label } from './label.ts'
import type { Layout } from './layout.ts'
import { joinedLabel } from './old-blocks.ts'
import type { OldBlocks } from './old-blocks.ts'
import { formatPlex, newLabels, Plex } from './plex.ts'
import type { PlexInfo } from './plex-info.ts'
import { Resync } from './resync.ts'
import type { ResyncOptions } from './resync.ts'
import { hex, readRoots } from './root.ts'
import type { RootInfo } from './root.ts'

export type MirrorState = 'none' | 'stale' | 'resyncing' | 'joining' | 'mirrored'

/** The aggregate as this part of it sees it. */
export interface OtherPlexHost extends Pick<
  AggregateCore,
  'env' | 'id' | 'type' | 'layout' | 'io' | 'meta' | 'space' | 'own' | 'lineage'
> {
  readonly name: string
  readonly side: string
  readonly old: OldBlocks | undefined
  readonly root: RootInfo
  properties: Json
  /** A consistency point is under way. */
  readonly isWritingImage: boolean
  mirrorLost(error: Error): void
}

export class OtherPlex {
  plex: Plex | undefined
  state: MirrorState = 'none'
  private readonly host: OtherPlexHost
  private resyncing: Resync | undefined
  private copying: Promise<void> | undefined
  /** Counts attachments and detachments: what one began, the next one ends. */
  private attachments = 0
  /** What it has of the image. */
  private had = NOTHING

  constructor(host: OtherPlexHost) {
    this.host = host
  }

  /**
   * Takes in the devices of the other plex: 'mirrored' if their live root is equal to ours, which is verified, 'stale' to be filled by `resync`. Blank devices become
   * a plex; those of another aggregate are refused. Throws AggregateError; OLDER: what is in memory came from blocks that are older than the other plex has them.
   */
  async attach(devices: readonly Device[], state: 'mirrored' | 'stale'): Promise<void> {
    assert(this.plex === undefined, 'the other plex is attached')
    const { host } = this
    this.attachments += 1
    const attachment = this.attachments
    // Copies of a resync that was given up must not land behind those of the next one.
    await this.copying
    assertSizes(host.layout, devices)
    const { label } = host.own
    const { id, name, side, type } = host
    const spec = { id, name, side, type, pairUid: label.pairUid, version: label.version }
    let info = await readOther(host.env, devices, host.own, host.old)
    if (info === undefined) {
      if (state === 'mirrored') throw new AggregateError('BLANK', 'the other plex has no labels')
      const labels = newLabels(spec, 1 - label.plex, 'resyncing', host.layout)
      await formatPlex(host.env, devices, host.layout, labels)
      info = (await readOther(host.env, devices, host.own, host.old))!
    }
    const theirs = info.labels[0]!
    if (state === 'mirrored' && theirs.state !== 'complete') {
      throw new AggregateError('RESYNCING', 'the other plex was never completed')
    }
    if (state === 'mirrored' && (host.isWritingImage || info.roots[0]?.root.image !== host.root.image)) {
      throw new AggregateError(
        'UNEQUAL',
        'the other plex has another image, or will: a consistency point runs without it',
      )
    }
    // Given up while its labels were read: what they say is of no account, and nobody would detach it again.
    if (attachment !== this.attachments) {
      throw new DeviceError('EDETACHED', `the other plex of ${host.id} was detached meanwhile`)
    }
    const partner = new Plex(host.env, info.devices, host.layout, [...info.labels], info.roots[0]?.slot)
    if (info.unlabelled) await partner.relabel({})
    if (attachment !== this.attachments) {
      throw new DeviceError('EDETACHED', `the other plex of ${host.id} was detached meanwhile`)
    }
    this.plex = partner
    this.state = state
    this.had = hadBy(theirs, info.roots[0]?.root, host.lineage, host.properties)
    if (state !== 'mirrored') return
    host.io.mirror = partner
    const older = await host.meta.disproven()
    if (older !== undefined)
      throw new AggregateError(
        'OLDER',
        `block ${older} of a metafile is older than on the other plex: a write was lost`,
      )
  }

  /** The other plex takes no part from now on; a consistency point under way goes on without it. Its devices are not closed. */
  detach(): void {
    this.attachments += 1
    this.plex = undefined
    this.resyncing = undefined
    this.host.io.mirror = undefined
    this.state = 'none'
  }

  /**
   * Copies to a stale plex what it lacks: all that is in use, but blocks of an image that both have had. When it resolves the next consistency point goes to both plexes, and its two roots make them equal
   * (`state` is 'mirrored' when that is complete). Rejects with ResyncCancelled, DeviceError.
   */
  async resync(options: ResyncOptions = {}): Promise<void> {
    const { host, plex: partner } = this
    assert(partner !== undefined && this.state === 'stale', 'only a stale plex is resynced')
    const pass = hex(host.env.random.u32()) + hex(host.env.random.u32())
    const { cp } = host.root
    host.properties = withPass(host.properties, pass, cp, this.had)
    const resync = new Resync(host.env, host.own, partner, host.space, this.had, { pass, cp }, host.io.broken)
    this.resyncing = resync
    this.state = 'resyncing'
    const cancelled = (): boolean => this.resyncing !== resync || options.cancelled?.() === true
    const run = resync.run({ ...options, cancelled })
    this.copying = run.catch(() => undefined)
    try {
      await run
    } catch (error) {
      if (this.resyncing === resync) {
        this.resyncing = undefined
        this.state = 'stale'
        this.had = resync.had
      }
      throw error
    }
  }

  async catchUp(): Promise<void> {
    if (this.state !== 'joining' || this.resyncing === undefined) return
    try {
      await this.resyncing.finish()
    } catch (error) {
      this.failed(error)
    }
  }

  failed(error: unknown): void {
    const { plex: partner } = this
    if (partner?.fail(error) !== true) return
    this.host.io.mirror = undefined
    this.host.env.log('error', 'other plex failed', { aggregate: this.host.id, error })
    this.host.mirrorLost(partner.failure!)
  }

  /** A group was written on the own plex only. */
  missed(group: number): void {
    this.resyncing?.mark(group)
  }

  /** A resync is so far that the next consistency point makes both plexes equal. */
  get joins(): boolean {
    return this.resyncing?.ready === true || this.state === 'joining'
  }

  /** Asked at each freeze: whether the consistency point goes to it as well. */
  takesPart(): boolean {
    if (this.resyncing?.ready === true) this.state = 'joining'
    return (this.state === 'mirrored' || this.state === 'joining') && this.plex?.failure === undefined
  }

  /** A consistency point that went to it is complete. */
  joined(): void {
    const { host, plex } = this
    if (this.state !== 'joining' || plex?.failure !== undefined) return
    this.state = 'mirrored'
    this.resyncing = undefined
    host.properties = withoutPasses(host.properties)
    host.io.mirror = plex
  }
}

/**
 * What stands on the devices of the other plex, which come in the order of the image; undefined if it is nothing that could be used: blank or partly so, or not in
 * this order. Throws AggregateError LABELS if a device is another's, or belongs to the own plex.
 */
async function readOther(
  env: Env,
  devices: readonly Device[],
  own: Plex,
  old: OldBlocks | undefined,
): Promise<PlexInfo | undefined> {
  const labels: Label[] = []
  let unlabelled = false
  for (const [position, device] of devices.entries()) {
    const written = await readLabel(env, device)
    if (written === 'version') throw new AggregateError('VERSION', `${device.name} has a later format`)
    if (written === undefined) continue
    const joined = joinedLabel(written, { ...own.label, plex: 1 - own.label.plex }, old, own.layout)
    const label = joined ?? written
    unlabelled ||= joined !== undefined
    const { aggregateId, pairUid, plex, type } = own.label
    const ours = label.aggregateId === aggregateId && label.pairUid === pairUid && label.type === type
    if (!ours || label.plex === plex) {
      throw new AggregateError('LABELS', `${device.name} is not of the other plex of ${aggregateId}`)
    }
    const place = own.layout.devices[position]!
    const fits = label.position === position && label.blocks === place.blocks
    if (fits && label.firstPvbn === place.first) labels.push(label)
  }
  if (labels.length < devices.length) return undefined
  return { devices, labels, roots: await readRoots(env, devices[0]!), waiting: [], unlabelled }
}

export function assertSizes(layout: Layout, devices: readonly Device[]): void {
  const fits =
    devices.length === layout.devices.length &&
    devices.every((device, i) => device.blocks >= layout.devices[i]!.blocks)
  if (!fits) throw new AggregateError('SIZE', 'the devices of the plexes differ in number or size')
}
