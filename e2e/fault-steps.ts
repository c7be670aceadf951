/**
 * Steps of the end-to-end test about a cluster that loses or changes its parts while the kernel client's programs run: an API server that
 * is gone, nodes that are drained, filers of a new image, disks that are replaced. Each gives the longest pause that the client saw.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Cluster } from './cluster/cluster.ts'
import type { KernelClient } from './lib/kernel-client.ts'
import { isMirrored, mirroredAgain, nodeOf, otherThan, ownerOf, podOf, vote, wait } from './lib/pair.ts'
import { run, sleep, until } from './lib/process.ts'
import { imageOf } from './manifests.ts'

const seconds = (sinceMs: number): string => `${((Date.now() - sinceMs) / 1000).toFixed(1)} s`

/** A gauge that a filer exposes, read from its pod without the API server. */
async function gauge(cluster: Cluster, podIP: string, name: string, labels: string): Promise<number> {
  const text = await run(cluster.inside(['curl', '-fsS', '--max-time', '5', `http://${podIP}:9400/metrics`]))
  const line = text.split('\n').find((one) => one.startsWith(`${name}{`) && one.includes(labels))
  if (line === undefined) throw new Error(`${podIP} has no ${name} with ${labels}`)
  return Number(line.slice(line.lastIndexOf(' ')))
}

/** What a pod's container has written, from its node's disk: there without the API server. */
function podLog(cluster: Cluster, node: number, pod: string): string {
  const folder = join(cluster.state, `node${node}/root/var/log/pods`)
  return readdirSync(folder)
    .filter((name) => name.startsWith(`default_${pod}_`))
    .flatMap((name) => {
      const container = join(folder, name, 'filer')
      return readdirSync(container).map((file) => readFileSync(join(container, file), 'utf8'))
    })
    .join('')
}

/** The API server, and with it the vote, is gone while both filers are well: nothing changes. */
export async function apiServerGoneStep(
  cluster: Cluster,
  guest: KernelClient,
  goneS: number,
): Promise<string> {
  await mirroredAgain(cluster)
  const before = await vote(cluster)
  const began = Date.now()
  await cluster.apiServer('down')
  try {
    do await guest.progress(1)
    while (Date.now() - began < goneS * 1000)
  } finally {
    await cluster.apiServer('up')
  }
  const gone = seconds(began)
  await wait(cluster, 'Redundant', 'fp/east', 60)
  const after = await vote(cluster)
  for (const [side, { epoch }] of Object.entries(before.sides))
    if (after.sides[side]!.epoch !== epoch)
      throw new Error(`side ${side} changed though both filers were well`)
  return `gone for ${gone}, no change of the vote, longest pause ${guest.longestPauseMs(began)} ms`
}

/** The owner hangs while the API server is gone: nobody serves, and the survivor says why; it takes over once the vote answers. */
export async function apiServerGoneInTakeoverStep(
  cluster: Cluster,
  guest: KernelClient,
  goneS: number,
): Promise<string> {
  await mirroredAgain(cluster)
  const victim = await ownerOf(cluster, 'a')
  const survivor = otherThan(victim)
  const [hung, standby] = await Promise.all([podOf(cluster, victim), podOf(cluster, survivor)])
  const pid = await cluster.processOf(nodeOf(hung), hung.metadata.name, 'filer')
  const serves = (): Promise<number> =>
    gauge(cluster, standby.status.podIP!, 'tandem_side_serving', 'side="a"')
  const began = Date.now()
  await cluster.apiServer('down')
  let up = 0
  try {
    await cluster.signal('STOP', pid)
    await sleep(goneS * 1000)
    if ((await serves()) !== 0) throw new Error(`filer ${survivor} serves side a without a vote`)
    const log = podLog(cluster, nodeOf(standby), standby.metadata.name)
    if (!/vote/i.test(log.slice(-20_000)))
      throw new Error(`filer ${survivor} does not say that it waits for the vote`)
  } finally {
    up = Date.now()
    await cluster.apiServer('up')
  }
  const answers = Date.now()
  await until(`filer ${survivor} serves side a`, 30_000, async () => (await serves()) === 1, 100)
  const took = Date.now() - answers
  // Dead at last: the client's connection to it is reset, and the next one leads to the survivor.
  await cluster.signal('KILL', pid).catch(() => undefined)
  await guest.progress(1)
  const pause = guest.longestPauseMs(began)
  await mirroredAgain(cluster)
  await wait(cluster, 'Redundant', 'fp/east', 90)
  return `nobody served for ${((up - began) / 1000).toFixed(1)} s; ${took} ms after the API server answered again ${survivor} served; longest pause ${pause} ms`
}

/** Both nodes are drained, one after the other: the second drain waits until the first filer is back and its copies are current. */
export async function drainStep(cluster: Cluster, guest: KernelClient): Promise<string> {
  await mirroredAgain(cluster)
  await wait(cluster, 'Redundant', 'fp/east', 60)
  const first = await ownerOf(cluster, 'a')
  const second = otherThan(first)
  const [pod1, pod2] = await Promise.all([podOf(cluster, first), podOf(cluster, second)])
  const [node1, node2] = [`node${nodeOf(pod1)}`, `node${nodeOf(pod2)}`]
  const drain = (
    node: string,
    timeoutS: number,
  ): Promise<{ status: number; stdout: string; stderr: string }> =>
    cluster.kubectl(
      ['drain', node, '--ignore-daemonsets', '--delete-emptydir-data', `--timeout=${timeoutS}s`],
      { timeoutMs: timeoutS * 1000 + 10_000 },
    )
  const mustDrain = async (node: string, timeoutS: number): Promise<void> => {
    const result = await drain(node, timeoutS)
    if (result.status !== 0) throw new Error(`kubectl drain ${node}: ${result.stderr}`)
  }
  try {
    const began = Date.now()
    await mustDrain(node1, 120)
    const serving = await ownerOf(cluster, 'a')
    if (serving !== second) throw new Error(`after the drain of ${node1} filer ${serving} owns side a`)
    await guest.progress(1)
    const planned = guest.longestPauseMs(began)

    const refused = await drain(node2, 15)
    if (refused.status === 0) throw new Error(`${node2} was drained though filer ${first} is away`)
    if (!refused.stderr.includes('disruption budget')) throw new Error(`drain of ${node2}: ${refused.stderr}`)
    if ((await podOf(cluster, second)).metadata.uid !== pod2.metadata.uid)
      throw new Error('the last filer was evicted')
    await guest.progress(1)

    // Now it waits by itself, until the first filer is back and current.
    const waiting = mustDrain(node2, 240)
    const settled = waiting.then(
      () => true,
      () => true,
    )
    await cluster.k('uncordon', node1)
    let wasMirrored = false
    for (;;) {
      const [{ metadata }, mirrored] = await Promise.all([podOf(cluster, second), isMirrored(cluster)])
      if (metadata.uid !== pod2.metadata.uid || metadata.deletionTimestamp !== undefined) break
      wasMirrored = mirrored
      if (await Promise.race([settled, sleep(200).then(() => false)])) break
    }
    await waiting
    if (!wasMirrored) throw new Error(`${node2} was drained before both copies were current`)
    await guest.progress(1)
    return `planned takeover: longest pause ${planned} ms; the second drain was refused, then waited until both copies were current; longest pause of all ${guest.longestPauseMs(began)} ms`
  } finally {
    await cluster.k('uncordon', node1)
    await cluster.k('uncordon', node2)
    await mirroredAgain(cluster)
    await wait(cluster, 'Redundant', 'fp/east', 120)
  }
}

/** install.yaml of another release is applied: operator, then one filer after the other, each by a planned takeover. */
export async function upgradeStep(cluster: Cluster, guest: KernelClient, install: string): Promise<string> {
  await mirroredAgain(cluster)
  const image = imageOf(install)
  const tag = image.slice(image.lastIndexOf(':') + 1)
  const next = image.replace(/[^:]+$/, 'next')
  for (let node = 1; node <= cluster.nodes; node++)
    await cluster.containerd(node, 'images', 'tag', image, next)
  const began = Date.now()
  await cluster.apply(install.replaceAll(`tandem:${tag}`, 'tandem:next'))
  await until(
    'both filers run the new image',
    300_000,
    async () => {
      const pods = await Promise.all([podOf(cluster, 'a'), podOf(cluster, 'b')])
      return pods.every(
        (pod) => pod.spec.containers[0]!.image.endsWith(':next') && pod.status.phase === 'Running',
      )
    },
    500,
  )
  await wait(cluster, 'UpToDate', 'fp/east', 60)
  await wait(cluster, 'Redundant', 'fp/east', 90)
  await guest.progress(1)
  return `operator and both filers after ${seconds(began)}, longest pause ${guest.longestPauseMs(began)} ms`
}

/** A filer's log and a disk are gone for good: their claims and the pod are deleted, new ones come, and are filled from the partner. */
export async function replacedDisksStep(cluster: Cluster, guest: KernelClient): Promise<string> {
  await mirroredAgain(cluster)
  const victim = otherThan(await ownerOf(cluster, 'a'))
  const claims = (
    await cluster.json<{ items: { metadata: { name: string; uid: string } }[] }>(
      'get',
      'pvc',
      '-l',
      `tandem.storage/filer=${victim}`,
    )
  ).items.map(({ metadata }) => metadata)
  const lost = [
    claims.find(({ name }) => name.endsWith('-log')),
    claims.find(({ name }) => name.includes('-aggr-')),
  ].map((claim) => claim!)
  const began = Date.now()
  await cluster.k('delete', '--wait=false', ...lost.map(({ name }) => `pvc/${name}`))
  await cluster.k('delete', `pod/east-${victim}-0`, '--wait=false')
  await until('new claims are bound', 120_000, async () => {
    const now = await cluster.json<{
      items: { metadata: { name: string; uid: string }; status?: { phase?: string } }[]
    }>('get', 'pvc')
    return lost.every(({ name, uid }) =>
      now.items.some(
        (one) => one.metadata.name === name && one.metadata.uid !== uid && one.status?.phase === 'Bound',
      ),
    )
  })
  await until('both copies are current again', 180_000, () => isMirrored(cluster), 500)
  await wait(cluster, 'Redundant', 'fp/east', 60)
  await guest.progress(1)
  return `${lost.map(({ name }) => name).join(' and ')}: filled again after ${seconds(began)}, longest pause ${guest.longestPauseMs(began)} ms`
}
