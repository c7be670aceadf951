/**
 * A Kubernetes 1.20 cluster with real pods, in namespaces of its own on this machine: control plane and two nodes, each with
 * containerd, kubelet and kube-proxy; pod network, two storage networks, DNS, local disks (see control-plane.sh and node.sh).
 * Ready in 15 to 25 s on two cores. Nothing outside its folder and its cgroups is changed, and all processes end with the one
 * that started it: the cluster is a process namespace whose first process the kernel kills with its parent.
 *
 * Needs root and what `e2e/setup.sh e2e` installs.
 */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { attempt, end, ended, keep, run, until } from '../lib/process.ts'
import type { Finished, RunOptions } from '../lib/process.ts'
import { endFolder, stateFolder, sweep } from '../lib/state.ts'

export type Network = 'nodes' | 'storage1' | 'storage2'

const here = import.meta.dirname
export const cache = process.env['TANDEM_CACHE'] ?? join(homedir(), '.cache/tandem')

/** Local volumes of each node: enough for two pairs' logs and devices. */
const volumesPerNode = 12
const volumeSize = '20Gi'

/** Removes a folder of cgroups: only from the leaves upwards. */
function removeCgroup(folder: string): void {
  let entries
  try {
    entries = readdirSync(folder, { withFileTypes: true })
  } catch {
    return
  }
  for (const entry of entries) if (entry.isDirectory()) removeCgroup(join(folder, entry.name))
  try {
    rmdirSync(folder)
  } catch {
    // a process in it is still ending; the caller comes again
  }
}

/** The nodes' cgroups outlive their processes. */
async function clearCgroups(state: string): Promise<void> {
  const roots = [
    '/sys/fs/cgroup',
    ...readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name)),
  ]
  const left = (): string[] =>
    roots.flatMap((root) => {
      try {
        return readdirSync(root)
          .filter((name) => name.startsWith(`tandem-${basename(state)}-`))
          .map((name) => join(root, name))
      } catch {
        return []
      }
    })
  await until('cgroups of the ended cluster are removed', 10_000, () => {
    for (const folder of left()) removeCgroup(folder)
    return left().length === 0
  }).catch((error: unknown) => console.error(String(error)))
}

export class Cluster {
  readonly state: string
  readonly nodes: number
  #process: ChildProcess
  #init = 0

  private constructor(state: string, nodes: number, child: ChildProcess) {
    this.state = state
    this.nodes = nodes
    this.#process = child
  }

  /** Starts a cluster and returns when its nodes are Ready and pods can be created. */
  static async start(
    options: { nodes?: number; images?: string[]; progress?: (text: string) => void } = {},
  ): Promise<Cluster> {
    const { nodes = 2, images = [], progress = () => {} } = options
    await sweep('cluster', clearCgroups)
    const state = stateFolder('cluster')
    const names =
      'DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:10.96.0.1,IP:10.10.0.254'
    const numbers = Array.from({ length: nodes }, (_, index) => index + 1)
    await run([
      join(here, 'pki.sh'),
      join(state, 'pki'),
      'https://10.10.0.254:6443',
      names,
      ...numbers.map((node) => `node${node}=10.10.0.${node}`),
    ])
    const child = keep(
      [
        'unshare',
        '--net',
        '--mount',
        '--pid',
        '--fork',
        '--kill-child=KILL',
        '--mount-proc',
        '--propagation',
        'private',
        join(here, 'control-plane.sh'),
      ],
      join(state, 'control-plane.log'),
      {
        env: {
          STATE: state,
          NODES: String(nodes),
          BIN: join(cache, 'kubernetes/bin'),
          NODE24: process.execPath,
        },
      },
    )
    const cluster = new Cluster(state, nodes, child)
    try {
      await cluster.#ready(numbers, [join(cache, 'kubernetes/images/pause.tar'), ...images], progress)
      return cluster
    } catch (error) {
      console.error(`cluster: logs are in ${state}`)
      await cluster.#end()
      throw error
    }
  }

  async #ready(numbers: number[], images: string[], progress: (text: string) => void): Promise<void> {
    this.#init = await until(
      'first process of the cluster',
      10_000,
      () => {
        if (ended(this.#process)) throw new Error('unshare ended')
        const children = readFileSync(`/proc/${this.#process.pid}/task/${this.#process.pid}/children`, 'utf8')
        const pid = Number(children.trim().split(' ')[0])
        return pid > 0 && pid
      },
      20,
    )
    await this.#answers()
    progress('API server ready')
    const objects = this.apply(readFileSync(join(here, 'objects.yaml'), 'utf8') + this.#volumes(numbers))
    await Promise.all(
      numbers.map(async (node) => {
        const socket = join(this.state, `node${node}/containerd.sock`)
        await until(
          `containerd of node${node}`,
          60_000,
          async () => (await attempt(['ctr', '-a', socket, 'version'])).status === 0,
        )
        for (const image of images) await this.containerd(node, 'images', 'import', image)
      }),
    )
    await objects
    progress('containerd ready, images imported')
    const template = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}'
    await until(`${this.nodes} nodes Ready`, 90_000, async () => {
      const answer = await this.kubectl(['get', 'nodes', '-o', `jsonpath=${template}`])
      return answer.stdout.split(' ').filter((word) => word === 'True').length === this.nodes
    })
    await until(
      'default service account',
      60_000,
      async () => (await this.kubectl(['-n', 'default', 'get', 'serviceaccount', 'default'])).status === 0,
    )
    progress(`${this.nodes} nodes Ready`)
  }

  /** PersistentVolumes on folders of each node, with node affinity. */
  #volumes(numbers: number[]): string {
    let text = ''
    for (const node of numbers) {
      for (let index = 1; index <= volumesPerNode; index++) {
        const path = join(this.state, `node${node}/disks/${index}`)
        mkdirSync(path, { recursive: true })
        text += `---
apiVersion: v1
kind: PersistentVolume
metadata: { name: node${node}-disk${index} }
spec:
  capacity: { storage: ${volumeSize} }
  accessModes: [ReadWriteOnce]
  storageClassName: local-disks
  persistentVolumeReclaimPolicy: Retain
  local: { path: ${path} }
  nodeAffinity:
    required:
      nodeSelectorTerms: [{ matchExpressions: [{ key: kubernetes.io/hostname, operator: In, values: [node${node}] }] }]
`
      }
    }
    return text
  }

  get kubeconfig(): string {
    return join(this.state, 'pki/admin.kubeconfig')
  }

  /** The first process's number on this machine: its namespaces are the cluster's (for nsenter). */
  get init(): number {
    return this.#init
  }

  /** Command that runs in the control plane's network namespace. */
  inside(command: string[]): string[] {
    return ['nsenter', '-t', String(this.#init), '-n', '--', ...command]
  }

  /** Command that runs in a node's network and mount namespaces. */
  insideNode(node: number, command: string[]): string[] {
    const pid = readFileSync(join(this.state, `node${node}.pid`), 'utf8').trim()
    // The number is one of the cluster's own process namespace.
    return [
      'nsenter',
      '-t',
      String(this.#init),
      '-p',
      '-n',
      '-m',
      '--',
      'nsenter',
      '-t',
      pid,
      '-n',
      '-m',
      '--',
      ...command,
    ]
  }

  async kubectl(args: string[], options: RunOptions = {}): Promise<Finished> {
    return attempt(this.inside([join(cache, 'kubernetes/bin/kubectl'), ...args]), {
      ...options,
      env: { KUBECONFIG: this.kubeconfig, ...options.env },
    })
  }

  /** kubectl that must succeed; gives its output. */
  async k(...args: string[]): Promise<string> {
    const result = await this.kubectl(args)
    if (result.status !== 0) throw new Error(`kubectl ${args.join(' ')}: ${result.stderr}${result.stdout}`)
    return result.stdout
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.k(...args, '-o', 'json')) as T
  }

  /** kubectl apply; this version's kubectl refuses CRDs with CEL rules unless it does not validate. */
  async apply(yaml: string): Promise<string> {
    const result = await this.kubectl(['apply', '--validate=false', '-f', '-'], { input: yaml })
    if (result.status !== 0) throw new Error(`kubectl apply: ${result.stderr}${result.stdout}`)
    return result.stdout
  }

  /** Takes a node's link to one network down (nothing is closed: frames just stop), or up again. */
  async link(network: Network, node: number, state: 'up' | 'down'): Promise<void> {
    await run(this.inside(['ip', 'link', 'set', `${network}-${node}`, state]))
  }

  /** Cuts one network between all nodes. */
  async network(network: Network, state: 'up' | 'down'): Promise<void> {
    for (let node = 1; node <= this.nodes; node++) await this.link(network, node, state)
  }

  /** Cuts a node from everything: NotReady after about 17 s. */
  async node(node: number, state: 'up' | 'down'): Promise<void> {
    for (const network of ['storage1', 'storage2', 'nodes'] as const) await this.link(network, node, state)
  }

  #answers(): Promise<boolean> {
    return until('API server', 90_000, async () => {
      if (ended(this.#process)) throw new Error('control plane ended')
      return (await this.kubectl(['get', '--raw', '/readyz'])).status === 0
    })
  }

  /** Ends the API server (connections to it are refused), or starts it again and returns when it answers. */
  async apiServer(state: 'up' | 'down'): Promise<void> {
    const file = (suffix: string): string => join(this.state, `kube-apiserver.${suffix}`)
    if (state === 'down') {
      writeFileSync(file('hold'), '')
      await this.signal('KILL', Number(readFileSync(file('pid'), 'utf8')))
      return
    }
    rmSync(file('hold'))
    await this.#answers()
  }

  /** Sends a signal to a process, by its number in the cluster's own process namespace. */
  async signal(name: 'KILL' | 'STOP' | 'CONT', pid: number): Promise<void> {
    await run(['nsenter', '-t', String(this.#init), '-p', '--', 'kill', `-${name}`, String(pid)])
  }

  /** containerd's own client at a node. */
  containerd(node: number, ...args: string[]): Promise<string> {
    return run(['ctr', '-a', join(this.state, `node${node}/containerd.sock`), '-n', 'k8s.io', ...args])
  }

  /** Process number, in the cluster's process namespace, of a container's first process. */
  async processOf(node: number, pod: string, container: string): Promise<number> {
    const tasks = await this.containerd(node, 'tasks', 'ls')
    const ids = await this.containerd(
      node,
      'containers',
      'ls',
      '-q',
      `labels."io.kubernetes.pod.name"==${pod},labels."io.kubernetes.container.name"==${container}`,
    )
    for (const id of ids.split('\n').filter(Boolean)) {
      const [, pid, status] =
        tasks
          .split('\n')
          .find((line) => line.startsWith(id))
          ?.split(/\s+/) ?? []
      if (status === 'RUNNING') return Number(pid)
    }
    throw new Error(`container ${container} of pod ${pod} does not run on node${node}`)
  }

  /** Bytes that a network carried to and from the nodes since the start. */
  async bytes(network: Network): Promise<number> {
    let sum = 0
    for (let node = 1; node <= this.nodes; node++) {
      const text = await run(this.inside(['ip', '-j', '-s', 'link', 'show', `${network}-${node}`]))
      const [link] = JSON.parse(text) as { stats64: { rx: { bytes: number }; tx: { bytes: number } } }[]
      sum += link!.stats64.rx.bytes
    }
    return sum
  }

  /** Ends every process of the cluster and removes its state, or keeps the logs for a look. */
  async stop(keepState = false): Promise<void> {
    await this.#end()
    endFolder(this.state, keepState)
  }

  async #end(): Promise<void> {
    // unshare passes no signal on, but its death kills the first process, and with that all others.
    this.#process.kill('SIGKILL')
    await end(this.#process, 0)
    if (this.#init > 0)
      await until('processes of the cluster have ended', 20_000, () => {
        try {
          process.kill(this.#init, 0)
          return false
        } catch {
          return true
        }
      })
    await clearCgroups(this.state)
  }
}

/** A shell in the cluster, for people: see up.ts. */
export function shell(cluster: Cluster): ChildProcess {
  const [command, ...args] = cluster.inside([process.env['SHELL'] ?? '/bin/bash'])
  return spawn(command!, args, {
    stdio: 'inherit',
    env: {
      ...process.env,
      KUBECONFIG: cluster.kubeconfig,
      PATH: `${join(cache, 'kubernetes/bin')}:${process.env['PATH']}`,
    },
  })
}
