/**
 * One volume's file system: the operations of `Vfs` for the files of one volume, over a block store and a journal.
 *
 * This is the driver. An operation (core/fs/ops) is a synchronous function; here it is run, and run again from the top after
 * each block that it missed has been loaded; changes are admitted by the journal first; a result leaves only when the journal
 * says that everything it shows may be seen. What is in memory costs no promise.
 *
 * `FileSystem` serves (on the owner); a standby only makes one to replay. It never decides about space, devices or who owns the volume.
 */
import { assert, AssertionError } from '../std/assert.ts'
import { isPromise } from '../std/maybe.ts'
import type { MaybePromise } from '../std/maybe.ts'
import type { Log, Time } from '../env/env.ts'
import type {
  AccessResult,
  Caller,
  CommitResult,
  CreateHow,
  Duplicate,
  DuplicateKey,
  FsstatResult,
  GetattrResult,
  LinkResult,
  LookupResult,
  MakeResult,
  ObjectRef,
  ReaddirResult,
  ReadlinkResult,
  ReadResult,
  RemoveResult,
  RenameResult,
  Result,
  SetAttributes,
  SetattrResult,
  Stability,
  Status,
  WriteResult,
} from '../vfs/vfs.ts'
import { DamagedBlock, Miss } from './block-store.ts'
import type { BlockStore } from './block-store.ts'
import type { BrokenFiles } from './broken-files.ts'
import { buildStep } from './build.ts'
import type { BuildCursor, BuildObserver, BuildStep } from './build.ts'
import { Core } from './core.ts'
import type { CoreEnv } from './core.ts'
import { ringKey, ringKeyText } from './duplicates.ts'
import type { RingKey } from './duplicates.ts'
import { INODES_PER_BLOCK, LISTED, SHRINKING } from './inode.ts'
import { encodeHandle } from './handle.ts'
import { emptyRoot, makeVolume, ROOT_GENERATION, ROOT_INO } from './inodes.ts'
import type { NewVolume } from './inodes.ts'
import { RECORD_BYTES_MAX, TryLater } from './journal.ts'
import type { Journal } from './journal.ts'
import * as attributes from './ops/attributes.ts'
import type { Space } from './ops/attributes.ts'
import * as data from './ops/data.ts'
import * as making from './ops/make.ts'
import * as names from './ops/names.ts'
import * as removing from './ops/remove.ts'
import { decodeRecord } from './record.ts'
import { samplePlaces, treesIn } from './survey.ts'
import type { Trees } from './survey.ts'

export { FS_ROOT_BYTES } from './inodes.ts'
export type { NewVolume } from './inodes.ts'
export type { Space } from './ops/attributes.ts'

export interface FileSystemOptions {
  readonly env: CoreEnv & { readonly log: Log }
  readonly store: BlockStore
  readonly journal: Journal
  /** As the journal and the block layer number volumes. */
  readonly volume: number
  /** What `freeze` or `FileSystem.make` gave (FS_ROOT_BYTES). */
  readonly root: Uint8Array
  readonly space: () => Space
  /** The files of a snapshot, for reading only; `isThere` is asked before each look at blocks, which are reused soon after it is gone. */
  readonly snapshot?: { readonly id: number; readonly isThere: () => boolean }
  /** Only in tests. */
  readonly broken?: BrokenFiles
}

/** A failure without attributes, which fits every result. */
function failed(status: Status) {
  return { ok: false as const, status, wcc: {}, from: {}, to: {} }
}
type Bad = ReturnType<typeof failed>

const CHANGES_BEFORE_RETRY = 1000

export class FileSystem {
  /** Another one from a restore on: an operation that waits for a block looks at it anew. */
  private core: Core
  private journal: Journal
  private readonly log: Log
  private space: () => Space
  private readonly isThere: () => boolean
  /** Calls that wait for something: a retransmission of one waits with it. */
  private readonly running = new Map<string, Promise<unknown>>()
  private serving = false
  private reclaiming: Promise<void> | undefined
  /** Changes still to come before surplus blocks that could not be freed are tried again. */
  private changesToReclaim = 0

  /** Makes an empty volume in the store; returns its root. The same parameters give the same volume. Allocates one block. */
  static make(store: BlockStore, spec: NewVolume): Uint8Array {
    return makeVolume(store, spec)
  }

  /** The root of a volume without anything, not even a root directory: it takes in images of another one (`become`). */
  static makeEmpty(store: BlockStore, spec: NewVolume): Uint8Array {
    return emptyRoot(store, spec)
  }

  constructor({ env, store, journal, volume, root, space, snapshot, broken }: FileSystemOptions) {
    this.core = new Core(env, store, journal, volume, root, snapshot?.id, broken)
    this.isThere = snapshot?.isThere ?? (() => true)
    this.core.finishShrinking = (ino) => this.finishShrinking(ino)
    this.journal = journal
    this.log = env.log
    this.space = space
  }

  get fsid(): number {
    return this.core.inodes.fsid
  }

  /** Inodes in use. */
  get files(): number {
    return this.core.inodes.files
  }

  /** The handle of the root directory: what MOUNT gives. */
  rootHandle(): MaybePromise<Uint8Array> {
    return this.attempt(() => {
      try {
        return this.core.handleOf(this.core.inodes.get(ROOT_INO))
      } catch (error) {
        if (!(error instanceof DamagedBlock)) throw error
        // It is never made anew, so its generation is known. A volume with a damaged root is served: what can be read of it can be.
        return encodeHandle(this.core.env.crc32, this.fsid, ROOT_INO, ROOT_GENERATION)
      }
    })
  }

  /** The root directory, as a LOOKUP shows an object. */
  root(): MaybePromise<Result<{ object: ObjectRef }>> {
    return this.show(() => ({ ok: true, object: this.core.objectRef(ROOT_INO) }))
  }

  /** The volume's root as of now, for the image of a consistency point: synchronous, together with the block store's freeze. */
  freeze(): Uint8Array {
    return this.core.freeze()
  }

  /**
   * The files are those of a snapshot, restored at `seconds` of the clock. Synchronous, beside the block store's; operations that wait for blocks
   * go on with the restored files.
   */
  restored(root: Uint8Array, seconds: number): void {
    this.core = this.core.restored(root, seconds)
    this.core.finishShrinking = (ino) => this.finishShrinking(ino)
    this.changesToReclaim = 0
  }

  /** The files are those of this root: another image of the mirrored volume is complete. Not while it serves. */
  become(root: Uint8Array): void {
    assert(!this.serving, 'another image of a volume that serves')
    this.core = this.core.replaced(root)
    this.core.finishShrinking = (ino) => this.finishShrinking(ino)
  }

  /**
   * The files go on in another store, as that volume: operations that wait, also those that a held journal has not let in yet, go on there. Synchronous. Nothing of the
   * files may have changed since the root was taken.
   */
  move(to: Pick<FileSystemOptions, 'store' | 'journal' | 'volume' | 'root' | 'space'>): void {
    this.core = this.core.moved(to)
    this.core.finishShrinking = (ino) => this.finishShrinking(ino)
    this.journal = to.journal
    this.space = to.space
    this.changesToReclaim = 0
  }

  /** The record of a restore has this number: whatever is shown from now on waits until it may be. */
  changedAll(seq: number): void {
    this.core.changedAll(seq)
  }

  /** Repeats a record over the image that it was made on. In order, one at a time, before `start`. */
  replay(record: Uint8Array): MaybePromise<void> {
    assert(!this.serving, 'replay into a volume that serves')
    const { change, kept } = decodeRecord(record)
    return this.attempt(() => this.core.repeat(change, kept))
  }

  /** The volume serves from now on: surplus blocks are freed in the background. `lossEpoch` names the last loss of acknowledged changes, if there was one. */
  start(lossEpoch = 0): void {
    this.core.setLossEpoch(lossEpoch)
    this.serving = true
    this.changesToReclaim = 0
    this.reclaimSoon()
  }

  /** Ends the background work; resolves when none is under way. */
  async stop(): Promise<void> {
    this.serving = false
    await this.reclaiming
  }

  /** Frees at most `steps` slices of surplus blocks (removed and truncated big files). True if none is left. */
  async reclaim(steps = Infinity): Promise<boolean> {
    for (let step = 0; step < steps && this.core.inodes.shrinkHead !== 0; step++) {
      if (!(await this.reclaimStep(this.core.inodes.shrinkHead))) break
    }
    return this.core.inodes.shrinkHead === 0
  }

  /** Of a volume that was converted: a step of making lasting what is absent (build.ts). Rejects with DamagedBlock. */
  build(cursor: BuildCursor, limit: number, observer: BuildObserver): MaybePromise<BuildStep> {
    return this.attempt(() => buildStep(this.core.inodes, cursor, limit, observer))
  }

  /** Blocks of its files, and of pointers that they would have with half the fan-out, roughly, from so many blocks of inodes (survey.ts). */
  async survey(samples: number): Promise<Trees> {
    const blocks = Math.ceil(this.inoEnd / INODES_PER_BLOCK)
    let [leaves, indirect, seen] = [0, 0, 0]
    for (const block of samplePlaces(blocks, samples)) {
      try {
        const found = await this.attempt(() => treesIn(this.core.inodes, block))
        leaves += found.leaves
        indirect += found.indirect
        seen += 1
      } catch (error) {
        // The scrub and the scan tell of it.
        if (!(error instanceof DamagedBlock)) throw error
      }
    }
    const all = (sum: number): number => (seen === 0 ? 0 : Math.ceil((sum * blocks) / seen))
    return { leaves: all(leaves), indirect: all(indirect) }
  }

  /** Number behind the highest inode ever used. */
  get inoEnd(): number {
    return this.core.inodes.inoEnd
  }

  duplicate(_handle: Uint8Array, key: DuplicateKey): MaybePromise<Uint8Array | undefined> {
    const ring = ringKey(this.core.env.crc32, key)
    const running = this.running.size > 0 ? this.running.get(ringKeyText(ring)) : undefined
    if (running !== undefined) return running.then(() => this.kept(ring))
    return this.kept(ring)
  }

  getattr(handle: Uint8Array): MaybePromise<GetattrResult> {
    return this.show(() => attributes.getattr(this.core, handle))
  }

  setattr(
    caller: Caller,
    handle: Uint8Array,
    set: SetAttributes,
    guard?: Time,
    dup?: Duplicate<SetattrResult>,
  ): MaybePromise<SetattrResult> {
    return this.change(dup, () => attributes.setattr(this.core, caller, handle, set, guard, dup))
  }

  lookup(caller: Caller, directory: Uint8Array, name: string): MaybePromise<LookupResult> {
    return this.show(() => names.lookup(this.core, caller, directory, name))
  }

  access(caller: Caller, handle: Uint8Array, wanted: number): MaybePromise<AccessResult> {
    return this.show(() => attributes.access(this.core, caller, handle, wanted))
  }

  readlink(_caller: Caller, handle: Uint8Array): MaybePromise<ReadlinkResult> {
    return this.show(() => attributes.readlink(this.core, handle))
  }

  read(
    caller: Caller,
    handle: Uint8Array,
    offset: number,
    count: number,
    reserve: (bytes: number) => Uint8Array,
  ): MaybePromise<ReadResult> {
    return this.show(() => data.read(this.core, caller, handle, offset, count, reserve))
  }

  write(
    caller: Caller,
    handle: Uint8Array,
    offset: number,
    bytes: Uint8Array,
    _stable: Stability,
  ): MaybePromise<WriteResult> {
    return this.change(
      undefined,
      () => data.write(this.core, caller, handle, offset, bytes),
      RECORD_BYTES_MAX + bytes.length,
    )
  }

  create(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    how: CreateHow,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    return this.change(dup, () => making.create(this.core, caller, directory, name, how, dup))
  }

  mkdir(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    set: SetAttributes,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    return this.change(dup, () => making.make(this.core, caller, directory, name, 'DIR', set, {}, dup))
  }

  symlink(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    path: string,
    set: SetAttributes,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    return this.change(dup, () => making.symlink(this.core, caller, directory, name, path, set, dup))
  }

  mknod(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    type: 'BLK' | 'CHR' | 'SOCK' | 'FIFO',
    set: SetAttributes,
    rdevMajor: number,
    rdevMinor: number,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    const special = type === 'BLK' || type === 'CHR' ? { rdevMajor, rdevMinor } : {}
    return this.change(dup, () => making.make(this.core, caller, directory, name, type, set, special, dup))
  }

  remove(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<RemoveResult>,
  ): MaybePromise<RemoveResult> {
    return this.change(dup, () => removing.remove(this.core, caller, directory, name, 'FILE', dup))
  }

  rmdir(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<RemoveResult>,
  ): MaybePromise<RemoveResult> {
    return this.change(dup, () => removing.remove(this.core, caller, directory, name, 'DIR', dup))
  }

  rename(
    caller: Caller,
    from: Uint8Array,
    fromName: string,
    to: Uint8Array,
    toName: string,
    dup?: Duplicate<RenameResult>,
  ): MaybePromise<RenameResult> {
    return this.change(dup, () => removing.rename(this.core, caller, from, fromName, to, toName, dup))
  }

  link(
    caller: Caller,
    handle: Uint8Array,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<LinkResult>,
  ): MaybePromise<LinkResult> {
    return this.change(dup, () => making.link(this.core, caller, handle, directory, name, dup))
  }

  readdir(
    caller: Caller,
    directory: Uint8Array,
    cookie: number,
    _verifier: Uint8Array,
    entriesMax: number,
    plus: boolean,
  ): MaybePromise<ReaddirResult> {
    return this.show(() => names.readdir(this.core, caller, directory, cookie, entriesMax, plus))
  }

  fsstat(handle: Uint8Array): MaybePromise<FsstatResult> {
    return this.show(() => attributes.fsstat(this.core, handle, this.space()))
  }

  commit(_caller: Caller, handle: Uint8Array, _offset: number, _count: number): MaybePromise<CommitResult> {
    return this.show(() => data.commit(this.core, handle))
  }

  /** Runs a task that may miss, without waiting for the journal. */
  private attempt<R>(task: () => R): MaybePromise<R> {
    try {
      return task()
    } catch (error) {
      if (!(error instanceof Miss)) throw error
      return error.load().then(() => this.attempt(task))
    }
  }

  /** An operation that changes nothing. */
  private show<R>(task: () => R): MaybePromise<R | Bad> {
    if (!this.isThere()) return failed('STALE')
    const { core } = this
    core.shown = 0
    let result: R | Bad
    try {
      result = task()
    } catch (error) {
      if (error instanceof Miss) {
        return error.load().then(
          () => this.show(task),
          (reason: unknown) => this.damaged(reason),
        )
      }
      result = this.damaged(error)
    }
    return this.answer(core.shown, result)
  }

  /** An operation that may write one record of at most `bytes`. */
  private change<R>(
    dup: Duplicate<R> | undefined,
    task: () => R,
    bytes = RECORD_BYTES_MAX,
  ): MaybePromise<R | Bad> {
    const result = this.changeOnce(dup, task, bytes)
    if (dup === undefined || !isPromise(result)) return result
    const text = ringKeyText(ringKey(this.core.env.crc32, dup.key))
    const entered = result.finally(() => {
      if (this.running.get(text) === entered) this.running.delete(text)
    })
    this.running.set(text, entered)
    return entered
  }

  private changeOnce<R>(dup: Duplicate<R> | undefined, task: () => R, bytes: number): MaybePromise<R | Bad> {
    assert(this.core.snapshot === 0, 'change of a snapshot')
    const admitted = this.journal.admit(bytes)
    if (isPromise(admitted))
      return admitted.then(
        () => this.changeAdmitted(dup, task, bytes),
        (reason: unknown) => this.damaged(reason),
      )
    return this.changeAdmitted(dup, task, bytes)
  }

  private changeAdmitted<R>(
    dup: Duplicate<R> | undefined,
    task: () => R,
    bytes: number,
  ): MaybePromise<R | Bad> {
    const { core } = this
    core.shown = 0
    core.recorded = false
    let result: R | Bad
    try {
      const made = task()
      // A refusal, and a success that changed nothing, must be repeated to a retransmission too, if there is room to keep it.
      if (dup !== undefined && !core.recorded) core.commit({ type: 'reply' }, dup, () => made)
      result = made
    } catch (error) {
      if (error instanceof Miss) {
        return error.load().then(
          () => this.changeOnce(dup, task, bytes),
          (reason: unknown) => this.damaged(reason),
        )
      }
      result = this.damaged(error)
    }
    if (core.inodes.shrinkHead !== 0) this.reclaimSoon()
    return this.answer(core.shown, result)
  }

  private answer<R>(seq: number, result: R): MaybePromise<R> {
    const answerable = this.journal.answer(seq)
    return isPromise(answerable) ? answerable.then(() => result) : result
  }

  private damaged(error: unknown): Bad {
    if (error instanceof TryLater) return failed('JUKEBOX')
    if (!(error instanceof DamagedBlock)) throw error
    this.log('error', 'damaged block read', { fsid: this.fsid, bn: error.bn })
    return failed('IO')
  }

  private kept(key: RingKey): MaybePromise<Uint8Array | undefined> {
    let found
    try {
      found = this.core.duplicates.find(key)
    } catch (error) {
      if (error instanceof Miss) return error.load().then(() => this.kept(key))
      this.damaged(error)
      return undefined
    }
    return found === undefined ? undefined : this.answer(found.seq, found.reply)
  }

  private reclaimSoon(): void {
    if (!this.serving || this.reclaiming !== undefined || this.core.inodes.shrinkHead === 0) return
    if (this.changesToReclaim > 0) {
      this.changesToReclaim -= 1
      return
    }
    this.reclaiming = this.reclaimWhileServing().finally(() => {
      this.reclaiming = undefined
    })
  }

  /** What stops it (no room, damage, no right to answer any more) is tried again some changes later, or by who serves next. */
  private async reclaimWhileServing(): Promise<void> {
    try {
      while (this.serving && this.core.inodes.shrinkHead !== 0) {
        if (await this.reclaimStep(this.core.inodes.shrinkHead)) continue
        this.changesToReclaim = CHANGES_BEFORE_RETRY
        return
      }
    } catch (error) {
      if (error instanceof AssertionError) throw error
      this.log('warn', 'freeing of surplus blocks stopped', { fsid: this.fsid, error: String(error) })
    }
  }

  /** False if the step could not be made. */
  private async reclaimStep(ino: number): Promise<boolean> {
    await this.journal.admit(RECORD_BYTES_MAX)
    const { core } = this
    let seq: number
    try {
      core.shown = 0
      if (!core.inodes.has(ino) || (core.inodes.get(ino).flags & LISTED) === 0) return true
      if (core.commit({ type: 'reclaim', ino }, undefined, () => true) === undefined) return false
      seq = core.shown
    } catch (error) {
      if (error instanceof Miss) {
        await error.load()
        return this.reclaimStep(ino)
      }
      this.damaged(error)
      return false
    }
    // The log paces the work; and callers get their turn even where the log answers at once.
    await this.journal.answer(seq)
    await new Promise<void>((resolve) => core.env.clock.after(0, resolve))
    return true
  }

  private async finishShrinking(ino: number): Promise<void> {
    for (;;) {
      const inode = await this.attempt(() =>
        this.core.inodes.has(ino) ? this.core.inodes.get(ino) : undefined,
      )
      if (inode === undefined || (inode.flags & SHRINKING) === 0) return
      if (!(await this.reclaimStep(ino))) throw new TryLater()
    }
  }
}
