/**
 * What must hold of a pair at rest: the roots of both copies of each side equal, each copy consistent by itself as `tandem check` sees it, the same
 * content in every block in use, and memory within its bounds.
 */
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import { checkVolumeFiles } from '../core/block/check-files.ts'
import { checkAggregate } from '../core/block/check.ts'
import { readPlex } from '../core/block/plex-info.ts'
import { Violation } from './caller.ts'
import { SimDevice } from './device.ts'
import type { FilerPair, SimPlex } from './filer-pair.ts'
import type { FilerName } from './names.ts'
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

async function open(pair: FilerPair, filer: FilerName, plex: SimPlex) {
  const process = pair.world.process(`check-${filer}`)
  const media = plex.media.map((medium) => medium.copy())
  const devices = media.map((medium) => new SimDevice(medium))
  const aggregate = await Aggregate.open(process.env, devices, {
    cache: new BufferCache(CACHE_BYTES),
    content: (_, root) => ({ freeze: () => root ?? new Uint8Array(0), restored: () => undefined }),
    readOnly: true,
  })
  const result = await checkAggregate(aggregate, { checkFiles: checkVolumeFiles })
  return { aggregate, media, result }
}

/**
 * Throws when the image of a filer that is down is not consistent as it is, without its log: a consistency point is whole at any moment. Copies that are being filled
 * are worth nothing, and no copy of what was not formatted yet.
 */
export async function checkDown(pair: FilerPair): Promise<void> {
  const problems: string[] = []
  for (const filer of FILERS.filter((name) => pair.running[name] === undefined)) {
    for (const plex of FILERS.flatMap((side) => pair.plexes(filer, side))) {
      const { env } = pair.world.process(`check-${filer}`)
      const info = await readPlex(
        env,
        plex.media.map((medium) => new SimDevice(medium)),
      )
      if (!info?.labels.every(({ state }) => state === 'complete')) continue
      const found = await open(pair, filer, plex).then(
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
    for (const [n, plex] of pair.plexes(owner, side).entries()) {
      const [one, two] = [
        await open(pair, owner, plex),
        await open(pair, other(owner), pair.plexes(other(owner), side)[n]!),
      ]
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
