/**
 * A client whose writes depend on one another, in files of several volumes: each begins when the one before was answered. What is found of them later must be what some moment
 * of that history had.
 */
import type { Caller as Credential, Vfs } from '../core/vfs/vfs.ts'
import type { Caller } from './caller.ts'

const ROOT: Credential = { uid: 0, gid: 0, gids: [] }

export class OrderedWriter {
  readonly caller: Caller
  readonly #paths: readonly string[]
  #handles: Uint8Array[] = []
  #attempted = 0
  acknowledged = 0
  #stopped = false
  idle = false

  constructor(caller: Caller, paths: readonly string[]) {
    this.caller = caller
    this.#paths = paths
  }

  async run(): Promise<void> {
    for (const path of this.#paths) this.#handles.push(await this.#create(path))
    while (!this.#stopped) {
      this.#attempted += 1
      const data = new Uint8Array(8)
      new DataView(data.buffer).setUint32(0, this.#attempted)
      const handle = this.#handles[(this.#attempted - 1) % this.#handles.length]!
      const { status } = await this.caller.call(async (vfs) =>
        told(await vfs.write(ROOT, handle, 0, data, 'FILE_SYNC')),
      )
      if (status !== 'OK') this.caller.violated(`write ${this.#attempted}: ${status}`)
      this.acknowledged = this.#attempted
    }
    this.idle = true
  }

  stop(): void {
    this.#stopped = true
  }

  async #create(path: string): Promise<Uint8Array> {
    for (;;) {
      const name = `order-${this.caller.machine}`
      const how = { mode: 'UNCHECKED' as const, attributes: {} }
      const made = await this.caller.call((vfs) => {
        const root = vfs.exports().find((one) => one.path === path)?.root
        return root === undefined ? undefined : vfs.create(ROOT, root, name, how)
      })
      if (made?.ok === true) return made.object.handle
      await this.caller.sleep(20)
    }
  }

  /** Reads what `at` has of each volume; throws if no moment had it. Returns how many of the writes are there. */
  async found(at: (volume: number) => Caller): Promise<number> {
    const values: number[] = []
    for (const [n, handle] of this.#handles.entries()) {
      const read = (vfs: Vfs) => vfs.read(ROOT, handle, 0, 8, (size) => new Uint8Array(size))
      const result = await at(n).call(read)
      if (!result.ok) throw new Error(`volume ${n} cannot be read: ${result.status}`)
      const { data } = result
      values.push(data.length < 4 ? 0 : new DataView(data.buffer, data.byteOffset).getUint32(0))
    }
    const newest = Math.max(...values)
    const count = values.length
    for (const [n, value] of values.entries()) {
      // The last write to this volume among those up to the newest one that is there.
      const due = Math.max(0, newest - ((((newest - 1 - n) % count) + count) % count))
      if (value !== due)
        this.caller.violated(`volume ${n} has write ${value} instead of ${due}, another one ${newest}`)
    }
    return newest
  }
}

const told = (result: { readonly ok: boolean; readonly status?: string }) => ({
  ok: result.ok,
  status: result.ok ? 'OK' : (result.status ?? '?'),
})
