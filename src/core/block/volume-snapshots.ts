/**
 * The snapshots of one volume: images that stay readable while the volume goes on.
 *
 * A snapshot is what a freeze finds: the file layer's root, and the volume's active map as the consistency point of that freeze leaves it. The map's tree is
 * shared (snapshot-maps.ts), so that making one costs nothing that grows with the volume. A number that some snapshot's map has is *held*: when
 * the active file system frees it, only its bit in the active map goes; place, container and owner entry stay. A number is free
 * when no map has it, active or snapshot.
 *
 * - A snapshot that is deleted is invisible at once; the numbers that only it held come back a slice at each consistency point (`cursor`), leaf by leaf
 *   of its map, then its map's own blocks. So are those of the files that a restore replaced: they become a snapshot that is being deleted.
 * - Orders are taken by the next freeze. They are done when its consistency point is complete; a crash before means that they never were.
 *
 * Only the consistency point under way calls the asynchronous part, so nothing here runs twice at a time. It knows no files, logs or clocks.
 */
import { Contradiction, Miss, SINGLE } from '../fs/block-store.ts'
import { loaded, newTreeRoot, Tree } from '../fs/tree.ts'
import { assert } from '../std/assert.ts'
import { LeafEditor } from './leaf-editor.ts'
import type { MetaStore } from './meta-store.ts'
import { countWithout, NumberSet, orInto } from './number-set.ts'
import { SnapshotCounts } from './snapshot-counts.ts'
import { SnapshotMaps } from './snapshot-maps.ts'
import {
  decodeSnapshot,
  encodeSnapshot,
  REQUEST_BYTES_MAX,
  SNAPSHOT_NAME_BYTES_MAX,
  SNAPSHOTS_PER_LEAF,
} from './snapshot-table.ts'
import { SnapshotQueue } from './snapshot-queue.ts'
import type { MakeOrder, Waiting } from './snapshot-queue.ts'
import type { SnapshotEntry } from './snapshot-table.ts'
import { MAP_LEAF_BITS } from './space-map.ts'

/** Of a volume, those being deleted counted. */
export const SNAPSHOTS_MAX = 255
/** Freed numbers that looking at one leaf of a map counts for, in the budget of a slice. */
const STEP_COST = 32
/** Metafile blocks that a change of the snapshot table may cost beyond those that exist. */
const TABLE_GROWTH = 8

export interface Snapshot {
  readonly id: number
  readonly name: string
  readonly requestId: string
  /** Of the consistency point that made it. */
  readonly cp: number
  /** Seconds since the epoch. */
  readonly created: number
  /** Numbers in use in its image. */
  readonly used: number
  /** The file layer's root of its image. */
  readonly content: Uint8Array
  /** Numbers that nothing else has, neither files nor another snapshot, as last counted. */
  readonly unique: number
  /** Durable, and not asked to be deleted. Readers ask again at every step: soon after this is false its blocks are reused. */
  readonly visible: boolean
}

export interface SnapshotImage extends Snapshot {
  readonly tree: Tree
  readonly cursor: number
  readonly deleting: boolean
}

interface State extends Snapshot {
  readonly slot: number
  readonly map: Uint8Array
  readonly tree: Tree
  deleting: boolean
  cursor: number
  unique: number
  visible: boolean
}

export type SnapshotRefusal = 'NoSuchSnapshot' | 'SnapshotExists' | 'InvalidName' | 'TooMany'

/** What a volume is to its snapshots. */
export interface SnapshotHost {
  readonly active: Tree
  readonly activeRoot: Uint8Array
  /** The PVBN of a number that is not fresh. Throws Miss, DamagedBlock. */
  lookup(number: number): number
}

/** What one freeze took of the orders. */
export interface FrozenSnapshots {
  readonly made: readonly State[]
  readonly deleted: readonly State[]
  /** The files are those of this snapshot since the freeze before. */
  readonly restored: { readonly from: State; readonly dying: State; readonly usedBefore: number } | undefined
  readonly waiting: readonly Waiting[]
}

/** Where a slice of deletion puts what it gives back. */
export interface Returned {
  /** PVBNs. */
  readonly places: number[]
  readonly numbers: number[]
  /** Called now and then: a promise when it is time to let other work in. */
  breathe(): Promise<void> | undefined
}

/** Names that begin so are of snapshots that only the filer itself knows: pinned images of mirrors. Nobody can ask for one by such a name. */
const HIDDEN = ':'
export const SNAPSHOT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

export class VolumeSnapshots {
  readonly tableRoot: Uint8Array
  readonly maps: SnapshotMaps
  /** Of the orders carried out last, so that a repeated one is known. */
  lastDelete: string
  lastRestore: string
  private readonly host: SnapshotHost
  private readonly meta: MetaStore
  private readonly table: Tree
  private readonly states = new Map<number, State>()
  private readonly held = new NumberSet()
  private nextId: number
  private readonly queue = new SnapshotQueue<State>()
  private readonly counts: SnapshotCounts<State>
  private restoring: { from: State; requestId: string } | undefined
  /** The freeze that makes a snapshot is not worked in yet: every number of its image is held. */
  private making = false
  /** Held numbers that the active map does not have, as of the last consistency point; then those freed since, as far as is known. */
  private heldOnly = 0
  private frozenExtra = 0
  private extra = 0
  private keptSince = 0
  constructor(
    host: SnapshotHost,
    meta: MetaStore,
    saved: {
      readonly snapshots: Uint8Array | undefined
      readonly nextSnapshot: number
      readonly lastDelete: string
      readonly lastRestore: string
    },
  ) {
    this.host = host
    this.counts = new SnapshotCounts(this.states, host)
    this.meta = meta
    this.maps = new SnapshotMaps(meta)
    this.tableRoot = saved.snapshots ?? newTreeRoot(SINGLE)
    this.table = new Tree(meta, this.tableRoot, 'meta')
    this.nextId = Math.max(1, saved.nextSnapshot)
    this.lastDelete = saved.lastDelete
    this.lastRestore = saved.lastRestore
  }

  /** At opening, behind the volume's own map. Returns false for an entry that makes no sense. */
  async load(): Promise<boolean> {
    for (let from = 0; ;) {
      const start = from
      const index = await loaded(() => this.table.next(start))
      if (index === undefined) break
      const leaf = (await loaded(() => this.table.get(index)))!
      for (let slot = 0; slot < SNAPSHOTS_PER_LEAF; slot++) {
        const entry = decodeSnapshot(leaf, slot)
        if (entry === undefined) return false
        if (entry !== 'NONE') this.enter(entry, index * SNAPSHOTS_PER_LEAF + slot, entry.state === 'ordinary')
      }
      from = index + 1
    }
    // The one whose deletion has begun comes last: what it shares with others counts for these.
    for (const state of [...this.states.values()].sort((a, b) => a.cursor - b.cursor)) {
      await this.maps.add(state.map, (index, leaf) => {
        if (index >= state.cursor) this.held.merge(index, leaf)
      })
    }
    for (const index of this.held.indexes()) {
      const active = await loaded(() => this.host.active.get(index))
      this.heldOnly += countWithout(this.held.chunk(index)!, active)
      this.counts.note(index)
    }
    return true
  }

  private enter(entry: SnapshotEntry, slot: number, visible: boolean): State {
    const { id, name, requestId, created, cp, used, cursor, map, content } = entry
    const tree = new Tree(this.meta, map, 'meta')
    const deleting = entry.state === 'deleting'
    const common = { id, name, requestId, created, cp, used, cursor, map, content, tree, slot }
    const state: State = { ...common, deleting, visible, unique: 0 }
    this.states.set(id, state)
    return state
  }

  /** Those that can be read, in the order of their making. */
  list(): readonly Snapshot[] {
    return this.pins('').filter(({ name }) => !name.startsWith(HIDDEN))
  }

  /** Those that are durable and whose name begins so, hidden ones too, in the order of their making. */
  pins(prefix: string): readonly SnapshotImage[] {
    const found = [...this.states.values()].filter(({ visible, name }) => visible && name.startsWith(prefix))
    return found.sort((a, b) => a.id - b.id)
  }

  get(id: number): Snapshot | undefined {
    const state = this.states.get(id)
    return state?.visible === true ? state : undefined
  }

  named(name: string): Snapshot | undefined {
    if (name.startsWith(HIDDEN)) return undefined
    for (const state of this.states.values()) if (state.visible && state.name === name) return state
    return undefined
  }

  /** Every map that there is, those of snapshots being deleted with the leaf from which on they count: for checkers. */
  images(): readonly SnapshotImage[] {
    return [...this.states.values()]
  }

  get tableTree(): Tree {
    return this.table
  }

  /** Numbers that files do not have any more, but some snapshot. May be a little too high beside a consistency point, never too low. */
  get heldBlocks(): number {
    return this.heldOnly + this.frozenExtra + this.extra
  }

  /** Held by a snapshot, one that is just being made included. */
  holds(number: number): boolean {
    return this.making || this.held.has(number)
  }

  /** The numbers of leaf `index` that are held, at opening. */
  heldLeaf(index: number): Uint8Array | undefined {
    return this.held.chunk(index)
  }
  heldLeaves(): IterableIterator<number> {
    return this.held.indexes()
  }

  /** The active file system freed a number that is held. */
  kept(): void {
    this.extra += 1
    this.keptSince += 1
  }
  /** Of the numbers freed since the last freeze, how many stay. */
  get keptBlocks(): number {
    return this.keptSince
  }

  /** There is something for a consistency point to do although no file changed. */
  get busy(): boolean {
    if (this.queue.length > 0 || this.counts.waits) return true
    for (const { deleting } of this.states.values()) if (deleting) return true
    return false
  }

  /** None at all, and none asked for. */
  get none(): boolean {
    return this.states.size === 0 && this.queue.length === 0
  }

  /**
   * Metafile blocks to be kept free beside a copy of each that exists: copies of the active map's blocks that a snapshot shares bring nothing back.
   */
  get reserve(): number {
    if (this.none) return 0
    return this.table.blocks + this.host.active.blocks + TABLE_GROWTH + this.queue.length
  }

  /**
   * Asks for a snapshot by the next freeze; resolves when it is durable, rejects with SnapshotLost. Asked again with the same request, it is the same
   * snapshot. The caller sees to room, and to a consistency point.
   */
  make(order: MakeOrder): Promise<void> | SnapshotRefusal {
    if (!SNAPSHOT_NAME.test(order.name) || order.name.length > SNAPSHOT_NAME_BYTES_MAX) return 'InvalidName'
    if (order.requestId.length > REQUEST_BYTES_MAX) return 'InvalidName'
    const known = this.named(order.name)
    if (known !== undefined) {
      return known.requestId === order.requestId ? Promise.resolve() : 'SnapshotExists'
    }
    const key = `make ${order.name} ${order.requestId}`
    const same = this.queue.same(key)
    if (same !== undefined) return same
    const taken = [...this.states.values()].some((state) => !state.deleting && state.name === order.name)
    const asked = this.queue.makes.some(({ name }) => name === order.name)
    if (taken || asked) return 'SnapshotExists'
    if (this.states.size + this.queue.makes.length >= SNAPSHOTS_MAX) return 'TooMany'
    return this.queue.ask(order.requestId === '' ? '' : key, { make: order })
  }

  /** Pins the image of the next freeze as a hidden snapshot; false if there are as many as there can be. Its durability is seen in `pins`. */
  pin(name: string, note: string, created: number): boolean {
    assert(name.startsWith(HIDDEN) && note.length <= REQUEST_BYTES_MAX, 'not the name of a pin')
    if (this.states.size + this.queue.length >= SNAPSHOTS_MAX) return false
    this.queue.ask('', { make: { name, requestId: note, created } }).catch(() => undefined)
    return true
  }

  unpin(id: number): void {
    const state = this.states.get(id)
    if (state?.visible !== true) return
    state.visible = false
    this.queue.ask('', { remove: state }).catch(() => undefined)
  }

  /** Asks for the deletion of a snapshot, like `make`. */
  remove(name: string, requestId: string): Promise<void> | SnapshotRefusal {
    const key = `remove ${name} ${requestId}`
    const same = this.queue.same(key)
    if (same !== undefined) return same
    const state = this.named(name) as State | undefined
    if (state === undefined) {
      return requestId !== '' && this.lastDelete === requestId ? Promise.resolve() : 'NoSuchSnapshot'
    }
    // Nothing may come to depend on it between now and the freeze.
    state.visible = false
    this.lastDelete = requestId
    return this.queue.ask(requestId === '' ? '' : key, { remove: state })
  }

  /**
   * The files are those of a snapshot from now on. Of what the last image has in use (`usedBefore` numbers) all is held, be it by the snapshot or until it
   * is given back.
   */
  restore(id: number, requestId: string, usedBefore: number): void {
    const from = this.states.get(id)
    assert(from !== undefined && !from.deleting, 'restore of a snapshot that is not there')
    this.restoring = { from, requestId }
    this.lastRestore = requestId
    this.extra = usedBefore - from.used
    this.keptSince = 0
  }

  /** Takes the orders. `used`, `content`: of the image that is frozen; `usedBefore`: of the one before. Synchronous. */
  freeze(cp: number, used: number, content: Uint8Array, usedBefore: number): FrozenSnapshots {
    const { restoring } = this
    const orders = this.queue.take()
    this.restoring = undefined
    this.frozenExtra = this.extra
    this.extra = 0
    this.keptSince = 0
    const blank = { cursor: 0, cp, state: 'ordinary' as const }
    const made: State[] = []
    const deleted: State[] = []
    for (const order of orders) {
      if ('remove' in order) {
        order.remove.deleting = true
        deleted.push(order.remove)
        continue
      }
      const id = this.nextId++
      const map = newTreeRoot(SINGLE)
      made.push(this.enter({ ...blank, ...order.make, id, used, map, content }, this.freeSlot(), false))
    }
    let restored: FrozenSnapshots['restored']
    if (restoring !== undefined) {
      const id = this.nextId++
      const map = newTreeRoot(SINGLE)
      const { requestId } = restoring
      const replaced = { name: '', requestId, created: 0, used: usedBefore, content: new Uint8Array(0) }
      const entry = { ...blank, ...replaced, id, map, state: 'deleting' as const }
      restored = { from: restoring.from, dying: this.enter(entry, this.freeSlot(), false), usedBefore }
    }
    this.making = made.length > 0
    return { made, deleted, restored, waiting: orders }
  }

  /** For the volume's entry. */
  get nextSnapshot(): number {
    return this.nextId
  }

  private freeSlot(): number {
    const taken = new Set([...this.states.values()].map(({ slot }) => slot))
    let slot = 0
    while (taken.has(slot)) slot += 1
    return slot
  }

  /** Before the changes of the image are worked into the active map: a restored snapshot's map takes its place. */
  async replaceMap({ restored }: FrozenSnapshots): Promise<void> {
    if (restored === undefined) return
    const { from, dying, usedBefore } = restored
    dying.map.set(this.host.activeRoot)
    await this.hold(dying)
    this.host.activeRoot.set(from.map)
    this.heldOnly += usedBefore - from.used
    for (const index of this.held.indexes()) this.counts.note(index)
  }

  /** A number was freed that is held: true, and noted. Its bit in the active map is cleared by the caller. */
  keeps(number: number): boolean {
    if (!this.held.has(number)) return false
    this.heldOnly += 1
    this.counts.note(Math.floor(number / MAP_LEAF_BITS))
    return true
  }

  /**
   * Behind the changes of the active map: makes and deletes what the freeze took, gives a slice of what is being deleted back, counts anew. Returns what is left of the budget
   * of freed numbers.
   */
  async settle(frozen: FrozenSnapshots, budget: number, returned: Returned): Promise<number> {
    this.frozenExtra = 0
    if (this.states.size === 0) {
      this.counts.clear()
      return budget
    }
    const editor = new LeafEditor(this.table)
    for (const state of frozen.made) {
      state.map.set(this.host.activeRoot)
      await this.hold(state)
    }
    this.making = false
    for (const state of [...frozen.made, ...frozen.deleted]) await this.write(editor, state)
    if (frozen.restored !== undefined) await this.write(editor, frozen.restored.dying)
    const left = await this.reclaim(editor, budget, returned)
    await this.counts.count()
    return left
  }

  /** The consistency point of this freeze is complete. */
  completed({ made, waiting }: FrozenSnapshots): void {
    for (const state of made) if (!state.deleting) state.visible = true
    for (const { resolve } of waiting) resolve()
  }

  /** The volume is removed: all snapshots go, and nobody sees one any more. */
  removeAll(): void {
    for (const state of this.states.values()) {
      state.deleting = true
      state.visible = false
    }
    this.lose()
  }

  /** Nobody carries out what was asked for. */
  lose(): void {
    this.queue.lose()
  }

  /** A slice of a removed volume's snapshots; what is left of the budget. */
  async reclaimAll(budget: number, returned: Returned): Promise<number> {
    this.counts.stop()
    return await this.reclaim(new LeafEditor(this.table), budget, returned)
  }

  private async hold(state: State): Promise<void> {
    await this.maps.add(state.map, (index, leaf) => this.held.merge(index, leaf))
    // Leaves shared with a snapshot whose deletion has passed them are held by this one alone.
    const begun = this.dying()
    if (begun === undefined || begun === state) return
    for (let from = 0; ;) {
      const start = from
      const index = await loaded(() => state.tree.next(start))
      if (index === undefined || index >= begun.cursor) return
      this.held.merge(index, (await loaded(() => state.tree.get(index)))!)
      from = index + 1
    }
  }

  /** The snapshot whose deletion goes on: one that has begun is finished first. */
  private dying(): State | undefined {
    let found: State | undefined
    for (const state of this.states.values()) {
      if (!state.deleting) continue
      if (state.cursor > 0) return state
      if (found === undefined || state.id < found.id) found = state
    }
    return found
  }

  private async reclaim(editor: LeafEditor, slice: number, returned: Returned): Promise<number> {
    let budget = slice
    while (budget > 0) {
      const state = this.dying()
      if (state === undefined) break
      let step
      while (budget > 0 && (step = await this.maps.step(state.map, state.cursor)) !== undefined) {
        budget -= STEP_COST
        if (step.leaf !== undefined) budget -= await this.release(state, step.leaf, returned)
        else this.noteStale(state.cursor, step.next)
        state.cursor = step.next
      }
      if (budget <= 0) {
        await this.write(editor, state)
        break
      }
      await this.maps.remove(state.map, this.host.activeRoot)
      this.states.delete(state.id)
      await this.erase(editor, state.slot)
    }
    return budget
  }

  /** Gives back what a leaf of a snapshot's map has and no other map. Returns how many numbers that is. */
  private async release(state: State, index: number, returned: Returned): Promise<number> {
    const mine = (await loaded(() => state.tree.get(index)))!.slice()
    let others: Uint8Array | undefined
    for (const { leaf } of (await this.counts.leavesAt(index, state)).values()) {
      if (others === undefined) others = leaf.slice()
      else orInto(others, leaf)
    }
    const active = (await loaded(() => this.host.active.get(index)))?.slice()
    this.held.replace(index, others)
    this.counts.note(index)
    let count = 0
    for (let byte = 0; byte < mine.length; byte++) {
      if (byte % 64 === 0) await returned.breathe()
      const bits = mine[byte]! & ~(others?.[byte] ?? 0) & ~(active?.[byte] ?? 0)
      for (let bit = 0; bits >> bit !== 0; bit++) {
        if (((bits >> bit) & 1) === 0) continue
        const number = index * MAP_LEAF_BITS + byte * 8 + bit
        const pvbn = this.placeAtOnce(number) ?? (await loaded(() => this.host.lookup(number)))
        if (pvbn === 0) throw new Contradiction(`block number ${number} of a snapshot has no place`)
        this.meta.changes.push(-pvbn)
        returned.places.push(pvbn)
        returned.numbers.push(number)
        count += 1
      }
    }
    this.heldOnly -= count
    return count
  }

  /** Undefined if it must be loaded: saves a promise for each number. */
  private placeAtOnce(number: number): number | undefined {
    try {
      return this.host.lookup(number)
    } catch (error) {
      if (error instanceof Miss) return undefined
      throw error
    }
  }

  private noteStale(from: number, to: number): void {
    if (to - from === 1) {
      if (this.held.chunk(from) !== undefined) this.counts.note(from)
      return
    }
    for (const index of this.held.indexes()) if (index >= from && index < to) this.counts.note(index)
  }

  private async write(editor: LeafEditor, state: State): Promise<void> {
    const leaf = await editor.edit(Math.floor(state.slot / SNAPSHOTS_PER_LEAF))
    encodeSnapshot(leaf, state.slot % SNAPSHOTS_PER_LEAF, {
      ...state,
      state: state.deleting ? 'deleting' : 'ordinary',
    })
  }

  private async erase(editor: LeafEditor, slot: number): Promise<void> {
    const index = Math.floor(slot / SNAPSHOTS_PER_LEAF)
    const leaf = await editor.edit(index)
    encodeSnapshot(leaf, slot % SNAPSHOTS_PER_LEAF, undefined)
    if (leaf.every((byte) => byte === 0)) await editor.punch(index)
  }
}
