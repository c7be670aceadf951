/**
 * Drives the conversions of one side: check, cut-over, scan, join, and the way back. Every step is one of core/conversion or of the store; here is when, and what is told of it.
 *
 * Nothing here is remembered: what has been done stands in the aggregate's root and in the log, and after a takeover whoever serves goes on from there. One turn at a
 * time; a step that is not possible now leaves its reason for the status and is tried again.
 *
 * The cut-over holds the volume's changes for two steps only: a consistency point of what little is dirty, and one log record. Both cost the same for any number of files. If that takes
 * longer than HELD_MS_MAX, the changes go on in the old volume, and it is tried again later.
 */
import { DeviceError } from '../env/device.ts'
import type { Env, Timer } from '../env/env.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { SnapshotLost } from '../block/snapshot-queue.ts'
import { CONVERSION_VERSION } from '../block/label.ts'
import { adoptionOf } from '../conversion/in-place.ts'
import { conversionProblem, estimateOf, metadataOf, surveyOf } from '../conversion/check.ts'
import type { Problem, Survey } from '../conversion/check.ts'
import { BUILD_START } from '../fs/build.ts'
import { INODES_PER_BLOCK } from '../fs/inode.ts'
import { DamagedBlock } from '../fs/block-store.ts'
import type { AggregateStore, FilerAggregate, FilerVolume } from './aggregate-store.ts'
import type {
  ConversionCondition,
  ConversionPhase,
  ConversionsOptions,
  ConversionStatus,
  DesiredConversion,
} from './conversions-context.ts'
import { propertiesOf } from './served-volumes.ts'
import { carryOut } from './snapshot-orders.ts'
import { unfence } from './store-conversions.ts'

/** Between two slices of the scan. */
const TURN_MS = 20
/** When nothing is possible just now. */
const RETRY_MS = 1000
const HELD_MS_MAX = 1000
const SCAN_BLOCKS_PER_SECOND = 20_000
/** A volume that has changed in size by no more than this is as it was looked at. */
const SURVEY_SLACK = 0.05

export interface ConverterOptions extends ConversionsOptions {
  readonly store: AggregateStore
}

export class StoreConverter {
  readonly #options: ConverterOptions
  #desired: readonly DesiredConversion[] = []
  /** Why a conversion does not go on, by the volume's id. */
  readonly #problems = new Map<string, Problem>()
  readonly #cuttingOver = new Set<string>()
  /** What volumes hold, by their ids, and how many blocks they had when that was found out. */
  readonly #surveys = new Map<string, Survey & { readonly used: number }>()
  /** Aggregates in which the pass of the scan found something to do; one that this filer did not begin counts as such. */
  readonly #cleanSoFar = new Set<string>()
  #timer: Timer | undefined
  #running = false
  #stopped = false

  constructor(options: ConverterOptions) {
    this.#options = options
  }

  get #env(): Env {
    return this.#options.env
  }

  desire(desired: readonly DesiredConversion[]): void {
    this.#desired = desired
    this.#after(0)
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #after(delayMs: number): void {
    if (this.#running || this.#stopped) return
    this.#timer?.cancel()
    this.#timer = this.#env.clock.after(delayMs, () => {
      this.#running = true
      void this.#turn()
        .catch((error: unknown) => {
          // The side is closed, or a device failed: whoever serves it next goes on.
          if (!(error instanceof SnapshotLost || error instanceof DeviceError)) throw error
          return RETRY_MS
        })
        .then((next) => {
          this.#running = false
          this.#after(next)
        })
    })
  }

  /** Milliseconds until the next turn. */
  async #turn(): Promise<number> {
    const { store } = this.#options
    let next = RETRY_MS
    for (const [name, target] of [...store.aggregates]) {
      if (target.old?.holdsDevices !== true || this.#stopped) continue
      next = Math.min(next, await this.#advance(name, target))
    }
    for (const desired of this.#desired) {
      if (this.#stopped || this.#converted(desired) !== undefined) continue
      await this.#begin(desired)
    }
    return next
  }

  /** The aggregate in which the volume is a converted one. */
  #converted({ volumeId }: DesiredConversion): FilerAggregate | undefined {
    for (const target of this.#options.store.aggregates.values()) {
      const volume = target.volume(volumeId)
      if (target.old?.holdsDevices === true && volume?.index === target.old.record.volume) return target
    }
    return undefined
  }

  #source({ volumeId }: DesiredConversion): { source: FilerAggregate; volume: FilerVolume } | undefined {
    for (const source of this.#options.store.aggregates.values()) {
      const volume = source.volume(volumeId)
      if (volume !== undefined) return { source, volume }
    }
    return undefined
  }

  #check(desired: DesiredConversion): Problem | undefined {
    const found = this.#source(desired)
    if (found === undefined) return { reason: 'VolumeNotFound', message: 'the volume is not served here' }
    return conversionProblem(
      found.source,
      found.volume,
      this.#options.store.aggregates.get(desired.aggregate),
      desired.aggregate,
      this.#surveys.get(desired.volumeId),
      desired.snapshots ?? 'RequireNone',
    )
  }

  /** Looks at the volume, unless it is as it was. */
  async #survey(source: FilerAggregate, volume: FilerVolume): Promise<void> {
    const { id, used } = volume
    const known = this.#surveys.get(id)
    if (known !== undefined && Math.abs(used - known.used) <= SURVEY_SLACK * known.used) return
    this.#surveys.set(id, { ...(await surveyOf(source, volume)), used })
  }

  async #begin(desired: DesiredConversion): Promise<void> {
    const { volumeId } = desired
    const found = this.#source(desired)
    if (found === undefined) return
    if (desired.state !== 'RolledBack') await this.#survey(found.source, found.volume)
    const problem = desired.state === 'RolledBack' ? undefined : this.#check(desired)
    this.#note(volumeId, problem)
    if (problem !== undefined || desired.state !== 'Converted') return
    this.#cuttingOver.add(volumeId)
    try {
      const { source, volume } = found
      const waits = await this.#deleteSnapshots(desired, source, volume)
      this.#note(volumeId, waits ?? (await this.#cutOver(desired, source, volume)))
    } finally {
      this.#cuttingOver.delete(volumeId)
    }
  }

  /** As it is asked for now, if it still is. */
  #wanted({ id }: DesiredConversion): DesiredConversion | undefined {
    return this.#desired.find((one) => one.id === id && one.state === 'Converted')
  }

  /** What is left of them comes back by and by; until then the volume is not cut over. */
  async #deleteSnapshots(
    desired: DesiredConversion,
    { name }: FilerAggregate,
    volume: FilerVolume,
  ): Promise<Problem | undefined> {
    const { env, store } = this.#options
    const { snapshots } = volume
    for (const { name: snapshot } of snapshots.list()) {
      if (this.#stopped || this.#wanted(desired)?.snapshots !== 'Delete') break
      const requestId = `conversion:${snapshot}`
      const order = { volumeId: volume.id, op: 'Delete', snapshot, requestId } as const
      await carryOut(env, store, name, order)
    }
    if (snapshots.none) return undefined
    return { reason: 'NotYet', message: 'the snapshots of the volume are being deleted first' }
  }

  async #cutOver(
    desired: DesiredConversion,
    source: FilerAggregate,
    volume: FilerVolume,
  ): Promise<Problem | undefined> {
    const { env, store, moved } = this.#options
    const target = store.aggregates.get(desired.aggregate)!
    for (const aggregate of [source, target]) await aggregate.requireVersion(CONVERSION_VERSION)
    // What is dirty now need not be written while changes are held.
    await store.nextCp()
    const cutOver = `${source.root.cp}-${env.random.u32().toString(16)}`
    const release = store.hold(volume.id)
    const since = env.clock.now()
    let done = false
    try {
      source.setProperties({ ...source.properties, fence: { aggregate: target.name } })
      await store.nextCp()
      done = await store.convert(target.name, () => {
        const late = env.clock.now() - since > HELD_MS_MAX
        const changed = volume.isDirty || !volume.snapshots.none
        if (late || changed || this.#wanted(desired) === undefined || this.#check(desired) !== undefined)
          return undefined
        const adoption = adoptionOf(source, volume, target, cutOver, this.#estimate(source, volume))
        return { op: 'adopt', adoption, properties: propertiesOf(volume) }
      })
    } finally {
      if (!done) unfence(source)
      release()
    }
    if (!done) {
      return { reason: 'Busy', message: 'the cut-over took too long or was disturbed; it is tried again' }
    }
    env.log('info', 'volume cut over', {
      volume: volume.name,
      aggregate: target.name,
      heldMs: Math.round(env.clock.now() - since),
    })
    await moved(target.volume(volume.id)!, store, target.name)
    return undefined
  }

  async #advance(name: string, target: FilerAggregate): Promise<number> {
    const old = target.old!
    const volume = target.volumeAt(old.record.volume)
    const { store } = this.#options
    if (old.state === 'joined') {
      const { joining } = target
      await target.finishJoin()
      store.forget(name)
      if (volume !== undefined) this.#note(volume.id, undefined)
      if (joining) this.#options.completed(store)
      return RETRY_MS
    }
    if (volume === undefined) return RETRY_MS
    const desired = this.#desired.find(({ volumeId }) => volumeId === volume.id)
    if (desired?.state === 'RolledBack') {
      this.#note(volume.id, await this.#rollBack(name, target, volume, desired))
      return RETRY_MS
    }
    this.#note(volume.id, undefined)
    if (desired?.state === 'Paused') return RETRY_MS
    if (old.state === 'absent') return await this.#scan(name, target, volume, desired)
    const source = store.conversions.sources.get(name)!
    if (!target.prepareJoin(source)) {
      this.#note(volume.id, {
        reason: 'NotRedundant',
        message: 'the devices join when both copies of the side are current: the other filer is not, yet',
      })
      return RETRY_MS
    }
    await store.nextCp()
    return 0
  }

  async #scan(
    name: string,
    target: FilerAggregate,
    volume: FilerVolume,
    desired: DesiredConversion | undefined,
  ): Promise<number> {
    const old = target.old!
    const rate = desired?.scanBlocksPerSecond ?? SCAN_BLOCKS_PER_SECOND
    // One that was begun elsewhere, or before a restart, may have found something.
    if (old.cursor[0] === BUILD_START[0] && old.cursor[2] === 0) this.#cleanSoFar.add(name)
    try {
      const step = await volume.content.build(old.cursor, Math.max(1, Math.round((rate * TURN_MS) / 1000)), {
        leaf: (bn) => {
          if (volume.mark(bn)) this.#cleanSoFar.delete(name)
        },
        built: () => {
          this.#cleanSoFar.delete(name)
          old.built += 1
        },
        copied: (blocks) => {
          old.copied += blocks
        },
      })
      if (step.noSpace) {
        this.#note(volume.id, {
          reason: 'NoSpace',
          message: `there is no room in aggregate ${name} for the volume's metadata: give the aggregate more devices, or delete files`,
        })
        this.#options.store.wantCp()
        return RETRY_MS
      }
      if (target.old !== old || old.state !== 'absent') return 0
      old.cursor = step.cursor ?? BUILD_START
      if (step.cursor === undefined && this.#cleanSoFar.has(name)) old.state = 'built'
      return this.#options.store.pressure() === 'NONE' ? TURN_MS : 5 * TURN_MS
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
      this.#note(volume.id, {
        reason: 'DeviceError',
        message: `the scan met a block that neither copy can give back (${error.message}); it tries again`,
      })
      return RETRY_MS
    }
  }

  async #rollBack(
    name: string,
    target: FilerAggregate,
    volume: FilerVolume,
    desired: DesiredConversion,
  ): Promise<Problem | undefined> {
    const { env, store, moved } = this.#options
    const problem = (): Problem | undefined => {
      const old = target.old!
      if (target.joining) return { reason: 'TooLate', message: 'the devices are joining the aggregate' }
      if (old.changed === 0 || desired.discardChanges === old.record.cutOver) return undefined
      return {
        reason: 'WouldDiscardChanges',
        message: `${old.changed} bytes of changes were made since the cut-over and would be lost; set discardChanges to ${old.record.cutOver} to accept that`,
      }
    }
    const first = problem()
    if (first !== undefined) return first
    const release = store.hold(volume.id)
    try {
      const { seconds } = env.clock.wall()
      await store.convert(name, () => (problem() === undefined ? { op: 'undo', seconds } : undefined))
    } finally {
      release()
    }
    if (target.old?.state !== 'undone') return problem()
    const source = store.aggregates.get(target.old.record.aggregate)!
    env.log('info', 'conversion undone', { volume: volume.name, aggregate: name })
    await moved(source.volume(volume.id)!, store, source.name)
    return undefined
  }

  /** Blocks of metadata; 0 before the volume was looked at. */
  #estimate(source: FilerAggregate, volume: FilerVolume): number {
    const survey = this.#surveys.get(volume.id)
    return survey === undefined ? 0 : estimateOf(source, volume, survey)
  }

  #note(volumeId: string, problem: Problem | undefined): void {
    if (problem === undefined) {
      this.#problems.delete(volumeId)
      return
    }
    const known = this.#problems.get(volumeId)
    this.#problems.set(volumeId, problem)
    if (known?.message !== problem.message)
      this.#env.log('warn', 'conversion waits', { volumeId, ...problem })
  }

  status(): ConversionStatus[] {
    const statuses: ConversionStatus[] = []
    for (const desired of this.#desired) {
      const target = this.#converted(desired)
      if (target !== undefined) statuses.push(this.#statusOf(desired, target))
      else if (this.#source(desired) !== undefined) statuses.push(this.#statusBefore(desired))
    }
    return statuses
  }

  #statusBefore(desired: DesiredConversion): ConversionStatus {
    const { source, volume } = this.#source(desired)!
    const { id, volumeId, aggregate } = desired
    const problem = this.#check(desired)
    const later = this.#problems.get(volumeId)
    const undone = desired.state === 'RolledBack'
    // What the check finds is told as that.
    const wait = desired.state === 'Converted' && later?.reason === 'Busy' ? later : NOT_YET
    let phase: ConversionPhase = problem === undefined ? 'Checked' : 'Refused'
    if (problem?.reason === 'Checking') phase = 'Checking'
    if (undone) phase = 'RolledBack'
    else if (this.#cuttingOver.has(volumeId)) phase = 'CuttingOver'
    return {
      id,
      volumeId,
      aggregate,
      phase,
      percent: 0,
      inodesDone: 0,
      inodesTotal: volume.content.inoEnd,
      metadataEstimatedBytes: this.#estimate(source, volume) * BLOCK_BYTES,
      metadataActualBytes: 0,
      dataBlocksCopied: 0,
      absentLeft: 0,
      rollback: { possible: true, changedBytes: 0 },
      cutOverId: '',
      conditions: [
        condition('Checked', problem === undefined, problem ?? NOT_YET),
        condition('CutOver', false, wait),
        condition('Complete', false, NOT_YET),
        condition('RolledBack', undone, NOT_ASKED),
      ],
    }
  }

  #statusOf(desired: DesiredConversion, target: FilerAggregate): ConversionStatus {
    const { id, volumeId, aggregate } = desired
    const old = target.old!
    const { state } = old
    const complete = state === 'joined' && !target.joining
    const problem = this.#problems.get(volumeId)
    const volume = target.volume(volumeId)!
    const { inoEnd } = volume.content
    const written = metadataOf(target, volume)
    const done =
      state === 'absent'
        ? Math.min(inoEnd, Math.max(0, old.cursor[0]) * INODES_PER_BLOCK + old.cursor[1])
        : inoEnd
    let phase: ConversionPhase = state === 'absent' ? 'Scanning' : 'Joining'
    if (complete) phase = 'Complete'
    else if (desired.state === 'RolledBack' && !target.joining) phase = 'RollingBack'
    else if (desired.state === 'Paused' && state !== 'joined') phase = 'Paused'
    const paused = {
      reason: 'Paused',
      message: 'state is Paused: reading and writing go on, the scan does not',
    }
    const tooLate = {
      reason: 'TooLate',
      message: 'the devices have joined the aggregate: there is no way back',
    }
    const back =
      desired.state !== 'RolledBack' ? NOT_ASKED : state === 'joined' ? tooLate : (problem ?? ROLLING_BACK)
    return {
      id,
      volumeId,
      aggregate,
      phase,
      percent: inoEnd === 0 ? 100 : Math.floor((100 * done) / inoEnd),
      inodesDone: done,
      inodesTotal: inoEnd,
      metadataEstimatedBytes: old.record.estimate * BLOCK_BYTES,
      metadataActualBytes: written * BLOCK_BYTES,
      dataBlocksCopied: old.copied,
      absentLeft: state === 'absent' ? Math.max(1, old.record.estimate - written) : 0,
      rollback: { possible: state !== 'joined' && !target.joining, changedBytes: old.changed },
      cutOverId: old.record.cutOver,
      conditions: [
        condition('Checked', true, NOT_YET),
        condition('CutOver', true, NOT_YET),
        condition('Complete', complete, phase === 'Paused' ? paused : (problem ?? NOT_YET)),
        condition('RolledBack', false, back),
      ],
    }
  }
}

const NOT_YET: Problem = { reason: 'NotYet', message: '' }
const ROLLING_BACK: Problem = { reason: 'RollingBack', message: '' }
const NOT_ASKED: Problem = { reason: 'NotAsked', message: '' }

function condition(
  type: ConversionCondition['type'],
  is: boolean,
  { reason, message }: Problem,
): ConversionCondition {
  return is ? { type, status: 'True', reason: '', message: '' } : { type, status: 'False', reason, message }
}
