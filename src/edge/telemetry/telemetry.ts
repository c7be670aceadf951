/**
 * `Metrics` for a real process: series in plain memory, shown through a prom-client registry, which also brings Node's own metrics.
 *
 * prom-client hashes the labels of every observation; a filer observes a hundred thousand operations a second. So the
 * series are kept here, found by the identity of the label object where the caller keeps one, and prom-client only asks for them
 * when somebody scrapes. A name or a label that the catalogue does not declare is a bug.
 */
import { Registry, collectDefaultMetrics } from 'prom-client'
import { assert } from '../../core/std/assert.ts'
import type { Labels, Metrics } from '../../core/env/env.ts'
import type { MetricSpec } from './catalogue.ts'
import { METRICS } from './catalogue.ts'

const NO_LABELS: Labels = {}

interface Series {
  readonly labels: Labels
  /** Counter or gauge; sum of a histogram. */
  value: number
  /** Observations of a histogram. */
  count: number
  /** Observations by bucket, each without those of smaller buckets; the last is +Inf. */
  readonly buckets: number[]
}

/** What prom-client asks of a metric at a scrape. */
interface Sample {
  readonly metricName?: string
  readonly labels: Record<string, string | number>
  readonly value: number
}

class Metric {
  readonly name: string
  readonly help: string
  readonly type: MetricSpec['type']
  readonly #labels: readonly string[]
  readonly #states: readonly string[] | undefined
  readonly bounds: readonly number[]
  readonly #series = new Map<string, Series>()
  readonly #byLabels = new WeakMap<Labels, Series>()

  constructor(spec: MetricSpec) {
    this.name = spec.name
    this.help = spec.help
    this.type = spec.type
    this.#labels = spec.labels ?? []
    this.#states = spec.states
    this.bounds = spec.buckets ?? []
    if (this.#labels.length === 0 && this.type !== 'histogram') this.series(NO_LABELS)
  }

  series(labels: Labels): Series {
    const known = this.#byLabels.get(labels)
    if (known) return known
    const given = Object.keys(labels)
    assert(
      given.length === this.#labels.length && this.#labels.every((label) => labels[label] !== undefined),
      `${this.name} has the labels [${this.#labels.join(', ')}], not [${given.join(', ')}]`,
    )
    const { state } = labels
    assert(!this.#states || this.#states.includes(state!), `${this.name} has no state ${String(state)}`)
    const key = this.#key(labels)
    let series = this.#series.get(key)
    if (!series) {
      const buckets = this.type === 'histogram' ? new Array<number>(this.bounds.length + 1).fill(0) : []
      series = { labels: { ...labels }, value: 0, count: 0, buckets }
      this.#series.set(key, series)
    }
    this.#byLabels.set(labels, series)
    return series
  }

  remove(labels: Labels): void {
    this.#series.delete(this.#key(labels))
    this.#byLabels.delete(labels)
  }

  #key(labels: Labels): string {
    return JSON.stringify(this.#labels.map((label) => labels[label]))
  }

  get(): Promise<{ name: string; help: string; type: string; aggregator: string; values: Sample[] }> {
    const values = [...this.#series.values()].flatMap((series) =>
      this.type === 'histogram'
        ? this.#histogram(series)
        : [{ labels: { ...series.labels }, value: series.value }],
    )
    return Promise.resolve({ name: this.name, help: this.help, type: this.type, aggregator: 'sum', values })
  }

  #histogram({ labels, value, count, buckets }: Series): Sample[] {
    let below = 0
    const samples: Sample[] = buckets.map((inBucket, i) => ({
      metricName: `${this.name}_bucket`,
      labels: { ...labels, le: this.bounds[i] ?? '+Inf' },
      value: (below += inBucket),
    }))
    samples.push({ metricName: `${this.name}_sum`, labels: { ...labels }, value })
    samples.push({ metricName: `${this.name}_count`, labels: { ...labels }, value: count })
    return samples
  }
}

export class Telemetry implements Metrics {
  readonly #metrics = new Map<string, Metric>()
  readonly #registry = new Registry()

  /** `process` adds Node's own metrics. */
  constructor(
    options: { readonly process?: boolean; readonly catalogue?: ReadonlyMap<string, MetricSpec> } = {},
  ) {
    for (const [name, spec] of options.catalogue ?? METRICS) {
      const metric = new Metric(spec)
      this.#metrics.set(name, metric)
      this.#registry.registerMetric(metric as unknown as Parameters<Registry['registerMetric']>[0])
    }
    if (options.process ?? true) collectDefaultMetrics({ register: this.#registry, prefix: 'tandem_' })
  }

  #metric(name: string, type: MetricSpec['type']): Metric {
    const metric = this.#metrics.get(name)
    assert(metric, `metric ${name} is not in the catalogue`)
    assert(metric.type === type, `metric ${name} is a ${metric.type}`)
    return metric
  }

  add(name: string, value = 1, labels: Labels = NO_LABELS): void {
    this.#metric(name, 'counter').series(labels).value += value
  }

  set(name: string, value: number, labels: Labels = NO_LABELS): void {
    this.#metric(name, 'gauge').series(labels).value = value
  }

  /** Of something that is no more. Whoever sets it again uses another label object. */
  remove(name: string, labels: Labels): void {
    this.#metric(name, 'gauge').remove(labels)
  }

  observe(name: string, value: number, labels: Labels = NO_LABELS, times = 1): void {
    const metric = this.#metric(name, 'histogram')
    const series = metric.series(labels)
    const { bounds } = metric
    let bucket = 0
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++
    series.buckets[bucket]! += times
    series.count += times
    series.value += value * times
  }

  /** The text that a scrape gets. */
  text(): Promise<string> {
    return this.#registry.metrics()
  }
}

/** Sets the one present state of a metric with states to 1 and the others to 0. */
export function setState(metrics: Metrics, name: string, present: string, labels: Labels = NO_LABELS): void {
  const states = METRICS.get(name)?.states ?? []
  assert(states.includes(present), `${name} has no state ${present}`)
  for (const state of states) metrics.set(name, state === present ? 1 : 0, { ...labels, state })
}
