/** Order of fences: epoch, then the owner's incarnation. Nothing older than a region's fence takes effect (H5). */
import type { Fence } from '../connection/client.ts'

export function compareFence(one: Fence, two: Fence): number {
  return one.epoch - two.epoch || one.incarnation - two.incarnation
}
export const NO_FENCE: Fence = { epoch: 0, incarnation: 0 }
