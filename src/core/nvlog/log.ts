/**
 * The operation log of a side at its owner: group commit, two halves, back-pressure.
 *
 * - Everything appended while a batch is under way, or in one turn, becomes the next one (gathering.ts says when it begins): one durable local write and, at the same time, one write
 *   to the partner's copy (`LogMirror`), at the same place. One batch is in flight; so nothing valid ever stands behind a torn one.
 * - `durable` is the last seq that is in every copy it must be in. While a mirror is attached that is both. A mirror write that fails does
 *   not resolve: it waits until the partner is back, or until ALONE is recorded and the mirror is detached (H2); this module never
 *   decides that one copy is enough.
 * - Whether a durable change may be *shown* (read lease, ownership) is the journal's business (pair/side-journal.ts).
 * - A half is switched away from at a freeze, or when it is full and the other is free. It is free again when a complete consistency
 *   point covers its last record (H4): `release`.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import { assert } from '../std/assert.ts'
import { BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, blocksOf, sealBatch, writeRecord } from './batch.ts'
import { BYTES_ENOUGH, Gathering } from './gathering.ts'
import type { LogDevice, LogGeometry } from './log-device.ts'
import { geometryOf, halfStart } from './log-device.ts'
import type { LogPosition } from './scan.ts'

/** The partner's copy. `write` resolves when it is durable there, or when the mirror was detached. It never rejects. */
export interface LogMirror {
  write(block: number, chunk: Uint8Array): Promise<void>
}

export interface LogHooks {
  /** `durable` has moved, or a waiter may have to be looked at again. */
  onDurable(): void
  /** The half is half full: a consistency point should come soon. */
  onPressure(): void
  /** The local copy cannot be written: this filer cannot go on. */
  onFailure(error: unknown): void
  /** After each flush that no mirror has a part in; rejects when this process must not answer any more. */
  verifyAlone?(): Promise<void>
}

/** What batches are stamped with; read when a batch is sealed. */
export interface LogStamp {
  epoch: number
  incarnation: number
  rootCp: number
}

/** A batch is one arena at most, so that one frame to the partner stays bounded. Two of the largest writes fit. */
const ARENA_BYTES = 2 * 1024 * 1024 + 64 * 1024
const ARENAS_KEPT = 4
/** Records that wait for their batch; beyond it operations wait before they start, whatever room the log has. */
const PENDING_BYTES_MAX = 4 * 1024 * 1024

interface Arena {
  readonly bytes: Uint8Array
  used: number
  count: number
  firstSeq: number
}

export class OperationLog {
  readonly #env: Env
  readonly #device: LogDevice
  readonly #geometry: LogGeometry
  readonly #origin: number
  readonly #stamp: LogStamp
  readonly #hooks: LogHooks
  #halfNumber: number
  #usedBlocks: number
  /** Last seq in the half that is not written now; 0: it is free. */
  #otherLastSeq: number
  #nextSeq: number
  #durable: number
  #pending: Arena[] = []
  #pendingBytes = 0
  #spare: Arena[] = []
  #flight: Promise<void> | undefined
  readonly #gathering: Gathering
  #planned = false
  #mirror: LogMirror | undefined
  #roomWaiters: { bytes: number; resolve: () => void }[] = []
  #flushed: { seq: number; resolve: () => void }[] = []
  #stopped = false
  #pressed = false
  #switchWanted = false

  constructor(
    env: Env,
    device: LogDevice,
    origin: number,
    stamp: LogStamp,
    position: LogPosition,
    hooks: LogHooks,
  ) {
    this.#env = env
    this.#device = device
    this.#geometry = geometryOf(device)
    this.#origin = origin
    this.#stamp = stamp
    this.#hooks = hooks
    this.#halfNumber = position.halfNumber
    this.#usedBlocks = position.usedBlocks
    this.#otherLastSeq = position.otherLastSeq
    this.#nextSeq = position.nextSeq
    this.#durable = position.nextSeq - 1
    this.#gathering = new Gathering(env.clock, () => this.#pump())
  }

  get lastSeq(): number {
    return this.#nextSeq - 1
  }
  get durable(): number {
    return this.#durable
  }
  /** Share of the present half that is used, pending records included. */
  get fill(): number {
    return (this.#usedBlocks + this.#pendingBlocks()) / this.#geometry.halfBlocks
  }
  get mirrored(): boolean {
    return this.#mirror !== undefined
  }
  get halfIsFree(): boolean {
    return this.#otherLastSeq === 0
  }

  /** Before an operation starts: waits while the log has no room for it and what is already under way. */
  admit(bytes: number): void | Promise<void> {
    if (this.#roomWaiters.length === 0 && this.#hasRoom(bytes)) return undefined
    if (this.#pendingBytes <= PENDING_BYTES_MAX) this.#press()
    return new Promise((resolve) => this.#roomWaiters.push({ bytes, resolve }))
  }

  /** Never fails: `admit` saw to room. The record is copied. */
  append(aggregate: number, volume: number, body: readonly Uint8Array[]): number {
    assert(!this.#stopped, 'append to a stopped log')
    let bytes = 0
    for (const chunk of body) bytes += chunk.length
    const need = RECORD_HEADER_BYTES + bytes
    let arena = this.#pending.at(-1)
    if (!arena || arena.used + need > arena.bytes.length) {
      arena = this.#takeArena(need)
      this.#pending.push(arena)
    }
    const seq = this.#nextSeq++
    if (arena.count === 0) arena.firstSeq = seq
    const before = arena.used
    arena.used = writeRecord(arena.bytes, before, aggregate, volume, body, bytes)
    arena.count += 1
    this.#pendingBytes += arena.used - before
    if (this.#pendingBytes < BYTES_ENOUGH) this.#plan()
    else this.#pump()
    if (this.fill >= 0.5) this.#press()
    return seq
  }

  /** Resolves when everything up to `seq` is durable in every copy it must be in, or the log was stopped. */
  flushed(seq: number): Promise<void> {
    if (seq <= this.#durable) return Promise.resolve()
    return new Promise((resolve) => this.#flushed.push({ seq, resolve }))
  }

  /** From the next batch on, every batch goes to `mirror` too. The batch under way is not the mirror's. */
  attachMirror(mirror: LogMirror): void {
    this.#mirror = mirror
  }
  /** The mirror has everything up to `has`; nothing beyond is durable, and no new batch goes out, until `send` has resolved. */
  sendBacklog(has: number, send: () => Promise<void>): void {
    assert(!this.#flight && this.#pending.length === 0, 'backlog behind new batches')
    const { lastSeq } = this
    this.#durable = has
    this.#flight = send().then(() => this.#landed(lastSeq))
  }
  /** ALONE is recorded, or a resync was given up before JOIN was asked for. */
  detachMirror(): void {
    this.#mirror = undefined
  }

  /**
   * At a freeze: what is appended from now on goes to the other half, if that is free. Records before the freeze that are
   * still pending may land there too, which does no harm: they are covered when the half before is released.
   */
  switchHalf(): boolean {
    if (this.#otherLastSeq !== 0) return false
    if (this.#flight) {
      this.#switchWanted = true
      return true
    }
    this.#swap()
    return true
  }

  /** A consistency point that covers `covers` is complete on every copy that must have it. */
  release(covers: number): void {
    if (this.#otherLastSeq !== 0 && this.#otherLastSeq <= covers) this.#otherLastSeq = 0
    this.#pressed = false
    this.#pump()
    this.#admitWaiters()
    if (this.fill >= 0.5 || this.#roomWaiters.length > 0) this.#press()
  }

  /** Nothing is written any more; what was not durable stays unanswered. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#gathering.stop()
    await this.#flight
    for (const waiter of this.#flushed.splice(0)) waiter.resolve()
  }

  #pendingBlocks(): number {
    return this.#pendingBytes === 0
      ? 0
      : blocksOf(this.#pendingBytes + BATCH_HEADER_BYTES) + this.#pending.length
  }

  /**
   * A quarter of a half stays back for operations that were admitted earlier and have not appended yet, so that their records fit
   * whatever the padding to blocks takes. A free other half is used when this one is full.
   */
  #hasRoom(bytes: number): boolean {
    if (this.#pendingBytes > PENDING_BYTES_MAX) return false
    const blocks = this.#usedBlocks + this.#pendingBlocks() + blocksOf(bytes) + 2
    const limit = this.#geometry.halfBlocks * (this.#otherLastSeq === 0 ? 1.75 : 0.75)
    return blocks <= limit
  }

  #press(): void {
    if (this.#pressed) return
    this.#pressed = true
    this.#hooks.onPressure()
  }

  #takeArena(need: number): Arena {
    const bytes = BATCH_HEADER_BYTES + need
    if (bytes > ARENA_BYTES) {
      const size = blocksOf(bytes) * BLOCK_BYTES
      return { bytes: new Uint8Array(size), used: BATCH_HEADER_BYTES, count: 0, firstSeq: 0 }
    }
    const spare = this.#spare.pop()
    if (spare) return spare
    return { bytes: new Uint8Array(ARENA_BYTES), used: BATCH_HEADER_BYTES, count: 0, firstSeq: 0 }
  }

  #swap(): void {
    this.#otherLastSeq = this.#usedBlocks === 0 ? 0 : this.lastSeqWritten()
    this.#halfNumber += 1
    this.#usedBlocks = 0
    this.#switchWanted = false
  }

  /** Last seq of the last sealed batch. */
  lastSeqWritten(): number {
    return (this.#pending[0]?.firstSeq ?? this.#nextSeq) - 1
  }

  /** At the end of the running turn: what it appends is one batch. */
  #plan(): void {
    if (this.#planned || this.#flight) return
    this.#planned = true
    void Promise.resolve().then(() => {
      this.#planned = false
      this.#pump()
    })
  }

  #pump(): void {
    if (this.#flight || this.#stopped) return
    const arena = this.#pending[0]
    if (!arena || !this.#gathering.enough(this.#nextSeq - arena.firstSeq, this.#pendingBytes)) return
    const blocks = blocksOf(arena.used)
    if (this.#usedBlocks + blocks > this.#geometry.halfBlocks) {
      if (this.#otherLastSeq !== 0) {
        // Full, and the other half is not free: the consistency point under way will release it.
        this.#press()
        return
      }
      this.#swap()
      this.#press()
    }
    this.#pending.shift()
    this.#pendingBytes -= arena.used - BATCH_HEADER_BYTES
    this.#flight = this.#write(arena, blocks)
  }

  async #write(arena: Arena, blocks: number): Promise<void> {
    const batch = arena.bytes.subarray(0, blocks * BLOCK_BYTES)
    batch.fill(0, arena.used)
    sealBatch(
      batch,
      {
        bytes: arena.used,
        count: arena.count,
        firstSeq: arena.firstSeq,
        acknowledged: this.#durable,
        halfNumber: this.#halfNumber,
        epoch: this.#stamp.epoch,
        incarnation: this.#stamp.incarnation,
        origin: this.#origin,
        rootCp: this.#stamp.rootCp,
      },
      this.#env.crc32,
    )
    const block = halfStart(this.#geometry, this.#halfNumber) + this.#usedBlocks
    this.#usedBlocks += blocks
    const { count } = arena
    const lastSeq = arena.firstSeq + count - 1
    const { clock, metrics } = this.#env
    const started = clock.now()
    const mirror = this.#mirror
    const remote = mirror?.write(block, batch)
    try {
      await this.#device.write(block, [batch])
      if (!mirror) await this.#hooks.verifyAlone?.()
    } catch (error) {
      this.#stopped = true
      this.#hooks.onFailure(error)
      return
    }
    metrics.observe('tandem_log_flush_seconds', (clock.now() - started) / 1000)
    if (remote) await remote
    metrics.observe('tandem_log_commit_seconds', (clock.now() - started) / 1000)
    metrics.add('tandem_log_written_bytes_total', batch.length)
    metrics.add('tandem_log_batches_total')
    // A dissolved mirror's transport may still hold the buffer.
    if (mirror === this.#mirror) this.#recycle(arena)
    this.#gathering.ended(count, clock.now() - started, this.#nextSeq - 1 - lastSeq)
    this.#landed(lastSeq)
  }

  #landed(lastSeq: number): void {
    this.#flight = undefined
    if (this.#stopped) return
    this.#durable = lastSeq
    if (this.#switchWanted) this.#swap()
    this.#pump()
    this.#flushed = this.#flushed.filter((waiter) => {
      if (waiter.seq > this.#durable) return true
      waiter.resolve()
      return false
    })
    this.#hooks.onDurable()
    this.#admitWaiters()
  }

  #recycle(arena: Arena): void {
    if (arena.bytes.length !== ARENA_BYTES || this.#spare.length >= ARENAS_KEPT) return
    arena.used = BATCH_HEADER_BYTES
    arena.count = 0
    this.#spare.push(arena)
  }

  #admitWaiters(): void {
    while (this.#roomWaiters.length > 0 && this.#hasRoom(this.#roomWaiters[0]!.bytes)) {
      this.#roomWaiters.shift()!.resolve()
    }
  }
}
