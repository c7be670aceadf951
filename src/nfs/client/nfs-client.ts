/**
 * An NFSv3 and MOUNT client over `RpcClient`, for tests, the demonstration and load. Results have the shapes of core/vfs; a failed
 * call throws `NfsError` with the status and, where there is one, the directory's or file's wcc data.
 */
import type { Time } from '../../core/env/env.ts'
import type {
  Attributes,
  CreateHow,
  DirectoryEntry,
  ObjectRef,
  SetAttributes,
  Stability,
  Status,
  Wcc,
} from '../../core/vfs/vfs.ts'
import { MOUNT_PROGRAM, MOUNT_V3 } from '../mount/mount3.ts'
import type { ProcedureName } from '../v3/constants.ts'
import {
  CREATE_MODE,
  FTYPE,
  NFS3_FHSIZE,
  NFS_PROGRAM,
  NFS_V3,
  PROCEDURES,
  STABLE_HOW,
  STATUS,
  STATUS_NAMES,
} from '../v3/constants.ts'
import { writeTime } from '../v3/types.ts'
import type { XdrReader, XdrWriter } from '../xdr.ts'
import { opaqueBytes } from '../xdr.ts'
import { SATTR_BYTES_MAX, readAttributes, readPostOp, readWcc, writeSattr } from './decode.ts'
import type { RpcClientOptions } from './rpc-client.ts'
import { RpcClient } from './rpc-client.ts'

export class NfsError extends Error {
  readonly status: Status
  readonly wcc: Wcc | undefined
  constructor(procedure: string, status: Status, wcc?: Wcc) {
    super(`${procedure}: ${status}`)
    this.name = 'NfsError'
    this.status = status
    this.wcc = wcc
  }
}

export interface Made extends Partial<ObjectRef> {
  readonly wcc: Wcc
}
export interface Listing {
  readonly attributes: Attributes | undefined
  readonly verifier: Uint8Array
  readonly entries: readonly DirectoryEntry[]
  readonly eof: boolean
}
export interface ExportEntry {
  readonly path: string
  readonly groups: readonly string[]
}
export interface Fsinfo {
  readonly attributes: Attributes | undefined
  readonly rtmax: number
  readonly rtpref: number
  readonly rtmult: number
  readonly wtmax: number
  readonly wtpref: number
  readonly wtmult: number
  readonly dtpref: number
  readonly maxFileSize: number
  readonly timeDelta: Time
  readonly properties: number
}
export interface Pathconf {
  readonly attributes: Attributes | undefined
  readonly linkmax: number
  readonly nameMax: number
  readonly noTrunc: boolean
  readonly chownRestricted: boolean
  readonly caseInsensitive: boolean
  readonly casePreserving: boolean
}

/** Procedures that must not happen twice. */
const ONCE = new Set<ProcedureName>([
  'CREATE',
  'MKDIR',
  'SYMLINK',
  'MKNOD',
  'REMOVE',
  'RMDIR',
  'RENAME',
  'LINK',
])

const JUKEBOX_MS = 100
const FH = opaqueBytes(NFS3_FHSIZE)
const nameBytes = (name: string): number => opaqueBytes(name.length)

export class NfsClient {
  readonly rpc: RpcClient

  constructor(options: RpcClientOptions) {
    this.rpc = new RpcClient(options)
  }

  close(): void {
    this.rpc.close()
  }

  /** A server that says JUKEBOX has done nothing and wants to be asked later, as other clients do; by then it may be another one (`redirect`). */
  async #nfs(
    procedure: ProcedureName,
    bytesMax: number,
    write: (w: XdrWriter) => void,
    tail?: Uint8Array,
  ): Promise<XdrReader> {
    const number = PROCEDURES.indexOf(procedure)
    for (;;) {
      const once = ONCE.has(procedure)
      const r = await this.rpc.call(NFS_PROGRAM, NFS_V3, number, bytesMax, write, tail, once)
      if (r.left < 4 || r.view.getUint32(r.at) !== STATUS.JUKEBOX) return r
      this.rpc.notExecuted(r)
      await new Promise((resolve) => setTimeout(resolve, JUKEBOX_MS))
    }
  }

  /** Reads the status; throws when it is not OK, after `failure` has read what comes with it. */
  #check(procedure: string, r: XdrReader, failure?: (r: XdrReader) => Wcc | undefined): void {
    const code = r.u32()
    if (code === 0) return
    throw new NfsError(procedure, STATUS_NAMES.get(code) ?? 'SERVERFAULT', failure?.(r))
  }

  async null(): Promise<void> {
    await this.#nfs('NULL', 0, () => undefined)
  }

  /** The root handle of an export, or of a directory below it. */
  async mount(path: string): Promise<Buffer> {
    const r = await this.rpc.call(MOUNT_PROGRAM, MOUNT_V3, 1, nameBytes(path), (w) => w.string(path))
    this.#check('MNT', r)
    return Buffer.from(r.opaque(NFS3_FHSIZE))
  }

  /** As `mount`, with the authentication flavours that the server takes. */
  async mountFlavors(path: string): Promise<number[]> {
    const r = await this.rpc.call(MOUNT_PROGRAM, MOUNT_V3, 1, nameBytes(path), (w) => w.string(path))
    this.#check('MNT', r)
    r.opaque(NFS3_FHSIZE)
    return Array.from({ length: r.u32() }, () => r.u32())
  }

  async dump(): Promise<number> {
    const r = await this.rpc.call(MOUNT_PROGRAM, MOUNT_V3, 2, 0, () => undefined)
    let entries = 0
    while (r.bool()) {
      r.string(1024)
      r.string(1024)
      entries++
    }
    return entries
  }

  async unmount(path: string): Promise<void> {
    await this.rpc.call(MOUNT_PROGRAM, MOUNT_V3, 3, nameBytes(path), (w) => w.string(path))
  }

  async unmountAll(): Promise<void> {
    await this.rpc.call(MOUNT_PROGRAM, MOUNT_V3, 4, 0, () => undefined)
  }

  async exports(): Promise<ExportEntry[]> {
    const r = await this.rpc.call(MOUNT_PROGRAM, MOUNT_V3, 5, 0, () => undefined)
    const entries: ExportEntry[] = []
    while (r.bool()) {
      const path = r.string(1024)
      const groups: string[] = []
      while (r.bool()) groups.push(r.string(1024))
      entries.push({ path, groups })
    }
    return entries
  }

  async getattr(object: Uint8Array): Promise<Attributes> {
    const r = await this.#nfs('GETATTR', FH, (w) => w.opaque(object))
    this.#check('GETATTR', r)
    return readAttributes(r)
  }

  async setattr(object: Uint8Array, set: SetAttributes, guard?: Time): Promise<Wcc> {
    const r = await this.#nfs('SETATTR', FH + SATTR_BYTES_MAX + 12, (w) => {
      w.opaque(object)
      writeSattr(w, set)
      w.bool(guard !== undefined)
      if (guard) writeTime(w, guard)
    })
    this.#check('SETATTR', r, readWcc)
    return readWcc(r)
  }

  async lookup(dir: Uint8Array, name: string): Promise<ObjectRef & { directory: Attributes | undefined }> {
    const r = await this.#nfs('LOOKUP', FH + nameBytes(name), (w) => {
      w.opaque(dir)
      w.string(name)
    })
    this.#check('LOOKUP', r)
    const handle = Buffer.from(r.opaque(NFS3_FHSIZE))
    const attributes = readPostOp(r) ?? (await this.getattr(handle))
    return { handle, attributes, directory: readPostOp(r) }
  }

  /** Walks down a path of names. */
  async resolve(root: Uint8Array, path: string): Promise<Uint8Array> {
    let handle = root
    for (const name of path.split('/').filter(Boolean)) handle = (await this.lookup(handle, name)).handle
    return handle
  }

  async access(object: Uint8Array, wanted: number): Promise<number> {
    const r = await this.#nfs('ACCESS', FH + 4, (w) => {
      w.opaque(object)
      w.u32(wanted)
    })
    this.#check('ACCESS', r)
    readPostOp(r)
    return r.u32()
  }

  async readlink(symlink: Uint8Array): Promise<string> {
    const r = await this.#nfs('READLINK', FH, (w) => w.opaque(symlink))
    this.#check('READLINK', r)
    readPostOp(r)
    return r.string(1024)
  }

  async read(
    file: Uint8Array,
    offset: number,
    count: number,
  ): Promise<{ attributes: Attributes | undefined; data: Uint8Array; eof: boolean }> {
    const r = await this.#nfs('READ', FH + 12, (w) => {
      w.opaque(file)
      w.u64(offset)
      w.u32(count)
    })
    this.#check('READ', r)
    const attributes = readPostOp(r)
    r.u32()
    const eof = r.bool()
    return { attributes, eof, data: r.opaque(r.left) }
  }

  async write(
    file: Uint8Array,
    offset: number,
    data: Uint8Array,
    stable: Stability = 'FILE_SYNC',
  ): Promise<{ wcc: Wcc; count: number; committed: Stability; verifier: Uint8Array }> {
    const r = await this.#nfs(
      'WRITE',
      FH + 20,
      (w) => {
        w.opaque(file)
        w.u64(offset)
        w.u32(data.byteLength)
        w.u32(STABLE_HOW.indexOf(stable))
        w.u32(data.byteLength)
      },
      data,
    )
    this.#check('WRITE', r, readWcc)
    const wcc = readWcc(r)
    const count = r.u32()
    const committed = STABLE_HOW[r.u32()]!
    return { wcc, count, committed, verifier: r.fixed(8) }
  }

  async #made(procedure: ProcedureName, bytesMax: number, write: (w: XdrWriter) => void): Promise<Made> {
    const r = await this.#nfs(procedure, bytesMax, write)
    this.#check(procedure, r, readWcc)
    const handle = r.bool() ? Buffer.from(r.opaque(NFS3_FHSIZE)) : undefined
    const attributes = readPostOp(r)
    return { ...(handle && { handle }), ...(attributes && { attributes }), wcc: readWcc(r) }
  }

  create(
    dir: Uint8Array,
    name: string,
    how: CreateHow = { mode: 'UNCHECKED', attributes: { mode: 0o644 } },
  ): Promise<Made> {
    return this.#made('CREATE', FH + nameBytes(name) + 4 + SATTR_BYTES_MAX, (w) => {
      w.opaque(dir)
      w.string(name)
      w.u32(CREATE_MODE.indexOf(how.mode))
      if (how.mode === 'EXCLUSIVE') w.fixed(how.verifier)
      else writeSattr(w, how.attributes)
    })
  }

  mkdir(dir: Uint8Array, name: string, set: SetAttributes = { mode: 0o755 }): Promise<Made> {
    return this.#made('MKDIR', FH + nameBytes(name) + SATTR_BYTES_MAX, (w) => {
      w.opaque(dir)
      w.string(name)
      writeSattr(w, set)
    })
  }

  symlink(dir: Uint8Array, name: string, path: string, set: SetAttributes = {}): Promise<Made> {
    return this.#made('SYMLINK', FH + nameBytes(name) + SATTR_BYTES_MAX + nameBytes(path), (w) => {
      w.opaque(dir)
      w.string(name)
      writeSattr(w, set)
      w.string(path)
    })
  }

  mknod(
    dir: Uint8Array,
    name: string,
    type: 'BLK' | 'CHR' | 'SOCK' | 'FIFO',
    set: SetAttributes = {},
    rdevMajor = 0,
    rdevMinor = 0,
  ): Promise<Made> {
    return this.#made('MKNOD', FH + nameBytes(name) + 12 + SATTR_BYTES_MAX, (w) => {
      w.opaque(dir)
      w.string(name)
      w.u32(FTYPE[type])
      writeSattr(w, set)
      if (type !== 'BLK' && type !== 'CHR') return
      w.u32(rdevMajor)
      w.u32(rdevMinor)
    })
  }

  async #removed(procedure: 'REMOVE' | 'RMDIR', dir: Uint8Array, name: string): Promise<Wcc> {
    const r = await this.#nfs(procedure, FH + nameBytes(name), (w) => {
      w.opaque(dir)
      w.string(name)
    })
    this.#check(procedure, r, readWcc)
    return readWcc(r)
  }

  remove(dir: Uint8Array, name: string): Promise<Wcc> {
    return this.#removed('REMOVE', dir, name)
  }

  rmdir(dir: Uint8Array, name: string): Promise<Wcc> {
    return this.#removed('RMDIR', dir, name)
  }

  async rename(
    from: Uint8Array,
    fromName: string,
    to: Uint8Array,
    toName: string,
  ): Promise<{ from: Wcc; to: Wcc }> {
    const r = await this.#nfs('RENAME', 2 * FH + nameBytes(fromName) + nameBytes(toName), (w) => {
      w.opaque(from)
      w.string(fromName)
      w.opaque(to)
      w.string(toName)
    })
    this.#check('RENAME', r, readWcc)
    return { from: readWcc(r), to: readWcc(r) }
  }

  async link(
    file: Uint8Array,
    dir: Uint8Array,
    name: string,
  ): Promise<{ attributes: Attributes | undefined; wcc: Wcc }> {
    const r = await this.#nfs('LINK', 2 * FH + nameBytes(name), (w) => {
      w.opaque(file)
      w.opaque(dir)
      w.string(name)
    })
    this.#check('LINK', r)
    return { attributes: readPostOp(r), wcc: readWcc(r) }
  }

  async readdir(
    dir: Uint8Array,
    cookie = 0,
    verifier: Uint8Array = Buffer.alloc(8),
    count = 65536,
  ): Promise<Listing> {
    const r = await this.#nfs('READDIR', FH + 20, (w) => {
      w.opaque(dir)
      w.u64(cookie)
      w.fixed(verifier)
      w.u32(count)
    })
    this.#check('READDIR', r)
    return readListing(r, false)
  }

  async readdirplus(
    dir: Uint8Array,
    cookie = 0,
    verifier: Uint8Array = Buffer.alloc(8),
    maxcount = 65536,
    dircount = maxcount,
  ): Promise<Listing> {
    const r = await this.#nfs('READDIRPLUS', FH + 24, (w) => {
      w.opaque(dir)
      w.u64(cookie)
      w.fixed(verifier)
      w.u32(dircount)
      w.u32(maxcount)
    })
    this.#check('READDIRPLUS', r)
    return readListing(r, true)
  }

  /** All entries of a directory, `.` and `..` left out. */
  async list(dir: Uint8Array): Promise<DirectoryEntry[]> {
    const all: DirectoryEntry[] = []
    let cookie = 0
    let verifier: Uint8Array = Buffer.alloc(8)
    for (;;) {
      const { entries, eof, verifier: next } = await this.readdirplus(dir, cookie, verifier)
      all.push(...entries.filter(({ name }) => name !== '.' && name !== '..'))
      if (eof || entries.length === 0) return all
      cookie = entries.at(-1)!.cookie
      verifier = next
    }
  }

  async fsstat(
    root: Uint8Array,
  ): Promise<{ totalBytes: number; freeBytes: number; totalFiles: number; freeFiles: number }> {
    const r = await this.#nfs('FSSTAT', FH, (w) => w.opaque(root))
    this.#check('FSSTAT', r)
    readPostOp(r)
    const [totalBytes, freeBytes, , totalFiles, freeFiles] = Array.from({ length: 6 }, () => r.u64())
    return { totalBytes: totalBytes!, freeBytes: freeBytes!, totalFiles: totalFiles!, freeFiles: freeFiles! }
  }

  async fsinfo(root: Uint8Array): Promise<Fsinfo> {
    const r = await this.#nfs('FSINFO', FH, (w) => w.opaque(root))
    this.#check('FSINFO', r)
    return {
      attributes: readPostOp(r),
      rtmax: r.u32(),
      rtpref: r.u32(),
      rtmult: r.u32(),
      wtmax: r.u32(),
      wtpref: r.u32(),
      wtmult: r.u32(),
      dtpref: r.u32(),
      maxFileSize: r.u64(),
      timeDelta: { seconds: r.u32(), nanoseconds: r.u32() },
      properties: r.u32(),
    }
  }

  async pathconf(object: Uint8Array): Promise<Pathconf> {
    const r = await this.#nfs('PATHCONF', FH, (w) => w.opaque(object))
    this.#check('PATHCONF', r)
    return {
      attributes: readPostOp(r),
      linkmax: r.u32(),
      nameMax: r.u32(),
      noTrunc: r.bool(),
      chownRestricted: r.bool(),
      caseInsensitive: r.bool(),
      casePreserving: r.bool(),
    }
  }

  async commit(file: Uint8Array, offset = 0, count = 0): Promise<{ wcc: Wcc; verifier: Uint8Array }> {
    const r = await this.#nfs('COMMIT', FH + 12, (w) => {
      w.opaque(file)
      w.u64(offset)
      w.u32(count)
    })
    this.#check('COMMIT', r, readWcc)
    return { wcc: readWcc(r), verifier: r.fixed(8) }
  }
}

function readListing(r: XdrReader, plus: boolean): Listing {
  const attributes = readPostOp(r)
  const verifier = Buffer.from(r.fixed(8))
  const entries: DirectoryEntry[] = []
  while (r.bool()) {
    const fileid = r.u64()
    const name = r.string(r.left)
    const cookie = r.u64()
    if (!plus) {
      entries.push({ fileid, name, cookie })
      continue
    }
    const object = readPostOp(r)
    const handle = r.bool() ? Buffer.from(r.opaque(NFS3_FHSIZE)) : undefined
    entries.push({
      fileid,
      name,
      cookie,
      ...(object && handle && { object: { handle, attributes: object } }),
    })
  }
  return { attributes, verifier, entries, eof: r.bool() }
}
