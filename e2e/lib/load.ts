/**
 * Load with a memory: workers that change files over NFS and know, for everything that was acknowledged, what must be there.
 *
 * Each worker owns files that no other touches and makes one call at a time, so what a file must hold is always one of two
 * states: before the call in flight, or after it. The client repeats an unanswered call until it is answered (a "hard" mount), so
 * once the workers are paused there is exactly one allowed state, and `verify` compares every byte of it. A call that was
 * repeated must have had one effect: creation is GUARDED (a second effect would answer EXIST), and removing and renaming must never
 * answer NOENT.
 */
import { NfsClient, NfsError } from '../../src/nfs/client/nfs-client.ts'
import type { MountPoint } from './embedded.ts'
import { Random } from './random.ts'

const BLOCK = 4096
const BLOCKS_MAX = 24
const FILES_MAX = 6

interface File {
  handle: Uint8Array
  /** Stamp of each block; 0 is a hole. */
  stamps: number[]
}

/** A block's content tells file, block and version; it is made anew for the comparison. */
function blockOf(worker: number, index: number, stamp: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  if (stamp === 0) return block
  const random = new Random((stamp * 31 + index) * 17 + worker)
  for (let at = 0; at < BLOCK; at += 4) block.writeUInt32LE(random.next(), at)
  return block
}

class Worker {
  readonly files = new Map<string, File>()
  readonly #client: NfsClient
  readonly #number: number
  readonly #random: Random
  #folder: Uint8Array = new Uint8Array()
  #stamp = 0
  #serial = 0
  operations = 0

  constructor(client: NfsClient, number: number, seed: number) {
    this.#client = client
    this.#number = number
    this.#random = new Random(seed)
  }

  async prepare(root: Uint8Array): Promise<void> {
    const name = `worker-${this.#number}`
    await this.#client.mkdir(root, name)
    this.#folder = (await this.#client.lookup(root, name)).handle
  }

  async step(): Promise<void> {
    const dice = this.#random.below(100)
    const names = [...this.files.keys()]
    if (names.length === 0 || (dice < 6 && names.length < FILES_MAX)) await this.#create()
    else if (dice < 8) await this.#rename(this.#random.pick(names))
    else if (dice < 10) await this.#remove(this.#random.pick(names))
    else if (dice < 13) await this.#truncate(this.files.get(this.#random.pick(names))!)
    else if (dice < 30) await this.#read(this.files.get(this.#random.pick(names))!)
    else await this.#write(this.files.get(this.#random.pick(names))!)
    this.operations++
  }

  async #create(): Promise<void> {
    const name = `file-${++this.#serial}`
    const made = await this.#client.create(this.#folder, name, {
      mode: 'GUARDED',
      attributes: { mode: 0o644 },
    })
    const handle = made.handle ?? (await this.#client.lookup(this.#folder, name)).handle
    this.files.set(name, { handle, stamps: [] })
  }

  async #rename(name: string): Promise<void> {
    const to = `file-${++this.#serial}`
    await this.#client.rename(this.#folder, name, this.#folder, to)
    this.files.set(to, this.files.get(name)!)
    this.files.delete(name)
  }

  async #remove(name: string): Promise<void> {
    await this.#client.remove(this.#folder, name)
    this.files.delete(name)
  }

  async #truncate(file: File): Promise<void> {
    const blocks = this.#random.below(file.stamps.length + 1)
    await this.#client.setattr(file.handle, { size: blocks * BLOCK })
    file.stamps.length = blocks
  }

  async #write(file: File): Promise<void> {
    const first = this.#random.below(BLOCKS_MAX)
    const count = 1 + this.#random.below(Math.min(4, BLOCKS_MAX - first))
    const stamp = ++this.#stamp
    const data = Buffer.concat(
      Array.from({ length: count }, (_, index) => blockOf(this.#number, first + index, stamp)),
    )
    const result = await this.#client.write(file.handle, first * BLOCK, data)
    if (result.count !== data.length) throw new Error(`WRITE of ${data.length} bytes wrote ${result.count}`)
    for (let index = 0; index < count; index++) file.stamps[first + index] = stamp
    for (let index = 0; index < first; index++) file.stamps[index] ??= 0
  }

  async #read(file: File): Promise<void> {
    if (file.stamps.length === 0) return
    const index = this.#random.below(file.stamps.length)
    const { data } = await this.#client.read(file.handle, index * BLOCK, BLOCK)
    if (Buffer.compare(blockOf(this.#number, index, file.stamps[index]!), data) !== 0)
      throw new Error(
        `worker ${this.#number}: a read of block ${index} shows neither the last nor any newer content`,
      )
  }

  /** Everything in the folder against what must be there; gives the differences. */
  async verify(): Promise<string[]> {
    const wrong: string[] = []
    const say = (text: string): unknown => wrong.push(`worker-${this.#number}/${text}`)
    const listed = new Set((await this.#client.list(this.#folder)).map((entry) => entry.name))
    for (const name of listed)
      if (!this.files.has(name)) say(`${name}: is there, though it was removed or renamed`)
    for (const [name, file] of this.files) {
      if (!listed.has(name)) {
        say(`${name}: acknowledged, and is not there`)
        continue
      }
      const { size } = await this.#client.getattr(file.handle)
      if (size !== file.stamps.length * BLOCK)
        say(`${name}: size ${size}, must be ${file.stamps.length * BLOCK}`)
      if (file.stamps.length === 0) continue
      const { data } = await this.#client.read(file.handle, 0, file.stamps.length * BLOCK)
      for (const [index, stamp] of file.stamps.entries()) {
        const found = data.subarray(index * BLOCK, (index + 1) * BLOCK)
        if (Buffer.compare(blockOf(this.#number, index, stamp), found) !== 0)
          say(`${name}: block ${index} is not version ${stamp}`)
      }
    }
    return wrong
  }
}

export class Load {
  readonly #workers: Worker[]
  readonly client: NfsClient
  #paused = true
  #running: Promise<void>[] = []
  #failure: Error | undefined

  private constructor(client: NfsClient, workers: Worker[]) {
    this.client = client
    this.#workers = workers
  }

  static async start(mount: MountPoint, workers: number, seed: number): Promise<Load> {
    const client = new NfsClient({ host: mount.host, port: mount.port, machine: `load-${seed}` })
    const root = await client.mount(mount.path)
    const load = new Load(
      client,
      Array.from({ length: workers }, (_, index) => new Worker(client, index, seed + index)),
    )
    for (const worker of load.#workers) await worker.prepare(root)
    load.resume()
    return load
  }

  get operations(): number {
    return this.#workers.reduce((sum, worker) => sum + worker.operations, 0)
  }

  /** An answer that must never come: an NFS error, a wrong read. */
  get failure(): Error | undefined {
    return this.#failure
  }

  resume(): void {
    this.#paused = false
    this.#running = this.#workers.map((worker) => this.#run(worker))
  }

  async #run(worker: Worker): Promise<void> {
    try {
      while (!this.#paused) await worker.step()
    } catch (error) {
      const text =
        error instanceof NfsError ? `${error.message} (answered to a call that must succeed)` : String(error)
      this.#failure ??= new Error(text)
    }
  }

  /** Resolves when every call in flight is answered. */
  async pause(): Promise<void> {
    this.#paused = true
    await Promise.all(this.#running)
  }

  /** To be called while paused. */
  async verify(): Promise<string[]> {
    const wrong = this.#failure === undefined ? [] : [this.#failure.message]
    for (const worker of this.#workers) wrong.push(...(await worker.verify()))
    return wrong
  }

  close(): void {
    this.client.close()
  }
}
