/**
 * One client connection as a state machine: bytes in, bytes out, no socket. It cuts the stream into records (RFC 5531, 11), decodes the
 * call header, runs the procedure, and encodes the reply where it is sent from.
 *
 * - Bytes are received straight into slabs (`inputSpace`, `input`), and arguments are views of them: a record is copied only when the
 *   slab that it began in has no room for the rest of it. A slab is used again when no call refers to it.
 * - A call that completes at once is answered within `input`, and all such replies leave as one `send`; replies of calls that had to wait
 *   are gathered until everything that can run now has run (`Transport.soon`).
 * - Bounded: calls in flight, bytes of their arguments and replies, bytes that the client has not taken. At a bound nothing more is read or
 *   executed until it falls (`Transport.pause`). Over the server's memory limit a connection gets one call at a time.
 * - Replies may overtake each other; a client tells them apart by xid.
 * - What cannot be a call costs the client its connection and makes one line in the log. A procedure that throws anything else than XdrError
 *   or NotServedError is a bug and is not caught here.
 */
import { isPromise } from '../../core/std/maybe.ts'
import { IO_BYTES_MAX, NotServedError } from '../../core/vfs/vfs.ts'
import { MOUNT_PROGRAM, MOUNT_V3, MOUNT_V3_PROCEDURES } from '../mount/mount3.ts'
import {
  AUTH_BADCRED,
  AUTH_BODY_BYTES_MAX,
  AUTH_ERROR,
  AUTH_NONE,
  AUTH_REJECTEDCRED,
  AUTH_SYS,
  CALL,
  GARBAGE_ARGS,
  LAST_FRAGMENT,
  MSG_DENIED,
  PROC_UNAVAIL,
  PROG_MISMATCH,
  PROG_UNAVAIL,
  REPLY_HEADER_BYTES,
  RPC_MISMATCH,
  RPC_VERSION,
  SUCCESS,
  closeRecord,
  readAuthSys,
  writeAccepted,
} from '../rpc/rpc.ts'
import type { Credential } from '../rpc/rpc.ts'
import { NFS_PROGRAM, NFS_V3 } from '../v3/constants.ts'
import { NFS_V3_PROCEDURES } from '../v3/program.ts'
import { XdrError, XdrReader, XdrWriter } from '../xdr.ts'
import type { Peer, Procedure, Region, Shared } from './call.ts'
import { Call } from './call.ts'
import type { Operations } from './operations.ts'
import type { Slab, SlabPool } from './slab.ts'
import { LARGE_SLAB_BYTES, SMALL_SLAB_BYTES } from './slab.ts'

/** What a connection needs of the socket below it. */
export interface Transport {
  /** Sends in order, and calls `taken` once the chunks may be changed again. After `close` it does neither. */
  send(chunks: readonly Uint8Array[], taken: () => void): void
  /** No `input` until `resume`. */
  pause(): void
  resume(): void
  close(): void
  /** Runs the task when everything that can run now has run, before waiting for the machine. */
  soon(task: () => void): void
}

export interface Limits {
  readonly callsInFlight: number
  /** Arguments and reserved replies of calls in flight, of one connection. */
  readonly bytesInFlight: number
  /** Replies that the client has not taken, of one connection. */
  readonly unsentBytes: number
  /** Memory of all connections together, beyond which each gets one call at a time. */
  readonly memoryBytes: number
}

export interface Host extends Shared {
  readonly pool: SlabPool
  readonly limits: Limits
  readonly operations: Operations
  now(): number
  /** Called once, when the connection has ended; `reason` says which rule a client broke. */
  ended(connection: Connection, reason?: string): void
}

/** The largest record: a full WRITE with the longest credential, handle and verifier. */
export const RECORD_BYTES_MAX = IO_BYTES_MAX + 4096
/** Less room than this is not worth a read. */
const ROOM_MIN = 64 * 1024
/** Larger replies get a slab of their own. */
const DEDICATED_BYTES = 64 * 1024

interface Segment {
  readonly slab: Slab
  readonly start: number
  end: number
}

export class Connection {
  readonly peer: Peer
  /** When bytes came last (Clock.now). */
  lastInputMs: number
  readonly #host: Host
  readonly #transport: Transport
  /** Where bytes are read to. */
  #in: Slab
  /** Slabs that filled up while stalled, with whole records left in them, oldest first. */
  #waiting: Slab[] = []
  /** A record of several fragments. */
  #assembly: Slab | undefined
  #lastRecordBytes = 0
  #out: Slab | undefined
  #segments: Segment[] = []
  #unsentBytes = 0
  #callsInFlight = 0
  #bytesInFlight = 0
  #stalled = false
  #processing = false
  #flushPlanned = false
  #closed = false
  #startedMs = 0
  readonly #reader: XdrReader
  readonly #writer: XdrWriter
  /** The last AUTH_SYS credential, as bytes without its stamp and decoded: nearly all calls of a connection carry the same. */
  readonly #credentialBytes = Buffer.alloc(AUTH_BODY_BYTES_MAX)
  #credentialLength = -1
  #credential: Credential | undefined
  readonly #reserveReply = (bytes: number): Region => this.#reserve(bytes)

  constructor(host: Host, peer: Peer, transport: Transport) {
    this.#host = host
    this.peer = peer
    this.#transport = transport
    this.#in = host.pool.take(SMALL_SLAB_BYTES)
    this.#reader = new XdrReader(this.#in.bytes, this.#in.view)
    this.#writer = new XdrWriter(this.#in.bytes, this.#in.view)
    this.lastInputMs = host.now()
  }

  /** In the middle of a record, waiting for the client to send the rest. */
  get partial(): boolean {
    return !this.#stalled && (this.#in.head < this.#in.tail || this.#assembly !== undefined)
  }

  get stalled(): boolean {
    return this.#stalled
  }

  /** Where the next bytes belong. Stays the place until `input` is called. */
  inputSpace(): Uint8Array {
    if (this.#closed) return new Uint8Array(1)
    const slab = this.#in
    if (slab.head === slab.tail && slab.sole) slab.head = slab.tail = 0
    const from = this.#stalled ? wholeRecordsEnd(slab) : slab.head
    const have = slab.tail - from
    if (have === 0) return this.#spaceForNextRecord(slab)
    const need = have < 4 ? 4 : 4 + (slab.view.getUint32(from) & 0x7fff_ffff)
    const fits = from + need <= slab.bytes.length
    const { bytes, tail } = fits ? slab : this.#nextSlab(slab, from, need)
    // A long record is read up to its end, so that the next one begins a slab.
    const missing = need > ROOM_MIN ? need - have : bytes.length
    return bytes.subarray(tail, tail + missing)
  }

  /** All records are whole: the next one probably looks like the last. */
  #spaceForNextRecord(slab: Slab): Uint8Array {
    const expected = this.#lastRecordBytes > ROOM_MIN ? this.#lastRecordBytes + 4 : ROOM_MIN
    const tooLarge = expected === ROOM_MIN && slab.bytes.length > SMALL_SLAB_BYTES
    const { bytes, tail } =
      slab.room >= expected && !tooLarge ? slab : this.#nextSlab(slab, slab.tail, expected)
    return bytes.subarray(tail)
  }

  /** Moves the unfinished record at `from` to a slab with room for `expected` bytes. */
  #nextSlab(slab: Slab, from: number, expected: number): Slab {
    const next = this.#host.pool.take(Math.min(Math.max(expected, SMALL_SLAB_BYTES), LARGE_SLAB_BYTES))
    slab.bytes.copy(next.bytes, 0, from, slab.tail)
    next.tail = slab.tail - from
    slab.tail = from
    if (slab.head < from) this.#waiting.push(slab)
    else slab.release()
    this.#in = next
    return next
  }

  /** `bytes` bytes have arrived at the place that `inputSpace` gave. */
  input(bytes: number): void {
    if (this.#closed) return
    this.#in.tail += bytes
    this.lastInputMs = this.#host.now()
    this.#process()
  }

  /** Takes a chunk of the stream by copying it, for those who cannot read into `inputSpace`. Gives the bytes taken: fewer once stalled. */
  receive(chunk: Uint8Array): number {
    let taken = 0
    while (taken < chunk.byteLength && !this.#stalled && !this.#closed) {
      const space = this.inputSpace()
      const part = chunk.subarray(taken, taken + space.byteLength)
      space.set(part)
      taken += part.byteLength
      this.input(part.byteLength)
    }
    return taken
  }

  /** The socket is gone. */
  ended(): void {
    if (!this.#closed) this.#end()
  }

  /** Ends the connection from this side. */
  close(reason?: string): void {
    if (this.#closed) return
    this.#end(reason)
    this.#transport.close()
  }

  #end(reason?: string): void {
    this.#closed = true
    this.#in.release()
    this.#assembly?.release()
    this.#out?.release()
    for (const slab of this.#waiting) slab.release()
    for (const { slab } of this.#segments) slab.release()
    this.#waiting = []
    this.#segments = []
    this.#assembly = this.#out = undefined
    this.#host.ended(this, reason)
  }

  /** Executes what is there, and sends what that gave. */
  #process(): void {
    if (this.#processing) return
    this.#processing = true
    this.#startedMs = this.#host.now()
    try {
      while (this.#waiting.length > 0 && !this.#closed) {
        const slab = this.#waiting[0]!
        if (!this.#records(slab)) break
        this.#waiting.shift()
        slab.release()
      }
      if (this.#waiting.length === 0 && !this.#closed) this.#records(this.#in)
    } catch (error) {
      if (error instanceof XdrError) this.close(error.message)
      else if (error instanceof NotServedError) this.close()
      else throw error
    } finally {
      this.#processing = false
    }
    if (this.#closed) return
    this.#host.operations.report(this.#host.now() - this.#startedMs)
    this.#flush()
    this.#unstall()
  }

  /** Executes the whole records of a slab; false if it had to stop before the last. */
  #records(slab: Slab): boolean {
    while (!this.#closed) {
      const { head, tail, view } = slab
      if (tail - head < 4) return true
      const mark = view.getUint32(head)
      const bytes = mark & 0x7fff_ffff
      if (bytes > RECORD_BYTES_MAX) throw new XdrError('record is longer than allowed')
      const end = head + 4 + bytes
      if (end > tail) return true
      if (this.#full()) {
        this.#flush()
        if (this.#full()) {
          if (!this.#stalled) this.#transport.pause()
          this.#stalled = true
          return false
        }
      }
      slab.head = end
      if (mark >= LAST_FRAGMENT && this.#assembly === undefined) this.#record(slab, head + 4, end)
      else this.#fragment(slab, head + 4, end, mark >= LAST_FRAGMENT)
    }
    return true
  }

  #full(): boolean {
    const { limits, pool } = this.#host
    if (this.#callsInFlight === 0 && this.#unsentBytes === 0) return false
    return (
      this.#callsInFlight >= limits.callsInFlight ||
      this.#bytesInFlight >= limits.bytesInFlight ||
      this.#unsentBytes >= limits.unsentBytes ||
      pool.liveBytes > limits.memoryBytes
    )
  }

  #unstall(): void {
    if (!this.#stalled || this.#processing || this.#closed || this.#full()) return
    this.#stalled = false
    this.#process()
    // `#process` may have stalled again, or ended the connection.
    const { stalled } = this
    if (!stalled && !this.#closed) this.#transport.resume()
  }

  #fragment(slab: Slab, at: number, end: number, last: boolean): void {
    const bytes = end - at
    let whole = this.#assembly
    const total = (whole?.tail ?? 0) + bytes
    if (total > RECORD_BYTES_MAX) throw new XdrError('record is longer than allowed')
    if (!whole || whole.room < bytes) {
      const larger = this.#host.pool.take(total)
      if (whole) {
        whole.bytes.copy(larger.bytes, 0, 0, whole.tail)
        larger.tail = whole.tail
        whole.release()
      }
      this.#assembly = whole = larger
    }
    slab.bytes.copy(whole.bytes, whole.tail, at, end)
    whole.tail += bytes
    if (!last) return
    this.#assembly = undefined
    try {
      this.#record(whole, 0, whole.tail)
    } finally {
      whole.release()
    }
  }

  /** Executes one call. Throws XdrError if it is none. */
  #record(slab: Slab, at: number, end: number): void {
    this.#lastRecordBytes = end - at
    const r = this.#reader
    r.reset(slab.bytes, slab.view, at, end)
    const xid = r.u32()
    if (r.u32() !== CALL) throw new XdrError('message is not a call')
    const rpcVersion = r.u32()
    const program = r.u32()
    const version = r.u32()
    const number = r.u32()
    const flavor = r.u32()
    const credentialBytes = r.u32()
    if (credentialBytes > AUTH_BODY_BYTES_MAX) throw new XdrError('credential is longer than allowed')
    const credentialAt = r.at
    r.fixed(credentialBytes)
    r.u32()
    r.opaque(AUTH_BODY_BYTES_MAX)
    if (rpcVersion !== RPC_VERSION) return this.#deny(xid, RPC_MISMATCH, RPC_VERSION, RPC_VERSION)

    const nfs = program === NFS_PROGRAM
    if (!nfs && program !== MOUNT_PROGRAM) return this.#refuse(xid, PROG_UNAVAIL)
    const supported = nfs ? NFS_V3 : MOUNT_V3
    if (version !== supported) return this.#refuse(xid, PROG_MISMATCH, supported)
    const procedure = (nfs ? NFS_V3_PROCEDURES : MOUNT_V3_PROCEDURES)[number]
    if (!procedure) return this.#refuse(xid, PROC_UNAVAIL)

    let credential: Credential | undefined
    if (flavor === AUTH_SYS) {
      credential = this.#authSys(slab, credentialAt, credentialBytes)
      if (!credential) return this.#deny(xid, AUTH_ERROR, AUTH_BADCRED)
    } else if (flavor !== AUTH_NONE) return this.#deny(xid, AUTH_ERROR, AUTH_REJECTEDCRED)

    const call = new Call(this.#host, this.peer, r, xid, number, credential, this.#reserveReply)
    let result: unknown
    try {
      result = procedure.run(call)
    } catch (error) {
      call.region?.slab.release()
      if (error instanceof XdrError) return this.#refuse(xid, GARBAGE_ARGS)
      throw error
    }
    if (isPromise(result)) this.#suspend(call, procedure, result, slab, end - at)
    else {
      this.#answer(call, procedure, result)
      this.#host.operations.count(procedure.name)
    }
  }

  #authSys(slab: Slab, at: number, bytes: number): Credential | undefined {
    const known = this.#credentialBytes
    let i = 4
    if (bytes === this.#credentialLength) while (i < bytes && slab.bytes[at + i] === known[i]) i++
    if (bytes === this.#credentialLength && i >= bytes) return this.#credential
    const { at: resumeAt, end } = this.#reader
    const r = this.#reader
    r.reset(slab.bytes, slab.view, at, at + bytes)
    try {
      this.#credential = readAuthSys(r)
      slab.bytes.copy(known, 0, at, at + bytes)
      this.#credentialLength = bytes
      return this.#credential
    } catch (error) {
      if (!(error instanceof XdrError)) throw error
      this.#credentialLength = -1
      return undefined
    } finally {
      r.reset(slab.bytes, slab.view, resumeAt, end)
    }
  }

  /** The call waits for the file system. Its arguments, and the room for its reply, stay where they are. */
  #suspend(
    call: Call,
    procedure: Procedure<unknown>,
    reply: Promise<unknown>,
    slab: Slab,
    bytes: number,
  ): void {
    const startedMs = this.#startedMs
    const held = bytes + (call.region?.bytes ?? 0)
    slab.retain()
    this.#callsInFlight++
    this.#bytesInFlight += held
    const done = (): boolean => {
      slab.release()
      this.#callsInFlight--
      this.#bytesInFlight -= held
      if (!this.#closed) return true
      call.region?.slab.release()
      return false
    }
    reply.then(
      (result) => {
        if (!done()) return
        this.#answer(call, procedure, result)
        this.#host.operations.observe(procedure.name, this.#host.now() - startedMs)
        this.#planFlush()
      },
      (error: unknown) => {
        const open = done()
        if (open) call.region?.slab.release()
        if (!(error instanceof NotServedError)) throw error
        this.close()
      },
    )
  }

  /** Encodes the reply into its region, or where there is room. */
  #answer(call: Call, procedure: Procedure<unknown>, result: unknown): void {
    const { region } = call
    const w = this.#writer
    const bytesMax = REPLY_HEADER_BYTES + procedure.replyBytesMax + call.replyBytes
    const slab = region?.slab ?? this.#room(bytesMax)
    const start = region?.start ?? slab.tail
    w.reset(slab.bytes, slab.view, start)
    writeAccepted(w, call.xid, SUCCESS)
    procedure.encode(w, result)
    closeRecord(w, start)
    const end = w.at
    if (procedure.replyBytesMax > 0) {
      const status = w.view.getUint32(start + REPLY_HEADER_BYTES)
      if (status !== 0) this.#host.operations.failed(procedure.name, status)
      else if (procedure.dataBytes) this.#host.operations.moved(procedure.name, procedure.dataBytes(result))
    }
    if (!region) {
      this.#queue(slab, start, end, false)
      slab.tail = end
      return
    }
    // What was reserved and not needed is given back if nothing came behind it.
    if (slab.tail === start + region.bytes) slab.tail = end
    this.#queue(slab, start, end, true)
  }

  /** A reply without results. */
  #refuse(xid: number, stat: number, version = 0): void {
    const slab = this.#room(REPLY_HEADER_BYTES + 8)
    const start = slab.tail
    const w = this.#writer
    w.reset(slab.bytes, slab.view, start)
    writeAccepted(w, xid, stat)
    if (stat === PROG_MISMATCH) {
      w.u32(version)
      w.u32(version)
    }
    closeRecord(w, start)
    this.#queue(slab, start, w.at, false)
    slab.tail = w.at
  }

  #deny(xid: number, why: number, ...details: number[]): void {
    const slab = this.#room(64)
    const start = slab.tail
    const w = this.#writer
    w.reset(slab.bytes, slab.view, start + 4)
    for (const word of [xid, 1, MSG_DENIED, why, ...details]) w.u32(word)
    closeRecord(w, start)
    this.#queue(slab, start, w.at, false)
    slab.tail = w.at
  }

  /** The output slab, or the next one if it has less room than this. */
  #room(bytes: number): Slab {
    let slab = this.#out
    if (slab && slab.room >= bytes) return slab
    if (slab?.sole && slab.bytes.length >= bytes) {
      slab.head = slab.tail = 0
      return slab
    }
    slab?.release()
    slab = this.#host.pool.take(Math.max(bytes, SMALL_SLAB_BYTES))
    this.#out = slab
    return slab
  }

  #reserve(bytes: number): Region {
    if (bytes > DEDICATED_BYTES) {
      const slab = this.#host.pool.take(bytes)
      slab.tail = bytes
      return { slab, start: 0, bytes }
    }
    const slab = this.#room(bytes)
    const start = slab.tail
    slab.tail += bytes
    slab.retain()
    return { slab, start, bytes }
  }

  /** Puts a reply behind the others; `held`: it brings its own reference to the slab. */
  #queue(slab: Slab, start: number, end: number, held: boolean): void {
    this.#unsentBytes += end - start
    const last = this.#segments.at(-1)
    if (last?.slab === slab && last.end === start) {
      last.end = end
      if (held) slab.release()
      return
    }
    if (!held) slab.retain()
    this.#segments.push({ slab, start, end })
  }

  #planFlush(): void {
    if (this.#flushPlanned) return
    this.#flushPlanned = true
    this.#transport.soon(() => {
      this.#flushPlanned = false
      if (this.#closed) return
      this.#flush()
      this.#unstall()
    })
  }

  #flush(): void {
    const segments = this.#segments
    if (segments.length === 0) return
    this.#segments = []
    let bytes = 0
    const chunks: Uint8Array[] = []
    for (const { slab, start, end } of segments) {
      chunks.push(slab.bytes.subarray(start, end))
      bytes += end - start
    }
    this.#transport.send(chunks, () => {
      for (const { slab } of segments) slab.release()
      this.#unsentBytes -= bytes
      if (this.#closed) return
      const out = this.#out
      if (out?.sole) {
        out.release()
        this.#out = undefined
      }
      this.#unstall()
    })
  }
}

/** Where the last whole record of a slab ends. */
function wholeRecordsEnd(slab: Slab): number {
  let at = slab.head
  for (;;) {
    if (slab.tail - at < 4) return at
    const end = at + 4 + (slab.view.getUint32(at) & 0x7fff_ffff)
    if (end > slab.tail) return at
    at = end
  }
}
