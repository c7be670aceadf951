/**
 * `make bench`: Tandem beside NFS-Ganesha and GlusterFS on this machine, and beside itself when it holds more (P11), when it is full
 * (aged), in how long it holds others up (turns), and in what it takes of memory (memory); rings of mirrors (P8); a conversion beside a copy (P9); many pairs in one operator (P10).
 *
 *   run.ts [short|long] [--only P1,P2,P11]
 *
 * short: 3 rounds of 1 s, prints the tables (about five minutes). long: 5 rounds of 3 s (about twenty minutes), and writes docs/benchmarks.md
 * unless something failed.
 * Rounds are interleaved (every side in turn, the order rotating), so that a slow minute of a shared machine meets all of them.
 * Exit status non-zero when a side failed or answered wrongly; a goal that is missed is a figure, not a failure.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from '../e2e/lib/process.ts'
import { stateFolder, sweep } from '../e2e/lib/state.ts'
import { measures, runOnce } from './measures.ts'
import type { Measure, RunOptions, Sample } from './measures.ts'
import { agedSection } from './aged.ts'
import { conversionSection } from './conversion.ts'
import { growthSection } from './growth.ts'
import { memorySection } from './memory.ts'
import { pairsSection } from './pairs.ts'
import { markdown, medianSample, rowsOf, sectionText, textTable } from './report.ts'
import type { Outcome, Say, Section } from './report.ts'
import { ringsSection } from './rings.ts'
import { startGanesha, startGluster, startTandem } from './sides.ts'
import type { Side, SideName } from './sides.ts'
import { turnsSection } from './turns.ts'

const checkout = join(import.meta.dirname, '..')
const { positionals, values } = parseArgs({ allowPositionals: true, options: { only: { type: 'string' } } })
const long = positionals[0] === 'long'
const rounds = long ? 5 : 3
const isChosen = (id: string): boolean => values.only === undefined || values.only.split(',').includes(id)
const chosen = measures.filter((measure) => isChosen(measure.id))
/** What is measured of Tandem alone, in the order in which it is run and shown. */
const alone: { readonly id: string; readonly run: (long: boolean, say: Say) => Promise<Section> }[] = [
  { id: 'P11', run: growthSection },
  { id: 'aged', run: agedSection },
  { id: 'turns', run: turnsSection },
  { id: 'memory', run: (long, say) => memorySection(nfsbench, long, say) },
  { id: 'P8', run: ringsSection },
  { id: 'P9', run: conversionSection },
  { id: 'P10', run: pairsSection },
]

/** All rounds of one measure, the first of each side thrown away. */
async function measureAll(measure: Measure, sides: Side[], options: RunOptions): Promise<Outcome> {
  const taking = sides.filter((side) => measure.sides.includes(side.name))
  const samples = new Map<SideName, Sample[]>(taking.map((side) => [side.name, []]))
  const failures: Outcome['failures'] = {}
  for (const absent of measure.sides) if (!samples.has(absent)) failures[absent] = 'did not start'
  for (let round = 0; round <= rounds; round++) {
    for (let turn = 0; turn < taking.length; turn++) {
      const side = taking[(round + turn) % taking.length]!
      if (failures[side.name] !== undefined) continue
      try {
        const sample = await runOnce(measure, side, options)
        if (round > 0) samples.get(side.name)!.push(sample)
      } catch (error) {
        failures[side.name] = error instanceof Error ? error.message : String(error)
      }
    }
  }
  const medians: Outcome['medians'] = {}
  for (const [name, list] of samples) if (failures[name] === undefined) medians[name] = medianSample(list)
  return { measure, medians, failures }
}

/** REMOVE needs the names that CREATE made: the two are run as one, round by round. */
async function measureNames(
  pair: [Measure, Measure],
  sides: Side[],
  options: RunOptions,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = pair.map((measure) => ({ measure, medians: {}, failures: {} }))
  for (const side of sides.filter((candidate) => pair[0].sides.includes(candidate.name))) {
    const samples: Sample[][] = [[], []]
    try {
      for (let round = 0; round <= rounds; round++)
        for (const [index, measure] of pair.entries()) {
          const sample = await runOnce(measure, side, options)
          if (round > 0) samples[index]!.push(sample)
        }
      for (const [index, list] of samples.entries()) outcomes[index]!.medians[side.name] = medianSample(list)
    } catch (error) {
      for (const outcome of outcomes)
        outcome.failures[side.name] = error instanceof Error ? error.message : String(error)
    }
  }
  return outcomes
}

async function version(...command: string[]): Promise<string> {
  return (await run(command)).trim()
}

await run([join(checkout, 'e2e/setup.sh'), 'bench'], { timeoutMs: 600_000 })
await sweep('bench')
const folder = stateFolder('bench')
const began = performance.now()
const say: Say = (text) =>
  console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${text}`)
const nfsbench = join(folder, 'nfsbench')
await run(['cc', '-O2', '-Wall', '-o', nfsbench, join(import.meta.dirname, 'nfsbench.c'), '-lnfs'])

const sides: Side[] = []
const outcomes: Outcome[] = []
const troubles: string[] = []
try {
  mkdirSync(folder, { recursive: true })
  for (const [name, start] of chosen.length === 0
    ? []
    : ([
        ['Tandem', () => startTandem()],
        ['NFS-Ganesha', () => startGanesha(folder, nfsbench)],
        ['GlusterFS', () => startGluster(folder)],
      ] as const)) {
    try {
      sides.push(await start())
      say(`${name} is ready`)
    } catch (error) {
      troubles.push(`${name} did not start: ${error instanceof Error ? error.message : String(error)}`)
      say(troubles.at(-1)!)
    }
  }
  const options: RunOptions = long
    ? { nfsbench, seconds: 3, fileMebibytes: 256, names: 20_000 }
    : { nfsbench, seconds: 1, fileMebibytes: 64, names: 2000 }
  const names = chosen.filter((measure) => measure.id.startsWith('P5'))
  for (const measure of chosen.filter((candidate) => !names.includes(candidate))) {
    outcomes.push(await measureAll(measure, sides, options))
    say(`${measure.id} ${measure.title}`)
  }
  if (names.length === 2) {
    outcomes.push(...(await measureNames([names[0]!, names[1]!], sides, options)))
    say('P5 CREATE and REMOVE')
  }
} finally {
  for (const side of sides) {
    const kept = await side.stop(outcomes.some((outcome) => outcome.failures[side.name] !== undefined))
    if (kept !== undefined) say(`${side.name}: state and logs are kept in ${kept}`)
  }
}

const sections: Section[] = []
for (const { id, run: runAlone } of alone.filter(({ id }) => isChosen(id))) {
  try {
    const section = await runAlone(long, say)
    sections.push(section)
    troubles.push(...section.failures)
  } catch (error) {
    troubles.push(`${id}: ${error instanceof Error ? error.message : String(error)}`)
  }
}
rmSync(folder, { recursive: true, force: true })

const rows = rowsOf(outcomes)
for (const outcome of outcomes)
  for (const [side, why] of Object.entries(outcome.failures))
    troubles.push(`${outcome.measure.id}, ${side}: ${why}`)
if (rows.length > 0) console.log(`\n${textTable(rows)}\n`)
for (const section of sections) console.log(`${sectionText(section)}\n`)
for (const trouble of troubles) console.log(`FAILED ${trouble}`)
if (long && values.only === undefined && troubles.length > 0) {
  console.log('docs/benchmarks.md stays as it was: something failed')
} else if (long && values.only === undefined) {
  const conditions = {
    command: 'make bench BENCH=long',
    rounds,
    seconds: 3,
    machine: `${cpus().length} processors (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, Linux`,
    date: new Date().toISOString().slice(0, 10),
    versions: [
      `Node.js ${process.version}`,
      `NFS-Ganesha ${await version('dpkg-query', '-W', '-f=${Version}', 'nfs-ganesha')}`,
      `GlusterFS ${await version('dpkg-query', '-W', '-f=${Version}', 'glusterfs-server')}`,
    ],
  }
  writeFileSync(join(checkout, 'docs/benchmarks.md'), markdown(rows, sections, troubles, conditions))
  console.log('written: docs/benchmarks.md')
}
const reached = rows.filter((row) => row.reached === true).length
console.log(
  `bench: ${reached} of ${rows.length} goals reached, ${troubles.length} failures, ${((performance.now() - began) / 1000).toFixed(0)} s`,
)
process.exitCode = troubles.length === 0 ? 0 : 1
