/**
 * Steps of the end-to-end test about volumes and devices, while the kernel client's programs run: a claim bound to the volume, a
 * snapshot by hand, more devices for an aggregate, a traditional volume in a pair that serves already, and its conversion.
 */
import { stringify } from 'yaml'
import type { Cluster } from './cluster/cluster.ts'
import type { KernelClient, MountLine } from './lib/kernel-client.ts'
import { until } from './lib/process.ts'

interface Pair {
  spec: { aggregates: { name: string; filer: string; deviceSets: { name: string; count?: number }[] }[] }
  status?: {
    aggregates?: { name: string; size?: string; devices?: number }[]
    conditions?: { type: string; status: string; reason?: string }[]
  }
}
interface Volume {
  status?: {
    type?: string
    aggregate?: string
    mount?: MountLine
    snapshots?: { name: string }[]
    snapshotRequest?: { id: string; state: string; reason?: string; message?: string }
  }
}
interface PersistentVolume {
  spec: { nfs?: { server: string; path: string }; mountOptions?: string[] }
}

/** `spec.claimName`: a bound ReadWriteMany claim; what its volume says is `status.mount`, and the kernel client mounts it. */
export async function claimStep(cluster: Cluster, guest: KernelClient, mount: MountLine): Promise<string> {
  const claimName = 'home'
  await cluster.k('patch', 'fv/home', '--type=merge', '-p', JSON.stringify({ spec: { claimName } }))
  const volumeName = await until('the claim is bound', 60_000, async () => {
    const result = await cluster.kubectl([
      'get',
      `pvc/${claimName}`,
      '-o',
      'jsonpath={.status.phase} {.spec.volumeName}',
    ])
    const [phase, name] = result.stdout.split(' ')
    return phase === 'Bound' ? name : undefined
  })
  const { spec } = await cluster.json<PersistentVolume>('get', `pv/${volumeName}`)
  const line = {
    server: spec.nfs?.server ?? '',
    path: spec.nfs?.path ?? '',
    options: spec.mountOptions?.join(',') ?? '',
  }
  const text = ({ server, path, options }: MountLine): string => `-o ${options} ${server}:${path}`
  if (text(line) !== text(mount))
    throw new Error(`the PersistentVolume mounts ${text(line)}, status says ${text(mount)}`)
  await guest.claim(line)
  return `claim ${claimName} is bound to ${volumeName}, which the kernel mounts, writes and reads`
}

/** A snapshot by hand, as the command line asks for one: an annotation, and the result in status. */
export async function snapshotStep(cluster: Cluster): Promise<string> {
  const order = { id: 'e2e-1', op: 'Create', snapshot: 'before-growth' }
  const began = performance.now()
  await cluster.k('annotate', 'fv/home', `tandem.storage/snapshot-request=${JSON.stringify(order)}`)
  await until('the snapshot is there', 60_000, async () => {
    const { status } = await cluster.json<Volume>('get', 'fv/home')
    const request = status?.snapshotRequest
    if (request?.id === order.id && request.state === 'Failed')
      throw new Error(`${request.reason}: ${request.message}`)
    return request?.state === 'Done' && status?.snapshots?.some((one) => one.name === order.snapshot)
  })
  return `${((performance.now() - began) / 1000).toFixed(1)} s`
}

/** One device more for the aggregate, a traditional volume, and an aggregate for it: claims, templates, one pod after the other; clients go on. */
export async function growthStep(cluster: Cluster, guest: KernelClient): Promise<string> {
  const began = Date.now()
  const before = await cluster.json<Pair>('get', 'fp/east')
  const had = before.status?.aggregates?.[0]?.devices ?? 0
  const aggregates = before.spec.aggregates.map((aggregate, index) =>
    index > 0
      ? aggregate
      : {
          ...aggregate,
          deviceSets: aggregate.deviceSets.map((set, n) =>
            n > 0 ? set : { ...set, count: (set.count ?? 1) + 1 },
          ),
        },
  )
  const archive = {
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'FilerVolume',
    metadata: { name: 'archive' },
    spec: {
      pairName: 'east',
      type: 'Traditional',
      filer: 'b',
      deviceSets: [{ name: 't', count: 1, size: '1Gi', storageClassName: 'local-disks' }],
      export: { rules: [{ clients: ['0.0.0.0/0'], access: 'ReadWrite', squash: 'None' }] },
    },
  }
  // Of no use but to convert the volume into.
  const empty = {
    name: 'aggr2',
    filer: 'b',
    deviceSets: [{ name: 'd', count: 1, size: '1Gi', storageClassName: 'local-disks' }],
  }
  aggregates.push(empty)
  await cluster.apply(stringify(archive))
  await cluster.k('patch', 'fp/east', '--type=merge', '-p', JSON.stringify({ spec: { aggregates } }))
  await until('the new devices belong to the aggregate', 300_000, async () => {
    const { status } = await cluster.json<Pair>('get', 'fp/east')
    return (status?.aggregates?.find((one) => one.name === aggregates[0]!.name)?.devices ?? 0) > had
  })
  const grown = Date.now() - began
  for (const [condition, object] of [
    ['Ready', 'fv/archive'],
    ['UpToDate', 'fp/east'],
    ['Redundant', 'fp/east'],
  ] as const)
    await cluster.k('wait', `--for=condition=${condition}`, object, '--timeout=180s')
  await guest.progress(1)
  const { status } = await cluster.json<Pair>('get', 'fp/east')
  return `${had + 1} devices after ${(grown / 1000).toFixed(0)} s, archive ready and all redundant after ${((Date.now() - began) / 1000).toFixed(0)} s, longest pause ${guest.longestPauseMs(began)} ms, sizes ${status?.aggregates?.map((one) => `${one.name} ${one.size}`).join(', ')}`
}

/** `kubectl apply` of a Conversion while the kernel client has files of the volume open, writes and reads them. */
export async function conversionStep(cluster: Cluster, guest: KernelClient): Promise<string> {
  const { status: volume } = await cluster.json<Volume>('get', 'fv/archive')
  if (volume?.mount === undefined) throw new Error('status.mount of fv/archive is empty')
  await guest.archive(volume.mount)
  const began = Date.now()
  const conversion = {
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'Conversion',
    metadata: { name: 'archive' },
    // So slow that the client works in the middle of it.
    spec: { volumeName: 'archive', aggregate: 'aggr2', state: 'Converted', scanBlocksPerSecond: 500 },
  }
  await cluster.apply(stringify(conversion))
  const reached = async (condition: string): Promise<string> => {
    await cluster.k('wait', `--for=condition=${condition}`, 'conv/archive', '--timeout=120s')
    return `${((Date.now() - began) / 1000).toFixed(1)} s`
  }
  const cutOver = await reached('CutOver')
  await guest.archiveProgress(1)
  const complete = await reached('Complete')
  await guest.archiveProgress(1)
  const pause = guest.longestPauseMs(began, Date.now(), 'pauses-archive')
  const rounds = await guest.archiveDone()
  const { status } = await cluster.json<{ status: { dataBlocksCopied?: number } }>('get', 'conv/archive')
  if (status.dataBlocksCopied !== 0) throw new Error(`blocks of data copied: ${status.dataBlocksCopied}`)
  await until('the volume’s status says what it is now', 60_000, async () => {
    const { status: now } = await cluster.json<Volume>('get', 'fv/archive')
    return now?.type === 'Flexible' && now.aggregate === 'aggr2'
  })
  return `cut over ${cutOver}, complete ${complete} after kubectl apply, longest pause ${pause} ms, 0 blocks of data copied, ${rounds} rounds on open files`
}
