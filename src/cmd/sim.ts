/**
 * `tandem sim`: whole pairs of production filers in one process, under a seeded scheduler with faults, until so many client operations were
 * checked. The last line is `operations N violations N`; every violation prints the command that repeats it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import type { Scenario } from '../sim/scenario.ts'
import { parseScenario } from '../sim/scenario.ts'
import type { RunResult } from '../sim/simulation.ts'
import { simulate } from '../sim/simulation.ts'

const SCENARIOS = new URL('../sim/scenarios/', import.meta.url)
const KEPT = new URL('../sim/kept-seeds.txt', import.meta.url)
/** Seeds of which every one is run twice, to prove that a seed repeats its history. */
const TWICE_EVERY = 10

function scenarios(wanted: string | undefined): Scenario[] {
  const names = readdirSync(SCENARIOS)
    .filter((name) => name.endsWith('.txt'))
    .map((name) => name.slice(0, -'.txt'.length))
    .sort()
  if (wanted !== undefined && !names.includes(wanted)) {
    throw new UsageError(`no scenario ${JSON.stringify(wanted)}; there are ${names.join(', ')}`)
  }
  return (wanted === undefined ? names : [wanted]).map((name) =>
    parseScenario(name, readFileSync(new URL(`${name}.txt`, SCENARIOS), 'utf8')),
  )
}

/** Runs that found something once. */
function keptRuns(): { scenario: string; seed: number }[] {
  return readFileSync(KEPT, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [scenario = '', seed = ''] = line.split(/\s+/)
      return { scenario, seed: numberOf(seed, 0, 'seed') }
    })
}

function numberOf(text: string | undefined, otherwise: number, flag: string): number {
  const value = Number(text ?? otherwise)
  if (!Number.isInteger(value) || value < 0)
    throw new UsageError(`--${flag} ${text ?? ''} is no whole number`)
  return value
}

function line(seed: number, scenario: Scenario, result: RunResult, ms: number): string {
  const { operations, repeated, crashes, damage, takeovers, virtualMs } = result
  const facts = `${operations} operations (${repeated} repeated), ${crashes} crashes, ${damage} damaged, ${takeovers} changes of the vote`
  return `seed ${seed} ${scenario.name}: ${facts}, ${(virtualMs / 1000).toFixed(1)} s simulated in ${(ms / 1000).toFixed(1)} s`
}

async function simulateOnce(scenario: Scenario, seed: number, quiet: boolean): Promise<RunResult> {
  const started = performance.now()
  const result = await simulate(scenario, seed)
  if (!quiet) console.log(line(seed, scenario, result, performance.now() - started))
  return result
}

interface Options {
  readonly operations: number
  readonly seed: number
  readonly scenario: string | undefined
  readonly kept: boolean
  readonly quiet: boolean
}

function* runs({ scenario, seed, kept }: Options): Generator<{ scenario: Scenario; seed: number }> {
  if (kept) for (const run of keptRuns()) yield { scenario: scenarios(run.scenario)[0]!, seed: run.seed }
  if (kept) return
  const list = scenarios(scenario)
  for (let next = seed; ; next++) yield { scenario: list[next % list.length]!, seed: next }
}

async function simulateAll(options: Options): Promise<number> {
  let operations = 0
  let violations = 0
  for (const { scenario, seed } of runs(options)) {
    const result = await simulateOnce(scenario, seed, options.quiet)
    operations += result.operations
    let { failure } = result
    if (!failure && seed % TWICE_EVERY === 0) {
      const second = await simulateOnce(scenario, seed, true)
      operations += second.operations
      if (second.traceHash !== result.traceHash) {
        failure = { message: `two runs differ: ${result.traceHash} and ${second.traceHash}`, story: '' }
      }
    }
    if (failure) {
      violations += 1
      console.log(`VIOLATION seed ${seed} ${scenario.name}: ${failure.message}`)
      console.log(failure.story.replace(/^/gm, '    '))
      console.log(`repeat it: bin/tandem sim --ops 1 --seed ${seed} --scenario ${scenario.name}`)
    }
    // A run that fails at once gives no operations: it must not go on for ever.
    if (result.operations === 0 || (!options.kept && operations >= options.operations)) break
  }
  console.log(`operations ${operations} violations ${violations}`)
  return violations === 0 ? 0 : 1
}

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'sim',
      summary: 'simulate pairs of filers with faults, and check what every client is told',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        ops: { kind: 'text', value: 'N', meaning: 'end after so many client operations (100000)' },
        seed: { kind: 'text', value: 'S', meaning: 'the first seed; each run takes the next (1)' },
        scenario: { kind: 'text', value: 'NAME', meaning: 'this one only (src/sim/scenarios/NAME.txt)' },
        kept: {
          kind: 'switch',
          meaning: 'repeat the runs that found something once (src/sim/kept-seeds.txt)',
        },
        quiet: { kind: 'switch', short: 'q', meaning: 'only violations and the last line' },
      },
      notes: 'docs/testing.md describes scenarios and checks. Exit status: 0 no violation, 1 violations.',
    },
    args,
    (parsed) =>
      simulateAll({
        operations: numberOf(parsed.text('ops'), 100_000, 'ops'),
        seed: numberOf(parsed.text('seed'), 1, 'seed'),
        scenario: parsed.text('scenario'),
        kept: parsed.has('kept'),
        quiet: parsed.has('quiet'),
      }),
  )
}
