/**
 * Applies changes to the image: `prepare` loads everything a change touches and tells how many blocks it allocates at most, `modify` then makes
 * it and cannot fail. The ordinary path and a replay both come through here, so a replay repeats exactly what was done.
 * Checks of permission and of what a client may ask were made before (core/fs/ops); what is wrong here is a bug, and asserted.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { assert, unreachable } from '../std/assert.ts'
import { Directory } from './directory.ts'
import { INLINE_BYTES, SHRINKING, TYPE_CODES } from './inode.ts'
import type { Inode } from './inode.ts'
import type { Inodes } from './inodes.ts'
import type {
  Change,
  LinkChange,
  MakeChange,
  RemoveChange,
  RenameChange,
  SetattrChange,
  WriteChange,
} from './record.ts'

export function directoryOf(inodes: Inodes, inode: Inode): Directory {
  return new Directory(inodes.store, inode, inodes.hashSeed)
}

/** Throws Miss, DamagedBlock. */
export function prepare(inodes: Inodes, change: Change): number {
  switch (change.type) {
    case 'write':
      return prepareWrite(inodes, change)
    case 'setattr':
      return prepareSetattr(inodes, change)
    case 'make': {
      const directory = directoryOf(inodes, inodes.get(change.directory))
      const room = inodes.prepare(change.directory) + inodes.prepare(change.ino)
      return room + directory.prepareInsert(change.name, change.position) + 1
    }
    case 'remove': {
      const directory = directoryOf(inodes, inodes.get(change.directory))
      const room = inodes.prepare(change.directory) + directory.prepareRemove(change.name, change.position)
      return room + prepareUnlink(inodes, change.ino)
    }
    case 'rename':
      return prepareRename(inodes, change)
    case 'link': {
      const directory = directoryOf(inodes, inodes.get(change.directory))
      const room = inodes.prepare(change.directory) + inodes.prepare(change.ino)
      return room + directory.prepareInsert(change.name, change.position)
    }
    case 'reclaim':
      return inodes.prepareReclaim(change.ino)
    case 'reply':
      return 0
    default:
      return unreachable(change)
  }
}

/** Modify phase, behind `prepare` of the same change on the same image. */
export function modify(inodes: Inodes, change: Change): void {
  switch (change.type) {
    case 'write':
      write(inodes, change)
      return
    case 'setattr':
      setattr(inodes, change)
      return
    case 'make':
      make(inodes, change)
      return
    case 'remove':
      remove(inodes, change)
      return
    case 'rename':
      rename(inodes, change)
      return
    case 'link':
      link(inodes, change)
      return
    case 'reclaim':
      inodes.reclaim(change.ino)
      return
    case 'reply':
      return
    default:
      unreachable(change)
  }
}

/** The inodes whose attributes or content a change alters. */
export function inosOf(change: Change): readonly number[] {
  switch (change.type) {
    case 'write':
    case 'setattr':
    case 'reclaim':
      return [change.ino]
    case 'make':
    case 'remove':
    case 'link':
      return [change.directory, change.ino]
    case 'rename':
      return [change.from, change.to, change.ino, change.replaced]
    case 'reply':
      return []
    default:
      return unreachable(change)
  }
}

/** True if the bytes of a block that a write from `offset` to `end` leaves alone hold something. */
function keeps(fbn: number, offset: number, end: number, size: number): boolean {
  const start = fbn * BLOCK_BYTES
  return offset > start || end < Math.min(size, start + BLOCK_BYTES)
}

function prepareWrite(inodes: Inodes, change: WriteChange): number {
  const inode = inodes.get(change.ino)
  const room = inodes.prepare(change.ino)
  const { offset, data } = change
  if (data.length === 0) return room
  const end = offset + data.length
  const first = Math.floor(offset / BLOCK_BYTES)
  const last = Math.floor((end - 1) / BLOCK_BYTES)
  const { size } = inode
  const tree = inode.tree(inodes.store)
  const keepFirst = keeps(first, offset, end, size)
  return room + tree.prepareRun(first, last, keepFirst, keeps(last, offset, end, size))
}

function write(inodes: Inodes, change: WriteChange): void {
  const inode = inodes.change(change.ino)
  const { offset, data } = change
  const end = offset + data.length
  const { size } = inode
  const tree = inode.tree(inodes.store)
  for (let from = offset; from < end;) {
    const fbn = Math.floor(from / BLOCK_BYTES)
    const start = fbn * BLOCK_BYTES
    const to = Math.min(end, start + BLOCK_BYTES)
    const part = data.subarray(from - offset, to - offset)
    if (keeps(fbn, offset, end, size)) {
      tree.put(fbn).set(part, from - start)
    } else {
      // Behind the end of a file its last block is zero.
      const block = tree.overwrite(fbn)
      block.set(part)
      if (part.length < BLOCK_BYTES) block.fill(0, part.length)
    }
    from = to
  }
  if (end > size) inode.size = end
  inode.mode = change.mode
  inode.mtime = change.time
  inode.ctime = change.time
}

/** The partly used block behind which a file is cut at `size`; undefined if it ends with a block or a hole. Throws Miss. */
function tailBlock(inodes: Inodes, inode: Inode, size: number): number | undefined {
  const fbn = Math.floor(size / BLOCK_BYTES)
  if (size % BLOCK_BYTES === 0) return undefined
  return inode.tree(inodes.store).lookup(fbn) === undefined ? undefined : fbn
}

function prepareSetattr(inodes: Inodes, change: SetattrChange): number {
  const inode = inodes.get(change.ino)
  let room = inodes.prepare(change.ino)
  if (change.size >= inode.size) return room
  room += inodes.prepareShrink(inode, Math.ceil(change.size / BLOCK_BYTES))
  const tail = tailBlock(inodes, inode, change.size)
  return tail === undefined ? room : room + inode.tree(inodes.store).prepare(tail)
}

function setattr(inodes: Inodes, change: SetattrChange): void {
  const inode = inodes.change(change.ino)
  inode.mode = change.mode
  inode.uid = change.uid
  inode.gid = change.gid
  inode.atime = change.atime
  inode.mtime = change.mtime
  inode.ctime = change.ctime
  if (change.size === inode.size) return
  assert(inode.type === 'REG', 'size set of what is no regular file')
  if (change.size < inode.size) {
    const tail = tailBlock(inodes, inode, change.size)
    inodes.shrink(inode, Math.ceil(change.size / BLOCK_BYTES))
    if (tail !== undefined)
      inode
        .tree(inodes.store)
        .put(tail)
        .fill(0, change.size % BLOCK_BYTES)
  } else {
    assert((inode.flags & SHRINKING) === 0, 'a file grows over its surplus blocks')
  }
  inode.size = change.size
}

function make(inodes: Inodes, change: MakeChange): void {
  const { kind } = change
  const parent = inodes.change(change.directory)
  const inode = inodes.take(change.ino, change.generation, kind, change.rdevMajor, change.rdevMinor)
  directoryOf(inodes, parent).insert(change.name, change.position, change.ino, TYPE_CODES[kind])
  parent.mtime = change.ctime
  parent.ctime = change.ctime
  inode.mode = change.mode
  inode.uid = change.uid
  inode.gid = change.gid
  inode.size = change.size
  inode.atime = change.atime
  inode.mtime = change.mtime
  inode.ctime = change.ctime
  inode.nlink = 1
  if (kind === 'DIR') {
    inode.nlink = 2
    inode.parent = change.directory
    parent.nlink += 1
  }
  if (change.verifier !== undefined) inode.setVerifier(change.verifier)
  if (change.path === undefined) return
  inode.size = change.path.length
  if (change.path.length <= INLINE_BYTES) {
    inode.makeInline(change.path)
    return
  }
  const block = inode.tree(inodes.store).put(0)
  for (let i = 0; i < change.path.length; i++) block[i] = change.path.charCodeAt(i)
}

function prepareUnlink(inodes: Inodes, ino: number): number {
  const inode = inodes.get(ino)
  const last = inode.type === 'DIR' || inode.nlink === 1
  return inodes.prepare(ino) + (last ? inodes.prepareShrink(inode, 0) : 0)
}

/** One name fewer for an object; a directory has but one. */
function unlink(inodes: Inodes, parent: Inode, ino: number, change: RemoveChange | RenameChange): void {
  const inode = inodes.change(ino)
  inode.ctime = change.time
  if (inode.type === 'DIR') {
    assert(inode.entries === 0, 'removal of a directory with names in it')
    parent.nlink -= 1
    inode.nlink = 0
  } else {
    inode.nlink -= 1
  }
  if (inode.nlink === 0) inodes.discard(inode)
}

function remove(inodes: Inodes, change: RemoveChange): void {
  const parent = inodes.change(change.directory)
  directoryOf(inodes, parent).remove(change.name, change.position)
  parent.mtime = change.time
  parent.ctime = change.time
  unlink(inodes, parent, change.ino, change)
}

function prepareRename(inodes: Inodes, change: RenameChange): number {
  const from = directoryOf(inodes, inodes.get(change.from))
  const to = directoryOf(inodes, inodes.get(change.to))
  let room = inodes.prepare(change.from) + inodes.prepare(change.to) + inodes.prepare(change.ino)
  room += from.prepareRemove(change.fromName, change.fromPosition)
  if (change.replaced === 0) return room + to.prepareInsert(change.toName, change.toPosition)
  return room + to.prepareRepoint(change.toPosition) + prepareUnlink(inodes, change.replaced)
}

function rename(inodes: Inodes, change: RenameChange): void {
  const fromInode = inodes.change(change.from)
  const toInode = change.to === change.from ? fromInode : inodes.change(change.to)
  const from = directoryOf(inodes, fromInode)
  const to = change.to === change.from ? from : directoryOf(inodes, toInode)
  const inode = inodes.change(change.ino)
  const { type } = inode
  assert(type !== undefined, 'rename of a free inode')
  // The new name first: the search for its place saw the old one still there.
  if (change.replaced === 0) to.insert(change.toName, change.toPosition, change.ino, TYPE_CODES[type])
  else to.repoint(change.toPosition, change.ino, TYPE_CODES[type])
  from.remove(change.fromName, change.fromPosition)
  if (type === 'DIR' && change.to !== change.from) {
    fromInode.nlink -= 1
    toInode.nlink += 1
    inode.parent = change.to
  }
  inode.ctime = change.time
  for (const directory of [fromInode, toInode]) {
    directory.mtime = change.time
    directory.ctime = change.time
  }
  if (change.replaced !== 0) unlink(inodes, toInode, change.replaced, change)
}

function link(inodes: Inodes, change: LinkChange): void {
  const parent = inodes.change(change.directory)
  const inode = inodes.change(change.ino)
  const { type } = inode
  assert(type !== undefined, 'link to a free inode')
  directoryOf(inodes, parent).insert(change.name, change.position, change.ino, TYPE_CODES[type])
  parent.mtime = change.time
  parent.ctime = change.time
  inode.nlink += 1
  inode.ctime = change.time
}
