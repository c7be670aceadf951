/**
 * `make crash ROUNDS=n`: kill -9 at random moments under load. Real processes, real files, no cluster.
 *
 *   crash.ts [--rounds N] [--seed S] [--keep]
 *
 * Each round's plan (who is killed, when, whether the pair was whole before) follows from its seed; moments are those of a
 * real machine, so a seed repeats the plan and not every interleaving. After the kill, and while the victims are held down,
 * `tandem check` must find their devices consistent as they are: a consistency point is whole at any moment, without its log.
 * Then they start again, the load is paused, and every acknowledged byte is compared. A failing round stops the run, prints how to
 * replay it, and keeps its state.
 */
import { parseArgs } from 'node:util'
import { Embedded } from './lib/embedded.ts'
import { Load } from '../src/nfs/load/load.ts'
import { Random } from '../src/nfs/load/random.ts'
import { run, sleep, until } from './lib/process.ts'
import { join } from 'node:path'
import { onePair } from './lib/one-pair.ts'

const manifests = onePair({
  devices: { count: 2, size: '256Mi' },
  log: '32Mi',
  cache: '64Mi',
  volume: '256Mi',
  spec: ['takeover: { giveback: Manual }'],
})
const filers = ['a', 'b']
const workers = 8

interface Plan {
  victims: string[]
  /** Load before the kill. */
  delayMs: number
  /** How long the victims stay dead beyond the check of their devices. */
  downMs: number
  /** Wait for both copies to be current first; else the kill may hit a resync or a filer that is alone. */
  whole: boolean
}

function planOf(seed: number): Plan {
  const random = new Random(seed)
  const victims = random.pick([['a'], ['b'], ['a', 'b'], ['b', 'a']])
  return { victims, delayMs: random.below(1500), downMs: random.below(1500), whole: random.below(3) > 0 }
}

class RoundFailure extends Error {}

async function checkDevices(pair: Embedded, filers: readonly string[]): Promise<void> {
  await pair.check(filers).catch((error: unknown) => {
    throw new RoundFailure(String(error))
  })
}

async function round(pair: Embedded, load: Load, plan: Plan): Promise<void> {
  if (plan.whole) await pair.redundant()
  const before = load.operations
  await until(
    'the load goes on',
    60_000,
    () => load.operations > before + workers || load.failure !== undefined,
  )
  await sleep(plan.delayMs)
  for (const filer of plan.victims) {
    const held = await pair.tandem('hold', `east/${filer}`)
    if (held.status !== 0) throw new Error(`tandem hold: ${held.stderr}`)
  }
  const killed = plan.victims.filter((filer) => pair.kill(filer))
  for (const filer of killed) await until(`filer ${filer} is gone`, 5000, () => !pair.filers().has(filer), 10)
  await checkDevices(pair, killed)
  await sleep(plan.downMs)
  for (const filer of plan.victims) {
    const released = await pair.tandem('release', `east/${filer}`)
    if (released.status !== 0) throw new Error(`tandem release: ${released.stderr}`)
  }
  const after = load.operations
  await until(
    'clients are served again',
    60_000,
    () => load.operations > after + workers || load.failure !== undefined,
  )
  await load.pause()
  const { differences } = await load.verify()
  if (differences.length > 0)
    throw new RoundFailure(`${differences.length} differences:\n  ${differences.slice(0, 20).join('\n  ')}`)
  load.resume()
}

const { values } = parseArgs({
  options: { rounds: { type: 'string' }, seed: { type: 'string' }, keep: { type: 'boolean' } },
})
const rounds = Number(values.rounds ?? 10)
const firstSeed = Number(values.seed ?? Math.floor(Math.random() * 1e9))
await run([join(import.meta.dirname, 'setup.sh'), 'crash'])
const began = performance.now()
console.log(`crash: ${rounds} rounds from seed ${firstSeed}`)
const pair = await Embedded.start('crash', manifests)
let passed = 0
let lost = 0
let failed = ''
let load: Load | undefined
try {
  load = await Load.open([{ mount: await pair.mountPoint(), workers }], { seed: firstSeed })
  load.resume()
  for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
    const plan = planOf(seed)
    const started = performance.now()
    load.resetPause()
    try {
      await round(pair, load, plan)
      passed++
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      console.log(
        `round ${passed} seed ${seed}: killed ${plan.victims.join(' and ')}${plan.whole ? '' : ' (not waiting for both copies)'}, ` +
          `${load.operations} operations so far, longest pause ${Math.round(load.longestPauseMs)} ms, ${seconds} s`,
      )
    } catch (error) {
      if (error instanceof RoundFailure) lost++
      failed = `round ${passed + 1} FAILED: killed ${plan.victims.join(' and ')} after ${plan.delayMs} ms: ${error instanceof Error ? error.message : String(error)}
  replay: bin/node24 e2e/crash.ts --rounds 1 --seed ${seed}      (whole run: --rounds ${rounds} --seed ${firstSeed})
  state and logs: ${pair.folder}`
      break
    }
  }
  if (failed === '') {
    await load.pause()
    load.close()
    await pair.redundant()
    await pair.down()
    await checkDevices(pair, filers)
  }
} catch (error) {
  failed = `FAILED: ${error instanceof Error ? error.message : String(error)}\n  state and logs: ${pair.folder}`
} finally {
  load?.close()
  await pair.stop(failed !== '' || values.keep === true)
}
if (failed !== '') console.log(failed)
console.log(
  `rounds ${passed} lost ${lost}, ${load?.operations ?? 0} operations compared, ${((performance.now() - began) / 1000).toFixed(0)} s, seed ${firstSeed}`,
)
process.exitCode = failed === '' && passed === rounds ? 0 : 1
