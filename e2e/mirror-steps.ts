/**
 * Steps of the end-to-end test about mirrors: a second pair, a mirror each way, and their life by the commands that docs/mirrors.md tells, while the kernel client's programs
 * run on the source of one of them.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments, stringify } from 'yaml'
import type { MirrorStatus } from '../src/api/v1alpha1/mirror.ts'
import type { Cluster } from './cluster/cluster.ts'
import type { KernelClient, MountLine } from './lib/kernel-client.ts'
import { wait } from './lib/pair.ts'
import { sleep, until } from './lib/process.ts'
import { adapted, samples } from './manifests.ts'
import type { Manifest } from './manifests.ts'

const rules = [{ clients: ['0.0.0.0/0'], access: 'ReadWrite', squash: 'None' }]
/** Volume `home-dr` of pair west, and the mirror of `home` to it; with the state, as whoever keeps manifests in a repository writes it. */
const firstManifest = parseAllDocuments(
  readFileSync(join(import.meta.dirname, '../manifests/samples/mirror/mirror.yaml'), 'utf8'),
)
  .map((document) => document.toJS() as Manifest)
  .map((one) => (one.kind === 'Mirror' ? { ...one, spec: { ...one.spec, state: 'Mirrored' } } : one))
  .map((one) => stringify(one))
  .join('---\n')

const volume = (name: string, pairName: string): object => ({
  apiVersion: 'tandem.storage/v1alpha1',
  kind: 'FilerVolume',
  metadata: { name },
  spec: { pairName, aggregate: 'aggr1', size: '128Mi', export: { rules } },
})

/** Pair west as pair east of the samples, with one disk a filer; and volumes for a mirror the other way. */
function objects(): object[] {
  const [east] = adapted(samples()).filter(({ kind }) => kind === 'FilerPair')
  const [aggregate] = east!.spec['aggregates'] as { deviceSets: object[] }[]
  const deviceSets = aggregate!.deviceSets.map((set) => ({ ...set, count: 1 }))
  const mirror = {
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'Mirror',
    metadata: { name: 'work' },
    spec: { source: { volumeName: 'work' }, destination: { volumeName: 'work-dr' } },
  }
  const west = {
    ...east!,
    metadata: { name: 'west' },
    spec: { ...east!.spec, aggregates: [{ ...aggregate, deviceSets }], exportDefaults: rules },
  }
  return [west, volume('work', 'west'), volume('work-dr', 'east'), mirror]
}

const seconds = (sinceMs: number): string => `${((Date.now() - sinceMs) / 1000).toFixed(1)} s`

export class MirrorSteps {
  readonly #cluster: Cluster
  readonly #guest: KernelClient

  constructor(cluster: Cluster, guest: KernelClient) {
    this.#cluster = cluster
    this.#guest = guest
  }

  async #patch(name: string, spec: object): Promise<void> {
    await this.#cluster.k('patch', 'mir', name, '--type', 'merge', '-p', JSON.stringify({ spec }))
  }
  async #status(name: string): Promise<MirrorStatus> {
    return (await this.#cluster.json<{ status?: MirrorStatus }>('get', `mir/${name}`)).status ?? {}
  }
  /** Runs a script in a volume, mounted as its status says. */
  async #in(name: string, script: string): Promise<string> {
    const { status } = await this.#cluster.json<{ status?: { mount?: MountLine } }>('get', `fv/${name}`)
    if (status?.mount === undefined) throw new Error(`status.mount of fv/${name} is empty`)
    return this.#guest.visit(status.mount, script)
  }
  async #expect(name: string, script: string, wanted: string): Promise<void> {
    const found = await this.#in(name, script)
    if (found !== wanted) throw new Error(`${script} in ${name}: '${found}', not '${wanted}'`)
  }

  async made(): Promise<string> {
    const began = Date.now()
    await this.#cluster.apply(
      `${objects()
        .map((one) => stringify(one))
        .join('---\n')}---\n${firstManifest}`,
    )
    await wait(this.#cluster, 'Ready', 'fp/west', 120)
    for (const name of ['home', 'work']) await wait(this.#cluster, 'InSync', `mirror/${name}`, 180)
    const inSync = seconds(began)
    await this.#in('home', 'echo of home >first; sync first')
    await this.#in('work', 'echo of work >plan; sync plan')
    return `in sync both ways after ${inSync}, longest pause ${this.#guest.longestPauseMs(began)} ms`
  }

  /** What the client was told is done is there. */
  async broken(): Promise<string> {
    const rows = this.#guest.rounds()['sqlite-delete']!
    const began = Date.now()
    await this.#patch('home', { state: 'Broken' })
    await wait(this.#cluster, 'Broken', 'mirror/home', 60)
    const after = seconds(began)
    await this.#expect('home-dr', 'cat first', 'of home')
    // A journal that was in use is rolled back at the first look, in a copy.
    const database = 'mkdir /tmp/dr; cp e2e/delete.db* /tmp/dr; cd /tmp/dr'
    const query = `sqlite3 delete.db 'pragma integrity_check; select count(*) >= ${rows} from t' | paste -sd' '`
    await this.#expect('home-dr', `${database}; ${query}`, 'ok 1')
    await this.#in('home-dr', 'echo of home-dr >second; sync second')
    await this.#in('home', 'echo of home >third; sync third')
    return `after ${after}; all ${rows} transactions of the client are at the destination`
  }

  /** Nothing is overwritten until the very divergence is named. */
  async consented(): Promise<string> {
    const untouched = (): Promise<void> => this.#expect('home-dr', 'head -n 1 second', 'of home-dr')
    const divergence = (other?: string): Promise<string> =>
      until('the divergence is told', 60_000, async () => {
        const { divergence: found } = await this.#status('home')
        return found?.id !== other && found?.id
      })
    for (let times = 0; times < 2; times++) {
      await this.#cluster.apply(firstManifest)
      await divergence()
      await untouched()
    }
    const older = await divergence()
    await this.#in('home-dr', 'echo more >>second; sync second')
    const id = await divergence(older)
    await this.#patch('home', { discardChanges: older })
    // Longer than the operator and the filers take to act upon a change.
    await sleep(3000)
    if ((await divergence()) !== id) throw new Error('the divergence is another one, and nobody wrote')
    await untouched()
    const began = Date.now()
    await this.#patch('home', { discardChanges: id })
    await wait(this.#cluster, 'InSync', 'mirror/home', 120)
    const after = seconds(began)
    await this.#cluster.apply(firstManifest)
    await this.#patch('home', { state: 'Broken' })
    await wait(this.#cluster, 'Broken', 'mirror/home', 60)
    await this.#expect('home-dr', 'cat third; ls second 2>/dev/null || true', 'of home')
    return `named ${older}: nothing; named ${id}: in sync after ${after}`
  }

  async reversed(): Promise<string> {
    const began = Date.now()
    await this.#swap('work-dr', 'work', 'east/work-dr')
    await this.#expect('work-dr', 'cat plan; echo of work-dr >back; sync back', 'of work')
    await this.#swap('work', 'work-dr', 'west/work')
    await this.#expect('work', 'cat plan back', 'of work\nof work-dr')
    return `there and back in ${seconds(began)}`
  }

  async #swap(source: string, destination: string, shown: string): Promise<void> {
    await this.#patch('work', { source: { volumeName: source }, destination: { volumeName: destination } })
    await until(`${source} is the source`, 60_000, async () => (await this.#status('work')).source === shown)
    await wait(this.#cluster, 'InSync', 'mirror/work', 60)
  }
}
