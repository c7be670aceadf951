/**
 * One client that has a volume of each side for itself: it writes files, and has snapshots made, deleted and restored, one thing after the other. So what each snapshot must
 * hold is known exactly, and every read of it is checked, whoever serves it by then: an order that was answered has been carried out on both filers, once.
 *
 * It also holds handles of what no snapshot has when the volume is restored, and of deleted snapshots: they are STALE for ever, whatever comes to stand in their places.
 */
import type { SnapshotOrder } from '../core/filer/snapshot-orders.ts'
import type { Caller as Credential, LookupResult, MakeResult, RemoveResult, Result } from '../core/vfs/vfs.ts'
import { NotServedError } from '../core/vfs/vfs.ts'
import type { Caller, Kept } from './caller.ts'
import { SCHEDULE } from './desired.ts'
import type { SimRandom } from './world.ts'

const ROOT: Credential = { uid: 0, gid: 0, gids: [] }
const REMOVE = 12
const NAMES = 8
const SNAPSHOTS = 6
const DEAD_MAX = 20
const BYTES_MAX = 64_000
const SIZES = [4, 4096, 5000, 40_000]

/** Name → stamp that fills the file. */
type Files = Map<string, number>

const statusOf = (result: Result<unknown>): string => (result.ok ? 'OK' : result.status)

export class SnapshotClient {
  readonly caller: Caller
  readonly #path: string
  readonly #volumeId: string
  readonly #random: SimRandom
  #root: Uint8Array | undefined
  #files: Files = new Map()
  readonly #snapshots = new Map<string, Files>()
  readonly #dead: Uint8Array[] = []
  #numbers = 0
  #stopped = true
  #running = false
  pauseMs = 1
  refused = 0
  orders = 0

  constructor(caller: Caller, path: string, volumeId: string) {
    this.caller = caller
    this.#path = path
    this.#volumeId = volumeId
    this.#random = caller.pair.world.random.fork()
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

  /** Everything once more, at the end. */
  async verify(): Promise<void> {
    if (this.#root === undefined) return
    await this.#compare([], this.#files)
    await this.#list()
    for (const [name, files] of this.#snapshots) await this.#compare(['.snapshot', name], files)
    for (const handle of this.#dead) await this.#isStale(handle)
  }

  async #loop(): Promise<void> {
    while (!this.#stopped && this.#root === undefined) {
      this.#root = await this.caller.call(
        (vfs) => vfs.exports().find(({ path }) => path === this.#path)?.root,
      )
      if (this.#root === undefined) await this.caller.sleep(20)
    }
    while (!this.#stopped) {
      await this.#step()
      if (this.pauseMs > 0) await this.caller.sleep(this.#random.between(0, this.pauseMs))
    }
  }

  async #step(): Promise<void> {
    const dice = this.#random.below(100)
    if (dice < 45) await this.#write()
    else if (dice < 55) await this.#remove()
    else if (dice < 65) await this.#make()
    else if (dice < 71) await this.#delete()
    else if (dice < 76) await this.#restore()
    else if (dice < 82) await this.#list()
    else if (dice < 88 && this.#dead.length > 0) await this.#isStale(this.#random.pick(this.#dead))
    else if (dice < 94) await this.#compare([], this.#files)
    else {
      const name = this.#snapshotName()
      if (name !== undefined) await this.#compare(['.snapshot', name], this.#snapshots.get(name)!)
    }
  }

  #snapshotName(): string | undefined {
    const names = [...this.#snapshots.keys()]
    return names.length === 0 ? undefined : this.#random.pick(names)
  }

  async #write(): Promise<void> {
    const n = this.#random.below(NAMES)
    const name = `file-${n}`
    const stamp = ++this.#numbers
    const how = { mode: 'UNCHECKED' as const, attributes: {} }
    const made: MakeResult = await this.caller.call((vfs) => vfs.create(ROOT, this.#root!, name, how))
    if (!made.ok) return this.#full(`CREATE ${name}`, made.status)
    if (!this.#files.has(name)) this.#files.set(name, 0)
    const data = contentOf(name, stamp)
    const { handle } = made.object
    const written = await this.caller.call((vfs) => vfs.write(ROOT, handle, 0, data, 'FILE_SYNC'))
    if (written.ok) {
      this.#files.set(name, stamp)
      return
    }
    this.#full(`WRITE ${name}`, written.status)
    // An attempt whose answer was lost may have been carried out before the one that found no room.
    const found = await this.#read(handle, name)
    if (found === stamp) this.#files.set(name, stamp)
  }

  #full(what: string, status: string): void {
    if (status !== 'NOSPC') this.caller.violated(`${what}: ${status}`)
    this.refused += 1
  }

  async #remove(): Promise<void> {
    const names = [...this.#files.keys()]
    if (names.length === 0) return
    const name = this.#random.pick(names)
    const kept = await this.caller.once(
      REMOVE,
      this.#root!,
      (vfs, dup) => vfs.remove(ROOT, this.#root!, name, dup),
      (result: RemoveResult): Kept => ({ status: statusOf(result) }),
    )
    if (kept.status === 'OK') this.#files.delete(name)
    else this.#full(`REMOVE ${name}`, kept.status)
  }

  /** True if it was carried out; false if there was no room. */
  async #order(op: SnapshotOrder['op'], snapshot: string): Promise<boolean> {
    const order = { volumeId: this.#volumeId, op, snapshot, requestId: `${op}-${++this.#numbers}` }
    const answer = await this.caller.call(async (_, filer) => {
      const said = await filer.snapshot(order)
      if (said.reason === 'NotServedHere') throw new NotServedError()
      return said
    })
    this.orders += 1
    if (answer.accepted) return true
    const { reason, message } = answer
    if (reason !== 'NoSpace') this.caller.violated(`${op} of snapshot ${snapshot}: ${reason}: ${message}`)
    this.refused += 1
    return false
  }

  async #make(): Promise<void> {
    if (this.#snapshots.size >= SNAPSHOTS) return this.#delete()
    const name = `s${++this.#numbers}`
    if (await this.#order('Create', name)) this.#snapshots.set(name, new Map(this.#files))
  }

  async #delete(): Promise<void> {
    const name = this.#snapshotName()
    if (name === undefined) return
    const old = await this.#lookup(['.snapshot', name])
    if (await this.#order('Delete', name)) {
      this.#snapshots.delete(name)
      if (old.ok) this.#buried(old.object.handle)
    }
  }

  async #restore(): Promise<void> {
    const name = this.#snapshotName()
    if (name === undefined) return
    const files = this.#snapshots.get(name)!
    // What no snapshot has cannot come back by a later restore.
    const kept = [...this.#snapshots.values()]
    const since = [...this.#files.keys()].find((file) => !kept.some((one) => one.has(file)))
    const handle = since === undefined ? undefined : await this.#lookup([since])
    if (!(await this.#order('Restore', name))) return
    this.#files = new Map(files)
    if (handle?.ok === true) this.#buried(handle.object.handle)
    await this.#compare([], this.#files)
  }

  #buried(handle: Uint8Array): void {
    this.#dead.push(handle)
    if (this.#dead.length > DEAD_MAX) this.#dead.shift()
  }

  async #isStale(handle: Uint8Array): Promise<void> {
    const found = await this.caller.call((vfs) => vfs.getattr(handle))
    if (found.ok || found.status !== 'STALE') {
      this.caller.violated(`handle of what is no more: ${statusOf(found)}, expected STALE`)
    }
  }

  async #lookup(path: readonly string[]): Promise<LookupResult> {
    return await this.caller.call(async (vfs) => {
      let handle = this.#root!
      for (const [i, name] of path.entries()) {
        const found = await vfs.lookup(ROOT, handle, name)
        if (!found.ok || i === path.length - 1) return found
        handle = found.object.handle
      }
      return { ok: false, status: 'INVAL' }
    })
  }

  /** The names under `.snapshot` are those that were made and not deleted, and some of the schedule. */
  async #list(): Promise<void> {
    const directory = await this.#lookup(['.snapshot'])
    if (!directory.ok) return this.caller.violated(`LOOKUP .snapshot: ${directory.status}`)
    const { handle } = directory.object
    const listed = await this.caller.call((vfs) =>
      vfs.readdir(ROOT, handle, 2, new Uint8Array(8), 400, false),
    )
    if (!listed.ok) return this.caller.violated(`READDIR of .snapshot: ${listed.status}`)
    const names = listed.entries.map(({ name }) => name)
    const automatic = names.filter((name) => name.startsWith(`${SCHEDULE.name}.`))
    const mine = names.filter((name) => !name.startsWith(`${SCHEDULE.name}.`)).sort()
    const expected = [...this.#snapshots.keys()].sort()
    if (mine.join() !== expected.join()) {
      this.caller.violated(`snapshots ${mine.join()}, expected ${expected.join()}`)
    }
    if (automatic.length > SCHEDULE.keep + 1)
      this.caller.violated(`too many of the schedule: ${automatic.join()}`)
  }

  async #compare(path: readonly string[], files: Files): Promise<void> {
    const where = path.join('/') || this.#path
    for (let n = 0; n < NAMES; n++) {
      const name = `file-${n}`
      const stamp = files.get(name)
      const found = await this.#lookup([...path, name])
      if (!found.ok) {
        if (found.status !== 'NOENT' || stamp !== undefined) {
          this.caller.violated(
            `LOOKUP of ${name} in ${where}: ${found.status}, expected stamp ${stamp ?? 'none'}`,
          )
        }
        continue
      }
      const read = await this.#read(found.object.handle, name)
      if (read !== stamp) {
        this.caller.violated(
          `${name} in ${where} has stamp ${read ?? 'of a mixture'}, expected ${stamp ?? 'no file'}`,
        )
      }
    }
  }

  /** The stamp that fills a file, 0 for an empty one; undefined if it is no whole content. */
  async #read(handle: Uint8Array, name: string): Promise<number | undefined> {
    const result = await this.caller.call((vfs) =>
      vfs.read(ROOT, handle, 0, BYTES_MAX, (bytes) => new Uint8Array(bytes)),
    )
    if (!result.ok) return this.caller.violated(`READ of ${name}: ${result.status}`)
    const { data } = result
    if (data.length === 0) return 0
    const stamp = data[0]! + (data.length > 3 ? data[1]! * 256 + data[2]! * 65_536 : 0)
    const whole = contentOf(name, stamp)
    const same = Buffer.compare(data, whole) === 0
    return same ? stamp : undefined
  }
}

/** A file's size follows from its name, so that every write is one of the whole file. */
function contentOf(name: string, stamp: number): Uint8Array {
  const size = SIZES[Number(name.slice(-1)) % SIZES.length]!
  const data = new Uint8Array(size)
  for (let i = 0; i < size; i += 3) {
    data[i] = stamp & 255
    if (size > 3 && i + 2 < size) {
      data[i + 1] = (stamp >> 8) & 255
      data[i + 2] = (stamp >> 16) & 255
    }
  }
  return data
}
