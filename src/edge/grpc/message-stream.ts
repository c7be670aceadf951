/**
 * gRPC's framing on one HTTP/2 stream (PROTOCOL-HTTP2 of gRPC): messages behind a prefix of five bytes, metadata as headers, the
 * outcome as trailers. Only what one long call in both directions needs; no compression.
 *
 * Why not grpc-js here: it copies each message once on the way out and once on the way in, and the garbage of that cost several
 * times what TLS and HTTP/2 cost together. Messages leave from the buffer in which they were encoded, and are handed out in
 * the chunks in which they came. Both ends speak to grpc-js as well (driver.test.ts).
 */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2'
import { ReceivedMemory } from './received-memory.ts'

/** Before each message: a byte that says whether it is compressed, and its length. */
export const PREFIX_BYTES = 5
export const OK = 0
export const PERMISSION_DENIED = 7
export const UNAVAILABLE = 14

/** Writes the prefix of a message that fills the rest of `bytes`. */
export function putPrefix(bytes: Buffer): void {
  bytes[0] = 0
  bytes.writeUInt32BE(bytes.byteLength - PREFIX_BYTES, 1)
}

export const REQUEST_HEADERS: OutgoingHttpHeaders = {
  ':method': 'POST',
  ':scheme': 'https',
  te: 'trailers',
  'content-type': 'application/grpc',
}
export const RESPONSE_HEADERS: OutgoingHttpHeaders = { ':status': 200, 'content-type': 'application/grpc' }

export function outcome(status: number, message: string): OutgoingHttpHeaders {
  // Percent-encoded, as gRPC has it: a header holds printable ASCII only.
  return { 'grpc-status': String(status), 'grpc-message': encodeURI(message) }
}

/** What headers or trailers say of a call's end; undefined when they do not end it. */
export function outcomeOf(headers: IncomingHttpHeaders): string | undefined {
  const status = headers['grpc-status']
  if (status === undefined) return undefined
  const message = headers['grpc-message']
  if (typeof message !== 'string' || message === '') return `gRPC status ${String(status)}`
  try {
    return decodeURIComponent(message)
  } catch {
    return message
  }
}

/** A message where it was received. */
export interface ReceivedMessage {
  readonly chunks: readonly Uint8Array[]
  /** What the chunks lie in, in use by the message. */
  readonly memory: readonly ReceivedMemory[]
}

/** Cuts what arrives into messages, without copying: each is a list of views of the chunks received. */
export class MessageReader {
  readonly #bytesMax: number
  readonly #prefix = Buffer.alloc(PREFIX_BYTES)
  #prefixBytes = 0
  #chunks: Uint8Array[] = []
  #memory: ReceivedMemory[] = []
  /** Of the newest read. */
  #read: ReceivedMemory | undefined
  /** Of the message under way, still to come. */
  #missing = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** The messages that end in this chunk. Throws an Error for what is no message of ours: too long, or compressed. */
  push(chunk: Uint8Array): ReceivedMessage[] {
    const read = this.#readOf(chunk)
    const messages: ReceivedMessage[] = []
    for (let at = 0; at < chunk.byteLength;) {
      if (this.#prefixBytes < PREFIX_BYTES) {
        this.#prefix[this.#prefixBytes++] = chunk[at++]!
        if (this.#prefixBytes < PREFIX_BYTES) continue
        this.#begin()
      } else {
        const part = Math.min(this.#missing, chunk.byteLength - at)
        // A plain view: a Buffer's slice() would be a view where everybody expects a copy.
        this.#chunks.push(new Uint8Array(chunk.buffer, chunk.byteOffset + at, part))
        if (this.#memory.at(-1) !== read) {
          this.#memory.push(read)
          read.use()
        }
        this.#missing -= part
        at += part
      }
      if (this.#missing > 0) continue
      messages.push({ chunks: this.#chunks, memory: this.#memory })
      this.#chunks = []
      this.#memory = []
      this.#prefixBytes = 0
    }
    return messages
  }

  #readOf(chunk: Uint8Array): ReceivedMemory {
    if (this.#read?.holds(chunk) === true) return this.#read
    const before = this.#read
    this.#read = new ReceivedMemory(chunk.buffer)
    before?.release()
    return this.#read
  }

  #begin(): void {
    if (this.#prefix[0] !== 0) throw new Error('compressed message')
    this.#missing = this.#prefix.readUInt32BE(1)
    if (this.#missing > this.#bytesMax) throw new Error(`message of ${this.#missing} bytes`)
  }
}
