/**
 * One leader among several operators, by a Lease. Clocks are not compared: a candidate takes over when the Lease has not changed for
 * `durationMs` by its own clock, and a leader that could not renew for `renewDeadlineMs` has lost, and must end.
 */
import type { KubeApi, KubeObject } from './api.ts'
import { KubeError } from './api.ts'
import { LEASES } from './resources.ts'

export interface LeaderOptions {
  readonly namespace: string
  readonly name: string
  readonly identity: string
  readonly durationMs?: number
  readonly renewDeadlineMs?: number
  readonly retryMs?: number
  readonly signal: AbortSignal
  readonly onError?: (error: unknown) => void
}

/** Resolves once elected, with a promise of the day it is over; `undefined` when the signal came first. */
export async function elect(
  api: KubeApi,
  options: LeaderOptions,
): Promise<{ readonly lost: Promise<void> } | undefined> {
  const retryMs = options.retryMs ?? 2000
  const durationMs = options.durationMs ?? 15_000
  let seenVersion: string | undefined
  let seenAtMs = performance.now()
  while (!options.signal.aborted) {
    try {
      const lease = await read(api, options)
      if (lease?.metadata.resourceVersion !== seenVersion) {
        seenVersion = lease?.metadata.resourceVersion
        seenAtMs = performance.now()
      }
      const holder = (lease?.['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity ?? ''
      const free = lease === undefined || holder === '' || holder === options.identity
      if (free || performance.now() - seenAtMs >= durationMs) {
        const mine = await write(api, options, lease, durationMs, options.identity)
        return { lost: hold(api, options, mine, durationMs) }
      }
    } catch (error) {
      if (!(error instanceof KubeError && error.code === 409)) options.onError?.(error)
    }
    await sleep(retryMs, options.signal)
  }
  return undefined
}

async function hold(
  api: KubeApi,
  options: LeaderOptions,
  first: KubeObject,
  durationMs: number,
): Promise<void> {
  const deadlineMs = options.renewDeadlineMs ?? 10_000
  let lease = first
  let renewedAtMs = performance.now()
  while (!options.signal.aborted) {
    await sleep(options.retryMs ?? 2000, options.signal)
    if (options.signal.aborted) break
    try {
      lease = await write(api, options, lease, durationMs, options.identity)
      renewedAtMs = performance.now()
    } catch (error) {
      options.onError?.(error)
      if (error instanceof KubeError && error.code === 409) {
        const now = await read(api, options).catch(() => undefined)
        const holder = (now?.['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity
        if (now !== undefined && holder !== options.identity) return
        if (now !== undefined) lease = now
      }
      if (performance.now() - renewedAtMs >= deadlineMs) return
    }
  }
  // A successor need not wait for the Lease to run out.
  await write(api, options, lease, durationMs, '').catch(() => undefined)
}

async function read(api: KubeApi, options: LeaderOptions): Promise<KubeObject | undefined> {
  try {
    return await api.get(LEASES, options.namespace, options.name)
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return undefined
    throw error
  }
}

async function write(
  api: KubeApi,
  options: LeaderOptions,
  lease: KubeObject | undefined,
  durationMs: number,
  holderIdentity: string,
): Promise<KubeObject> {
  const now = new Date().toISOString().replace('Z', '000Z')
  const before = (lease?.['spec'] ?? {}) as Record<string, unknown>
  const taken = before['holderIdentity'] !== holderIdentity
  const spec = {
    ...before,
    holderIdentity,
    leaseDurationSeconds: Math.ceil(durationMs / 1000),
    renewTime: now,
    acquireTime: taken ? now : before['acquireTime'],
    leaseTransitions: Number(before['leaseTransitions'] ?? 0) + (taken ? 1 : 0),
  }
  const metadata = lease?.metadata ?? { name: options.name, namespace: options.namespace }
  const object = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec }
  return lease === undefined ? api.create(LEASES, object) : api.update(LEASES, object)
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
