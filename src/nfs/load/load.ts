/**
 * Load with a memory: workers that change files over NFS, several calls in flight, and know what must be there (worker.ts). Used by the
 * demonstration and by every test that breaks something under load; what a client must never see is counted in `tally`.
 */
import { createHash } from 'node:crypto'
import { NfsClient } from '../client/nfs-client.ts'
import type { RpcClientOptions } from '../client/rpc-client.ts'
import { Finding, Worker } from './worker.ts'
import type { Counter, FindingKind } from './worker.ts'

export interface MountPoint {
  host: string
  port: number
  path: string
}

/** A connection, and how many workers use it. */
export interface LoadClient extends Pick<RpcClientOptions, 'onAnswer' | 'reconnectDelayMs'> {
  readonly mount: MountPoint
  readonly workers: number
}

export interface LoadOptions {
  readonly seed: number
  /** Files that each worker begins with, and the most that it has. */
  readonly filesPerWorker?: number
  readonly filesMax?: number
}

export interface Verdict {
  readonly files: number
  readonly bytes: number
  /** SHA-256 over names and contents of everything. */
  readonly digest: string
  readonly differences: readonly string[]
}

const FILES_MAX = 12

export class Load {
  readonly clients: readonly NfsClient[]
  readonly tally: Record<FindingKind, number> = { lost: 0, duplicated: 0, stale: 0, error: 0 }
  /** Calls that were sent once more after they had been answered. */
  repeated = 0
  readonly #workers: readonly Worker[]
  #paused = true
  #running: Promise<void>[] = []
  #failure: Error | undefined
  #closed = false

  private constructor(clients: readonly NfsClient[], workers: readonly Worker[]) {
    this.clients = clients
    this.#workers = workers
  }

  /** With its folders and first files, made through the first client; paused. */
  static async open(uses: readonly LoadClient[], options: LoadOptions): Promise<Load> {
    const { seed, filesPerWorker = 0, filesMax = FILES_MAX } = options
    const clients = uses.map(
      ({ mount: { host, port }, workers: _, ...rest }) =>
        new NfsClient({ host, port, machine: `load-${seed}`, ...rest }),
    )
    const [first] = clients
    const path = uses[0]?.mount.path
    if (first === undefined || path === undefined) throw new Error('a load needs a mount point')
    const root = await first.mount(path)
    const counters: Counter[] = []
    const workers = uses
      .flatMap((use, n) => Array<NfsClient>(use.workers).fill(clients[n]!))
      .map((client, n) => new Worker(client, n, seed + n, filesMax, counters))
    for (const worker of workers) counters.push(await worker.prepare(first, root))
    const load = new Load(clients, workers)
    await Promise.all(workers.map((worker) => worker.fill(filesPerWorker)))
    return load
  }

  /** Acknowledged calls of all workers. */
  get operations(): number {
    return this.#workers.reduce((sum, worker) => sum + worker.operations, 0)
  }

  /** Bytes written by them. */
  get bytes(): number {
    return this.#workers.reduce((sum, worker) => sum + worker.bytes, 0)
  }

  /** What must never come: an NFS error, a wrong read. Its worker has ended. */
  get failure(): Error | undefined {
    return this.#failure
  }

  assertWell(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  get isPaused(): boolean {
    return this.#paused
  }

  resume(): void {
    this.#paused = false
    this.#running = this.#workers.map((worker) => this.#run(worker))
  }

  async #run(worker: Worker): Promise<void> {
    try {
      while (!this.#paused) await worker.step()
    } catch (error) {
      if (this.#closed) return
      this.tally[error instanceof Finding ? error.kind : 'error']++
      this.#failure ??= error instanceof Error ? error : new Error(String(error))
    }
  }

  /** Resolves when every call in flight is answered. */
  async pause(): Promise<void> {
    this.#paused = true
    await Promise.all(this.#running)
  }

  /** Longest time without an answer at the first client since `resetPause`, while it waited for some; the running one included. */
  get longestPauseMs(): number {
    return this.clients[0]!.rpc.longestGapMs
  }

  resetPause(): void {
    for (const { rpc } of this.clients) rpc.resetLongestGap()
  }

  /**
   * Sends the first client's last calls that must not happen twice once more; an answer other than the first counts as a duplicate. (Those of
   * another client may be so old that the server need not remember them.)
   */
  async repeatAnswered(): Promise<void> {
    const { repeated, different } = await this.clients[0]!.rpc.repeatAnswered()
    this.repeated += repeated
    this.tally.duplicated += different
  }

  /** Reads everything back through the first client, while paused. */
  async verify(): Promise<Verdict> {
    const differences = this.#failure === undefined ? [] : [this.#failure.message]
    const found = (kind: FindingKind, text: string): void => {
      this.tally[kind]++
      differences.push(text)
    }
    const contents = await Promise.all(this.#workers.map((worker) => worker.verify(this.clients[0]!, found)))
    const total = createHash('sha256')
    let files = 0
    let bytes = 0
    for (const content of contents.flat()) {
      total.update(`${content.path} ${content.sha256}\n`)
      files++
      bytes += content.bytes
    }
    return { files, bytes, digest: total.digest('hex'), differences }
  }

  close(): void {
    this.#closed = true
    for (const client of this.clients) client.close()
  }
}
