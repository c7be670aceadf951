/** The metrics of a filer's conversions, from what it tells of those whose volume it serves. */
import type { Metrics } from '../env/env.ts'
import { CONVERSION_PHASES } from './conversions-context.ts'
import type { ConversionPhase, ConversionStatus } from './conversions-context.ts'

const GAUGES = [
  ['tandem_conversion_inodes', 'inodesTotal'],
  ['tandem_conversion_inodes_done', 'inodesDone'],
  ['tandem_conversion_absent_blocks', 'absentLeft'],
  ['tandem_conversion_metadata_bytes', 'metadataActualBytes'],
  ['tandem_conversion_metadata_estimated_bytes', 'metadataEstimatedBytes'],
  ['tandem_conversion_data_blocks_copied', 'dataBlocksCopied'],
] as const satisfies readonly (readonly [string, keyof ConversionStatus])[]

type Labels = Readonly<Record<string, string>>

export class ConversionMeters {
  readonly #metrics: Metrics
  #told = new Map<string, Labels>()

  constructor(metrics: Metrics) {
    this.#metrics = metrics
  }

  /** `nameOf` a volume, by its id. */
  tell(conversions: readonly ConversionStatus[], nameOf: (volumeId: string) => string): void {
    const before = this.#told
    this.#told = new Map()
    for (const conversion of conversions) {
      const labels = { volume: nameOf(conversion.volumeId), aggregate: conversion.aggregate }
      const key = JSON.stringify(labels)
      this.#phase(labels, conversion.phase)
      for (const [name, field] of GAUGES) this.#metrics.set(name, conversion[field], labels)
      this.#metrics.set('tandem_conversion_changed_bytes', conversion.rollback.changedBytes, labels)
      this.#told.set(key, labels)
      before.delete(key)
    }
    // Served elsewhere, or forgotten.
    for (const labels of before.values()) {
      this.#phase(labels, undefined)
      for (const [name] of GAUGES) this.#metrics.set(name, 0, labels)
      this.#metrics.set('tandem_conversion_changed_bytes', 0, labels)
    }
  }

  #phase(labels: Labels, present: ConversionPhase | undefined): void {
    for (const state of CONVERSION_PHASES)
      this.#metrics.set('tandem_conversion_state', state === present ? 1 : 0, { ...labels, state })
  }
}
