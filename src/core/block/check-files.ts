/**
 * The files of one volume against its active map: what core/fs finds wrong with them, blocks that two files share, blocks in use that no file has.
 */
import { loaded } from '../fs/tree.ts'
import { checkFileSystem } from '../fs/check.ts'
import { SparseSet } from './bit-set.ts'
import { PROBLEMS_MAX } from './check.ts'
import type { FilesResult, Leak } from './check.ts'
import { MAP_LEAF_BITS } from './space-map.ts'
import type { Volume, VolumeContent } from './volume.ts'

export async function checkVolumeFiles<C extends VolumeContent>(
  volume: Volume<C>,
  inUse: (number: number) => boolean,
): Promise<FilesResult> {
  const problems: string[] = []
  const leaks: Leak[] = []
  const seen = new SparseSet()
  const found = checkFileSystem(
    volume,
    volume.contentRoot,
    ({ bn, ino }) => {
      if (!inUse(bn)) problems.push(`file ${ino}: block ${bn} is not in use by the active map`)
      if (seen.add(bn)) return true
      problems.push(`file ${ino}: block ${bn} belongs to another file too`)
      return false
    },
    ({ kind, ino }) => leaks.push({ kind, volume: volume.index, ino }),
  )
  for await (const problem of found) {
    problems.push(problem)
    if (problems.length > PROBLEMS_MAX) return { problems, leaks }
  }
  if (seen.size !== volume.used) await lost(volume, seen, problems, leaks)
  return { problems, leaks }
}

/** Numbers in use that no file has. */
async function lost<C extends VolumeContent>(
  volume: Volume<C>,
  seen: SparseSet,
  problems: string[],
  leaks: Leak[],
): Promise<void> {
  let told = 0
  for (let from = 0; told < PROBLEMS_MAX;) {
    const start = from
    const fbn = await loaded(() => volume.active.next(start))
    if (fbn === undefined) break
    const leaf = (await loaded(() => volume.active.get(fbn)))!
    for (let bit = 0; bit < MAP_LEAF_BITS && told < PROBLEMS_MAX; bit++) {
      const number = fbn * MAP_LEAF_BITS + bit
      if ((leaf[bit >> 3]! & (1 << (bit & 7))) === 0 || seen.has(number)) continue
      told += 1
      problems.push(`block ${number} is lost: the active map says in use, no file has it`)
      leaks.push({ kind: 'number', volume: volume.index, number })
    }
    from = fbn + 1
  }
  if (told === 0) problems.push(`${volume.used} blocks are in use, files have ${seen.size}`)
}
