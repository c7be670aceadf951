/** Conditions: their times move only when their status does, and a status is written only when it says something new. */
import type { Condition } from '../../api/v1alpha1/common.ts'

export interface Verdict {
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
}

/** Never an empty message: servers as old as 1.20 make null of it in server-side apply. */
export const holds = (reason: string, message: string): Verdict => ({ status: 'True', reason, message })
export const fails = (reason: string, message: string): Verdict => ({ status: 'False', reason, message })
export const unknown = (reason: string, message: string): Verdict => ({ status: 'Unknown', reason, message })

export function conditionsFrom(
  verdicts: Readonly<Record<string, Verdict>>,
  before: readonly Condition[],
  generation: number,
  nowMs: number,
): Condition[] {
  return Object.entries(verdicts).map(([type, verdict]) => {
    const old = before.find((c) => c.type === type)
    const since = old?.status === verdict.status ? old.lastTransitionTime : undefined
    return {
      type,
      ...verdict,
      observedGeneration: generation,
      lastTransitionTime: since ?? new Date(nowMs).toISOString().replace(/[.]\d+Z$/, 'Z'),
    }
  })
}

/** Message of the first condition that does not hold. */
export function headline(verdicts: Readonly<Record<string, Verdict>>): string {
  return Object.values(verdicts).find((v) => v.status !== 'True')?.message ?? ''
}

/** What became different, in words for an Event. */
export function transitions(
  before: readonly Condition[],
  now: readonly Condition[],
): { readonly type: string; readonly now: Condition }[] {
  return now.flatMap((c) => {
    const old = before.find((o) => o.type === c.type)
    const news = old === undefined ? c.status === 'False' && c.type === 'Accepted' : old.status !== c.status
    const otherReason = old?.status === 'False' && c.status === 'False' && old.reason !== c.reason
    return news || otherReason ? [{ type: c.type, now: c }] : []
  })
}

/** Keeps the old figure while the new one is near it, so that noise causes no write. */
export function steady(before: number | undefined, now: number, factor: number): number {
  if (before === undefined || before <= 0 || now <= 0) return now
  const ratio = now / before
  return ratio < factor && ratio > 1 / factor ? before : now
}
