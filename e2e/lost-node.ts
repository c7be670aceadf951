/**
 * How soon a Linux kernel's NFS client leaves an address that has fallen silent (its node is lost: nothing closes the connection), over
 * mount options and the client node's connection tracking:
 *
 *   lost-node.ts [--options "timeo=20,retrans=2; …"] [--unacknowledged "300 2"] [--moved MS] [--limit SECONDS] [--keep]
 *
 * The ways of a cluster, without one: the guest kernel's calls to the Service's address are translated to one of two nodes, as
 * kube-proxy does it; each node is a network namespace that passes connections on to one pair in embedded mode. A round is: ordinary load
 * (small writes through to the server, 16 MiB files with a COMMIT), five seconds in which the server takes calls but does not
 * answer, then the serving node's link is cut, and `--moved` milliseconds later new connections are translated to the other node.
 * `--unacknowledged` are seconds for nf_conntrack_tcp_timeout_unacknowledged and …_max_retrans (300 is the kernel's own).
 * Prints one line of a table a round: how often the client connected anew under load, and its pause. Needs root. No Kubernetes.
 */
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { Embedded } from './lib/embedded.ts'
import { inNamespace } from './lib/namespace.ts'
import { end, ended, keep, run, sleep, until } from './lib/process.ts'
import { endFolder, stateFolder, sweep } from './lib/state.ts'

const { values } = parseArgs({
  options: {
    options: { type: 'string', default: 'timeo=20,retrans=2; timeo=5,retrans=1; timeo=600,retrans=2' },
    unacknowledged: { type: 'string', default: '300 2' },
    moved: { type: 'string', default: '2500' },
    limit: { type: 'string', default: '30' },
    keep: { type: 'boolean', default: false },
  },
})
const nfs = join(import.meta.dirname, 'nfs')
const relay = join(import.meta.dirname, 'lib/relay.ts')
const nodes = [1, 2] as const
type NodeNumber = (typeof nodes)[number]

const manifests = `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates: [{ name: aggr1, filer: a, deviceSets: [{ name: d, count: 2, size: 2Gi }] }]
  log: { size: 64Mi }
  cacheSize: 128Mi
  placement: { spread: Preferred }
  # A slow machine must not move the side in the midst of a measurement: what moves here is the address.
  takeover: { mode: Manual }
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: home }
spec: { pairName: east, aggregate: aggr1, size: 1Gi, export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] } }
`

const nat = (verb: string, port: number, node: NodeNumber): Promise<string> =>
  run(
    `iptables -t nat ${verb} PREROUTING -i tap0 -p tcp --dport ${port} -j DNAT --to-destination 10.0.0.${node}:2049`.split(
      ' ',
    ),
  )

const link = (node: NodeNumber, state: 'up' | 'down'): Promise<string> =>
  run(['ip', 'link', 'set', `node${node}`, state])

const conntrackTimeout = (seconds: number): void => {
  for (const name of ['unacknowledged', 'max_retrans'])
    writeFileSync(`/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_${name}`, String(seconds))
}

const count = (log: string, word: string): number =>
  readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line === word).length

/** A network namespace with one link to this one, and in it a relay to the pair. */
async function startNode(node: NodeNumber, folder: string, backend: string): Promise<ChildProcess> {
  const log = join(folder, `node${node}.log`)
  const own = join(folder, `node${node}.up`)
  // The relay takes the shell's place when the link is there.
  const script = `until [ -e ${own} ]; do sleep 0.05; done; exec ${process.execPath} ${relay} 10.0.0.${node}:2049 ${backend}`
  const child = keep(['unshare', '--net', '--', 'bash', '-c', script], log)
  const mine = readFileSync('/proc/self/net/dev', 'utf8')
  const pid = String(child.pid)
  await until(
    'the namespace is there',
    5000,
    async () => readFileSync(`/proc/${pid}/net/dev`, 'utf8') !== mine,
  )
  await run(['ip', 'link', 'add', `node${node}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pid])
  await run(['ip', 'link', 'set', `node${node}`, 'master', 'nodes'])
  await link(node, 'up')
  for (const words of [
    'link set lo up',
    `addr add 10.0.0.${node}/24 dev eth0`,
    'link set eth0 up',
    'route add default via 10.0.0.254',
  ])
    await run(['nsenter', '-t', pid, '-n', 'ip', ...words.split(' ')])
  writeFileSync(own, '')
  await until('the relay listens', 10_000, () => count(log, 'listens') > 0)
  return child
}

interface Round {
  reconnects: number
  /** Undefined: longer than was waited for. */
  pauseMs: number | undefined
}

/** One guest, one mount, one lost node. */
async function round(
  folder: string,
  mount: { path: string; port: number; options: string },
  relays: Record<NodeNumber, ChildProcess>,
): Promise<Round> {
  mkdirSync(folder)
  const file = (name: string): string => join(folder, name)
  const read = (name: string): string => (existsSync(file(name)) ? readFileSync(file(name), 'utf8') : '')
  await run(['gcc', '-O2', '-static', '-o', file('pauses-program'), join(nfs, 'pauses.c')])
  await nat('-A', mount.port, 1)
  const guest = keep(
    [
      join(nfs, 'kernel-client.sh'),
      String(process.pid),
      folder,
      join(nfs, 'lost-node.sh'),
      '10.78.0.1',
      mount.path,
      mount.options,
    ],
    file('console.log'),
  )
  const connections = (): number => count(join(folder, '../node1.log'), 'connection')
  const large = (): number => Number(read('large'))
  const more = (files: number): Promise<boolean> => {
    const before = large()
    return until(`${files} large files more are written`, 120_000, () => {
      if (ended(guest)) throw new Error(`the guest ended: ${read('console.log').slice(-1000)}`)
      return large() >= before + files
    })
  }
  try {
    await more(1)
    const before = connections()
    await more(3)
    relays[1].kill('SIGSTOP')
    await sleep(5000)
    relays[1].kill('SIGCONT')
    await more(2)
    const reconnects = connections() - before

    const cut = Date.now()
    await link(1, 'down')
    await sleep(Number(values.moved))
    await nat('-A', mount.port, 2)
    await nat('-D', mount.port, 1)
    /** The end of the first pause that covers the moment of the cut. */
    const pause = (): number | undefined => {
      for (const line of read('pauses').split('\n')) {
        const [began, took] = line.split(' ').map(Number)
        if (began !== undefined && took !== undefined && began + took > cut + 500) return began + took - cut
      }
      return undefined
    }
    const limit = cut + Number(values.limit) * 1000
    await until('the client has resumed', 3_600_000, () => pause() !== undefined || Date.now() > limit)
    return { reconnects, pauseMs: pause() }
  } finally {
    writeFileSync(file('stop'), '')
    await Promise.race([ended(guest) ? undefined : once(guest, 'exit'), sleep(3000)])
    await end(guest, 0)
    for (const node of nodes) await nat('-D', mount.port, node).catch(() => undefined)
    await link(1, 'up')
  }
}

async function main(): Promise<number> {
  await run(['ip', 'link', 'set', 'lo', 'up'])
  await sweep('lost-node-guest')
  const folder = stateFolder('lost-node-guest')
  let pair: Embedded | undefined
  let failed = false
  const kept: ChildProcess[] = []
  try {
    pair = await Embedded.start('lost-node', manifests)
    const { host, path, port, options } = await pair.mountLine()
    // One bridge for the nodes, as a cluster's network: a lost node is an address that nobody answers for.
    await run(['ip', 'link', 'add', 'nodes', 'type', 'bridge'])
    await run(['ip', 'addr', 'add', '10.0.0.254/24', 'dev', 'nodes'])
    await run(['ip', 'link', 'set', 'nodes', 'up'])
    await run(['ip', 'tuntap', 'add', 'tap0', 'mode', 'tap'])
    await run(['ip', 'addr', 'add', '10.78.0.1/24', 'dev', 'tap0'])
    await run(['ip', 'link', 'set', 'tap0', 'up'])
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    const backend = join(folder, 'pair.sock')
    const log = join(folder, 'backend.log')
    kept.push(keep([process.execPath, relay, backend, `${host}:${port}`], log))
    await until('the relay to the pair listens', 10_000, () => count(log, 'listens') > 0)
    const relays = { 1: await startNode(1, folder, backend), 2: await startNode(2, folder, backend) }
    kept.push(relays[1], relays[2])
    const base = options.replace(/,(?:timeo|retrans)=\d+/g, '')
    console.log(
      `the Service leads elsewhere ${values.moved} ms after the cut\n\n` +
        '| mount options | unacknowledged, s | reconnects under load | pause, s |\n|---|---|---|---|',
    )
    let number = 0
    for (const words of values.options.split(';').map((text) => text.trim()))
      for (const seconds of values.unacknowledged.split(' ').filter(Boolean).map(Number)) {
        conntrackTimeout(seconds)
        const mount = { path, port, options: `${base},${words}` }
        const found = await round(join(folder, `round${++number}`), mount, relays)
        const pause = found.pauseMs === undefined ? `> ${values.limit}` : (found.pauseMs / 1000).toFixed(1)
        console.log(`| \`${words}\` | ${seconds} | ${found.reconnects} | ${pause} |`)
      }
  } catch (error) {
    failed = true
    console.error(error instanceof Error ? error.message : error)
  } finally {
    for (const child of kept) await end(child, 0)
    await pair?.stop(values.keep)
    const keepLogs = values.keep || failed
    endFolder(folder, keepLogs)
    if (keepLogs) console.log(`logs: ${folder}`)
  }
  return failed ? 1 : 0
}

if (process.env['TANDEM_NAMESPACE'] === undefined) {
  await run([join(import.meta.dirname, 'setup.sh'), 'kernel'], { timeoutMs: 600_000 })
  process.exitCode = inNamespace()
} else process.exitCode = await main()
