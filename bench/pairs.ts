/**
 * P10: many pairs in one operator, against a real API server: how long until all are reconciled, what the operator takes of memory, and
 * whether it leaves the API alone when nothing happens.
 *
 *   node bench/pairs.ts [short|long|PAIRS]
 *
 * The operator is the program as it is shipped, a process of its own; etcd and the API server share the machine's processors with it. There are
 * no nodes, so no filer ever runs: a pair is reconciled when everything that the operator makes for it is there and its conditions say what it
 * waits for. Beyond a goal is reported; a pair that is not reconciled, and a write while nothing happens, is a failure.
 */
import { readFileSync } from 'node:fs'
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { parse } from 'yaml'
import { programs, startApiServer } from '../e2e/lib/api-server.ts'
import type { ApiServer } from '../e2e/lib/api-server.ts'
import { end, ended, keep, run, sleep, until } from '../e2e/lib/process.ts'
import { endFolder, stateFolder, sweep } from '../e2e/lib/state.ts'
import type { KubeObject, Resource } from '../src/edge/kube/api.ts'
import { KubeClient } from '../src/edge/kube/client.ts'
import { Informer } from '../src/edge/kube/informer.ts'
import { kubeconfigConnection } from '../src/edge/kube/kubeconfig.ts'
import { FILER_PAIRS, FILER_VOLUMES, NAMESPACES } from '../src/edge/kube/resources.ts'
import type { Condition } from '../src/api/v1alpha1/common.ts'
import type { FilerPairStatus } from '../src/api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../src/api/v1alpha1/filer-volume.ts'
import type { Say, Section } from './report.ts'
import { sectionText, whole } from './report.ts'
import { concurrently } from './rig.ts'

const MIB = 2 ** 20
const GOAL_SECONDS = 120
const GOAL_RSS = 256 * MIB
const LIMIT_MS = 600_000
const NAMESPACE_PAIRS = 50
/** A loopback address of our own: the operator's port is fixed. */
const HOST = '127.94.0.1'

const checkout = join(import.meta.dirname, '..')
const sample = (name: string): KubeObject =>
  parse(readFileSync(join(checkout, `manifests/samples/${name}.yaml`), 'utf8')) as KubeObject

interface Sizes {
  readonly pairs: number
  readonly idleSeconds: number
}
const SHORT: Sizes = { pairs: 100, idleSeconds: 20 }
const LONG: Sizes = { pairs: 1000, idleSeconds: 60 }

/** Those of the Deployment, and the heap that Node takes by itself in a container of 256 MiB: half of it. */
const nodeOptions = `--max-old-space-size=128 ${
  /name: NODE_OPTIONS\n *value: (.*)/.exec(
    readFileSync(join(checkout, 'manifests/install.yaml'), 'utf8'),
  )![1]!
}`

const memory = (pid: number, field: 'VmRSS' | 'VmHWM'): number =>
  Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024

const cpuSeconds = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** Sums the samples of a metric whose labels the filter likes. */
function sum(text: string, metric: string, likes: (labels: string) => boolean = () => true): number {
  let total = 0
  for (const [, labels = '', value] of text.matchAll(new RegExp(`^${metric}(?:{(.*)})? (\\S+)$`, 'gm')))
    if (likes(labels)) total += Number(value)
  return total
}

class Operator {
  readonly child: ChildProcess
  readonly #log: string

  constructor(kubeconfig: string, log: string) {
    this.#log = log
    this.child = keep([process.execPath, join(checkout, 'src/main.ts'), 'operator'], this.#log, {
      env: {
        KUBECONFIG: kubeconfig,
        POD_IP: HOST,
        TANDEM_KUBE: '',
        KUBERNETES_SERVICE_HOST: '',
        NODE_OPTIONS: nodeOptions,
      },
    })
  }

  get pid(): number {
    if (ended(this.child)) throw new Error(`the operator ended:\n${this.log().slice(-2000)}`)
    return this.child.pid!
  }

  log(): string {
    return readFileSync(this.#log, 'utf8')
  }

  async metrics(): Promise<string> {
    return await (await fetch(`http://${HOST}:9400/metrics`)).text()
  }

  writes = async (): Promise<number> => sum(await this.metrics(), 'tandem_operator_writes_total')
}

/** What the server has been asked to change, leases of leaders and Events aside. */
async function serverWrites(kubeconfig: string): Promise<number> {
  const text = await run([join(programs, 'kubectl'), '--kubeconfig', kubeconfig, 'get', '--raw', '/metrics'])
  return sum(
    text,
    'apiserver_request_total',
    (labels) =>
      /verb="(POST|PUT|PATCH|APPLY|DELETE)"/.test(labels) && !/resource="(leases|events)"/.test(labels),
  )
}

const hasCondition = (object: KubeObject, type: string, reason: string): boolean =>
  ((object['status'] as { conditions?: Condition[] } | undefined)?.conditions ?? []).some(
    (c) => c.type === type && c.reason === reason && c.observedGeneration === object.metadata.generation,
  )

/** The last thing that a pass writes is status: what it tells has been made, the addresses that clients mount from included. */
function isReconciled(object: KubeObject): boolean {
  if (object.kind === FILER_PAIRS.kind) {
    const { filers = [] } = (object['status'] ?? {}) as FilerPairStatus
    return hasCondition(object, 'Ready', 'Starting') && filers.every((f) => f.clusterIP !== undefined)
  }
  const { mount } = (object['status'] ?? {}) as FilerVolumeStatus
  return hasCondition(object, 'Accepted', 'Accepted') && mount !== undefined
}

class Watched {
  readonly #reconciled = new Set<string>()
  readonly #informers: Informer[]

  constructor(api: KubeClient) {
    const follow = (resource: Resource): Informer =>
      new Informer(api, resource, {
        onChange: (object) => {
          if (object !== undefined && isReconciled(object)) this.#reconciled.add(object.metadata.uid ?? '')
        },
      })
    this.#informers = [follow(FILER_PAIRS), follow(FILER_VOLUMES)]
  }

  get count(): number {
    return this.#reconciled.size
  }

  async start(): Promise<void> {
    await Promise.all(this.#informers.map((i) => i.start()))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#informers.map((i) => i.stop()))
  }
}

/** Pairs with a volume each, made by several hands at once. */
async function makePairs(api: KubeClient, count: number): Promise<void> {
  const [pair, volume] = [sample('filer-pair'), sample('filer-volume')]
  for (let n = 0; n * NAMESPACE_PAIRS < count; n++)
    await api.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `pairs-${n}` } })
  await concurrently(count, 8, async (n) => {
    const namespace = `pairs-${Math.floor(n / NAMESPACE_PAIRS)}`
    const spec = { ...(volume['spec'] as object), pairName: `pair-${n}` }
    await api.create(FILER_PAIRS, { ...pair, metadata: { namespace, name: `pair-${n}` } })
    await api.create(FILER_VOLUMES, { ...volume, metadata: { namespace, name: `volume-${n}` }, spec })
  })
}

interface Figures {
  readonly what: string
  readonly seconds: number
  readonly writes: number
  readonly cpuSeconds: number
  /** Highest so far. */
  readonly rssMax: number
}

/** From now until `done`; the process's figures from its beginning. */
async function phase(
  what: string,
  operator: Operator,
  say: Say,
  done: () => Promise<void>,
): Promise<Figures> {
  const startMs = performance.now()
  await done()
  const figures = {
    what,
    seconds: (performance.now() - startMs) / 1000,
    writes: await operator.writes(),
    cpuSeconds: cpuSeconds(operator.pid),
    rssMax: memory(operator.pid, 'VmHWM'),
  }
  say(`P10 ${what}: ${figures.seconds.toFixed(1)} s`)
  return figures
}

const ready = async (operator: Operator): Promise<void> => {
  await until(
    'the operator looks at every pair',
    LIMIT_MS,
    () => operator.pid > 0 && operator.log().includes('every pair has been looked at'),
  )
}

async function measure(folder: string, { kubeconfig, pids }: ApiServer, sizes: Sizes, say: Say) {
  const { pairs, idleSeconds } = sizes
  const { connection } = await kubeconfigConnection(kubeconfig)
  const api = new KubeClient(connection, { timeoutMs: 60_000 })
  const watched = new Watched(api)
  const failures: string[] = []
  let operator = new Operator(kubeconfig, join(folder, 'first.log'))
  try {
    await watched.start()
    await ready(operator)
    const base = memory(operator.pid, 'VmRSS')
    const serverCpu = (): number => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0)
    const serverBefore = serverCpu()
    const made = await phase(`${whole(pairs)} pairs made and reconciled`, operator, say, async () => {
      await makePairs(api, pairs)
      await until(`${pairs} pairs and their volumes are reconciled`, LIMIT_MS, () => {
        void operator.pid
        return watched.count === 2 * pairs
      })
    })
    const serverSeconds = serverCpu() - serverBefore
    // What was under way when the last status was written.
    let last = -1
    await until(
      'the operator has nothing to write',
      LIMIT_MS,
      async () => last === (last = await operator.writes()),
      5000,
    )
    const [before, cpuBefore] = [await serverWrites(kubeconfig), cpuSeconds(operator.pid)]
    await sleep(idleSeconds * 1000)
    const idleWrites = (await serverWrites(kubeconfig)) - before
    const idleCpu = (cpuSeconds(operator.pid) - cpuBefore) / idleSeconds
    if (idleWrites !== 0)
      failures.push(`P10: ${idleWrites} writes in ${idleSeconds} s in which nothing happened`)
    const settled = memory(operator.pid, 'VmRSS')
    const idleMax = memory(operator.pid, 'VmHWM')
    say(`P10 ${idleSeconds} s of nothing`)
    await end(operator.child, 30_000)
    operator = new Operator(kubeconfig, join(folder, 'second.log'))
    const again = await phase('the operator started anew', operator, say, () => ready(operator))
    if (again.writes !== 0)
      failures.push(`P10: an operator that was started anew wrote ${again.writes} times`)
    return {
      base,
      phases: [{ ...made, rssMax: idleMax }, again],
      settled,
      serverSeconds,
      idleWrites,
      idleCpu,
      failures,
    }
  } catch (error) {
    throw new Error(
      `${error instanceof Error ? error.message : String(error)}\n${operator.log().slice(-2000)}`,
    )
  } finally {
    await end(operator.child, 30_000)
    await watched.stop()
    api.close()
  }
}

export const pairsSection = (long: boolean, say: Say): Promise<Section> => section(long ? LONG : SHORT, say)

async function section(sizes: Sizes, say: Say): Promise<Section> {
  await run([join(checkout, 'e2e/setup.sh'), 'api'], { timeoutMs: 3_600_000 })
  await sweep('pairs')
  const folder = stateFolder('pairs')
  const server = await startApiServer('pairs-api')
  let failed = true
  try {
    const kubectl = [join(programs, 'kubectl'), '--kubeconfig', server.kubeconfig]
    const install = join(checkout, 'manifests/install.yaml')
    await run([...kubectl, 'apply', '--validate=false', '-f', install])
    await run([...kubectl, 'wait', '--for=condition=Established', '--timeout=30s', 'crd', '--all'])
    const { base, phases, settled, serverSeconds, idleWrites, idleCpu, failures } = await measure(
      folder,
      server,
      sizes,
      say,
    )
    const [made, again] = phases as [Figures, Figures]
    const rssMax = Math.max(made.rssMax, again.rssMax)
    const mib = (bytes: number): string => (bytes / MIB).toFixed(0)
    failed = failures.length > 0
    return {
      title: 'Many pairs in one operator (P10)',
      notes: [
        `${whole(sizes.pairs)} pairs with a volume each, made while the operator runs, against a real API server on the same machine ([\`bench/pairs.ts\`](../bench/pairs.ts)). There are no nodes:`,
        'no filer runs, a pair is reconciled when all its objects are there and its conditions say what it waits for. Writes are those of the operator to the API, Events aside.',
      ],
      heads: ['', 'Seconds', 'Writes', 'CPU, s', 'Highest RSS, MiB'],
      rows: phases.map((p) => [
        p.what,
        p.seconds.toFixed(1),
        whole(p.writes),
        p.cpuSeconds.toFixed(1),
        mib(p.rssMax),
      ]),
      verdicts: [
        `reconciled in ${made.seconds.toFixed(1)} s (goal for 1,000: ${GOAL_SECONDS} s)${made.seconds > GOAL_SECONDS ? ': missed' : ''}; the API server and etcd took ${serverSeconds.toFixed(0)} s of CPU for it`,
        `RSS ${mib(base)} MiB without pairs, at most ${mib(rssMax)}, ${mib(settled)} afterwards (goal: ${mib(GOAL_RSS)})${rssMax > GOAL_RSS ? ': missed' : ''}`,
        `in ${sizes.idleSeconds} s of nothing: ${idleWrites} writes to the API server, ${(idleCpu * 100).toFixed(1)} % of a processor`,
      ],
      failures,
    }
  } finally {
    await server.stop()
    endFolder(folder, failed)
  }
}

if (import.meta.main) {
  const [size = 'short'] = process.argv.slice(2)
  const sizes = size === 'short' ? SHORT : size === 'long' ? LONG : { ...SHORT, pairs: Number(size) }
  const found = await section(sizes, (text) => console.log(text))
  console.log(sectionText(found))
  for (const failure of found.failures) console.log(`FAILED ${failure}`)
  process.exitCode = found.failures.length === 0 ? 0 : 1
}
