/**
 * Two builds of Tandem side by side: a pair of each, loaded in turn within the same minutes, so that a busy machine meets both. What a shared machine
 * changes least is the CPU that both filers take for an operation.
 *
 *   node bench/compare.ts CHECKOUT [--only P1,P3] [--rounds 5] [--seconds 1]
 *
 * CHECKOUT is the other build's working copy, with its node_modules. Medians; the first round is thrown away.
 */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from '../e2e/lib/process.ts'
import { endFolder, stateFolder, sweep } from '../e2e/lib/state.ts'
import type { Sample } from './measures.ts'
import { measures, runOnce } from './measures.ts'
import { aligned, median } from './report.ts'
import { cpuMicrosecondsOf } from './rig.ts'
import { startTandem } from './sides.ts'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string', default: 'P1,P2,P3,P4b,P5a,P5b' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
  },
})
const [other] = positionals
if (other === undefined) throw new Error('which build? bench/compare.ts CHECKOUT')
const options = { seconds: Number(values.seconds), fileMebibytes: 128, names: 4000 }
const ids = values.only.split(',')

await sweep('bench-compare')
const folder = stateFolder('bench-compare')
mkdirSync(folder, { recursive: true })
const nfsbench = join(folder, 'nfsbench')
await run(['cc', '-O2', '-o', nfsbench, join(import.meta.dirname, 'nfsbench.c'), '-lnfs'])

const FIGURES = ['op/s', 'p50 µs', 'p99 µs', 'CPU µs/op, a', 'CPU µs/op, b'] as const
type Figures = Record<(typeof FIGURES)[number], number>
const figures = new Map<string, Figures[]>()
const sides = new Map<string, Awaited<ReturnType<typeof startTandem>>>()
try {
  sides.set('other', await startTandem('bench-other', { main: join(resolve(other), 'src/main.ts') }))
  sides.set('this', await startTandem('bench-this'))
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const measure of measures.filter(({ id }) => ids.includes(id))) {
      const order = [...sides]
      for (const [name, side] of round % 2 === 0 ? order : order.reverse()) {
        const filers = ['a', 'b'].map((filer) => side.pair.filers().get(filer)!)
        const before = filers.map(cpuMicrosecondsOf)
        const sample = await runOnce(measure, side, { nfsbench, ...options }).catch((error: unknown) => {
          // The load does not connect again when a filer closes its connections, as it does when the machine is too busy for its lease.
          console.log(`${measure.id} ${name}: ${String(error)}; left out`)
        })
        if (sample === undefined) continue
        // Of nfsbench, which says how many they were.
        const { operations } = sample as Sample & { operations: number }
        const [a = 0, b = 0] = filers.map((pid, i) => (cpuMicrosecondsOf(pid) - before[i]!) / operations)
        const key = `${measure.id} ${name}`
        const list = figures.get(key) ?? []
        figures.set(key, list)
        if (round === 0) continue
        list.push({
          'op/s': sample.operationsPerSecond,
          'p50 µs': sample.p50Microseconds,
          'p99 µs': sample.p99Microseconds,
          'CPU µs/op, a': a,
          'CPU µs/op, b': b,
        })
      }
    }
  }
  const rows = [...figures].map(([key, list]) => [
    ...key.split(' '),
    ...FIGURES.map((figure) => Math.round(median(list.map((one) => one[figure]))).toLocaleString('en-US')),
  ])
  console.log(aligned([['', 'Build', ...FIGURES], ...rows]))
} finally {
  for (const side of sides.values()) await side.stop(false)
  endFolder(folder, false)
}
