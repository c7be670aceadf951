/** A connection without a socket, for tests that look at bytes: what goes in, what comes out, and who waits for whom. */
import type { Vfs } from '../../core/vfs/vfs.ts'
import { AUTH_SYS, CALL, LAST_FRAGMENT, RPC_VERSION } from '../rpc/rpc.ts'
import type { Connection, Transport } from '../server/connection.ts'
import { NfsServer } from '../server/server.ts'
import { NFS_PROGRAM, NFS_V3 } from '../v3/constants.ts'
import { XdrReader, XdrWriter } from '../xdr.ts'
import type { LogLine } from './loopback.ts'
import { testEnv } from './loopback.ts'

export interface CallParts {
  readonly xid?: number
  readonly rpcVersion?: number
  readonly program?: number
  readonly version?: number
  readonly procedure: number
  readonly flavor?: number
  readonly machine?: string
  readonly uid?: number
  readonly gid?: number
  readonly gids?: readonly number[]
  readonly write?: (w: XdrWriter) => void
}

const scratch = new XdrWriter(Buffer.alloc(2 << 20))

/** A call without its record mark. */
export function message(parts: CallParts): Buffer {
  const {
    xid = 1,
    rpcVersion = RPC_VERSION,
    program = NFS_PROGRAM,
    version = NFS_V3,
    procedure,
    flavor = AUTH_SYS,
  } = parts
  const w = scratch
  w.at = 0
  for (const word of [xid, CALL, rpcVersion, program, version, procedure, flavor]) w.u32(word)
  if (flavor === AUTH_SYS) {
    const credential = new XdrWriter(Buffer.alloc(400))
    credential.u32(0)
    credential.string(parts.machine ?? 'tester')
    const gids = parts.gids ?? []
    for (const word of [parts.uid ?? 0, parts.gid ?? 0, gids.length, ...gids]) credential.u32(word)
    w.opaque(credential.bytes.subarray(0, credential.at))
  } else w.u32(0)
  w.u32(0)
  w.u32(0)
  parts.write?.(w)
  return Buffer.copyBytesFrom(w.bytes, 0, w.at)
}

export function marked(body: Uint8Array, last = true): Buffer {
  const record = Buffer.alloc(4 + body.byteLength)
  record.writeUInt32BE((last ? LAST_FRAGMENT : 0) + body.byteLength)
  record.set(body, 4)
  return record
}

export const record = (parts: CallParts): Buffer => marked(message(parts))

export interface Reply {
  readonly xid: number
  /** 0: accepted. */
  readonly denied: number
  /** accept_stat or reject_stat. */
  readonly stat: number
  readonly results: XdrReader
}

export class Wire implements Transport {
  readonly server: NfsServer
  readonly lines: LogLine[]
  readonly connection: Connection
  paused = false
  closed = false
  /** The client takes nothing until `take`. */
  slow = false
  sends = 0
  readonly #waiting: (() => void)[] = []
  #out: Buffer = Buffer.alloc(0)

  constructor(
    vfs: Vfs,
    limits: ConstructorParameters<typeof NfsServer>[2] = {},
    options: { server?: NfsServer; address?: string } = {},
  ) {
    const { env, lines } = testEnv()
    this.lines = lines
    this.server = options.server ?? new NfsServer(env, vfs, limits)
    this.connection = this.server.connect(options.address ?? '192.0.2.1', this)!
  }

  send(chunks: readonly Uint8Array[], taken: () => void): void {
    this.sends++
    this.#out = Buffer.concat([this.#out, ...chunks])
    if (this.slow && !this.closed) this.#waiting.push(taken)
    else taken()
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  close(): void {
    this.closed = true
    this.take()
  }

  soon(task: () => void): void {
    process.nextTick(task)
  }

  /** The client reads all that was sent. */
  take(): void {
    for (const taken of this.#waiting.splice(0)) taken()
  }

  /** Gives bytes to the connection in pieces of at most `piece`; what it does not take while paused is given back. */
  feed(bytes: Uint8Array, piece = Infinity): Uint8Array {
    let at = 0
    while (at < bytes.byteLength && !this.paused && !this.closed) {
      const taken = this.connection.receive(bytes.subarray(at, Math.min(bytes.byteLength, at + piece)))
      at += taken
      if (taken === 0) break
    }
    return bytes.subarray(at)
  }

  get outBytes(): number {
    return this.#out.length
  }

  /** The replies that came since the last call. */
  replies(): Reply[] {
    const replies: Reply[] = []
    let at = 0
    while (this.#out.length - at >= 4) {
      const end = at + 4 + (this.#out.readUInt32BE(at) & 0x7fff_ffff)
      if (end > this.#out.length) break
      const r = new XdrReader(Buffer.copyBytesFrom(this.#out, at + 4, end - at - 4))
      const xid = r.u32()
      r.u32()
      const denied = r.u32()
      if (denied === 0) {
        r.u32()
        r.u32()
      }
      replies.push({ xid, denied, stat: r.u32(), results: r })
      at = end
    }
    this.#out = this.#out.subarray(at)
    return replies
  }

  /** Gives what was sent, as it was. */
  raw(): Buffer {
    const out = this.#out
    this.#out = Buffer.alloc(0)
    return out
  }

  /** One call, answered at once. */
  ask(parts: CallParts): Reply {
    this.feed(record(parts))
    const [reply, ...more] = this.replies()
    if (!reply || more.length > 0) throw new Error(`expected one reply, got ${reply ? more.length + 1 : 0}`)
    return reply
  }
}
