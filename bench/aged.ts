/**
 * A filer that is 95 % full and was rewritten at random for long, beside one that is new: the same files, the same writes, in turn.
 *
 *   node bench/aged.ts [short|long]
 *
 * Both hold the same file. The new one has twice the space; the aged one has just enough for the file to fill it to 95 %, and each of its
 * blocks was written `turns` times over, in random order, before anything is measured. A round is a number of random 4 KiB writes and the
 * consistency points that they cause. Operations are measured one by one: the longest is what a consistency point holds anybody up.
 */
import { join } from 'node:path'
import { endFolder, stateFolder, sweep } from '../e2e/lib/state.ts'
import type { FilerVolume } from '../src/core/filer/aggregate-store.ts'
import type { Say, Section } from './report.ts'
import { median, sectionText, whole } from './report.ts'
import { concurrently, cpuMicroseconds, LongestTurn, quantile, random, Rig } from './rig.ts'

const MIB = 2 ** 20
const BLOCK = 4096
const FULL = 0.95
const IN_FLIGHT = 32
/** Least share of the new filer's speed that the aged one keeps. */
const KEPT = 0.5

interface Sizes {
  readonly deviceBytes: number
  readonly turns: number
  readonly rounds: number
  readonly writes: number
}
const SHORT: Sizes = { deviceBytes: 512 * MIB, turns: 1, rounds: 3, writes: 15_000 }
const LONG: Sizes = { deviceBytes: 1024 * MIB, turns: 5, rounds: 7, writes: 60_000 }

interface Sample {
  rate: number
  cpu: number
  /** For each block that a client wrote. */
  blocks: number
  deviceWrites: number
  p50: number
  p99: number
  longest: number
  turn: number
}

class Subject {
  readonly rig: Rig
  readonly volume: FilerVolume
  readonly file: Uint8Array
  blocks = 0
  readonly samples: Sample[] = []

  private constructor(rig: Rig, volume: FilerVolume, file: Uint8Array) {
    this.rig = rig
    this.volume = volume
    this.file = file
  }

  static async make(folder: string, deviceBytes: number): Promise<Subject> {
    const rig = await Rig.make({ folder, deviceBytes, cacheBytes: 512 * MIB, logBytes: 64 * MIB })
    const volume = await rig.volume(1, 4 * deviceBytes)
    return new Subject(rig, volume, await rig.file(volume, await volume.content.rootHandle(), 'file'))
  }

  get used(): number {
    const { totalBytes, usedBytes } = this.rig.aggregate.sizes()
    return usedBytes / totalBytes
  }

  /** Appends to the file up to `blocks`, or while less than `share` of the aggregate is used. */
  async fill(blocks: number, share: number): Promise<void> {
    const piece = new Uint8Array(64 * BLOCK).fill(1)
    while (this.blocks < blocks && this.used < share) {
      await this.rig.write(this.volume, this.file, this.blocks * BLOCK, piece)
      this.blocks += 64
      // What is used is known when it has a place.
      if (this.blocks % 4096 === 0 || this.used > share - 0.02) await this.rig.consistencyPoint()
    }
    await this.rig.consistencyPoint()
  }

  async rewrite(count: number, pick: (below: number) => number): Promise<Sample> {
    const { rig } = this
    const data = new Uint8Array(BLOCK).fill(2)
    const times: number[] = []
    const before = rig.counts.taken()
    const cpu = cpuMicroseconds()
    const turns = new LongestTurn()
    const began = performance.now()
    await concurrently(count, IN_FLIGHT, async () => {
      const start = performance.now()
      await rig.write(this.volume, this.file, pick(this.blocks) * BLOCK, data)
      times.push((performance.now() - start) * 1000)
    })
    await rig.consistencyPoint()
    const cost = rig.counts.since(before)
    return {
      rate: count / ((performance.now() - began) / 1000),
      cpu: (cpuMicroseconds() - cpu) / count,
      blocks: cost.blocks / count,
      deviceWrites: cost.writes / count,
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
      longest: times.reduce((a, b) => Math.max(a, b), 0),
      turn: turns.stop(),
    }
  }

  median(): Sample {
    const of = (key: keyof Sample): number => median(this.samples.map((sample) => sample[key]))
    return {
      rate: of('rate'),
      cpu: of('cpu'),
      blocks: of('blocks'),
      deviceWrites: of('deviceWrites'),
      p50: of('p50'),
      p99: of('p99'),
      longest: Math.max(...this.samples.map(({ longest }) => longest)),
      turn: Math.max(...this.samples.map(({ turn }) => turn)),
    }
  }
}

const cells = (name: string, used: number, sample: Sample): string[] => [
  name,
  `${(used * 100).toFixed(0)} %`,
  whole(sample.rate),
  sample.cpu.toFixed(1),
  sample.blocks.toFixed(2),
  sample.deviceWrites.toFixed(3),
  `${whole(sample.p50)} / ${whole(sample.p99)}`,
  (sample.longest / 1000).toFixed(0),
  sample.turn.toFixed(1),
]

/** Fails when the aged filer, measured by CPU and by time, has less than half of the new one's speed. */
export async function agedSection(long: boolean, say: Say): Promise<Section> {
  const sizes = long ? LONG : SHORT
  await sweep('aged')
  const folder = stateFolder('aged')
  try {
    const aged = await Subject.make(join(folder, 'aged'), sizes.deviceBytes)
    await aged.fill(Infinity, FULL)
    const fresh = await Subject.make(join(folder, 'fresh'), 2 * sizes.deviceBytes)
    await fresh.fill(aged.blocks, 1)
    say(`both hold a file of ${(aged.blocks * BLOCK) / MIB} MiB`)
    const pick = random(7)
    for (let turn = 0; turn < sizes.turns; turn++) await aged.rewrite(aged.blocks, pick)
    say(`one is ${(aged.used * 100).toFixed(1)} % full, its blocks were rewritten ${sizes.turns} times`)
    for (let round = 0; round <= sizes.rounds; round++) {
      for (const subject of round % 2 === 0 ? [fresh, aged] : [aged, fresh]) {
        const sample = await subject.rewrite(sizes.writes, pick)
        if (round > 0) subject.samples.push(sample)
      }
    }
    const [before, after] = [fresh.median(), aged.median()]
    const rows = [cells('new', fresh.used, before), cells('aged', aged.used, after)]
    const speed = after.rate / before.rate
    const text =
      `95 % full and rewritten: ${speed.toFixed(2)}× the writes of a new filer in the same time, ${(before.cpu / after.cpu).toFixed(2)}× for the same CPU; ` +
      `goal ≥ ${KEPT}×`
    await aged.rig.end()
    await fresh.rig.end()
    // Time alone says little on a shared machine: both have to be bad.
    const failures = Math.max(speed, before.cpu / after.cpu) < KEPT ? [text] : []
    return {
      title: 'Full and rewritten for long',
      notes: [
        'One owner in one process, without NFS and without a partner ([`bench/aged.ts`](../bench/aged.ts)): random 4 KiB writes, stable, 32 in flight, with the consistency points',
        'that they cause. Blocks and device writes are for each block written by a client. The longest turn is the longest stretch of computing in which nobody else was served.',
      ],
      heads: [
        'Filer',
        'Used',
        'Writes, 1/s',
        'CPU µs',
        'Blocks',
        'Device writes',
        'p50 / p99 µs',
        'Longest, ms',
        'Longest turn, CPU ms',
      ],
      rows,
      verdicts: [text],
      failures,
    }
  } finally {
    endFolder(folder, false)
  }
}

if (import.meta.main) {
  const section = await agedSection(process.argv[2] === 'long', (text) => console.log(text))
  console.log(sectionText(section))
  process.exitCode = section.failures.length === 0 ? 0 : 1
}
