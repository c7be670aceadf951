/**
 * The files of one image of a volume against its active map: what core/fs finds wrong with them, blocks that two files share, blocks in use that no file has.
 */
import { checkFileSystem } from '../fs/check.ts'
import { SparseSet } from './bit-set.ts'
import { PROBLEMS_MAX } from './check.ts'
import type { CheckedImage, FilesResult, Leak } from './check.ts'
import { MAP_LEAF_BITS } from './space-map.ts'
import type { Volume, VolumeContent } from './volume.ts'

export async function checkVolumeFiles<C extends VolumeContent>(
  volume: Volume<C>,
  image: CheckedImage,
): Promise<FilesResult> {
  const problems: string[] = []
  const leaks: Leak[] = []
  const seen = new SparseSet()
  let unmarked = 0
  const found = checkFileSystem(
    volume,
    image.root,
    ({ bn, ino }) => {
      if (volume.mayBeUnmarked(bn)) unmarked += 1
      else if (!image.numbers.has(bn))
        problems.push(`file ${ino}: block ${bn} is not in use by the active map`)
      if (seen.add(bn)) return true
      problems.push(`file ${ino}: block ${bn} belongs to another file too`)
      return false
    },
    ({ kind, ino }) => leaks.push(leakOf(volume.index, image, { kind, volume: volume.index, ino })),
  )
  for await (const problem of found) {
    problems.push(problem)
    if (problems.length > PROBLEMS_MAX) return { problems, leaks }
  }
  if (seen.size - unmarked !== image.used) lost(volume.index, image, seen, problems, leaks)
  return { problems, leaks }
}

/** What a snapshot has too much cannot be freed by itself. */
function leakOf(volume: number, { snapshot }: CheckedImage, leak: Leak): Leak {
  return snapshot === 0 ? leak : { kind: 'held', volume, snapshot }
}

/** Numbers in use that no file has. */
function lost(volume: number, image: CheckedImage, seen: SparseSet, problems: string[], leaks: Leak[]): void {
  let told = 0
  for (const index of image.numbers.indexes()) {
    const leaf = image.numbers.chunk(index)!
    for (let bit = 0; bit < MAP_LEAF_BITS && told < PROBLEMS_MAX; bit++) {
      const number = index * MAP_LEAF_BITS + bit
      if ((leaf[bit >> 3]! & (1 << (bit & 7))) === 0 || seen.has(number)) continue
      told += 1
      problems.push(`block ${number} is lost: the active map says in use, no file has it`)
      leaks.push(leakOf(volume, image, { kind: 'number', volume, number }))
    }
  }
  if (told === 0) problems.push(`${image.used} blocks are in use, files have ${seen.size}`)
}
