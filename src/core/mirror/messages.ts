/**
 * What source and destination of a mirror say to each other: a head, and bytes behind it. Every message names the mirror and the session, which the source begins with
 * `resume`; what is of an older session is of no account at either end.
 */
import type { BlockKind } from '../fs/block-store.ts'
import { getU32, getU48, putU32, putU48 } from '../fs/bytes.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import type { Pin } from './records.ts'
import { decodeJson, encodeJson } from '../std/ascii-json.ts'

/** Of what the two ends say, and of the frames and images in it. Raised when an older release would take something for what it is not; what is only added needs none. */
export const MIRROR_VERSION = 1

export type Refusal =
  'Generation' | 'Fence' | 'Broken' | 'Source' | 'NoImage' | 'WouldDiscardChanges' | 'Version'
/** Without what every message has. */
export type Body<T> = T extends unknown ? Omit<T, 'mirror' | 'session'> : never

interface Common {
  readonly mirror: string
  readonly session: number
}
export type ToDestination = Common &
  (
    | {
        readonly type: 'resume'
        readonly version: number
        readonly generation: number
        /** Epoch of the source's side in its vote, and the filer's incarnation: older sources are refused. */
        readonly fence: readonly [number, number]
        /** Of this opening of the side: the epoch changes while the same owner goes on with the same log. */
        readonly opening: number
        /** The last record in the source's log when it opened it: what an older source sent beyond it was in one log only, and never acknowledged. */
        readonly last: number
        /** Images that the source has, with the generations in which they were pinned; for an end that is to become the destination. */
        readonly images: readonly (readonly [image: number, generation: number])[]
        /** The last record that the source has of the other end, from when that was the source. */
        readonly has: number
      }
    /** A frame of a log file. `start`: the first after a time without; the image of the epoch before will hold all that is missing. */
    | { readonly type: 'operations'; readonly start: boolean }
    | { readonly type: 'blocks' }
    | { readonly type: 'free' }
    /** The image is complete; behind it the root of its files. `covers`: the last record in it. */
    | { readonly type: 'end'; readonly pin: Pin }
    /** In sync as soon as the image is durable there. */
    | { readonly type: 'join'; readonly image: number }
    /** A consistency point is wanted. */
    | { readonly type: 'flush' }
    /** Is the destination willing to become the source? */
    | { readonly type: 'reversible' }
    /** It is the source from now on: the old one changes nothing any more, and `last` is the last record. */
    | { readonly type: 'reverse'; readonly last: number }
  )
export type ToSource = Common &
  (
    | {
        readonly type: 'resumed'
        /** The last record that the destination has, in log files or in the image. */
        readonly last: number
        /** Newest complete image, and its generation; 0: none. */
        readonly image: number
        readonly of: number
        readonly durable: number
        /** The image of the consistency point that is under way there; 0: none. */
        readonly frozen: number
      }
    /** Generation: a source that goes on must have a higher one. Source: this end is no destination. NoImage: the ends have no image in common. */
    | { readonly type: 'refused'; readonly reason: Refusal; readonly generation: number }
    | { readonly type: 'acknowledged'; readonly last: number }
    /** So many blocks were taken in: there is room for as many. */
    | { readonly type: 'taken'; readonly blocks: number }
    | { readonly type: 'complete'; readonly image: number }
    /** A consistency point has begun that will make it durable. */
    | { readonly type: 'frozen'; readonly image: number }
    | { readonly type: 'durable'; readonly image: number }
    | { readonly type: 'joined' }
    | { readonly type: 'failed'; readonly reason: string }
    /** `reverse`: it was told to be the source, and is not. */
    | { readonly type: 'willing'; readonly yes: boolean; readonly reverse?: true }
    /** It is about to be the source. */
    | { readonly type: 'reversed' }
    /** The volume is not served by this filer (any more). */
    | { readonly type: 'elsewhere' }
  )

export function encodeMessage(head: ToDestination | ToSource, body?: Uint8Array): Uint8Array {
  const json = encodeJson(head)
  const bytes = new Uint8Array(4 + json.length + (body?.length ?? 0))
  putU32(bytes, 0, json.length)
  bytes.set(json, 4)
  if (body !== undefined) bytes.set(body, 4 + json.length)
  return bytes
}

export interface Message {
  readonly head: ToDestination | ToSource
  readonly body: Uint8Array
}

/** Undefined for what is no message. */
export function decodeMessage(bytes: Uint8Array): Message | undefined {
  if (bytes.length < 4) return undefined
  const length = getU32(bytes, 0)
  if (length > bytes.length - 4) return undefined
  const head = decodeJson(bytes.subarray(4, 4 + length)) as Partial<Message['head']> | undefined
  if (typeof head?.type !== 'string' || typeof head.mirror !== 'string' || typeof head.session !== 'number')
    return undefined
  return { head: head as Message['head'], body: bytes.subarray(4 + length) }
}

const KINDS: readonly BlockKind[] = ['data', 'indirect', 'inode', 'directory', 'symlink', 'meta']
const BLOCK_HEADER_BYTES = 8

export interface SentBlock {
  readonly number: number
  readonly kind: BlockKind
  readonly content: Uint8Array
}

export function encodeBlocks(blocks: readonly SentBlock[]): Uint8Array {
  const bytes = new Uint8Array(blocks.length * (BLOCK_HEADER_BYTES + BLOCK_BYTES))
  for (const [i, { number, kind, content }] of blocks.entries()) {
    const at = i * (BLOCK_HEADER_BYTES + BLOCK_BYTES)
    putU48(bytes, at, number)
    bytes[at + 6] = KINDS.indexOf(kind)
    bytes.set(content, at + BLOCK_HEADER_BYTES)
  }
  return bytes
}

export function* decodeBlocks(bytes: Uint8Array): Generator<SentBlock> {
  for (let at = 0; at < bytes.length; at += BLOCK_HEADER_BYTES + BLOCK_BYTES) {
    const content = bytes.slice(at + BLOCK_HEADER_BYTES, at + BLOCK_HEADER_BYTES + BLOCK_BYTES)
    yield { number: getU48(bytes, at), kind: KINDS[bytes[at + 6]!]!, content }
  }
}

export function encodeNumbers(numbers: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 6)
  for (const [i, number] of numbers.entries()) putU48(bytes, i * 6, number)
  return bytes
}

export function decodeNumbers(bytes: Uint8Array): number[] {
  return Array.from({ length: Math.floor(bytes.length / 6) }, (_, i) => getU48(bytes, i * 6))
}
