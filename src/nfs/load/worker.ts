/**
 * One worker of a load: a folder that no other changes, in which it makes one change after the other and knows, for everything that was
 * acknowledged, what must be there.
 *
 * The client repeats an unanswered call until it is answered (a "hard" mount), so between two steps there is exactly one allowed state.
 * Names are never used twice, so a change that took effect twice answers EXIST or NOENT, or brings back a name that had gone. Beside that, each
 * worker has a counter that only grows and that all others read by whatever connection they have: what one reader was shown, no later one may miss.
 */
import { createHash } from 'node:crypto'
import type { Stability } from '../../core/vfs/vfs.ts'
import { NfsError } from '../client/nfs-client.ts'
import type { NfsClient } from '../client/nfs-client.ts'
import { CELL_BYTES, cellsOf, stampOf } from './content.ts'
import { Random } from './random.ts'

const WRITE_CELLS_MAX = 64
const FILE_CELLS_MAX = 384
const PARTS_MAX = 5
const PART_CELLS_MAX = 12
const FOLDERS_MAX = 4
const COUNTER = 'counter'

/** What a client must never see: acknowledged and gone, done twice, a STALE answer or old content; or an error that fits none of these. */
export type FindingKind = 'lost' | 'duplicated' | 'stale' | 'error'

export class Finding extends Error {
  readonly kind: FindingKind
  constructor(kind: FindingKind, message: string) {
    super(message)
    this.kind = kind
  }
}

interface File {
  readonly id: number
  readonly handle: Uint8Array
  /** The stamp of each cell that was acknowledged last; 0 is a hole. */
  cells: number[]
  links: number
}

export interface Counter {
  readonly file: File
  attempted: number
  acknowledged: number
  /** The most that any reader has seen. */
  shown: number
}

export interface Content {
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

export class Worker {
  readonly number: number
  readonly #client: NfsClient
  readonly #random: Random
  readonly #filesMax: number
  readonly #counters: readonly Counter[]
  readonly #files = new Map<string, File>()
  readonly #folders = new Set<string>()
  #folder: Uint8Array = new Uint8Array()
  #counter: Counter | undefined
  #stamp = 0
  #serial = 0
  /** Acknowledged calls, and bytes written by them. */
  operations = 0
  bytes = 0

  /** `counters`: those of all workers, some of which may not be there yet. */
  constructor(
    client: NfsClient,
    number: number,
    seed: number,
    filesMax: number,
    counters: readonly Counter[],
  ) {
    this.#client = client
    this.number = number
    this.#random = new Random(seed)
    this.#filesMax = filesMax
    this.#counters = counters
  }

  /** Makes the folder, through another client, because this one's server may not be one yet. */
  async prepare(client: NfsClient, root: Uint8Array): Promise<Counter> {
    const name = `worker-${this.number}`
    const made = await client.mkdir(root, name)
    this.#folder = made.handle ?? (await client.lookup(root, name)).handle
    const { handle } = await client.create(this.#folder, COUNTER, { mode: 'GUARDED', attributes: {} })
    const file = {
      id: this.#nextId(),
      handle: handle ?? (await client.lookup(this.#folder, COUNTER)).handle,
      cells: [0],
      links: 1,
    }
    await client.write(file.handle, 0, cellsOf(file.id, 0, [0]))
    this.#counter = { file, attempted: 0, acknowledged: 0, shown: 0 }
    return this.#counter
  }

  async fill(files: number): Promise<void> {
    for (let n = 0; n < files; n++) await this.#create()
  }

  /** Throws Finding. */
  async step(): Promise<void> {
    try {
      await this.#step()
    } catch (error) {
      if (!(error instanceof NfsError)) throw error
      throw new Finding(kindOf(error), `worker-${this.number}: ${error.message}, to a call that must succeed`)
    }
  }

  async #step(): Promise<void> {
    const dice = this.#random.below(100)
    const names = [...this.#files.keys()]
    if (names.length === 0 || (dice < 8 && names.length < this.#filesMax)) return this.#create()
    const name = this.#random.pick(names)
    const file = this.#files.get(name)!
    if (dice < 10) return this.#folderStep()
    if (dice < 12) return this.#link(file)
    if (dice < 17) return this.#rename(name, file, names)
    if (dice < 22) return this.#remove(name, file)
    if (dice < 26) return this.#truncate(file)
    if (dice < 36) return this.#read(file)
    if (dice < 42) return this.#look(this.#random.pick(this.#counters))
    if (dice < 48) return this.#count()
    if (dice < 62) return this.#writeParts(file)
    return this.#write(file, this.#place(file), 1 + this.#random.below(WRITE_CELLS_MAX))
  }

  #nextId(): number {
    return this.number * 1_000_000 + ++this.#serial
  }

  #did(bytes = 0): void {
    this.operations++
    this.bytes += bytes
  }

  async #create(): Promise<void> {
    const id = this.#nextId()
    const name = `file-${id}`
    const exclusive = this.#random.below(2) === 0
    const verifier = Buffer.alloc(8)
    verifier.writeUInt32BE(this.#random.next())
    const how = exclusive
      ? ({ mode: 'EXCLUSIVE', verifier } as const)
      : ({ mode: 'GUARDED', attributes: { mode: 0o644 } } as const)
    const made = await this.#client.create(this.#folder, name, how)
    const handle = made.handle ?? (await this.#client.lookup(this.#folder, name)).handle
    this.#did()
    if (exclusive && this.#random.below(4) === 0) {
      // A call of its own, as a client makes it that forgot the first: the verifier says that it is the same file.
      const again = await this.#client.create(this.#folder, name, how)
      if (again.handle !== undefined && !Buffer.from(handle).equals(again.handle))
        throw new Finding('duplicated', `worker-${this.number}: ${name}: CREATE again made another file`)
      this.#did()
    }
    const file: File = { id, handle, cells: [], links: 1 }
    this.#files.set(name, file)
    // Many small files and a few larger ones, as in a home directory.
    const cells = this.#random.below(this.#random.below(8) === 0 ? FILE_CELLS_MAX : 32)
    if (cells > 0) await this.#write(file, 0, cells)
  }

  async #folderStep(): Promise<void> {
    if (this.#folders.size < FOLDERS_MAX && this.#random.below(2) === 0) {
      const name = `folder-${this.#nextId()}`
      await this.#client.mkdir(this.#folder, name)
      this.#folders.add(name)
    } else {
      const [name] = this.#folders
      if (name === undefined) return
      await this.#client.rmdir(this.#folder, name)
      this.#folders.delete(name)
    }
    this.#did()
  }

  async #link(file: File): Promise<void> {
    const name = `link-${this.#nextId()}`
    await this.#client.link(file.handle, this.#folder, name)
    file.links++
    this.#files.set(name, file)
    this.#did()
  }

  /** To a new name, or over another file. */
  async #rename(name: string, file: File, names: readonly string[]): Promise<void> {
    const over = this.#random.pick(names)
    const replaced = this.#random.below(4) === 0 ? this.#files.get(over) : undefined
    if (replaced === file) return
    const to = replaced === undefined ? `moved-${this.#nextId()}` : over
    await this.#client.rename(this.#folder, name, this.#folder, to)
    if (replaced !== undefined) replaced.links--
    this.#files.delete(name)
    this.#files.set(to, file)
    this.#did()
  }

  async #remove(name: string, file: File): Promise<void> {
    await this.#client.remove(this.#folder, name)
    file.links--
    this.#files.delete(name)
    this.#did()
  }

  async #truncate(file: File): Promise<void> {
    const cells = this.#random.below(Math.min(file.cells.length + 8, FILE_CELLS_MAX))
    await this.#client.setattr(file.handle, { size: cells * CELL_BYTES })
    file.cells = Array.from({ length: cells }, (_, index) => file.cells[index] ?? 0)
    this.#did()
  }

  /** Mostly inside the file or at its end, sometimes behind it. */
  #place(file: File): number {
    return Math.min(this.#random.below(file.cells.length + 16), FILE_CELLS_MAX - WRITE_CELLS_MAX)
  }

  async #write(file: File, first: number, count: number): Promise<void> {
    const stamp = ++this.#stamp
    await this.#send(file, first, count, stamp, 'FILE_SYNC')
    this.#acknowledged(file, first, count, stamp)
  }

  async #send(
    file: File,
    first: number,
    count: number,
    stamp: number,
    stable: Stability,
  ): Promise<Buffer | undefined> {
    const data = cellsOf(file.id, first, Array<number>(count).fill(stamp))
    const answer = await this.#client.write(file.handle, first * CELL_BYTES, data, stable)
    if (answer.count !== data.length)
      throw new Finding('error', `worker-${this.number}: WRITE of ${data.length} bytes wrote ${answer.count}`)
    this.#did(data.length)
    return answer.committed === 'UNSTABLE' ? Buffer.from(answer.verifier) : undefined
  }

  #acknowledged(file: File, first: number, count: number, stamp: number): void {
    for (let index = file.cells.length; index < first; index++) file.cells[index] = 0
    for (let index = first; index < first + count; index++) file.cells[index] = stamp
  }

  /** Several writes in flight, then COMMIT; what a server forgot meanwhile (another verifier) is written again, as every client does. */
  async #writeParts(file: File): Promise<void> {
    let at = this.#place(file)
    const parts: { first: number; count: number; stamp: number; stable: Stability }[] = []
    for (let n = 2 + this.#random.below(PARTS_MAX - 1); n > 0; n--) {
      const count = 1 + this.#random.below(PART_CELLS_MAX)
      const stable = this.#random.pick<Stability>(['UNSTABLE', 'UNSTABLE', 'DATA_SYNC', 'FILE_SYNC'])
      parts.push({ first: at, count, stamp: ++this.#stamp, stable })
      at += count
    }
    for (let waiting = parts; waiting.length > 0;) {
      const verifiers = await Promise.all(
        waiting.map(({ first, count, stamp, stable }) => this.#send(file, first, count, stamp, stable)),
      )
      const { verifier } = await this.#client.commit(file.handle)
      this.#did()
      waiting = waiting.filter((_, n) => verifiers[n] !== undefined && !verifiers[n].equals(verifier))
    }
    for (const { first, count, stamp } of parts) this.#acknowledged(file, first, count, stamp)
  }

  async #read(file: File): Promise<void> {
    if (file.cells.length === 0) return
    const first = this.#random.below(file.cells.length)
    const count = Math.min(1 + this.#random.below(WRITE_CELLS_MAX), file.cells.length - first)
    const { data } = await this.#client.read(file.handle, first * CELL_BYTES, count * CELL_BYTES)
    this.#did()
    const wrong = difference(file, first, count, data)
    if (wrong !== undefined)
      throw new Finding(wrong.older ? 'stale' : 'lost', `worker-${this.number}: a read: ${wrong.text}`)
  }

  async #count(): Promise<void> {
    const counter = this.#counter!
    const next = ++counter.attempted
    await this.#client.write(counter.file.handle, 0, cellsOf(counter.file.id, 0, [next]))
    counter.acknowledged = next
    counter.file.cells = [next]
    this.#did(CELL_BYTES)
  }

  async #look(counter: Counter): Promise<void> {
    const { file } = counter
    const floor = Math.max(counter.acknowledged, counter.shown)
    const { data } = await this.#client.read(file.handle, 0, CELL_BYTES)
    this.#did()
    const found = stampOf(file.id, 0, data)
    const what = `worker-${this.number}: counter of file ${file.id}`
    if (found === undefined || found > counter.attempted)
      throw new Finding('lost', `${what} has content that was never written`)
    if (found < floor)
      throw new Finding('stale', `${what} says ${found}; ${floor} was acknowledged or shown before`)
    counter.shown = Math.max(counter.shown, found)
  }

  /** Everything in the folder against what must be there. To be called between two steps. */
  async verify(client: NfsClient, found: (kind: FindingKind, text: string) => void): Promise<Content[]> {
    const contents: Content[] = []
    const folder = `worker-${this.number}`
    const files = new Map<string, File>([...this.#files, [COUNTER, this.#counter!.file]])
    const listed = new Map((await client.list(this.#folder)).map((entry) => [entry.name, entry]))
    for (const name of listed.keys())
      if (!files.has(name) && !this.#folders.has(name))
        found('duplicated', `${folder}/${name} is there, though it was removed or renamed`)
    for (const name of [...files.keys(), ...this.#folders])
      if (!listed.has(name)) found('lost', `${folder}/${name} was acknowledged, and is not there`)
    for (const [name, file] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (!listed.has(name)) continue
      const say = (text: string): void => found('lost', `${folder}/${name}: ${text}`)
      const { handle, attributes } = await client.lookup(this.#folder, name)
      if (!Buffer.from(file.handle).equals(handle)) say('has another handle')
      if (attributes.nlink !== file.links) say(`has ${attributes.nlink} links, must be ${file.links}`)
      const bytes = file.cells.length * CELL_BYTES
      if (attributes.size !== bytes) say(`size ${attributes.size}, must be ${bytes}`)
      const { data } = bytes === 0 ? { data: Buffer.alloc(0) } : await client.read(file.handle, 0, bytes + 1)
      const wrong = difference(file, 0, file.cells.length, data)
      if (wrong !== undefined) say(wrong.text)
      const sha256 = createHash('sha256').update(data).digest('hex')
      contents.push({ path: `${folder}/${name}`, bytes: data.byteLength, sha256 })
    }
    return contents
  }
}

function kindOf({ status, message }: NfsError): FindingKind {
  if (status === 'STALE') return 'stale'
  if (status === 'EXIST') return 'duplicated'
  if (status === 'NOENT') return /^(REMOVE|RMDIR|RENAME):/.test(message) ? 'duplicated' : 'lost'
  return 'error'
}

/** The first cell that is not as acknowledged. */
function difference(
  file: File,
  first: number,
  count: number,
  data: Uint8Array,
): { older: boolean; text: string } | undefined {
  if (cellsOf(file.id, first, file.cells.slice(first, first + count)).equals(data)) return undefined
  for (let index = first; index < first + count; index++) {
    const at = (index - first) * CELL_BYTES
    const found = stampOf(file.id, index, data.subarray(at, at + CELL_BYTES))
    const wanted = file.cells[index]!
    if (found === wanted) continue
    const is = found === undefined ? 'what was never written there' : `version ${found}`
    return {
      older: found !== undefined && found < wanted,
      text: `cell ${index} of file ${file.id} is ${is}, must be version ${wanted}`,
    }
  }
  return { older: false, text: `${data.byteLength} bytes, must be ${count * CELL_BYTES}` }
}
