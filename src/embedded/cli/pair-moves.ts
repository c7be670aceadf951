/**
 * What the command line does to a pair: a filer is taken out of service as planned (`spec.maintenance`), and brought home. Each waits for the end
 * and tells what clients waited, as the survivor measured it.
 */
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import { FILER_PAIRS } from '../../edge/kube/resources.ts'
import { waitFor } from './wait.ts'

export interface PairName {
  readonly api: KubeApi
  readonly namespace: string
  readonly name: string
}
export type MoveEnd =
  | { readonly state: 'Moved'; readonly pauseMilliseconds: number | undefined }
  /** Nothing was changed. */
  | { readonly state: 'NotNow' | 'Late'; readonly message: string }

/** An epoch that was decided upon may pass before the filers hear of it: it is said again then. */
const SAY_AGAIN_MS = 3000
/** A client that was served at all has been answered by then. */
const PAUSE_KNOWN_MS = 3000

export const specOf = (pair: KubeObject): FilerPairSpec => pair['spec'] as FilerPairSpec
export const statusOf = (pair: KubeObject | undefined): FilerPairStatus => pair?.['status'] ?? {}
export const filersOf = (pair: KubeObject): string[] => specOf(pair).filers.map((filer) => filer.name)

export function read({ api, namespace, name }: PairName): Promise<KubeObject> {
  return api.get(FILER_PAIRS, namespace, name)
}

/** Throws for a filer that the pair does not have. */
export function requireFiler(pair: KubeObject, filer: string): void {
  const filers = filersOf(pair)
  if (!filers.includes(filer))
    throw new Error(`pair ${pair.metadata.name} has no filer ${filer}; it has ${filers.join(' and ')}`)
}

/** Why the filer cannot be taken out of service now; undefined if it can. One that is gone, and is waited for by hand, can. */
export function whyNotAway(pair: KubeObject, filer: string): string | undefined {
  const { conditions = [], filers = [] } = statusOf(pair)
  const server = filers.find((f) => f.name === filer)?.servedBy
  if (server !== undefined && server !== filer) return undefined
  if (conditions.some((c) => c.type === 'Ready' && c.reason === 'Manual')) return undefined
  const possible = conditions.find((c) => c.type === 'TakeoverPossible')
  if (possible?.status === 'True') return undefined
  return `${possible?.reason ?? 'Unknown'}: ${possible?.message ?? 'the pair has not reported'}`
}

/** The partner serves everything of the filer from now on, and nothing goes back by itself. */
export async function moveAway(of: PairName, filer: string, timeoutMs: number): Promise<MoveEnd> {
  const pair = await read(of)
  requireFiler(pair, filer)
  const why = whyNotAway(pair, filer)
  if (why !== undefined) return { state: 'NotNow', message: why }
  await of.api.mergePatch(FILER_PAIRS, of.namespace, of.name, { spec: { maintenance: { filer } } })
  const isAway = (status: FilerPairStatus): boolean =>
    status.filers?.every((f) => f.servedBy !== undefined && f.servedBy !== filer) === true
  return finish(of, pair, isAway, timeoutMs, `the partner does not serve filer ${filer} yet`)
}

/** The end of a maintenance, if there is one; everything goes home as soon as both copies are current. */
export async function bringHome(of: PairName, timeoutMs: number): Promise<MoveEnd> {
  const before = await read(of)
  const isHome = (status: FilerPairStatus): boolean =>
    status.filers?.every((f) => f.servedBy === f.name) === true
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const { epoch } = statusOf(await read(of))
    if (epoch === undefined) throw new Error(`pair ${of.name} has no status.epoch yet`)
    await of.api.mergePatch(FILER_PAIRS, of.namespace, of.name, {
      spec: { maintenance: null, takeover: { givebackEpoch: epoch } },
    })
    const leftMs = deadline - performance.now()
    const end = await finish(
      of,
      before,
      isHome,
      Math.min(SAY_AGAIN_MS, leftMs),
      'not everything is at home yet',
    )
    if (end.state === 'Moved' || leftMs <= SAY_AGAIN_MS) return end
  }
}

async function finish(
  { api, namespace, name }: PairName,
  before: KubeObject,
  isDone: (status: FilerPairStatus) => boolean,
  timeoutMs: number,
  notYet: string,
): Promise<MoveEnd> {
  const done = await waitFor(
    api,
    FILER_PAIRS,
    namespace,
    name,
    (object) => isDone(statusOf(object)),
    Math.max(1, timeoutMs),
  )
  if (!done.met) {
    const message = statusOf(done.object).message ?? ''
    return { state: 'Late', message: message === '' ? notYet : `${notYet}: ${message}` }
  }
  const last = statusOf(before).lastTakeover
  const pauseOf = (object: KubeObject | undefined): number | undefined => {
    const now = statusOf(object).lastTakeover
    const isNew = now !== undefined && (now.time !== last?.time || now.filer !== last.filer)
    return isNew ? now.clientPauseMilliseconds : undefined
  }
  // Nothing moved: nobody waited for it.
  if (isDone(statusOf(before))) return { state: 'Moved', pauseMilliseconds: undefined }
  const known = await waitFor(
    api,
    FILER_PAIRS,
    namespace,
    name,
    (object) => pauseOf(object) !== undefined,
    PAUSE_KNOWN_MS,
  )
  return { state: 'Moved', pauseMilliseconds: pauseOf(known.object) }
}

export function pauseText(pauseMilliseconds: number | undefined): string {
  return pauseMilliseconds === undefined
    ? 'no client called meanwhile'
    : `clients waited ${String(pauseMilliseconds)} ms`
}
