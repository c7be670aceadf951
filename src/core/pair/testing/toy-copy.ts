/**
 * A side's copy as small as it can be, for the protocol's own tests: registers with growing values, their image written whole at each
 * consistency point into one of two slots, a root beside it. It uses devices, log and journal exactly as aggregates do.
 */
import type { Device } from '../../env/device.ts'
import { BLOCK_BYTES } from '../../env/device.ts'
import type { Crc32 } from '../../env/env.ts'
import type { Journal } from '../../fs/journal.ts'
import type { LogRecord } from '../../nvlog/batch.ts'
import { assert } from '../../std/assert.ts'
import { decodeJson, encodeJson } from '../../std/ascii-json.ts'
import type {
  AggregateOffer,
  Inspection,
  PartnerDevices,
  RootFacts,
  SideCopy,
  SideGrowth,
  SideJournalFactory,
  SideStore,
  StoreCp,
} from '../side-copy.ts'

export const TOY_DEVICE_BLOCKS = 32
const SLOT_BLOCKS = 8
const AGGREGATE = 'toy'

interface ToyRoot {
  cp: number
  epoch: number
  covers: number
  bytes: number
  digest: number
}
type Registers = Record<string, number>

function block(value: unknown, crc32: Crc32): Uint8Array {
  const json = encodeJson(value)
  const bytes = new Uint8Array(BLOCK_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, json.length, true)
  view.setUint32(4, crc32(json), true)
  bytes.set(json, 8)
  return bytes
}

async function readRoots(
  device: Device,
  crc32: Crc32,
): Promise<{ blank: boolean; roots: { root: ToyRoot; image: Registers }[] }> {
  const roots: { root: ToyRoot; image: Registers }[] = []
  let blank = true
  for (const n of [0, 1]) {
    const bytes = new Uint8Array(BLOCK_BYTES)
    await device.read(n, bytes)
    if (bytes.some((byte) => byte !== 0)) blank = false
    const view = new DataView(bytes.buffer)
    const length = Math.min(view.getUint32(0, true), BLOCK_BYTES - 8)
    const json = bytes.subarray(8, 8 + length)
    if (length === 0 || crc32(json) !== view.getUint32(4, true)) continue
    const root = decodeJson(json) as ToyRoot
    const slot = new Uint8Array(SLOT_BLOCKS * BLOCK_BYTES)
    await device.read(2 + (root.cp % 2) * SLOT_BLOCKS, slot)
    const image = slot.subarray(0, root.bytes)
    // A root whose image was overwritten: exactly what H3 forbids. The test sees it as a copy that is damaged.
    if (crc32(image) !== root.digest) continue
    roots.push({ root, image: decodeJson(image) as Registers })
  }
  roots.sort((one, two) => two.root.cp - one.root.cp)
  return { blank, roots }
}

const facts = (root: ToyRoot): RootFacts => ({
  aggregate: AGGREGATE,
  cp: root.cp,
  epoch: root.epoch,
  covers: root.covers,
  digest: root.digest,
})

export class ToyCopy implements SideCopy {
  readonly devices: readonly { readonly name: string; readonly device: Device }[]
  readonly aggregates = [AGGREGATE]
  readonly #device: Device
  readonly #crc32: Crc32
  /** The store that serves, for the tests' clients. */
  store: ToyStore | undefined

  constructor(name: string, device: Device, crc32: Crc32) {
    this.devices = [{ name, device }]
    this.#device = device
    this.#crc32 = crc32
  }

  async inspect(): Promise<Inspection> {
    const { blank, roots } = await readRoots(this.#device, this.#crc32)
    const newest = roots[0]
    if (newest) return { state: 'Complete', roots: [facts(newest.root)] }
    return blank ? { state: 'Blank', message: 'blank' } : { state: 'Damaged', message: 'no valid root' }
  }

  async format(): Promise<void> {
    const image = encodeJson({})
    const slot = new Uint8Array(BLOCK_BYTES)
    slot.set(image)
    await this.#device.write(2, [slot])
    await this.#device.flush()
    const root: ToyRoot = { cp: 0, epoch: 0, covers: 0, bytes: image.length, digest: this.#crc32(image) }
    await this.#device.write(0, [block(root, this.#crc32)])
    await this.#device.flush()
  }

  offer(): Promise<readonly AggregateOffer[]> {
    return Promise.resolve([])
  }

  prepareTarget(): Promise<undefined> {
    return Promise.resolve(undefined)
  }

  async open(): Promise<SideStore> {
    const { roots } = await readRoots(this.#device, this.#crc32)
    const newest = roots[0]
    if (!newest) throw new Error('no valid root')
    this.store = new ToyStore(this.devices[0]!.name, this.#device, this.#crc32, newest.root, newest.image)
    return this.store
  }
}

/** A toy has nothing that could join. */
const NO_GROWTH: SideGrowth = {
  waits: false,
  prepare: () => Promise.resolve(false),
  refused: () => undefined,
  joined: [],
  admit: () => undefined,
}

export class ToyStore implements SideStore {
  readonly growth = NO_GROWTH
  readonly leaving = (): readonly string[] => []
  readonly left = (): void => undefined
  readonly registers: Registers
  losses = 0
  readonly #name: string
  readonly #own: Device
  readonly #crc32: Crc32
  #root: ToyRoot
  #partner: Device | undefined
  #journal: Journal | undefined
  #seqs = new Map<string, number>()
  #closed = false
  #busy = 0
  #idle: (() => void)[] = []
  #cpOpen = false

  constructor(name: string, own: Device, crc32: Crc32, root: ToyRoot, image: Registers) {
    this.#name = name
    this.#own = own
    this.#crc32 = crc32
    this.#root = root
    this.registers = { ...image }
  }

  get covers(): number {
    return this.#root.covers
  }
  get epoch(): number {
    return this.#root.epoch
  }
  get cp(): number {
    return this.#root.cp
  }
  roots(): readonly RootFacts[] {
    return [facts(this.#root)]
  }

  replay(record: LogRecord): Promise<undefined> {
    const { k, v } = decodeJson(record.body) as { k: string; v: number }
    this.#apply(k, v)
    return Promise.resolve(undefined)
  }
  #apply(key: string, value: number): void {
    this.registers[key] = Math.max(this.registers[key] ?? 0, value)
  }

  lossAccepted(): void {
    this.losses += 1
  }
  /** It wants a consistency point at once, as a volume in which something is unfinished does. */
  serve(journal: SideJournalFactory, wantCp: () => void): void {
    this.#journal = journal(AGGREGATE)
    wantCp()
  }

  /** Values of one key only grow, so that a repeated request has one effect. */
  async write(key: string, value: number): Promise<void> {
    const journal = this.#journal!
    await journal.admit(300)
    if (this.#closed) throw new Error('not served')
    this.#apply(key, value)
    const padding = 'x'.repeat(200)
    const seq = journal.append(1, [encodeJson({ k: key, v: value, padding })])
    this.#seqs.set(key, seq)
    await journal.answer(seq)
  }

  async read(key: string): Promise<number> {
    if (this.#closed) throw new Error('not served')
    const value = this.registers[key] ?? 0
    await this.#journal!.answer(this.#seqs.get(key) ?? 0)
    return value
  }

  async attachPartner(devices: PartnerDevices, state: 'Current' | 'Resyncing'): Promise<undefined> {
    const partner = devices(this.#name, this.#own.blocks)!
    if (state === 'Current') {
      const { roots } = await readRoots(partner, this.#crc32)
      assert(!this.#cpOpen && roots[0]?.root.digest === this.#root.digest, 'attached as equal, and is not')
    }
    this.#partner = partner
  }
  detachPartner(): void {
    this.#partner = undefined
  }
  async resync(onProgress: (percent: number) => void): Promise<void> {
    const bytes = new Uint8Array(SLOT_BLOCKS * BLOCK_BYTES)
    const at = 2 + (this.#root.cp % 2) * SLOT_BLOCKS
    await this.#own.read(at, bytes)
    await this.#partner?.write(at, [bytes])
    onProgress(100)
  }

  pressure(): 'NONE' {
    return 'NONE'
  }

  freeze(covers: number, epoch: number): StoreCp {
    assert(!this.#cpOpen, 'two consistency points at once')
    this.#cpOpen = true
    const image = encodeJson(this.registers)
    const root: ToyRoot = {
      cp: this.#root.cp + 1,
      epoch,
      covers,
      bytes: image.length,
      digest: this.#crc32(image),
    }
    const slot = new Uint8Array(Math.ceil(image.length / BLOCK_BYTES) * BLOCK_BYTES)
    slot.set(image)
    const at = 2 + (root.cp % 2) * SLOT_BLOCKS
    return {
      write: async () => {
        await this.#io(() => this.#own.write(at, [slot]).then(() => this.#own.flush()))
        await this.#partner?.write(at, [slot])
        await this.#partner?.flush()
      },
      commitRoot: async (plex) => {
        const bytes = block(root, this.#crc32)
        if (plex === 1) {
          await this.#partner?.write(root.cp % 2, [bytes])
          await this.#partner?.flush()
          return
        }
        await this.#io(() => this.#own.write(root.cp % 2, [bytes]).then(() => this.#own.flush()))
        this.#root = root
      },
      complete: async () => {
        this.#cpOpen = false
      },
    }
  }

  async #io(task: () => Promise<void>): Promise<void> {
    if (this.#closed) throw new Error('store is closed')
    this.#busy += 1
    try {
      await task()
    } finally {
      this.#busy -= 1
      if (this.#busy === 0) for (const resolve of this.#idle.splice(0)) resolve()
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#busy > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }
}
