/**
 * `make ring PAIRS=3 DURATION=300`: pairs of real processes in a ring of mirrors under load, with flush intervals that differ; then a source is lost whole.
 *
 *   ring.ts [--pairs N] [--duration SECONDS] [--ratio R] [--stall MS] [--seed S] [--keep]
 *
 * Each pair mirrors its volume to the next one, the last to the first. The first flushes R times as often as the last. While the load runs all mirrors must stay in sync, and no client may wait longer than
 * --stall (0: it is only told). Then both filers of the pair that flushes least are killed at once, with what they acknowledged since their last consistency point; the mirror is broken, the client goes on at
 * the destination, and everything it was ever told is compared byte by byte. The old source comes back, learns of the break and changes nothing.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { table } from '../src/embedded/cli/table.ts'
import type { Load } from '../src/nfs/load/load.ts'
import { run, sleep, until } from './lib/process.ts'
import { filers, Ring } from './ring/bed.ts'
import type { RingPair } from './ring/bed.ts'

const { values } = parseArgs({
  options: {
    pairs: { type: 'string', default: '3' },
    duration: { type: 'string', default: '20' },
    ratio: { type: 'string', default: '10' },
    stall: { type: 'string', default: '2000' },
    seed: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
})
const numbers = {
  pairs: Number(values.pairs),
  seconds: Number(values.duration),
  ratio: Number(values.ratio),
  stallMs: Number(values.stall),
  seed: Number(values.seed ?? Math.floor(Math.random() * 1e9)),
}
if (Object.values(numbers).some((value) => !(value >= 0)) || !(numbers.pairs >= 2 && numbers.pairs <= 8)) {
  console.error('ring: --pairs is 2 to 8; --duration, --ratio, --stall and --seed are numbers')
  process.exit(2)
}
const { pairs, seconds, ratio, stallMs, seed } = numbers

async function compare(load: Load, what: string): Promise<string> {
  let paused = false
  void load.pause().then(() => (paused = true))
  await until(`calls in flight are answered (${what})`, 60_000, () => paused || load.failure !== undefined)
  const { differences, files, bytes, digest } = await load.verify()
  if (differences.length > 0)
    throw new Error(`${what}: ${differences.length} differences:\n  ${differences.slice(0, 20).join('\n  ')}`)
  return `${files} files, ${(bytes / 1e6).toFixed(1)} MB, sha256 ${digest.slice(0, 12)}`
}

function told(ring: Ring): string {
  const rows = [
    ['pair', 'flushes', 'longest pause', `over ${stallMs} ms`, 'log files', 'longest lag', 'sent'],
  ]
  for (const { name, answers, seen } of ring.pairs)
    rows.push([
      name,
      `${seen.flushes} (each ${(seconds / Math.max(1, seen.flushes)).toFixed(1)} s)`,
      `${answers.longestMs.toFixed(0)} ms`,
      String(answers.longerThan(stallMs)),
      `${seen.logFilesMax}/${seen.logFilesLimit}`,
      `${seen.lagSecondsMax.toFixed(2)} s`,
      `${(seen.sentBytes / 1e6).toFixed(1)} MB`,
    ])
  return table(rows)
}

async function loadPhase(ring: Ring): Promise<void> {
  ring.measure()
  const until = performance.now() + seconds * 1000
  while (performance.now() < until) {
    await sleep(200)
    ring.assertWell()
  }
  ring.measured()
  console.log(told(ring))
  const problems: string[] = []
  for (const { name, answers, seen, mirror } of ring.pairs) {
    if (seen.samples === 0) problems.push(`${name}: its filers tell no metrics`)
    if (seen.outOfSync > 0)
      problems.push(`mirror ${mirror} was not in sync in ${seen.outOfSync} of ${seen.samples} samples`)
    if (stallMs > 0 && answers.longerThan(stallMs) > 0)
      problems.push(`${name}: a client waited ${answers.longestMs.toFixed(0)} ms`)
  }
  const disturbances = ring.pairs.reduce((sum, { seen }) => sum + seen.disturbances, 0)
  if (problems.length === 0) return
  if (disturbances === 0) throw new Error(problems.join('; '))
  console.log(
    `no verdict on pauses: filers missed each other's heartbeats or took sides ${disturbances} times, because this machine is busy (${problems.join('; ')})`,
  )
  await ring.inSync()
}

async function lossPhase(ring: Ring, lost: RingPair): Promise<void> {
  const { load } = lost
  await until(
    'calls are acknowledged that no consistency point has',
    30_000,
    () => load.operations > lost.acknowledgedThen + 50,
  )
  await ring.kill(lost)
  const unflushed = load.operations - lost.acknowledgedThen
  console.log(
    `${lost.name} killed whole: ${load.operations} calls acknowledged, ${unflushed} of them since its last consistency point`,
  )
  const breakMs = await ring.break(lost)
  console.log(
    `${lost.mirror} broken: its client was answered by the destination after ${breakMs.toFixed(0)} ms`,
  )
  console.log(`compared at the destination: ${await compare(load, 'at the destination')}`)
  load.resume()
  await ring.release(lost)
  for (const pair of ring.pairs)
    console.log(`compared ${pair.volume}: ${await compare(pair.load, pair.volume)}`)
}

await run([join(import.meta.dirname, 'setup.sh'), 'ring'])
const began = performance.now()
console.log(`ring: ${pairs} pairs, ${seconds} s, flush intervals 1:${ratio}, seed ${seed}`)
let failed = ''
let ring: Ring | undefined
try {
  ring = await Ring.start({ pairs, seed, ratio })
  await loadPhase(ring)
  await lossPhase(ring, ring.pairs.at(-1)!)
  for (const { load } of ring.pairs) load.close()
  for (const { name } of ring.pairs) await ring.embedded.redundant(120_000, name)
  await ring.embedded.down()
  for (const { name } of ring.pairs) await ring.embedded.check(filers, name)
} catch (error) {
  failed = `FAILED: ${error instanceof Error ? error.message : String(error)}
  replay: bin/node24 e2e/ring.ts --pairs ${pairs} --duration ${seconds} --ratio ${ratio} --seed ${seed}${ring === undefined ? '' : `\n  state and logs: ${ring.embedded.folder}`}`
} finally {
  await ring?.end(failed !== '' || values.keep)
}
if (failed !== '') console.log(failed)
const tallies = ring?.pairs.map(({ load }) => load.tally) ?? []
const sum = (kind: 'lost' | 'duplicated' | 'stale' | 'error'): number =>
  tallies.reduce((all, one) => all + one[kind], 0)
console.log(`${((performance.now() - began) / 1000).toFixed(0)} s, seed ${seed}`)
console.log(`ring: ${failed === '' ? 1 : 0} passed, ${failed === '' ? 0 : 1} failed`)
console.log(`lost ${sum('lost')} duplicated ${sum('duplicated')} stale ${sum('stale')}`)
process.exitCode = failed === '' ? 0 : 1
