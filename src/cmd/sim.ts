/**
 * `tandem sim`: whole pairs of production filers in one process, under a seeded scheduler with faults, until so many client operations were
 * checked. The last line is `operations N violations N`; every violation prints the command that repeats it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import type { Scenario } from '../sim/scenario.ts'
import { hasMoments, parseScenario } from '../sim/scenario.ts'
import type { RunResult } from '../sim/run-result.ts'
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

async function simulateOnce(
  scenario: Scenario,
  seed: number,
  quiet: boolean,
  moment?: number,
): Promise<RunResult> {
  const started = performance.now()
  const result = await simulate(scenario, seed, moment === undefined ? {} : { moment })
  if (!quiet) console.log(line(seed, scenario, result, performance.now() - started))
  return result
}

function tell({ failure }: RunResult, scenario: Scenario, seed: number, moment?: number): void {
  if (!failure) return
  const at = moment === undefined ? '' : ` --moment ${moment}`
  console.log(`VIOLATION seed ${seed} ${scenario.name}${at}: ${failure.message}`)
  console.log(failure.story.replace(/^/gm, '    '))
  console.log(`repeat it: bin/tandem sim --ops 1 --seed ${seed} --scenario ${scenario.name}${at}`)
}

/** The power fails at each `every`th moment of the scenarios that have a stretch of moments, in one run for each. */
async function simulateMoments({ scenario, seed, every, moment, quiet }: Options): Promise<number> {
  const list = scenarios(scenario).filter(({ steps }) => hasMoments(steps))
  if (list.length === 0) throw new UsageError(`scenario ${scenario!} has no step at-every`)
  let operations = 0
  let violations = 0
  for (const one of list) {
    const struck = new Map<string, number>()
    for (let at = moment ?? 1 + (seed % every!); ; at += every!) {
      const result = await simulateOnce(one, seed, true, at)
      operations += result.operations
      if (result.failure) violations += 1
      tell(result, one, seed, at)
      const what = result.struck
      if (what !== undefined) struck.set(what, (struck.get(what) ?? 0) + 1)
      if (moment !== undefined || (what === undefined && result.failure === undefined)) break
      // A run that fails before the stretch would go on for ever.
      if (result.operations === 0) break
    }
    const counts = [...struck].sort().map(([what, count]) => `${count} at a ${what}`)
    const moments = [...struck.values()].reduce((sum, count) => sum + count, 0)
    if (!quiet) console.log(`${one.name}: power lost at ${moments} moments: ${counts.join(', ')}`)
  }
  console.log(`operations ${operations} violations ${violations}`)
  return violations === 0 ? 0 : 1
}

interface Options {
  readonly every: number | undefined
  readonly moment: number | undefined
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
    if (failure) violations += 1
    tell({ ...result, failure }, scenario, seed)
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
        every: {
          kind: 'text',
          value: 'K',
          meaning:
            'the power fails at each Kth write and flush of the scenarios that have such a stretch; 1: at all',
        },
        moment: { kind: 'text', value: 'N', meaning: 'only at the Nth' },
        kept: {
          kind: 'switch',
          meaning: 'repeat the runs that found something once (src/sim/kept-seeds.txt)',
        },
        quiet: { kind: 'switch', short: 'q', meaning: 'only violations and the last line' },
      },
      notes: 'docs/testing.md describes scenarios and checks. Exit status: 0 no violation, 1 violations.',
    },
    args,
    (parsed) => {
      const given = (flag: 'every' | 'moment'): number | undefined => {
        const text = parsed.text(flag)
        if (text === undefined) return undefined
        const value = numberOf(text, 1, flag)
        if (value === 0) throw new UsageError(`--${flag} begins at 1`)
        return value
      }
      const every = given('every') ?? (parsed.text('moment') === undefined ? undefined : 1)
      const options = {
        every,
        moment: given('moment'),
        operations: numberOf(parsed.text('ops'), 100_000, 'ops'),
        seed: numberOf(parsed.text('seed'), 1, 'seed'),
        scenario: parsed.text('scenario'),
        kept: parsed.has('kept'),
        quiet: parsed.has('quiet'),
      }
      return every === undefined ? simulateAll(options) : simulateMoments(options)
    },
  )
}
