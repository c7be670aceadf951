/**
 * A pair's media as a program of an earlier format left them at a power failure, and what its clients knew to be there: for tests that today's program
 * opens them with nothing lost.
 *
 * An image NAME is two files in `testdata`: `NAME.json.br` (how the pair was configured, its vote, every object with attributes, handle and checksums of its
 * content, answers that must be remembered) and `NAME.blocks.br` (the blocks that are not zero, in the order of the list). Both are Brotli. In each, both
 * logs have records that no consistency point covers. `format-1` was written by the last program before traditional volumes and snapshots: two volumes.
 * `format-1-snapshots`, by scripts/keep-image.ts, has a traditional volume beside, snapshots of all volumes, and some that were restored.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, brotliDecompressSync } from 'node:zlib'
import { BLOCK_BYTES } from '../core/env/device.ts'
import type { Time } from '../core/env/env.ts'
import type { VoteRecord } from '../core/pair/vote.ts'
import type { DuplicateKey, FileType } from '../core/vfs/vfs.ts'
import type { PairOptions } from './filer-pair.ts'
import type { SideName } from './names.ts'
import type { SimMedium } from './device.ts'
import { FilerPair } from './filer-pair.ts'
import { FILERS } from './names.ts'

export interface KeptObject {
  /** From the volume's root, without a slash in front. */
  readonly path: string
  readonly type: FileType
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly used: number
  readonly fileid: number
  readonly rdev: readonly [number, number]
  readonly mtime: Time
  readonly ctime: Time
  /** Hexadecimal. */
  readonly handle: string
  /** Of a symbolic link. */
  readonly link?: string
  /** Of a regular file: offset, length, first 16 digits of the SHA-256. */
  readonly runs?: readonly (readonly [number, number, string])[]
}

export interface KeptVolume {
  /** Handle of the volume's root. */
  readonly root: string
  readonly entries: readonly KeptObject[]
  /** Calls that were answered: sent again they get the same answer. */
  readonly remembered: readonly { readonly key: DuplicateKey; readonly answer: unknown }[]
  readonly snapshots?: readonly { readonly name: string; readonly entries: readonly KeptObject[] }[]
}

export interface KeptSide extends KeptVolume {
  /** Records in the log that the image does not cover. */
  readonly logged: number
  readonly traditional?: KeptVolume
}

type ImageOptions = Pick<PairOptions, 'deviceBlocks' | 'traditionalBlocks' | 'volumeBytes' | 'logBlocks'>

interface Manifest {
  readonly options: ImageOptions
  readonly vote: { readonly record: VoteRecord; readonly version: number }
  readonly sides: Readonly<Record<SideName, KeptSide>>
  readonly media: readonly {
    readonly name: string
    readonly blocks: number
    readonly numbers: readonly number[]
  }[]
}

const fileOf = (name: string, kind: string): string =>
  join(import.meta.dirname, 'testdata', `${name}.${kind}.br`)

export const newPair = (options: ImageOptions): FilerPair =>
  new FilerPair({ seed: 1, cacheBytes: 8 << 20, givebackDelayMs: 2000, ...options })

const mediaOf = (pair: FilerPair): SimMedium[] =>
  FILERS.flatMap((filer) => {
    const { mailbox, logs, plexes, traditional } = pair.media[filer]
    return [mailbox, logs.a, logs.b, ...plexes.a, ...plexes.b, ...traditional.a, ...traditional.b]
  })

/** The pair, not started, over the media of an image. */
export function keptImage(name: string): {
  readonly pair: FilerPair
  readonly sides: Readonly<Record<SideName, KeptSide>>
} {
  const file = (kind: string): Buffer => brotliDecompressSync(readFileSync(fileOf(name, kind)))
  const manifest = JSON.parse(file('json').toString()) as Manifest
  const blocks = file('blocks')
  const pair = newPair(manifest.options)
  const media = mediaOf(pair)
  let at = 0
  for (const { name: wanted, blocks: size, numbers } of manifest.media) {
    const medium = media.find((one) => one.name === wanted)
    if (medium?.blocks !== size) throw new Error(`image ${name}: no medium ${wanted} of ${size} blocks`)
    for (const number of numbers) {
      medium.stable.set(number, new Uint8Array(blocks.subarray(at, at + BLOCK_BYTES)))
      at += BLOCK_BYTES
    }
  }
  pair.vote.record = manifest.vote.record
  pair.vote.version = manifest.vote.version
  return { pair, sides: manifest.sides }
}

/** Keeps what the media of a pair without power have. */
export function keepImage(
  name: string,
  options: ImageOptions,
  pair: FilerPair,
  sides: Readonly<Record<SideName, KeptSide>>,
): void {
  const blocks: Uint8Array[] = []
  const media = mediaOf(pair).map((medium) => {
    const used = [...medium.stable].filter(([, content]) => content.some((byte) => byte !== 0))
    used.sort(([one], [two]) => one - two)
    for (const [, content] of used) blocks.push(content)
    return { name: medium.name, blocks: medium.blocks, numbers: used.map(([number]) => number) }
  })
  const { record, version } = pair.vote
  const manifest: Manifest = { options, vote: { record: record!, version }, sides, media }
  writeFileSync(fileOf(name, 'json'), brotliCompressSync(JSON.stringify(manifest)))
  writeFileSync(fileOf(name, 'blocks'), brotliCompressSync(Buffer.concat(blocks)))
}
