/** Conditions as metrics: whoever watches metrics sees what a pair lacks, whichever filer could tell it or none. */
import type { Condition } from '../../api/v1alpha1/common.ts'
import type { KubeObject } from '../../edge/kube/api.ts'

export interface Gauges {
  set(name: string, value: number, labels: Readonly<Record<string, string>>): void
  remove(name: string, labels: Readonly<Record<string, string>>): void
}

const METRIC = 'tandem_operator_condition'

/** Brings the series of an object from what it was to what it is. */
export function tellConditions(
  gauges: Gauges,
  now: KubeObject | undefined,
  before: KubeObject | undefined,
): void {
  const series = seriesOf(now)
  for (const [key, { labels }] of seriesOf(before)) if (!series.has(key)) gauges.remove(METRIC, labels)
  for (const { labels, value } of series.values()) gauges.set(METRIC, value, labels)
}

function seriesOf(object: KubeObject | undefined) {
  const { conditions = [] } = (object?.['status'] ?? {}) as { conditions?: Condition[] }
  return new Map(
    conditions.map(({ type, status, reason }) => {
      const labels = {
        kind: object!.kind,
        object_namespace: object!.metadata.namespace ?? '',
        object: object!.metadata.name,
        condition: type,
        reason,
      }
      return [JSON.stringify(labels), { labels, value: status === 'True' ? 1 : 0 }]
    }),
  )
}
