/**
 * The volumes of the sides that this filer serves: routed by file-system id, made, changed and removed as desired.
 *
 * While any side is served elsewhere, an unknown id is taken to be there (the connection is closed, the client comes back at the right
 * place); STALE is only said by a filer that serves everything.
 */
import { AggregateError } from '../block/errors.ts'
import { REQUEST_BYTES_MAX } from '../block/snapshot-table.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import type { PairPolicy } from '../pair/side-context.ts'
import { asciiBytes } from '../std/ascii-json.ts'
import type { Export } from '../vfs/vfs.ts'
import type { AggregateStore, FilerAggregate, FilerVolume } from './aggregate-store.ts'
import type { DesiredConversion } from './conversions-context.ts'
import { freeIndex, isConverting, isServed } from './volumes.ts'
import type { ServedVolume, VolumeTable } from './filer-vfs.ts'
import { carryOut, refusedOrder } from './snapshot-orders.ts'
import type { SnapshotAnswer, SnapshotOrder } from './snapshot-orders.ts'
import { scheduleProblem, schedulesOf, SnapshotSchedules } from './snapshot-schedules.ts'
import type { WantedSchedule } from './snapshot-schedules.ts'
import { SnapshotView } from './snapshot-view.ts'
import type { VolumeOperation, VolumeProperties } from './volume-operation.ts'

/** As the operator hands it over (api/v1alpha1/filer-config.ts, DesiredState). */
export interface Desired {
  readonly generation: number
  readonly volumes: readonly DesiredVolume[]
  readonly mirrors?: readonly DesiredMirror[]
  readonly conversions?: readonly DesiredConversion[]
  readonly takeover: {
    readonly mode: 'Automatic' | 'Manual'
    readonly giveback: 'Automatic' | 'Manual'
    readonly givebackDelayMs: number
    readonly givebackEpoch: number
  }
  /** Running if not said. */
  readonly state?: PairPolicy['state']
  /** The named filer hands what it serves to the other, and gets nothing back while this is there. */
  readonly maintenance?: { readonly filer: string }
  readonly acceptLoss?: PairPolicy['acceptLoss']
  /** Leased if not said. */
  readonly reads?: PairPolicy['reads']
}
export interface DesiredVolume {
  readonly id: string
  readonly name: string
  readonly type: 'Flexible' | 'Traditional'
  readonly aggregate: string
  /** Of no account for a traditional volume. */
  readonly sizeBytes: number
  readonly export: VolumeProperties['export']
  readonly snapshotSchedules?: readonly WantedSchedule[]
  readonly state: 'Present' | 'Removed'
}
/** A mirror of which this pair has one end. */
export interface DesiredMirror {
  /** The same at both ends for ever, whichever is the source. */
  readonly id: string
  readonly role: 'Source' | 'Destination'
  /** One of `volumes`. A destination is empty when its mirror begins. */
  readonly volumeId: string
  /** Connections to the filers of the other pair, by the names under which this filer has them. */
  readonly peers: readonly string[]
  /** Broken: the destination is a volume of its own. Removed: so, and both ends forget the mirror. A mirror that nobody speaks of stays as it is. */
  readonly state: 'Mirrored' | 'Broken' | 'Removed'
  /** Relaxed if not said. */
  readonly policy?: 'Relaxed' | 'Strict'
  /** At least 3. */
  readonly logFilesMax?: number
  /** The id of the divergence that the end which is to be the destination may give up. */
  readonly discardChanges?: string
}

interface Served extends ServedVolume {
  readonly volume: FilerVolume
  readonly store: AggregateStore
  readonly aggregate: string
}

export class ServedVolumes implements VolumeTable {
  readonly #env: Env
  readonly #sides: readonly string[]
  readonly #stores: ReadonlyMap<string, AggregateStore>
  #byFsid = new Map<number, Served>()
  /** Volumes that are here but not served: their handles are STALE, not somebody else's. */
  readonly #retained = new Set<number>()
  /** Stores whose volumes are all in `#byFsid`: a side is opened in several steps, and until the last an unknown id may be its. */
  readonly #complete = new Map<string, AggregateStore>()
  #desired: Desired | undefined
  /** What has metrics. */
  #measured = new Map<
    string,
    { readonly labels: Readonly<Record<string, string>>; readonly metrics: readonly string[] }
  >()
  readonly #schedules: SnapshotSchedules
  readonly #running = new Map<string, Promise<void>>()
  /** Why a volume is not as desired, by id. */
  readonly failures = new Map<string, string>()

  constructor(env: Env, sides: readonly string[], stores: ReadonlyMap<string, AggregateStore>) {
    this.#env = env
    this.#sides = sides
    this.#stores = stores
    this.#schedules = new SnapshotSchedules(env)
  }

  byFsid(fsid: number): ServedVolume | 'ELSEWHERE' | 'LATER' | undefined {
    const served = this.#byFsid.get(fsid)
    if (served) return served
    const volume = this.#unpublished(fsid)
    if (volume !== undefined && volume.fsid === fsid && !isServed(volume)) return 'LATER'
    if (this.#retained.has(fsid)) return undefined
    // A destination, or its mirror was broken or reversed just now. A call that the other end carried out may come again, and must stay the same call: one that is told to come later
    // is another one then.
    if (volume !== undefined) return 'ELSEWHERE'
    return this.#stores.size < this.#sides.length || this.opening() ? 'ELSEWHERE' : undefined
  }
  /** Here, but not among those that are served. The files of a destination have the id of their source, from the first image on; the volume takes it when the mirror is broken. */
  #unpublished(fsid: number): FilerVolume | undefined {
    for (const store of this.#stores.values())
      for (const aggregate of store.aggregates.values())
        for (const volume of aggregate.volumes())
          if (volume.fsid === fsid || volume.content.fsid === fsid)
            if (propertiesOf(volume).hidden !== true) return volume
    return undefined
  }
  served(): Iterable<ServedVolume> {
    return this.#byFsid.values()
  }

  opening(): boolean {
    if (this.#stores.size === 0) return true
    for (const [side, store] of this.#stores) if (this.#complete.get(side) !== store) return true
    return false
  }

  desire(desired: Desired): void {
    this.#desired = desired
  }

  /** A side was closed: its volumes are gone from here at once. */
  changed(): void {
    const open = new Set(
      [...this.#stores.values()].flatMap((store) =>
        [...store.aggregates.values()].flatMap((one) => [...one.volumes()]),
      ),
    )
    for (const [fsid, { volume }] of this.#byFsid) if (!open.has(volume)) this.#byFsid.delete(fsid)
    const here = new Set([...open].map((volume) => volume.fsid))
    for (const fsid of this.#retained) if (!here.has(fsid)) this.#retained.delete(fsid)
  }

  /** A side was opened: its volumes are served as their properties say. */
  async opened(side: string): Promise<void> {
    const store = this.#stores.get(side)
    if (!store) return
    for (const [name, aggregate] of store.aggregates) {
      for (const volume of aggregate.volumes()) {
        await this.publish(volume, store, name)
        if (this.#stores.get(side) !== store) {
          this.changed()
          return
        }
      }
    }
    this.#complete.set(side, store)
  }

  async publish(volume: FilerVolume, store: AggregateStore, aggregate: string): Promise<void> {
    const properties = propertiesOf(volume)
    if (properties.hidden === true) return
    if (!isServed(volume)) {
      this.#byFsid.delete(volume.fsid)
      return
    }
    if (properties.retained === true) {
      this.#byFsid.delete(volume.fsid)
      this.#retained.add(volume.fsid)
      return
    }
    const root = await volume.content.rootHandle()
    const { path, rules } = properties.export
    const known = this.#byFsid.get(volume.fsid)
    const files =
      known?.volume === volume ? known.files : new SnapshotView(this.#env, volume, store.answerOf(aggregate))
    if (!isServed(volume)) return
    this.#retained.delete(volume.fsid)
    const exported: Export = { path, volume: volume.name, rules, root }
    this.#byFsid.set(volume.fsid, { files, export: exported, volume, store, aggregate })
  }

  /** Makes and deletes the snapshots that are due by schedules. */
  keepSchedules(): void {
    const served = [...this.#byFsid.values()].filter(
      ({ volume, store, aggregate }) => !isConverting(store.aggregates.get(aggregate)!, volume),
    )
    this.#schedules.tick(
      served.map(({ volume, store, aggregate }) => ({
        id: volume.id,
        schedules: propertiesOf(volume).schedules ?? [],
        snapshots: volume.snapshots,
        order: (op, snapshot) =>
          carryOut(this.#env, store, aggregate, {
            volumeId: volume.id,
            op,
            snapshot,
            requestId: `schedule:${snapshot}`,
          }),
      })),
    )
  }

  /** Tells the metrics of space and snapshots; what is not served here any more has 0 of everything. */
  measure(): void {
    const before = this.#measured
    this.#measured = new Map()
    const tell = (kind: string, name: string, ...figures: [metric: string, value: number][]): void => {
      this.#measured.set(`${kind} ${name}`, {
        labels: { [kind]: name },
        metrics: figures.map(([metric]) => metric),
      })
      before.delete(`${kind} ${name}`)
      for (const [metric, value] of figures) this.#env.metrics.set(metric, value, { [kind]: name })
    }
    for (const { volume } of this.#byFsid.values())
      tell(
        'volume',
        volume.name,
        ['tandem_volume_size_bytes', volume.sizeBytes],
        ['tandem_volume_used_bytes', volume.used * BLOCK_BYTES],
        ['tandem_snapshots', volume.snapshots.list().length],
        ['tandem_snapshot_held_bytes', volume.snapshots.heldBlocks * BLOCK_BYTES],
      )
    for (const [side, store] of this.#complete) {
      if (this.#stores.get(side) !== store) continue
      for (const [name, aggregate] of store.aggregates) {
        const { totalBytes, usedBytes } = aggregate.sizes()
        tell(
          'aggregate',
          name,
          ['tandem_aggregate_size_bytes', totalBytes],
          ['tandem_aggregate_used_bytes', usedBytes],
        )
      }
    }
    for (const { labels, metrics } of before.values())
      for (const metric of metrics) this.#env.metrics.set(metric, 0, labels)
  }

  /** Carries out an order about a snapshot. What comes from outside is looked at as it is. */
  async snapshot(order: SnapshotOrder): Promise<SnapshotAnswer> {
    const { volumeId, op, snapshot, requestId } = order
    const known = op === 'Create' || op === 'Delete' || op === 'Restore'
    if (!known || typeof snapshot !== 'string' || typeof requestId !== 'string') {
      return refusedOrder(
        'Failed',
        'an order has volumeId, op (Create, Delete or Restore), snapshot and requestId',
      )
    }
    if (requestId.length > REQUEST_BYTES_MAX || !/^[\x20-\x7e]*$/.test(requestId)) {
      return refusedOrder('Failed', `requestId has at most ${REQUEST_BYTES_MAX} characters of ASCII`)
    }
    for (const [side, store] of this.#stores) {
      for (const [name, aggregate] of store.aggregates) {
        const volume = aggregate.volume(volumeId)
        if (volume === undefined) continue
        if (isConverting(aggregate, volume)) {
          return refusedOrder(
            'Failed',
            `volume ${volume.name} is being converted: no snapshots until that is complete`,
          )
        }
        if (this.#complete.get(side) !== store) break
        if (propertiesOf(volume).retained === true) {
          return refusedOrder('NotServedHere', `volume ${volume.name} is retained: nothing serves it`)
        }
        return await carryOut(this.#env, store, name, order)
      }
    }
    const elsewhere = this.#stores.size < this.#sides.length || this.opening()
    return elsewhere || this.#desired?.volumes.some(({ id }) => id === volumeId) === true
      ? refusedOrder('NotServedHere', `this filer does not serve volume ${volumeId} now`)
      : refusedOrder('NoSuchVolume', `there is no volume ${volumeId}`)
  }

  /** Makes the volumes of a side as desired; one run at a time, the last desired state wins. */
  async reconcile(side: string): Promise<void> {
    const before = this.#running.get(side)
    const run = (async () => {
      await before
      await this.#reconcile(side)
    })()
    this.#running.set(
      side,
      run.catch(() => undefined),
    )
    await run
  }

  async #reconcile(side: string): Promise<void> {
    const store = this.#stores.get(side)
    if (!store || !this.#desired) return
    await this.#retainTheRest(store, this.#desired)
    for (const asked of this.#desired.volumes) {
      const wanted = asConverted(store, asked)
      const aggregate = store.aggregates.get(wanted.aggregate)
      if (!aggregate || this.#stores.get(side) !== store) continue
      try {
        await this.#reconcileVolume(store, aggregate, wanted)
        this.failures.delete(wanted.id)
      } catch (error) {
        // What this volume's spec asks for does not fit: its status says so, the others go on.
        if (!(error instanceof AggregateError)) throw error
        this.failures.set(wanted.id, error.message)
        this.#env.log('warn', 'volume not as desired', { volume: wanted.name, cause: error.message })
      }
    }
  }

  /** What nobody asks for any more stays in the aggregate, unserved, until it is adopted. */
  async #retainTheRest(store: AggregateStore, desired: Desired): Promise<void> {
    const wanted = new Set(desired.volumes.map(({ id }) => id))
    for (const [name, aggregate] of store.aggregates) {
      for (const volume of [...aggregate.volumes()]) {
        const { id, sizeBytes } = volume
        // Their mirrors say what becomes of them.
        if (propertiesOf(volume).hidden === true || !isServed(volume)) continue
        if (wanted.has(id) || propertiesOf(volume).retained === true) continue
        await store.change(name, () => {
          const current = aggregate.volume(id)
          if (!current) return undefined
          const properties = { ...propertiesOf(current), retained: true }
          return { op: 'change', id, name: current.name, sizeBytes, properties }
        })
        const retained = aggregate.volume(id)
        if (retained) await this.publish(retained, store, name)
      }
    }
  }

  async #reconcileVolume(
    store: AggregateStore,
    aggregate: FilerAggregate,
    wanted: DesiredVolume,
  ): Promise<void> {
    const volume = aggregate.volume(wanted.id)
    if (wanted.state === 'Removed') {
      if (!volume) return
      if (isConverting(aggregate, volume)) {
        throw new AggregateError('CONVERTING', 'the volume is being converted: end or undo that first')
      }
      this.#byFsid.delete(volume.fsid)
      await volume.content.stop()
      await store.change(wanted.aggregate, () =>
        aggregate.volume(wanted.id) ? { op: 'remove', id: wanted.id } : undefined,
      )
      return
    }
    if (volume && volume.type !== wanted.type) {
      throw new AggregateError('TYPE', `the volume is ${volume.type}, and cannot become ${wanted.type}`)
    }
    // A destination has what its source has; its name and its export are its own.
    if (volume && isAsWanted(volume, isServed(volume) ? wanted : { ...wanted, sizeBytes: volume.sizeBytes }))
      return
    if (volume === undefined) requireFree(store, wanted)
    const problem = scheduleProblem(wanted.snapshotSchedules)
    if (problem !== undefined) throw new AggregateError('PROPERTIES', problem)
    await store.change(wanted.aggregate, () => this.#operationFor(aggregate, wanted))
    const changed = aggregate.volume(wanted.id)
    if (changed) await this.publish(changed, store, wanted.aggregate)
  }

  #operationFor(aggregate: FilerAggregate, wanted: DesiredVolume): VolumeOperation {
    const { id, name } = wanted
    const volume = aggregate.volume(id)
    const sizeBytes = volume === undefined || isServed(volume) ? wanted.sizeBytes : volume.sizeBytes
    if (volume) {
      requireRoom(volume, sizeBytes)
      const { seed, seconds, schedules: known, mirror } = propertiesOf(volume)
      const schedules = schedulesOf(wanted.snapshotSchedules, known, this.#env.clock.wall().seconds)
      const properties = {
        seed,
        seconds,
        export: wanted.export,
        ...(schedules && { schedules }),
        ...(mirror && { mirror }),
      }
      return { op: 'change', id, name, sizeBytes, properties }
    }
    const { seconds } = this.#env.clock.wall()
    const schedules = schedulesOf(wanted.snapshotSchedules, undefined, seconds)
    const properties = {
      export: wanted.export,
      seed: this.#env.random.u32(),
      seconds,
      ...(schedules && { schedules }),
    }
    const index = freeIndex(aggregate)
    const type = wanted.type === 'Traditional' ? { type: wanted.type } : {}
    return { op: 'create', id, name, ...type, sizeBytes, fsid: this.fsidOf(id), index, properties }
  }

  /** From the volume's id, so that it is the same wherever and whenever it is asked; 48 bits, not 0. */
  fsidOf(id: string): number {
    const bytes = asciiBytes(id)
    const high = this.#env.crc32(bytes)
    const low = this.#env.crc32(asciiBytes('fsid'), high) & 0xffff
    let fsid = high * 0x10000 + low || 1
    while (this.#byFsid.has(fsid) || this.#retained.has(fsid)) fsid = (fsid + 1) % 2 ** 48 || 1
    return fsid
  }
}

export function propertiesOf(volume: FilerVolume): VolumeProperties {
  return volume.properties as unknown as VolumeProperties
}

/** Whether a volume can be made in an aggregate. Throws AggregateError CONVERTING. */
function requireFree(store: AggregateStore, { id, aggregate }: DesiredVolume): void {
  for (const [name, one] of store.aggregates) {
    const there = one.volume(id)
    if (there !== undefined) {
      throw new AggregateError('CONVERTING', `the volume is ${there.type} in ${name}, not in ${aggregate}`)
    }
  }
  const home = store.aggregates.get(aggregate)!
  const taken = home.old && home.volumeAt(home.old.record.volume)
  if (taken !== undefined && isConverting(home, taken)) {
    throw new AggregateError(
      'CONVERTING',
      `volume ${taken.name} is being converted into ${aggregate}: new volumes can be made there when that is complete`,
    )
  }
}

/** A volume is not made smaller than what its files and snapshots have: they would have no right to be there. Throws AggregateError SIZE. */
function requireRoom(volume: FilerVolume, sizeBytes: number): void {
  if (volume.type !== 'Flexible' || sizeBytes >= volume.sizeBytes) return
  const least = (volume.used + volume.snapshots.heldBlocks) * BLOCK_BYTES
  if (sizeBytes >= least) return
  throw new AggregateError(
    'SIZE',
    `${sizeBytes} bytes are less than what the volume and its snapshots use; the least possible size is ${least} bytes (${Math.ceil(least / 2 ** 20)}Mi)`,
  )
}

/** A volume that was converted is where it is now, and as large as it was, even if it is asked for as the traditional one that it was. */
function asConverted(store: AggregateStore, wanted: DesiredVolume): DesiredVolume {
  if (wanted.type !== 'Traditional') return wanted
  for (const [aggregate, one] of store.aggregates) {
    if (one.old?.holdsDevices !== true || one.old.record.aggregate !== wanted.aggregate) continue
    const volume = one.volume(wanted.id)
    if (volume) return { ...wanted, type: 'Flexible', aggregate, sizeBytes: volume.sizeBytes }
  }
  return wanted
}

function isAsWanted(volume: FilerVolume, wanted: DesiredVolume): boolean {
  const properties = propertiesOf(volume)
  return (
    properties.retained !== true &&
    volume.name === wanted.name &&
    // A traditional volume has what its devices hold.
    (volume.type === 'Traditional' || volume.sizeBytes === Math.floor(wanted.sizeBytes / 4096) * 4096) &&
    JSON.stringify(properties.export) === JSON.stringify(wanted.export) &&
    JSON.stringify(schedulesOf(wanted.snapshotSchedules, properties.schedules, 0)) ===
      JSON.stringify(properties.schedules)
  )
}
