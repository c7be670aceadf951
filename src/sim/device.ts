/**
 * A device in memory with the faults of real ones: a crash loses or tears what was not flushed, blocks rot, writes get lost
 * or land elsewhere, calls fail, the medium is full, calls take (virtual) time.
 *
 * What survives a crash is kept apart from what a reader sees: `stable` holds flushed blocks, `pending` every write since, in order. A crash
 * decides block by block, and inside a torn block sector by sector, which of the pending writes came through, in any subset.
 * `SimMedium` is the disk and outlives its `SimDevice`s: after a crash open a new one over the same medium.
 */
import { BLOCK_BYTES, DeviceError } from '../core/env/device.ts'
import type { Device } from '../core/env/device.ts'
import type { Clock, Random } from '../core/env/env.ts'

const SECTOR_BYTES = 512

interface PendingWrite {
  readonly block: number
  readonly content: Uint8Array
}

/** What a test may do to the calls of a device. Everything is off by default. */
export interface SimFaults {
  /** Called before a write reaches the medium; throw DeviceError to fail it, return false to lose it, a number to misdirect it to that block. */
  onWrite?: (block: number, blocks: number) => void | false | number
  /** Called for each block of a write that reaches the medium: it is lost, or lands at another block, though the write succeeds. */
  onBlock?: (block: number) => 'LOST' | number | undefined
  /** Called before a read; throw DeviceError to fail it. */
  onRead?: (block: number, blocks: number) => void
  onFlush?: () => void
  /** Milliseconds that a call takes. */
  latencyMs?: (what: 'read' | 'write' | 'flush', blocks: number) => number
}

export class SimMedium {
  readonly name: string
  readonly blocks: number
  readonly stable = new Map<number, Uint8Array>()
  private pending: PendingWrite[] = []
  /** Writes that are no longer pending. */
  private settled = 0
  /** What a reader sees of blocks written since the last flush. */
  private readonly recent = new Map<number, Uint8Array>()
  writes = 0
  reads = 0
  blocksWritten = 0
  flushes = 0

  constructor(name: string, blocks: number) {
    this.name = name
    this.blocks = blocks
  }

  read(block: number): Uint8Array | undefined {
    return this.recent.get(block) ?? this.stable.get(block)
  }

  write(block: number, content: Uint8Array): void {
    this.pending.push({ block, content })
    this.recent.set(block, content)
    this.blocksWritten += 1
  }

  /** A mark for `flush`: only what was written before the call becomes durable. */
  mark(): number {
    return this.settled + this.pending.length
  }

  flush(mark: number): void {
    const due = Math.max(0, mark - this.settled)
    for (const write of this.pending.slice(0, due)) this.stable.set(write.block, write.content)
    this.settled += due
    this.pending = this.pending.slice(due)
    this.recent.clear()
    for (const write of this.pending) this.recent.set(write.block, write.content)
    this.flushes += 1
  }

  /** Power is gone: each write since the last flush is kept, lost or torn as `random` decides. */
  crash(random: Random): void {
    for (const write of this.pending) {
      const fate = random.u32() % 4
      if (fate === 0) continue
      if (fate !== 1) {
        this.stable.set(write.block, write.content)
        continue
      }
      const torn = (this.stable.get(write.block) ?? new Uint8Array(BLOCK_BYTES)).slice()
      for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES) {
        if (random.u32() % 2 === 0) torn.set(write.content.subarray(at, at + SECTOR_BYTES), at)
      }
      this.stable.set(write.block, torn)
    }
    this.settled += this.pending.length
    this.pending = []
    this.recent.clear()
  }

  /** Flips one bit of what is stored, behind everybody's back. */
  rot(block: number, bit: number): void {
    const content = (this.read(block) ?? new Uint8Array(BLOCK_BYTES)).slice()
    content[(bit >> 3) % BLOCK_BYTES]! ^= 1 << (bit & 7)
    this.recent.delete(block)
    this.stable.set(block, content)
    for (const write of this.pending) if (write.block === block) write.content.set(content)
  }

  /** A copy of what a reader sees now, for "restored from yesterday" and for comparing. */
  copy(name = this.name): SimMedium {
    const copy = new SimMedium(name, this.blocks)
    for (const [block, content] of this.stable) copy.stable.set(block, content)
    for (const [block, content] of this.recent) copy.stable.set(block, content)
    return copy
  }
}

export class SimDevice implements Device {
  readonly name: string
  readonly blocks: number
  readonly medium: SimMedium
  readonly faults: SimFaults
  private readonly clock: Clock | undefined
  private closed = false

  constructor(medium: SimMedium, faults: SimFaults = {}, clock?: Clock) {
    this.name = medium.name
    this.blocks = medium.blocks
    this.medium = medium
    this.faults = faults
    this.clock = clock
  }

  async read(block: number, into: Uint8Array): Promise<void> {
    const blocks = this.within(block, into.length)
    await this.pause('read', blocks)
    this.faults.onRead?.(block, blocks)
    this.medium.reads += 1
    for (let i = 0; i < blocks; i++) {
      const content = this.medium.read(block + i)
      if (content === undefined) into.fill(0, i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)
      else into.set(content, i * BLOCK_BYTES)
    }
  }

  async write(block: number, chunks: readonly Uint8Array[]): Promise<void> {
    let bytes = 0
    for (const chunk of chunks) bytes += chunk.length
    const blocks = this.within(block, bytes)
    const joined = new Uint8Array(bytes)
    let at = 0
    for (const chunk of chunks) {
      joined.set(chunk, at)
      at += chunk.length
    }
    await this.pause('write', blocks)
    const fate = this.faults.onWrite?.(block, blocks)
    this.medium.writes += 1
    if (fate === false) return
    const to = typeof fate === 'number' ? fate : block
    for (let i = 0; i < blocks && to + i < this.blocks; i++) {
      const at = this.faults.onBlock?.(to + i) ?? to + i
      if (at !== 'LOST') this.medium.write(at, joined.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES))
    }
  }

  async flush(): Promise<void> {
    this.alive()
    const mark = this.medium.mark()
    await this.pause('flush', 0)
    this.faults.onFlush?.()
    this.medium.flush(mark)
  }

  async close(): Promise<void> {
    this.closed = true
  }

  /** The process that had it open is gone: its calls, those under way too, have no effect any more. */
  kill(): void {
    this.closed = true
  }

  private alive(): void {
    if (this.closed) throw new DeviceError('EBADF', `${this.name} is closed`)
  }

  private within(block: number, bytes: number): number {
    this.alive()
    const blocks = bytes / BLOCK_BYTES
    if (!Number.isInteger(blocks) || block < 0 || block + blocks > this.blocks) {
      throw new DeviceError(
        'EINVAL',
        `${this.name}: ${bytes} bytes at block ${block} are outside ${this.blocks} blocks`,
      )
    }
    return blocks
  }

  private async pause(what: 'read' | 'write' | 'flush', blocks: number): Promise<void> {
    const delayMs = this.faults.latencyMs?.(what, blocks) ?? 0
    if (delayMs > 0 && this.clock !== undefined) {
      await new Promise<void>((resolve) => this.clock!.after(delayMs, resolve))
    } else {
      await Promise.resolve()
    }
    this.alive()
  }
}

/** A small fast generator with a seed (xorshift32 with a multiplicative start), for tests and the simulator. */
export function seededRandom(seed: number): Random {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0 || 1
  return {
    u32() {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      state >>>= 0
      return state
    },
  }
}
