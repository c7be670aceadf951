/**
 * Valid calls of every procedure, and ways to damage them: for tests of what a server does with whatever clients send.
 */
import { MOUNT_PROGRAM } from '../mount/mount3.ts'
import type { XdrWriter } from '../xdr.ts'
import { message } from './wire.ts'

/** Seven words, the credential that `corpus` uses, an empty verifier. */
export const HEADER_BYTES = 28 + 40 + 8
const INTERESTING = [
  0,
  1,
  2,
  3,
  4,
  31,
  32,
  33,
  64,
  65,
  255,
  256,
  400,
  401,
  4096,
  1 << 20,
  (1 << 20) + 1,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_ffff,
]

export type Chance = (below: number) => number

export function generator(seed: number): Chance {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % below
  }
}

/** One valid call of each kind. */
export function corpus(path: string, root: Uint8Array, file: Uint8Array): Buffer[] {
  const words = (w: XdrWriter, ...all: number[]): void => all.forEach((word) => w.u32(word))
  const at = (handle: Uint8Array, rest?: (w: XdrWriter) => void) => (w: XdrWriter) => {
    w.opaque(handle)
    rest?.(w)
  }
  const named = (rest?: (w: XdrWriter) => void) =>
    at(root, (w) => {
      w.string('name')
      rest?.(w)
    })
  const sattr = (w: XdrWriter): void => words(w, 1, 0o644, 1, 5, 1, 6, 1, 0, 100, 2, 5, 6, 1)
  const bodies: [number, ((w: XdrWriter) => void)?][] = [
    [0],
    [1, at(root)],
    [2, at(file, (w) => (sattr(w), words(w, 1, 7, 8)))],
    [3, at(root, (w) => w.string('file'))],
    [4, at(root, (w) => words(w, 63))],
    [5, at(file)],
    [6, at(file, (w) => words(w, 0, 5, 4096))],
    [7, at(file, (w) => (words(w, 0, 5, 100, 2), w.opaque(Buffer.alloc(100, 1))))],
    [8, named((w) => (words(w, 0), sattr(w)))],
    [8, named((w) => words(w, 2, 1, 2))],
    [9, named(sattr)],
    [10, named((w) => (sattr(w), w.string('some/where')))],
    [11, named((w) => (words(w, 4), sattr(w), words(w, 1, 2)))],
    [12, named()],
    [13, named()],
    [14, named((w) => (w.opaque(root), w.string('other')))],
    [15, at(file, (w) => (w.opaque(root), w.string('link')))],
    [16, at(root, (w) => words(w, 0, 0, 0, 0, 4096))],
    [17, at(root, (w) => words(w, 0, 0, 0, 0, 1024, 4096))],
    [18, at(root)],
    [19, at(root)],
    [20, at(root)],
    [21, at(file, (w) => words(w, 0, 0, 0))],
  ]
  const nfs = bodies.map(([procedure, write], xid) =>
    message({ xid, procedure, gids: [1, 2], ...(write && { write }) }),
  )
  const mount = [0, 1, 2, 3, 4, 5].map((procedure) =>
    message({
      program: MOUNT_PROGRAM,
      procedure,
      gids: [1, 2],
      ...(procedure % 2 === 1 && { write: (w: XdrWriter) => w.string(path) }),
    }),
  )
  return [...nfs, ...mount]
}

export function damage(random: Chance, call: Buffer, other: Buffer): Buffer {
  let bytes = Buffer.from(call)
  for (let times = random(4); times >= 0 && bytes.length > 0; times--) {
    const word = 4 * random(Math.max(1, bytes.length >> 2))
    switch (random(6)) {
      case 0:
        bytes[random(bytes.length)]! ^= 1 << random(8)
        break
      case 1:
        if (word + 4 <= bytes.length) bytes.writeUInt32BE(INTERESTING[random(INTERESTING.length)]!, word)
        break
      case 2:
        bytes = bytes.subarray(0, random(bytes.length))
        break
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, word), other.subarray(random(other.length))])
        break
      case 4:
        bytes = Buffer.concat([bytes, Buffer.alloc(random(64), random(256))])
        break
      default:
        bytes = Buffer.concat([bytes.subarray(0, word), bytes.subarray(word + 4)])
    }
  }
  return bytes
}
