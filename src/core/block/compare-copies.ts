/**
 * The two copies of an aggregate beside each other: with equal roots the context of every block in use must be the same on both, and so its content, since
 * a context has the content's checksum (whether the content fits is the check's business, plex by plex).
 */
import { DeviceError } from '../env/device.ts'
import type { Aggregate } from './aggregate.ts'
import { CONTEXT_BYTES } from './context.ts'
import { GROUP_BLOCKS } from './layout.ts'

const PROBLEMS_MAX = 100

export interface Comparison {
  /** The copies have the same root. If they do not, one of them is to be filled again, and nothing was compared. */
  readonly equalRoots: boolean
  readonly blocks: number
  readonly problems: readonly string[]
}

/** Both were just opened, read-only. */
export async function compareCopies(one: Aggregate, two: Aggregate): Promise<Comparison> {
  if (one.root.image !== two.root.image) return { equalRoots: false, blocks: 0, problems: [] }
  const problems: string[] = []
  let blocks = 0
  for (let group = 0; group < one.layout.groups && problems.length < PROBLEMS_MAX; group++) {
    if (one.space.busyIn(group) === 0) continue
    let sums: readonly [Uint8Array, Uint8Array]
    try {
      sums = await Promise.all([one.own.readChecksums(group), two.own.readChecksums(group)])
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      problems.push(`checksums of group ${group}: ${error.message}`)
      continue
    }
    for (let slot = 0; slot < one.layout.groupSize(group); slot++) {
      const pvbn = group * GROUP_BLOCKS + slot
      if (pvbn === 0 || !one.space.isBusy(pvbn)) continue
      blocks += 1
      const at = slot * CONTEXT_BYTES
      for (let byte = at; byte < at + CONTEXT_BYTES; byte++) {
        if (sums[0][byte] === sums[1][byte]) continue
        problems.push(`block ${pvbn}: the copies' contexts differ`)
        break
      }
    }
  }
  return { equalRoots: true, blocks, problems }
}
