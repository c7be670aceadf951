/**
 * `make mirrors`: the life of a Mirror resource between two pairs on this machine, by the commands that docs/mirrors.md tells. Real processes, real files, no cluster.
 *
 * Made by one manifest together with its volumes, in sync, all filers killed without the operator, broken, written at both ends, resynced (refused until the very divergence is named), reversed, the first manifest
 * applied again, a written destination refused, deleted. After each step both ends hold what they must.
 */
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import type { MirrorStatus } from '../src/api/v1alpha1/mirror.ts'
import { METRICS_PORT } from '../src/edge/filer/filer-process.ts'
import { MIRRORS, PODS } from '../src/edge/kube/resources.ts'
import { NfsClient, NfsError } from '../src/nfs/client/nfs-client.ts'
import { Embedded } from './lib/embedded.ts'
import { run, until } from './lib/process.ts'
import { Steps } from './lib/steps.ts'

const pairOf = (name: string): string => `---
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: ${name} }
spec:
  aggregates: [{ name: aggr1, filer: a, deviceSets: [{ name: d, count: 1, size: 256Mi }] }]
  log: { size: 32Mi }
  cacheSize: 64Mi
  placement: { spread: Preferred }
  exportDefaults: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }]
`
const volumeOf = (name: string, pair: string): string => `---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: ${name} }
spec: { pairName: ${pair}, aggregate: aggr1, size: 64Mi }
`
const mirrorOf = (name: string, source: string, destination: string): string => `---
apiVersion: tandem.storage/v1alpha1
kind: Mirror
metadata: { name: ${name} }
spec:
  source: { volumeName: ${source} }
  destination: { volumeName: ${destination} }
  state: Mirrored
`
const manifests = [
  pairOf('east'),
  pairOf('west'),
  mirrorOf('home', 'home', 'home-dr'),
  volumeOf('home', 'east'),
  volumeOf('home-dr', 'west'),
].join('')

await run([join(import.meta.dirname, 'setup.sh'), 'crash'])
const steps = new Steps()
const pairs = await Embedded.start('mirrors', manifests)

async function command(verb: string, ...args: string[]): Promise<string> {
  const answer = await pairs.tandem(verb, ...args)
  if (answer.status !== 0)
    throw new Error(`tandem ${verb} ${args.join(' ')}: ${answer.stdout}${answer.stderr}`)
  return answer.stdout.trim()
}
/** The text of a refusal; an acceptance is an error. */
async function refused(verb: string, ...args: string[]): Promise<string> {
  const answer = await pairs.tandem(verb, ...args)
  if (answer.status === 0)
    throw new Error(`tandem ${verb} ${args.join(' ')} was not refused: ${answer.stdout}`)
  return answer.stderr
}
async function apply(text: string): Promise<void> {
  const file = join(pairs.folder, 'change.yaml')
  writeFileSync(file, text)
  await command('apply', '-f', file)
}
const statusOf = async (): Promise<MirrorStatus> =>
  (await pairs.api.get(MIRRORS, 'default', 'home'))['status'] ?? {}
const waitFor = (condition: string, name = 'home'): Promise<string> =>
  command('wait', `mir/${name}`, `--for=condition=${condition}`, '--timeout=120s')

async function at<T>(volume: string, use: (client: NfsClient, root: Uint8Array) => Promise<T>): Promise<T> {
  const { host, port, path } = await pairs.mountPoint(volume)
  const client = new NfsClient({ host, port, machine: 'mirrors' })
  try {
    return await use(client, await client.mount(path))
  } finally {
    client.close()
  }
}
const write = (volume: string, name: string, text: string): Promise<void> =>
  at(volume, async (client, root) => {
    const made = await client.create(root, name, { mode: 'UNCHECKED', attributes: { mode: 0o644 } })
    const handle = made.handle ?? (await client.lookup(root, name)).handle
    await client.write(handle, 0, Buffer.from(text), 'FILE_SYNC')
  })
async function expectFile(volume: string, name: string, text: string | undefined): Promise<void> {
  const found = await at(volume, async (client, root) => {
    try {
      const { handle } = await client.lookup(root, name)
      return Buffer.from((await client.read(handle, 0, 4096)).data).toString()
    } catch (error) {
      if (error instanceof NfsError && error.status === 'NOENT') return undefined
      throw error
    }
  })
  if (found !== text) throw new Error(`${volume}/${name} is ${String(found)}, not ${String(text)}`)
}

/** What the filer that serves the source tells of the mirror, without the operator. */
async function sourceTells(name: string, ...labels: string[]): Promise<number> {
  let told = 0
  for (const filer of ['a', 'b']) {
    const pod = await pairs.api.get(PODS, 'default', `east-${filer}-0`)
    const { podIP } = pod['status'] as { podIP: string }
    const answer = await fetch(`http://${podIP}:${METRICS_PORT}/metrics`).catch(() => undefined)
    for (const line of ((await answer?.text()) ?? '').split('\n'))
      if (line.startsWith(`${name}{`) && ['role="Source"', ...labels].every((label) => line.includes(label)))
        told += Number(line.slice(line.lastIndexOf(' ')))
  }
  return told
}

let failed = true
try {
  await steps.step('a mirror is made together with its volumes, and comes into sync', async () => {
    await waitFor('InSync')
    await write('home', 'first', 'of home')
    const { state, source, destination } = await statusOf()
    return `${source} to ${destination}: ${state}`
  })
  await steps.step(
    'every filer killed while the operator stands still: they mirror by what they keep',
    async () => {
      const { processes, pods } = await pairs.upStatus()
      const operator = processes.find(({ name }) => name === 'operator')?.pid
      if (operator === undefined) throw new Error('no operator runs')
      process.kill(operator, 'SIGSTOP')
      try {
        for (const { pid } of pods) if (pid !== undefined) process.kill(pid, 'SIGKILL')
        await until('the new filers are in sync', 60_000, async () => {
          await write('home', 'kept', 'by filers')
          const sent = await sourceTells('tandem_mirror_sent_bytes_total')
          return sent > 0 && (await sourceTells('tandem_mirror_state', 'state="InSync"')) === 1
        })
      } finally {
        process.kill(operator, 'SIGCONT')
      }
    },
  )
  await steps.step('broken: the destination has all of it, and is written', async () => {
    await command('mirror', 'break', 'home')
    await expectFile('home-dr', 'first', 'of home')
    await expectFile('home-dr', 'kept', 'by filers')
    await write('home-dr', 'second', 'of home-dr')
    await write('home', 'third', 'of home')
  })
  await steps.step('the first manifest applied again overwrites nothing', async () => {
    await apply(mirrorOf('home', 'home', 'home-dr'))
    await until('the divergence is told', 60_000, async () => (await statusOf()).divergence !== undefined)
    await expectFile('home-dr', 'second', 'of home-dr')
    const { divergence } = await statusOf()
    return `${divergence?.bytes} since ${divergence?.since}`
  })
  await steps.step('consent to another divergence does nothing', async () => {
    const told = await refused('mirror', 'resync', 'home', '--source', 'home', '--discard', 'none')
    if (!told.includes('Nothing was overwritten')) throw new Error(told)
    await expectFile('home-dr', 'second', 'of home-dr')
  })
  await steps.step('consent to this one has it overwritten', async () => {
    const { divergence } = await statusOf()
    await command('mirror', 'resync', 'home', '--source', 'home', '--discard', divergence?.id ?? '')
    await command('mirror', 'break', 'home')
    await expectFile('home-dr', 'second', undefined)
    await expectFile('home-dr', 'third', 'of home')
  })
  await steps.step('what was written at the destination goes home', async () => {
    await write('home-dr', 'fourth', 'of home-dr')
    await command('mirror', 'resync', 'home', '--source', 'home-dr')
    const { source } = await statusOf()
    if (source !== 'west/home-dr') throw new Error(`the source is ${source}`)
  })
  await steps.step('reversed in sync: nothing is lost', async () => {
    await write('home-dr', 'fifth', 'of home-dr')
    await command('mirror', 'reverse', 'home')
    await expectFile('home', 'fourth', 'of home-dr')
    await expectFile('home', 'fifth', 'of home-dr')
  })
  await steps.step('a volume waits for its mirror; deleted, both volumes are whole', async () => {
    await refused('delete', 'fv', 'home-dr', '--timeout', '3s')
    await waitFor('InSync')
    await command('delete', 'mir', 'home', '--timeout', '60s')
    await until(
      'the destination went with its mirror',
      60_000,
      async () => !(await command('get', 'fv', '-o', 'name')).includes('home-dr'),
    )
    await expectFile('home', 'fifth', 'of home-dr')
  })
  await steps.step('a destination that has been written is refused', async () => {
    await apply(volumeOf('web', 'west') + mirrorOf('web', 'home', 'web'))
    await waitFor('InSync', 'web')
    await command('delete', 'mir', 'web', '--timeout', '60s')
    await write('web', 'own', 'of web')
    const file = join(pairs.folder, 'change.yaml')
    writeFileSync(file, mirrorOf('again', 'home', 'web'))
    await pairs.tandem('apply', '-f', file)
    await waitFor('Accepted=False', 'again')
    const { conditions = [] } = ((await pairs.api.get(MIRRORS, 'default', 'again'))['status'] ??
      {}) as MirrorStatus
    const reason = conditions.find((c) => c.type === 'Accepted')?.reason
    if (reason !== 'DestinationNotEmpty') throw new Error(`refused for another reason: ${reason}`)
    await expectFile('web', 'own', 'of web')
  })
  failed = false
} catch (error) {
  console.log(error instanceof Error ? error.message : String(error))
  console.log((await pairs.tandem('describe', 'mir')).stdout)
  console.log(`state and logs: ${pairs.folder}`)
} finally {
  await pairs.stop(failed)
}
console.log(steps.table())
console.log(steps.summary('mirrors'))
process.exitCode = failed ? 1 : 0
