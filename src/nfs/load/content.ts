/**
 * What a load writes: cells of 512 bytes, each of which tells by itself which file it belongs to, where, and which write made it (its stamp,
 * which only grows in a file). So a reader can tell content that is too old from content that was never written.
 *
 * Cells are smaller than the server's blocks, so most writes begin and end inside one.
 */
import { Random } from './random.ts'

export const CELL_BYTES = 512

/** Content of one cell; stamp 0 is a hole. */
export function cellOf(file: number, index: number, stamp: number): Buffer {
  const cell = Buffer.alloc(CELL_BYTES)
  if (stamp === 0) return cell
  const words = new Uint32Array(cell.buffer, cell.byteOffset, CELL_BYTES / 4)
  const random = new Random(Math.imul(file, 0x01000193) ^ Math.imul(index, 0x9e3779b1) ^ stamp)
  for (let at = 0; at < words.length; at++) words[at] = random.next()
  cell.writeUInt32BE(stamp)
  return cell
}

export function cellsOf(file: number, first: number, stamps: readonly number[]): Buffer {
  return Buffer.concat(stamps.map((stamp, at) => cellOf(file, first + at, stamp)))
}

/** The stamp of what was read at that place; undefined when it was never written there. */
export function stampOf(file: number, index: number, cell: Uint8Array): number | undefined {
  if (cell.byteLength !== CELL_BYTES) return undefined
  const stamp = Buffer.from(cell.buffer, cell.byteOffset, CELL_BYTES).readUInt32BE()
  return cellOf(file, index, stamp).equals(cell) ? stamp : undefined
}
