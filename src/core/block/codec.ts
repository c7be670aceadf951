/**
 * Pieces that labels, roots and table entries share: bounded ASCII strings, JSON, self-checking blocks. docs/SPEC.md names them.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Crc32 } from '../env/env.ts'
import { getBytes, getU16, getU32, putBytes, putU16, putU32 } from '../fs/bytes.ts'
import { assert } from '../std/assert.ts'

export type Json = Readonly<Record<string, unknown>>

/** A string in a field of `room` bytes, length byte first. */
export function putString(bytes: Uint8Array, at: number, room: number, text: string): void {
  assert(text.length < room, `text of ${text.length} bytes in a field of ${room}`)
  for (let i = 0; i < text.length; i++) assert(text.charCodeAt(i) < 128, 'text in a label is ASCII')
  bytes[at] = text.length
  putBytes(bytes, at + 1, text)
}

export function getString(bytes: Uint8Array, at: number, room: number): string {
  return getBytes(bytes, at + 1, Math.min(bytes[at]!, room - 1))
}

/** JSON with everything beyond ASCII escaped, so that one character is one byte. */
export function asciiJson(value: Json): string {
  return JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

export function putJson(bytes: Uint8Array, at: number, room: number, value: Json): void {
  const text = asciiJson(value)
  assert(text.length + 2 <= room, `properties of ${text.length} bytes in a field of ${room}`)
  putU16(bytes, at, text.length)
  putBytes(bytes, at + 2, text)
}

/** Undefined if it is no JSON object. */
export function getJson(bytes: Uint8Array, at: number, room: number): Json | undefined {
  const length = getU16(bytes, at)
  if (length + 2 > room) return undefined
  try {
    const value: unknown = JSON.parse(getBytes(bytes, at + 2, length))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined
  } catch {
    return undefined
  }
}

const AT_CRC = 8
const AT_CHECKED = 12

/** Makes `bytes` a self-checking block: `magic` in front, CRC-32 of all behind it. Last step of encoding. */
export function seal(crc32: Crc32, bytes: Uint8Array, magic: string): void {
  putBytes(bytes, 0, magic)
  putU32(bytes, AT_CRC, crc32(bytes.subarray(AT_CHECKED, BLOCK_BYTES)))
}

export function isSealed(crc32: Crc32, bytes: Uint8Array, magic: string): boolean {
  return (
    bytes.length === BLOCK_BYTES &&
    getBytes(bytes, 0, 8) === magic &&
    getU32(bytes, AT_CRC) === crc32(bytes.subarray(AT_CHECKED, BLOCK_BYTES))
  )
}
