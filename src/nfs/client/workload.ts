/**
 * A load that knows what it was promised: workers create, write, rename and remove files in one directory, each file by one worker at a
 * time, and keep a `Ledger` of what was acknowledged. `verify` compares a directory with a ledger and lists what is wrong.
 *
 * Calls are never given up (the client is as patient as a "hard" mount), so after `stop` everything is acknowledged, unless the
 * process ends first: then the ledger, saved before, says what may be and what must be.
 */
import type { Ledger } from './ledger.ts'
import { LEDGER_BLOCK_BYTES } from './ledger.ts'
import type { NfsClient } from './nfs-client.ts'
import { NfsError } from './nfs-client.ts'

export interface WorkloadOptions {
  readonly client: NfsClient
  /** An empty directory, or the one that the ledger was made with. */
  readonly directory: Uint8Array
  readonly ledger: Ledger
  /** Workers, each with one call under way. */
  readonly workers?: number
  readonly blocksPerFile?: number
  /** Most blocks of one WRITE. */
  readonly blocksPerWrite?: number
  /** Chance of a rename or of a removal after each write. */
  readonly renames?: number
  readonly removals?: number
}

export interface WorkloadCounts {
  writes: number
  creates: number
  renames: number
  removes: number
}

export class Workload {
  readonly counts: WorkloadCounts = { writes: 0, creates: 0, renames: 0, removes: 0 }
  readonly #options: Required<WorkloadOptions>
  #running = false
  #state: number
  #names = 0

  constructor(options: WorkloadOptions) {
    this.#options = {
      workers: 16,
      blocksPerFile: 256,
      blocksPerWrite: 4,
      renames: 0.02,
      removals: 0.005,
      ...options,
    }
    this.#state = options.ledger.seed || 1
  }

  /** Uniform in 0..1, from the ledger's seed. */
  #random(): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0
    return this.#state / 2 ** 32
  }

  #name(): string {
    return `w${this.#options.ledger.seed.toString(36)}-${(this.#names++).toString(36)}`
  }

  /** Operations acknowledged. */
  get acknowledged(): number {
    const { writes, creates, renames, removes } = this.counts
    return writes + creates + renames + removes
  }

  /** Runs until `stop`; resolves when the last call is answered, rejects with the first unexpected error. */
  async run(): Promise<void> {
    this.#running = true
    const workers = Array.from({ length: this.#options.workers }, () => this.#worker())
    try {
      await Promise.all(workers)
    } finally {
      this.#running = false
    }
  }

  stop(): void {
    this.#running = false
  }

  async #worker(): Promise<void> {
    const { client, directory, ledger, blocksPerFile, blocksPerWrite, renames, removals } = this.#options
    let file: { id: number; name: string; handle: Uint8Array } | undefined
    while (this.#running) {
      file ??= await this.#create()
      const count = 1 + Math.floor(this.#random() * blocksPerWrite)
      const block = Math.floor(this.#random() * (blocksPerFile - count + 1))
      const { version, data } = ledger.beginWrite(file.id, block, count)
      const { count: written } = await client.write(file.handle, block * LEDGER_BLOCK_BYTES, data)
      if (written !== data.byteLength) throw new Error(`short write: ${written} of ${data.byteLength} bytes`)
      ledger.acknowledgeWrite(file.id, block, count, version)
      this.counts.writes++
      if (this.#random() < renames) {
        const to = this.#name()
        ledger.beginRename(file.id, to)
        await client.rename(directory, file.name, directory, to)
        ledger.acknowledgeRename(file.id, to)
        file.name = to
        this.counts.renames++
      }
      if (this.#random() < removals) {
        ledger.beginRemove(file.id)
        await client.remove(directory, file.name)
        ledger.acknowledgeRemove(file.id)
        this.counts.removes++
        file = undefined
      }
    }
  }

  async #create(): Promise<{ id: number; name: string; handle: Uint8Array }> {
    const { client, directory, ledger } = this.#options
    const name = this.#name()
    const id = ledger.beginCreate(name)
    const { handle } = await client.create(directory, name, { mode: 'GUARDED', attributes: { mode: 0o644 } })
    ledger.acknowledgeCreate(id, name)
    this.counts.creates++
    if (!handle) throw new Error('CREATE gave no handle')
    return { id, name, handle }
  }
}

const READ_BLOCKS = 256

/** What is wrong with the directory, measured by the ledger; empty if every promise was kept. */
export async function verify(client: NfsClient, directory: Uint8Array, ledger: Ledger): Promise<string[]> {
  const problems: string[] = []
  const present = new Map((await client.list(directory)).map((entry) => [entry.name, entry.fileid]))
  const explained = new Set<string>()
  for (const file of ledger.files) {
    const mayBe = file.name === undefined ? file.maybe : [file.name, ...file.maybe]
    const found = mayBe.filter((name) => name !== '' && present.has(name))
    found.forEach((name) => explained.add(name))
    if (found.length > 1) problems.push(`file ${file.id} has ${found.length} names: ${found.join(', ')}`)
    const mayBeGone = file.name === undefined || file.maybe.includes('')
    if (found.length === 0 && !mayBeGone) problems.push(`file ${file.id} ("${file.name}") is lost`)
    if (found[0] !== undefined)
      problems.push(...(await verifyFile(client, directory, ledger, file.id, found[0])))
  }
  for (const name of present.keys()) if (!explained.has(name)) problems.push(`"${name}" should not be there`)
  return problems
}

async function verifyFile(
  client: NfsClient,
  directory: Uint8Array,
  ledger: Ledger,
  id: number,
  name: string,
): Promise<string[]> {
  const problems: string[] = []
  const blocks = ledger.files.find((file) => file.id === id)!.blocks
  const end = Math.max(0, ...blocks.keys()) + 1
  let handle: Uint8Array
  try {
    ;({ handle } = await client.lookup(directory, name))
  } catch (error) {
    if (error instanceof NfsError) return [`"${name}": LOOKUP says ${error.status}`]
    throw error
  }
  for (let block = 0; block < end; block += READ_BLOCKS) {
    const count = Math.min(READ_BLOCKS, end - block)
    const { data } = await client.read(handle, block * LEDGER_BLOCK_BYTES, count * LEDGER_BLOCK_BYTES)
    for (let i = 0; i < count; i++) {
      const problem = ledger.problemOf(
        id,
        block + i,
        data.subarray(i * LEDGER_BLOCK_BYTES, (i + 1) * LEDGER_BLOCK_BYTES),
      )
      if (problem) problems.push(problem)
    }
  }
  return problems
}
