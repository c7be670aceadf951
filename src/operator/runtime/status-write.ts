/** When a status is written: at once when a state in it changed; for figures alone at most every 30 s. */
import type { Condition } from '../../api/v1alpha1/common.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import type { Action } from './actions.ts'
import { conditionsFrom, transitions } from './conditions.ts'
import type { Verdict } from './conditions.ts'

const FIGURES = [
  'roundTripMicroseconds',
  'used',
  'snapshotUsed',
  'resyncPercent',
  'lagSeconds',
  'lag',
  'logFiles',
  'baselinePercent',
  'divergence',
]
export const FIGURES_EVERY_MS = 30_000

export interface StatusWrite {
  readonly actions: Action[]
  /** Figures wait so long for their write. */
  readonly againInMs: number | undefined
}

export function writeStatus(
  resource: Resource,
  object: KubeObject,
  verdicts: Readonly<Record<string, Verdict>>,
  status: Readonly<Record<string, unknown>>,
  nowMs: number,
  lastWriteMs: number,
  /** Conditions of which neither status is good or bad. */
  neutral: readonly string[] = [],
): StatusWrite {
  const there = (object['status'] ?? {}) as { conditions?: Condition[] }
  // Conditions of other writers are theirs.
  const own = (there.conditions ?? []).filter((c) => verdicts[c.type] !== undefined)
  const before = { ...there, ...(there.conditions === undefined ? {} : { conditions: own }) }
  const generation = object.metadata.generation ?? 0
  const conditions = conditionsFrom(verdicts, before.conditions ?? [], generation, nowMs)
  const next = { observedGeneration: generation, ...status, conditions }
  if (canonical(next) === canonical(before)) return { actions: [], againInMs: undefined }
  const stateChanged = canonical(withoutFigures(next)) !== canonical(withoutFigures(before))
  const waitMs = lastWriteMs + FIGURES_EVERY_MS - nowMs
  if (!stateChanged && waitMs > 0) return { actions: [], againInMs: waitMs }
  const { name, namespace } = object.metadata
  const actions: Action[] = [
    {
      type: 'status',
      resource,
      object: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
        status: next,
      },
    },
  ]
  for (const { type, now } of transitions(before.conditions ?? [], conditions)) {
    const isTrue = now.status === 'True'
    const isNeutral = neutral.includes(type)
    if (isNeutral && !isTrue && before.conditions?.find((c) => c.type === type)?.status !== 'True') continue
    const isPlain = isTrue || isNeutral
    actions.push({
      type: 'event',
      about: object,
      level: isPlain ? 'Normal' : 'Warning',
      reason: isTrue ? type : now.reason,
      message: isPlain ? now.message : `${type} is ${now.status}: ${now.message}`,
    })
  }
  return { actions, againInMs: undefined }
}

/** The same text for the same content, whatever the order of keys. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) =>
    typeof v === 'object' && v !== null && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  )
}

function withoutFigures(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutFigures)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !FIGURES.includes(key))
      .map(([key, inner]) => [key, withoutFigures(inner)]),
  )
}
