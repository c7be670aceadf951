/**
 * A pair of production filers (file layer, block layer, log, pair protocol, connection manager) in one simulated world: their media, two
 * networks, the vote, the Service of each side, and what may befall them.
 *
 * Invariants: a crash takes effect between two awaits of the filer; nothing of a killed filer reaches media, network or clients later. What
 * a filer dies of (an assertion, `fatal`) is a violation, never silently a restart.
 *
 * It does not know clients (sim/client.ts), nor which faults come when (sim/scenario.ts).
 */
import type { Connection } from '../core/connection/client.ts'
import { ConnectionManager } from '../core/connection/manager.ts'
import { Filer } from '../core/filer/filer.ts'
import type { ConversionStatus, DesiredConversion } from '../core/filer/conversions-context.ts'
import type { Desired, DesiredMirror, DesiredVolume } from '../core/filer/served-volumes.ts'
import type { SourceLimits } from '../core/mirror/source-host.ts'
import type { LogDevice } from '../core/nvlog/log-device.ts'
import { Mailbox } from '../core/pair/mailbox.ts'
import type { BrokenBuild } from '../core/pair/options.ts'
import { SimVoteServer } from '../core/pair/testing/sim-vote.ts'
import { Damage } from './damage.ts'
import { desiredOf, emptyOf, laterOf, traditionalOf } from './desired.ts'
import { BETWEEN, FILERS, LINKS, other } from './names.ts'
import type { FilerName, SideName } from './names.ts'
import type { SimFaults } from './device.ts'
import { SimDevice, SimMedium } from './device.ts'
import { SimNetwork } from './network.ts'
import { Power } from './power.ts'
import type { SimProcess } from './world.ts'
import { World } from './world.ts'

const PAIR_UID = 'simulated'
const BLOCK_BYTES = 4096

export interface PairOptions {
  readonly seed: number
  /** Devices of each aggregate, in blocks. */
  readonly deviceBlocks: readonly number[]
  /** Devices of the traditional volume of each side; none if not said. */
  readonly traditionalBlocks?: readonly number[]
  /** One device of an aggregate of each side in which there is nothing at first; none if not said. */
  readonly emptyBlocks?: number
  readonly volumeBytes: number
  /** Each side has a volume with a schedule of snapshots, which one client has for itself; so it has the traditional one. */
  readonly snapshots?: boolean
  readonly logBlocks: number
  readonly cacheBytes: number
  readonly givebackDelayMs: number
  /** A pass of the scrub takes about so long. */
  readonly scrubMs?: number
  /** The log of a mirrored side is in memory only. */
  readonly memoryLogs?: boolean
  /** The standby confirms what is read. */
  readonly confirmedReads?: boolean
  readonly broken?: BrokenBuild
  /** Another pair in the world of `beside`, called so. */
  readonly beside?: { readonly pair: FilerPair; readonly name: string }
  readonly mirrorLimits?: Partial<SourceLimits>
}

interface Media {
  readonly mailbox: SimMedium
  readonly logs: Record<SideName, SimMedium>
  /** Of the aggregate that each side has from the start. */
  readonly plexes: Record<SideName, SimMedium[]>
  /** Of the traditional volume of each side. */
  readonly traditional: Record<SideName, readonly SimMedium[]>
  /** Of an aggregate with nothing in it. */
  readonly empty: Record<SideName, SimMedium[]>
  /** Of aggregates that came later, one device each. */
  readonly later: Record<SideName, SimMedium[]>
}

/** How much of the media a filer is configured with: it learns of more when it starts again. */
interface Configured {
  devices: number
  /** Of the aggregate that a traditional volume is converted into. */
  empty: number
  aggregates: number
}

/** One aggregate of a side as one filer has it. */
export interface SimPlex {
  readonly name: string
  readonly type?: 'Traditional'
  readonly media: readonly SimMedium[]
}

export interface RunningFiler {
  readonly name: FilerName
  readonly process: SimProcess
  readonly connection: Connection
  filer: Filer | undefined
  /** Calls of clients that wait for an answer of this filer. */
  readonly waiting: Set<(cause: string) => void>
}

export class FilerPair {
  readonly world: World
  readonly network: SimNetwork
  readonly vote: SimVoteServer
  readonly options: PairOptions
  readonly media: Record<FilerName, Media>
  readonly running: Partial<Record<FilerName, RunningFiler>> = {}
  /** Where the Service of each side points. */
  readonly service: Record<SideName, FilerName> = { a: 'a', b: 'b' }
  readonly rates: Record<FilerName, number> = { a: 1, b: 1 }
  /** How many times slower its devices are. */
  readonly slowness: Record<FilerName, number> = { a: 1, b: 1 }
  readonly power: Power
  readonly configured: Record<FilerName, Record<SideName, Configured>>
  readonly uid: string
  /** Pairs to and from which there are mirrors. */
  readonly neighbours = new Set<FilerPair>()
  mirrors: readonly DesiredMirror[] = []
  /** Of the traditional volume of each side. */
  readonly conversions = new Map<SideName, DesiredConversion>()
  /** Volumes to which other pairs mirror theirs. */
  copies: readonly DesiredVolume[] = []
  #generations = 0
  readonly damage: Damage
  crashes = 0

  constructor(options: PairOptions) {
    this.options = options
    this.uid = options.beside?.name ?? PAIR_UID
    this.world = options.beside?.pair.world ?? new World(options.seed)
    this.power = new Power((names) =>
      this.world.after(0, () => {
        for (const name of names) this.crash(name)
      }),
    )
    this.network = options.beside?.pair.network ?? new SimNetwork(this.world)
    this.vote = new SimVoteServer(this.world)
    const plex = (filer: FilerName, side: SideName): SimMedium[] =>
      options.deviceBlocks.map((blocks, n) => new SimMedium(`${filer}/aggr-${side}-main-${n}`, blocks))
    const traditional = (filer: FilerName, side: SideName): readonly SimMedium[] =>
      (options.traditionalBlocks ?? []).map(
        (blocks, n) => new SimMedium(`${filer}/vol-${traditionalOf(side)}-main-${n}`, blocks),
      )
    const empty = (filer: FilerName, side: SideName): SimMedium[] =>
      options.emptyBlocks === undefined
        ? []
        : [new SimMedium(`${filer}/${emptyOf(side)}-main-0`, options.emptyBlocks)]
    const make = (filer: FilerName): Media => ({
      mailbox: new SimMedium(`${filer}/mailbox`, 2),
      logs: {
        a: new SimMedium(`${filer}/log-a`, options.logBlocks),
        b: new SimMedium(`${filer}/log-b`, options.logBlocks),
      },
      plexes: { a: plex(filer, 'a'), b: plex(filer, 'b') },
      traditional: { a: traditional(filer, 'a'), b: traditional(filer, 'b') },
      empty: { a: empty(filer, 'a'), b: empty(filer, 'b') },
      later: { a: [], b: [] },
    })
    this.media = { a: make('a'), b: make('b') }
    const first = (): Configured => ({ devices: options.deviceBlocks.length, empty: 1, aggregates: 0 })
    this.configured = { a: { a: first(), b: first() }, b: { a: first(), b: first() } }
    this.damage = new Damage({
      random: this.world.random,
      mirrored: (side) => this.vote.record?.sides[side]?.mirrored === true,
      plexes: (filer) =>
        FILERS.flatMap((side) =>
          this.plexes(filer, side).flatMap(({ media }) => media.map((medium) => ({ side, medium }))),
        ),
      logs: (filer) => FILERS.map((side) => ({ side, medium: this.media[filer].logs[side] })),
    })
  }

  /** Sides whose later aggregates are to go. */
  readonly #retired = new Set<SideName>()

  /** Paths of the volumes of a side. */
  exports(side: SideName): readonly string[] {
    return this.options.traditionalBlocks === undefined || this.options.snapshots === true
      ? [`/${side}`]
      : [`/${side}`, `/${traditionalOf(side)}`]
  }

  /** Names of the volumes of a side of which one client makes snapshots, alone. */
  snapshotVolumes(side: SideName): readonly string[] {
    if (this.options.snapshots !== true) return []
    const own = `snap-${side}`
    return this.options.traditionalBlocks === undefined ? [own] : [own, traditionalOf(side)]
  }

  plexes(filer: FilerName, side: SideName): readonly SimPlex[] {
    const { plexes, traditional, empty, later } = this.media[filer]
    const list: SimPlex[] = [{ name: `aggr-${side}`, media: plexes[side] }]
    if (empty[side].length > 0) list.push({ name: emptyOf(side), media: empty[side] })
    for (const [n, medium] of later[side].entries()) list.push({ name: laterOf(side, n), media: [medium] })
    if (this.options.traditionalBlocks !== undefined) {
      list.push({ name: `vol-${traditionalOf(side)}`, type: 'Traditional', media: traditional[side] })
    }
    return list
  }

  /** Those that the filer knows of since it started. */
  #configuredPlexes(filer: FilerName, side: SideName): readonly SimPlex[] {
    const { devices, empty, aggregates } = this.configured[filer][side]
    const unknown = this.media[filer].later[side].map((_, n) => laterOf(side, n)).slice(aggregates)
    const known = new Map([
      [`aggr-${side}`, devices],
      [emptyOf(side), empty],
    ])
    return this.plexes(filer, side)
      .filter(({ name }) => !unknown.includes(name))
      .map((one) => ({ ...one, media: one.media.slice(0, known.get(one.name)) }))
  }

  get #desired(): Desired {
    const { generation, volumes, ...desired } = desiredOf(
      this.options,
      (side) => this.media.a.later[side].length,
      this.#retired,
    )
    return {
      ...desired,
      generation: generation + this.#generations,
      // Volumes of several pairs in one world have names of their own.
      volumes: [
        ...volumes.map((volume) =>
          volume.name === 'a' || volume.name === 'b' ? { ...volume, id: this.volumeId(volume.name) } : volume,
        ),
        ...this.copies,
      ],
      ...(this.mirrors.length === 0 ? {} : { mirrors: this.mirrors }),
      ...(this.conversions.size === 0 ? {} : { conversions: [...this.conversions.values()] }),
    }
  }

  /** A blank device more for the side's aggregate or the one that a volume is converted into, or a new aggregate with one device; filers know of it when they start again. */
  add(side: SideName, what: 'device' | 'empty' | 'aggregate', blocks: number): void {
    for (const name of FILERS) {
      const { plexes, empty, later } = this.media[name]
      const media = { device: plexes, empty, aggregate: later }[what][side]
      media.push(new SimMedium(`${name}/${what}-${side}-${media.length}`, blocks))
    }
  }

  /** The volumes of the side's later aggregates are removed; filers know these aggregates no more when they start again. */
  async retire(side: SideName): Promise<void> {
    this.#retired.add(side)
    for (const name of FILERS) await this.running[name]?.filer?.apply(this.#desired)
  }

  /** Every filer is told of these mirrors; the one does not wait for the other, which may crash over it. */
  async mirror(mirrors: readonly DesiredMirror[]): Promise<void> {
    this.mirrors = mirrors
    this.#generations += 1
    await Promise.all(FILERS.flatMap((name) => this.running[name]?.filer?.apply(this.#desired) ?? []))
  }

  /** The traditional volume of a side becomes one in its empty aggregate, or the opposite, whatever is lost by it. */
  convert(side: SideName, state: DesiredConversion['state']): void {
    this.conversions.set(side, {
      id: `conversion-${side}`,
      volumeId: `volume-${traditionalOf(side)}`,
      aggregate: emptyOf(side),
      state,
      scanBlocksPerSecond: 5000,
      discardChanges: this.conversionOf(side)?.cutOverId ?? '',
    })
    this.#generations += 1
    // Not waited for: the power may fail meanwhile, and whoever starts later is told, too.
    for (const name of FILERS) void this.running[name]?.filer?.apply(this.#desired)
  }

  conversionOf(side: SideName): ConversionStatus | undefined {
    return this.running[this.ownerOf(side)]?.filer?.conversions
      .status()
      .find(({ id }) => id === `conversion-${side}`)
  }

  /** Of the flexible volume of a side: unlike any other pair's. */
  volumeId(side: SideName): string {
    return this.options.beside === undefined ? `volume-${side}` : `volume-${this.uid}-${side}`
  }

  /** What a filer is called among all pairs; a pair that is alone needs no name of its own. */
  nameOf(name: FilerName): string {
    return this.options.beside === undefined ? name : `${this.uid}.${name}`
  }

  /** The next start of this filer is with all media that there are. */
  configure(name: FilerName): void {
    for (const side of FILERS) {
      const { plexes, empty, later } = this.media[name]
      const aggregates = this.#retired.has(side) ? 0 : later[side].length
      this.configured[name][side] = { devices: plexes[side].length, empty: empty[side].length, aggregates }
    }
  }

  /** Planned, as a new pod comes: what it serves goes to the other filer; then it starts with all media that there are. */
  async renew(name: FilerName, limitMs: number): Promise<void> {
    const running = this.running[name]
    if (running?.filer) await this.world.wait(running.filer.stop(), limitMs, `planned end of ${name}`)
    this.crash(name)
    this.configure(name)
    this.start(name)
  }

  #device(name: FilerName, process: SimProcess, medium: SimMedium, wrong: SimFaults = {}): SimDevice {
    const random = process.random.fork()
    const faults: SimFaults = {
      ...wrong,
      latencyMs: (what, blocks) =>
        this.slowness[name] * (what === 'flush' ? random.between(0.2, 0.8) : 0.01 + 0.002 * blocks),
      onWrite: (block, blocks) => {
        this.power.writes(name, medium.name, block)
        return wrong.onWrite?.(block, blocks)
      },
      onFlush: () => this.power.flushes(name, medium.name),
    }
    return new SimDevice(medium, faults, process.env.clock)
  }

  #log(name: FilerName, process: SimProcess, medium: SimMedium, wrong?: SimFaults): LogDevice {
    const device = this.#device(name, process, medium, wrong)
    return {
      blocks: device.blocks,
      read: (block, into) => device.read(block, into),
      write: async (block, chunks) => {
        await device.write(block, chunks)
        await device.flush()
      },
    }
  }

  start(name: FilerName): void {
    if (this.running[name]) return
    const process = this.world.process(this.nameOf(name), { rate: this.rates[name] })
    this.power.lasts(name)
    this.#open(name, process).catch((error: unknown) => {
      if (process.alive) this.world.fail(error)
    })
  }

  async #open(name: FilerName, process: SimProcess): Promise<void> {
    const { env } = process
    const media = this.media[name]
    const partner = other(name)
    const waiting = new Set<(cause: string) => void>()
    // Until the mailbox is read there is no connection; a crash in between must find the process all the same.
    const running: RunningFiler = {
      name,
      process,
      connection: undefined as unknown as Connection,
      filer: undefined,
      waiting,
    }
    this.running[name] = running
    const mailbox = await Mailbox.open(env, this.#log(name, process, media.mailbox), this.uid)
    const connection = new ConnectionManager({
      env,
      systemId: name,
      partnerId: partner,
      incarnation: mailbox.incarnation,
      logBytes: this.options.logBlocks * BLOCK_BYTES,
      drivers: LINKS.map((link) => this.network.driver(process, link)),
      peerAddresses: Object.fromEntries(LINKS.map((link) => [link, `${this.nameOf(partner)}/${link}`])),
    })
    const peers = [...this.neighbours].flatMap((pair) =>
      FILERS.map((peer) => {
        const theirs = pair.nameOf(peer)
        const manager = new ConnectionManager({
          env,
          systemId: this.nameOf(name),
          partnerId: theirs,
          incarnation: mailbox.incarnation,
          logBytes: 0,
          drivers: [this.network.driver(process, BETWEEN, `${this.nameOf(name)}/${theirs}`)],
          peerAddresses: { [BETWEEN]: `${theirs}/${this.nameOf(name)}` },
        })
        return [theirs, manager] as const
      }),
    )
    Object.assign(running, { connection })
    const side = (home: SideName) => ({
      log: this.#log(name, process, media.logs[home], this.damage.logFaults(name, home)),
      aggregates: this.#configuredPlexes(name, home).map(({ name: aggregate, type, media: plex }) => ({
        name: aggregate,
        ...(type === undefined ? {} : { type }),
        devices: plex.map((medium, n) => ({
          name: `${aggregate}-main-${n}`,
          device: this.#device(name, process, medium, this.damage.plexFaults(name, home, medium)),
        })),
      })),
    })
    const filer = new Filer({
      env,
      me: name,
      partner,
      pairUid: this.uid,
      cacheBytes: this.options.cacheBytes,
      mailbox,
      vote: this.vote.client(process),
      connection,
      sides: { a: side('a'), b: side('b') },
      hooks: {
        moveService: (moved) => this.#moveService(process, name, moved as SideName),
        resetClients: () => {
          for (const reset of [...waiting]) reset('connection reset')
        },
        fatal: (cause, error) => {
          if (!process.alive) return
          const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
          this.world.fail(new Error(`filer ${name} ended: ${cause}: ${text}`))
          this.crash(name)
        },
      },
      durability: this.options.memoryLogs === true ? 'Memory' : 'Disk',
      times: { startGraceMs: 2000, resyncPauseMs: 200, resyncPauseMaxMs: 2000 },
      peers: Object.fromEntries(peers),
      ...(this.options.mirrorLimits === undefined ? {} : { mirrorLimits: this.options.mirrorLimits }),
      ...(this.options.scrubMs === undefined ? {} : { scrubIntervalMs: this.options.scrubMs }),
      ...(this.options.broken === undefined ? {} : { broken: this.options.broken }),
    })
    running.filer = filer
    connection.start()
    for (const [, manager] of peers) manager.start()
    await filer.apply(this.#desired)
    await filer.start()
  }

  #moveService(process: SimProcess, name: FilerName, side: SideName): Promise<void> {
    return new Promise((resolve, reject) => {
      this.world.after(this.world.random.between(1, 20), () => {
        if (!process.alive) return
        if (this.vote.silent) {
          process.post(() => reject(new Error('API is silent')))
          return
        }
        this.service[side] = name
        process.post(resolve)
      })
    })
  }

  /** kill -9 together with a power failure: of what was not flushed, each write is kept, lost or torn. */
  crash(name: FilerName, silent = false): void {
    const running = this.running[name]
    if (!running) return
    delete this.running[name]
    this.crashes += 1
    this.world.note(`crash ${this.nameOf(name)}`)
    running.process.kill(silent)
    for (const reset of [...running.waiting]) reset('connection reset')
    for (const medium of this.#mediaOf(name)) medium.crash(this.world.random)
  }

  /** The filer and all its disks are lost for good; another one comes in its place, with blank ones. */
  replace(name: FilerName): void {
    this.crash(name)
    for (const medium of this.#mediaOf(name)) medium.stable.clear()
    this.start(name)
  }

  #mediaOf(name: FilerName): readonly SimMedium[] {
    const { mailbox, logs, ...disks } = this.media[name]
    const plexes = [disks.plexes, disks.traditional, disks.empty, disks.later].flatMap(({ a, b }) => [
      ...a,
      ...b,
    ])
    return [mailbox, logs.a, logs.b, ...plexes]
  }

  /** The filers that serve a side; more than one only while an old owner cannot answer any more. */
  serving(side: SideName): FilerName[] {
    return FILERS.filter((name) => this.running[name]?.filer?.pair.sides.get(side)?.serving)
  }

  ownerOf(side: SideName): FilerName {
    return (this.vote.record?.sides[side]?.owner as FilerName | undefined) ?? side
  }

  /** Served by the owner of the record, mirrored, with two complete copies, and the standby knows it; both believe the vote. */
  isGood(side: SideName): boolean {
    const record = this.vote.record?.sides[side]
    if (!record?.mirrored) return false
    return FILERS.every((name) => {
      const filer = this.running[name]?.filer
      const one = filer?.pair.sides.get(side)
      if (!filer || one?.record?.epoch !== record.epoch || one.doubtsVote) return false
      // The record may say mirrored for a moment when a filer has come back without its log.
      if (one.mail.state !== 'Complete') return false
      const serves = record.owner === name
      return one.serving === serves && (!serves || !filer.volumes.opening())
    })
  }

  /** Ends every fault but those of the past. */
  peace(): void {
    this.damage.rest()
    this.vote.silent = false
    this.vote.silentFor.clear()
    this.vote.late = 0
    this.vote.loseAnswer = 0
    for (const name of FILERS) {
      this.slowness[name] = 1
      this.power.lasts(name)
      this.running[name]?.process.resume()
    }
    for (const link of [...LINKS, BETWEEN]) {
      this.network.bandwidth(link, 0)
      this.network.heal(link)
    }
    for (const name of FILERS) this.start(name)
  }

  /** H10. */
  async untilGood(limitMs: number): Promise<void> {
    await this.world.until(
      () => FILERS.every((side) => this.isGood(side)),
      limitMs,
      'both sides served and mirrored (H10)',
    )
  }

  /** Every device that both filers are configured with belongs to the image. */
  async untilGrown(limitMs: number): Promise<void> {
    const waits = (side: SideName): boolean =>
      this.running[this.ownerOf(side)]?.filer?.stores.get(side)?.growth.waits !== false
    await this.world.until(() => !FILERS.some(waits), limitMs, 'all devices joined')
  }
}
