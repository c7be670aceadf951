/**
 * One consistency point: the image frozen by `Aggregate.freeze` goes to disk, beside operations that build the next one.
 *
 *   freeze (synchronous) → write → commitRoot(0) → commitRoot(1) → complete
 *
 * `write` gives every frozen block a place (those of a traditional volume have theirs), works the places into container, owner and active maps, writes everything to free space on all plexes,
 * and flushes. `commitRoot` writes one plex's root; the pair decides when. `complete` makes the space of the previous image reusable.
 *
 * Invariants
 * - Nothing here writes a block that the live root uses (H3); a checksum block that holds entries of such blocks keeps these bytes.
 * - PVBNs and VVBNs freed by the image are not reused before `complete` (H4).
 * - Metafiles are changed by nobody else; between two awaits an operation may read them, and finds every container entry that it may ask for.
 * - The cost follows what changed: leaves of maps that hold a changed entry, and their paths.
 *
 * It decides nothing about logs, epochs or the vote.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { ABSENT, Contradiction, DUAL, HOLE } from '../fs/block-store.ts'
import { getU48, putU16, putU48 } from '../fs/bytes.ts'
import { AT_TREE, INLINE, INODE_BYTES } from '../fs/inode.ts'
import { loaded } from '../fs/tree.ts'
import { assert } from '../std/assert.ts'
import type { AggregateCore, FrozenPart, RemovedVolume } from './aggregate-core.ts'
import { NEVER } from './buffer-cache.ts'
import type { BlockBuffer } from './buffer-cache.ts'
import type { Json } from './codec.ts'
import type { OwnerEntry } from './context.ts'
import type { Growth } from './growth.ts'
import { GroupWriter } from './group-writer.ts'
import type { WriteTargets } from './group-writer.ts'
import { LeafEditor, OWNER_ENTRY_BYTES, OWNER_FANOUT, ownerIn, setBit } from './leaf-editor.ts'
import { CONTAINER_ENTRY_BYTES, CONTAINER_FANOUT } from './numbering.ts'
import type { Plex } from './plex.ts'
import { reclaim, SLICE_BLOCKS } from './reclaim.ts'
import { nextLabel, writeLabel } from './label.ts'
import { decodeRoot, encodeRoot } from './root.ts'
import type { Volume } from './volume.ts'
import { encodeEntry } from './volume-table.ts'

/** The longest stretch of computing before other work gets its turn. */
const TURN_MS = 2
/** Metafile blocks that a consistency point writes beside the others: a guess, to choose groups by. */
const METAFILE_SHARE = 16
const METAFILES_LEAST = 64
/** Bytes of a tree root before its pointers. */
const ROOT_HEADER_BYTES = 8

export interface CpSpec {
  readonly cp: number
  readonly epoch: number
  /** Sequence number of the last log record whose effect is in the image. */
  readonly covers: number
}

type Stage = 'frozen' | 'writing' | 'written' | 'committed' | 'complete'

export class ConsistencyPoint {
  readonly spec: CpSpec
  /** Of the copy on the other plex, if this consistency point goes to it too. */
  readonly mirrored: boolean
  /** Prepared devices that the root lists for the first time. */
  readonly growth: Growth | undefined
  private readonly core: AggregateCore
  private readonly parts: readonly FrozenPart[]
  private readonly removed: readonly RemovedVolume[]
  private readonly properties: Json
  private readonly owners: LeafEditor
  private readonly active: LeafEditor
  private readonly table: LeafEditor
  /** PVBNs of the previous image that this one does not use. */
  private readonly freed: number[] = []
  private metaFreed = 0
  /** Numbers that come back when it is complete, by volume. */
  private readonly numbers: { readonly volume: Volume; readonly released: number[] }[] = []
  private rootBytes: Uint8Array | undefined
  private stage: Stage = 'frozen'
  private turnStart = 0
  /** Frozen blocks that have no place yet. */
  unplaced = 0
  /** Frozen blocks that must stay in memory. */
  pinned: number
  /** Blocks that come back when it is complete, those of metafiles apart. */
  readonly returning: number
  blocksWritten = 0

  constructor(
    core: AggregateCore,
    spec: CpSpec,
    parts: readonly FrozenPart[],
    mirrored: boolean,
    growth?: Growth,
  ) {
    this.growth = growth
    this.core = core
    this.spec = spec
    this.parts = parts
    this.mirrored = mirrored
    this.removed = [...core.removed]
    this.properties = core.properties
    this.owners = new LeafEditor(core.ownerMap)
    this.active = new LeafEditor(core.activeMap)
    this.table = new LeafEditor(core.volumeTable)
    let returning = 0
    for (const { frozen } of parts) {
      this.unplaced += frozen.count
      returning += frozen.freed.length / 2 - frozen.kept
    }
    this.returning = returning
    this.pinned = this.unplaced
  }

  /** Blocks to every plex, flushed. Rejects if the own plex fails; a failing mirror is noted and left behind. */
  async write(): Promise<void> {
    assert(this.stage === 'frozen', 'a consistency point is written once')
    this.stage = 'writing'
    const { core } = this
    const { io } = core
    await io.repairing.hold()
    try {
      await core.catchUpMirror()
      if (io.broken.labelsBeforeIntent === true && this.growth?.joins === true) {
        const { own, theirs } = this.growth
        for (const { device, label } of [...own, ...theirs])
          await writeLabel(core.env, device, nextLabel(label))
      }
      this.turnStart = core.env.clock.now()
      core.space.plan(this.unplaced + this.unplaced / METAFILE_SHARE + METAFILES_LEAST)
      const blocks: BlockBuffer[] = []
      let slice = SLICE_BLOCKS
      for (const part of this.parts) {
        const from = blocks.length
        await this.place(part, blocks)
        slice = await this.map(part, blocks, from, slice)
      }
      await reclaim(core, this.removed, this.table, slice, {
        places: this.freed,
        numbers: [],
        breathe: () => this.breathe(),
      })
      await this.settleMaps()
      const metaBlocks = core.meta.freeze()
      for (const block of metaBlocks) blocks.push(block)
      blocks.sort((a, b) => a.pvbn - b.pvbn)
      const writer = new GroupWriter(core.env, io, this.targets(), this.spec.cp)
      await writer.write(blocks)
      if (io.broken.rootBeforeFlush !== true) await this.flush()
      if (writer.mirrorLeft) for (const block of blocks) block.lent = true
      for (const block of metaBlocks) core.meta.written(block)
      for (const { volume, frozen } of this.parts) {
        for (const [i, block] of frozen.blocks.entries()) {
          if (block.epoch !== NEVER) volume.written(block)
          if (i % 256 === 255) await this.breathe()
        }
      }
      this.pinned = 0
      this.blocksWritten = writer.blocksWritten
      this.rootBytes = this.encode()
      core.env.metrics.add('tandem_cp_blocks_written_total', writer.blocksWritten)
      core.env.log('debug', 'consistency point written', {
        cp: this.spec.cp,
        blocks: blocks.length,
        metaBlocks: metaBlocks.length,
        writes: writer.writes,
      })
      this.stage = 'written'
    } finally {
      io.repairing.resume()
    }
  }

  /**
   * The root on one plex: 0 the own one, 1 the other. For 1 resolves at once if the other plex takes no part (any more), and rejects if it failed
   * and was not detached: then the pair has to record that the copy is out of date, before it calls `complete`.
   */
  async commitRoot(index: 0 | 1): Promise<void> {
    assert(this.rootBytes !== undefined, 'the root comes last')
    if (index === 0) {
      await this.core.own.writeRoot(this.rootBytes)
      if (this.core.io.broken.rootBeforeFlush === true) await this.flush()
      this.core.committed(decodeRoot(this.core.env.crc32, this.rootBytes)!, this.rootBytes)
      if (this.growth !== undefined) await this.core.own.relabel(this.devicesInPlex())
      this.stage = 'committed'
      return
    }
    const mirror = this.mirror()
    if (mirror === undefined) {
      const failure = this.mirrored ? this.core.partner?.failure : undefined
      if (failure !== undefined) throw failure
      return
    }
    try {
      await mirror.writeRoot(this.rootBytes)
      if (mirror.state !== 'complete') await mirror.relabel({ state: 'complete' })
      if (this.growth !== undefined) await mirror.relabel(this.devicesInPlex())
    } catch (error) {
      this.core.mirrorFailed(error)
      throw error
    }
  }

  /** Both roots are durable, or the loss of the other plex is recorded: what the image freed may be reused, and comes back by and by. */
  async complete(): Promise<void> {
    assert(this.stage === 'committed', 'complete comes after the own root')
    this.stage = 'complete'
    this.turnStart = this.core.env.clock.now()
    for (const { volume, released } of this.numbers) {
      for (const [i, number] of released.entries()) {
        volume.numbers.returned(number)
        if (i % 1024 === 1023) await this.breathe()
      }
    }
    // Those of metafiles are the last of them.
    for (let pvbn; (pvbn = this.freed.pop()) !== undefined;) {
      this.core.space.release(pvbn)
      if (this.metaFreed > 0) this.metaFreed -= 1
      if (this.freed.length % 1024 === 0) await this.breathe()
    }
    for (const { volume, frozen } of this.parts) volume.snapshots.completed(frozen.snapshots)
    this.core.completed(
      this.mirrored,
      this.parts.map(({ volume }) => volume),
    )
  }

  /** The other plex, as long as it takes part in this consistency point. */
  private mirror(): Plex | undefined {
    const partner = this.core.partner
    return this.mirrored && partner !== undefined && partner.failure === undefined ? partner : undefined
  }

  private targets(): WriteTargets {
    const { core } = this
    return {
      own: core.own,
      mirror: () => this.mirror(),
      mirrorFailed: (error) => core.mirrorFailed(error),
      groupWritten: (group) => core.groupWritten(group, this.mirror() !== undefined),
      isAlone: (group, count) => core.space.busyIn(group) === count,
      ownerOf: (pvbn) => this.ownerOf(pvbn),
      breathe: () => this.breathe(),
    }
  }

  /** Its leaf is in memory: entries of the group's new blocks were put into it. */
  private ownerOf(pvbn: number): OwnerEntry | undefined {
    const { space, ownerMap, type } = this.core
    if (pvbn === 0 || !space.isBusy(pvbn) || this.core.isUnwritten(pvbn)) return undefined
    const leaf = ownerMap.get(Math.floor(pvbn / OWNER_FANOUT))
    if (leaf === undefined) throw new Contradiction(`block ${pvbn} is in use and has no owner`)
    return ownerIn(leaf, pvbn, type)
  }

  private breathe(): Promise<void> | undefined {
    const { clock } = this.core.env
    if (clock.now() - this.turnStart < TURN_MS) return undefined
    return new Promise((resolve) => {
      clock.after(0, () => {
        this.turnStart = clock.now()
        resolve()
      })
    })
  }

  /** Places for the blocks of one volume; then, where pointers have room for them, the places as hints into the blocks that point at them. */
  private async place({ volume, frozen }: FrozenPart, placed: BlockBuffer[]): Promise<void> {
    const { core } = this
    const from = placed.length
    for (let i = 1; i < frozen.freed.length; i += 2) {
      const pvbn = frozen.freed[i]!
      if (!this.isReusedEarly(pvbn) || volume.snapshots.keeps(frozen.freed[i - 1]!)) continue
      core.meta.changes.push(-pvbn)
      core.space.release(pvbn)
    }
    for (const [i, block] of frozen.blocks.entries()) {
      if (block.epoch === NEVER) continue
      if (block.pvbn === 0) block.pvbn = core.space.take()
      core.meta.changes.push(block.pvbn)
      placed.push(block)
      this.unplaced -= 1
      if (i % 256 === 255) await this.breathe()
    }
    if (volume.format !== DUAL) return
    for (let i = from; i < placed.length; i++) {
      const block = placed[i]!
      if (block.kind === 'indirect') hintTable(volume, block.content, 0, DUAL.fanout)
      else if (block.kind === 'inode') hintInodes(volume, block)
      else continue
      const turn = this.breathe()
      if (turn !== undefined) await turn
    }
  }

  /**
   * Container entries, owner entries and active bits of one volume, its snapshots, and its entry in the table. `slice`: how many numbers of
   * snapshots may be given back; returns what is left of it.
   */
  private async map(
    { volume, frozen }: FrozenPart,
    placed: readonly BlockBuffer[],
    from: number,
    slice: number,
  ): Promise<number> {
    const { core } = this
    const { numbers, snapshots } = volume
    await snapshots.replaceMap(frozen.snapshots)
    const container = numbers.container && new LeafEditor(numbers.container.tree)
    const active = new LeafEditor(volume.active)
    for (let i = from; i < placed.length; i++) {
      const block = placed[i]!
      if (container !== undefined) {
        const fbn = Math.floor(block.bn / CONTAINER_FANOUT)
        const leaf = container.ready(fbn) ?? (await container.edit(fbn))
        putU48(leaf, (block.bn % CONTAINER_FANOUT) * CONTAINER_ENTRY_BYTES, block.pvbn)
      }
      const owned = this.own(block.pvbn, volume.index, numbers.owned(block.bn, this.spec.cp))
      if (owned !== undefined) await owned
      const marked = setBit(active, block.bn, true)
      if (marked !== undefined) await marked
      if (i % 64 === 63) await this.breathe()
    }
    for (const number of frozen.marked) await this.mark(volume, number, container!, active)
    const released: number[] = []
    this.numbers.push({ volume, released })
    for (let i = 0; i < frozen.freed.length; i += 2) {
      const number = frozen.freed[i]!
      const cleared = setBit(active, number, false)
      if (cleared !== undefined) await cleared
      if (i % 64 === 62) await this.breathe()
      if (snapshots.keeps(number)) continue
      const pvbn = frozen.freed[i + 1]! || (await loaded(() => volume.lookup(number)))
      if (pvbn === HOLE) throw new Contradiction(`block number ${number} is freed and has no place`)
      released.push(number)
      if (this.isReusedEarly(frozen.freed[i + 1]!)) continue
      core.meta.changes.push(-pvbn)
      this.freed.push(pvbn)
    }
    const left = await snapshots.settle(frozen.snapshots, slice, {
      places: this.freed,
      numbers: released,
      breathe: () => this.breathe(),
    })
    const leaf = this.table.ready(volume.index) ?? (await this.table.edit(volume.index))
    const roots = { active: volume.activeRoot, container: numbers.container?.root }
    encodeEntry({ ...frozen.entry, ...roots, snapshots: snapshots.tableRoot }, leaf)
    return left
  }

  /** An old block of a converted volume is where it was: only the maps learn of it. */
  private async mark(
    volume: Volume,
    number: number,
    container: LeafEditor,
    active: LeafEditor,
  ): Promise<void> {
    const { core } = this
    const pvbn = volume.lookup(number)
    const fbn = Math.floor(number / CONTAINER_FANOUT)
    const leaf = container.ready(fbn) ?? (await container.edit(fbn))
    putU48(leaf, (number % CONTAINER_FANOUT) * CONTAINER_ENTRY_BYTES, pvbn)
    const owned = this.own(pvbn, volume.index, number)
    if (owned !== undefined) await owned
    const set = setBit(active, number, true)
    if (set !== undefined) await set
    core.space.mark(pvbn)
    core.meta.changes.push(pvbn)
    const turn = this.breathe()
    if (turn !== undefined) await turn
  }

  /** In a broken build, a place that is known counts as free at once. */
  private isReusedEarly(pvbn: number): boolean {
    return this.core.io.broken.reuseBeforeRoot === true && pvbn !== HOLE
  }

  private own(pvbn: number, volume: number, number: number): Promise<void> | undefined {
    const fbn = Math.floor(pvbn / OWNER_FANOUT)
    const leaf = this.owners.ready(fbn)
    if (leaf === undefined) return this.owners.edit(fbn).then(() => this.own(pvbn, volume, number))
    const at = (pvbn % OWNER_FANOUT) * OWNER_ENTRY_BYTES
    putU16(leaf, at, volume)
    putU48(leaf, at + 2, number)
    return undefined
  }

  /** Works all that came into use or went out of it into owner and active map, which may change these themselves, until nothing is left. */
  private async settleMaps(): Promise<void> {
    const { meta } = this.core
    for (;;) {
      if (meta.unowned.length > 0) {
        const unowned = meta.unowned
        meta.unowned = []
        for (const pvbn of unowned) await this.own(pvbn, 0, this.spec.cp)
      } else if (meta.changes.length > 0) {
        const changes = meta.changes
        meta.changes = []
        for (const [i, change] of changes.entries()) {
          const noted = setBit(this.active, Math.abs(change), change > 0)
          if (noted !== undefined) await noted
          this.core.usedBlocks += change > 0 ? 1 : -1
          if (i % 256 === 255) await this.breathe()
        }
      } else break
    }
    for (const pvbn of meta.freed) this.freed.push(pvbn)
    this.metaFreed += meta.freed.length
    meta.freed = []
  }

  private async flush(): Promise<void> {
    const copy = this.mirror()
      ?.flush()
      .catch((error: unknown) => this.core.mirrorFailed(error))
    await this.core.own.flush()
    await copy
  }

  private devicesInPlex(): { devices: number } {
    return { devices: this.core.layout.devices.length + this.growth!.places.length }
  }

  private encode(): Uint8Array {
    const { core, spec } = this
    return encodeRoot(core.env.crc32, {
      ...spec,
      random: [core.env.random.u32(), core.env.random.u32()],
      shared: this.mirrored,
      ancestors: core.lineage,
      used: core.usedBlocks,
      aggregateId: core.id,
      active: core.activeRoot,
      owners: core.ownerRoot,
      volumes: core.volumesRoot,
      devices: [...core.layout.devices, ...(this.growth?.places ?? [])],
      properties: this.properties,
    })
  }

  /** PVBNs that this consistency point has freed so far: they come back when it is complete. */
  get freedSoFar(): number {
    if (this.stage === 'complete') return this.freed.length
    return Math.max(this.returning + this.core.meta.freed.length, this.freed.length)
  }

  /** Of these, blocks of metafiles: each has a copy by now, which the image will not ask space for again. */
  get metaFreedSoFar(): number {
    return this.metaFreed + this.core.meta.freed.length
  }
}

/** Fills the hints of pointers to blocks whose place is known, where there is none yet. */
function hintTable(volume: Volume, table: Uint8Array, at: number, pointers: number): void {
  for (let i = 0, p = at; i < pointers; i++, p += DUAL.bytes) {
    const bn = getU48(table, p)
    if (bn === HOLE || bn === ABSENT || getU48(table, p + 6) !== 0) continue
    const place = volume.placeOf(bn)
    if (place !== 0) putU48(table, p + 6, place)
  }
}

function hintInodes(volume: Volume, block: BlockBuffer): void {
  for (let at = 0; at < BLOCK_BYTES; at += INODE_BYTES) {
    const type = block.content[at]!
    if (type === 0 || (block.content[at + 1]! & INLINE) !== 0) continue
    hintTable(volume, block.content, at + AT_TREE + ROOT_HEADER_BYTES, DUAL.inInode)
  }
}
