/** Large files whose every byte is known, and readers that take pieces of them at random and compare: for tests whose data is large and need not be remembered. */
import { NfsClient } from '../../src/nfs/client/nfs-client.ts'
import { CELL_BYTES, cellsOf } from '../../src/nfs/load/content.ts'
import type { MountPoint } from '../../src/nfs/load/load.ts'
import { Random } from '../../src/nfs/load/random.ts'

const PIECE_BYTES = 256 * 1024
const PIECE_CELLS = PIECE_BYTES / CELL_BYTES
const FILE_BYTES = 64 * 2 ** 20
const IN_FLIGHT = 4
/** Above the numbers that a load gives its files. */
const FIRST_ID = 2_000_000_000

interface LargeFile {
  readonly id: number
  readonly handle: Uint8Array
  readonly pieces: number
}

const contentOf = ({ id }: LargeFile, piece: number): Buffer =>
  cellsOf(id, piece * PIECE_CELLS, Array<number>(PIECE_CELLS).fill(1))

export class LargeFiles {
  readonly #client: NfsClient
  readonly #files: readonly LargeFile[]
  readonly #random: Random
  #reading: Promise<void> | undefined
  #paused = true
  #failure: Error | undefined
  #closed = false
  /** Pieces read and compared. */
  compared = 0

  private constructor(client: NfsClient, files: readonly LargeFile[], seed: number) {
    this.#client = client
    this.#files = files
    this.#random = new Random(seed)
  }

  /** So many bytes, or a little more, in a folder of their own. */
  static async write({ host, port, path }: MountPoint, bytes: number, seed: number): Promise<LargeFiles> {
    const client = new NfsClient({ host, port, machine: `large-${seed}` })
    const { handle: made } = await client.mkdir(await client.mount(path), 'large')
    const files: LargeFile[] = []
    for (let left = bytes; left > 0; left -= FILE_BYTES) {
      const id = FIRST_ID + files.length
      const { handle } = await client.create(made!, `large-${id}`, { mode: 'GUARDED', attributes: {} })
      files.push({ id, handle: handle!, pieces: Math.ceil(Math.min(left, FILE_BYTES) / PIECE_BYTES) })
    }
    const large = new LargeFiles(client, files, seed)
    await large.#all(async (file, piece) => {
      const { count } = await client.write(file.handle, piece * PIECE_BYTES, contentOf(file, piece))
      if (count !== PIECE_BYTES) throw new Error(`WRITE of ${PIECE_BYTES} bytes wrote ${count}`)
    })
    return large
  }

  async #all(visit: (file: LargeFile, piece: number) => Promise<void>): Promise<void> {
    const queue = this.#files.flatMap((file) =>
      Array.from({ length: file.pieces }, (_, n) => [file, n] as const),
    )
    const work = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) await visit(...next)
    }
    await Promise.all(Array.from({ length: IN_FLIGHT }, work))
  }

  async #compare(file: LargeFile, piece: number): Promise<void> {
    const { data } = await this.#client.read(file.handle, piece * PIECE_BYTES, PIECE_BYTES)
    if (!contentOf(file, piece).equals(data))
      throw new Error(`large-${file.id}: bytes from ${piece * PIECE_BYTES} on are not what was written`)
    this.compared += 1
  }

  /** Reads a piece and compares it: resolves when the volume is served. */
  async readOne(): Promise<void> {
    const file = this.#random.pick(this.#files)
    await this.#compare(file, this.#random.below(file.pieces))
  }

  resume(): void {
    this.#paused = false
    this.#reading = (async () => {
      while (!this.#paused) await this.readOne()
    })().catch((error: unknown) => {
      if (!this.#closed) this.#failure ??= error instanceof Error ? error : new Error(String(error))
    })
  }

  async pause(): Promise<void> {
    this.#paused = true
    await this.#reading
    this.assertWell()
  }

  assertWell(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Reads and compares everything; throws at what differs. Gives the bytes. */
  async verify(): Promise<number> {
    await this.#all((file, piece) => this.#compare(file, piece))
    return this.#files.reduce((sum, { pieces }) => sum + pieces * PIECE_BYTES, 0)
  }

  close(): void {
    this.#closed = true
    this.#paused = true
    this.#client.close()
  }
}
