/**
 * What each snapshot of a volume holds alone: numbers in its map that neither the active map nor another snapshot's has. Counted anew leaf by leaf where it may
 * have changed, some leaves at each consistency point, so that it costs nothing that grows with the volume.
 */
import { loaded } from '../fs/tree.ts'
import type { Tree } from '../fs/tree.ts'
import { countWithout } from './number-set.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

/** Leaves of maps that one consistency point reads at most. */
const COUNT_LEAVES = 1024

export interface Counted {
  readonly tree: Tree
  readonly deleting: boolean
  /** The leaf of its map from which on a snapshot that is being deleted counts. */
  readonly cursor: number
  unique: number
}

export interface SharedLeaf<S> {
  readonly leaf: Uint8Array
  readonly owner: S
  /** How many have it. */
  owners: number
}

export class SnapshotCounts<S extends Counted> {
  private readonly states: ReadonlyMap<number, S>
  private readonly volume: { readonly active: Tree }
  /** Leaves where what single snapshots hold may have changed. */
  private readonly stale = new Set<number>()
  private readonly counted = new Map<number, ReadonlyMap<S, number>>()

  constructor(states: ReadonlyMap<number, S>, volume: { readonly active: Tree }) {
    this.states = states
    this.volume = volume
  }

  /** Something is left to be counted. */
  get waits(): boolean {
    return this.stale.size > 0
  }

  note(index: number): void {
    this.stale.add(index)
  }

  /** There is nothing left to be counted. */
  clear(): void {
    this.stale.clear()
    this.counted.clear()
  }

  /** The volume goes: nobody asks any more. */
  stop(): void {
    this.stale.clear()
  }

  /** The different leaves that snapshots' maps have at `index`, as far as they count. */
  async leavesAt(index: number, except?: S): Promise<Map<number, SharedLeaf<S>>> {
    const leaves = new Map<number, SharedLeaf<S>>()
    for (const state of this.states.values()) {
      if (state === except || (state.deleting && index < state.cursor)) continue
      const pointer = await loaded(() => state.tree.lookup(index))
      if (pointer === undefined) continue
      const known = leaves.get(pointer.bn)
      if (known !== undefined) known.owners += 1
      else {
        const leaf = (await loaded(() => state.tree.get(index)))!
        leaves.set(pointer.bn, { leaf, owner: state, owners: 1 })
      }
    }
    return leaves
  }

  /** Some of what was noted. */
  async count(): Promise<void> {
    let left = COUNT_LEAVES
    for (const index of this.stale) {
      if (left <= 0) return
      this.stale.delete(index)
      const leaves = await this.leavesAt(index)
      left -= 1 + leaves.size
      const active = await loaded(() => this.volume.active.get(index))
      const counts = new Map<S, number>()
      const common = commonOf([...leaves.values()])
      for (const { leaf, owner, owners } of leaves.values()) {
        const count = owners > 1 || owner.deleting ? 0 : countWithout(leaf, active, common)
        if (count > 0) counts.set(owner, count)
      }
      for (const [state, count] of this.counted.get(index) ?? []) state.unique -= count
      for (const [state, count] of counts) state.unique += count
      if (counts.size > 0) this.counted.set(index, counts)
      else this.counted.delete(index)
    }
  }
}

/** The bits that more than one snapshot has. */
function commonOf(leaves: readonly { leaf: Uint8Array; owners: number }[]): Uint8Array | undefined {
  if (leaves.length < 2) return undefined
  const once = new Uint8Array(MAP_LEAF_BITS / 8)
  const common = new Uint8Array(MAP_LEAF_BITS / 8)
  for (const { leaf, owners } of leaves) {
    for (let i = 0; i < leaf.length; i++) {
      common[i]! |= owners > 1 ? leaf[i]! : once[i]! & leaf[i]!
      once[i]! |= leaf[i]!
    }
  }
  return common
}
