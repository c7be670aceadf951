/**
 * What a client was promised: a record of acknowledged state, per file block by block and per name, that can be verified after a crash or
 * a takeover, by this process or (as JSON) by another.
 *
 * Every write fills whole 4 KiB blocks with a pattern made from (file, block, version), so the version that is found can be read off a
 * block. An operation is *begun* before it is sent and *acknowledged* when it is answered; one that was begun and not acknowledged may or
 * may not have happened. So a block may show its last acknowledged version or any begun after it, and nothing else: not an older one
 * (lost), not another file's (misplaced), not a mixture (torn).
 */

export const LEDGER_BLOCK_BYTES = 4096
const HEADER_WORDS = 6
const MAGIC = 0x7a6d_1edb

interface BlockState {
  /** Highest version acknowledged; 0: never written, all zeros. */
  acknowledged: number
  /** Versions begun and not acknowledged. */
  begun: number[]
}

interface FileState {
  readonly id: number
  /** The name it surely has; undefined: it surely has none. */
  name: string | undefined
  /** Names that unacknowledged operations may have given it ('' for: removed, or never made). */
  maybe: string[]
  readonly blocks: Map<number, BlockState>
}

export interface LedgerJson {
  readonly seed: number
  readonly nextId: number
  readonly nextVersion: number
  readonly files: {
    readonly id: number
    readonly name: string | null
    readonly maybe: readonly string[]
    readonly blocks: readonly (readonly [number, number, readonly number[]])[]
  }[]
}

const mix = (value: number): number => {
  let x = value | 0
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b)
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b)
  return (x ^ (x >>> 16)) >>> 0
}

/** Fills one block of `into` with the pattern of a version. */
export function fillPattern(
  into: Uint8Array,
  seed: number,
  file: number,
  block: number,
  version: number,
): void {
  const view = new DataView(into.buffer, into.byteOffset, LEDGER_BLOCK_BYTES)
  const header = [MAGIC, seed, file, block >>> 0, version, mix(seed ^ mix(file ^ mix(block ^ mix(version))))]
  header.forEach((word, i) => view.setUint32(4 * i, word))
  let word = header[HEADER_WORDS - 1]!
  for (let at = 4 * HEADER_WORDS; at < LEDGER_BLOCK_BYTES; at += 4) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0
    view.setUint32(at, word)
  }
}

export class Ledger {
  readonly seed: number
  readonly #files = new Map<number, FileState>()
  #nextId = 1
  #nextVersion = 1

  constructor(seed: number) {
    this.seed = seed >>> 0
  }

  get files(): readonly FileState[] {
    return [...this.#files.values()]
  }

  /** A file is about to be made. */
  beginCreate(name: string): number {
    const id = this.#nextId++
    this.#files.set(id, { id, name: undefined, maybe: [name], blocks: new Map() })
    return id
  }

  acknowledgeCreate(id: number, name: string): void {
    this.#settle(id, name)
  }

  beginRename(id: number, to: string): void {
    this.#file(id).maybe.push(to)
  }

  acknowledgeRename(id: number, to: string): void {
    this.#settle(id, to)
  }

  beginRemove(id: number): void {
    this.#file(id).maybe.push('')
  }

  acknowledgeRemove(id: number): void {
    this.#settle(id, undefined)
  }

  #settle(id: number, name: string | undefined): void {
    const file = this.#file(id)
    file.name = name
    file.maybe = []
  }

  #file(id: number): FileState {
    const file = this.#files.get(id)
    if (!file) throw new Error(`no file ${id} in the ledger`)
    return file
  }

  /** Blocks are about to be written: gives their version and content. */
  beginWrite(id: number, block: number, count: number): { version: number; data: Buffer } {
    const { blocks } = this.#file(id)
    const version = this.#nextVersion++
    const data = Buffer.allocUnsafe(count * LEDGER_BLOCK_BYTES)
    for (let i = 0; i < count; i++) {
      fillPattern(data.subarray(i * LEDGER_BLOCK_BYTES), this.seed, id, block + i, version)
      const state = blocks.get(block + i)
      if (state) state.begun.push(version)
      else blocks.set(block + i, { acknowledged: 0, begun: [version] })
    }
    return { version, data }
  }

  acknowledgeWrite(id: number, block: number, count: number, version: number): void {
    const { blocks } = this.#file(id)
    for (let i = 0; i < count; i++) {
      const state = blocks.get(block + i)!
      // A block has one writer at a time: what it began before and gave up cannot come after this.
      state.begun = state.begun.filter((begun) => begun > version)
      if (state.acknowledged < version) state.acknowledged = version
    }
  }

  /** Says what is wrong with a block as it was read; undefined if nothing is. */
  problemOf(id: number, block: number, data: Uint8Array): string | undefined {
    const state = this.#file(id).blocks.get(block)
    const where = `file ${id} block ${block}`
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
    if (data.byteLength === 0 || data.every((byte) => byte === 0))
      return state && state.acknowledged > 0
        ? `${where}: acknowledged version ${state.acknowledged} is lost`
        : undefined
    if (data.byteLength < LEDGER_BLOCK_BYTES) return `${where}: torn, only ${data.byteLength} bytes`
    const [magic, seed, file, at, version] = Array.from({ length: 5 }, (_, i) => view.getUint32(4 * i))
    if (magic !== MAGIC || seed !== this.seed) return `${where}: content is not ours`
    if (file !== id || at !== block) return `${where}: holds file ${file} block ${at} (misplaced)`
    const expected = Buffer.allocUnsafe(LEDGER_BLOCK_BYTES)
    fillPattern(expected, this.seed, id, block, version!)
    if (!expected.equals(data)) return `${where}: torn in version ${version}`
    if (!state) return `${where}: version ${version} was never written`
    if (version === state.acknowledged || state.begun.includes(version!)) return undefined
    return version! < state.acknowledged
      ? `${where}: version ${version} is older than acknowledged ${state.acknowledged}`
      : `${where}: version ${version} was never begun`
  }

  toJSON(): LedgerJson {
    return {
      seed: this.seed,
      nextId: this.#nextId,
      nextVersion: this.#nextVersion,
      files: this.files.map(({ id, name, maybe, blocks }) => ({
        id,
        name: name ?? null,
        maybe,
        blocks: [...blocks].map(([block, { acknowledged, begun }]) => [block, acknowledged, begun] as const),
      })),
    }
  }

  static fromJSON(json: LedgerJson): Ledger {
    const ledger = new Ledger(json.seed)
    ledger.#nextId = json.nextId
    ledger.#nextVersion = json.nextVersion
    for (const { id, name, maybe, blocks } of json.files)
      ledger.#files.set(id, {
        id,
        name: name ?? undefined,
        maybe: [...maybe],
        blocks: new Map(
          blocks.map(([block, acknowledged, begun]) => [block, { acknowledged, begun: [...begun] }]),
        ),
      })
    return ledger
  }
}
