/**
 * One client with a directory of its own: random operations, one after the other, each compared with a plain model of what POSIX says. So
 * every answer is checked against the whole acknowledged history of every file (H1, H2, H8).
 *
 * Beside it stands a counter that only grows, written by this client and read by all others at any filer: what one reader was shown,
 * no later reader may miss (H6).
 *
 * Without space (`NOSPC`) an operation must have had no effect at all; nothing else may fail that the model lets succeed. Where an earlier attempt
 * got no answer, it may have been executed before there was no space for the second: WRITE and SETATTR then had their whole effect or none.
 */
import { BLOCK_BYTES } from '../core/env/device.ts'
import type { Node } from '../core/fs/testing/model.ts'
import { Model, newNode } from '../core/fs/testing/model.ts'
import type { Caller as Credential, DirectoryEntry, MakeResult, Result } from '../core/vfs/vfs.ts'
import type { Caller, Kept } from './caller.ts'
import { handleOf, textOf } from './caller.ts'
import type { SimRandom } from './world.ts'
import { FILERS } from './names.ts'

const ROOT: Credential = { uid: 0, gid: 0, gids: [] }
const MAX_OBJECTS = 40
const OFFSETS = [0, 0, 1, 4095, 4096, 40_000, 20 * BLOCK_BYTES, 700 * BLOCK_BYTES]
const SIZES = [1, 100, 4095, 4096, 4096, 8192, 9000, 40_000]
const PROCEDURE = { create: 8, mkdir: 9, symlink: 10, remove: 12, rmdir: 13, rename: 14, link: 15 }
const COUNTER_BYTES = 8

const statusOf = (result: { readonly ok: boolean; readonly status?: string }): string =>
  result.ok ? 'OK' : (result.status ?? '?')
const keepStatus = (result: Result<unknown>): Kept => ({ status: statusOf(result) })
const keepMade = (result: MakeResult): Kept =>
  result.ok ? { status: 'OK', handle: textOf(result.object.handle) } : { status: result.status }

/** A number that only grows, in a file of its own. */
interface Counter {
  handle: Uint8Array
  attempted: number
  acknowledged: number
  seen: number
}

export class Client {
  readonly caller: Caller
  readonly #path: string
  readonly #random: SimRandom
  readonly #model = new Model()
  readonly counter: Counter = { handle: new Uint8Array(0), attempted: 0, acknowledged: 0, seen: 0 }
  /** All clients of the side, for looking at each other's counters. */
  readonly #peers: readonly Client[]
  #verifiers = 0
  #stopped = true
  #running = false
  /** Milliseconds of thought between two operations. */
  pauseMs = 1
  refused = 0

  /** `path` is that of its volume. */
  constructor(caller: Caller, path: string, peers: readonly Client[]) {
    this.caller = caller
    this.#path = path
    this.#random = caller.pair.world.random.fork()
    this.#peers = peers
  }

  get idle(): boolean {
    return !this.#running
  }

  run(): void {
    this.#stopped = false
    if (this.#running) return
    this.#running = true
    this.#loop()
      .catch((error: unknown) => this.caller.pair.world.fail(error))
      .finally(() => {
        this.#running = false
      })
  }

  stop(): void {
    this.#stopped = true
  }

  async #loop(): Promise<void> {
    if (this.counter.handle.length === 0) await this.#begin()
    while (!this.#stopped) {
      await this.#step()
      if (this.pauseMs > 0) await this.caller.sleep(this.#random.between(0, this.pauseMs))
    }
  }

  async #begin(): Promise<void> {
    const { caller } = this
    const mount = await caller.call((vfs) => {
      const found = vfs.exports().find((one) => one.path === this.#path)
      if (found) return found.root
      // Its volume is not made yet, or served elsewhere.
      return undefined
    })
    if (mount === undefined) {
      await caller.sleep(20)
      return this.#begin()
    }
    const made = await caller.once(
      PROCEDURE.mkdir,
      mount,
      (vfs, dup) => vfs.mkdir(ROOT, mount, caller.machine, { mode: 0o777 }, dup),
      keepMade,
    )
    if (made.status !== 'OK') caller.violated(`MKDIR of its directory: ${made.status}`)
    this.#model.root.handle = handleOf(made.handle)
    const counter = await caller.once(
      PROCEDURE.create,
      mount,
      (vfs, dup) =>
        vfs.create(ROOT, mount, `counter-${caller.machine}`, { mode: 'GUARDED', attributes: {} }, dup),
      keepMade,
    )
    if (counter.status !== 'OK') caller.violated(`CREATE of its counter: ${counter.status}`)
    this.counter.handle = handleOf(counter.handle)
  }

  #directory(): Node {
    return this.#random.pick(this.#model.nodes.filter((node) => node.type === 'DIR' && node.nlink > 0))
  }
  #file(): Node | undefined {
    const files = this.#model.nodes.filter((node) => node.type === 'REG' && node.nlink > 0)
    return files.length === 0 ? undefined : this.#random.pick(files)
  }
  #name(): string {
    const n = this.#random.below(12)
    return n < 10 ? `name-${n}` : `${'long'.repeat(60)}${n}`
  }
  /** A name that is there, most of the time. */
  #nameIn(directory: Node): string {
    const names = [...directory.entries.keys()]
    return names.length > 0 && this.#random.chance(0.8) ? this.#random.pick(names) : this.#name()
  }

  #expect(what: string, status: string, expected: string): boolean {
    if (status === 'NOSPC' && expected === 'OK') {
      this.refused += 1
      return false
    }
    if (status !== expected) this.caller.violated(`${what}: ${status}, expected ${expected}`)
    return status === 'OK'
  }

  async #step(): Promise<void> {
    const dice = this.#random.below(100)
    if (dice < 14) return this.#make()
    if (dice < 20) return this.#remove()
    if (dice < 28) return this.#rename()
    if (dice < 31) return this.#link()
    if (dice < 48) return this.#write()
    if (dice < 52) return this.#resize()
    if (dice < 60) return this.#count()
    if (dice < 72) return this.#look()
    if (dice < 90) return this.#read()
    if (dice < 96) return this.#lookup()
    return this.#list(this.#directory())
  }

  async #make(): Promise<void> {
    const { caller } = this
    const model = this.#model
    if (model.nodes.length > 4 * MAX_OBJECTS) this.#forgetRemoved()
    if (model.nodes.filter((node) => node.nlink > 0).length > MAX_OBJECTS) return this.#remove()
    const directory = this.#directory()
    const name = this.#name()
    const expected = directory.entries.has(name) ? 'EXIST' : 'OK'
    const { handle } = directory
    const made = async (node: Node, kept: Promise<Kept>): Promise<void> => {
      const result = await kept
      if (!this.#expect(`make ${node.type} ${name}`, result.status, expected)) return
      node.handle = handleOf(result.handle)
      model.add(directory, name, node)
    }
    const kind = this.#random.below(6)
    if (kind === 0) {
      return made(
        newNode('DIR', 0o711, directory),
        caller.once(
          PROCEDURE.mkdir,
          handle,
          (vfs, dup) => vfs.mkdir(ROOT, handle, name, { mode: 0o711 }, dup),
          keepMade,
        ),
      )
    }
    if (kind === 1) {
      const path = 'p'.repeat(1 + this.#random.below(900))
      return made(
        newNode('LNK', 0o777, undefined, path),
        caller.once(
          PROCEDURE.symlink,
          handle,
          (vfs, dup) => vfs.symlink(ROOT, handle, name, path, {}, dup),
          keepMade,
        ),
      )
    }
    if (kind === 2) {
      // EXCLUSIVE needs no duplicate-request cache: the verifier in the file tells a retry (RFC 1813, 3.3.8).
      const verifier = new Uint8Array(8)
      new DataView(verifier.buffer).setUint32(0, ++this.#verifiers)
      const result = await caller.call((vfs) =>
        vfs.create(ROOT, handle, name, { mode: 'EXCLUSIVE', verifier }),
      )
      return made(newNode('REG', 0), Promise.resolve(keepMade(result)))
    }
    return made(
      newNode('REG', 0o640),
      caller.once(
        PROCEDURE.create,
        handle,
        (vfs, dup) => vfs.create(ROOT, handle, name, { mode: 'GUARDED', attributes: { mode: 0o640 } }, dup),
        keepMade,
      ),
    )
  }

  /** Keeps the model small; a few removed ones stay, whose handles must be STALE. */
  #forgetRemoved(): void {
    const { nodes } = this.#model
    let spare = 5
    for (let i = nodes.length - 1; i >= 0; i--) {
      if (nodes[i]!.nlink > 0 || spare-- > 0) continue
      nodes.splice(i, 1)
    }
  }

  async #remove(): Promise<void> {
    const directory = this.#directory()
    const name = this.#nameIn(directory)
    const { handle } = directory
    const isDirectory = directory.entries.get(name)?.type === 'DIR'
    const what = isDirectory ? 'DIR' : 'FILE'
    const { status } = isDirectory
      ? await this.caller.once(
          PROCEDURE.rmdir,
          handle,
          (vfs, dup) => vfs.rmdir(ROOT, handle, name, dup),
          keepStatus,
        )
      : await this.caller.once(
          PROCEDURE.remove,
          handle,
          (vfs, dup) => vfs.remove(ROOT, handle, name, dup),
          keepStatus,
        )
    if (status === 'NOSPC') this.refused += 1
    else this.#expect(`remove ${what} ${name}`, status, this.#model.remove(directory, name, what))
  }

  async #rename(): Promise<void> {
    const from = this.#directory()
    const to = this.#directory()
    const fromName = this.#nameIn(from)
    const toName = this.#name()
    const { status } = await this.caller.once(
      PROCEDURE.rename,
      from.handle,
      (vfs, dup) => vfs.rename(ROOT, from.handle, fromName, to.handle, toName, dup),
      keepStatus,
    )
    if (status === 'NOSPC') this.refused += 1
    else this.#expect(`rename ${fromName} ${toName}`, status, this.#model.rename(from, fromName, to, toName))
  }

  async #link(): Promise<void> {
    const node = this.#file()
    if (!node) return
    const directory = this.#directory()
    const name = this.#name()
    const { status } = await this.caller.once(
      PROCEDURE.link,
      node.handle,
      (vfs, dup) => vfs.link(ROOT, node.handle, directory.handle, name, dup),
      keepStatus,
    )
    if (status === 'NOSPC') this.refused += 1
    else this.#expect(`link ${name}`, status, this.#model.link(node, directory, name))
  }

  async #write(): Promise<void> {
    const node = this.#file()
    if (!node) return
    const offset = this.#random.pick(OFFSETS) + this.#random.below(3)
    const data = new Uint8Array(this.#random.pick(SIZES)).fill(1 + this.#random.below(255))
    const stable = this.#random.chance(0.5) ? 'UNSTABLE' : 'FILE_SYNC'
    const { repeated } = this.caller
    const result = await this.caller.call((vfs) => vfs.write(ROOT, node.handle, offset, data, stable))
    const what = `write ${data.length} at ${offset}`
    const done = result.ok ? data.subarray(0, result.count) : data
    const change = (file: Node): void => this.#model.write(file, offset, done)
    if (this.#expect(what, statusOf(result), 'OK')) change(node)
    else await this.#unlessDone(node, this.caller.repeated > repeated, change)
  }

  async #resize(): Promise<void> {
    const node = this.#file()
    if (!node) return
    const size = this.#random.pick(OFFSETS) + this.#random.below(3)
    const { repeated } = this.caller
    const result = await this.caller.call((vfs) => vfs.setattr(ROOT, node.handle, { size }))
    const change = (file: Node): void => this.#model.resize(file, size)
    if (this.#expect(`resize to ${size}`, statusOf(result), 'OK')) change(node)
    else await this.#unlessDone(node, this.caller.repeated > repeated, change)
  }

  /** A change was refused; if an earlier attempt got no answer, the file may show it all the same, but then all of it. */
  async #unlessDone(node: Node, repeated: boolean, change: (file: Node) => void): Promise<void> {
    if (!repeated) return
    const done = { ...node, blocks: new Map([...node.blocks].map(([fbn, block]) => [fbn, block.slice()])) }
    change(done)
    for (const fbn of blocksOf(done)) {
      if ((await this.#differs(done, fbn)) !== undefined) return this.#verify(node)
    }
    change(node)
  }

  async #count(): Promise<void> {
    const { counter } = this
    const value = ++counter.attempted
    const data = new Uint8Array(COUNTER_BYTES)
    new DataView(data.buffer).setFloat64(0, value)
    const result = await this.caller.call((vfs) => vfs.write(ROOT, counter.handle, 0, data, 'FILE_SYNC'))
    if (this.#expect('write of its counter', statusOf(result), 'OK')) counter.acknowledged = value
  }

  /** Reads another client's counter, at any filer: there may be no answer, but no old one. */
  async #look(): Promise<void> {
    const { counter } = this.#random.pick(this.#peers)
    if (counter.handle.length === 0) return
    const least = Math.max(counter.acknowledged, counter.seen)
    const answer = await this.caller.attempt(this.#random.pick(FILERS), (vfs) =>
      vfs.read(ROOT, counter.handle, 0, COUNTER_BYTES, (bytes) => new Uint8Array(bytes)),
    )
    if (answer === undefined) return
    this.caller.operations += 1
    const result = answer.value
    if (!this.#expect('read of a counter', statusOf(result), 'OK') || !result.ok) return
    const { data } = result
    const value = data.length < COUNTER_BYTES ? 0 : new DataView(data.buffer, data.byteOffset).getFloat64(0)
    if (value < least) this.caller.violated(`counter ${value}, acknowledged or seen before ${least} (H2, H6)`)
    if (value > counter.attempted)
      this.caller.violated(`counter ${value}, written at most ${counter.attempted}`)
    counter.seen = Math.max(counter.seen, value)
  }

  async #read(): Promise<void> {
    const node = this.#file()
    if (node) await this.#readBlock(node, Math.floor((this.#random.pick(OFFSETS) + 4096) / BLOCK_BYTES) - 1)
    const gone = this.#model.nodes.filter((one) => one.nlink === 0)
    if (gone.length === 0 || this.#random.chance(0.8)) return
    const { handle } = this.#random.pick(gone)
    const result = await this.caller.call((vfs) => vfs.getattr(handle))
    this.#expect('getattr of what was removed', statusOf(result), 'STALE')
  }

  async #readBlock(node: Node, fbn: number): Promise<void> {
    const differs = await this.#differs(node, fbn)
    if (differs !== undefined) this.caller.violated(`${differs} (H2)`)
  }

  /** Reads a block of the file: how it is not what `file` has there; undefined: it is. */
  async #differs(file: Node, fbn: number): Promise<string | undefined> {
    const offset = fbn * BLOCK_BYTES
    const result = await this.caller.call((vfs) =>
      vfs.read(ROOT, file.handle, offset, BLOCK_BYTES, (bytes) => new Uint8Array(bytes).fill(7)),
    )
    if (!this.#expect('read', statusOf(result), 'OK') || !result.ok) return undefined
    const bytes = Math.min(BLOCK_BYTES, Math.max(0, file.size - offset))
    const expected = (file.blocks.get(fbn) ?? new Uint8Array(BLOCK_BYTES)).subarray(0, bytes)
    const { size } = result.attributes
    if (Buffer.compare(result.data, expected) === 0 && size === file.size) return undefined
    return `read at ${offset}: ${describe(result.data)}, size ${size}; expected ${describe(expected)}, size ${file.size}`
  }

  async #lookup(): Promise<void> {
    const directory = this.#directory()
    const name = this.#nameIn(directory)
    const node = directory.entries.get(name)
    const result = await this.caller.call((vfs) => vfs.lookup(ROOT, directory.handle, name))
    if (!this.#expect(`lookup ${name}`, statusOf(result), node ? 'OK' : 'NOENT') || !result.ok) return
    const { handle, attributes } = result.object
    if (Buffer.compare(handle, node!.handle) !== 0) this.caller.violated(`lookup ${name}: another object`)
    const { type, nlink, size } = attributes
    const same = type === node!.type && nlink === node!.nlink && (type === 'DIR' || size === node!.size)
    if (!same) {
      const { type: kind, nlink: links, size: bytes } = node!
      this.caller.violated(
        `lookup ${name}: ${type} nlink ${nlink} size ${size}; expected ${kind} nlink ${links} size ${bytes}`,
      )
    }
  }

  async #list(directory: Node): Promise<void> {
    const entries: DirectoryEntry[] = []
    for (let cookie = 0; ;) {
      const from = cookie
      const result = await this.caller.call((vfs) =>
        vfs.readdir(ROOT, directory.handle, from, new Uint8Array(8), 7, true),
      )
      if (!this.#expect('readdir', statusOf(result), 'OK') || !result.ok) return
      entries.push(...result.entries)
      if (result.eof) break
      cookie = result.entries.at(-1)!.cookie
    }
    const found = entries.map((entry) => entry.name).sort()
    const expected = ['.', '..', ...directory.entries.keys()].sort()
    if (found.join() !== expected.join())
      this.caller.violated(`readdir: ${found.join()}; expected ${expected.join()}`)
  }

  /** Everything of the model is there as it should be. */
  async verify(): Promise<void> {
    if (this.counter.handle.length === 0) return
    await this.#verify(this.#model.root)
  }

  async #verify(node: Node): Promise<void> {
    if (node.type === 'REG') {
      for (const fbn of blocksOf(node)) await this.#readBlock(node, fbn)
    }
    if (node.type !== 'DIR') return
    await this.#list(node)
    for (const child of node.entries.values()) await this.#verify(child)
  }
}

/** Those that have content, and the ends. */
const blocksOf = (file: Node): Set<number> =>
  new Set([0, Math.floor(file.size / BLOCK_BYTES), ...file.blocks.keys()])

function describe(data: Uint8Array): string {
  const first = data[0]
  if (first === undefined) return 'nothing'
  const differs = data.findIndex((byte) => byte !== first)
  return `${data.length} bytes of ${first}${differs < 0 ? '' : `, ${data[differs]!} from ${differs} on`}`
}
