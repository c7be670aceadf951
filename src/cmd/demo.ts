/** `tandem demo` (`make demo`): pairs on this machine lose links and a filer, and no data. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FILER_VOLUMES } from '../edge/kube/resources.ts'
import { applyManifests } from '../embedded/cli/apply.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { readManifests } from '../embedded/cli/manifests.ts'
import { table } from '../embedded/cli/table.ts'
import { conversionIn, playConversion } from '../embedded/demo/conversion-act.ts'
import { Instance, InstanceError } from '../embedded/demo/instance.ts'
import { mirrorsIn, playMirrors } from '../embedded/demo/mirror-act.ts'
import { namesIn, play } from '../embedded/demo/scenario.ts'
import type { Names } from '../embedded/demo/scenario.ts'
import { mountOf } from '../embedded/demo/steps.ts'
import { MAIN } from '../embedded/up/processes.ts'
import type { StateDir } from '../embedded/up/state-dir.ts'

const SAMPLES = fileURLToPath(new URL('../../manifests/samples/embedded', import.meta.url))
const FILES = ['pair.yaml', 'volume.yaml']
const MIRRORS_FILE = fileURLToPath(
  new URL('../../manifests/samples/embedded-mirrors/west.yaml', import.meta.url),
)
const CONVERSION_FILE = fileURLToPath(
  new URL('../../manifests/samples/embedded-conversion/archive.yaml', import.meta.url),
)

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'demo',
      summary: 'pairs on this machine lose links and a filer, and no data',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        keep: { kind: 'switch', meaning: 'leave it running, and tell how to look at it and how to end it' },
      },
      notes:
        'Exit status 0 only if everything held. It takes under a minute; any user, also several at once.',
    },
    args,
    async (parsed) => {
      const startedMs = performance.now()
      const files = FILES.map((name) => join(SAMPLES, name))
      const names = namesIn(files.map((file) => readFileSync(file, 'utf8')))
      const say = (text: string): void => console.log(text)
      say('A filer pair on this machine: store, operator, two filers, two relayed interconnects.')
      let instance: Instance
      try {
        instance = await Instance.start(files)
      } catch (error) {
        if (error instanceof InstanceError) return failed(error, error.dir)
        throw error
      }
      const interrupted = new Promise<never>((_, reject) => {
        for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
          process.once(signal, () => reject(new Interrupted(signal)))
      })
      interrupted.catch(() => undefined)
      try {
        const result = await Promise.race([acts(instance, names, startedMs, say), interrupted])
        say(`\n${table(result)}\n`)
        if (parsed.has('keep')) {
          await keep(instance, names.volume)
          return 0
        }
        await instance.stop()
        say(`Stopped; \`tandem check\` of each copy on the devices: ${checkDevices(instance.dir)}.`)
        instance.remove()
        say(
          `Everything held. ${((performance.now() - startedMs) / 1000).toFixed(1)} s in all; nothing is left behind.`,
        )
        return 0
      } catch (error) {
        await instance.stop()
        if (!(error instanceof Interrupted)) return failed(error, instance.dir)
        instance.remove()
        console.error(`tandem demo: ended by ${error.message}; nothing is left behind`)
        return 130
      }
    },
  )
}

/** One pair, then another one beside it with mirrors each way, then a volume of that one converted. */
async function acts(
  instance: Instance,
  names: Names,
  startedMs: number,
  say: (text: string) => void,
): Promise<[string, string][]> {
  const tell = (text: string): void =>
    say(`${`${((performance.now() - startedMs) / 1000).toFixed(1)} s`.padStart(7)}  ${text}`)
  const rows = await play({ tell, instance, names, startedMs })
  const { pair, mirrors } = mirrorsIn(readFileSync(MIRRORS_FILE, 'utf8'))
  const manifests = readManifests([MIRRORS_FILE, CONVERSION_FILE])
  const { refusals } = await applyManifests(instance.api, manifests, 'default')
  if (refusals.length > 0) throw new Error(refusals.join('; '))
  const { interconnects } = names
  rows.push(...(await playMirrors({ tell, instance, interconnects, pairs: [names.pair, pair], mirrors })))
  const conversion = conversionIn(readFileSync(CONVERSION_FILE, 'utf8'))
  rows.push(...(await playConversion({ tell, instance, ...conversion })))
  return rows
}

/** Offline, in a process of its own; throws what it says when anything is wrong. */
function checkDevices(dir: StateDir): string {
  const args = ['--disable-warning=ExperimentalWarning', MAIN, 'check', '--json', dir.volumes]
  const result = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (result.status !== 0) throw new Error(`tandem check: ${result.stdout}${result.stderr}`)
  const { aggregates } = JSON.parse(result.stdout) as { aggregates: unknown[] }
  return `${String(aggregates.length)} consistent`
}

class Interrupted extends Error {}

function failed(error: unknown, dir: StateDir): number {
  console.error(`\ntandem demo: FAILED: ${(error as Error).message}`)
  console.error(`logs: ${dir.logs} (one file per process); the state is in ${dir.path}`)
  return 1
}

async function keep(instance: Instance, volumeName: string): Promise<void> {
  const volume = await instance.api.get(FILER_VOLUMES, 'default', volumeName)
  const { server, port, path, options } = mountOf(volume)
  const state = instance.dir.path
  console.log(`It goes on running. To look at it:
  bin/tandem status --state ${state}
  bin/tandem get tandem,pods --state ${state}
without root (libnfs-utils):
  nfs-ls 'nfs://${server}${path}?version=3&nfsport=${String(port)}&mountport=${String(port)}'
as root:
  mount -t nfs -o ${options} ${server}:${path} /mnt
To end it and remove everything:
  bin/tandem down --purge --state ${state}`)
  instance.leave()
}
