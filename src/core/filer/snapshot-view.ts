/**
 * A volume as its clients see it: its files, and `.snapshot` in its root directory, where each snapshot is a directory of its own, for reading only.
 *
 * - `.snapshot` is found by LOOKUP and not listed by READDIR, so that what walks a tree (rm -r, tar, rsync) does not walk into it. No file can have its name in
 *   the root directory; one that had it before is hidden.
 * - The handle says which snapshot an object belongs to (core/fs/handle.ts); those of a deleted one are STALE.
 * - A snapshot's objects have the volume's inode numbers, and a file-system id of their own: so clients keep them apart.
 *
 * It routes and lists. What snapshots there are is the block layer's; how their files are read is core/fs's.
 */
import type { Time } from '../env/env.ts'
import { decodeHandle, encodeHandle, inoOf, SNAPSHOT_DIRECTORY, snapshotOf } from '../fs/handle.ts'
import { ROOT_INO } from '../fs/inodes.ts'
import type { Journal } from '../fs/journal.ts'
import { FileSystem } from '../fs/volume.ts'
import type { FileSystemOptions } from '../fs/volume.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { then } from '../std/maybe.ts'
import type { MaybePromise } from '../std/maybe.ts'
import type {
  Attributes,
  Caller,
  DirectoryEntry,
  LookupResult,
  ObjectRef,
  ReaddirResult,
  Result,
  Status,
  Wcc,
} from '../vfs/vfs.ts'
import { HANDLE_BYTES } from '../vfs/vfs.ts'
import type { VolumeVfs } from './filer-vfs.ts'
import type { Volume } from '../block/volume.ts'

export const SNAPSHOT_NAME = '.snapshot'
/** Never an inode of a volume. */
const DIRECTORY_INO = 1
const ACCESS_READ_LOOKUP = 0x03
const COOKIE_OF_SELF = 1
const COOKIE_OF_PARENT = 2

const NO_VERIFIER = new Uint8Array(8)

function failed(status: Status) {
  const none: Wcc = {}
  return { ok: false as const, status, wcc: none, from: none, to: none }
}

/** What a handle leads to. */
type Place = { readonly files: FileSystem } | 'DIRECTORY' | 'STALE'

export class SnapshotView implements VolumeVfs {
  readonly #env: FileSystemOptions['env']
  readonly #volume: Volume<FileSystem>
  readonly #journal: Pick<Journal, 'answer'>
  readonly #opened = new Map<number, FileSystem>()

  constructor(env: FileSystemOptions['env'], volume: Volume<FileSystem>, journal: Pick<Journal, 'answer'>) {
    this.#env = env
    this.#volume = volume
    this.#journal = journal
  }

  readonly duplicate: VolumeVfs['duplicate'] = (handle, key) =>
    isPlain(handle) ? this.#files.duplicate(handle, key) : undefined

  readonly getattr: VolumeVfs['getattr'] = (handle) =>
    this.#read(
      handle,
      (files) => files.getattr(handle),
      () => ({ ok: true, attributes: this.#attributes() }),
    )

  readonly setattr: VolumeVfs['setattr'] = (caller, handle, set, guard, dup) =>
    this.#refusal(handle) ?? this.#files.setattr(caller, handle, set, guard, dup)

  readonly lookup: VolumeVfs['lookup'] = (caller, directory, name) => {
    if (isRoot(directory) && name === SNAPSHOT_NAME && isPlain(directory))
      return this.#enter(caller, directory)
    if (isRoot(directory) && name === '..' && !isPlain(directory)) return this.#enter(caller, directory)
    return this.#read(
      directory,
      (files) => files.lookup(caller, directory, name),
      () => this.#lookupIn(name),
    )
  }

  /** `.snapshot`, for who may search the directory that it is looked up in. */
  #enter(caller: Caller, directory: Uint8Array): MaybePromise<LookupResult> {
    const found = this.#read(
      directory,
      (files) => files.lookup(caller, directory, '.'),
      () => this.#lookupIn('.'),
    )
    return then(found, (result): LookupResult => (result.ok ? { ...result, object: this.#self() } : result))
  }

  #lookupIn(name: string): MaybePromise<LookupResult> {
    const directory = this.#attributes()
    if (name === '.') return { ok: true, object: this.#self(), directory }
    const files = name === '..' ? this.#files : this.#named(name)
    if (files === undefined) return { ok: false, status: 'NOENT', directory }
    return then(files.root(), (root): LookupResult => ({ ...root, directory }))
  }

  readonly access: VolumeVfs['access'] = (caller, handle, wanted) =>
    this.#read(
      handle,
      (files) => files.access(caller, handle, wanted),
      () => ({ ok: true, attributes: this.#attributes(), access: wanted & ACCESS_READ_LOOKUP }),
    )

  readonly readlink: VolumeVfs['readlink'] = (caller, handle) =>
    this.#read(
      handle,
      (files) => files.readlink(caller, handle),
      () => ({ ok: false, status: 'INVAL', attributes: this.#attributes() }),
    )

  readonly read: VolumeVfs['read'] = (caller, handle, offset, count, reserve) =>
    this.#read(
      handle,
      (files) => files.read(caller, handle, offset, count, reserve),
      () => ({ ok: false, status: 'ISDIR', attributes: this.#attributes() }),
    )

  readonly write: VolumeVfs['write'] = (caller, handle, offset, data, stable) =>
    this.#refusal(handle) ?? this.#files.write(caller, handle, offset, data, stable)

  readonly create: VolumeVfs['create'] = (caller, directory, name, how, dup) =>
    this.#refusal(directory, name) ?? this.#files.create(caller, directory, name, how, dup)

  readonly mkdir: VolumeVfs['mkdir'] = (caller, directory, name, set, dup) =>
    this.#refusal(directory, name) ?? this.#files.mkdir(caller, directory, name, set, dup)

  readonly symlink: VolumeVfs['symlink'] = (caller, directory, name, path, set, dup) =>
    this.#refusal(directory, name) ?? this.#files.symlink(caller, directory, name, path, set, dup)

  readonly mknod: VolumeVfs['mknod'] = (caller, directory, name, type, set, rdevMajor, rdevMinor, dup) =>
    this.#refusal(directory, name) ??
    this.#files.mknod(caller, directory, name, type, set, rdevMajor, rdevMinor, dup)

  readonly remove: VolumeVfs['remove'] = (caller, directory, name, dup) =>
    this.#refusal(directory, name, 'ACCES') ?? this.#files.remove(caller, directory, name, dup)

  readonly rmdir: VolumeVfs['rmdir'] = (caller, directory, name, dup) =>
    this.#refusal(directory, name, 'ACCES') ?? this.#files.rmdir(caller, directory, name, dup)

  readonly rename: VolumeVfs['rename'] = (caller, from, fromName, to, toName, dup) =>
    this.#refusal(from, fromName, 'ACCES') ??
    this.#refusal(to, toName, 'ACCES') ??
    this.#files.rename(caller, from, fromName, to, toName, dup)

  readonly link: VolumeVfs['link'] = (caller, handle, directory, name, dup) =>
    this.#refusal(handle) ??
    this.#refusal(directory, name) ??
    this.#files.link(caller, handle, directory, name, dup)

  readonly readdir: VolumeVfs['readdir'] = (caller, directory, cookie, verifier, entriesMax, plus) =>
    this.#read(
      directory,
      (files) => files.readdir(caller, directory, cookie, verifier, entriesMax, plus),
      () => this.#list(cookie, entriesMax, plus),
    )

  /** Cookies are ids, which grow and are never used again: one names a place for ever. */
  #list(cookie: number, entriesMax: number, plus: boolean): MaybePromise<ReaddirResult> {
    const attributes = this.#attributes()
    if (entriesMax < 1) return { ok: false, status: 'TOOSMALL', attributes }
    const all: { name: string; fileid: number; cookie: number; files?: FileSystem }[] = [
      { name: '.', fileid: DIRECTORY_INO, cookie: COOKIE_OF_SELF },
      { name: '..', fileid: ROOT_INO, cookie: COOKIE_OF_PARENT, files: this.#files },
    ]
    for (const { id, name } of this.#volume.snapshots.list()) {
      const files = plus ? this.#named(name) : undefined
      all.push({ name, fileid: ROOT_INO, cookie: COOKIE_OF_PARENT + id, ...(files && { files }) })
    }
    const rest = all.filter((entry) => entry.cookie > cookie)
    const found = rest.slice(0, entriesMax)
    const listed = (objects: readonly (ObjectRef | undefined)[]): ReaddirResult => ({
      ok: true,
      attributes,
      verifier: NO_VERIFIER,
      entries: found.map(({ name, fileid, cookie: position }, i): DirectoryEntry => {
        const object = objects[i]
        return { name, fileid, cookie: position, ...(object === undefined ? {} : { object }) }
      }),
      eof: found.length === rest.length,
    })
    if (!plus) return listed([])
    const objects = found.map(async ({ files }): Promise<ObjectRef | undefined> => {
      if (files === undefined) return this.#self()
      const root: Result<{ object: ObjectRef }> = await files.root()
      return root.ok ? root.object : undefined
    })
    return Promise.all(objects).then(listed)
  }

  readonly fsstat: VolumeVfs['fsstat'] = (handle) =>
    this.#read(
      handle,
      (files) => files.fsstat(handle),
      () => {
        const { totalBytes } = this.#space()
        const sizes = { totalBytes, freeBytes: 0, totalFiles: 0, freeFiles: 0 }
        return { ok: true, attributes: this.#attributes(), ...sizes }
      },
    )

  readonly commit: VolumeVfs['commit'] = (caller, handle, offset, count) =>
    this.#read(
      handle,
      (files) => files.commit(caller, handle, offset, count),
      () => failed('ROFS'),
    )

  get #files(): FileSystem {
    return this.#volume.content
  }

  #place(handle: Uint8Array): Place {
    const id = snapshotOf(handle)
    if (id === 0) return { files: this.#files }
    if (id === SNAPSHOT_DIRECTORY) {
      const fields = decodeHandle(this.#env.crc32, handle)
      return fields?.ino === DIRECTORY_INO && fields.fsid === this.#files.fsid ? 'DIRECTORY' : 'STALE'
    }
    const files = this.#open(id)
    return files === undefined ? 'STALE' : { files }
  }

  /** An operation that changes nothing. */
  #read<R>(
    handle: Uint8Array,
    within: (files: FileSystem) => MaybePromise<R>,
    directory: () => MaybePromise<R>,
  ): MaybePromise<R | ReturnType<typeof failed>> {
    if (isPlain(handle)) return within(this.#files)
    const place = this.#place(handle)
    if (place === 'STALE') return failed('STALE')
    if (place !== 'DIRECTORY') return within(place.files)
    // Whether this filer may still answer is asked as for any other object.
    return then(directory(), (result) => then(this.#journal.answer(0), () => result))
  }

  /** Why nothing is changed there, with `name` under it or itself; undefined if the files are asked. */
  #refusal(
    handle: Uint8Array,
    name?: string,
    reserved: Status = 'EXIST',
  ): ReturnType<typeof failed> | undefined {
    if (!isPlain(handle)) return failed(this.#place(handle) === 'STALE' ? 'STALE' : 'ROFS')
    return name === SNAPSHOT_NAME && isRoot(handle) ? failed(reserved) : undefined
  }

  #named(name: string): FileSystem | undefined {
    const snapshot = this.#volume.snapshots.named(name)
    return snapshot === undefined ? undefined : this.#open(snapshot.id)
  }

  #open(id: number): FileSystem | undefined {
    const { snapshots } = this.#volume
    const snapshot = snapshots.get(id)
    if (snapshot === undefined) {
      this.#opened.delete(id)
      return undefined
    }
    let files = this.#opened.get(id)
    if (files === undefined) {
      for (const known of this.#opened.keys())
        if (snapshots.get(known) === undefined) this.#opened.delete(known)
      files = new FileSystem({
        env: this.#env,
        store: this.#volume,
        journal: {
          admit: () => undefined,
          append: () => 0,
          answer: (seq) => this.#journal.answer(seq),
        },
        volume: this.#volume.index,
        root: snapshot.content,
        space: () => this.#space(),
        snapshot: { id, isThere: () => snapshot.visible },
      })
      this.#opened.set(id, files)
    }
    return files
  }

  #space(): { totalBytes: number; freeBytes: number } {
    return { totalBytes: this.#volume.space().totalBlocks * BLOCK_BYTES, freeBytes: 0 }
  }

  #self(): ObjectRef {
    const { crc32 } = this.#env
    return {
      handle: encodeHandle(crc32, this.#files.fsid, DIRECTORY_INO, 0, SNAPSHOT_DIRECTORY),
      attributes: this.#attributes(),
    }
  }

  /** Its times are another one whenever the list is. */
  #attributes(): Attributes {
    const list = this.#volume.snapshots.list()
    const ids = new Uint8Array(Uint32Array.from(list, ({ id }) => id).buffer)
    const seconds = list.reduce((latest, { created }) => Math.max(latest, created), 0)
    const time: Time = { seconds, nanoseconds: (this.#env.crc32(ids) >>> 0) % 1_000_000_000 }
    return {
      type: 'DIR',
      mode: 0o555,
      nlink: 2 + list.length,
      uid: 0,
      gid: 0,
      size: BLOCK_BYTES,
      used: 0,
      rdevMajor: 0,
      rdevMinor: 0,
      fsid: this.#files.fsid,
      fileid: DIRECTORY_INO,
      atime: time,
      mtime: time,
      ctime: time,
    }
  }
}

/** The handle is of the files as they are. */
function isPlain(handle: Uint8Array): boolean {
  return handle.length !== HANDLE_BYTES || snapshotOf(handle) === 0
}

/** The handle is of a root directory. */
function isRoot(handle: Uint8Array): boolean {
  return handle.length === HANDLE_BYTES && inoOf(handle) === ROOT_INO
}
