/**
 * Changes and their log records. A `Change` is an operation decided: every check has been made, every choice (inode number,
 * generation, times, place of an entry, final attributes) is in it. Applying it to the image that it was decided on needs nothing
 * else, on this filer or in a replay on the other. docs/SPEC-files.md has the records byte by byte.
 */
import { assert } from '../std/assert.ts'
import type { Time } from '../env/env.ts'
import type { FileType } from '../vfs/vfs.ts'
import {
  getBytes,
  getU16,
  getU32,
  getU48,
  getU64,
  putBytes,
  putU16,
  putU32,
  putU48,
  putU64,
} from './bytes.ts'
import type { KeptReply } from './duplicates.ts'
import { TYPE_CODES, typeOfCode, VERIFIER_BYTES } from './inode.ts'

/** Data of a file, and its attributes after it. */
export interface WriteChange {
  readonly type: 'write'
  readonly ino: number
  readonly offset: number
  readonly mode: number
  readonly time: Time
  readonly data: Uint8Array
}
/** All attributes that SETATTR can set, with their values afterwards. */
export interface SetattrChange {
  readonly type: 'setattr'
  readonly ino: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly atime: Time
  readonly mtime: Time
  readonly ctime: Time
}
export interface MakeChange {
  readonly type: 'make'
  readonly directory: number
  readonly position: number
  readonly name: string
  readonly ino: number
  readonly generation: number
  readonly kind: FileType
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  readonly atime: Time
  readonly mtime: Time
  readonly ctime: Time
  readonly verifier?: Uint8Array
  /** Of a symbolic link. */
  readonly path?: string
}
/** REMOVE and RMDIR. */
export interface RemoveChange {
  readonly type: 'remove'
  readonly directory: number
  readonly position: number
  readonly name: string
  readonly ino: number
  readonly time: Time
}
export interface RenameChange {
  readonly type: 'rename'
  readonly from: number
  readonly fromPosition: number
  readonly fromName: string
  readonly to: number
  readonly toPosition: number
  readonly toName: string
  readonly ino: number
  /** The object that had the new name; 0 if there was none. */
  readonly replaced: number
  readonly time: Time
}
export interface LinkChange {
  readonly type: 'link'
  readonly ino: number
  readonly directory: number
  readonly position: number
  readonly name: string
  readonly time: Time
}
/** One slice of surplus blocks. */
export interface ReclaimChange {
  readonly type: 'reclaim'
  readonly ino: number
}
/** Nothing but a kept reply: a failure. */
export interface ReplyChange {
  readonly type: 'reply'
}
export type Change =
  | WriteChange
  | SetattrChange
  | MakeChange
  | RemoveChange
  | RenameChange
  | LinkChange
  | ReclaimChange
  | ReplyChange

const CODES = { write: 1, setattr: 2, make: 3, remove: 4, rename: 5, link: 6, reclaim: 7, reply: 8 } as const
const VERSION = 1
const HAS_REPLY = 1
const HAS_VERIFIER = 2
const HAS_PATH = 4
const TIME_BYTES = 12
/** Type, version, flags. The kept reply comes behind the fields, the data of a write behind everything. */
const HEADER_BYTES = 4

const NOTHING = new Uint8Array(0)

class Writer {
  readonly bytes: Uint8Array
  at = 0
  constructor(size: number) {
    this.bytes = new Uint8Array(size)
  }
  u8(value: number): void {
    this.bytes[this.at++] = value
  }
  u16(value: number): void {
    putU16(this.bytes, this.at, value)
    this.at += 2
  }
  u32(value: number): void {
    putU32(this.bytes, this.at, value)
    this.at += 4
  }
  u48(value: number): void {
    putU48(this.bytes, this.at, value)
    this.at += 6
  }
  u64(value: number): void {
    putU64(this.bytes, this.at, value)
    this.at += 8
  }
  time(value: Time): void {
    this.u64(value.seconds)
    this.u32(value.nanoseconds)
  }
  string(text: string): void {
    this.u16(text.length)
    putBytes(this.bytes, this.at, text)
    this.at += text.length
  }
  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at)
    this.at += bytes.length
  }
}

class Reader {
  private readonly bytes: Uint8Array
  private at = 0
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
  private step(size: number): number {
    const at = this.at
    assert(at + size <= this.bytes.length, 'log record ends too early')
    this.at = at + size
    return at
  }
  u8(): number {
    return this.bytes[this.step(1)]!
  }
  u16(): number {
    return getU16(this.bytes, this.step(2))
  }
  u32(): number {
    return getU32(this.bytes, this.step(4))
  }
  u48(): number {
    return getU48(this.bytes, this.step(6))
  }
  u64(): number {
    return getU64(this.bytes, this.step(8))
  }
  time(): Time {
    return { seconds: this.u64(), nanoseconds: this.u32() }
  }
  string(): string {
    const length = this.u16()
    return getBytes(this.bytes, this.step(length), length)
  }
  raw(length: number): Uint8Array {
    const at = this.step(length)
    return this.bytes.subarray(at, at + length)
  }
  rest(): Uint8Array {
    return this.bytes.subarray(this.at)
  }
}

function sizeOf(change: Change): number {
  switch (change.type) {
    case 'write':
      return 6 + 8 + 2 + TIME_BYTES
    case 'setattr':
      return 6 + 2 + 4 + 4 + 8 + 3 * TIME_BYTES
    case 'make':
      return (
        6 +
        8 +
        2 +
        change.name.length +
        6 +
        4 +
        1 +
        2 +
        4 +
        4 +
        8 +
        8 +
        3 * TIME_BYTES +
        (change.verifier === undefined ? 0 : VERIFIER_BYTES) +
        (change.path === undefined ? 0 : 2 + change.path.length)
      )
    case 'remove':
      return 6 + 8 + 2 + change.name.length + 6 + TIME_BYTES
    case 'rename':
      return 6 + 8 + 2 + change.fromName.length + 6 + 8 + 2 + change.toName.length + 6 + 6 + TIME_BYTES
    case 'link':
      return 6 + 6 + 8 + 2 + change.name.length + TIME_BYTES
    case 'reclaim':
      return 6
    case 'reply':
      return 0
  }
}

/** The chunks of a change's record; the data of a write is not copied. */
export function encodeRecord(change: Change, kept: KeptReply | undefined): Uint8Array[] {
  const w = new Writer(HEADER_BYTES + sizeOf(change) + (kept === undefined ? 0 : 18 + kept.reply.length))
  w.u8(CODES[change.type])
  w.u8(VERSION)
  let flags = kept === undefined ? 0 : HAS_REPLY
  if (change.type === 'make') {
    if (change.verifier !== undefined) flags |= HAS_VERIFIER
    if (change.path !== undefined) flags |= HAS_PATH
  }
  w.u16(flags)
  writeFields(w, change)
  if (kept !== undefined) {
    w.u32(kept.key.machine)
    w.u32(kept.key.xid)
    w.u32(kept.key.procedure)
    w.u32(kept.key.checksum)
    w.u16(kept.reply.length)
    w.raw(kept.reply)
  }
  return change.type === 'write' ? [w.bytes, change.data] : [w.bytes]
}

function writeFields(w: Writer, change: Change): void {
  switch (change.type) {
    case 'write':
      w.u48(change.ino)
      w.u64(change.offset)
      w.u16(change.mode)
      w.time(change.time)
      return
    case 'setattr':
      w.u48(change.ino)
      w.u16(change.mode)
      w.u32(change.uid)
      w.u32(change.gid)
      w.u64(change.size)
      w.time(change.atime)
      w.time(change.mtime)
      w.time(change.ctime)
      return
    case 'make':
      w.u48(change.directory)
      w.u64(change.position)
      w.string(change.name)
      w.u48(change.ino)
      w.u32(change.generation)
      w.u8(TYPE_CODES[change.kind])
      w.u16(change.mode)
      w.u32(change.uid)
      w.u32(change.gid)
      w.u64(change.size)
      w.u32(change.rdevMajor)
      w.u32(change.rdevMinor)
      w.time(change.atime)
      w.time(change.mtime)
      w.time(change.ctime)
      if (change.verifier !== undefined) w.raw(change.verifier)
      if (change.path !== undefined) w.string(change.path)
      return
    case 'remove':
      w.u48(change.directory)
      w.u64(change.position)
      w.string(change.name)
      w.u48(change.ino)
      w.time(change.time)
      return
    case 'rename':
      w.u48(change.from)
      w.u64(change.fromPosition)
      w.string(change.fromName)
      w.u48(change.to)
      w.u64(change.toPosition)
      w.string(change.toName)
      w.u48(change.ino)
      w.u48(change.replaced)
      w.time(change.time)
      return
    case 'link':
      w.u48(change.ino)
      w.u48(change.directory)
      w.u64(change.position)
      w.string(change.name)
      w.time(change.time)
      return
    case 'reclaim':
      w.u48(change.ino)
      return
    case 'reply':
  }
}

/** The change of a record. Byte arrays in it are views of the record. A record that we did not write is a bug: asserted. */
export function decodeRecord(record: Uint8Array): { change: Change; kept: KeptReply | undefined } {
  const r = new Reader(record)
  const code = r.u8()
  const version = r.u8()
  assert(version === VERSION, `log record of version ${version}`)
  const flags = r.u16()
  let change = readFields(r, code, flags)
  let kept: KeptReply | undefined
  if ((flags & HAS_REPLY) !== 0) {
    const key = { machine: r.u32(), xid: r.u32(), procedure: r.u32(), checksum: r.u32() }
    kept = { key, reply: r.raw(r.u16()) }
  }
  if (change.type === 'write') change = { ...change, data: r.rest() }
  return { change, kept }
}

function readFields(r: Reader, code: number, flags: number): Change {
  switch (code) {
    case CODES.write:
      return { type: 'write', ino: r.u48(), offset: r.u64(), mode: r.u16(), time: r.time(), data: NOTHING }
    case CODES.setattr:
      return {
        type: 'setattr',
        ino: r.u48(),
        mode: r.u16(),
        uid: r.u32(),
        gid: r.u32(),
        size: r.u64(),
        atime: r.time(),
        mtime: r.time(),
        ctime: r.time(),
      }
    case CODES.make:
      return readMake(r, flags)
    case CODES.remove:
      return {
        type: 'remove',
        directory: r.u48(),
        position: r.u64(),
        name: r.string(),
        ino: r.u48(),
        time: r.time(),
      }
    case CODES.rename:
      return {
        type: 'rename',
        from: r.u48(),
        fromPosition: r.u64(),
        fromName: r.string(),
        to: r.u48(),
        toPosition: r.u64(),
        toName: r.string(),
        ino: r.u48(),
        replaced: r.u48(),
        time: r.time(),
      }
    case CODES.link:
      return {
        type: 'link',
        ino: r.u48(),
        directory: r.u48(),
        position: r.u64(),
        name: r.string(),
        time: r.time(),
      }
    case CODES.reclaim:
      return { type: 'reclaim', ino: r.u48() }
    default:
      assert(code === CODES.reply, `log record of unknown type ${code}`)
      return { type: 'reply' }
  }
}

function readMake(r: Reader, flags: number): MakeChange {
  const directory = r.u48()
  const position = r.u64()
  const name = r.string()
  const ino = r.u48()
  const generation = r.u32()
  const kind = typeOfCode(r.u8())
  assert(kind !== undefined, 'log record of an object without a type')
  const change = {
    type: 'make' as const,
    directory,
    position,
    name,
    ino,
    generation,
    kind,
    mode: r.u16(),
    uid: r.u32(),
    gid: r.u32(),
    size: r.u64(),
    rdevMajor: r.u32(),
    rdevMinor: r.u32(),
    atime: r.time(),
    mtime: r.time(),
    ctime: r.time(),
  }
  return {
    ...change,
    ...((flags & HAS_VERIFIER) !== 0 ? { verifier: r.raw(VERIFIER_BYTES) } : {}),
    ...((flags & HAS_PATH) !== 0 ? { path: r.string() } : {}),
  }
}
