/**
 * `bin/node24 scripts/keep-image.ts NAME`: keeps an image of today's format in src/sim/testdata, before a change of the format: a simulated pair with a flexible
 * and a traditional volume of each side, a bit of everything in them, snapshots, one volume restored, and records in both logs that no consistency point covers, at a
 * power failure. src/sim/kept-image.test.ts opens it from then on.
 */
import { BLOCK_BYTES } from '../src/core/env/device.ts'
import type { DuplicateKey, MakeResult } from '../src/core/vfs/vfs.ts'
import { Caller, SideAnswers, textOf } from '../src/sim/caller.ts'
import type { FilerPair } from '../src/sim/filer-pair.ts'
import type { KeptSide, KeptVolume } from '../src/sim/kept-image.ts'
import { keepImage, newPair } from '../src/sim/kept-image.ts'
import { done, Reader, ROOT } from '../src/sim/kept-reader.ts'
import { FILERS } from '../src/sim/names.ts'
import type { SideName } from '../src/sim/names.ts'
import { untilEqual } from '../src/sim/pair-check.ts'

const LIMIT_MS = 60_000
const MKDIR = 9

/** Bytes that compress badly, but differ: no two blocks of an image are the same. */
function bytes(length: number, seed: number): Uint8Array {
  const made = new Uint8Array(length)
  for (let at = 0; at < length; at += 64) made[at] = (Math.imul(seed + at, 0x9e3779b1) >>> 24) & 0xff
  return made
}

/** One volume that is filled, as a client does it, with a note of what must be there. */
class Maker {
  readonly reader: Reader
  readonly id: string
  readonly #runs = new Map<string, [number, number][]>()
  readonly #snapshots: { name: string; entries: KeptVolume['entries'] }[] = []
  readonly #remembered: { key: DuplicateKey; answer: unknown }[] = []

  constructor(reader: Reader, id: string) {
    this.reader = reader
    this.id = id
  }

  async #handle(path: string): Promise<Uint8Array> {
    let at = this.reader.root
    for (const name of path.split('/').filter(Boolean)) {
      const from = at
      at = done(path, await this.reader.caller.call((vfs) => vfs.lookup(ROOT, from, name))).object.handle
    }
    return at
  }

  async #at(path: string): Promise<{ directory: Uint8Array; name: string }> {
    const cut = path.lastIndexOf('/')
    return { directory: await this.#handle(path.slice(0, Math.max(0, cut))), name: path.slice(cut + 1) }
  }

  async mkdir(path: string): Promise<void> {
    const { directory, name } = await this.#at(path)
    done(path, await this.reader.caller.call((vfs) => vfs.mkdir(ROOT, directory, name, { mode: 0o750 })))
  }

  async write(path: string, ...parts: [number, number][]): Promise<void> {
    const { caller } = this.reader
    const { directory, name } = await this.#at(path)
    const made = await caller.call((vfs) =>
      vfs.create(ROOT, directory, name, { mode: 'UNCHECKED', attributes: { mode: 0o640, uid: 7 } }),
    )
    const { handle } = done(path, made).object
    for (const [offset, length] of parts) {
      const data = bytes(length, offset + path.length)
      done(path, await caller.call((vfs) => vfs.write(ROOT, handle, offset, data, 'FILE_SYNC')))
    }
    this.#runs.set(path, parts)
  }

  async exclusive(path: string): Promise<void> {
    const { directory, name } = await this.#at(path)
    const how = { mode: 'EXCLUSIVE' as const, verifier: bytes(8, 3) }
    done(path, await this.reader.caller.call((vfs) => vfs.create(ROOT, directory, name, how)))
  }

  async link(path: string, to: string): Promise<void> {
    const file = await this.#handle(path)
    const { directory, name } = await this.#at(to)
    done(to, await this.reader.caller.call((vfs) => vfs.link(ROOT, file, directory, name)))
    this.#runs.set(to, this.#runs.get(path)!)
  }

  async symlink(path: string, text: string): Promise<void> {
    const { directory, name } = await this.#at(path)
    done(path, await this.reader.caller.call((vfs) => vfs.symlink(ROOT, directory, name, text, {})))
  }

  async special(path: string, type: 'FIFO' | 'BLK'): Promise<void> {
    const { directory, name } = await this.#at(path)
    const [major, minor] = type === 'BLK' ? [8, 17] : [0, 0]
    done(
      path,
      await this.reader.caller.call((vfs) => vfs.mknod(ROOT, directory, name, type, {}, major, minor)),
    )
  }

  async rename(path: string, to: string): Promise<void> {
    const [from, into] = [await this.#at(path), await this.#at(to)]
    done(
      path,
      await this.reader.caller.call((vfs) =>
        vfs.rename(ROOT, from.directory, from.name, into.directory, into.name),
      ),
    )
    this.#runs.set(to, this.#runs.get(path)!)
    this.#runs.delete(path)
  }

  async remove(path: string): Promise<void> {
    const { directory, name } = await this.#at(path)
    done(path, await this.reader.caller.call((vfs) => vfs.remove(ROOT, directory, name)))
    this.#runs.delete(path)
  }

  /** A call whose answer is remembered. */
  async mkdirOnce(name: string): Promise<void> {
    const { caller, root } = this.reader
    let key: DuplicateKey | undefined
    const answer = await caller.once<MakeResult>(
      MKDIR,
      root,
      (vfs, dup) => {
        key = dup.key
        return vfs.mkdir(ROOT, root, name, {}, dup)
      },
      (result) =>
        result.ok ? { status: 'OK', handle: textOf(result.object.handle) } : { status: result.status },
    )
    this.#remembered.push({ key: key!, answer })
  }

  async order(op: 'Create' | 'Restore', snapshot: string): Promise<void> {
    const request = { volumeId: this.id, op, snapshot, requestId: `${op}-${snapshot}` }
    const { accepted, message } = await this.reader.caller.call((_, filer) => filer.snapshot(request))
    if (!accepted) throw new Error(`${op} ${snapshot}: ${message}`)
    if (op === 'Create') {
      const entries = await (await this.reader.snapshot(snapshot)).tree(this.#runs)
      this.#snapshots.push({ name: snapshot, entries })
    }
  }

  async kept(): Promise<KeptVolume> {
    return {
      root: textOf(this.reader.root),
      entries: await this.reader.tree(this.#runs),
      remembered: this.#remembered,
      snapshots: this.#snapshots,
    }
  }
}

/** What is in an image, with three snapshots; those of `restored` volumes go on from the second. */
async function fill(volume: Maker, restored: boolean): Promise<void> {
  await volume.mkdir('tree')
  await volume.mkdir('tree/deep')
  await volume.mkdir('gone')
  await volume.mkdir('many')
  await volume.write('tree/large', [0, 120_000])
  await volume.write('tree/sparse', [0, 5000], [40_000_000, BLOCK_BYTES])
  await volume.write('tree/small', [0, 10])
  await volume.rename('tree/small', 'tree/deep/moved')
  await volume.link('tree/large', 'hard')
  await volume.symlink('short', 'tree/small')
  await volume.symlink('long', 'x/'.repeat(500))
  await volume.special('fifo', 'FIFO')
  await volume.special('disk', 'BLK')
  await volume.exclusive('exclusive')
  for (let n = 0; n < 20; n++) await volume.write(`gone/${n}`, [0, BLOCK_BYTES])
  // More than one block of names.
  for (let n = 0; n < 150; n++) await volume.special(`many/a-name-of-some-length-${n}`, 'FIFO')
  await volume.order('Create', 'first')
  for (let n = 0; n < 20; n += 2) await volume.remove(`gone/${n}`)
  await volume.write('tree/large', [0, 120_000], [60_000, 30_000])
  await volume.order('Create', 'second')
  await volume.write('tree/later', [0, 20_000])
  await volume.order('Create', 'third')
  if (restored) await volume.order('Restore', 'second')
}

/** What only the logs have at the power failure. */
async function log(volume: Maker): Promise<void> {
  await volume.mkdirOnce('once')
  await volume.mkdirOnce('once')
  await volume.write('tree/late', [0, 30_000])
  await volume.link('tree/late', 'late-too')
  for (let n = 1; n < 20; n += 4) await volume.remove(`gone/${n}`)
  await volume.symlink('late-link', 'late-too')
}

async function main(name: string): Promise<void> {
  const options = {
    deviceBlocks: [2500, 1500],
    traditionalBlocks: [1800],
    volumeBytes: 64 << 20,
    logBlocks: 257,
  }
  const pair: FilerPair = newPair(options)
  const { world } = pair
  for (const filer of FILERS) pair.start(filer)
  await pair.untilGood(LIMIT_MS)
  const maker = async (side: SideName, path: string, id: string): Promise<Maker> => {
    const caller = new Caller(pair, side, `maker-${id}`, new SideAnswers())
    for (;;) {
      const root = await world.wait(
        caller.call((vfs) => vfs.exports().find((one) => one.path === path)?.root),
        LIMIT_MS,
      )
      if (root !== undefined) return new Maker(new Reader(caller, root), id)
      await world.run(20)
    }
  }
  const makers: { side: SideName; volumes: Maker[] }[] = []
  for (const side of FILERS) {
    const flexible = await maker(side, `/${side}`, `volume-${side}`)
    makers.push({ side, volumes: [flexible, await maker(side, `/t${side}`, `volume-t${side}`)] })
  }
  for (const { side, volumes } of makers)
    for (const volume of volumes) await world.wait(fill(volume, side === 'b'), LIMIT_MS)
  await untilEqual(pair, LIMIT_MS)
  for (const { volumes } of makers) for (const volume of volumes) await world.wait(log(volume), LIMIT_MS)
  const sides: Partial<Record<SideName, KeptSide>> = {}
  for (const { side, volumes } of makers) {
    const [flexible, traditional] = volumes as [Maker, Maker]
    const filer = pair.running[side]!.filer!
    const covered = Math.min(
      ...filer.stores
        .get(side)!
        .roots()
        .map(({ covers }) => covers),
    )
    sides[side] = {
      ...(await world.wait(flexible.kept(), LIMIT_MS)),
      traditional: await world.wait(traditional.kept(), LIMIT_MS),
      logged: filer.pair.sides.get(side)!.owner!.log.lastSeq - covered,
    }
  }
  for (const filer of FILERS) pair.crash(filer)
  keepImage(name, options, pair, sides as Record<SideName, KeptSide>)
  console.log(`kept ${name}: logged ${FILERS.map((side) => sides[side]!.logged).join(' and ')} records`)
}

const [name] = process.argv.slice(2)
if (name === undefined || !/^[a-z0-9-]+$/.test(name)) {
  console.error('usage: bin/node24 scripts/keep-image.ts NAME')
  process.exitCode = 2
} else await main(name)
