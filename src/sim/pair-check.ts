/**
 * What must hold of a pair at rest: the roots of both copies of each side equal, each copy consistent by itself as `tandem check` sees it, the same
 * content in every block in use, and memory within its bounds; and what mends damage before that is asked.
 */
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import { checkVolumeFiles } from '../core/block/check-files.ts'
import { checkAggregate } from '../core/block/check.ts'
import { convertedOn, readPlex } from '../core/block/plex-info.ts'
import type { Env } from '../core/env/env.ts'
import { imageDevices } from '../core/filer/store-conversions.ts'
import { Violation } from './caller.ts'
import { SimDevice } from './device.ts'
import type { FilerPair, SimPlex } from './filer-pair.ts'
import type { FilerName, SideName } from './names.ts'
import { FILERS, other } from './names.ts'

const CACHE_BYTES = 64 << 20

/** Changed blocks in memory may pass their bound by what was admitted already. */
const DIRTY_SLACK_BYTES = 8 << 20

/** Throws when a filer holds more changed blocks than it may. */
export function checkMemory(pair: FilerPair): void {
  const limit = Math.floor(pair.options.cacheBytes * 0.4) + DIRTY_SLACK_BYTES
  for (const name of FILERS) {
    for (const store of pair.running[name]?.filer?.stores.values() ?? []) {
      let dirty = 0
      for (const aggregate of store.aggregates.values()) dirty += aggregate.dirtyBytes
      if (dirty > limit) throw new Error(`filer ${name} holds ${dirty} changed bytes, more than ${limit}`)
    }
  }
}

async function openPlex(env: Env, plex: SimPlex) {
  const media = plex.media.map((medium) => medium.copy())
  const devices = media.map((medium) => new SimDevice(medium))
  return await Aggregate.open(env, devices, {
    cache: new BufferCache(CACHE_BYTES),
    content: (_, root) => ({ freeze: () => root ?? new Uint8Array(0), restored: () => undefined }),
    readOnly: true,
  })
}

/** `source`: the aggregate whose devices hold blocks of a volume in this one. */
async function open(env: Env, plex: SimPlex, source?: SimPlex) {
  const aggregate = await openPlex(env, plex)
  if (source !== undefined) aggregate.attachOld((await openPlex(env, source)).io)
  const result = await checkAggregate(aggregate, { checkFiles: checkVolumeFiles })
  return { aggregate, result }
}

interface Image {
  readonly plex: SimPlex
  readonly source: SimPlex | undefined
}

/** What a filer has of a side: with the devices that joined an aggregate, and beside it those that hold blocks of its volume. */
async function imagesOf(pair: FilerPair, env: Env, filer: FilerName, side: SideName): Promise<Image[]> {
  const plexes = pair.plexes(filer, side)
  const devices = plexes.map(({ name, media }) => {
    return [name, media.map((medium) => ({ medium, device: new SimDevice(medium) }))] as const
  })
  const images: Image[] = []
  for (const [name, list] of await imageDevices(env, new Map(devices))) {
    const own = plexes.find((plex) => plex.name === name)!
    const old = await convertedOn(
      env,
      list.map(({ device }) => device),
    )
    const away = old?.holdsDevices === true && old.state !== 'joined'
    images.push({
      plex: { ...own, media: list.map(({ medium }) => medium) },
      source: away ? plexes.find((plex) => plex.name === old.record.aggregate) : undefined,
    })
  }
  return images
}

/**
 * Throws when the image of a filer that is down is not consistent as it is, without its log: a consistency point is whole at any moment. Copies that are being filled
 * are worth nothing, and no copy of what was not formatted yet.
 */
export async function checkDown(pair: FilerPair): Promise<void> {
  const problems: string[] = []
  for (const filer of FILERS.filter((name) => pair.running[name] === undefined)) {
    const { env } = pair.world.process(`check-${filer}`)
    const images: Image[] = []
    for (const side of FILERS) images.push(...(await imagesOf(pair, env, filer, side)))
    for (const { plex, source } of images) {
      const info = await readPlex(
        env,
        plex.media.map((medium) => new SimDevice(medium)),
      )
      if (!info?.labels.every(({ state }) => state === 'complete')) continue
      const found = await open(env, plex, source).then(
        ({ result }) => result.problems,
        (error: unknown) => [String(error)],
      )
      for (const problem of found) problems.push(`${plex.name} at ${filer}: ${problem}`)
    }
  }
  if (problems.length > 0) throw new Violation(`without power: ${problems.slice(0, 10).join('; ')}`)
}

/** Waits until no consistency point runs and both copies have the same root: returns when both media can be compared. */
export async function untilEqual(pair: FilerPair, limitMs: number): Promise<void> {
  await pair.world.until(
    () =>
      FILERS.every((side) => {
        const owner = pair.ownerOf(side)
        const filer = pair.running[owner]?.filer
        const one = filer?.pair.sides.get(side)?.owner
        if (!pair.isGood(side) || one?.cpRunning !== false) return false
        const roots = filer!.stores.get(side)?.roots() ?? []
        return roots.length > 0 && roots.every(({ covers }) => covers === one.log.lastSeq)
      }),
    limitMs,
    'everything in both images',
  )
}

export async function problemsOf(pair: FilerPair): Promise<string[]> {
  const problems: string[] = []
  for (const side of FILERS) {
    const owner = pair.ownerOf(side)
    const { env } = pair.world.process(`check-${owner}`)
    const theirs = await imagesOf(pair, env, other(owner), side)
    for (const [n, { plex, source }] of (await imagesOf(pair, env, owner, side)).entries()) {
      const [one, two] = [await open(env, plex, source), await open(env, theirs[n]!.plex, theirs[n]!.source)]
      for (const [filer, { result }] of [
        [owner, one],
        [other(owner), two],
      ] as const) {
        for (const problem of result.problems) problems.push(`${plex.name} at ${filer}: ${problem}`)
      }
      if (one.aggregate.root.image !== two.aggregate.root.image) {
        problems.push(`${plex.name}: roots ${one.aggregate.root.image} and ${two.aggregate.root.image}`)
      }
      if (one.result.blocksUsed !== two.result.blocksUsed) {
        problems.push(`${plex.name}: ${one.result.blocksUsed} and ${two.result.blocksUsed} blocks in use`)
      }
    }
  }
  return problems
}

/**
 * All records in images, everything in use read on both plexes of both sides and mended: whatever the devices did wrong so far is undone. Throws if
 * something could not be mended.
 */
export async function mend(pair: FilerPair, limitMs: number): Promise<void> {
  pair.damage.rest()
  for (const side of FILERS) {
    await pair.untilGood(limitMs)
    const filer = pair.running[pair.ownerOf(side)]!.filer!
    await pair.world.wait(filer.pair.sides.get(side)!.owner!.cpNow(), limitMs, 'a consistency point')
    for (const [name, scrub] of filer.stores.get(side)!.scrubs) {
      for (let left = 1; left > 0;) {
        const result = await pair.world.wait(scrub.pass(), limitMs, `a pass of the scrub over ${name}`)
        pair.world.note(`scrub ${name} ${result.damaged} ${result.repaired}`)
        if (result.unrepairable > 0) {
          throw new Error(`${result.unrepairable} blocks of ${name} are damaged on both plexes`)
        }
        left = result.left
      }
    }
  }
  pair.damage.mended()
}
