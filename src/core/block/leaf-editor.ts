/**
 * Changing entries in the leaves of a metafile during a consistency point: each leaf is made fresh once and found at once from then on.
 */
import { Contradiction, Miss } from '../fs/block-store.ts'
import { getU16, getU48 } from '../fs/bytes.ts'
import type { Tree } from '../fs/tree.ts'
import type { OwnerEntry } from './context.ts'
import type { AggregateType } from './label.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

/** Entries in a leaf of the owner map: u16 volume, u48 number or, where the place is the number, generation. */
export const OWNER_FANOUT = 512
export const OWNER_ENTRY_BYTES = 8

/** The entry of `pvbn` in its leaf of the owner map of an aggregate of this type. */
export function ownerIn(leaf: Uint8Array, pvbn: number, type: AggregateType): OwnerEntry {
  const at = (pvbn % OWNER_FANOUT) * OWNER_ENTRY_BYTES
  const volume = getU16(leaf, at)
  const entry = getU48(leaf, at + 2)
  if (volume === 0 || type === 'Traditional') return { volume, number: pvbn, generation: entry }
  return { volume, number: entry, generation: undefined }
}

export class LeafEditor {
  private readonly tree: Tree
  private readonly leaves = new Map<number, Uint8Array>()

  constructor(tree: Tree) {
    this.tree = tree
  }

  /** The leaf if it was edited already: saves a promise for each entry. */
  ready(fbn: number): Uint8Array | undefined {
    return this.leaves.get(fbn)
  }

  async edit(fbn: number): Promise<Uint8Array> {
    for (;;) {
      try {
        this.tree.prepare(fbn)
        const leaf = this.tree.put(fbn)
        this.leaves.set(fbn, leaf)
        return leaf
      } catch (error) {
        if (!(error instanceof Miss)) throw error
        await error.load()
      }
    }
  }

  /** Makes the leaf a hole. */
  async punch(fbn: number): Promise<void> {
    this.leaves.delete(fbn)
    for (;;) {
      try {
        this.tree.prepare(fbn, true)
        this.tree.punch(fbn)
        return
      } catch (error) {
        if (!(error instanceof Miss)) throw error
        await error.load()
      }
    }
  }
}

/**
 * Sets or clears one bit of an active map; a promise only for the first bit in a leaf. The bit must change: a number that comes into
 * use twice, or goes out of it twice, would cost data. Throws Contradiction, before the image counts.
 */
export function setBit(map: LeafEditor, number: number, on: boolean): Promise<void> | undefined {
  const fbn = Math.floor(number / MAP_LEAF_BITS)
  const leaf = map.ready(fbn)
  if (leaf === undefined) return map.edit(fbn).then((loaded) => setIn(loaded, number, on))
  setIn(leaf, number, on)
  return undefined
}

function setIn(leaf: Uint8Array, number: number, on: boolean): void {
  const bit = number % MAP_LEAF_BITS
  if (((leaf[bit >> 3]! >> (bit & 7)) & 1) !== (on ? 0 : 1))
    throw new Contradiction(`block number ${number} ${on ? 'came into use' : 'was freed'} twice`)
  if (on) leaf[bit >> 3]! |= 1 << (bit & 7)
  else leaf[bit >> 3]! &= ~(1 << (bit & 7))
}
