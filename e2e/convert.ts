/**
 * `make convert FILES=n`: a traditional volume with a tree becomes a flexible one while clients read and write it. Real processes, real files, no cluster.
 *
 *   convert.ts [--files N] [--seed S] [--keep]
 *
 * The load knows what every file must hold and keeps the handles that it had before. The filer that serves the volume is killed with -9 while metadata is being built, so that
 * its partner takes over in the middle of it. At the end every byte is compared, no block of data was copied, and `tandem check` proves both copies consistent: no block is lost or leaked.
 */
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { ConversionStatus } from '../src/api/v1alpha1/conversion.ts'
import { CONVERSIONS, FILER_VOLUMES } from '../src/edge/kube/resources.ts'
import { Load } from '../src/nfs/load/load.ts'
import { Embedded } from './lib/embedded.ts'
import { run, until } from './lib/process.ts'
import { Steps } from './lib/steps.ts'

const { values } = parseArgs({
  options: { files: { type: 'string' }, seed: { type: 'string' }, keep: { type: 'boolean' } },
})
const files = Number(values.files ?? 2000)
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9))
const WORKERS = 8
/** So slow that the kill comes while there is much left to build. */
const SLOW = 50
const FAST = 1_000_000
const deviceMi = Math.max(256, Math.ceil(files / 25))

const manifests = `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates:
    - { name: aggr1, filer: a, deviceSets: [{ name: d, count: 1, size: 128Mi }] }
    - { name: aggr2, filer: b, deviceSets: [{ name: d, count: 1, size: 256Mi }] }
  log: { size: 32Mi }
  cacheSize: 128Mi
  placement: { spread: Preferred }
  takeover: { givebackDelay: 1s }
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: home }
spec: { pairName: east, aggregate: aggr1, size: 64Mi }
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: archive }
spec:
  pairName: east
  type: Traditional
  filer: b
  deviceSets: [{ name: d, count: 2, size: ${deviceMi}Mi }]
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }
`
const conversionOf = (state: string, scanBlocksPerSecond: number): string => `
apiVersion: tandem.storage/v1alpha1
kind: Conversion
metadata: { name: archive }
spec: { volumeName: archive, aggregate: aggr2, state: ${state}, scanBlocksPerSecond: ${scanBlocksPerSecond} }
`

await run([join(import.meta.dirname, 'setup.sh'), 'crash'])
console.log(`convert: ${files} files, seed ${seed}`)
const steps = new Steps()
const pair = await Embedded.start('convert', manifests)

async function ask(state: string, rate: number): Promise<void> {
  const file = join(pair.folder, 'conversion.yaml')
  writeFileSync(file, conversionOf(state, rate))
  const answer = await pair.tandem('apply', '-f', file)
  if (answer.status !== 0) throw new Error(answer.stdout + answer.stderr)
}
async function waitFor(condition: string, timeoutMs: number): Promise<void> {
  const goal = [`conv/archive`, `--for=condition=${condition}`, `--timeout=${Math.ceil(timeoutMs / 1000)}s`]
  const answer = await pair.tandem('wait', ...goal)
  if (answer.status === 0) return
  throw new Error(`${answer.stderr}${(await pair.tandem('describe', 'conv', 'archive')).stdout}`)
}
const statusOf = async (): Promise<ConversionStatus> =>
  (await pair.api.get(CONVERSIONS, 'default', 'archive'))['status'] ?? {}

let load: Load | undefined
let failed = true
try {
  await pair.redundant()
  await pair.condition('Ready', 'fv/archive', 60_000)
  const each = Math.ceil(files / WORKERS)
  await steps.step(`a tree of ${files} files`, async () => {
    load = await Load.open([{ mount: await pair.mountPoint('archive'), workers: WORKERS }], {
      seed,
      filesPerWorker: each,
      filesMax: each + 10,
    })
    load.resume()
  })
  await steps.step('the check says that it would work, and what it needs', async () => {
    await ask('Checked', SLOW)
    await waitFor('Checked', 60_000)
    const { metadata, phase } = await statusOf()
    if (phase !== 'Checked') throw new Error(`phase ${phase}`)
    return `metadata ${metadata?.estimated} estimated`
  })
  await steps.step('the volume is cut over under load', async () => {
    load!.resetPause()
    await ask('Converted', SLOW)
    await waitFor('CutOver', 120_000)
    return `clients waited ${Math.round(load!.longestPauseMs)} ms at most`
  })
  await steps.step('its filer is killed, and the partner goes on with it', async () => {
    const before = await statusOf()
    if (before.phase !== 'Scanning')
      throw new Error(`phase ${before.phase}: too late for a kill in the middle`)
    load!.resetPause()
    if (!pair.kill('b')) throw new Error('filer b does not run')
    const operations = load!.operations
    await until('clients are served again', 60_000, () => load!.operations > operations + WORKERS)
    load!.assertWell()
    return `at ${before.percent} %, clients waited ${Math.round(load!.longestPauseMs)} ms`
  })
  await steps.step('the devices join', async () => {
    await pair.redundant()
    await ask('Converted', FAST)
    await waitFor('Complete', 300_000)
    load!.assertWell()
    const { status } = (await pair.api.get(FILER_VOLUMES, 'default', 'archive')) as {
      status?: { type?: string; aggregate?: string }
    }
    if (status?.type !== 'Flexible' || status.aggregate !== 'aggr2')
      throw new Error(`the volume is ${status?.type} in ${status?.aggregate}`)
  })
  await steps.step('every byte is there, and none was copied', async () => {
    await load!.pause()
    const { differences, bytes } = await load!.verify()
    if (differences.length > 0) throw new Error(differences.slice(0, 20).join('\n  '))
    const { dataBlocksCopied, absentLeft, metadata, inodes } = await statusOf()
    if (dataBlocksCopied !== 0 || absentLeft !== 0)
      throw new Error(`data blocks copied ${dataBlocksCopied}, absent ${absentLeft}`)
    console.log(`  data blocks copied ${dataBlocksCopied}`)
    console.log(`  metadata written   ${metadata?.actual} (estimated ${metadata?.estimated})`)
    console.log(`  files compared     ${inodes?.total} inodes, ${(bytes / 2 ** 20).toFixed(1)} MiB of data`)
    return `${load!.operations} operations compared`
  })
  await steps.step('both copies are consistent', async () => {
    load!.close()
    await pair.redundant()
    await pair.down()
    await pair.check()
  })
  failed = false
} catch (error) {
  console.log(error instanceof Error ? error.message : String(error))
  console.log(
    `state and logs: ${pair.folder}; replay: bin/node24 e2e/convert.ts --files ${files} --seed ${seed}`,
  )
} finally {
  load?.close()
  await pair.stop(failed || values.keep === true)
}
console.log(steps.table())
console.log(steps.summary('convert'))
process.exitCode = failed ? 1 : 0
