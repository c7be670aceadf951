/**
 * The file system as a protocol server sees it. `nfs/` calls it, `core/filer` implements it over the volumes that
 * this filer serves. It knows files, not blocks; and it knows nothing of XDR or RPC.
 *
 * - Names, paths in symbolic links and machine names are *byte strings*: one character (0-255) per byte.
 * - Handles are opaque bytes (HANDLE_BYTES), made by core/fs/handle.ts, valid across restart and takeover.
 * - An answer is given (the value returned, or the promise resolved) only when the change it reports, and the change
 *   of everything that it shows, is durable as the pair's durability policy asks, and while this filer may answer.
 * - Expected failures are results with `ok: false`; a rejected promise is `NotServedError` or a bug.
 */
import type { Time } from '../env/env.ts'
import type { MaybePromise } from '../std/maybe.ts'

export const HANDLE_BYTES = 32
export const NAME_BYTES_MAX = 255
/** Longest symbolic link, in bytes. */
export const LINK_BYTES_MAX = 1024
/** Largest READ and WRITE, in bytes. */
export const IO_BYTES_MAX = 1 << 20
/** Largest file: 16 TiB. */
export const FILE_BYTES_MAX = 2 ** 44

/** nfsstat3 names without the prefix (RFC 1813, 2.6). */
export type Status =
  | 'PERM'
  | 'NOENT'
  | 'IO'
  | 'NXIO'
  | 'ACCES'
  | 'EXIST'
  | 'XDEV'
  | 'NODEV'
  | 'NOTDIR'
  | 'ISDIR'
  | 'INVAL'
  | 'FBIG'
  | 'NOSPC'
  | 'ROFS'
  | 'MLINK'
  | 'NAMETOOLONG'
  | 'NOTEMPTY'
  | 'DQUOT'
  | 'STALE'
  | 'BADHANDLE'
  | 'NOT_SYNC'
  | 'BAD_COOKIE'
  | 'NOTSUPP'
  | 'TOOSMALL'
  | 'SERVERFAULT'
  | 'BADTYPE'
  | 'JUKEBOX'

export type FileType = 'REG' | 'DIR' | 'BLK' | 'CHR' | 'LNK' | 'SOCK' | 'FIFO'

export interface Attributes {
  readonly type: FileType
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  /** Bytes. */
  readonly size: number
  /** Bytes on disk. */
  readonly used: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  /** File-system id (48 bits), the same for every file of a volume. */
  readonly fsid: number
  readonly fileid: number
  readonly atime: Time
  readonly mtime: Time
  readonly ctime: Time
}

/** What pre-operation attributes NFSv3 wants back (wcc_attr). */
export interface PreAttributes {
  readonly size: number
  readonly mtime: Time
  readonly ctime: Time
}

/** Weak cache consistency data of one object; either part may be missing. */
export interface Wcc {
  readonly before?: PreAttributes
  readonly after?: Attributes
}

export interface SetAttributes {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  /** 'now' takes the server's clock. */
  readonly atime?: Time | 'now'
  readonly mtime?: Time | 'now'
}

/** Identity of a call for the duplicate-request cache: not the address or port, which a reconnection changes. */
export interface DuplicateKey {
  readonly machine: string
  readonly xid: number
  readonly procedure: number
  /** CRC-32 of the call's arguments. */
  readonly checksum: number
}

/** Who calls, after the export's squashing. */
export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly gids: readonly number[]
}

/**
 * Goes with a call that must not happen twice. `encode` turns the result into the reply body that is kept in the log
 * record and the duplicate-request cache (at most REPLY_BYTES_MAX), so that a retransmission gets the first answer, even
 * from the partner. It is called once, synchronously, in the modify phase; for failures too.
 */
export interface Duplicate<R> {
  readonly key: DuplicateKey
  encode(result: R): Uint8Array
}
export const REPLY_BYTES_MAX = 400

export type Failed<X = unknown> = { readonly ok: false; readonly status: Status } & X
export type Ok<T> = { readonly ok: true } & T
export type Result<T, F = unknown> = Ok<T> | Failed<F>

export interface ObjectRef {
  readonly handle: Uint8Array
  readonly attributes: Attributes
}
export type GetattrResult = Result<{ attributes: Attributes }>
export type SetattrResult = Result<{ wcc: Wcc }, { wcc: Wcc }>
export type LookupResult = Result<{ object: ObjectRef; directory?: Attributes }, { directory?: Attributes }>
export type AccessResult = Result<{ attributes: Attributes; access: number }, { attributes?: Attributes }>
export type ReadlinkResult = Result<{ attributes: Attributes; path: string }, { attributes?: Attributes }>
export type ReadResult = Result<
  { attributes: Attributes; data: Uint8Array; eof: boolean },
  { attributes?: Attributes }
>
export type Stability = 'UNSTABLE' | 'DATA_SYNC' | 'FILE_SYNC'
export type WriteResult = Result<
  { wcc: Wcc; count: number; committed: Stability; verifier: Uint8Array },
  { wcc: Wcc }
>
/** For CREATE, MKDIR, SYMLINK, MKNOD: `wcc` is the directory's. */
export type MakeResult = Result<{ object: ObjectRef; wcc: Wcc }, { wcc: Wcc }>
/** For REMOVE, RMDIR: `wcc` is the directory's. */
export type RemoveResult = Result<{ wcc: Wcc }, { wcc: Wcc }>
export type RenameResult = Result<{ from: Wcc; to: Wcc }, { from: Wcc; to: Wcc }>
export type LinkResult = Result<{ attributes: Attributes; wcc: Wcc }, { attributes?: Attributes; wcc: Wcc }>
export interface DirectoryEntry {
  readonly name: string
  readonly fileid: number
  /** Position behind this entry; stable across inserts and deletes. Below 2^53. */
  readonly cookie: number
  /** With `plus` only. */
  readonly object?: ObjectRef
}
export type ReaddirResult = Result<
  { attributes: Attributes; verifier: Uint8Array; entries: readonly DirectoryEntry[]; eof: boolean },
  { attributes?: Attributes }
>
export type FsstatResult = Result<
  { attributes: Attributes; totalBytes: number; freeBytes: number; totalFiles: number; freeFiles: number },
  { attributes?: Attributes }
>
export type CommitResult = Result<{ wcc: Wcc; verifier: Uint8Array }, { wcc: Wcc }>

export type CreateHow =
  | { readonly mode: 'UNCHECKED' | 'GUARDED'; readonly attributes: SetAttributes }
  | { readonly mode: 'EXCLUSIVE'; readonly verifier: Uint8Array }

export interface ExportRule {
  /** CIDR blocks or single addresses. */
  readonly clients: readonly string[]
  readonly access: 'ReadWrite' | 'ReadOnly'
  readonly squash: 'None' | 'Root' | 'All'
}

/** A volume's export; the object is replaced, never changed, when the rules change. */
export interface Export {
  readonly path: string
  readonly volume: string
  readonly rules: readonly ExportRule[]
  readonly root: Uint8Array
}

/** The handle's volume exists but another filer serves it: the server closes the connection, so that the client finds the owner. */
export class NotServedError extends Error {
  constructor() {
    super('volume is not served here')
    this.name = 'NotServedError'
  }
}

export interface Vfs {
  /** All exports that this filer serves now. Throws NotServedError while it serves nothing yet, or has not opened all that it will. */
  exports(): readonly Export[]
  /** The export to which a handle belongs. Throws NotServedError; 'STALE' or 'BADHANDLE' for what is gone or no handle of ours, 'JUKEBOX' for what will be served again. */
  exportOf(handle: Uint8Array): Export | 'STALE' | 'BADHANDLE' | 'JUKEBOX'
  /** The first answer to a call that was already executed; undefined if it was not, or was forgotten. Waits until that answer may be given. */
  duplicate(handle: Uint8Array, key: DuplicateKey): MaybePromise<Uint8Array | undefined>

  getattr(handle: Uint8Array): MaybePromise<GetattrResult>
  /** `guard`: the ctime that the object must still have (NOT_SYNC else). */
  setattr(
    caller: Caller,
    handle: Uint8Array,
    set: SetAttributes,
    guard?: Time,
    dup?: Duplicate<SetattrResult>,
  ): MaybePromise<SetattrResult>
  lookup(caller: Caller, directory: Uint8Array, name: string): MaybePromise<LookupResult>
  /** `wanted` and the answer are ACCESS3 bits (RFC 1813, 3.3.4). */
  access(caller: Caller, handle: Uint8Array, wanted: number): MaybePromise<AccessResult>
  readlink(caller: Caller, handle: Uint8Array): MaybePromise<ReadlinkResult>
  /** `reserve(n)` gives the buffer of n bytes that the data is copied to and that becomes `data`. */
  read(
    caller: Caller,
    handle: Uint8Array,
    offset: number,
    count: number,
    reserve: (bytes: number) => Uint8Array,
  ): MaybePromise<ReadResult>
  /** `data` must stay unchanged until the answer. */
  write(
    caller: Caller,
    handle: Uint8Array,
    offset: number,
    data: Uint8Array,
    stable: Stability,
  ): MaybePromise<WriteResult>
  create(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    how: CreateHow,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult>
  mkdir(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    set: SetAttributes,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult>
  symlink(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    path: string,
    set: SetAttributes,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult>
  mknod(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    type: 'BLK' | 'CHR' | 'SOCK' | 'FIFO',
    set: SetAttributes,
    rdevMajor: number,
    rdevMinor: number,
    dup?: Duplicate<MakeResult>,
  ): MaybePromise<MakeResult>
  remove(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<RemoveResult>,
  ): MaybePromise<RemoveResult>
  rmdir(
    caller: Caller,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<RemoveResult>,
  ): MaybePromise<RemoveResult>
  rename(
    caller: Caller,
    from: Uint8Array,
    fromName: string,
    to: Uint8Array,
    toName: string,
    dup?: Duplicate<RenameResult>,
  ): MaybePromise<RenameResult>
  link(
    caller: Caller,
    handle: Uint8Array,
    directory: Uint8Array,
    name: string,
    dup?: Duplicate<LinkResult>,
  ): MaybePromise<LinkResult>
  /** At most `entriesMax` entries behind `cookie` (0 from the start; `.` and `..` come first). `plus` adds attributes and handles. */
  readdir(
    caller: Caller,
    directory: Uint8Array,
    cookie: number,
    verifier: Uint8Array,
    entriesMax: number,
    plus: boolean,
  ): MaybePromise<ReaddirResult>
  fsstat(handle: Uint8Array): MaybePromise<FsstatResult>
  commit(caller: Caller, handle: Uint8Array, offset: number, count: number): MaybePromise<CommitResult>
}
