/**
 * One client connection as a state machine: bytes in, bytes out, no socket. It decodes a call's header, runs the procedure and encodes
 * the reply.
 *
 * - Bytes are received straight into memory of the connection (record-reader.ts), arguments are views of it, and replies are encoded
 *   where they are sent from (reply-queue.ts).
 * - A call that completes at once is answered within `input`, and all such replies leave as one `send`; replies of calls that had to wait
 *   are gathered until everything that can run now has run (`Transport.soon`).
 * - Bounded: calls in flight, bytes of their arguments and replies, bytes that the client has not taken. At a bound nothing more is read or
 *   executed until it falls (`Transport.pause`). Over the server's memory limit a connection gets one call at a time.
 * - Replies may overtake each other; a client tells them apart by xid.
 * - What cannot be a call costs the client its connection and makes one line in the log. A procedure that throws anything else than XdrError
 *   or NotServedError is a bug and is not caught here.
 */
import { isPromise } from '../../core/std/maybe.ts'
import { NotServedError } from '../../core/vfs/vfs.ts'
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
  MSG_DENIED,
  PROC_UNAVAIL,
  PROG_MISMATCH,
  PROG_UNAVAIL,
  REPLY,
  REPLY_HEADER_BYTES,
  RPC_MISMATCH,
  RPC_VERSION,
  SUCCESS,
  closeRecord,
  writeAccepted,
} from '../rpc/rpc.ts'
import type { Credential } from '../rpc/rpc.ts'
import { NFS_PROGRAM, NFS_V3 } from '../v3/constants.ts'
import { NFS_V3_PROCEDURES } from '../v3/program.ts'
import { XdrError, XdrReader, XdrWriter } from '../xdr.ts'
import type { Peer, Procedure, Region, Shared } from './call.ts'
import { Call } from './call.ts'
import { CredentialCache } from './credential-cache.ts'
import type { Operations } from './operations.ts'
import { RecordReader } from './record-reader.ts'
import { ReplyQueue } from './reply-queue.ts'
import type { Slab, SlabPool } from './slab.ts'

/** What a connection needs of the socket below it. */
export interface Transport {
  /** Sends in order, and calls `taken` once the chunks may be changed again, even if they could not be sent. */
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

export class Connection {
  readonly peer: Peer
  /** When bytes came last (Clock.now). */
  lastInputMs: number
  readonly #host: Host
  readonly #transport: Transport
  readonly #records: RecordReader
  readonly #replies: ReplyQueue
  readonly #reader: XdrReader
  readonly #writer: XdrWriter
  readonly #credentials = new CredentialCache()
  readonly #reserveReply = (bytes: number): Region => this.#replies.reserve(bytes)
  #callsInFlight = 0
  #bytesInFlight = 0
  #stalled = false
  #processing = false
  #flushPlanned = false
  #closed = false
  #startedMs = 0

  constructor(host: Host, peer: Peer, transport: Transport) {
    this.#host = host
    this.peer = peer
    this.#transport = transport
    this.#records = new RecordReader(host.pool)
    this.#replies = new ReplyQueue(host.pool)
    const { slab } = this.#records
    this.#reader = new XdrReader(slab.bytes, slab.view)
    this.#writer = new XdrWriter(slab.bytes, slab.view)
    this.lastInputMs = host.now()
  }

  /** In the middle of a record, waiting for the client to send the rest. */
  get partial(): boolean {
    return !this.#stalled && this.#records.partial
  }

  get stalled(): boolean {
    return this.#stalled
  }

  /** Where the next bytes belong. Stays the place until `input` is called. */
  inputSpace(): Uint8Array {
    return this.#closed ? new Uint8Array(1) : this.#records.space(this.#stalled)
  }

  /** `bytes` bytes have arrived at the place that `inputSpace` gave. */
  input(bytes: number): void {
    if (this.#closed) return
    this.#records.filled(bytes)
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
    this.#records.release()
    this.#replies.release()
    this.#host.ended(this, reason)
  }

  /** Executes what is there, and sends what that gave. */
  #process(): void {
    if (this.#processing) return
    this.#processing = true
    this.#startedMs = this.#host.now()
    try {
      while (!this.#closed && this.#records.ready()) {
        if (this.#full()) this.#flush()
        if (this.#full()) {
          this.#stall()
          break
        }
        if (this.#records.next()) this.#record()
      }
    } catch (error) {
      if (error instanceof XdrError) this.close(error.message)
      else if (error instanceof NotServedError) this.close()
      else throw error
    } finally {
      this.#processing = false
    }
    this.#host.operations.report(this.#host.now() - this.#startedMs)
    if (this.#closed) return
    this.#flush()
    this.#unstall()
  }

  #full(): boolean {
    const { limits, pool } = this.#host
    const { unsentBytes } = this.#replies
    if (this.#callsInFlight === 0 && unsentBytes === 0) return false
    return (
      this.#callsInFlight >= limits.callsInFlight ||
      this.#bytesInFlight >= limits.bytesInFlight ||
      unsentBytes >= limits.unsentBytes ||
      pool.liveBytes > limits.memoryBytes
    )
  }

  #stall(): void {
    this.#stalled = true
    this.#transport.pause()
  }

  #unstall(): void {
    if (!this.#stalled || this.#processing || this.#closed || this.#full()) return
    this.#stalled = false
    this.#process()
    // `#process` may have stalled again, or ended the connection.
    const { stalled } = this
    if (!stalled && !this.#closed) this.#transport.resume()
  }

  /** Executes one call. Throws XdrError if it is none. */
  #record(): void {
    const { slab, at, end } = this.#records
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
      credential = this.#credentials.get(slab, credentialAt, credentialBytes)
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
    const slab =
      region?.slab ?? this.#replies.room(REPLY_HEADER_BYTES + procedure.replyBytesMax + call.replyBytes)
    const start = region?.start ?? slab.tail
    const w = this.#writer
    w.reset(slab.bytes, slab.view, start)
    writeAccepted(w, call.xid, SUCCESS)
    procedure.encode(w, result)
    closeRecord(w, start)
    if (procedure.replyBytesMax > 0) {
      const status = w.view.getUint32(start + REPLY_HEADER_BYTES)
      if (status !== 0) this.#host.operations.failed(procedure.name, status)
      else if (procedure.dataBytes) this.#host.operations.moved(procedure.name, procedure.dataBytes(result))
    }
    if (region) this.#replies.pushReserved(region, w.at)
    else this.#replies.push(slab, w.at)
  }

  /** A reply without results. */
  #refuse(xid: number, stat: number, version = 0): void {
    const slab = this.#replies.room(REPLY_HEADER_BYTES + 8)
    const w = this.#writer
    w.reset(slab.bytes, slab.view, slab.tail)
    writeAccepted(w, xid, stat)
    if (stat === PROG_MISMATCH) {
      w.u32(version)
      w.u32(version)
    }
    closeRecord(w, slab.tail)
    this.#replies.push(slab, w.at)
  }

  #deny(xid: number, why: number, ...details: number[]): void {
    const slab = this.#replies.room(64)
    const w = this.#writer
    w.reset(slab.bytes, slab.view, slab.tail + 4)
    for (const word of [xid, REPLY, MSG_DENIED, why, ...details]) w.u32(word)
    closeRecord(w, slab.tail)
    this.#replies.push(slab, w.at)
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
    if (this.#replies.empty) return
    const { chunks, taken } = this.#replies.flush()
    this.#transport.send(chunks, () => {
      taken()
      this.#unstall()
    })
  }
}
