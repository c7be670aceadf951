/**
 * Brings blocks behind ABSENT pointers into memory: reads the old block that the code names, and builds the new one from it. Equal codes that are asked for at the same time
 * are read once. What was built is a clean buffer under a key of its own, above all numbers of blocks, and may be dropped like any other.
 */
import { decodeAbsent, resolve } from '../fs/absent.ts'
import { DamagedBlock } from '../fs/block-store.ts'
import type { BlockKind, Resolved } from '../fs/block-store.ts'
import type { Pool } from './pool.ts'

const KEYS = 2 ** 48

export function keyOfAbsent(code: number): number {
  return KEYS + code
}

export interface AbsentTarget {
  resolved(code: number, kind: BlockKind, resolved: Resolved): void
  unreadable(bn: number): void
}

export class AbsentLoader {
  private readonly pool: Pool
  private readonly target: AbsentTarget
  private readonly underWay = new Map<number, Promise<void>>()

  constructor(pool: Pool, target: AbsentTarget) {
    this.pool = pool
    this.target = target
  }

  load(code: number, kind: BlockKind): Promise<void> {
    let loading = this.underWay.get(code)
    if (loading === undefined) {
      loading = this.read(code, kind).finally(() => this.underWay.delete(code))
      this.underWay.set(code, loading)
    }
    return loading
  }

  private async read(code: number, kind: BlockKind): Promise<void> {
    const { old, io } = this.pool
    try {
      // Only a conversion makes such pointers.
      if (old === undefined) throw new DamagedBlock(keyOfAbsent(code))
      const { source, vbn } = decodeAbsent(code)
      const { pvbn, identity } = old.place(
        vbn,
        source === 'inodes' || source === 'inode' ? 'inode' : 'indirect',
      )
      const content = old.exists(pvbn) ? await io.read(identity, pvbn) : undefined
      if (content !== undefined) {
        this.target.resolved(code, kind, resolve(code, content, old.record.first))
        return
      }
    } catch (error) {
      if (!(error instanceof DamagedBlock)) throw error
    }
    this.target.unreadable(keyOfAbsent(code))
  }
}
