/**
 * The structural checker of one volume's file system: visits every block of the image, and proves that inodes, link counts, directories,
 * their index and map of free space, the lists of free and of shrinking inodes and the counters agree.
 *
 * It reads only, trusts nothing that it has not checked (a number on disk never decides how long it runs or how much memory it takes: blocks that exist do),
 * and goes on behind a problem as far as it can. Whether blocks are used twice or lost, and whether their contents are undamaged, is the business of who
 * calls it (`visitBlock`) and of the store. Memory: 19 bytes for each inode, and 4 for each granule of the largest directory.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { FILE_BYTES_MAX, LINK_BYTES_MAX } from '../vfs/vfs.ts'
import { ABSENT, DamagedBlock } from './block-store.ts'
import type { BlockKind, BlockStore } from './block-store.ts'
import { Facts, FREE, ON_LIST, ON_PATH, OUTSIDE, Positions, REACHED } from './check-tables.ts'
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
  isEarlyMapBlock,
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

/** Sees each block; false: it was seen before, and what is below it is not visited again. */
export type BlockVisitor = (block: VisitedBlock) => boolean | void | Promise<boolean | void>

/** Something that is taken but that nothing uses: it costs space, and no data. */
export type FileLeak =
  /** A free inode that is not on the list of those. */
  | { readonly kind: 'free-inode'; readonly ino: number }
  /** An object without a name that is not on the list of those to be freed. */
  | { readonly kind: 'orphan'; readonly ino: number }

/**
 * Yields what is wrong, one sentence each; nothing if the volume is consistent. `visitBlock` sees every block exactly as often as it is referred to,
 * `foundLeak` each of the problems that is but a leak.
 */
export async function* checkFileSystem(
  store: BlockStore,
  root: Uint8Array,
  visitBlock: BlockVisitor = () => {},
  foundLeak: (leak: FileLeak) => void = () => {},
): AsyncGenerator<string, void, undefined> {
  const problem = rootProblem(store, root)
  if (problem !== undefined) {
    yield problem
    return
  }
  const checker = new Checker(store, root, visitBlock, foundLeak)
  yield* checker.run()
}

class Checker {
  private readonly store: BlockStore
  private readonly inodes: Inodes
  private readonly visitBlock: BlockVisitor
  private readonly foundLeak: (leak: FileLeak) => void
  private facts = new Facts(0)
  private found: string[] = []

  constructor(
    store: BlockStore,
    root: Uint8Array,
    visitBlock: BlockVisitor,
    foundLeak: (leak: FileLeak) => void,
  ) {
    this.store = store
    this.inodes = new Inodes(store, root)
    this.visitBlock = visitBlock
    this.foundLeak = foundLeak
  }

  async *run(): AsyncGenerator<string, void, undefined> {
    let inodeBlocks = 0
    let dense = 0
    yield* this.walk(this.inodes.tree, 0, 'inode file', (fbn) => {
      inodeBlocks += 1
      if (fbn === dense) dense += 1
    })
    let ringEnd = 0
    const ring = new Tree(this.store, this.inodes.root, 'meta', AT_RING_TREE)
    yield* this.walk(ring, 1, 'duplicate-request ring', (fbn) => {
      ringEnd = fbn + 1
    })
    if (ringEnd > RING_SLOTS / 8) yield 'duplicate-request ring has a block behind its end'
    if (dense < inodeBlocks) yield `block ${dense} of the inode file is a hole`
    const blocks = Math.ceil(this.inodes.inoEnd / INODES_PER_BLOCK)
    if (inodeBlocks !== blocks) yield `inode file has ${inodeBlocks} blocks, its end asks for ${blocks}`
    this.facts = new Facts(Math.min(this.inodes.inoEnd, dense * INODES_PER_BLOCK))
    for (let fbn = 0; fbn < dense; fbn++) yield* this.inodeBlock(fbn)
    const { typeCode, nlink, size } = this.facts
    for (let ino = 0; ino < size; ino++) {
      if (typeCode[ino] === TYPE_CODES.DIR && nlink[ino]! > 0) yield* this.directory(ino)
    }
    yield* this.links()
    yield* this.lists()
    yield* this.reachable()
  }

  /** Visits the blocks of a tree, and tells the numbers of its leaves. Damage below a block is told, and costs what is below it. */
  private async *walk(
    tree: Tree,
    ino: number,
    what: string,
    leaf: (fbn: number) => void,
  ): AsyncGenerator<string> {
    let blocks = 0
    try {
      await tree.walk((entry: TreeEntry) => {
        blocks += 1 - (entry.bn === ABSENT ? entry.gain : 0)
        if (entry.level === 0) leaf(entry.fbn)
        // What is still to be built is no block of the volume; what is below it may be.
        if (entry.bn === ABSENT) return true
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
    const { facts } = this
    facts.typeCode[ino] = type === undefined ? 0 : TYPE_CODES[type]
    facts.flags[ino] = flags
    facts.nlink[ino] = nlink
    facts.parent[ino] = type === 'DIR' ? facts.link(inode.parent) : 0
    facts.next[ino] = facts.link(inode.next)
    if (type === undefined) return
    const what = `inode ${ino} (${type})`
    if ((flags & LISTED) === 0 && nlink === 0) {
      this.foundLeak({ kind: 'orphan', ino })
      yield `${what} has no name but is not free`
    }
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
    const { entryBlocks, buckets } = inode
    let last = -1
    let astray = -1
    yield* this.walk(inode.tree(this.store), ino, what, (fbn) => {
      last = fbn
      if (type !== 'DIR') return
      const at = Math.floor(fbn / 2)
      if (fbn % 2 === 1 ? at >= buckets : at >= entryBlocks && !(at === entryBlocks && isEarlyMapBlock(at)))
        astray = fbn
    })
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
    } else if (nlink > 0 && astray >= 0) {
      yield `${what} has a block at ${astray}, behind its end`
    }
  }

  /** The blocks of one parity that a directory has; a gap before the `wanted`th is told. Only what exists is visited, whatever the inode counts. */
  private async *blocksOf(tree: Tree, parity: number, wanted: number, what: string): AsyncGenerator<number> {
    let expected = 0
    const gap = (to: number): void => {
      if (to > expected) this.found.push(`${what} ${expected} is a hole`)
      expected = to + 1
    }
    for (let fbn = parity; ; fbn += 1) {
      const from = fbn
      let found: number | undefined
      try {
        found = await loaded(() => tree.next(from))
      } catch (error) {
        if (!(error instanceof DamagedBlock)) throw error
        // Told when the tree was walked.
        return
      }
      if (found === undefined || Math.floor(found / 2) >= wanted) break
      fbn = found
      if (found % 2 !== parity) continue
      gap(Math.floor(found / 2))
      yield Math.floor(found / 2)
    }
    if (wanted > expected) gap(wanted)
  }

  private async *directory(ino: number): AsyncGenerator<string> {
    let inode: Inode
    try {
      inode = await loaded(() => this.inodes.get(ino))
    } catch (error) {
      // Told when the inode's block was read.
      if (error instanceof DamagedBlock) return
      throw error
    }
    if (!inode.hasTreeRoot(this.store)) return
    this.facts.names[ino]! += 1
    const what = `directory ${ino}`
    const { buckets, entryBlocks } = inode
    const tree = inode.tree(this.store)
    const names = new Positions()
    for await (const e of this.blocksOf(tree, 0, entryBlocks, `${what}: entry block`)) {
      if (buckets > 0 && isMapBlock(e)) continue
      const block = await this.leaf(tree, entryFbn(e), `${what}: entry block ${e}`)
      yield* this.told()
      if (block === undefined) continue
      if (!(yield* this.entries(block, e, what, ino, names, buckets === 0)) || buckets === 0) continue
      const map = await this.leaf(tree, entryFbn(mapBlockOf(e)), `${what}: map block ${mapBlockOf(e)}`)
      yield* this.told()
      const byte = map?.[e % MAP_SPAN]
      if (byte !== undefined && byte !== longestFree(block)) {
        yield `${what}: map says ${byte} granules free in entry block ${e}, there are ${longestFree(block)}`
      }
    }
    yield* this.told()
    if (names.count !== inode.entries)
      yield `${what}: ${names.count} names found, its inode counts ${inode.entries}`
    if (inode.size !== entryBlocks * BLOCK_BYTES)
      yield `${what}: size ${inode.size} is not that of ${entryBlocks} blocks`
    if (buckets === 0) {
      if (entryBlocks > 1) yield `${what}: ${entryBlocks} entry blocks but no index`
      return
    }
    if (buckets < FIRST_BUCKETS) yield `${what}: index of ${buckets} buckets`
    for await (const b of this.blocksOf(tree, 1, buckets, `${what}: bucket`)) {
      const bucket = await this.leaf(tree, bucketFbn(b), `${what}: bucket ${b}`)
      yield* this.told()
      if (bucket !== undefined) yield* this.bucket(bucket, b, buckets, tree, what, names)
    }
    yield* this.told()
    if (names.count > 0) {
      let told = 0
      for (const position of names.left()) {
        yield `${what}: the name at ${position} is not in the index`
        if (++told === TOLD_MAX) break
      }
    }
  }

  /** Slots of one bucket against the names found; two equal names are in one bucket, under one hash. */
  private async *bucket(
    bucket: Uint8Array,
    b: number,
    buckets: number,
    tree: Tree,
    what: string,
    names: Positions,
  ): AsyncGenerator<string> {
    const byHash = new Map<number, number[]>()
    for (const { hash, position } of bucketSlots(bucket)) {
      if (!names.has(position, hash)) {
        yield `${what}: bucket ${b} names position ${position}, where no such name is`
        continue
      }
      if (bucketOf(hash, buckets) !== b) {
        yield `${what}: the name at ${position} is in bucket ${b}, not its own`
        continue
      }
      names.delete(position)
      const others = byHash.get(hash)
      if (others === undefined) byHash.set(hash, [position])
      else others.push(position)
    }
    for (const positions of byHash.values()) {
      if (positions.length === 1) continue
      const seen = new Set<string>()
      for (const position of positions) {
        const block = await this.leaf(tree, entryFbn(Math.floor(position / GRANULES)), what)
        if (block === undefined) continue
        const name = recordName(block, (position % GRANULES) * GRANULE_BYTES)
        if (seen.has(name)) yield `${what}: name ${JSON.stringify(name)} is there twice`
        seen.add(name)
      }
    }
  }

  /** Records of one entry block. Returns false if they cannot be told apart. `alone`: there is no index, and equal names are looked for here. */
  private *entries(
    block: Uint8Array,
    e: number,
    what: string,
    directory: number,
    names: Positions,
    alone: boolean,
  ): Generator<string, boolean> {
    let beforeFree = false
    const seen = new Set<string>()
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
        const hash = hashName(name, this.inodes.hashSeed)
        if (granules !== granulesOf(name.length))
          yield `${what}: record of ${JSON.stringify(name)} has a wrong length`
        if (hash !== recordHash(block, at))
          yield `${what}: record of ${JSON.stringify(name)} has a wrong hash`
        if (name === '' || name.includes('/') || name.includes('\0'))
          yield `${what}: impossible name ${JSON.stringify(name)}`
        if (alone) {
          if (seen.has(name)) yield `${what}: name ${JSON.stringify(name)} is there twice`
          seen.add(name)
        }
        names.add(e, at / GRANULE_BYTES, recordHash(block, at))
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
    const { facts } = this
    if (ino >= facts.size || facts.typeCode[ino] === 0 || facts.nlink[ino] === 0) {
      yield `${what}: ${JSON.stringify(name)} names inode ${ino}, which is not in use`
      return
    }
    if (facts.typeCode[ino] !== typeCode)
      yield `${what}: ${JSON.stringify(name)} tells another type than inode ${ino}`
    facts.names[ino]! += 1
    if (facts.typeCode[ino] !== TYPE_CODES.DIR) return
    if (facts.parent[ino] !== directory)
      yield `directory ${ino} is in ${directory}, its parent is said to be ${facts.parent[ino]!}`
    facts.names[directory]! += 1
  }

  private *links(): Generator<string> {
    const { facts } = this
    let inUse = 0
    for (let ino = 0; ino < facts.size; ino++) {
      if (facts.typeCode[ino] === 0) continue
      inUse += 1
      // The root has no entry anywhere: its `..` stands for it.
      const names = facts.names[ino]! + (ino === ROOT_INO ? 1 : 0)
      if (facts.nlink[ino] !== names)
        yield `inode ${ino}: ${names} links found, it counts ${facts.nlink[ino]!}`
    }
    if (inUse !== this.inodes.files) yield `${inUse} inodes in use, the root counts ${this.inodes.files}`
  }

  private *lists(): Generator<string> {
    const { facts } = this
    for (let ino = facts.link(this.inodes.freeHead); ino !== 0; ino = facts.next[ino]!) {
      if (ino === OUTSIDE || facts.typeCode[ino] !== 0 || (facts.mark[ino]! & FREE) !== 0) {
        yield `list of free inodes: ${ino === OUTSIDE ? 'a number out of range' : ino} does not belong there`
        break
      }
      facts.mark[ino]! |= FREE
    }
    for (let ino = facts.link(this.inodes.shrinkHead); ino !== 0; ino = facts.next[ino]!) {
      if (ino === OUTSIDE || (facts.flags[ino]! & LISTED) === 0 || (facts.mark[ino]! & ON_LIST) !== 0) {
        yield `list of shrinking inodes: ${ino === OUTSIDE ? 'a number out of range' : ino} does not belong there`
        break
      }
      facts.mark[ino]! |= ON_LIST
    }
    for (let ino = ROOT_INO; ino < facts.size; ino++) {
      if (facts.typeCode[ino] === 0 && (facts.mark[ino]! & FREE) === 0) {
        this.foundLeak({ kind: 'free-inode', ino })
        yield `inode ${ino} is free but not on the list of those`
      }
      if ((facts.flags[ino]! & LISTED) !== 0 && (facts.mark[ino]! & ON_LIST) === 0)
        yield `inode ${ino} is not on the list of shrinking inodes`
    }
  }

  /** Each directory's parents lead to the root. */
  private *reachable(): Generator<string> {
    const { facts } = this
    const isDirectory = (ino: number): boolean => ino < facts.size && facts.typeCode[ino] === TYPE_CODES.DIR
    if (!isDirectory(ROOT_INO)) yield 'there is no root directory'
    else facts.mark[ROOT_INO]! |= REACHED
    const path: number[] = []
    for (let ino = 0; ino < facts.size; ino++) {
      if (!isDirectory(ino) || facts.nlink[ino] === 0) continue
      let at = ino
      while (isDirectory(at) && (facts.mark[at]! & (REACHED | ON_PATH)) === 0) {
        facts.mark[at]! |= ON_PATH
        path.push(at)
        at = facts.parent[at]!
      }
      if (!isDirectory(at) || (facts.mark[at]! & REACHED) === 0)
        yield `directory ${ino} cannot be reached from the root`
      for (const seen of path) facts.mark[seen]! |= REACHED
      path.length = 0
    }
  }
}

/** Names told of one directory that are not in its index. */
const TOLD_MAX = 100
