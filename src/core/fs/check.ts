/**
 * The structural checker of one volume's file system: visits every block of the image, and proves that inodes, link counts, directories,
 * their index and map of free space, the lists of free and of shrinking inodes and the counters agree.
 *
 * It reads only, trusts nothing that it has not checked, and goes on behind a problem as far as it can. Whether blocks are used twice or
 * lost, and whether their contents are undamaged, is the business of who calls it (`visitBlock`) and of the store.
 * Memory: some 50 bytes for each inode and 100 for each name of the largest directory.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { FILE_BYTES_MAX, LINK_BYTES_MAX } from '../vfs/vfs.ts'
import { DamagedBlock } from './block-store.ts'
import type { BlockKind, BlockStore } from './block-store.ts'
import {
  bucketFbn,
  bucketOf,
  bucketSlots,
  entryFbn,
  FIRST_BUCKETS,
  GRANULE_BYTES,
  GRANULES,
  granulesOf,
  hashName,
  isMapBlock,
  longestFree,
  mapBlockOf,
  MAP_SPAN,
  recordGranules,
  recordHash,
  recordIno,
  recordName,
  recordType,
} from './directory.ts'
import { RING_SLOTS } from './duplicates.ts'
import { INLINE, INLINE_BYTES, Inode, INODES_PER_BLOCK, LISTED, SHRINKING, TYPE_CODES } from './inode.ts'
import { AT_RING_TREE, Inodes, ROOT_INO, rootProblem } from './inodes.ts'
import { loaded, Tree } from './tree.ts'
import type { TreeEntry } from './tree.ts'

/** A block of the volume: what it is, and the object that it belongs to (0: the inode file, 1: the duplicate-request ring). */
export interface VisitedBlock {
  readonly bn: number
  readonly hint: number
  readonly kind: BlockKind
  readonly ino: number
  readonly fbn: number
  /** 0 for a leaf, more for an indirect block. */
  readonly level: number
}

interface Facts {
  readonly typeCode: number
  readonly nlink: number
  readonly generation: number
  readonly flags: number
  readonly parent: number
  readonly next: number
  /** Names found, `.` and `..` of directories among them. */
  names: number
}

/** Yields what is wrong, one sentence each; nothing if the volume is consistent. `visitBlock` sees every block exactly as often as it is referred to. */
export async function* checkFileSystem(
  store: BlockStore,
  root: Uint8Array,
  visitBlock: (block: VisitedBlock) => void | Promise<void> = () => {},
): AsyncGenerator<string, void, undefined> {
  const problem = rootProblem(store, root)
  if (problem !== undefined) {
    yield problem
    return
  }
  const checker = new Checker(store, root, visitBlock)
  yield* checker.run()
}

class Checker {
  private readonly store: BlockStore
  private readonly inodes: Inodes
  private readonly visitBlock: (block: VisitedBlock) => void | Promise<void>
  private readonly facts = new Map<number, Facts>()
  private found: string[] = []

  constructor(
    store: BlockStore,
    root: Uint8Array,
    visitBlock: (block: VisitedBlock) => void | Promise<void>,
  ) {
    this.store = store
    this.inodes = new Inodes(store, root)
    this.visitBlock = visitBlock
  }

  async *run(): AsyncGenerator<string, void, undefined> {
    const inodeBlocks: number[] = []
    yield* this.walk(this.inodes.tree, 0, 'inode file', inodeBlocks)
    const ring: number[] = []
    yield* this.walk(
      new Tree(this.store, this.inodes.root, 'meta', AT_RING_TREE),
      1,
      'duplicate-request ring',
      ring,
    )
    if (ring.some((fbn) => fbn >= RING_SLOTS / 8)) yield 'duplicate-request ring has a block behind its end'
    for (const fbn of inodeBlocks) yield* this.inodeBlock(fbn)
    const blocks = Math.ceil(this.inodes.inoEnd / INODES_PER_BLOCK)
    if (inodeBlocks.length !== blocks) {
      yield `inode file has ${inodeBlocks.length} blocks, its end asks for ${blocks}`
    }
    for (const [ino, facts] of this.facts) {
      if (facts.typeCode === TYPE_CODES.DIR && facts.nlink > 0) yield* this.directory(ino, facts)
    }
    yield* this.links()
    yield* this.lists()
    yield* this.reachable()
  }

  /** Visits the blocks of a tree; puts the numbers of its leaves into `leaves`. Damage below a block is told, and costs what is below it. */
  private async *walk(tree: Tree, ino: number, what: string, leaves: number[]): AsyncGenerator<string> {
    let blocks = 0
    try {
      await tree.walk((entry: TreeEntry) => {
        blocks += 1
        if (entry.level === 0) leaves.push(entry.fbn)
        return this.visitBlock({ ...entry, ino })
      })
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
      yield `${what}: block ${error.bn} is damaged, what is below it was not checked`
      return
    }
    if (blocks !== tree.blocks) yield `${what}: ${blocks} blocks found, its root counts ${tree.blocks}`
  }

  private async leaf(tree: Tree, fbn: number, what: string): Promise<Uint8Array | undefined> {
    try {
      const block = await loaded(() => tree.get(fbn))
      if (block === undefined) this.found.push(`${what} is a hole`)
      return block
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
      this.found.push(`${what} (block ${error.bn}) is damaged`)
      return undefined
    }
  }

  private *told(): Generator<string> {
    const { found } = this
    this.found = []
    yield* found
  }

  private async *inodeBlock(fbn: number): AsyncGenerator<string> {
    const block = await this.leaf(this.inodes.tree, fbn, `block ${fbn} of the inode file`)
    yield* this.told()
    if (block === undefined) return
    for (let slot = 0; slot < INODES_PER_BLOCK; slot++) {
      const ino = fbn * INODES_PER_BLOCK + slot
      const inode = new Inode(ino, block)
      if (this.inodes.has(ino)) yield* this.inode(inode)
      else if (inode.type !== undefined) yield `inode ${ino} is in use outside the range of inodes`
    }
  }

  private async *inode(inode: Inode): AsyncGenerator<string> {
    const { ino, type, flags, size, nlink } = inode
    this.facts.set(ino, {
      typeCode: type === undefined ? 0 : TYPE_CODES[type],
      nlink,
      generation: inode.generation,
      flags,
      parent: type === 'DIR' ? inode.parent : 0,
      next: inode.next,
      names: 0,
    })
    if (type === undefined) return
    const what = `inode ${ino} (${type})`
    if ((flags & LISTED) === 0 && nlink === 0) yield `${what} has no name but is not free`
    if ((flags & SHRINKING) !== 0 && (flags & LISTED) === 0)
      yield `${what} shrinks but is not on the list of those`
    if ((flags & INLINE) !== 0) {
      if (type !== 'LNK' || size > INLINE_BYTES) yield `${what} cannot have its content in the inode`
      return
    }
    if (!inode.hasTreeRoot(this.store)) {
      yield `${what} has an impossible root`
      return
    }
    const leaves: number[] = []
    yield* this.walk(inode.tree(this.store), ino, what, leaves)
    const last = leaves.reduce((highest, fbn) => Math.max(highest, fbn), -1)
    if (type === 'REG') {
      if (size > FILE_BYTES_MAX) yield `${what} is longer than a file can be`
      const end = Math.ceil(size / BLOCK_BYTES)
      if (last >= end && (flags & SHRINKING) === 0) yield `${what} has blocks behind its end`
      if ((flags & SHRINKING) !== 0 && nlink > 0 && inode.trim !== end)
        yield `${what} shrinks to another size than it has`
    } else if (type === 'LNK') {
      if (size > LINK_BYTES_MAX || last !== 0) yield `${what} has no path of ${size} bytes`
    } else if (type !== 'DIR') {
      if (last >= 0) yield `${what} has blocks`
    } else if (nlink > 0) {
      const { entryBlocks, buckets } = inode
      const astray = leaves.find((fbn) => Math.floor(fbn / 2) >= (fbn % 2 === 0 ? entryBlocks : buckets))
      if (astray !== undefined) yield `${what} has a block at ${astray}, behind its end`
    }
  }

  private async *directory(ino: number, facts: Facts): AsyncGenerator<string> {
    let inode: Inode
    try {
      inode = await loaded(() => this.inodes.get(ino))
    } catch (error) {
      // Told when the inode's block was read.
      if (error instanceof DamagedBlock) return
      throw error
    }
    if (!inode.hasTreeRoot(this.store)) return
    facts.names += 1
    const what = `directory ${ino}`
    const { entryBlocks, buckets } = inode
    const tree = inode.tree(this.store)
    /** Position → hash, of each name. */
    const names = new Map<number, number>()
    const seen = new Set<string>()
    for (let e = 0; e < entryBlocks; e++) {
      if (buckets > 0 && isMapBlock(e)) continue
      const block = await this.leaf(tree, entryFbn(e), `${what}: entry block ${e}`)
      yield* this.told()
      if (block === undefined) continue
      if (!(yield* this.entries(block, e, what, ino, names, seen)) || buckets === 0) continue
      const map = await this.leaf(tree, entryFbn(mapBlockOf(e)), `${what}: map block ${mapBlockOf(e)}`)
      yield* this.told()
      const byte = map?.[e % MAP_SPAN]
      if (byte !== undefined && byte !== longestFree(block)) {
        yield `${what}: map says ${byte} granules free in entry block ${e}, there are ${longestFree(block)}`
      }
    }
    if (names.size !== inode.entries)
      yield `${what}: ${names.size} names found, its inode counts ${inode.entries}`
    if (inode.size !== entryBlocks * BLOCK_BYTES)
      yield `${what}: size ${inode.size} is not that of ${entryBlocks} blocks`
    if (buckets === 0) {
      if (entryBlocks > 1) yield `${what}: ${entryBlocks} entry blocks but no index`
      return
    }
    if (buckets < FIRST_BUCKETS) yield `${what}: index of ${buckets} buckets`
    for (let b = 0; b < buckets; b++) {
      const bucket = await this.leaf(tree, bucketFbn(b), `${what}: bucket ${b}`)
      yield* this.told()
      if (bucket === undefined) continue
      for (const { hash, position } of bucketSlots(bucket)) {
        if (names.get(position) !== hash)
          yield `${what}: bucket ${b} names position ${position}, where no such name is`
        else if (bucketOf(hash, buckets) !== b)
          yield `${what}: the name at ${position} is in bucket ${b}, not its own`
        else names.delete(position)
      }
    }
    for (const position of names.keys()) yield `${what}: the name at ${position} is not in the index`
  }

  /** Records of one entry block. Returns false if they cannot be told apart. */
  private *entries(
    block: Uint8Array,
    e: number,
    what: string,
    directory: number,
    names: Map<number, number>,
    seen: Set<string>,
  ): Generator<string, boolean> {
    let beforeFree = false
    for (let at = 0; at < BLOCK_BYTES;) {
      const granules = recordGranules(block, at)
      if (granules === 0 || at + granules * GRANULE_BYTES > BLOCK_BYTES) {
        yield `${what}: entry block ${e} has a record of ${granules} granules at ${at}`
        return false
      }
      const ino = recordIno(block, at)
      if (ino === 0 && beforeFree) yield `${what}: entry block ${e} has free records side by side at ${at}`
      beforeFree = ino === 0
      if (ino !== 0) {
        const name = recordName(block, at)
        const position = e * GRANULES + at / GRANULE_BYTES
        const hash = hashName(name, this.inodes.hashSeed)
        if (granules !== granulesOf(name.length))
          yield `${what}: record of ${JSON.stringify(name)} has a wrong length`
        if (hash !== recordHash(block, at))
          yield `${what}: record of ${JSON.stringify(name)} has a wrong hash`
        if (name === '' || name.includes('/') || name.includes('\0'))
          yield `${what}: impossible name ${JSON.stringify(name)}`
        if (seen.has(name)) yield `${what}: name ${JSON.stringify(name)} is there twice`
        seen.add(name)
        names.set(position, recordHash(block, at))
        yield* this.name(directory, what, name, ino, recordType(block, at))
      }
      at += granules * GRANULE_BYTES
    }
    return true
  }

  private *name(
    directory: number,
    what: string,
    name: string,
    ino: number,
    typeCode: number,
  ): Generator<string> {
    const facts = this.facts.get(ino)
    if (facts === undefined || facts.typeCode === 0 || facts.nlink === 0) {
      yield `${what}: ${JSON.stringify(name)} names inode ${ino}, which is not in use`
      return
    }
    if (facts.typeCode !== typeCode)
      yield `${what}: ${JSON.stringify(name)} tells another type than inode ${ino}`
    facts.names += 1
    if (facts.typeCode !== TYPE_CODES.DIR) return
    if (facts.parent !== directory)
      yield `directory ${ino} is in ${directory}, its parent is said to be ${facts.parent}`
    const parent = this.facts.get(directory)
    if (parent !== undefined) parent.names += 1
  }

  private *links(): Generator<string> {
    let inUse = 0
    for (const [ino, facts] of this.facts) {
      if (facts.typeCode === 0) continue
      inUse += 1
      // The root has no entry anywhere: its `..` stands for it.
      const names = ino === ROOT_INO ? facts.names + 1 : facts.names
      if (facts.nlink !== names) yield `inode ${ino}: ${names} links found, it counts ${facts.nlink}`
    }
    if (inUse !== this.inodes.files) yield `${inUse} inodes in use, the root counts ${this.inodes.files}`
  }

  private *lists(): Generator<string> {
    const free = new Set<number>()
    for (let ino = this.inodes.freeHead; ino !== 0; ino = this.facts.get(ino)!.next) {
      const facts = this.facts.get(ino)
      if (facts === undefined || facts.typeCode !== 0 || free.has(ino)) {
        yield `list of free inodes: ${ino} does not belong there`
        break
      }
      free.add(ino)
    }
    const listed = new Set<number>()
    for (let ino = this.inodes.shrinkHead; ino !== 0; ino = this.facts.get(ino)!.next) {
      const facts = this.facts.get(ino)
      if (facts === undefined || (facts.flags & LISTED) === 0 || listed.has(ino)) {
        yield `list of shrinking inodes: ${ino} does not belong there`
        break
      }
      listed.add(ino)
    }
    for (const [ino, facts] of this.facts) {
      if (facts.typeCode === 0 && !free.has(ino)) yield `inode ${ino} is free but not on the list of those`
      if ((facts.flags & LISTED) !== 0 && !listed.has(ino))
        yield `inode ${ino} is not on the list of shrinking inodes`
    }
  }

  /** Each directory's parents lead to the root. */
  private *reachable(): Generator<string> {
    const good = new Set<number>([ROOT_INO])
    if (this.facts.get(ROOT_INO)?.typeCode !== TYPE_CODES.DIR) yield 'there is no root directory'
    for (const [ino, facts] of this.facts) {
      if (facts.typeCode !== TYPE_CODES.DIR || facts.nlink === 0) continue
      const path = new Set<number>()
      let at = ino
      while (!good.has(at) && !path.has(at) && this.facts.get(at)?.typeCode === TYPE_CODES.DIR) {
        path.add(at)
        at = this.facts.get(at)!.parent
      }
      if (!good.has(at)) yield `directory ${ino} cannot be reached from the root`
      for (const seen of path) good.add(seen)
    }
  }
}
