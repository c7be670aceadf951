/**
 * Pairs run by the embedded mode (`tandem up`) for tests: real processes, real files, the command line that users have.
 * What tests need beyond that is here: the filers' process numbers, and what is where in the state folder.
 */
import type { ChildProcess } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { KubeClient } from '../../src/edge/kube/client.ts'
import { FILER_PAIRS, FILER_VOLUMES, MIRRORS } from '../../src/edge/kube/resources.ts'
import { CLI_MANAGER } from '../../src/embedded/cli/connection.ts'
import { parseGoal, waitFor } from '../../src/embedded/cli/wait.ts'
import { control } from '../../src/embedded/up/control.ts'
import type { UpStatus } from '../../src/embedded/up/control.ts'
import { stateDir } from '../../src/embedded/up/state-dir.ts'
import type { MountPoint } from '../../src/nfs/load/load.ts'
import { attempt, end, ended, keep, until } from './process.ts'
import type { Finished } from './process.ts'
import { endFolder, stateFolder, sweep } from './state.ts'

const checkout = join(import.meta.dirname, '../..')
const main = join(checkout, 'src/main.ts')
/** Of a few GiB on a busy machine. */
const CHECK_WITHIN_MS = 900_000

interface VolumeStatus {
  status?: { mount?: { server: string; path: string; options: string } }
}

const RESOURCES = { fp: FILER_PAIRS, fv: FILER_VOLUMES, mir: MIRRORS } as const

export class Embedded {
  readonly folder: string
  readonly state: string
  readonly #manifests: string
  readonly #links: string
  readonly #main: string
  readonly #objects: readonly string[]
  readonly api: KubeClient
  #up: ChildProcess

  private constructor(
    folder: string,
    manifests: string,
    links: string,
    build: string,
    objects: readonly string[],
  ) {
    this.folder = folder
    this.state = join(folder, 'state')
    this.#manifests = manifests
    this.#links = links
    this.#main = build
    this.#objects = objects
    const { storeSocket } = stateDir(this.state)
    this.api = new KubeClient({ server: `unix:${storeSocket}` }, { fieldManager: CLI_MANAGER })
    this.#up = this.#start()
  }

  /** Starts `tandem up` with these manifests and waits until its pairs and volumes, fp/NAME and fv/NAME, are Ready. */
  static async start(
    kind: string,
    manifests: string,
    options: { links?: 'direct' | 'relayed'; main?: string; objects?: readonly string[] } = {},
  ): Promise<Embedded> {
    await sweep(kind) // a killed run's processes ended with it; its folder is left
    const folder = stateFolder(kind)
    const file = join(folder, 'manifests.yaml')
    writeFileSync(file, manifests)
    const { links = 'direct', objects = ['fp/east', 'fv/home'] } = options
    const pair = new Embedded(folder, file, links, options.main ?? main, objects)
    try {
      await pair.ready()
      return pair
    } catch (error) {
      console.error(`the logs are in ${pair.state}/logs and ${folder}/up.log`)
      await pair.stop(true)
      throw error
    }
  }

  #start(): ChildProcess {
    return keep(
      [
        process.execPath,
        '--disable-warning=ExperimentalWarning',
        this.#main,
        'up',
        '-f',
        this.#manifests,
        '--state',
        this.state,
        '--links',
        this.#links,
      ],
      join(this.folder, 'up.log'),
    )
  }

  /** Runs a verb of the command line on this instance. */
  tandem(verb: string, ...args: string[]): Promise<Finished> {
    return attempt([
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      this.#main,
      verb,
      ...args,
      '--state',
      this.state,
    ])
  }

  /** An order to `tandem up`, as its verbs give them. */
  order(path: string, body: Record<string, unknown> = {}): Promise<unknown> {
    return control(stateDir(this.state), path, body)
  }

  upStatus(): Promise<UpStatus> {
    return this.order('/status') as Promise<UpStatus>
  }

  /** `object`: fp/NAME, fv/NAME or mir/NAME. */
  async condition(condition: string, object: string, timeoutMs: number): Promise<void> {
    const [kind, name = ''] = object.split('/')
    const resource = RESOURCES[kind as keyof typeof RESOURCES]
    const goal = parseGoal(`condition=${condition}`)
    await until(`${object} is ${condition}`, timeoutMs, async () => {
      if (ended(this.#up))
        throw new Error(`tandem up ended: ${readFileSync(join(this.folder, 'up.log'), 'utf8').slice(-2000)}`)
      return (await waitFor(this.api, resource, 'default', name, goal, 1000)).met
    })
  }

  async ready(timeoutMs = 60_000): Promise<void> {
    for (const object of this.#objects) await this.condition('Ready', object, timeoutMs)
  }

  async redundant(timeoutMs = 120_000, pair = 'east'): Promise<void> {
    await this.condition('Redundant', `fp/${pair}`, timeoutMs)
  }

  /** Where the volume's status says that it is mounted from. */
  async mountPoint(volume = 'home'): Promise<MountPoint> {
    const { host, port, path } = await this.mountLine(volume)
    return { host, port, path }
  }

  /** The same with the mount options that the status names. */
  async mountLine(volume = 'home'): Promise<MountPoint & { options: string }> {
    const answer = await this.tandem('get', 'fv', volume, '-o', 'json')
    if (answer.status !== 0) throw new Error(answer.stderr)
    const mount = (JSON.parse(answer.stdout) as VolumeStatus).status?.mount
    const port = /(?:^|,)port=(\d+)/.exec(mount?.options ?? '')?.[1]
    if (mount === undefined || port === undefined)
      throw new Error(`no mount in the status of ${volume}: ${answer.stdout}`)
    return { host: mount.server, port: Number(port), path: mount.path, options: mount.options }
  }

  /** The filers' processes: children of `up` whose environment names the filer. */
  filers(): Map<string, number> {
    const result = new Map<string, number>()
    let children = ''
    try {
      children = readFileSync(`/proc/${this.#up.pid}/task/${this.#up.pid}/children`, 'utf8')
    } catch {
      return result
    }
    for (const pid of children.split(' ').filter(Boolean)) {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
        const config = environment.find((entry) => entry.startsWith('TANDEM_FILER_CONFIG='))
        if (config === undefined) continue
        const { filer } = JSON.parse(config.slice(config.indexOf('=') + 1)) as { filer: string }
        result.set(filer, Number(pid))
      } catch {
        // it has ended meanwhile
      }
    }
    return result
  }

  /** kill -9 of a filer that runs; gives false when it did not. */
  kill(filer: string): boolean {
    const pid = this.filers().get(filer)
    if (pid === undefined) return false
    process.kill(pid, 'SIGKILL')
    return true
  }

  /** The folder of each claim (log or device) of one filer. */
  claims(filer: string, pair = 'east'): string[] {
    const volumes = join(this.state, 'volumes')
    return readdirSync(volumes)
      .flatMap((namespace) =>
        readdirSync(join(volumes, namespace)).map((claim) => join(volumes, namespace, claim)),
      )
      .filter((path) => path.includes(`/${pair}-${filer}-`))
  }

  /** `tandem check` of what these filers left on their disks; throws what it says unless it is clean. */
  async check(filers: readonly string[] = ['a', 'b'], pair = 'east'): Promise<void> {
    for (const filer of filers) {
      const flags = ['--disable-warning=ExperimentalWarning', main, 'check', ...this.claims(filer, pair)]
      const result = await attempt([process.execPath, ...flags], { timeoutMs: CHECK_WITHIN_MS })
      if (result.status !== 0)
        throw new Error(`tandem check of ${pair}/${filer}'s devices: ${result.stdout}${result.stderr}`)
    }
  }

  /** kill -9 of `up` and with it of everything, then `up` again on the same state. */
  async restart(): Promise<void> {
    this.#up.kill('SIGKILL')
    await until('tandem up has ended', 10_000, () => ended(this.#up))
    await this.up()
  }

  /** `up` again on the same state. */
  async up(): Promise<void> {
    this.#up = this.#start()
    await this.ready()
  }

  /** Planned stop; the state stays. */
  async down(): Promise<void> {
    await end(this.#up, 30_000)
  }

  async stop(keepState = false): Promise<void> {
    this.api.close()
    await this.down()
    endFolder(this.folder, keepState)
  }
}
