/**
 * `make e2e`: from two manifests to files that outlive their filer, on a two-node Kubernetes cluster with real pods and the Linux
 * kernel's own NFS client.
 *
 *   run.ts [--keep] [--api-seconds 120] [--only PATTERN]
 *     --keep        leaves state and logs for a look (the cluster's processes always end)
 *     --api-seconds how long the API server is gone, once in ordinary service and once when a takeover is due (15)
 *     --only        of what is done to the pair while programs run, only what matches this regular expression
 *
 * What is shown, step by step, is the list of `steps.step(…)` below; each prints what it found. While the kernel client's programs run
 * (git, sqlite, fio with checksums, a detector of pauses) the serving filer's pod is deleted by force, a storage network is cut, the filer's pod is deleted once
 * more with the operator switched off, its node is cut off, the API server goes, nodes are drained, a new image comes, disks are replaced. No error may reach a program. Seven to nine minutes; root.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { Cluster } from './cluster/cluster.ts'
import { KernelClient } from './lib/kernel-client.ts'
import type { MountLine } from './lib/kernel-client.ts'
import { run, sleep, until } from './lib/process.ts'
import { Steps } from './lib/steps.ts'
import {
  apiServerGoneInTakeoverStep,
  apiServerGoneStep,
  drainStep,
  replacedDisksStep,
  upgradeStep,
} from './fault-steps.ts'
import { MirrorSteps } from './mirror-steps.ts'
import { mirroredAgain, otherThan, podOf, vote, wait } from './lib/pair.ts'
import type { Condition, Pair, Pod } from './lib/pair.ts'
import { claimStep, conversionStep, growthStep, snapshotStep } from './storage-steps.ts'
import { adapted, attachments, imageOf, networks, readInstall, samples } from './manifests.ts'

const { values } = parseArgs({
  options: {
    keep: { type: 'boolean' },
    'api-seconds': { type: 'string', default: '15' },
    only: { type: 'string' },
  },
})
const checkout = join(import.meta.dirname, '..')
const garbage = join(import.meta.dirname, 'lib/garbage.ts')
const steps = new Steps()
/** After a node's loss the client is back within this time (docs/nfs.md). */
const nodeLossPauseMs = 10_000

interface Volume {
  status?: { servedBy?: string; mount?: MountLine; conditions?: Condition[] }
}

/** Deletes a filer's pod by force and waits until a new one runs. */
async function deletePod(cluster: Cluster, filer: string): Promise<void> {
  await cluster.k('delete', `pod/east-${filer}-0`, '--grace-period=0', '--force')
}

async function logsTo(cluster: Cluster, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const save = async (name: string, args: string[]): Promise<void> => {
    const result = await cluster.kubectl(args, { timeoutMs: 20_000 })
    writeFileSync(join(folder, name), result.stdout + result.stderr)
  }
  await save('objects.txt', ['get', 'all,pvc,pv,lease,fp,fv,mir,events', '-A', '-o', 'wide'])
  await save('describe.txt', ['describe', 'pods,fp,fv,mir', '-A'])
  await save('tandem.yaml', ['get', 'fp,fv,mir,lease', '-A', '-o', 'yaml'])
  const pods = await cluster.kubectl([
    'get',
    'pods',
    '-A',
    '-o',
    'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\\n"}{end}',
  ])
  for (const line of pods.stdout.split('\n').filter(Boolean)) {
    const [namespace, name] = line.split(' ') as [string, string]
    await save(`${name}.log`, ['logs', '-n', namespace, name, '--tail=2000'])
    await save(`${name}.previous.log`, ['logs', '-n', namespace, name, '--previous', '--tail=2000'])
  }
}

async function scenario(cluster: Cluster, work: string): Promise<void> {
  let client: KernelClient | undefined
  let mount: MountLine | undefined
  try {
    await steps.step('manifests/install.yaml is applied and the operator runs', async () => {
      await cluster.apply(readInstall())
      await cluster.k(
        'wait',
        '--for=condition=Established',
        '--timeout=30s',
        'crd/filerpairs.tandem.storage',
        'crd/filervolumes.tandem.storage',
      )
      await until('an operator pod is Ready', 60_000, async () => {
        const pods = await cluster.json<{ items: Pod[] }>(
          'get',
          'pods',
          '-A',
          '-l',
          'app.kubernetes.io/name=tandem',
        )
        return pods.items.some((pod) =>
          pod.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'),
        )
      })
    })
    await steps.step('samples applied: fp/east is Ready within 60 s', async () => {
      const manifests = adapted(samples())
      await cluster.apply(
        `${attachments('default')}---\n${manifests.map((manifest) => stringify(manifest)).join('---\n')}`,
      )
      const pair = await wait(cluster, 'Ready', 'fp/east', 60)
      await wait(cluster, 'Ready', 'fv/home', 30)
      return pair
    })
    await steps.step('fp/east is Redundant', () => wait(cluster, 'Redundant', 'fp/east', 60))
    await steps.step('two filers on two nodes, admitted by the restricted policy', async () => {
      const pods = await Promise.all([podOf(cluster, 'a'), podOf(cluster, 'b')])
      const nodes = pods.map((pod) => pod.spec.nodeName)
      if (new Set(nodes).size !== 2) throw new Error(`both on ${nodes[0]}`)
      for (const pod of pods)
        if (pod.metadata.annotations?.['kubernetes.io/psp'] !== 'restricted')
          throw new Error(`${pod.metadata.name}: another policy`)
      return pods.map((pod) => `${pod.metadata.name} on ${pod.spec.nodeName}`).join(', ')
    })
    await steps.step('the Linux kernel mounts what status.mount says, and programs run', async () => {
      mount = (await cluster.json<Volume>('get', 'fv/home')).status?.mount
      if (mount === undefined) throw new Error('status.mount of fv/home is empty')
      client = await KernelClient.start(cluster, join(work, 'guest'), mount, checkout)
      return `mount -t nfs -o ${mount.options} ${mount.server}:${mount.path}`
    })
    const guest = client!
    await steps.step('all three networks carry data', async () => {
      const before = await Promise.all(
        (['nodes', 'storage1', 'storage2'] as const).map((name) => cluster.bytes(name)),
      )
      await guest.progress(1)
      const after = await Promise.all(
        (['nodes', 'storage1', 'storage2'] as const).map((name) => cluster.bytes(name)),
      )
      const grown = after.map((bytes, index) => Math.round((bytes - before[index]!) / 1000))
      const found = `pod network ${grown[0]} kB, storage1 ${grown[1]} kB, storage2 ${grown[2]} kB`
      if (grown.some((kilobytes) => kilobytes < 1)) throw new Error(found)
      return found
    })

    /** Deletes the serving pod under load; the partner serves, the pod comes back, and both copies are current again. */
    const loseServingPod = async (withOperator: boolean): Promise<string> => {
      await mirroredAgain(cluster)
      // With the operator off, status is stale: the vote says who owns the side.
      const { sides } = await vote(cluster)
      const [side, record] = Object.entries(sides).find(([name]) => name === 'a')!
      const victim = record.owner
      const began = Date.now()
      const old = await podOf(cluster, victim)
      await deletePod(cluster, victim)
      await until(
        `filer ${otherThan(victim)} owns side ${side}`,
        30_000,
        async () => (await vote(cluster)).sides[side]!.owner === otherThan(victim),
        250,
      )
      const moved = Date.now() - began
      await guest.progress(1)
      await until('the deleted pod is back', 60_000, async () => {
        const pod = await podOf(cluster, victim)
        return pod.metadata.uid !== old.metadata.uid && pod.status.phase === 'Running'
      })
      await mirroredAgain(cluster)
      if (withOperator) {
        await wait(cluster, 'Redundant', 'fp/east', 60)
        await until(`fv/home says that ${otherThan(victim)} serves`, 30_000, async () => {
          const { status } = await cluster.json<Volume>('get', 'fv/home')
          return status?.servedBy === otherThan(victim)
        })
      }
      await guest.progress(1)
      return `${victim} to ${otherThan(victim)} ${moved} ms after the deletion, longest pause ${guest.longestPauseMs(began)} ms, mirrored again after ${((Date.now() - began) / 1000).toFixed(1)} s`
    }

    const fault = async (name: string, body: () => Promise<string | void>): Promise<void> => {
      if (new RegExp(values.only ?? '').test(name)) await steps.step(name, body)
    }
    await fault('a claim is bound to the volume, and the kernel mounts what its PersistentVolume says', () =>
      claimStep(cluster, guest, mount!),
    )
    await fault('a snapshot by hand', () => snapshotStep(cluster))
    await fault('an aggregate grows, and a traditional volume joins, under load', () =>
      growthStep(cluster, guest),
    )
    await fault('the traditional volume is converted while the kernel client has files of it open', () =>
      conversionStep(cluster, guest),
    )
    await fault('the serving pod is deleted by force under load', () => loseServingPod(true))
    await fault('a storage network is cut under load', async () => {
      const began = Date.now()
      await cluster.network(networks.ic1, 'down')
      await until('LinksUp is False', 45_000, async () => {
        const { status } = await cluster.json<Pair>('get', 'fp/east')
        return status?.conditions?.some((c) => c.type === 'LinksUp' && c.status === 'False')
      })
      const seen = Date.now() - began
      await guest.progress(1)
      const { sides } = await vote(cluster)
      if (!Object.values(sides).every((side) => side.mirrored))
        throw new Error('the pair is no longer mirrored, though two networks are left')
      const pause = guest.longestPauseMs(began)
      await cluster.network(networks.ic1, 'up')
      await wait(cluster, 'LinksUp', 'fp/east', 60)
      return `in status after ${(seen / 1000).toFixed(1)} s, still mirrored, longest pause ${pause} ms`
    })
    await fault('with the operator off: takeover, and the deleted pod comes back', async () => {
      const operators = await cluster.json<{ items: { metadata: { name: string; namespace: string } }[] }>(
        'get',
        'deployments',
        '-A',
        '-l',
        'app.kubernetes.io/name=tandem',
      )
      const { name, namespace } = operators.items[0]!.metadata
      const scale = (replicas: number): Promise<string> =>
        cluster.k('-n', namespace, 'scale', `deployment/${name}`, `--replicas=${replicas}`)
      await scale(0)
      await until(
        'no operator runs',
        60_000,
        async () =>
          (
            await cluster.json<{ items: Pod[] }>(
              '-n',
              namespace,
              'get',
              'pods',
              '-l',
              'app.kubernetes.io/name=tandem',
            )
          ).items.length === 0,
      )
      const found = await loseServingPod(false)
      await scale(1)
      await wait(cluster, 'Redundant', 'fp/east', 60)
      return found
    })
    await fault('the node of the serving filer is cut off under load', async () => {
      await mirroredAgain(cluster)
      const victim = (await vote(cluster)).sides['a']!.owner
      const node = Number((await podOf(cluster, victim)).spec.nodeName!.slice('node'.length))
      const began = Date.now()
      await cluster.node(node, 'down')
      await until(
        `filer ${otherThan(victim)} owns side a`,
        30_000,
        async () => (await vote(cluster)).sides['a']!.owner === otherThan(victim),
        250,
      )
      const moved = Date.now() - began
      await guest.progress(1)
      const pause = guest.longestPauseMs(began)
      await cluster.node(node, 'up')
      if (pause > nodeLossPauseMs) throw new Error(`the kernel client paused for ${pause} ms`)
      await mirroredAgain(cluster)
      await wait(cluster, 'Redundant', 'fp/east', 90)
      return `${victim} to ${otherThan(victim)} ${moved} ms after the cut, longest pause ${pause} ms`
    })
    await fault('the API server is gone for a while', () =>
      apiServerGoneStep(cluster, guest, Number(values['api-seconds'])),
    )
    await fault('the owner hangs while the API server is gone', () =>
      apiServerGoneInTakeoverStep(cluster, guest, Number(values['api-seconds'])),
    )
    await fault('both nodes are drained, one after the other', () => drainStep(cluster, guest))
    await fault('a new image', () => upgradeStep(cluster, guest, readInstall()))
    await fault("a filer's log and a disk are replaced", () => replacedDisksStep(cluster, guest))
    const mirrors = new MirrorSteps(cluster, guest)
    await fault('mirrors: a second pair, one each way, under load', () => mirrors.made())
    await fault('mirrors: broken by kubectl patch', () => mirrors.broken())
    await fault('mirrors: the first manifest again, an older consent, and the one that counts', () =>
      mirrors.consented(),
    )
    await fault('mirrors: reversed by kubectl patch, and back', () => mirrors.reversed())
    await fault('garbage on the NFS and interconnect ports: closed, and the filer is well', async () => {
      const pod = await podOf(cluster, 'a')
      const restarts = (): Promise<string> =>
        cluster.k('get', 'pod/east-a-0', '-o', 'jsonpath={.status.containerStatuses[0].restartCount}')
      const before = await restarts()
      for (const port of [2049, 7400])
        await run(cluster.inside([process.execPath, garbage, pod.status.podIP!, String(port)]))
      await guest.progress(1)
      if ((await restarts()) !== before) throw new Error('the filer restarted')
    })
    await steps.step(
      'programs saw no error; git fsck, integrity_check and fio verify are clean after a fresh mount',
      async () => {
        await sleep(1000)
        const rounds = await guest.finish()
        return (
          Object.entries(rounds)
            .map(([program, count]) => `${program} ${count}`)
            .join(', ') + ' rounds'
        )
      },
    )
    await steps.step('longest pause that the kernel client saw', async () => `${guest.longestPauseMs(0)} ms`)
  } finally {
    await client?.stop()
  }
}

let cluster: Cluster | undefined
let work: string | undefined
try {
  await steps.step('programs and packages are there', async () => {
    await run([join(import.meta.dirname, 'setup.sh'), 'e2e'], { timeoutMs: 3_600_000 })
  })
  const image = join(process.env['TMPDIR'] ?? '/tmp', `tandem-image-${process.pid}.tar`)
  try {
    await steps.step('the image is made', async () => {
      const name = imageOf(readInstall())
      await run([join(import.meta.dirname, 'image/build.sh'), image, name], { timeoutMs: 300_000 })
      return name
    })
    await steps.step('a two-node cluster is up', async () => {
      cluster = await Cluster.start({ images: [image] })
    })
  } finally {
    rmSync(image, { force: true })
  }
  work = join(cluster!.state, 'e2e')
  await scenario(cluster!, work)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  if (cluster !== undefined)
    await logsTo(cluster, join(cluster.state, 'e2e/logs')).catch((problem: unknown) => console.error(problem))
} finally {
  if (cluster !== undefined) {
    const keep = values.keep === true || steps.failed > 0
    await cluster.stop(keep)
    if (keep) console.log(`state and logs: ${cluster.state}/e2e`)
  }
}
console.log(`\n${steps.table()}\n`)
console.log(`took ${steps.seconds.toFixed(0)} s`)
console.log(steps.summary('e2e'))
process.exitCode = steps.failed > 0 ? 1 : 0
