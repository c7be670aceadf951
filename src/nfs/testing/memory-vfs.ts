/**
 * A file system in memory behind the Vfs interface, as simple as the procedures allow: for tests of the protocol layer, and to
 * measure it without storage below. No permissions, no holes, a duplicate-request cache without end.
 */
import type { Time } from '../../core/env/env.ts'
import type { MaybePromise } from '../../core/std/maybe.ts'
import type {
  Attributes,
  Caller,
  DirectoryEntry,
  Duplicate,
  Export,
  ExportRule,
  FileType,
  LinkResult,
  MakeResult,
  ObjectRef,
  RemoveResult,
  RenameResult,
  SetAttributes,
  SetattrResult,
  Status,
  Vfs,
  Wcc,
} from '../../core/vfs/vfs.ts'
import { HANDLE_BYTES, LINK_BYTES_MAX, NAME_BYTES_MAX, NotServedError } from '../../core/vfs/vfs.ts'

interface Node {
  readonly id: number
  readonly type: FileType
  mode: number
  nlink: number
  uid: number
  gid: number
  rdevMajor: number
  rdevMinor: number
  atime: Time
  mtime: Time
  ctime: Time
  data: Buffer
  size: number
  link: string
  verifier: string
  parent: number
  /** Name -> child and its position, for directories. */
  readonly entries: Map<string, { id: number; cookie: number }>
  nextCookie: number
}

const FSID = 0xabcdef
const FILE_BYTES_MAX = 1 << 28
const VERIFIER = Buffer.from('memory-1')

export interface MemoryVfsOptions {
  readonly rules?: readonly ExportRule[]
  readonly path?: string
  /** Every answer comes later, through a promise. */
  readonly delayed?: boolean
}

export class MemoryVfs implements Vfs {
  /** Not served here: every handle makes the connection go. */
  served = true
  /** Awaited before any delayed answer. */
  gate: Promise<unknown> = Promise.resolve()
  /** How often something was really changed. */
  changes = 0
  readonly #nodes = new Map<number, Node>()
  readonly #delayed: boolean
  readonly #replies = new Map<string, Uint8Array>()
  #export: Export
  #nextId = 1
  #ticks = 0

  constructor(options: MemoryVfsOptions = {}) {
    this.#delayed = options.delayed ?? false
    const root = this.#make('DIR', { mode: 0o777 }, 0)
    root.parent = root.id
    root.nlink = 2
    this.#export = {
      path: options.path ?? '/memory',
      volume: 'memory',
      rules: options.rules ?? [{ clients: ['0.0.0.0/0', '::/0'], access: 'ReadWrite', squash: 'None' }],
      root: this.#handle(root.id),
    }
  }

  setRules(rules: readonly ExportRule[]): void {
    this.#export = { ...this.#export, rules }
  }

  get root(): Uint8Array {
    return this.#export.root
  }

  #now(): Time {
    const ticks = ++this.#ticks
    return { seconds: 1_700_000_000 + Math.floor(ticks / 1e9), nanoseconds: ticks % 1e9 }
  }

  #handle(id: number): Uint8Array {
    const handle = Buffer.alloc(HANDLE_BYTES)
    handle.writeUInt32BE(FSID, 0)
    handle.writeUInt32BE(id, 4)
    return handle
  }

  #node(handle: Uint8Array): Node | 'BADHANDLE' | 'STALE' {
    if (handle.byteLength !== HANDLE_BYTES) return 'BADHANDLE'
    const view = new DataView(handle.buffer, handle.byteOffset, handle.byteLength)
    if (view.getUint32(0) !== FSID) return 'BADHANDLE'
    return this.#nodes.get(view.getUint32(4)) ?? 'STALE'
  }

  #make(type: FileType, set: SetAttributes, parent: number): Node {
    const now = this.#now()
    const node: Node = {
      id: this.#nextId++,
      type,
      mode: set.mode ?? 0o644,
      nlink: type === 'DIR' ? 2 : 1,
      uid: set.uid ?? 0,
      gid: set.gid ?? 0,
      rdevMajor: 0,
      rdevMinor: 0,
      atime: now,
      mtime: now,
      ctime: now,
      data: Buffer.alloc(0),
      size: 0,
      link: '',
      verifier: '',
      parent,
      entries: new Map(),
      nextCookie: 3,
    }
    this.#nodes.set(node.id, node)
    return node
  }

  #attributes(node: Node): Attributes {
    return {
      type: node.type,
      mode: node.mode,
      nlink: node.nlink,
      uid: node.uid,
      gid: node.gid,
      size: node.size,
      used: node.data.length,
      rdevMajor: node.rdevMajor,
      rdevMinor: node.rdevMinor,
      fsid: FSID,
      fileid: node.id,
      atime: node.atime,
      mtime: node.mtime,
      ctime: node.ctime,
    }
  }

  #answer<T>(value: T): MaybePromise<T> {
    return this.#delayed ? this.gate.then(() => value) : value
  }

  #once<R>(dup: Duplicate<R> | undefined, result: R): MaybePromise<R> {
    if (dup) this.#replies.set(JSON.stringify(dup.key), Uint8Array.from(dup.encode(result)))
    return this.#answer(result)
  }

  /** Runs a change of `node` and reports the attributes around it. */
  #change(node: Node, change?: () => void): Wcc {
    const before = { size: node.size, mtime: node.mtime, ctime: node.ctime }
    if (change) {
      this.changes++
      change()
      node.mtime = node.ctime = this.#now()
    }
    return { before, after: this.#attributes(node) }
  }

  #object(node: Node): ObjectRef {
    return { handle: this.#handle(node.id), attributes: this.#attributes(node) }
  }

  exports(): readonly Export[] {
    return [this.#export]
  }

  exportOf(handle: Uint8Array): Export | 'STALE' | 'BADHANDLE' {
    if (!this.served) throw new NotServedError()
    const node = this.#node(handle)
    return typeof node === 'string' ? node : this.#export
  }

  duplicate: Vfs['duplicate'] = (_handle, key) => this.#answer(this.#replies.get(JSON.stringify(key)))

  getattr: Vfs['getattr'] = (handle) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node }
    return this.#answer({ ok: true, attributes: this.#attributes(node) })
  }

  setattr: Vfs['setattr'] = (_caller, handle, set, guard, dup) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return this.#once(dup, { ok: false, status: node, wcc: {} })
    if (guard && (guard.seconds !== node.ctime.seconds || guard.nanoseconds !== node.ctime.nanoseconds))
      return this.#once(dup, { ok: false, status: 'NOT_SYNC', wcc: this.#change(node) })
    if (set.size !== undefined && node.type !== 'REG')
      return this.#once<SetattrResult>(dup, { ok: false, status: 'INVAL', wcc: this.#change(node) })
    if ((set.size ?? 0) > FILE_BYTES_MAX)
      return this.#once<SetattrResult>(dup, { ok: false, status: 'FBIG', wcc: this.#change(node) })
    const wcc = this.#change(node, () => {
      node.mode = set.mode ?? node.mode
      node.uid = set.uid ?? node.uid
      node.gid = set.gid ?? node.gid
      if (set.size !== undefined) this.#resize(node, set.size)
      if (set.atime) node.atime = set.atime === 'now' ? this.#now() : set.atime
    })
    if (set.mtime && set.mtime !== 'now') node.mtime = set.mtime
    return this.#once<SetattrResult>(dup, { ok: true, wcc: { ...wcc, after: this.#attributes(node) } })
  }

  #resize(node: Node, size: number): void {
    if (size > node.data.length) {
      const larger = Buffer.alloc(Math.max(size, 2 * node.data.length))
      node.data.copy(larger, 0, 0, node.size)
      node.data = larger
    } else if (size < node.size) node.data.fill(0, size, node.size)
    node.size = size
  }

  lookup: Vfs['lookup'] = (_caller, directory, name) => {
    const dir = this.#node(directory)
    if (typeof dir === 'string') return { ok: false, status: dir }
    const attributes = this.#attributes(dir)
    if (dir.type !== 'DIR') return this.#answer({ ok: false, status: 'NOTDIR', directory: attributes })
    const id = name === '.' ? dir.id : name === '..' ? dir.parent : dir.entries.get(name)?.id
    if (id === undefined)
      return this.#answer({
        ok: false,
        status: name.length > 255 ? 'NAMETOOLONG' : 'NOENT',
        directory: attributes,
      })
    return this.#answer({ ok: true, object: this.#object(this.#nodes.get(id)!), directory: attributes })
  }

  access: Vfs['access'] = (_caller, handle, wanted) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node }
    return this.#answer({ ok: true, attributes: this.#attributes(node), access: wanted & 0x3f })
  }

  readlink: Vfs['readlink'] = (_caller, handle) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node }
    const attributes = this.#attributes(node)
    if (node.type !== 'LNK') return this.#answer({ ok: false, status: 'INVAL', attributes })
    return this.#answer({ ok: true, attributes, path: node.link })
  }

  read: Vfs['read'] = (_caller, handle, offset, count, reserve) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node }
    const attributes = this.#attributes(node)
    if (node.type !== 'REG') return this.#answer({ ok: false, status: 'INVAL', attributes })
    const bytes = Math.max(0, Math.min(count, node.size - offset))
    const data = reserve(bytes)
    if (bytes > 0) data.set(node.data.subarray(offset, offset + bytes))
    return this.#answer({ ok: true, attributes, data, eof: offset + bytes >= node.size })
  }

  write: Vfs['write'] = (_caller, handle, offset, data, _stable) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node, wcc: {} }
    if (node.type !== 'REG') return this.#answer({ ok: false, status: 'INVAL', wcc: this.#change(node) })
    if (offset + data.byteLength > FILE_BYTES_MAX)
      return this.#answer({ ok: false, status: 'FBIG', wcc: this.#change(node) })
    const wcc = this.#change(node, () => {
      if (offset + data.byteLength > node.size) this.#resize(node, offset + data.byteLength)
      node.data.set(data, offset)
    })
    return this.#answer({ ok: true, wcc, count: data.byteLength, committed: 'FILE_SYNC', verifier: VERIFIER })
  }

  /** The directory, or why nothing can be made or removed there under this name. */
  #parent(directory: Uint8Array, name: string): Node | { status: Status; wcc: Wcc } {
    const dir = this.#node(directory)
    if (typeof dir === 'string') return { status: dir, wcc: {} }
    const refuse = (status: Status): { status: Status; wcc: Wcc } => ({ status, wcc: this.#change(dir) })
    if (dir.type !== 'DIR') return refuse('NOTDIR')
    if (name.length > NAME_BYTES_MAX) return refuse('NAMETOOLONG')
    if (name === '' || name.includes('/') || name.includes('\0')) return refuse('INVAL')
    return dir
  }

  #makeIn(
    directory: Uint8Array,
    name: string,
    dup: Duplicate<MakeResult> | undefined,
    make: (dir: Node) => Node,
    existing?: (node: Node) => boolean,
  ): MaybePromise<MakeResult> {
    const dir = this.#parent(directory, name)
    if ('status' in dir) return this.#once<MakeResult>(dup, { ok: false, ...dir })
    const old = dir.entries.get(name)
    const node = old && this.#nodes.get(old.id)!
    if (node || name === '.' || name === '..') {
      if (node && existing?.(node))
        return this.#once<MakeResult>(dup, { ok: true, object: this.#object(node), wcc: this.#change(dir) })
      return this.#once<MakeResult>(dup, { ok: false, status: 'EXIST', wcc: this.#change(dir) })
    }
    let made: Node | undefined
    const wcc = this.#change(dir, () => {
      made = make(dir)
      dir.entries.set(name, { id: made.id, cookie: dir.nextCookie++ })
      if (made.type === 'DIR') dir.nlink++
    })
    return this.#once<MakeResult>(dup, {
      ok: true,
      object: this.#object(made!),
      wcc: { ...wcc, after: this.#attributes(dir) },
    })
  }

  #owned(caller: Caller, set: SetAttributes): SetAttributes {
    return { uid: caller.uid, gid: caller.gid, ...set }
  }

  create: Vfs['create'] = (caller, directory, name, how, dup) => {
    if (how.mode !== 'EXCLUSIVE' && (how.attributes.size ?? 0) > FILE_BYTES_MAX)
      return this.#once<MakeResult>(dup, { ok: false, status: 'FBIG', wcc: {} })
    const verifier = how.mode === 'EXCLUSIVE' ? Buffer.from(how.verifier).toString('hex') : ''
    return this.#makeIn(
      directory,
      name,
      dup,
      (dir) => {
        const node = this.#make(
          'REG',
          this.#owned(caller, how.mode === 'EXCLUSIVE' ? {} : how.attributes),
          dir.id,
        )
        node.verifier = verifier
        if (how.mode !== 'EXCLUSIVE' && how.attributes.size) this.#resize(node, how.attributes.size)
        return node
      },
      (node) => {
        if (how.mode === 'EXCLUSIVE') return node.verifier === verifier
        if (how.mode !== 'UNCHECKED' || node.type !== 'REG') return false
        if (how.attributes.size !== undefined) this.#resize(node, how.attributes.size)
        return true
      },
    )
  }

  mkdir: Vfs['mkdir'] = (caller, directory, name, set, dup) =>
    this.#makeIn(directory, name, dup, (dir) => this.#make('DIR', this.#owned(caller, set), dir.id))

  symlink: Vfs['symlink'] = (caller, directory, name, path, set, dup) => {
    if (path.length > LINK_BYTES_MAX)
      return this.#once<MakeResult>(dup, { ok: false, status: 'NAMETOOLONG', wcc: {} })
    return this.#makeIn(directory, name, dup, (dir) => {
      const node = this.#make('LNK', this.#owned(caller, set), dir.id)
      node.link = path
      node.size = path.length
      return node
    })
  }

  mknod: Vfs['mknod'] = (caller, directory, name, type, set, rdevMajor, rdevMinor, dup) =>
    this.#makeIn(directory, name, dup, (dir) => {
      const node = this.#make(type, this.#owned(caller, set), dir.id)
      node.rdevMajor = rdevMajor
      node.rdevMinor = rdevMinor
      return node
    })

  #removeFrom(
    directory: Uint8Array,
    name: string,
    dup: Duplicate<RemoveResult> | undefined,
    wantDirectory: boolean,
  ): MaybePromise<RemoveResult> {
    const dir = this.#parent(directory, name)
    if ('status' in dir) return this.#once<RemoveResult>(dup, { ok: false, ...dir })
    const refuse = (status: Status): MaybePromise<RemoveResult> =>
      this.#once<RemoveResult>(dup, { ok: false, status, wcc: this.#change(dir) })
    const entry = dir.entries.get(name)
    if (!entry) return refuse(name === '.' ? 'INVAL' : name === '..' ? 'EXIST' : 'NOENT')
    const node = this.#nodes.get(entry.id)!
    if (wantDirectory !== (node.type === 'DIR')) return refuse(wantDirectory ? 'NOTDIR' : 'ISDIR')
    if (node.entries.size > 0) return refuse('NOTEMPTY')
    const wcc = this.#change(dir, () => this.#unlink(dir, name, node))
    return this.#once<RemoveResult>(dup, { ok: true, wcc: { ...wcc, after: this.#attributes(dir) } })
  }

  #unlink(dir: Node, name: string, node: Node): void {
    dir.entries.delete(name)
    if (node.type === 'DIR') dir.nlink--
    if (node.type === 'DIR' || --node.nlink === 0) this.#nodes.delete(node.id)
    else node.ctime = this.#now()
  }

  remove: Vfs['remove'] = (_caller, directory, name, dup) => this.#removeFrom(directory, name, dup, false)

  rmdir: Vfs['rmdir'] = (_caller, directory, name, dup) => this.#removeFrom(directory, name, dup, true)

  rename: Vfs['rename'] = (_caller, fromHandle, fromName, toHandle, toName, dup) => {
    const from = this.#parent(fromHandle, fromName)
    const to = this.#parent(toHandle, toName)
    if ('status' in from)
      return this.#once<RenameResult>(dup, { ok: false, status: from.status, from: from.wcc, to: {} })
    if ('status' in to)
      return this.#once<RenameResult>(dup, { ok: false, status: to.status, from: {}, to: to.wcc })
    const refuse = (status: Status): MaybePromise<RenameResult> =>
      this.#once<RenameResult>(dup, { ok: false, status, from: this.#change(from), to: this.#change(to) })
    const entry = from.entries.get(fromName)
    if (!entry) return refuse('NOENT')
    const node = this.#nodes.get(entry.id)!
    const target = to.entries.get(toName)
    const old = target && this.#nodes.get(target.id)!
    if (old === node)
      return this.#once<RenameResult>(dup, { ok: true, from: this.#change(from), to: this.#change(to) })
    if (old && (old.type === 'DIR') !== (node.type === 'DIR'))
      return refuse(old.type === 'DIR' ? 'ISDIR' : 'NOTDIR')
    if (old && old.entries.size > 0) return refuse('NOTEMPTY')
    for (let up = to; node.type === 'DIR'; up = this.#nodes.get(up.parent)!) {
      if (up === node) return refuse('INVAL')
      if (up.parent === up.id) break
    }
    const toWcc = this.#change(to, () => {
      if (old) this.#unlink(to, toName, old)
    })
    const fromWcc = this.#change(from, () => {
      from.entries.delete(fromName)
      to.entries.set(toName, { id: node.id, cookie: to.nextCookie++ })
      if (node.type !== 'DIR') return
      from.nlink--
      to.nlink++
      node.parent = to.id
    })
    return this.#once<RenameResult>(dup, {
      ok: true,
      from: { ...fromWcc, after: this.#attributes(from) },
      to: { ...toWcc, after: this.#attributes(to) },
    })
  }

  link: Vfs['link'] = (_caller, handle, directory, name, dup) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return this.#once<LinkResult>(dup, { ok: false, status: node, wcc: {} })
    const dir = this.#parent(directory, name)
    const attributes = this.#attributes(node)
    if ('status' in dir) return this.#once<LinkResult>(dup, { ok: false, ...dir, attributes })
    if (node.type === 'DIR' || dir.entries.has(name))
      return this.#once<LinkResult>(dup, {
        ok: false,
        status: node.type === 'DIR' ? 'INVAL' : 'EXIST',
        attributes,
        wcc: this.#change(dir),
      })
    const wcc = this.#change(dir, () => {
      dir.entries.set(name, { id: node.id, cookie: dir.nextCookie++ })
      node.nlink++
      node.ctime = this.#now()
    })
    return this.#once<LinkResult>(dup, { ok: true, attributes: this.#attributes(node), wcc })
  }

  readdir: Vfs['readdir'] = (_caller, directory, cookie, _verifier, entriesMax, plus) => {
    const dir = this.#node(directory)
    if (typeof dir === 'string') return { ok: false, status: dir }
    if (dir.type !== 'DIR')
      return this.#answer({ ok: false, status: 'NOTDIR', attributes: this.#attributes(dir) })
    const all = [
      { name: '.', id: dir.id, cookie: 1 },
      { name: '..', id: dir.parent, cookie: 2 },
      ...[...dir.entries].map(([name, entry]) => ({ name, ...entry })),
    ].filter((entry) => entry.cookie > cookie)
    const entries: DirectoryEntry[] = all.slice(0, entriesMax).map(({ name, id, cookie: position }) => {
      const node = this.#nodes.get(id)!
      return { name, fileid: id, cookie: position, ...(plus && { object: this.#object(node) }) }
    })
    return this.#answer({
      ok: true,
      attributes: this.#attributes(dir),
      verifier: Buffer.alloc(8),
      entries,
      eof: all.length <= entriesMax,
    })
  }

  fsstat: Vfs['fsstat'] = (handle) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node }
    const attributes = this.#attributes(node)
    return this.#answer({
      ok: true,
      attributes,
      totalBytes: 2 ** 40,
      freeBytes: 2 ** 39,
      totalFiles: 2 ** 30,
      freeFiles: 2 ** 29,
    })
  }

  commit: Vfs['commit'] = (_caller, handle, _offset, _count) => {
    const node = this.#node(handle)
    if (typeof node === 'string') return { ok: false, status: node, wcc: {} }
    return this.#answer({ ok: true, wcc: this.#change(node), verifier: VERIFIER })
  }
}
