/**
 * Snapshots that a filer makes and deletes by itself, of the volumes that it serves, as the schedules in their properties say.
 *
 * - A snapshot is called `<schedule>.<yyyy-mm-ddThhmmZ>`, by the minute for which it was due; so the names say, to any filer at any time, what was made.
 * - What was missed while nobody served the volume is made up for by one snapshot, the latest that was due since the schedule came into force.
 * - `keep`: the oldest beyond it are deleted. Snapshots of a schedule that is there no more stay, and so do those made by hand.
 * - Without room, or with too many snapshots, it is tried again until the next one is due.
 *
 * It asks the clock when it is told to (`tick`), and carries nothing out itself.
 */
import type { Env } from '../env/env.ts'
import { latestTime, parseCron } from '../std/cron.ts'
import type { Snapshot } from '../block/volume-snapshots.ts'
import type { SnapshotAnswer } from './snapshot-orders.ts'
import type { KeptSchedule } from './volume-operation.ts'

export interface WantedSchedule {
  readonly name: string
  readonly cron: string
  readonly keep: number
}

/** A volume that is served here. */
export interface Scheduled {
  readonly id: string
  readonly schedules: readonly KeptSchedule[]
  readonly snapshots: { list(): readonly Snapshot[] }
  order(op: 'Create' | 'Delete', snapshot: string): Promise<SnapshotAnswer>
}

/** An order that was refused is tried again so much later. */
const RETRY_MS = 60_000
const STAMP = /^\d{4}-\d{2}-\d{2}T\d{4}Z$/

/** `known` with what is wanted now: a schedule that is as it was keeps its time. Undefined for none. Throws what is wrong with one. */
export function schedulesOf(
  wanted: readonly WantedSchedule[] | undefined,
  known: readonly KeptSchedule[] | undefined,
  now: number,
): readonly KeptSchedule[] | undefined {
  if (wanted === undefined || wanted.length === 0) return undefined
  return wanted.map(({ name, cron, keep }) => {
    const same = known?.find((one) => one[0] === name && one[1] === cron)
    return [name, cron, keep, same?.[3] ?? now]
  })
}

/** What cannot be a schedule; undefined if all can. */
export function scheduleProblem(wanted: readonly WantedSchedule[] | undefined): string | undefined {
  const bad = wanted?.find(({ cron }) => parseCron(cron) === undefined)
  return bad && `snapshot schedule ${bad.name}: "${bad.cron}" is no cron time`
}

export function nameAt(schedule: string, seconds: number): string {
  const text = new Date(seconds * 1000).toISOString()
  return `${schedule}.${text.slice(0, 13)}${text.slice(14, 16)}Z`
}

/** The seconds for which a snapshot of this schedule was due; undefined if it is another's. */
function dueOf(schedule: string, name: string): number | undefined {
  const stamp = name.slice(schedule.length + 1)
  if (!name.startsWith(`${schedule}.`) || !STAMP.test(stamp)) return undefined
  return Date.parse(`${stamp.slice(0, 13)}:${stamp.slice(13)}`) / 1000
}

export class SnapshotSchedules {
  readonly #env: Env
  readonly #running = new Set<string>()
  /** By volume and schedule: until when everything was looked at, and when to try again. */
  readonly #looked = new Map<string, { until: number; retryAt: number }>()

  constructor(env: Env) {
    this.#env = env
  }

  /** Makes and deletes what is due now; several volumes at a time, one thing at a time of each. */
  tick(volumes: Iterable<Scheduled>): void {
    for (const volume of volumes) {
      if (volume.schedules.length === 0 || this.#running.has(volume.id)) continue
      const due = this.#due(volume)
      if (due === undefined) continue
      this.#running.add(volume.id)
      due()
        .catch((error: unknown) => {
          this.#env.log('warn', 'schedule of snapshots stopped', { volume: volume.id, cause: String(error) })
        })
        .finally(() => this.#running.delete(volume.id))
    }
  }

  #due(volume: Scheduled): (() => Promise<void>) | undefined {
    const now = this.#env.clock.wall().seconds
    for (const [schedule, cron, keep, since] of volume.schedules) {
      const key = `${volume.id} ${schedule} ${cron}`
      const made = volume.snapshots
        .list()
        .map(({ name }) => ({ name, due: dueOf(schedule, name) }))
        .filter((one): one is { name: string; due: number } => one.due !== undefined)
        .sort((a, b) => a.due - b.due)
      const looked = this.#looked.get(key) ?? { until: since, retryAt: 0 }
      this.#looked.set(key, looked)
      if (this.#env.clock.now() < looked.retryAt) continue
      const surplus = made.length > keep ? made[0] : undefined
      if (surplus !== undefined) {
        return async () => {
          const answer = await volume.order('Delete', surplus.name)
          if (!answer.accepted) looked.retryAt = this.#env.clock.now() + RETRY_MS
        }
      }
      const parsed = parseCron(cron)
      // Times to come count for nothing: the clock was ahead, and was put right.
      const newest = made.filter((one) => one.due <= now).at(-1)?.due ?? 0
      const due = parsed && latestTime(parsed, Math.max(Math.min(looked.until, now), newest), now)
      if (due === undefined) {
        looked.until = now
        continue
      }
      return async () => {
        const answer = await volume.order('Create', nameAt(schedule, due))
        if (answer.accepted || answer.reason === 'SnapshotExists') looked.until = due
        else looked.retryAt = this.#env.clock.now() + RETRY_MS
      }
    }
    return undefined
  }
}
