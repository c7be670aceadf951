/**
 * One volume in memory: its image, its kept replies, and the way from a decided change to its log record. What the operations
 * (core/fs/ops) share; the driver (volume.ts) runs them, again from the top when a block was missing.
 *
 * Everything here is synchronous. An operation decides a `Change`, then calls `commit`: load, room, modify, reply, record,
 * all without a pause, so no freeze comes between a change and its record, and no operation sees another half done.
 */
import type { Clock, Crc32, Time } from '../env/env.ts'
import type { Attributes, Duplicate, ObjectRef, Status, Wcc } from '../vfs/vfs.ts'
import { inosOf, modify, prepare } from './apply.ts'
import type { BlockStore } from './block-store.ts'
import { Miss } from './block-store.ts'
import { putU16, putU32, putU48 } from './bytes.ts'
import type { BrokenFiles } from './broken-files.ts'
import { Duplicates, ringKey } from './duplicates.ts'
import type { KeptReply } from './duplicates.ts'
import { decodeHandle, encodeHandle } from './handle.ts'
import { SHRINKING } from './inode.ts'
import type { Inode } from './inode.ts'
import { Inodes, restoredRoot } from './inodes.ts'
import type { Journal } from './journal.ts'
import { LoadGate } from './misses.ts'
import { encodeRecord } from './record.ts'
import type { Change } from './record.ts'

/** What a volume needs of its environment. */
export interface CoreEnv {
  readonly clock: Pick<Clock, 'wall' | 'after'>
  readonly crc32: Crc32
}

/** Last changes remembered; when there are more, what is forgotten counts as changed just now. */
const CHANGES_MAX = 65536
/** A clock that jumped back by more than this is believed; within it, times go on growing. */
const BACKWARDS_SECONDS = 60

export class Core {
  readonly store: BlockStore
  readonly inodes: Inodes
  readonly duplicates: Duplicates
  readonly env: CoreEnv
  /** For operations that need many blocks at once. */
  readonly gate = new LoadGate()
  /** Eight bytes for WRITE and COMMIT. They change only when a person accepted that something acknowledged is lost. */
  readonly writeVerifier = new Uint8Array(8)
  /** Seq of the last change of what the running operation shows. */
  shown = 0
  /** True if the running operation wrote a record. */
  recorded = false
  /** Frees the surplus blocks of one inode to the end; set by the driver. */
  finishShrinking: (ino: number) => Promise<void> = () => {
    throw new Error('a standby does not reclaim')
  }
  /** Id of the snapshot whose files these are; 0 for the files as they are. */
  readonly snapshot: number
  /** File-system id in attributes: unlike in handles, that of a snapshot is one of its own, because its inode numbers are the volume's. */
  readonly shownFsid: number
  private readonly broken: BrokenFiles
  private readonly journal: Journal
  private readonly volume: number
  private readonly lastChange = new Map<number, number>()
  private changesBefore = 0
  private lastTime: Time = { seconds: 0, nanoseconds: 0 }

  constructor(
    env: CoreEnv,
    store: BlockStore,
    journal: Journal,
    volume: number,
    root: Uint8Array,
    snapshot = 0,
    broken: BrokenFiles = {},
  ) {
    this.broken = broken
    this.env = env
    this.store = store
    this.journal = journal
    this.volume = volume
    this.inodes = new Inodes(store, root)
    this.snapshot = snapshot
    const { fsid } = this.inodes
    this.shownFsid = snapshot === 0 ? fsid : fsidOfSnapshot(env.crc32, fsid, snapshot)
    this.duplicates = new Duplicates(this.inodes)
    putU48(this.writeVerifier, 0, fsid)
    this.lastTime = { seconds: this.inodes.ctimeFloor, nanoseconds: 0 }
  }

  setLossEpoch(epoch: number): void {
    putU16(this.writeVerifier, 6, epoch & 0xffff)
  }

  /** The root for the image of a consistency point. */
  freeze(): Uint8Array {
    const { root } = this.inodes
    return this.broken.replyNotInImage === true ? Inodes.withoutReplies(root) : root.slice()
  }

  /** The volume as it goes on from a snapshot's root, restored at `seconds` of the clock; this object is done with. */
  restored(snapshot: Uint8Array, seconds: number): Core {
    const root = restoredRoot(snapshot, this.inodes.root, seconds)
    const core = new Core(this.env, this.store, this.journal, this.volume, root, 0, this.broken)
    core.writeVerifier.set(this.writeVerifier)
    if (isLater(this.lastTime, core.lastTime)) core.lastTime = this.lastTime
    return core
  }

  /** The same files in another store: this object is done with. Whatever is shown from now on waits for `seq`. */
  moved(env: {
    readonly store: BlockStore
    readonly journal: Journal
    readonly volume: number
    readonly root: Uint8Array
  }): Core {
    const core = new Core(this.env, env.store, env.journal, env.volume, env.root, 0, this.broken)
    core.writeVerifier.set(this.writeVerifier)
    if (isLater(this.lastTime, core.lastTime)) core.lastTime = this.lastTime
    return core
  }

  /** The volume of another root. */
  replaced(root: Uint8Array): Core {
    return new Core(this.env, this.store, this.journal, this.volume, root)
  }

  /** Everything in it is as the record with this number made it: answers wait for that at least. */
  changedAll(seq: number): void {
    this.lastChange.clear()
    this.changesBefore = seq
  }

  /** The time of a change: later than that of any change before, so that clients notice each one by it. */
  now(): Time {
    const wall = this.env.clock.wall()
    const last = this.lastTime
    if (isLater(wall, last) || wall.seconds < last.seconds - BACKWARDS_SECONDS) return wall
    return last.nanoseconds < 999_999_999
      ? { seconds: last.seconds, nanoseconds: last.nanoseconds + 1 }
      : { seconds: last.seconds + 1, nanoseconds: 0 }
  }

  /** The object of a handle, which the operation shows. Throws Miss. */
  resolve(handle: Uint8Array): Inode | 'BADHANDLE' | 'STALE' {
    const fields = decodeHandle(this.env.crc32, handle)
    if (fields === undefined) return 'BADHANDLE'
    const { inodes } = this
    if (fields.fsid !== inodes.fsid || fields.snapshot !== this.snapshot) return 'STALE'
    if (!inodes.has(fields.ino)) return 'STALE'
    const inode = inodes.get(fields.ino)
    this.show(fields.ino)
    if (inode.nlink === 0 || inode.generation !== fields.generation) return 'STALE'
    return inode
  }

  /** Like `resolve`, for the directory in which a name is to be found. */
  resolveDirectory(handle: Uint8Array): Inode | Status {
    const inode = this.resolve(handle)
    return typeof inode === 'string' || inode.type === 'DIR' ? inode : 'NOTDIR'
  }

  /** The answer waits for the last change of this inode. */
  show(ino: number): void {
    const seq = this.lastChange.get(ino) ?? this.changesBefore
    if (seq > this.shown) this.shown = seq
  }

  handleOf(inode: Inode): Uint8Array {
    return encodeHandle(this.env.crc32, this.inodes.fsid, inode.ino, inode.generation, this.snapshot)
  }

  /** Throws Miss. */
  objectRef(ino: number): ObjectRef {
    this.show(ino)
    const inode = this.inodes.get(ino)
    return { handle: this.handleOf(inode), attributes: inode.attributes(this.shownFsid) }
  }

  attributes(inode: Inode): Attributes {
    return inode.attributes(this.shownFsid)
  }

  /** Attributes after a change; undefined for what is gone. */
  attributesOf(ino: number): Attributes {
    return this.inodes.get(ino).attributes(this.shownFsid)
  }

  /** What a failed operation tells of an object that it did not change. */
  wccUnchanged(inode: Inode): Wcc {
    return { before: inode.preAttributes(), after: this.attributes(inode) }
  }

  /** A file that grows must have no surplus blocks: the operation waits until they are freed. */
  requireNoSurplus(inode: Inode): void {
    if ((inode.flags & SHRINKING) !== 0) throw new Miss(() => this.finishShrinking(inode.ino))
  }

  /**
   * Carries out a decided change: loads what is missing (throws Miss), makes sure of room (undefined: NOSPC), changes, builds the result,
   * keeps its reply if it is not to happen twice, and writes the record.
   */
  commit<R>(change: Change, dup: Duplicate<R> | undefined, result: () => R): R | undefined {
    const room = prepare(this.inodes, change) + (dup === undefined ? 0 : this.duplicates.prepare())
    if (room > 0 && !this.store.canAllocate(room, releases(change))) return undefined
    modify(this.inodes, change)
    const made = result()
    let kept: KeptReply | undefined
    let slot = -1
    if (dup !== undefined) {
      kept = { key: ringKey(this.env.crc32, dup.key), reply: dup.encode(made) }
      slot = this.duplicates.keep(kept)
    }
    const logged = this.broken.replyNotLogged === true ? undefined : kept
    const seq = this.journal.append(this.volume, encodeRecord(change, logged))
    this.recorded = true
    if (slot >= 0) this.duplicates.noteSeq(slot, seq)
    this.noteChange(change, seq)
    return made
  }

  /** Repeats a change of the log. Throws Miss before anything is changed. There was room for it when it was accepted, so there is. */
  repeat(change: Change, kept: KeptReply | undefined): void {
    prepare(this.inodes, change)
    if (kept !== undefined) this.duplicates.prepare()
    modify(this.inodes, change)
    if (kept !== undefined) this.duplicates.keep(kept)
    this.noteTime(change)
  }

  private noteChange(change: Change, seq: number): void {
    this.noteTime(change)
    if (seq > this.shown) this.shown = seq
    if (this.lastChange.size > CHANGES_MAX) {
      this.lastChange.clear()
      this.changesBefore = seq
    }
    for (const ino of inosOf(change)) this.lastChange.set(ino, seq)
  }

  private noteTime(change: Change): void {
    if ('ctime' in change) this.lastTime = change.ctime
    else if ('time' in change) this.lastTime = change.time
  }
}

/** Above all that a volume can have, and below 2^53. */
function fsidOfSnapshot(crc32: Crc32, fsid: number, snapshot: number): number {
  const bytes = new Uint8Array(10)
  putU48(bytes, 0, fsid)
  putU32(bytes, 6, snapshot)
  return 2 ** 48 + (crc32(bytes) >>> 0) * 0x10000 + (snapshot & 0xffff)
}

function isLater(a: Time, b: Time): boolean {
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanoseconds > b.nanoseconds)
}

/** Changes that give space back, or use no more than before: a full volume must take them. */
function releases(change: Change): boolean {
  switch (change.type) {
    case 'write':
    case 'make':
    case 'link':
    case 'reply':
      return false
    case 'rename':
      return change.replaced !== 0
    case 'setattr':
    case 'remove':
    case 'reclaim':
      return true
  }
}
