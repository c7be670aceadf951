/**
 * The first act of the demonstration: a pair from the sample manifests, an NFS client that writes and goes on writing, one interconnect cut, the
 * serving filer killed, everything acknowledged read back from the survivor, the filer filled again, its volume given back, everything
 * read back again. Each figure of the table is measured in this run; the first thing that does not hold ends it.
 */
import { FILER_PAIRS, FILER_VOLUMES } from '../../edge/kube/resources.ts'
import { Load } from '../../nfs/load/load.ts'
import type { Verdict } from '../../nfs/load/load.ts'
import { parseManifests } from '../cli/manifests.ts'
import { parseGoal } from '../cli/wait.ts'
import type { Instance } from './instance.ts'
import { describe, megabytes, mountOf, pass, progress, readBack } from './steps.ts'

const WORKERS = 4
const FILES_PER_WORKER = 25
const FILES_PER_WORKER_MAX = 60
/** What nobody should notice takes at least so long. */
const CUT_OBSERVED_MS = 1500
const AFTER_TAKEOVER_MS = 1500
/** A cut link, to a client, is a pause no longer than this: less than a takeover takes. */
const UNNOTICED_MS = 1000
const REPORTED_WITHIN_MS = 15_000
const READY_WITHIN_MS = 30_000
const REDUNDANT_WITHIN_MS = 30_000
const MOVED_WITHIN_MS = 20_000
const SAID_AGAIN_MS = 4000

export interface Names {
  readonly pair: string
  readonly volume: string
  readonly interconnects: readonly string[]
}

export interface Scene {
  /** Says it with the time. */
  readonly tell: (text: string) => void
  readonly instance: Instance
  readonly names: Names
  /** When the demonstration began, by `performance.now()`. */
  readonly startedMs: number
}

/** The pair and the volume that the manifests speak of. */
export function namesIn(texts: readonly string[]): Names {
  const objects = texts.flatMap((text) => parseManifests(text, 'sample').map((manifest) => manifest.object))
  const pair = objects.find((object) => object.kind === 'FilerPair')
  const volume = objects.find((object) => object.kind === 'FilerVolume')
  if (pair === undefined || volume === undefined)
    throw new Error('the samples hold no FilerPair or no FilerVolume')
  const spec = pair['spec'] as { interconnects?: { name: string }[] }
  return {
    pair: pair.metadata.name,
    volume: volume.metadata.name,
    interconnects: (spec.interconnects ?? [{ name: 'default' }]).map((interconnect) => interconnect.name),
  }
}

export async function play({ tell, instance, names, startedMs }: Scene): Promise<[string, string][]> {
  const rows: [string, string][] = []
  const elapsed = (): string => `${((performance.now() - startedMs) / 1000).toFixed(1)} s`

  const ready = parseGoal('condition=Ready')
  await instance.until('pair and volume ready', FILER_PAIRS, names.pair, ready, READY_WITHIN_MS)
  const volume = await instance.until('volume ready', FILER_VOLUMES, names.volume, ready, READY_WITHIN_MS)
  const redundant = parseGoal('condition=Redundant')
  const pair = await instance.until(
    'both copies current',
    FILER_PAIRS,
    names.pair,
    redundant,
    REDUNDANT_WITHIN_MS,
  )
  const home = (volume['status'] as { servedBy?: string }).servedBy ?? ''
  const filers = (pair['spec'] as { filers: { name: string }[] }).filers.map((filer) => filer.name)
  const partner = filers.find((filer) => filer !== home) ?? ''
  const mount = mountOf(volume)
  rows.push(['from manifests to a mirrored volume', elapsed()])
  tell(
    `pair ${names.pair} is up; volume ${names.volume} is served by filer ${home} at ${mount.server}:${String(mount.port)}${mount.path}, mirrored on ${partner}`,
  )

  const treeStartedMs = performance.now()
  const { server: host, port, path } = mount
  const load = await Load.open([{ mount: { host, port, path }, workers: WORKERS }], {
    seed: 20260101,
    filesPerWorker: FILES_PER_WORKER,
    filesMax: FILES_PER_WORKER_MAX,
  })
  try {
    const treeMs = performance.now() - treeStartedMs
    tell(
      `an NFS client wrote ${String(WORKERS * FILES_PER_WORKER)} files (${megabytes(load.bytes)}, ${String(load.operations)} calls) in ${treeMs.toFixed(0)} ms, and goes on writing`,
    )
    load.resume()

    const link = names.interconnects[0]!
    load.resetPause()
    await instance.order('/link', { pair: names.pair, link, cutAll: true })
    tell(`interconnect ${link} is cut silently: its bytes stop, no connection is closed`)
    await Promise.all([
      pass(CUT_OBSERVED_MS),
      instance.until(
        'the cut is reported',
        FILER_PAIRS,
        names.pair,
        parseGoal('condition=LinksUp=False'),
        REPORTED_WITHIN_MS,
      ),
    ])
    await pass(500)
    tell(`status says LinksUp=False; ${names.interconnects.slice(1).join(', ')} carries everything`)
    const cutPauseMs = load.longestPauseMs
    rows.push([`longest pause while ${link} was cut`, `${cutPauseMs.toFixed(0)} ms`])
    tell(`the client noticed nothing: its longest pause was ${cutPauseMs.toFixed(0)} ms`)
    if (cutPauseMs > UNNOTICED_MS)
      throw new Error(`the cut of one interconnect was noticed: a pause of ${cutPauseMs.toFixed(0)} ms`)
    const stillHome = await instance.api.get(FILER_VOLUMES, 'default', names.volume)
    if ((stillHome['status'] as { servedBy?: string }).servedBy !== home)
      throw new Error('the cut of one interconnect moved the volume')

    load.resetPause()
    await instance.order('/hold', { filer: `${names.pair}/${home}` })
    await instance.order('/kill', { filer: `${names.pair}/${home}`, signal: 'SIGKILL' })
    tell(`filer ${home} is killed with -9 and held down`)
    await progress(load, WORKERS + 1, MOVED_WITHIN_MS)
    await pass(AFTER_TAKEOVER_MS)
    const takeoverPauseMs = load.longestPauseMs
    await instance.until(
      'taken over',
      FILER_VOLUMES,
      names.volume,
      parseGoal(`jsonpath={.status.servedBy}=${partner}`),
      MOVED_WITHIN_MS,
    )
    rows.push(['pause of the client at the takeover', `${takeoverPauseMs.toFixed(0)} ms`])
    tell(`filer ${partner} took over; the client waited ${takeoverPauseMs.toFixed(0)} ms and got no error`)

    const survivor = await compare(load)
    rows.push(['read back from the survivor', describe(survivor)])
    tell(`read back from ${partner}: ${describe(survivor)}, equal to what was acknowledged`)

    await instance.order('/link', { pair: names.pair, link })
    const releasedMs = performance.now()
    await instance.order('/release', { filer: `${names.pair}/${home}` })
    tell(`filer ${home} is released, interconnect ${link} restored; the client goes on writing`)
    await instance.until(
      'filled again',
      FILER_PAIRS,
      names.pair,
      parseGoal('condition=Redundant'),
      REDUNDANT_WITHIN_MS,
    )
    const resyncMs = performance.now() - releasedMs
    rows.push(['from release to both copies current', `${(resyncMs / 1000).toFixed(1)} s`])
    tell(`filer ${home} is filled again: both copies are current`)

    load.resetPause()
    const epoch = await giveBack(instance, names, home)
    await progress(load, WORKERS + 1, MOVED_WITHIN_MS)
    const givebackPauseMs = load.longestPauseMs
    rows.push(['pause of the client at the giveback', `${givebackPauseMs.toFixed(0)} ms`])
    tell(
      `filer ${home} has its volume back (epoch ${String(epoch)}); the client waited ${givebackPauseMs.toFixed(0)} ms`,
    )

    const final = await compare(load)
    await load.pause()
    rows.push(['read back after the giveback', describe(final)])
    tell(`read back from ${home}: ${describe(final)}, equal to what was acknowledged`)
    rows.push(['acknowledged calls in all', `${String(load.operations)} (${megabytes(load.bytes)} written)`])
    rows.push(['reconnections of the client, errors', `${String(load.clients[0]!.rpc.reconnects)}, 0`])
    rows.push(['acknowledged and lost', '0 bytes'])
    return rows
  } finally {
    load.close()
  }
}

/** What `tandem giveback` does, said again with the new epoch when the old one passed before it was heard. */
async function giveBack(instance: Instance, names: Names, home: string): Promise<number | undefined> {
  const deadline = performance.now() + MOVED_WITHIN_MS
  const isHome = parseGoal(`jsonpath={.status.servedBy}=${home}`)
  for (;;) {
    const pair = await instance.api.get(FILER_PAIRS, 'default', names.pair)
    const epoch = (pair['status'] as { epoch?: number }).epoch
    await instance.api.mergePatch(FILER_PAIRS, 'default', names.pair, {
      spec: { takeover: { givebackEpoch: epoch } },
    })
    const moved = instance.until('given back', FILER_VOLUMES, names.volume, isHome, SAID_AGAIN_MS)
    const isMoved = await moved.then(
      () => true,
      (error: unknown) => {
        if (performance.now() > deadline) throw error
        return false
      },
    )
    if (isMoved) return epoch
  }
}

/** Reads everything back, and has the load go on. */
async function compare(load: Load): Promise<Verdict> {
  const verdict = await readBack(load)
  load.resume()
  return verdict
}
