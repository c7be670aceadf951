/**
 * `make chaos CASE=kill|hang|links|link|flap|vote|planned|partition|full|all ROUNDS=n`: faults on a pair of real processes under load, again and
 * again, and what clients saw of them.
 *
 *   chaos.ts [--case all|'NAME…'] [--rounds N] [--seed S] [--keep] [--bad all|none|'NAME…']
 *
 * With all cases, or with --bad, filers that break a promise are run as well (chaos/bad-builds.ts): they must be caught.
 *
 * After each round everything acknowledged is read back and compared, calls that must not happen twice were sent once more, and the answers
 * of both filers are compared with the vote. Pauses are a table, not a verdict: they depend on the machine. A failing round ends the run, prints how to replay it,
 * and keeps the state. The seed repeats the plan; the moments are those of a real machine.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Random } from '../src/nfs/load/random.ts'
import { badBuilds, caught } from './chaos/bad-builds.ts'
import type { Bed } from './chaos/bed.ts'
import { Beds } from './chaos/beds.ts'
import { cases } from './chaos/cases.ts'
import type { Case, Pause } from './chaos/cases.ts'
import { inMountNamespace } from './chaos/disk.ts'
import { pauseTable } from './chaos/pauses.ts'
import { run } from './lib/process.ts'

const { values } = parseArgs({
  options: {
    case: { type: 'string', default: 'all' },
    rounds: { type: 'string', default: '1' },
    seed: { type: 'string' },
    keep: { type: 'boolean', default: false },
    bad: { type: 'string' },
  },
})

function chosen(text: string): Case[] {
  if (text === 'all') return [...cases]
  return text.split(/[ ,]+/).map((name) => {
    const found = cases.find((one) => one.name === name)
    if (found !== undefined) return found
    console.error(`chaos: no case ${name}; there are ${cases.map((one) => one.name).join(', ')}, all`)
    process.exit(2)
  })
}

const badNames = values.bad ?? (values.case === 'all' ? 'all' : 'none')
const bad =
  badNames === 'none'
    ? []
    : badBuilds.filter(({ name }) => badNames === 'all' || badNames.split(/[ ,]+/).includes(name))
if (bad.length === 0 && badNames !== 'none') {
  console.error(
    `chaos: no bad build ${badNames}; there are ${badBuilds.map(({ name }) => name).join(', ')}, all, none`,
  )
  process.exit(2)
}
// With --bad alone, nothing else.
const plan =
  values.bad !== undefined && badNames !== 'none' && values.case === 'all' ? [] : chosen(values.case)
const rounds = Number(values.rounds)
const firstSeed = Number(values.seed ?? Math.floor(Math.random() * 1e9))
if (!(rounds >= 1) || !Number.isSafeInteger(firstSeed)) {
  console.error('chaos: --rounds and --seed are whole numbers, --rounds at least 1')
  process.exit(2)
}
const withDisks = plan.some(({ roundsOfDisks }) => roundsOfDisks !== undefined)
const status = withDisks ? inMountNamespace() : undefined
if (status !== undefined) process.exit(status)
const began = performance.now()
const beds = new Beds(firstSeed)
const pauses: Pause[] = []
let passed = 0
let failed = ''

/** One round; gives what is wrong. */
async function play(one: Case, bed: Bed, seed: number): Promise<string[]> {
  const started = performance.now()
  try {
    const seen = await one.round(bed, new Random(seed))
    const wrong = await bed.verify()
    if (wrong.length > 0) return wrong
    pauses.push(...seen)
    const told = seen.map(
      ({ row, faultMs, backMs }) => `${row} ${faultMs.toFixed(0)} ms, back ${backMs.toFixed(0)} ms`,
    )
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    console.log(`${one.name} seed ${seed}: ${told.join('; ')}; ${seconds} s`)
    return []
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    return bed.load.failure === undefined ? [text] : [bed.load.failure.message, text]
  }
}

/** Says how it failed, or nothing. */
async function playAll(): Promise<string> {
  for (const one of plan) {
    for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
      const wrong = await play(one, await beds.of(one), seed)
      if (wrong.length > 0)
        return `${one.name} seed ${seed} FAILED:
  ${wrong.slice(0, 20).join('\n  ')}
  replay: bin/node24 e2e/chaos.ts --case ${one.name} --rounds 1 --seed ${seed}      (whole run: --case '${values.case}' --rounds ${rounds} --seed ${firstSeed})`
      passed++
    }
  }
  return ''
}

await run([join(import.meta.dirname, 'setup.sh'), 'chaos'])
console.log(`chaos: ${plan.map(({ name }) => name).join(', ')}; ${rounds} rounds each from seed ${firstSeed}`)
try {
  failed = await playAll()
  await beds.end(failed !== '' || values.keep)
  for (const build of failed === '' ? bad : []) {
    const found = await caught(build, firstSeed).catch((error: unknown) => {
      failed = `bad build ${build.name} FAILED to be caught: ${error instanceof Error ? error.message : String(error)}`
      return ''
    })
    if (found === '') break
    console.log(`bad build ${build.name} caught: ${found}`)
    passed++
  }
} catch (error) {
  failed ||= `FAILED: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
  await beds.end(true).catch(() => undefined)
}
if (failed !== '') console.log(failed)
const seconds = ((performance.now() - began) / 1000).toFixed(0)
console.log(`\n${pauseTable(pauses)}\n`)
console.log(
  `${beds.operations} operations, ${beds.repeated} answered calls repeated, ${seconds} s, seed ${firstSeed}`,
)
console.log(`chaos: ${passed} passed, ${failed === '' ? 0 : 1} failed`)
const { lost, duplicated, stale, error } = beds.tally
console.log(
  `lost ${lost} duplicated ${duplicated} stale ${stale}${error > 0 ? ` other errors ${error}` : ''}`,
)
process.exitCode = failed === '' && lost + duplicated + stale + error === 0 ? 0 : 1
