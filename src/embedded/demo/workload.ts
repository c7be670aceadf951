/**
 * A client that writes a tree, keeps writing, and knows what must be there: a model in memory of every file whose last change was
 * acknowledged. `verify` reads everything back and compares names, sizes and SHA-256 with the model.
 *
 * Every writer works in a directory of its own, one call after the other, so the model is exact whenever no call is in flight; `pause`
 * waits for that.
 */
import { createHash } from 'node:crypto'
import type { NfsClient } from '../../nfs/client/nfs-client.ts'

/** xorshift32: what is written depends on the seed alone. */
class Chance {
  #state: number
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1
  }
  next(below: number): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x >>> 0
    return this.#state % below
  }
  bytes(length: number): Buffer {
    const words = new Uint32Array((length + 3) >> 2)
    for (let i = 0; i < words.length; i++) words[i] = this.next(2 ** 32)
    return Buffer.from(words.buffer, 0, length)
  }
}

interface ModelFile {
  handle: Uint8Array
  content: Buffer
}

interface Directory {
  readonly name: string
  readonly handle: Uint8Array
  readonly files: Map<string, ModelFile>
}

export interface Counts {
  /** Acknowledged calls that changed something. */
  operations: number
  bytes: number
}

export interface Verdict {
  readonly files: number
  readonly bytes: number
  /** SHA-256 over names and contents of the whole tree. */
  readonly digest: string
  readonly differences: readonly string[]
}

const CHUNK_BYTES = 65536
const FILE_BYTES_MAX = 262144
const FILES_PER_WRITER_MAX = 60

export class Workload {
  readonly #client: NfsClient
  readonly #directories: Directory[] = []
  readonly #seed: number
  readonly counts: Counts = { operations: 0, bytes: 0 }
  #paused: PromiseWithResolvers<void> | undefined
  #stopped = false
  #idle = 0
  #becameIdle: (() => void) | undefined
  #writers: Promise<void>[] = []
  #failure: unknown
  /** Longest time that one call took, and longest time without any acknowledgement, since `resetPause`. */
  #lastAcknowledgedMs = performance.now()
  #longestPauseMs = 0

  constructor(client: NfsClient, seed: number) {
    this.#client = client
    this.#seed = seed
  }

  /** A directory for each writer, with files in it. */
  async writeTree(root: Uint8Array, writers: number, filesPerWriter: number): Promise<void> {
    for (let i = 0; i < writers; i++) {
      const name = `writer-${i}`
      const made = await this.#client.mkdir(root, name)
      const handle = made.handle ?? (await this.#client.lookup(root, name)).handle
      this.#acknowledged(0)
      this.#directories.push({ name, handle, files: new Map() })
    }
    await Promise.all(
      this.#directories.map(async (directory, i) => {
        const chance = new Chance(this.#seed + i)
        for (let n = 0; n < filesPerWriter; n++) await this.#create(directory, chance)
      }),
    )
  }

  /** Writers that go on until `stop`. A failure of one is that of `stop` and `pause`. */
  start(): void {
    this.#writers = this.#directories.map((directory, i) =>
      this.#write(directory, new Chance(this.#seed + 1000 + i)),
    )
    for (const writer of this.#writers)
      writer.catch((error: unknown) => {
        this.#failure ??= error
      })
  }

  /** Throws what a writer failed with: a client of ours is never to see an error. */
  assertWell(): void {
    if (this.#failure !== undefined)
      throw new Error(`the client got an error: ${(this.#failure as Error).message}`, {
        cause: this.#failure,
      })
  }

  async pause(): Promise<void> {
    this.#paused = Promise.withResolvers()
    const idle = new Promise<void>((resolve) => (this.#becameIdle = resolve))
    if (this.#idle < this.#writers.length) await Promise.race([idle, Promise.all(this.#writers)])
    this.assertWell()
    this.#becameIdle = undefined
  }

  resume(): void {
    this.#lastAcknowledgedMs = performance.now()
    this.#paused?.resolve()
    this.#paused = undefined
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.resume()
    await Promise.all(this.#writers)
  }

  resetPause(): void {
    this.#longestPauseMs = 0
    this.#lastAcknowledgedMs = performance.now()
  }

  /** Longest time without an acknowledgement since `resetPause`, the running one included. */
  get longestPauseMs(): number {
    const running =
      this.#paused === undefined && !this.#stopped ? performance.now() - this.#lastAcknowledgedMs : 0
    return Math.max(this.#longestPauseMs, running)
  }

  async verify(root: Uint8Array): Promise<Verdict> {
    const differences: string[] = []
    const total = createHash('sha256')
    let files = 0
    let bytes = 0
    const present = new Set((await this.#client.list(root)).map((entry) => entry.name))
    for (const directory of this.#directories) {
      if (!present.delete(directory.name)) differences.push(`${directory.name} is missing`)
      const { handle } = await this.#client.lookup(root, directory.name)
      const entries = await this.#client.list(handle)
      const names = new Set(entries.map((entry) => entry.name))
      for (const name of directory.files.keys())
        if (!names.has(name)) differences.push(`${directory.name}/${name} is missing`)
      for (const { name } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
        const expected = directory.files.get(name)
        if (expected === undefined) {
          differences.push(`${directory.name}/${name} should not be there`)
          continue
        }
        const { handle: file } = await this.#client.lookup(handle, name)
        if (!Buffer.from(file).equals(expected.handle))
          differences.push(`${directory.name}/${name} has another handle`)
        const content = await this.#readAll(file)
        const digest = createHash('sha256').update(content).digest('hex')
        if (digest !== createHash('sha256').update(expected.content).digest('hex'))
          differences.push(
            `${directory.name}/${name}: ${String(content.length)} bytes, ${String(expected.content.length)} were acknowledged, or their content differs`,
          )
        total.update(`${directory.name}/${name} ${digest}\n`)
        files++
        bytes += content.length
      }
    }
    for (const name of present) differences.push(`${name} should not be there`)
    return { files, bytes, digest: total.digest('hex'), differences }
  }

  async #readAll(file: Uint8Array): Promise<Buffer> {
    const chunks: Uint8Array[] = []
    let offset = 0
    for (;;) {
      const { data, eof } = await this.#client.read(file, offset, CHUNK_BYTES)
      chunks.push(Buffer.from(data))
      offset += data.length
      if (eof || data.length === 0) return Buffer.concat(chunks)
    }
  }

  async #write(directory: Directory, chance: Chance): Promise<void> {
    while (!this.#stopped) {
      if (this.#paused !== undefined) {
        this.#idle++
        if (this.#idle === this.#writers.length) this.#becameIdle?.()
        await this.#paused.promise
        this.#idle--
        continue
      }
      await this.#step(directory, chance)
    }
  }

  async #step(directory: Directory, chance: Chance): Promise<void> {
    const names = [...directory.files.keys()]
    const name = names[chance.next(Math.max(1, names.length))]
    const file = name === undefined ? undefined : directory.files.get(name)
    const kind = chance.next(10)
    if (name === undefined || file === undefined || (kind < 3 && names.length < FILES_PER_WRITER_MAX))
      return this.#create(directory, chance)
    if (kind < 7) return this.#overwrite(file, chance)
    if (kind < 8) {
      const to = `moved-${chance.next(2 ** 32).toString(36)}`
      await this.#client.rename(directory.handle, name, directory.handle, to)
      directory.files.delete(name)
      directory.files.set(to, file)
      return this.#acknowledged(0)
    }
    if (kind < 9) {
      await this.#client.remove(directory.handle, name)
      directory.files.delete(name)
      return this.#acknowledged(0)
    }
    const size = chance.next(file.content.length + 1)
    await this.#client.setattr(file.handle, { size })
    file.content = Buffer.from(file.content.subarray(0, size))
    this.#acknowledged(0)
  }

  async #create(directory: Directory, chance: Chance): Promise<void> {
    const name = `file-${chance.next(2 ** 32).toString(36)}`
    if (directory.files.has(name)) return
    const made = await this.#client.create(directory.handle, name)
    const handle = made.handle ?? (await this.#client.lookup(directory.handle, name)).handle
    const file: ModelFile = { handle, content: Buffer.alloc(0) }
    directory.files.set(name, file)
    this.#acknowledged(0)
    // Many small files and a few larger ones, as in a home directory.
    const size = chance.next(8) === 0 ? chance.next(FILE_BYTES_MAX) : chance.next(16384)
    for (let offset = 0; offset < size; offset += CHUNK_BYTES)
      await this.#writeAt(file, offset, chance.bytes(Math.min(CHUNK_BYTES, size - offset)))
  }

  async #overwrite(file: ModelFile, chance: Chance): Promise<void> {
    const offset = chance.next(Math.min(file.content.length, FILE_BYTES_MAX - 20000) + 1)
    await this.#writeAt(file, offset, chance.bytes(1 + chance.next(20000)))
  }

  async #writeAt(file: ModelFile, offset: number, data: Buffer): Promise<void> {
    const { count } = await this.#client.write(file.handle, offset, data)
    if (count !== data.length) throw new Error(`WRITE took ${String(count)} of ${String(data.length)} bytes`)
    const content = Buffer.alloc(Math.max(file.content.length, offset + data.length))
    file.content.copy(content)
    data.copy(content, offset)
    file.content = content
    this.#acknowledged(data.length)
  }

  #acknowledged(bytes: number): void {
    const now = performance.now()
    this.#longestPauseMs = Math.max(this.#longestPauseMs, now - this.#lastAcknowledgedMs)
    this.#lastAcknowledgedMs = now
    this.counts.operations++
    this.counts.bytes += bytes
  }
}
