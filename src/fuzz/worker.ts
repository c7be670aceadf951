/**
 * The thread that runs cases, one after the other, and says before each which one it is: so whoever watches it knows what hangs or what it died of.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { runCase } from './case.ts'
import { TARGETS } from './targets.ts'

export interface FuzzInput {
  readonly targets: readonly string[]
  readonly seed: number
}
export type FuzzReport =
  | { readonly kind: 'begin'; readonly target: string; readonly seed: number }
  | { readonly kind: 'done'; readonly target: string; readonly inputs: number }
  | { readonly kind: 'failed'; readonly target: string; readonly seed: number; readonly message: string }

const { targets, seed: first } = workerData as FuzzInput
const chosen = TARGETS.filter(({ name }) => targets.includes(name))
const tell = (report: FuzzReport): void => parentPort!.postMessage(report)

for (let seed = first; ; seed++) {
  for (const target of chosen) {
    const { name } = target
    tell({ kind: 'begin', target: name, seed })
    try {
      tell({ kind: 'done', target: name, inputs: await runCase(target, seed) })
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : JSON.stringify(error)
      tell({ kind: 'failed', target: name, seed, message })
    }
  }
}
