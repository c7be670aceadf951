/**
 * Calls that must not happen twice and have not been answered yet, of all connections: a retransmission (on the same or
 * another connection) waits for the same reply. What was answered is in the file system's own duplicate-request cache.
 */
import type { DuplicateKey } from '../../core/vfs/vfs.ts'

interface Entry {
  readonly key: DuplicateKey
  readonly reply: Promise<Uint8Array>
}

const same = (a: DuplicateKey, b: DuplicateKey): boolean =>
  a.xid === b.xid && a.checksum === b.checksum && a.procedure === b.procedure && a.machine === b.machine

export class InProgress {
  /** By xid; several clients may use the same one. */
  readonly #calls = new Map<number, Entry[]>()

  get size(): number {
    return this.#calls.size
  }

  find(key: DuplicateKey): Promise<Uint8Array> | undefined {
    return this.#calls.get(key.xid)?.find((entry) => same(entry.key, key))?.reply
  }

  /** What waits now may wait for ever (its side was lost): a retransmission asks the file system anew. */
  clear(): void {
    this.#calls.clear()
  }

  /** Keeps the call until its reply is there or has failed. */
  keep(key: DuplicateKey, reply: Promise<Uint8Array>): void {
    const entry = { key, reply }
    const calls = this.#calls.get(key.xid)
    if (calls) calls.push(entry)
    else this.#calls.set(key.xid, [entry])
    const forget = (): void => {
      const left = this.#calls.get(key.xid)?.filter((other) => other !== entry) ?? []
      if (left.length > 0) this.#calls.set(key.xid, left)
      else this.#calls.delete(key.xid)
    }
    reply.then(forget, forget)
  }
}
