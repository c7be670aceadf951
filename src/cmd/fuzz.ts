/**
 * `tandem fuzz`: damaged inputs to everything that reads what others wrote: clients, the partner, devices, people. The last line is `inputs N findings N`; each finding is printed with the
 * command that repeats it.
 */
import { readFileSync } from 'node:fs'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import { runCase } from '../fuzz/case.ts'
import { fuzz } from '../fuzz/fuzz.ts'
import { TARGETS } from '../fuzz/targets.ts'

const KEPT = new URL('../fuzz/kept-seeds.txt', import.meta.url)
const NAMES = TARGETS.map(({ name }) => name)

/** Cases that found something once. */
export function keptCases(): { target: string; seed: number }[] {
  return readFileSync(KEPT, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [target = '', seed = ''] = line.split(/\s+/)
      return { target, seed: numberOf(seed, 0, 'seed') }
    })
}

function numberOf(text: string | undefined, otherwise: number, flag: string): number {
  const value = Number(text ?? otherwise)
  if (!Number.isInteger(value) || value < 0)
    throw new UsageError(`--${flag} ${text ?? ''} is no whole number`)
  return value
}

async function runKept(): Promise<number> {
  let inputs = 0
  let findings = 0
  for (const { target, seed } of keptCases()) {
    try {
      inputs += await runCase(
        TARGETS.find(({ name }) => name === target)!,
        seed,
      )
    } catch (error) {
      findings += 1
      console.log(`FINDING ${target} seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  console.log(`inputs ${inputs} findings ${findings}`)
  return findings === 0 ? 0 : 1
}

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'fuzz',
      summary: 'damaged inputs to everything that reads what others wrote',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        inputs: { kind: 'text', value: 'N', meaning: 'end after so many inputs (100000)' },
        seconds: { kind: 'text', value: 'S', meaning: 'or after so many seconds' },
        seed: {
          kind: 'text',
          value: 'S',
          meaning: 'the first seed; each round of targets takes the next (1)',
        },
        target: {
          kind: 'texts',
          value: 'NAME',
          meaning: 'only this one, several times for more',
          choices: NAMES,
        },
        kept: { kind: 'switch', meaning: 'repeat what found something once (src/fuzz/kept-seeds.txt)' },
      },
      notes: `Targets:
${TARGETS.map(({ name, meaning }) => `  ${name.padEnd(11)}${meaning}`).join('\n')}
docs/testing.md tells what is a finding. Exit status: 0 none, 1 findings.`,
    },
    args,
    async (parsed) => {
      if (parsed.has('kept')) return runKept()
      const targets = parsed.texts('target')
      const seconds = parsed.text('seconds')
      const started = performance.now()
      const { inputs, findings, peakBytes, byTarget } = await fuzz({
        targets: targets.length > 0 ? targets : NAMES,
        inputs: numberOf(parsed.text('inputs'), 100_000, 'inputs'),
        seed: numberOf(parsed.text('seed'), 1, 'seed'),
        ...(seconds === undefined ? {} : { seconds: numberOf(seconds, 0, 'seconds') }),
        print: (line) => console.log(line),
      })
      const shares = [...byTarget].map(([name, count]) => `${name} ${count}`).join(', ')
      const took = ((performance.now() - started) / 1000).toFixed(0)
      console.log(`${shares}; ${took} s, at most ${Math.round(peakBytes / 2 ** 20)} MiB`)
      console.log(`inputs ${inputs} findings ${findings}`)
      return findings === 0 ? 0 : 1
    },
  )
}
