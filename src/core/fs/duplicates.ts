/**
 * The duplicate-request cache: a hidden ring of the last RING_SLOTS replies to calls that must not happen twice.
 *
 * It is file data of the volume like any other: written in the modify phase of the call itself, so it is part of the call's
 * log record and of each consistency point's image, and the partner knows it after a takeover. Memory holds only an index,
 * made from the ring when first needed. The oldest reply is overwritten; docs/SPEC-files.md has the slot.
 */
import { assert } from '../std/assert.ts'
import type { Crc32 } from '../env/env.ts'
import { REPLY_BYTES_MAX } from '../vfs/vfs.ts'
import type { DuplicateKey } from '../vfs/vfs.ts'
import { sound } from './block-store.ts'
import { getU16, getU32, putBytes, putU16, putU32 } from './bytes.ts'
import { AT_RING_TREE } from './inodes.ts'
import type { Inodes } from './inodes.ts'
import { Misses } from './misses.ts'
import { Tree } from './tree.ts'

export const RING_SLOTS = 2048
const SLOT_BYTES = 512
const SLOTS_PER_BLOCK = 8
const SLOT_VERSION = 1
const AT_REPLY_BYTES = 2
const AT_MACHINE = 4
const AT_XID = 8
const AT_PROCEDURE = 12
const AT_CHECKSUM = 16
const AT_REPLY = 32

/** What is stored of a key: the machine's name as a checksum. */
export interface RingKey {
  readonly machine: number
  readonly xid: number
  readonly procedure: number
  readonly checksum: number
}

export interface KeptReply {
  readonly key: RingKey
  readonly reply: Uint8Array
}

export function ringKey(crc32: Crc32, key: DuplicateKey): RingKey {
  const name = new Uint8Array(key.machine.length)
  putBytes(name, 0, key.machine)
  return {
    machine: crc32(name) >>> 0,
    xid: key.xid >>> 0,
    procedure: key.procedure >>> 0,
    checksum: key.checksum >>> 0,
  }
}

export function ringKeyText(key: RingKey): string {
  return `${key.machine}.${key.xid}.${key.procedure}.${key.checksum}`
}

export class Duplicates {
  private readonly inodes: Inodes
  private readonly tree: Tree
  /** Key → slot; undefined until the ring was read. */
  private index: Map<string, number> | undefined
  private readonly keys: (string | undefined)[] = []
  /** Of each slot's record, for those written since the start. */
  private readonly seqs = new Float64Array(RING_SLOTS)

  constructor(inodes: Inodes) {
    this.inodes = inodes
    this.tree = new Tree(inodes.store, inodes.root, 'meta', AT_RING_TREE)
  }

  /** Room for one more reply: loads what `keep` needs, returns how many blocks it allocates at most. */
  prepare(): number {
    return this.tree.prepare(Math.floor((this.inodes.ringNext % RING_SLOTS) / SLOTS_PER_BLOCK))
  }

  /** Modify phase: keeps a reply in the place of the oldest. Returns its slot. */
  keep({ key, reply }: KeptReply): number {
    assert(reply.length <= REPLY_BYTES_MAX, 'reply is too long to be kept')
    const slot = this.inodes.ringNext % RING_SLOTS
    this.inodes.ringNext += 1
    const block = this.tree.put(Math.floor(slot / SLOTS_PER_BLOCK))
    const at = (slot % SLOTS_PER_BLOCK) * SLOT_BYTES
    block.fill(0, at, at + SLOT_BYTES)
    block[at] = SLOT_VERSION
    putU16(block, at + AT_REPLY_BYTES, reply.length)
    putU32(block, at + AT_MACHINE, key.machine)
    putU32(block, at + AT_XID, key.xid)
    putU32(block, at + AT_PROCEDURE, key.procedure)
    putU32(block, at + AT_CHECKSUM, key.checksum)
    block.set(reply, at + AT_REPLY)
    this.seqs[slot] = 0
    if (this.index !== undefined) this.enter(slot, ringKeyText(key))
    return slot
  }

  noteSeq(slot: number, seq: number): void {
    this.seqs[slot] = seq
  }

  /** The kept reply to a call, and the sequence number of its record. Throws Miss. */
  find(key: RingKey): { reply: Uint8Array; seq: number } | undefined {
    this.index ??= this.load()
    const slot = this.index.get(ringKeyText(key))
    if (slot === undefined) return undefined
    const block = this.tree.get(Math.floor(slot / SLOTS_PER_BLOCK))
    sound(block !== undefined)
    const at = (slot % SLOTS_PER_BLOCK) * SLOT_BYTES
    const bytes = getU16(block, at + AT_REPLY_BYTES)
    return { reply: block.slice(at + AT_REPLY, at + AT_REPLY + bytes), seq: this.seqs[slot]! }
  }

  private enter(slot: number, text: string): void {
    const index = this.index!
    const old = this.keys[slot]
    if (old !== undefined && index.get(old) === slot) index.delete(old)
    this.keys[slot] = text
    index.set(text, slot)
  }

  private load(): Map<string, number> {
    const blocks: (Uint8Array | undefined)[] = []
    const misses = new Misses()
    for (let fbn = 0; fbn < RING_SLOTS / SLOTS_PER_BLOCK; fbn++) {
      blocks.push(misses.try(() => this.tree.get(fbn)))
    }
    misses.throw()
    this.index = new Map()
    // From the oldest to the newest, so that of two replies to the same key the later one counts.
    const oldest = this.inodes.ringNext % RING_SLOTS
    for (let i = 0; i < RING_SLOTS; i++) {
      const slot = (oldest + i) % RING_SLOTS
      const block = blocks[Math.floor(slot / SLOTS_PER_BLOCK)]
      const at = (slot % SLOTS_PER_BLOCK) * SLOT_BYTES
      if (block?.[at] !== SLOT_VERSION) continue
      // Replies that the ring had when the volume was restored are of calls to other files than those of now.
      if (this.inodes.ringNext - RING_SLOTS + i < this.inodes.ringFloor) continue
      const key = {
        machine: getU32(block, at + AT_MACHINE),
        xid: getU32(block, at + AT_XID),
        procedure: getU32(block, at + AT_PROCEDURE),
        checksum: getU32(block, at + AT_CHECKSUM),
      }
      this.enter(slot, ringKeyText(key))
    }
    return this.index
  }
}
