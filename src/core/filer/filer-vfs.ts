/**
 * The file system that a filer shows to its protocol servers: every volume of every side that it serves now, told apart by the
 * file-system id in the handle. Routing only; operations are the volume's (core/fs), durability and the right to answer are the journal's.
 */
import { getU48 } from '../fs/bytes.ts'
import type { MaybePromise } from '../std/maybe.ts'
import type {
  AccessResult,
  Attributes,
  Caller,
  CommitResult,
  CreateHow,
  Duplicate,
  DuplicateKey,
  Export,
  Failed,
  FsstatResult,
  GetattrResult,
  LinkResult,
  LookupResult,
  MakeResult,
  ReaddirResult,
  ReadlinkResult,
  ReadResult,
  RemoveResult,
  RenameResult,
  SetAttributes,
  SetattrResult,
  Stability,
  Vfs,
  Wcc,
  WriteResult,
} from '../vfs/vfs.ts'
import { HANDLE_BYTES, NotServedError } from '../vfs/vfs.ts'
import type { Time } from '../env/env.ts'

/** What one volume does for itself. */
export type VolumeVfs = Omit<Vfs, 'exports' | 'exportOf'>

export interface ServedVolume {
  readonly files: VolumeVfs
  readonly export: Export
}

/** Which volumes there are; the filer keeps it current over takeovers and changes of the desired state. */
export interface VolumeTable {
  /** 'ELSEWHERE': known to this pair, but not served here now. Undefined: no such volume. */
  byFsid(fsid: number): ServedVolume | 'ELSEWHERE' | undefined
  served(): Iterable<ServedVolume>
  /** Nothing is served yet, or a side is being opened: what is not in the table may come. */
  opening(): boolean
}

type Bad = Failed<{ wcc: Wcc; from: Wcc; to: Wcc; attributes?: Attributes }>
const fail = (status: Bad['status']): Bad => ({ ok: false, status, wcc: {}, from: {}, to: {} })
const STALE = fail('STALE')
const BADHANDLE = fail('BADHANDLE')
const XDEV = fail('XDEV')

export class FilerVfs implements Vfs {
  readonly #table: VolumeTable

  constructor(table: VolumeTable) {
    this.#table = table
  }

  exports(): readonly Export[] {
    if (this.#table.opening()) throw new NotServedError()
    return [...this.#table.served()].map((volume) => volume.export)
  }

  exportOf(handle: Uint8Array): Export | 'STALE' | 'BADHANDLE' {
    if (handle.length !== HANDLE_BYTES) return 'BADHANDLE'
    const found = this.#find(handle)
    return found === undefined ? 'STALE' : found.export
  }

  duplicate(handle: Uint8Array, key: DuplicateKey): MaybePromise<Uint8Array | undefined> {
    return this.#volume(handle)?.duplicate(handle, key)
  }

  getattr(handle: Uint8Array): MaybePromise<GetattrResult> {
    return this.#volume(handle)?.getattr(handle) ?? this.#gone(handle)
  }

  setattr(
    caller: Caller,
    handle: Uint8Array,
    set: SetAttributes,
    guard?: Time,
    dup?: Duplicate<SetattrResult>,
  ): MaybePromise<SetattrResult> {
    return this.#volume(handle)?.setattr(caller, handle, set, guard, dup) ?? this.#gone(handle)
  }

  lookup(caller: Caller, directory: Uint8Array, name: string): MaybePromise<LookupResult> {
    return this.#volume(directory)?.lookup(caller, directory, name) ?? this.#gone(directory)
  }

  access(caller: Caller, handle: Uint8Array, wanted: number): MaybePromise<AccessResult> {
    return this.#volume(handle)?.access(caller, handle, wanted) ?? this.#gone(handle)
  }

  readlink(caller: Caller, handle: Uint8Array): MaybePromise<ReadlinkResult> {
    return this.#volume(handle)?.readlink(caller, handle) ?? this.#gone(handle)
  }

  read(
    caller: Caller,
    handle: Uint8Array,
    offset: number,
    count: number,
    reserve: (bytes: number) => Uint8Array,
  ): MaybePromise<ReadResult> {
    return this.#volume(handle)?.read(caller, handle, offset, count, reserve) ?? this.#gone(handle)
  }

  write(
    caller: Caller,
    handle: Uint8Array,
    offset: number,
    data: Uint8Array,
    stable: Stability,
  ): MaybePromise<WriteResult> {
    return this.#volume(handle)?.write(caller, handle, offset, data, stable) ?? this.#gone(handle)
  }

  create(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    how: CreateHow,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    return this.#volume(directory)?.create(caller, directory, name, how, dup) ?? this.#gone(directory)
  }

  mkdir(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    set: SetAttributes,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    return this.#volume(directory)?.mkdir(caller, directory, name, set, dup) ?? this.#gone(directory)
  }

  symlink(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    path: string,
    set: SetAttributes,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult> {
    return this.#volume(directory)?.symlink(caller, directory, name, path, set, dup) ?? this.#gone(directory)
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
    const volume = this.#volume(directory)
    return (
      volume?.mknod(caller, directory, name, type, set, rdevMajor, rdevMinor, dup) ?? this.#gone(directory)
    )
  }

  remove(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<RemoveResult>,
  ): MaybePromise<RemoveResult> {
    return this.#volume(directory)?.remove(caller, directory, name, dup) ?? this.#gone(directory)
  }

  rmdir(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<RemoveResult>,
  ): MaybePromise<RemoveResult> {
    return this.#volume(directory)?.rmdir(caller, directory, name, dup) ?? this.#gone(directory)
  }

  rename(
    caller: Caller,
    from: Uint8Array,
    fromName: string,
    to: Uint8Array,
    toName: string,
    dup?: Duplicate<RenameResult>,
  ): MaybePromise<RenameResult> {
    const volume = this.#volume(from)
    if (volume !== undefined && volume !== this.#volume(to)) {
      return this.#volume(to) === undefined ? this.#gone(to) : XDEV
    }
    return volume?.rename(caller, from, fromName, to, toName, dup) ?? this.#gone(from)
  }

  link(
    caller: Caller,
    handle: Uint8Array,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<LinkResult>,
  ): MaybePromise<LinkResult> {
    const volume = this.#volume(handle)
    if (volume !== undefined && volume !== this.#volume(directory)) {
      return this.#volume(directory) === undefined ? this.#gone(directory) : XDEV
    }
    return volume?.link(caller, handle, directory, name, dup) ?? this.#gone(handle)
  }

  readdir(
    caller: Caller,
    directory: Uint8Array,
    cookie: number,
    verifier: Uint8Array,
    entriesMax: number,
    plus: boolean,
  ): MaybePromise<ReaddirResult> {
    return (
      this.#volume(directory)?.readdir(caller, directory, cookie, verifier, entriesMax, plus) ??
      this.#gone(directory)
    )
  }

  fsstat(handle: Uint8Array): MaybePromise<FsstatResult> {
    return this.#volume(handle)?.fsstat(handle) ?? this.#gone(handle)
  }

  commit(caller: Caller, handle: Uint8Array, offset: number, count: number): MaybePromise<CommitResult> {
    return this.#volume(handle)?.commit(caller, handle, offset, count) ?? this.#gone(handle)
  }

  #find(handle: Uint8Array): ServedVolume | undefined {
    const found = this.#table.byFsid(getU48(handle, 2))
    if (found === 'ELSEWHERE') throw new NotServedError()
    return found
  }

  #volume(handle: Uint8Array): VolumeVfs | undefined {
    return handle.length === HANDLE_BYTES ? this.#find(handle)?.files : undefined
  }

  #gone(handle: Uint8Array): Bad {
    return handle.length === HANDLE_BYTES ? STALE : BADHANDLE
  }
}
