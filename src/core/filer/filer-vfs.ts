/**
 * The file system that a filer shows to its protocol servers: every volume of every side that it serves now, told apart by the
 * file-system id in the handle. Routing only; operations are the volume's (core/fs), durability and the right to answer are the journal's.
 */
import { getU48 } from '../fs/bytes.ts'
import type { Attributes, Export, Failed, Vfs, Wcc } from '../vfs/vfs.ts'
import { HANDLE_BYTES, NotServedError } from '../vfs/vfs.ts'

/** What one volume does for itself. */
export type VolumeVfs = Omit<Vfs, 'exports' | 'exportOf'>

export interface ServedVolume {
  readonly files: VolumeVfs
  readonly export: Export
}

/** Which volumes there are; the filer keeps it current over takeovers and changes of the desired state. */
export interface VolumeTable {
  /** 'ELSEWHERE': known to this pair, but not served here now. 'LATER': kept here for another pair, which serves it. Undefined: no such volume. */
  byFsid(fsid: number): ServedVolume | 'ELSEWHERE' | 'LATER' | undefined
  served(): Iterable<ServedVolume>
  /** Nothing is served yet, or a side is being opened: what is not in the table may come. */
  opening(): boolean
}

type Bad = Failed<{ wcc: Wcc; from: Wcc; to: Wcc; attributes?: Attributes }>
const fail = (status: Bad['status']): Bad => ({ ok: false, status, wcc: {}, from: {}, to: {} })
const STALE = fail('STALE')
const BADHANDLE = fail('BADHANDLE')
const XDEV = fail('XDEV')
const JUKEBOX = fail('JUKEBOX')

export class FilerVfs implements Vfs {
  readonly #table: VolumeTable

  constructor(table: VolumeTable) {
    this.#table = table
  }

  exports(): readonly Export[] {
    if (this.#table.opening()) throw new NotServedError()
    return [...this.#table.served()].map((volume) => volume.export)
  }

  exportOf(handle: Uint8Array): Export | 'STALE' | 'BADHANDLE' | 'JUKEBOX' {
    if (handle.length !== HANDLE_BYTES) return 'BADHANDLE'
    const found = this.#find(handle)
    if (found === 'LATER') return 'JUKEBOX'
    return found === undefined ? 'STALE' : found.export
  }

  readonly duplicate: Vfs['duplicate'] = (handle, key) => this.#volume(handle)?.duplicate(handle, key)

  readonly getattr: Vfs['getattr'] = (handle) => this.#volume(handle)?.getattr(handle) ?? this.#gone(handle)

  readonly setattr: Vfs['setattr'] = (caller, handle, set, guard, dup) =>
    this.#volume(handle)?.setattr(caller, handle, set, guard, dup) ?? this.#gone(handle)

  readonly lookup: Vfs['lookup'] = (caller, directory, name) =>
    this.#volume(directory)?.lookup(caller, directory, name) ?? this.#gone(directory)

  readonly access: Vfs['access'] = (caller, handle, wanted) =>
    this.#volume(handle)?.access(caller, handle, wanted) ?? this.#gone(handle)

  readonly readlink: Vfs['readlink'] = (caller, handle) =>
    this.#volume(handle)?.readlink(caller, handle) ?? this.#gone(handle)

  readonly read: Vfs['read'] = (caller, handle, offset, count, reserve) =>
    this.#volume(handle)?.read(caller, handle, offset, count, reserve) ?? this.#gone(handle)

  readonly write: Vfs['write'] = (caller, handle, offset, data, stable) =>
    this.#volume(handle)?.write(caller, handle, offset, data, stable) ?? this.#gone(handle)

  readonly create: Vfs['create'] = (caller, directory, name, how, dup) =>
    this.#volume(directory)?.create(caller, directory, name, how, dup) ?? this.#gone(directory)

  readonly mkdir: Vfs['mkdir'] = (caller, directory, name, set, dup) =>
    this.#volume(directory)?.mkdir(caller, directory, name, set, dup) ?? this.#gone(directory)

  readonly symlink: Vfs['symlink'] = (caller, directory, name, path, set, dup) =>
    this.#volume(directory)?.symlink(caller, directory, name, path, set, dup) ?? this.#gone(directory)

  readonly mknod: Vfs['mknod'] = (caller, directory, name, type, set, rdevMajor, rdevMinor, dup) => {
    const volume = this.#volume(directory)
    return (
      volume?.mknod(caller, directory, name, type, set, rdevMajor, rdevMinor, dup) ?? this.#gone(directory)
    )
  }

  readonly remove: Vfs['remove'] = (caller, directory, name, dup) =>
    this.#volume(directory)?.remove(caller, directory, name, dup) ?? this.#gone(directory)

  readonly rmdir: Vfs['rmdir'] = (caller, directory, name, dup) =>
    this.#volume(directory)?.rmdir(caller, directory, name, dup) ?? this.#gone(directory)

  readonly rename: Vfs['rename'] = (caller, from, fromName, to, toName, dup) => {
    const volume = this.#volume(from)
    if (volume !== undefined && volume !== this.#volume(to)) {
      return this.#volume(to) === undefined ? this.#gone(to) : XDEV
    }
    return volume?.rename(caller, from, fromName, to, toName, dup) ?? this.#gone(from)
  }

  readonly link: Vfs['link'] = (caller, handle, directory, name, dup) => {
    const volume = this.#volume(handle)
    if (volume !== undefined && volume !== this.#volume(directory)) {
      return this.#volume(directory) === undefined ? this.#gone(directory) : XDEV
    }
    return volume?.link(caller, handle, directory, name, dup) ?? this.#gone(handle)
  }

  readonly readdir: Vfs['readdir'] = (caller, directory, cookie, verifier, entriesMax, plus) =>
    this.#volume(directory)?.readdir(caller, directory, cookie, verifier, entriesMax, plus) ??
    this.#gone(directory)

  readonly fsstat: Vfs['fsstat'] = (handle) => this.#volume(handle)?.fsstat(handle) ?? this.#gone(handle)

  readonly commit: Vfs['commit'] = (caller, handle, offset, count) =>
    this.#volume(handle)?.commit(caller, handle, offset, count) ?? this.#gone(handle)

  #find(handle: Uint8Array): ServedVolume | 'LATER' | undefined {
    const found = this.#table.byFsid(getU48(handle, 2))
    if (found === 'ELSEWHERE') throw new NotServedError()
    return found
  }

  #volume(handle: Uint8Array): VolumeVfs | undefined {
    const found = handle.length === HANDLE_BYTES ? this.#find(handle) : undefined
    return found === 'LATER' ? undefined : found?.files
  }

  #gone(handle: Uint8Array): Bad {
    if (handle.length !== HANDLE_BYTES) return BADHANDLE
    return this.#find(handle) === 'LATER' ? JUKEBOX : STALE
  }
}
