/** A volume over a memory store, with a journal that keeps its records in memory: for tests of the file layer. */
import { crc32 } from 'node:zlib'
import { assert } from '../../std/assert.ts'
import { isPromise } from '../../std/maybe.ts'
import type { MaybePromise } from '../../std/maybe.ts'
import type { Caller, Result } from '../../vfs/vfs.ts'
import type { PointerFormat } from '../block-store.ts'
import { checkFileSystem } from '../check.ts'
import type { Journal } from '../journal.ts'
import { FileSystem } from '../volume.ts'
import { MemoryStore } from './memory-store.ts'

export const ROOT: Caller = { uid: 0, gid: 0, gids: [] }

export class MemoryJournal implements Journal {
  readonly records: Uint8Array[] = []
  readonly answered: number[] = []
  /** While set, answers wait for it. */
  gate: Promise<void> | undefined

  admit(): void {}

  append(_volume: number, chunks: readonly Uint8Array[]): number {
    this.records.push(new Uint8Array(Buffer.concat(chunks)))
    return this.records.length
  }

  answer(seq: number): MaybePromise<void> {
    this.answered.push(seq)
    return this.gate
  }
}

/** A clock that stands still: times differ all the same. */
export const clock = {
  wall: () => ({ seconds: 1_700_000_000, nanoseconds: 5 }),
  after: (_delayMs: number, task: () => void) => {
    const timer = setImmediate(task)
    return { cancel: () => clearImmediate(timer) }
  },
}
export const env = { clock, crc32: (data: Uint8Array, seed = 0) => crc32(data, seed), log: () => {} }

export class Volume {
  readonly store: MemoryStore
  readonly journal: MemoryJournal
  readonly fs: FileSystem

  constructor(store: MemoryStore, root?: Uint8Array, journal = new MemoryJournal()) {
    this.store = store
    this.journal = journal
    this.fs = new FileSystem({
      env,
      store,
      journal,
      volume: 7,
      root:
        root ??
        FileSystem.make(store, {
          fsid: 0xabcdef012345,
          hashSeed: 99,
          time: { seconds: 1, nanoseconds: 0 },
          mode: 0o777,
          uid: 0,
          gid: 0,
        }),
      space: () => ({ totalBytes: 1e9, freeBytes: 1e8 }),
    })
  }

  static make(format: PointerFormat, capacity = Infinity): Volume {
    return new Volume(new MemoryStore(format, capacity))
  }

  async root(): Promise<Uint8Array> {
    return await this.fs.rootHandle()
  }

  /** An image of the volume as it is now: another store and root, to replay records over. */
  image(): { store: MemoryStore; root: Uint8Array; records: number } {
    this.store.freeze()
    return { store: this.store.image(), root: this.fs.freeze(), records: this.journal.records.length }
  }
}

/** The result of what needs no load, at once. */
export function now<T>(value: MaybePromise<T>): T {
  if (isPromise(value)) throw new Error('had to wait for what is in memory')
  return value
}

/** The success of an operation, or an error that names its status. */
export async function good<T>(result: MaybePromise<Result<T>>): Promise<T> {
  const value = await result
  if (!value.ok) throw new Error(`failed with ${value.status}`)
  return value
}

export async function statusOf(result: MaybePromise<Result<unknown>>): Promise<string> {
  const value = await result
  return value.ok ? 'OK' : value.status
}

/** What the checker says of an image, and of its blocks: each used once, none lost. */
export async function problemsOf(store: MemoryStore, root: Uint8Array): Promise<string[]> {
  const problems: string[] = []
  const blocks = new Set<number>()
  for await (const problem of checkFileSystem(store, root, ({ bn }) => {
    assert(!blocks.has(bn), `block ${bn} is used twice`)
    blocks.add(bn)
  })) {
    problems.push(problem)
  }
  for (const bn of store.numbers()) if (!blocks.has(bn)) problems.push(`block ${bn} is lost`)
  return problems
}
