/** The table of `make chaos`: per kind of fault how many rounds, and percentiles of the pauses of its client. Pure. */
import { goalsMs } from './cases.ts'
import type { Pause } from './cases.ts'

/** By nearest rank: a value that was measured. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN
}

export function pauseTable(pauses: readonly Pause[]): string {
  const rows = [...new Set(pauses.map(({ row }) => row))].map((row) => {
    const fault = pauses.filter((pause) => pause.row === row).map(({ faultMs }) => faultMs)
    const back = pauses.filter((pause) => pause.row === row).map(({ backMs }) => backMs)
    const figures = [0.5, 0.99, 1].map((share) => percentile(fault, share).toFixed(0))
    const goal = goalsMs[row] === undefined ? '' : String(goalsMs[row])
    const backs = [0.5, 1].map((share) => percentile(back, share).toFixed(0))
    return [row, String(fault.length), ...figures, goal, ...backs]
  })
  const head = ['pauses in ms', 'n', 'p50', 'p99', 'max', 'goal', 'back p50', 'back max']
  const all = [head, head.map(() => '---'), ...rows]
  return all.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}
