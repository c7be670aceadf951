/**
 * The longest turn of a filer's event loop, in CPU time of its thread, while much is done at once: what an operation of anybody else waits at
 * most. The lease that a filer answers by, and its partner's patience, are a multiple of the limit.
 *
 *   node bench/turns.ts [short|long]
 *
 * One owner in one process, without NFS and without a partner. Beyond GOAL_MS is reported, beyond LIMIT_MS a failure: the partner takes over after 400 ms.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { endFolder, stateFolder, sweep } from '../e2e/lib/state.ts'
import type { FilerVolume } from '../src/core/filer/aggregate-store.ts'
import { FILE_BYTES_MAX } from '../src/core/vfs/vfs.ts'
import type { Say, Section } from './report.ts'
import { sectionText } from './report.ts'
import { caller, concurrently, LongestTurn, random, Rig } from './rig.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30
const GOAL_MS = 50
const LIMIT_MS = 300

interface Sizes {
  readonly fileMib: number
  readonly randomWrites: number
  readonly sparseBlocks: number
}
const SHORT: Sizes = { fileMib: 1024, randomWrites: 50_000, sparseBlocks: 4096 }
const LONG: Sizes = { fileMib: 4096, randomWrites: 200_000, sparseBlocks: 65_536 }

class Subject {
  readonly rig: Rig
  readonly volume: FilerVolume
  readonly rows: string[][] = []
  readonly failures: string[] = []
  longest = 0

  private constructor(rig: Rig, volume: FilerVolume) {
    this.rig = rig
    this.volume = volume
  }

  static async make(folder: string, { fileMib }: Sizes): Promise<Subject> {
    const deviceBytes = 3 * fileMib * MIB + GIB
    const rig = await Rig.make({ folder, deviceBytes, cacheBytes: 2 * GIB, logBytes: 2 * GIB })
    return new Subject(rig, await rig.volume(1, FILE_BYTES_MAX))
  }

  async file(name: string): Promise<Uint8Array> {
    return await this.rig.file(this.volume, await this.volume.content.rootHandle(), name)
  }

  async write(file: Uint8Array, mebibytes: number): Promise<void> {
    const data = new Uint8Array(MIB).fill(1)
    await concurrently(mebibytes, 4, (n) => this.rig.write(this.volume, file, n * MIB, data))
  }

  async resize(file: Uint8Array, size: number): Promise<void> {
    const result = await this.volume.content.setattr(caller, file, { size })
    if (!result.ok) throw new Error(`setattr: ${result.status}`)
  }

  /** Until consistency points have nothing left to do. */
  async settled(): Promise<void> {
    const { rig } = this
    do {
      rig.owner.wantCp()
      await rig.consistencyPoint()
    } while (rig.aggregate.isDirty)
  }

  async measure(what: string, task: () => Promise<void>): Promise<void> {
    const turns = new LongestTurn()
    await task()
    await this.settled()
    const ms = turns.stop()
    this.longest = Math.max(this.longest, ms)
    const text = ms.toFixed(1)
    this.rows.push([what, text])
    if (ms > LIMIT_MS) this.failures.push(`turns, ${what}: ${text} ms, the limit is ${LIMIT_MS}`)
  }
}

async function run(subject: Subject, { fileMib, randomWrites, sparseBlocks }: Sizes): Promise<void> {
  const { rig, volume } = subject
  const block = new Uint8Array(4096).fill(2)
  const big = await subject.file('big')
  await subject.measure(`${fileMib} MiB written`, () => subject.write(big, fileMib))
  const pick = random(1)
  await subject.measure(`${randomWrites} blocks of them written over by chance`, () =>
    concurrently(randomWrites, 64, () => rig.write(volume, big, pick(fileMib * 256) * 4096, block)),
  )
  const order = { name: 'before', requestId: 'make', created: 0 }
  const made = rig.aggregate.makeSnapshot(volume.id, order)
  if (typeof made === 'string') throw new Error(`snapshot: ${made}`)
  await subject.settled()
  await made
  await subject.measure('written over whole, beside a snapshot', () => subject.write(big, fileMib))
  await subject.measure('the snapshot deleted', async () => {
    const removed = rig.aggregate.removeSnapshot(volume.id, 'before', 'remove')
    if (typeof removed === 'string') throw new Error(`snapshot: ${removed}`)
    await subject.settled()
    await removed
  })
  await subject.measure('the file cut to nothing', () => subject.resize(big, 0))
  const sparse = await subject.file('sparse')
  const step = Math.floor(FILE_BYTES_MAX / 4096 / sparseBlocks)
  await subject.measure(`${sparseBlocks} blocks all over a file of 16 TiB`, () =>
    concurrently(sparseBlocks, 64, (n) => rig.write(volume, sparse, n * step * 4096, block)),
  )
  await subject.measure('that file cut to nothing', () => subject.resize(sparse, 0))
}

export async function turnsSection(long: boolean, say: Say): Promise<Section> {
  const sizes = long ? LONG : SHORT
  await sweep('turns')
  const folder = stateFolder('turns')
  try {
    const own = join(folder, 'rig')
    const subject = await Subject.make(own, sizes)
    await run(subject, sizes)
    await subject.rig.end()
    rmSync(own, { recursive: true, force: true })
    say('turns')
    return {
      title: 'The longest turn',
      notes: [
        'What others wait at most while one owner is busy: the longest turn of the event loop, in CPU milliseconds, until all consistency points that follow are through',
        `([\`bench/turns.ts\`](../bench/turns.ts)). The goal is ${GOAL_MS} ms; more than ${LIMIT_MS} ms is a failure.`,
      ],
      heads: ['While', 'Longest turn, ms'],
      rows: subject.rows,
      verdicts: [`The longest was ${subject.longest.toFixed(1)} ms`],
      failures: subject.failures,
    }
  } finally {
    endFolder(folder, false)
  }
}

if (import.meta.main) {
  const section = await turnsSection(process.argv[2] === 'long', (text) => console.log(text))
  console.log(sectionText(section))
  process.exitCode = section.failures.length === 0 ? 0 : 1
}
