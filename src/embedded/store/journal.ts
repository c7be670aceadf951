/**
 * The store's durable file: one line per mutation, `<crc32 in hex> <JSON>\n`, appended and flushed before anybody hears of it. The
 * mutations that arrive during a flush go together into the next one. When the file has grown to several times what is alive, it
 * is written anew beside itself and renamed.
 *
 * A crash leaves at most a torn end, which is cut off: nothing in it was ever told to anyone. A bad line with a good one behind it
 * is damage, and refused. A write that fails ends the process (`onFailure`): memory is ahead of the disk then.
 */
import { closeSync, fsyncSync, openSync, readFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Mutation } from './object-store.ts'

interface Header {
  readonly format: 1
  /** The revision counter when the file was begun: revisions of deleted objects are not given out again. */
  readonly revision: number
}

export interface JournalOptions {
  readonly snapshot: () => Iterable<Mutation>
  readonly revision: () => number
  readonly onFailure: (error: unknown) => void
  /** The file is written anew beyond this and four times what is alive. */
  readonly compactBytes?: number
}

interface Waiter {
  readonly revision: number
  readonly resolve: () => void
}

function encode(record: Header | Mutation): string {
  const json = JSON.stringify(record)
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`
}

function decode(line: string): unknown {
  const json = line.slice(9)
  if (line[8] !== ' ' || crc32(json).toString(16).padStart(8, '0') !== line.slice(0, 8)) return undefined
  return JSON.parse(json) as unknown
}

export class Journal {
  readonly #path: string
  readonly #options: JournalOptions
  #file: FileHandle
  #bytes: number
  #bytesAfterCompaction: number
  #queue: Mutation[] = []
  #durable: number
  #waiting: Waiter[] = []
  #pumping: Promise<void> | undefined

  private constructor(
    path: string,
    file: FileHandle,
    bytes: number,
    revision: number,
    options: JournalOptions,
  ) {
    this.#path = path
    this.#file = file
    this.#bytes = bytes
    this.#bytesAfterCompaction = bytes
    this.#durable = revision
    this.#options = options
  }

  /** What the file holds, and the journal to go on with. */
  static async open(
    path: string,
    options: JournalOptions,
  ): Promise<{ journal: Journal; revision: number; mutations: Mutation[] }> {
    const { header, mutations, goodBytes } = readJournal(path)
    const file = await open(path, header === undefined ? 'w' : 'r+', 0o600)
    let bytes = goodBytes
    if (header === undefined) {
      bytes = (await file.write(encode({ format: 1, revision: 0 }))).bytesWritten
    } else await file.truncate(goodBytes)
    await file.sync()
    syncFolder(path)
    const revision = Math.max(header?.revision ?? 0, mutations.at(-1)?.revision ?? 0)
    return { journal: new Journal(path, file, bytes, revision, options), revision, mutations }
  }

  append(mutation: Mutation): void {
    this.#queue.push(mutation)
    this.#pumping ??= this.#pump().catch((error: unknown) => this.#options.onFailure(error))
  }

  /** Resolves when everything up to `revision` survives a crash. */
  durable(revision: number): Promise<void> {
    if (revision <= this.#durable) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push({ revision, resolve }))
  }

  async close(): Promise<void> {
    await this.#pumping
    await this.#file.close()
  }

  async #pump(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue
      this.#queue = []
      const data = Buffer.from(batch.map(encode).join(''))
      await writeAll(this.#file, data, this.#bytes)
      await this.#file.datasync()
      this.#bytes += data.length
      this.#durable = batch.at(-1)!.revision
      const still: Waiter[] = []
      for (const waiter of this.#waiting)
        if (waiter.revision <= this.#durable) waiter.resolve()
        else still.push(waiter)
      this.#waiting = still
      if (this.#bytes > Math.max(this.#options.compactBytes ?? 4 << 20, 4 * this.#bytesAfterCompaction))
        await this.#compact()
    }
    this.#pumping = undefined
  }

  /** Between two batches; what arrives meanwhile is in the snapshot already, and is appended again, which restores the same. */
  async #compact(): Promise<void> {
    const lines = [encode({ format: 1, revision: this.#options.revision() })]
    for (const mutation of this.#options.snapshot()) lines.push(encode(mutation))
    const data = Buffer.from(lines.join(''))
    const next = await open(`${this.#path}.new`, 'w', 0o600)
    await writeAll(next, data, 0)
    await next.sync()
    await rename(`${this.#path}.new`, this.#path)
    syncFolder(this.#path)
    await this.#file.close()
    this.#file = next
    this.#bytes = data.length
    this.#bytesAfterCompaction = data.length
  }
}

function readJournal(path: string): { header: Header | undefined; mutations: Mutation[]; goodBytes: number } {
  let data: Buffer
  try {
    data = readFileSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      return { header: undefined, mutations: [], goodBytes: 0 }
    throw error
  }
  const mutations: Mutation[] = []
  let header: Header | undefined
  let goodBytes = 0
  while (goodBytes < data.length) {
    const end = data.indexOf(10, goodBytes)
    const record = end < 0 ? undefined : decode(data.toString('utf8', goodBytes, end))
    if (record === undefined) {
      assertTorn(path, data, goodBytes)
      break
    }
    if (header === undefined) {
      header = record as Header
      if (header.format !== 1)
        throw new Error(`${path} has format ${String(header.format)}; this version reads 1`)
    } else mutations.push(record as Mutation)
    goodBytes = end + 1
  }
  return { header, mutations, goodBytes }
}

/** A torn end has nothing readable behind it. */
function assertTorn(path: string, data: Buffer, from: number): void {
  let at = data.indexOf(10, from)
  while (at >= 0) {
    const end = data.indexOf(10, at + 1)
    if (end < 0) return
    if (decode(data.toString('utf8', at + 1, end)) !== undefined)
      throw new Error(
        `${path} is damaged at byte ${String(from)}: a line whose checksum is wrong, with good lines behind it`,
      )
    at = end
  }
}

async function writeAll(file: FileHandle, data: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < data.length)
    written += (await file.write(data, written, data.length - written, position + written)).bytesWritten
}

function syncFolder(path: string): void {
  const folder = openSync(dirname(path), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
