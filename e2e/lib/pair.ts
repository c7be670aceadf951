/** What the cluster's steps ask of a pair: its conditions, its pods, and the vote itself. */
import type { Cluster } from '../cluster/cluster.ts'
import { until } from './process.ts'

export interface Condition {
  type: string
  status: string
  reason?: string
  message?: string
}
export interface Pair {
  status?: { serving?: string; epoch?: number; conditions?: Condition[] }
}
export interface Pod {
  metadata: {
    name: string
    uid: string
    annotations?: Record<string, string>
    deletionTimestamp?: string
  }
  spec: { nodeName?: string; containers: { image: string }[] }
  status: { phase: string; podIP?: string; conditions?: Condition[] }
}
/** The vote, as filers keep it in their Lease (docs/high-availability.md): what is so without the operator. */
export interface Vote {
  sides: Record<string, { owner: string; mirrored: boolean; epoch: number }>
}

export const otherThan = (filer: string): string => (filer === 'a' ? 'b' : 'a')

export const podOf = (cluster: Cluster, filer: string): Promise<Pod> =>
  cluster.json<Pod>('get', `pod/east-${filer}-0`)

export const nodeOf = (pod: Pod): number => Number(pod.spec.nodeName!.slice('node'.length))

export async function vote(cluster: Cluster): Promise<Vote> {
  const lease = await cluster.json<{ metadata: { annotations?: Record<string, string> } }>(
    'get',
    'lease/east',
  )
  const text = lease.metadata.annotations?.['tandem.storage/vote']
  if (text === undefined) throw new Error('the Lease east has no vote')
  return JSON.parse(text) as Vote
}

/** Waits for a condition; if it does not come, the error has all conditions that the object has instead. Gives the time it took. */
export async function wait(
  cluster: Cluster,
  condition: string,
  object: string,
  seconds: number,
): Promise<string> {
  const began = performance.now()
  const result = await cluster.kubectl(
    ['wait', `--for=condition=${condition}`, object, `--timeout=${seconds}s`],
    {
      timeoutMs: seconds * 1000 + 10_000,
    },
  )
  if (result.status !== 0) {
    const { status } = await cluster.json<Pair>('get', object)
    const lines = (status?.conditions ?? []).map((c) => `${c.type}=${c.status} ${c.reason}: ${c.message}`)
    throw new Error(`${object} is not ${condition} after ${seconds} s:\n  ${lines.join('\n  ')}`)
  }
  return `${((performance.now() - began) / 1000).toFixed(1)} s`
}

/** Both copies of every side are current, by the vote. */
export const isMirrored = async (cluster: Cluster): Promise<boolean> =>
  Object.values((await vote(cluster)).sides).every((side) => side.mirrored)

export const mirroredAgain = (cluster: Cluster, seconds = 120): Promise<boolean> =>
  until('both copies are current again', seconds * 1000, () => isMirrored(cluster), 500)

export const ownerOf = async (cluster: Cluster, side: string): Promise<string> =>
  (await vote(cluster)).sides[side]!.owner
