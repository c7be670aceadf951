/**
 * The AUTH_SYS credential of a connection's calls: nearly all carry the same, so the last one is kept as bytes (without its stamp) and decoded,
 * and only compared. The same object comes back for the same bytes.
 */
import type { Credential } from '../rpc/rpc.ts'
import { AUTH_BODY_BYTES_MAX, readAuthSys } from '../rpc/rpc.ts'
import { XdrError, XdrReader } from '../xdr.ts'
import type { Slab } from './slab.ts'

const STAMP_BYTES = 4

export class CredentialCache {
  readonly #known = Buffer.alloc(AUTH_BODY_BYTES_MAX)
  #length = -1
  #credential: Credential | undefined

  /** The credential in `bytes` bytes of the slab; undefined if it is malformed. */
  get(slab: Slab, at: number, bytes: number): Credential | undefined {
    const known = this.#known
    if (bytes === this.#length) {
      let i = STAMP_BYTES
      while (i < bytes && slab.bytes[at + i] === known[i]) i++
      if (i >= bytes) return this.#credential
    }
    this.#length = -1
    const r = new XdrReader(slab.bytes, slab.view)
    r.reset(slab.bytes, slab.view, at, at + bytes)
    try {
      this.#credential = readAuthSys(r)
    } catch (error) {
      if (error instanceof XdrError) return undefined
      throw error
    }
    slab.bytes.copy(known, 0, at, at + bytes)
    this.#length = bytes
    return this.#credential
  }
}
