/**
 * The second act of the demonstration: another pair, a volume mirrored each way under load, every network between the pairs cut and restored, one mirror broken and the
 * copy compared, the other one reversed while its client writes. Each figure is measured in this run; the first thing that does not hold ends it.
 */
import { FILER_PAIRS, FILER_VOLUMES, MIRRORS } from '../../edge/kube/resources.ts'
import { Load } from '../../nfs/load/load.ts'
import type { MirrorSpec } from '../../api/v1alpha1/mirror.ts'
import { breakMirror, reverseMirror } from '../cli/mirror-moves.ts'
import { parseManifests } from '../cli/manifests.ts'
import { parseGoal } from '../cli/wait.ts'
import type { Instance } from './instance.ts'
import { describe, mountOf, pass, progress, readBack, seconds } from './steps.ts'

const WORKERS = 2
const FILES_PER_WORKER = 8
const UNDER_LOAD_MS = 2000
const READY_WITHIN_MS = 60_000
const SYNC_WITHIN_MS = 60_000
const ANSWERED_WITHIN_MS = 20_000

export interface MirrorNames {
  readonly name: string
  readonly source: string
  readonly destination: string
}

export interface MirrorScene {
  readonly tell: (text: string) => void
  readonly instance: Instance
  /** Interconnects of both pairs. */
  readonly interconnects: readonly string[]
  readonly pairs: readonly [string, string]
  readonly mirrors: readonly MirrorNames[]
}

interface Mirror extends MirrorNames {
  readonly load: Load
}

/** The mirrors that a manifest speaks of, and the pair that it brings. */
export function mirrorsIn(text: string): { readonly pair: string; readonly mirrors: MirrorNames[] } {
  const objects = parseManifests(text, 'sample').map((manifest) => manifest.object)
  const pair = objects.find(({ kind }) => kind === 'FilerPair')
  const mirrors = objects.flatMap((object) => {
    if (object.kind !== 'Mirror') return []
    const { source, destination } = object['spec'] as MirrorSpec
    const name = object.metadata.name
    return [{ name, source: source.volumeName, destination: destination.volumeName }]
  })
  if (pair === undefined || mirrors.length !== 2)
    throw new Error('the sample has no FilerPair, or not two Mirrors')
  return { pair: pair.metadata.name, mirrors }
}

/** Rows for the table of the demonstration. */
export async function playMirrors(scene: MirrorScene): Promise<[string, string][]> {
  const { instance, pairs, mirrors } = scene
  const ready = parseGoal('condition=Ready')
  for (const pair of pairs)
    await instance.until(`pair ${pair} ready`, FILER_PAIRS, pair, ready, READY_WITHIN_MS)
  const opened: Mirror[] = []
  try {
    for (const [n, mirror] of mirrors.entries()) {
      const { source } = mirror
      const volume = await instance.until(`${source} ready`, FILER_VOLUMES, source, ready, READY_WITHIN_MS)
      const { server: host, port, path } = mountOf(volume)
      const options = { seed: 20260201 + 100 * n, filesPerWorker: FILES_PER_WORKER }
      const load = await Load.open([{ mount: { host, port, path }, workers: WORKERS }], options)
      opened.push({ ...mirror, load })
      load.resume()
    }
    const rows = await inSyncUnderLoad(scene, opened)
    rows.push(...(await loseAndRegain(scene, opened)))
    rows.push(...(await breakOne(scene, opened[0]!)))
    rows.push(...(await reverseOne(scene, opened[1]!)))
    return rows
  } finally {
    for (const { load } of opened) load.close()
  }
}

async function inSyncUnderLoad(
  { tell, instance, pairs }: MirrorScene,
  mirrors: readonly Mirror[],
): Promise<[string, string][]> {
  const began = performance.now()
  await inSync(instance, mirrors)
  const syncMs = performance.now() - began
  const names = mirrors.map(({ source, destination }) => `${source} to ${destination}`).join(', ')
  tell(`pair ${pairs[1]} is up, and mirrors between the pairs are in sync while clients write: ${names}`)
  for (const { load } of mirrors) load.resetPause()
  await pass(UNDER_LOAD_MS)
  for (const { load } of mirrors) load.assertWell()
  return [
    ['from writing clients to both mirrors in sync', seconds(syncMs)],
    ['longest pause of these clients', seconds(longestPauseMs(mirrors))],
  ]
}

async function loseAndRegain(
  { tell, instance, pairs: [pair, peer], interconnects }: MirrorScene,
  mirrors: readonly Mirror[],
): Promise<[string, string][]> {
  for (const { load } of mirrors) load.resetPause()
  for (const link of interconnects) await instance.order('/link', { pair, peer, link, cutAll: true })
  const lost = parseGoal('condition=InSync=False')
  for (const { name } of mirrors)
    await instance.until(`mirror ${name} out of sync`, MIRRORS, name, lost, SYNC_WITHIN_MS)
  await Promise.all(mirrors.map(({ load }) => progress(load, 20, ANSWERED_WITHIN_MS)))
  const pauseMs = longestPauseMs(mirrors)
  tell(
    `every network between ${pair} and ${peer} is cut silently: the mirrors left sync, the clients waited ${seconds(pauseMs)} and go on`,
  )
  const restored = performance.now()
  for (const link of interconnects) await instance.order('/link', { pair, peer, link })
  await inSync(instance, mirrors)
  const caughtUpMs = performance.now() - restored
  tell(
    `restored: both mirrors caught up by themselves while the clients write, and are in sync again after ${seconds(caughtUpMs)}`,
  )
  return [
    ['longest pause when the pairs lost each other', seconds(pauseMs)],
    ['from restored networks to both in sync', seconds(caughtUpMs)],
  ]
}

async function breakOne(
  { tell, instance }: MirrorScene,
  { name, source, destination, load }: Mirror,
): Promise<[string, string][]> {
  const before = await readBack(load)
  const began = performance.now()
  await changed(name, breakMirror({ api: instance.api, namespace: 'default', name }, SYNC_WITHIN_MS))
  const breakMs = performance.now() - began
  await goOnAt(instance, destination, load)
  const after = await readBack(load)
  if (after.digest !== before.digest)
    throw new Error(`${destination} is not what ${source} was when the mirror was broken`)
  load.resume()
  await progress(load, 20, ANSWERED_WITHIN_MS)
  tell(
    `mirror ${name} is broken in ${seconds(breakMs)}: ${destination} has what ${source} had (${describe(after)}), and its client goes on there with the handles it had`,
  )
  return [['break of a mirror, until the copy is served', seconds(breakMs)]]
}

async function reverseOne(
  { tell, instance }: MirrorScene,
  { name, source, destination, load }: Mirror,
): Promise<[string, string][]> {
  load.resetPause()
  await changed(name, reverseMirror({ api: instance.api, namespace: 'default', name }, SYNC_WITHIN_MS))
  await goOnAt(instance, destination, load)
  await progress(load, 20, ANSWERED_WITHIN_MS)
  const pauseMs = load.longestPauseMs
  const verdict = await readBack(load)
  tell(
    `mirror ${name} is reversed while its client writes: it waited ${seconds(pauseMs)} and goes on at ${destination}, now mirrored to ${source} (${describe(verdict)})`,
  )
  return [['pause of a client when its mirror was reversed', seconds(pauseMs)]]
}

async function goOnAt(instance: Instance, volume: string, load: Load): Promise<void> {
  const { server, port } = mountOf(await instance.api.get(FILER_VOLUMES, 'default', volume))
  load.clients[0]!.rpc.redirect(server, port)
}

async function changed(name: string, change: ReturnType<typeof breakMirror>): Promise<void> {
  const end = await change
  if (end.state !== 'Done') throw new Error(`mirror ${name}: ${'message' in end ? end.message : end.state}`)
}

async function inSync(instance: Instance, mirrors: readonly Mirror[]): Promise<void> {
  const goal = parseGoal('condition=InSync')
  for (const { name } of mirrors)
    await instance.until(`mirror ${name} in sync`, MIRRORS, name, goal, SYNC_WITHIN_MS)
}

const longestPauseMs = (mirrors: readonly Mirror[]): number =>
  Math.max(...mirrors.map(({ load }) => load.longestPauseMs))
