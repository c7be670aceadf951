/**
 * One call on its way through the server: what a procedure may ask for while it decodes its arguments and calls the file
 * system. `args` is the connection's reader and valid only until the procedure first returns; views taken from it stay
 * valid until the reply is sent.
 */
import type { MaybePromise } from '../../core/std/maybe.ts'
import { isPromise } from '../../core/std/maybe.ts'
import { assert } from '../../core/std/assert.ts'
import type { Crc32 } from '../../core/env/env.ts'
import type { Caller, Duplicate, DuplicateKey, Export, ExportRule, Status, Vfs } from '../../core/vfs/vfs.ts'
import { REPLY_BYTES_MAX } from '../../core/vfs/vfs.ts'
import type { Credential } from '../rpc/rpc.ts'
import { REPLY_HEADER_BYTES } from '../rpc/rpc.ts'
import type { XdrReader } from '../xdr.ts'
import { XdrWriter } from '../xdr.ts'
import type { Address } from './exports.ts'
import { ruleFor, squash } from './exports.ts'
import type { InProgress } from './in-progress.ts'
import type { Slab } from './slab.ts'

/** What all connections share. */
export interface Shared {
  readonly vfs: Vfs
  readonly crc32: Crc32
  readonly inProgress: InProgress
}

/** A procedure of a program. */
export interface Procedure<R> {
  readonly name: string
  /** The most bytes that the results may take; what depends on the arguments is added in `call.replyBytes`. */
  readonly replyBytesMax: number
  /** Decodes the arguments (XdrError makes GARBAGE_ARGS) and calls the file system. */
  run(call: Call): MaybePromise<R>
  encode(w: XdrWriter, result: R): void
  /** Bytes of file data that a successful call moved. */
  dataBytes?(result: R): number
}

/** The client at the other end of a connection, with what was worked out about it. */
export class Peer {
  readonly name: string
  readonly #address: Address
  readonly #rules = new WeakMap<Export, ExportRule | 'none'>()
  #lastExport: Export | undefined
  #lastCredential: Credential | undefined
  #lastRule: ExportRule | undefined
  #lastCaller: Caller | undefined

  constructor(name: string, address: Address) {
    this.name = name
    this.#address = address
  }

  rule(exported: Export): ExportRule | undefined {
    if (exported === this.#lastExport) return this.#lastRule
    let rule = this.#rules.get(exported)
    if (rule === undefined) this.#rules.set(exported, (rule = ruleFor(exported, this.#address) ?? 'none'))
    this.#lastExport = exported
    this.#lastRule = rule === 'none' ? undefined : rule
    this.#lastCaller = undefined
    return this.#lastRule
  }

  /** The caller under the rule of the export asked for last. */
  caller(credential: Credential | undefined): Caller {
    if (this.#lastCaller === undefined || credential !== this.#lastCredential) {
      assert(this.#lastRule, 'caller without a rule')
      this.#lastCredential = credential
      this.#lastCaller = squash(credential, this.#lastRule.squash)
    }
    return this.#lastCaller
  }
}

/** Room for a reply whose data is filled in by the file system. */
export interface Region {
  readonly slab: Slab
  readonly start: number
  readonly bytes: number
}

/** Makes room for a reply of at most so many bytes. */
export type ReserveReply = (bytes: number) => Region

const scratch = new XdrWriter(Buffer.alloc(1024))

export class Call {
  readonly shared: Shared
  readonly peer: Peer
  readonly args: XdrReader
  readonly xid: number
  readonly procedure: number
  readonly credential: Credential | undefined
  /** Set by `enter`. */
  caller!: Caller
  rule!: ExportRule
  /** Bytes of results beyond the procedure's `replyBytesMax`. */
  replyBytes = 0
  region: Region | undefined
  readonly #reserveReply: ReserveReply
  readonly #argumentsFrom: number

  constructor(
    shared: Shared,
    peer: Peer,
    args: XdrReader,
    xid: number,
    procedure: number,
    credential: Credential | undefined,
    reserveReply: ReserveReply,
  ) {
    this.shared = shared
    this.peer = peer
    this.args = args
    this.#argumentsFrom = args.at
    this.xid = xid
    this.procedure = procedure
    this.credential = credential
    this.#reserveReply = reserveReply
  }

  get vfs(): Vfs {
    return this.shared.vfs
  }

  /** Finds the handle's export and what this client may do there; says why it may not. Throws NotServedError. */
  enter(handle: Uint8Array): Status | undefined {
    const exported = this.shared.vfs.exportOf(handle)
    if (typeof exported === 'string') return exported
    const rule = this.peer.rule(exported)
    if (!rule) return 'ACCES'
    this.rule = rule
    this.caller = this.peer.caller(this.credential)
    return undefined
  }

  enterToChange(handle: Uint8Array): Status | undefined {
    const status = this.enter(handle)
    if (status === undefined && this.rule.access === 'ReadOnly') return 'ROFS'
    return status
  }

  /** Room for `count` bytes of data behind `before` bytes of results, where the reply will be sent from. */
  reserve(before: number, count: number): Uint8Array {
    this.region?.slab.release()
    const region = this.#reserveReply(REPLY_HEADER_BYTES + before + count + 3)
    this.region = region
    const from = region.start + REPLY_HEADER_BYTES + before
    return region.slab.bytes.subarray(from, from + count)
  }

  /** Executes what must not happen twice; gives the encoded results, perhaps those of the first time. */
  once<R>(
    handle: Uint8Array,
    encode: (w: XdrWriter, result: R) => void,
    operation: (dup: Duplicate<R>) => MaybePromise<R>,
  ): MaybePromise<Uint8Array> {
    const { vfs, inProgress, crc32 } = this.shared
    const { args } = this
    const key: DuplicateKey = {
      machine: this.credential?.machine ?? this.peer.name,
      xid: this.xid,
      procedure: this.procedure,
      checksum: crc32(args.bytes.subarray(this.#argumentsFrom, args.end)),
    }
    const same = inProgress.find(key)
    if (same) return same
    const known = vfs.duplicate(handle, key)
    const reply = isPromise(known)
      ? known.then((body) => body ?? execute(key, encode, operation))
      : (known ?? execute(key, encode, operation))
    if (isPromise(reply)) inProgress.keep(key, reply)
    return reply
  }
}

function execute<R>(
  key: DuplicateKey,
  encode: (w: XdrWriter, result: R) => void,
  operation: (dup: Duplicate<R>) => MaybePromise<R>,
): MaybePromise<Uint8Array> {
  let kept: Uint8Array | undefined
  const body = (result: R): Uint8Array => {
    scratch.at = 0
    encode(scratch, result)
    assert(scratch.at <= REPLY_BYTES_MAX, 'reply does not fit into the duplicate-request cache')
    return Buffer.copyBytesFrom(scratch.bytes, 0, scratch.at)
  }
  const result = operation({ key, encode: (first) => (kept = body(first)) })
  return isPromise(result) ? result.then((last) => kept ?? body(last)) : (kept ?? body(result))
}
