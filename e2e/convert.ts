/**
 * `make convert FILES=n KILLS=n`: a traditional volume with a tree becomes a flexible one while clients read and write it. Real processes, real files, no cluster.
 *
 *   convert.ts [--files N] [--large MIB] [--kills N] [--seed S] [--keep]
 *
 * The load knows what every file must hold and keeps the handles that it had before. Filers are killed with -9 at random moments: about the cut-over, about the way back (after which
 * everything must be as it was), while metadata is being built, and when the devices join; once both are held down and `tandem check` looks at what they left. There is a planned takeover in the
 * middle, too. At the end every byte is compared, no block of data was copied, and `tandem check` proves both copies consistent: no block is lost or leaked.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { FILER_VOLUMES } from '../src/edge/kube/resources.ts'
import { ConvertBed, WORKERS } from './convert/bed.ts'
import { Killer } from './convert/kills.ts'
import { run, until } from './lib/process.ts'
import { Steps } from './lib/steps.ts'

const { values } = parseArgs({
  options: {
    files: { type: 'string' },
    large: { type: 'string' },
    kills: { type: 'string' },
    seed: { type: 'string' },
    keep: { type: 'boolean' },
  },
})
const files = Number(values.files ?? 2000)
const largeBytes = Number(values.large ?? 16) * 2 ** 20
const kills = Number(values.kills ?? 5)
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9))
if (kills < 5) {
  console.error(`convert: --kills ${values.kills}: at least 5, one for each phase`)
  process.exit(2)
}
/** For cut-over, way back and join, each; the rest is for the scan. */
const killsEach = Math.floor(kills / 5)
const KILL_WITHIN_MS = 1500
/** A round of the scan takes about so long. */
const ROUND_SECONDS = 15
/** So slow that the kills come while there is much left to build. */
const SLOW = Math.max(
  50,
  Math.floor((files + largeBytes / 4096) / ((kills - 3 * killsEach + 3) * ROUND_SECONDS)),
)
const FAST = 1_000_000
const REDUNDANT_WITHIN_MS = 300_000
const CUT_OVER_WITHIN_MS = 120_000
const UNDONE_WITHIN_MS = 120_000
const COMPLETE_WITHIN_MS = 600_000

await run([join(import.meta.dirname, 'setup.sh'), 'crash'])
console.log(
  `convert: ${files} files, ${largeBytes / 2 ** 20} MiB of large ones, ${kills} kills, seed ${seed}`,
)
const steps = new Steps()
const size = { files, largeBytes, seed }
const bed = await ConvertBed.start(size)
const { pair, conversion } = bed
const killer = new Killer(bed, seed)

async function assertType(type: string, aggregate: string): Promise<void> {
  await until(`the volume's status says ${type}`, 30_000, async () => {
    const { status } = (await pair.api.get(FILER_VOLUMES, 'default', 'archive')) as {
      status?: { type?: string; aggregate?: string }
    }
    return status?.type === type && status.aggregate === aggregate
  })
}

let failed = true
try {
  await pair.redundant(REDUNDANT_WITHIN_MS)
  await pair.condition('Ready', 'fv/archive', 60_000)
  await steps.step(`a tree of ${files} files`, async () => {
    await bed.fill(size)
    bed.resume()
  })
  await steps.step('the check says that it would work, and what it needs', async () => {
    await pair.redundant(REDUNDANT_WITHIN_MS)
    await conversion.ask({ state: 'Checked', scanBlocksPerSecond: SLOW })
    await conversion.waitFor('Checked', 60_000)
    const { metadata, phase } = await conversion.status()
    if (phase !== 'Checked') throw new Error(`phase ${phase}`)
    await conversion.delete()
    await assertType('Traditional', 'vol-archive')
    return `metadata ${metadata?.estimated} estimated`
  })
  await steps.step('killed about the cut-over and the way back, it is as it was', async () => {
    await bed.pause()
    for (let n = 0; n < killsEach; n++) {
      await pair.redundant(REDUNDANT_WITHIN_MS)
      await conversion.ask({ state: 'Converted', scanBlocksPerSecond: SLOW })
      await killer.strike(KILL_WITHIN_MS)
      await conversion.waitFor('CutOver', CUT_OVER_WITHIN_MS)
      await conversion.ask({ state: 'RolledBack', scanBlocksPerSecond: SLOW })
      await killer.strike(KILL_WITHIN_MS)
      await conversion.waitFor('RolledBack', UNDONE_WITHIN_MS)
      await assertType('Traditional', 'vol-archive')
    }
    const bytes = await bed.verify()
    bed.resume()
    return `${killer.kills} kills, ${(bytes / 2 ** 20).toFixed(0)} MiB compared`
  })
  await steps.step('the volume is cut over under load', async () => {
    await pair.redundant(REDUNDANT_WITHIN_MS)
    bed.load.resetPause()
    await conversion.ask({ state: 'Converted', scanBlocksPerSecond: SLOW })
    await conversion.waitFor('CutOver', CUT_OVER_WITHIN_MS)
    return `clients waited ${Math.round(bed.load.longestPauseMs)} ms at most`
  })
  await steps.step('what clients changed since is not given up unasked', async () => {
    const { operations } = bed.load
    await until('clients change something', 60_000, () => bed.load.operations > operations + 10 * WORKERS)
    await conversion.ask({ state: 'RolledBack', scanBlocksPerSecond: SLOW })
    await until('the way back is refused', 60_000, async () => {
      const { conditions } = await conversion.status()
      return conditions?.find(({ type }) => type === 'RolledBack')?.reason === 'WouldDiscardChanges'
    })
    await conversion.ask({ state: 'Converted', scanBlocksPerSecond: SLOW })
  })
  await steps.step('its object is deleted, and made anew: it goes on', async () => {
    const before = await conversion.status()
    await conversion.delete()
    await assertType('Flexible', 'aggr2')
    await conversion.ask({ state: 'Converted', scanBlocksPerSecond: SLOW })
    await conversion.waitFor('CutOver', CUT_OVER_WITHIN_MS)
    const { phase, cutOverID } = await conversion.status()
    if (phase !== 'Scanning' || cutOverID !== before.cutOverID)
      throw new Error(`phase ${phase}, cut-over ${cutOverID}; before: ${before.cutOverID}`)
  })
  await steps.step('a planned takeover, and back', async () => {
    await pair.redundant(REDUNDANT_WITHIN_MS)
    for (const args of [
      ['takeover', 'east', 'b'],
      ['giveback', 'east', '--timeout=60s'],
    ]) {
      const [verb = '', ...rest] = args
      const answer = await pair.tandem(verb, ...rest)
      if (answer.status !== 0) throw new Error(`tandem ${args.join(' ')}: ${answer.stderr}`)
    }
    await bed.served()
  })
  await steps.step('killed while metadata is built, it goes on', async () => {
    const before = killer.kills
    await killer.strikeAndCheck()
    while (killer.kills < kills - killsEach) await killer.strike(KILL_WITHIN_MS)
    const { phase, percent } = await conversion.status()
    if (phase !== 'Scanning') throw new Error(`phase ${phase}: too late for a kill in the middle`)
    return `${killer.kills - before} kills until ${percent} %, clients waited ${Math.round(killer.longestPauseMs)} ms at most`
  })
  await steps.step('killed when the devices join, they join', async () => {
    await conversion.ask({ state: 'Converted', scanBlocksPerSecond: FAST })
    for (let n = 0; n < killsEach; n++) {
      await pair.redundant(REDUNDANT_WITHIN_MS)
      await until(
        'the scan has come to its end',
        COMPLETE_WITHIN_MS,
        async () => {
          bed.assertWell()
          return (await conversion.status()).phase !== 'Scanning'
        },
        20,
      )
      await killer.strike(KILL_WITHIN_MS)
    }
    await pair.redundant(REDUNDANT_WITHIN_MS)
    await conversion.waitFor('Complete', COMPLETE_WITHIN_MS)
    bed.assertWell()
    await assertType('Flexible', 'aggr2')
    return `${killer.kills} kills in all`
  })
  await steps.step('every byte is there, and none was copied', async () => {
    await bed.pause()
    const bytes = await bed.verify()
    const { dataBlocksCopied, absentLeft, metadata, inodes } = await conversion.status()
    if (dataBlocksCopied !== 0 || absentLeft !== 0)
      throw new Error(`data blocks copied ${dataBlocksCopied}, absent ${absentLeft}`)
    console.log(`  data blocks copied ${dataBlocksCopied}`)
    console.log(`  metadata written   ${metadata?.actual} (estimated ${metadata?.estimated})`)
    console.log(`  files compared     ${inodes?.total} inodes, ${(bytes / 2 ** 20).toFixed(1)} MiB of data`)
    return `${bed.load.operations} operations and ${bed.large.compared} reads compared`
  })
  await steps.step('both copies are consistent', async () => {
    bed.close()
    await pair.redundant(REDUNDANT_WITHIN_MS)
    await pair.down()
    await pair.check()
  })
  failed = false
} catch (error) {
  console.log(error instanceof Error ? error.message : String(error))
  console.log(
    `state and logs: ${pair.folder}; replay: bin/node24 e2e/convert.ts --files ${files} --large ${largeBytes / 2 ** 20} --kills ${kills} --seed ${seed}`,
  )
} finally {
  bed.close()
  await pair.stop(failed || values.keep === true)
}
console.log(steps.table())
console.log(steps.summary('convert'))
process.exitCode = failed ? 1 : 0
