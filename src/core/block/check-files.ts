/**
 * The files of one volume against its active map: what core/fs finds wrong with them, blocks that two files share, blocks in use that no file has.
 */
import { checkFileSystem } from '../fs/check.ts'
import type { FlexibleVolume, VolumeContent } from './flexible-volume.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

/** A set of numbers, a bit for each in the ranges that occur. */
class NumberSet {
  private readonly chunks = new Map<number, Uint8Array>()

  /** False if it was in already. */
  add(number: number): boolean {
    const index = Math.floor(number / MAP_LEAF_BITS)
    let chunk = this.chunks.get(index)
    if (chunk === undefined) {
      chunk = new Uint8Array(MAP_LEAF_BITS / 8)
      this.chunks.set(index, chunk)
    }
    const bit = number % MAP_LEAF_BITS
    if ((chunk[bit >> 3]! & (1 << (bit & 7))) !== 0) return false
    chunk[bit >> 3]! |= 1 << (bit & 7)
    return true
  }
}

export async function checkVolumeFiles<C extends VolumeContent>(
  volume: FlexibleVolume<C>,
  inUse: (vvbn: number) => boolean,
): Promise<readonly string[]> {
  const problems: string[] = []
  const seen = new NumberSet()
  let blocks = 0
  const found = checkFileSystem(volume, volume.contentRoot, ({ bn, ino }) => {
    if (!inUse(bn)) problems.push(`file ${ino}: VVBN ${bn} is not in use by the active map`)
    if (seen.add(bn)) blocks += 1
    else problems.push(`file ${ino}: VVBN ${bn} belongs to another file too`)
  })
  for await (const problem of found) problems.push(problem)
  if (blocks !== volume.used) {
    problems.push(`${volume.used} VVBNs are in use, files have ${blocks}`)
  }
  return problems
}
