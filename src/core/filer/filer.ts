/**
 * A filer, assembled: both sides of its pair over their aggregates, the volumes that it serves now as one `Vfs`, and the desired state
 * of volumes made true on the sides it owns.
 *
 * What was asked of it (`Desired`) is not what decides after a crash: a volume exists because a logged operation made it. So a takeover
 * inherits volumes and exports without the operator.
 */
import { BufferCache } from '../block/buffer-cache.ts'
import type { Connection } from '../connection/client.ts'
import type { Env } from '../env/env.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import type { Mailbox } from '../pair/mailbox.ts'
import type { BrokenBuild, PairTimes } from '../pair/options.ts'
import type { SourceLimits } from '../mirror/source-host.ts'
import { Pair } from '../pair/pair.ts'
import type { Side } from '../pair/side.ts'
import type { MoveAnswer, PairPolicy } from '../pair/side-context.ts'
import { DEFAULT_POLICY } from '../pair/side-context.ts'
import type { Vote } from '../pair/vote.ts'
import type { Vfs } from '../vfs/vfs.ts'
import type { AggregateDevices, AggregateStore } from './aggregate-store.ts'
import { AggregateCopy } from './aggregate-copy.ts'
import { FilerVfs } from './filer-vfs.ts'
import { ConversionMeters } from './conversion-meters.ts'
import { Conversions } from './conversions.ts'
import { MirrorMeters } from './mirror-meters.ts'
import { Mirrors } from './mirrors.ts'
import type { SnapshotAnswer, SnapshotOrder } from './snapshot-orders.ts'
import type { Desired } from './served-volumes.ts'
import { ServedVolumes } from './served-volumes.ts'

export interface FilerSideOptions {
  readonly log: LogDevice
  readonly aggregates: readonly AggregateDevices[]
}

export interface FilerHooks {
  /** Point the side's Service here; asked again until it resolves, or the side is lost. */
  moveService(side: string, epoch: number): Promise<void>
  /** Connections of clients are to be closed: what they wait for is answered elsewhere. */
  resetClients(): void
  fatal(cause: string, error: unknown): void
}

export interface FilerOptions {
  readonly env: Env
  readonly me: string
  readonly partner: string
  readonly pairUid: string
  readonly cacheBytes: number
  readonly mailbox: Mailbox
  readonly vote: Vote
  readonly connection: Connection
  readonly sides: Readonly<Record<string, FilerSideOptions>>
  readonly hooks: FilerHooks
  /** Disk if not said. */
  readonly durability?: 'Disk' | 'Memory'
  readonly times?: Partial<PairTimes>
  /** Connections to filers of other pairs, by name, for mirrors. */
  readonly peers?: Readonly<Record<string, Connection>>
  readonly mirrorLimits?: Partial<SourceLimits>
  /** How long a pass of the scrub over an aggregate may take; a week unless something else is said. */
  readonly scrubIntervalMs?: number
  /** Only in tests. */
  readonly broken?: BrokenBuild
}

export interface Takeover {
  readonly side: string
  readonly filer: string
  readonly reason: string
  readonly atSeconds: number
  /** From the last sign of the old owner to the first answer; undefined until there was one. */
  readonly clientPauseMs?: number
}

const MOVE_RETRY_MS = 500
const GIVEBACK_CHECK_MS = 1000
/** Whoever asks a side for the first time later than this did not wait for it. */
const FIRST_ANSWER_MS = 60_000

export class Filer {
  readonly pair: Pair
  readonly vfs: Vfs
  readonly volumes: ServedVolumes
  readonly mirrors: Mirrors
  readonly conversions: Conversions
  readonly stores = new Map<string, AggregateStore>()
  readonly #conversionMeters: ConversionMeters
  readonly #mirrorMeters: MirrorMeters
  lastTakeover: Takeover | undefined
  readonly #options: FilerOptions
  readonly #copies = new Map<string, AggregateCopy>()
  readonly #mirroredSince = new Map<string, number>()
  /** Why the last giveback of a side was refused, so that it is said once. */
  readonly #givebackRefused = new Map<string, string>()
  /** Sides that were taken and have not answered yet: since when clients may have waited. */
  readonly #unanswered = new Map<string, number>()
  #desired: Desired | undefined
  #policy: PairPolicy = DEFAULT_POLICY
  #stopped = false

  constructor(options: FilerOptions) {
    this.#options = options
    const { env } = options
    // Clean blocks may be dropped at any time; changed ones are bounded apart, so that both fit into what the pod has.
    const cache = new BufferCache(Math.floor(options.cacheBytes * 0.6))
    const dirtyBytesMax = Math.floor(options.cacheBytes * 0.4)
    this.#conversionMeters = new ConversionMeters(env.metrics)
    this.#mirrorMeters = new MirrorMeters(env.metrics)
    this.volumes = new ServedVolumes(env, Object.keys(options.sides), this.stores)
    this.vfs = new FilerVfs(this.volumes)
    this.mirrors = new Mirrors({
      env,
      peers: options.peers ?? {},
      volumes: () => this.volumes,
      fence: (side) => [this.pair.sides.get(side)?.record?.epoch ?? 0, options.mailbox.incarnation],
      ...(options.mirrorLimits === undefined ? {} : { limits: options.mirrorLimits }),
      broken: options.broken?.mirror ?? {},
    })
    this.conversions = new Conversions({
      env,
      moved: (volume, store, aggregate) => this.volumes.publish(volume, store, aggregate),
      completed: (store) => {
        for (const [side, one] of this.stores) if (one === store) this.#reconcile(side)
      },
    })
    for (const [side, { aggregates }] of Object.entries(options.sides)) {
      const copy = new AggregateCopy({
        env,
        side,
        home: side === options.me,
        pairUid: options.pairUid,
        cache,
        aggregates,
        dirtyBytesMax,
        ...(options.scrubIntervalMs === undefined ? {} : { scrubIntervalMs: options.scrubIntervalMs }),
        broken: options.broken?.storage ?? {},
        mirroring: (store) => this.mirrors.attach(side, store),
        opened: (store) => {
          this.stores.set(side, store)
          this.conversions.opened(side, store)
        },
        joined: () => this.#reconcile(side),
        closed: () => {
          this.stores.delete(side)
          this.conversions.closed(side)
          this.volumes.changed()
        },
        onPartnerFailed: () => {
          const found = this.pair.sides.get(side)
          if (found) found.helloRefused = true
          found?.kick()
        },
      })
      this.#copies.set(side, copy)
    }
    this.pair = new Pair({
      env,
      me: options.me,
      partner: options.partner,
      pairUid: options.pairUid,
      mailbox: options.mailbox,
      vote: options.vote,
      connection: options.connection,
      sides: Object.fromEntries(
        Object.entries(options.sides).map(([side, { log }]) => [
          side,
          { copy: this.#copies.get(side)!, log },
        ]),
      ),
      hooks: {
        serving: (side, epoch, reason) => this.#serving(side, epoch, reason),
        stopped: () => {
          this.volumes.changed()
          options.hooks.resetClients()
        },
        answered: (side) => this.#answered(side),
        fatal: (cause, error) => options.hooks.fatal(cause, error),
      },
      policy: () => this.#policy,
      ...(options.durability === undefined ? {} : { durability: options.durability }),
      ...(options.times === undefined ? {} : { times: options.times }),
      ...(options.broken === undefined ? {} : { broken: options.broken }),
    })
  }

  async start(): Promise<void> {
    await this.pair.start()
    this.#watchGiveback()
  }

  /** What this filer serves goes to the partner, or is flushed. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.pair.stop()
  }

  get desired(): Desired | undefined {
    return this.#desired
  }

  /** Takes over a newer desired state; resolves when it is true on the sides owned here. */
  async apply(desired: Desired): Promise<number> {
    const known = this.#desired
    if (known && desired.generation < known.generation) return known.generation
    this.#desired = desired
    this.#policy = policyOf(desired)
    this.volumes.desire(desired)
    this.mirrors.desired = desired.mirrors ?? []
    this.conversions.desired = desired.conversions ?? []
    for (const side of this.stores.keys()) {
      await this.volumes.reconcile(side)
      await this.mirrors.reconcile(side)
    }
    return desired.generation
  }

  /** Moves a side to the other filer; asked of either. */
  async move(name: string, epoch: number): Promise<MoveAnswer> {
    const side = this.pair.sides.get(name)
    if (!side) return { accepted: false, reason: 'NoSuchSide', message: `there is no side ${name}` }
    if (epoch !== 0 && side.record?.epoch !== epoch) {
      return { accepted: false, reason: 'Moved', message: `the epoch is ${side.record?.epoch ?? 0} now` }
    }
    return side.ownsRecord ? side.handOver() : this.pair.askPartnerToHandOver(name)
  }

  async giveback(name: string, epoch: number): Promise<MoveAnswer> {
    const side = this.pair.sides.get(name)
    if (side?.record?.owner === name) return { accepted: true, reason: '', message: 'already at home' }
    return this.move(name, epoch)
  }

  /** Carries out an order about a snapshot of a volume that is served here. */
  snapshot(order: SnapshotOrder): Promise<SnapshotAnswer> {
    return this.volumes.snapshot(order)
  }

  /** Of `state: Stopped`: DONE when this filer's process may end. */
  get resting(): 'NO' | 'FLUSHING' | 'DONE' {
    return this.pair.resting
  }

  /** If the other filer goes now, this one carries on with everything. */
  readiness(): { readonly ok: boolean; readonly message: string } {
    for (const side of this.pair.sides.values()) {
      const { record } = side
      if (!record) return { ok: false, message: `side ${side.name}: ${side.decision.message}` }
      if (side.ownsRecord ? !side.serving : !(record.mirrored && side.mail.state === 'Complete')) {
        return { ok: false, message: `side ${side.name}: ${side.decision.message}` }
      }
    }
    return { ok: true, message: 'ready' }
  }

  #serving(side: string, epoch: number, reason: string): void {
    const { env, me } = this.#options
    const found = this.pair.sides.get(side)
    if (found?.tookOver !== undefined) {
      const since = found.pausedSince ?? env.clock.now()
      this.lastTakeover = {
        side,
        filer: me,
        reason: found.tookOver,
        atSeconds: env.clock.wall().seconds,
      }
      env.metrics.add('tandem_takeovers_total', 1, { side, reason: found.tookOver })
      this.#unanswered.set(side, since)
      found.tookOver = undefined
    }
    env.log('info', 'side served here', { side, epoch, reason })
    void this.#moveService(side, epoch)
    this.volumes
      .opened(side)
      .then(() => this.#reconcile(side))
      .catch((error: unknown) => {
        if (this.pair.sides.get(side)?.serving) this.#options.hooks.fatal('volumes cannot be opened', error)
      })
  }

  /** The survivor knows what its clients waited for: from the last sign of the old owner to the first answer of the new one. */
  #answered(side: string): void {
    const since = this.#unanswered.get(side)
    if (since === undefined || this.lastTakeover?.side !== side) return
    this.#unanswered.delete(side)
    const { clock, metrics } = this.#options.env
    const clientPauseMs = Math.round(clock.now() - since)
    // Nobody waited for an answer that was asked for so late.
    if (clientPauseMs > FIRST_ANSWER_MS) return
    this.lastTakeover = { ...this.lastTakeover, clientPauseMs }
    metrics.observe('tandem_client_pause_seconds', clientPauseMs / 1000, { side })
  }

  #reconcile(side: string): void {
    const reconciled = this.volumes.reconcile(side).then(() => this.mirrors.reconcile(side))
    reconciled.catch((error: unknown) => {
      if (this.pair.sides.get(side)?.serving) this.#options.hooks.fatal('volumes cannot be made', error)
    })
  }

  async #moveService(side: string, epoch: number): Promise<void> {
    const { env, hooks } = this.#options
    const current = (): boolean => {
      const found = this.pair.sides.get(side)
      return !this.#stopped && found?.serving === true
    }
    while (current()) {
      try {
        await hooks.moveService(side, this.pair.sides.get(side)?.record?.epoch ?? epoch)
        return
      } catch (error) {
        env.log('warn', 'Service not moved yet', {
          side,
          cause: error instanceof Error ? error.message : String(error),
        })
        await new Promise<void>((resolve) => env.clock.after(MOVE_RETRY_MS, resolve))
      }
    }
  }

  #watchGiveback(): void {
    if (this.#stopped) return
    const { env } = this.#options
    const now = env.clock.now()
    this.volumes.measure()
    this.#conversionMeters.tell(this.conversions.status(), (id) => this.#volumeName(id))
    this.#mirrorMeters.tell(this.mirrors.status(), (id) => this.#volumeName(id))
    this.volumes.keepSchedules()
    for (const side of this.pair.sides.values()) {
      this.#measure(side)
      const leaves = this.#desired?.maintenance?.filer === this.#options.me
      if (leaves && side.opened && side.record?.mirrored === true) void this.#giveBack(side)
      const away = side.serving && side.name !== this.#options.me && side.record?.mirrored === true
      if (!away) {
        this.#mirroredSince.delete(side.name)
        continue
      }
      const since = this.#mirroredSince.get(side.name) ?? now
      this.#mirroredSince.set(side.name, since)
      if (this.#givebackDue(side, now - since)) void this.#giveBack(side)
    }
    env.clock.after(GIVEBACK_CHECK_MS, () => this.#watchGiveback())
  }

  async #giveBack(side: Side): Promise<void> {
    const answer = await side.handOver()
    const key = answer.accepted ? '' : `${answer.reason}: ${answer.message}`
    if (key === this.#givebackRefused.get(side.name)) return
    this.#givebackRefused.set(side.name, key)
    this.#options.env.log(answer.accepted ? 'info' : 'warn', 'giveback', { side: side.name, ...answer })
  }

  #volumeName(id: string): string {
    const aggregates = [...this.stores.values()].flatMap((store) => [...store.aggregates.values()])
    for (const aggregate of aggregates) {
      const volume = aggregate.volume(id)
      if (volume !== undefined) return volume.name
    }
    return id
  }

  #measure(side: Side): void {
    const { metrics } = this.#options.env
    const labels = { side: side.name }
    metrics.set('tandem_side_serving', side.opened ? 1 : 0, labels)
    metrics.set('tandem_side_mirrored', side.record?.mirrored === true ? 1 : 0, labels)
    metrics.set('tandem_side_epoch', side.record?.epoch ?? 0, labels)
    metrics.set('tandem_resync_percent', side.resyncPercent ?? 0, labels)
  }

  #givebackDue(side: Side, inSyncMs: number): boolean {
    const policy = this.#desired?.takeover
    if (!policy) return false
    if (this.#desired?.maintenance?.filer === side.name) return false
    if (policy.givebackEpoch > 0 && side.record?.epoch === policy.givebackEpoch) return true
    // A filer that fails again and again is given its side back ever later.
    const again = Math.max(0, side.takeovers.count(this.#options.env.clock.now()) - 1)
    return policy.giveback === 'Automatic' && inSyncMs >= policy.givebackDelayMs * 2 ** again
  }
}

function policyOf({ takeover, state, reads, maintenance, acceptLoss }: Desired): PairPolicy {
  return {
    automatic: takeover.mode === 'Automatic',
    state: state ?? 'Running',
    reads: reads ?? 'Leased',
    ...(maintenance === undefined ? {} : { maintenance: maintenance.filer }),
    ...(acceptLoss === undefined ? {} : { acceptLoss }),
  }
}
