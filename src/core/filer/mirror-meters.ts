/** The metrics of a filer's mirrors, from what it tells of those that it serves. */
import type { Metrics } from '../env/env.ts'
import type { MirrorStatus } from '../mirror/status.ts'

export const MIRROR_STATES = [
  'Baseline',
  'CatchUp',
  'Joining',
  'InSync',
  'OutOfSync',
  'Reversing',
  'Breaking',
  'Broken',
] as const satisfies readonly MirrorStatus['state'][]

const GAUGES = [
  ['tandem_mirror_lag_seconds', 'lagSeconds'],
  ['tandem_mirror_lag_bytes', 'lagBytes'],
  ['tandem_mirror_log_files', 'logFiles'],
  ['tandem_mirror_log_files_max', 'logFilesMax'],
  ['tandem_mirror_unacknowledged_records', 'unacknowledged'],
] as const

interface Told {
  readonly labels: Readonly<Record<string, string>>
  readonly sentBytes: number
}

export class MirrorMeters {
  readonly #metrics: Metrics
  #told = new Map<string, Told>()

  constructor(metrics: Metrics) {
    this.#metrics = metrics
  }

  /** `nameOf` a volume, by its id. */
  tell(mirrors: readonly MirrorStatus[], nameOf: (volumeId: string) => string): void {
    const before = this.#told
    this.#told = new Map()
    for (const mirror of mirrors) {
      const { id, volumeId, role, state, sentBytes } = mirror
      const labels = { mirror: id, volume: nameOf(volumeId), role }
      const key = JSON.stringify(labels)
      this.#state(labels, state)
      for (const [name, field] of GAUGES) this.#metrics.set(name, mirror[field], labels)
      // It counts from zero when the side is opened anew.
      const counted = before.get(key)?.sentBytes ?? 0
      this.#metrics.add(
        'tandem_mirror_sent_bytes_total',
        sentBytes < counted ? sentBytes : sentBytes - counted,
        labels,
      )
      this.#told.set(key, { labels, sentBytes })
      before.delete(key)
    }
    for (const { labels } of before.values()) {
      this.#state(labels, undefined)
      for (const [name] of GAUGES) this.#metrics.set(name, 0, labels)
    }
  }

  #state(labels: Told['labels'], present: string | undefined): void {
    for (const state of MIRROR_STATES)
      this.#metrics.set('tandem_mirror_state', state === present ? 1 : 0, { ...labels, state })
  }
}
