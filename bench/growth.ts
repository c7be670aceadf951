/**
 * P11, cost growth: what one write, one consistency point and the memory of an owner cost with 1,000 to 1,000,000 files, and with 1 to
 * 1,000 volumes. Each point runs in a process of its own (`growth.ts point …`), over the real core with device files on this disk.
 *
 *   node bench/growth.ts [short|long]
 *
 * - *write*: one stable 4 KiB write at a time, to files chosen by chance among 1,000 (near) and among all (anywhere): p50, p99, CPU.
 * - *through NFS*: the same writes by a client over TCP on the loopback, in the same process: its own CPU and the protocol's come on top.
 * - *consistency point*: 1,000 blocks changed, one in each of 1,000 files: what it writes, and the CPU of it. Medians.
 * - *memory*: the highest resident size of the process, against the cache that it was given.
 *
 * CPU and blocks promise more than times do: the disk and the processors are shared.
 */
import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { endFolder, stateFolder, sweep } from '../e2e/lib/state.ts'
import type { FilerVolume } from '../src/core/filer/aggregate-store.ts'
import { frugal } from '../src/operator/filer-pair/pod.ts'
import { HANDLE_BYTES } from '../src/core/vfs/vfs.ts'
import type { Say, Section } from './report.ts'
import { median, sectionText, whole } from './report.ts'
import { concurrently, cpuMicroseconds, quantile, random, residentBytes, Rig } from './rig.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30
const PER_DIRECTORY = 1000
/** Files of a consistency point, and of the writes that stay near. */
const NEAR = 1000
const CACHE_BYTES = 512 * MIB

interface GrowthSizes {
  readonly files: readonly number[]
  readonly volumes: readonly number[]
  readonly writes: number
  readonly rounds: number
}
const SHORT: GrowthSizes = { files: [1000, 10_000], volumes: [1, 100], writes: 500, rounds: 3 }
const LONG: GrowthSizes = {
  files: [1000, 10_000, 100_000, 1_000_000],
  volumes: [1, 10, 100, 1000],
  writes: 4000,
  rounds: 7,
}

interface Latency {
  p50: number
  p99: number
  cpu: number
}

interface GrowthPoint {
  readonly kind: 'files' | 'volumes'
  readonly size: number
  /** Creates a second, of files or of volumes. */
  createRate: number
  near: Latency
  anywhere: Latency
  nfsNear: Latency
  nfsAnywhere: Latency
  cpBlocks: number
  cpCpuMs: number
  cpMs: number
  openMs: number
  residentBytes: number
  cacheBytes: number
}

interface Target {
  readonly volume: FilerVolume
  readonly handle: Uint8Array
}

type Write = (target: Target, data: Uint8Array) => Promise<void>

/** Microseconds of single writes, one after the other. */
async function writes(count: number, write: Write, pick: () => Target): Promise<Latency> {
  const data = new Uint8Array(4096).fill(3)
  const times: number[] = []
  let cpu = 0
  for (let n = 0; n < count; n++) {
    const target = pick()
    data[0] = n & 255
    const cpuBefore = cpuMicroseconds()
    const began = performance.now()
    await write(target, data)
    times.push((performance.now() - began) * 1000)
    cpu += cpuMicroseconds() - cpuBefore
  }
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), cpu: cpu / count }
}

/** Writes to files that are near and to any, by the file system's own calls and through NFS. */
async function allWrites(
  rig: Rig,
  count: number,
  near: readonly Target[],
  any: (n: number) => Target,
  size: number,
) {
  const pick = random(1)
  const pickNear = (): Target => near[pick(near.length)]!
  const pickAny = (): Target => any(pick(size))
  const own: Write = ({ volume, handle }, data) => rig.write(volume, handle, 0, data)
  const direct = { near: await writes(count, own, pickNear), anywhere: await writes(count, own, pickAny) }
  const served = await rig.overNfs()
  const byNfs: Write = async ({ handle }, data) => {
    const { committed } = await served.client.write(handle, 0, data)
    if (committed !== 'FILE_SYNC') throw new Error(`a stable write was answered ${committed}`)
  }
  // The first calls open the connection.
  await writes(100, byNfs, pickNear)
  const nfs = {
    nfsNear: await writes(count, byNfs, pickNear),
    nfsAnywhere: await writes(count, byNfs, pickAny),
  }
  served.close()
  return { ...direct, ...nfs }
}

/** Consistency points of one changed block in each of `targets`. */
async function points(rig: Rig, targets: readonly Target[], rounds: number) {
  const samples: { blocks: number; cpu: number; ms: number }[] = []
  for (let round = 0; round <= rounds; round++) {
    const data = new Uint8Array(4096).fill(round + 1)
    await concurrently(targets.length, 16, (n) => rig.write(targets[n]!.volume, targets[n]!.handle, 0, data))
    const { cost, cpuMs, ms } = await rig.consistencyPoint()
    if (round > 0) samples.push({ blocks: cost.blocks, cpu: cpuMs, ms })
  }
  return {
    cpBlocks: median(samples.map(({ blocks }) => blocks)),
    cpCpuMs: median(samples.map(({ cpu }) => cpu)),
    cpMs: median(samples.map(({ ms }) => ms)),
  }
}

async function reopened(rig: Rig): Promise<number> {
  await rig.close()
  const began = performance.now()
  await rig.open()
  return performance.now() - began
}

async function filesPoint(rig: Rig, size: number, sizes: GrowthSizes): Promise<GrowthPoint> {
  const volume = await rig.volume(1, 16 * GIB)
  const directories: Uint8Array[] = []
  for (let n = 0; n < size / PER_DIRECTORY; n++) directories.push(await rig.directory(volume, `d${n}`))
  // One array: a million small ones would be most of the memory that is measured.
  const handles = new Uint8Array(size * HANDLE_BYTES)
  const began = performance.now()
  await concurrently(size, 64, async (n) => {
    const handle = await rig.file(volume, directories[Math.floor(n / PER_DIRECTORY)]!, `file-${n}`)
    handles.set(handle, n * HANDLE_BYTES)
  })
  const target = (n: number): Target => ({
    volume: served,
    handle: handles.subarray(n * HANDLE_BYTES, (n + 1) * HANDLE_BYTES),
  })
  const createRate = size / ((performance.now() - began) / 1000)
  const openMs = await reopened(rig)
  const served = rig.aggregate.volume(volume.id)!
  const middle = Math.floor(size / 2 / PER_DIRECTORY) * PER_DIRECTORY
  const near = Array.from({ length: NEAR }, (_, n) => target(middle + n))
  const cp = await points(rig, near, sizes.rounds)
  return {
    kind: 'files',
    size,
    createRate,
    openMs,
    ...cp,
    ...(await allWrites(rig, sizes.writes, near, target, size)),
    residentBytes: residentBytes().highest,
    cacheBytes: CACHE_BYTES,
  }
}

/** 1,000 files in all: in the first volume those that are near, and one in each. */
async function volumesPoint(rig: Rig, size: number, sizes: GrowthSizes): Promise<GrowthPoint> {
  const began = performance.now()
  for (let n = 1; n <= size; n++) await rig.volume(n, GIB)
  const createRate = size / ((performance.now() - began) / 1000)
  const names: string[] = []
  const handles: Uint8Array[] = []
  for (const volume of [...rig.aggregate.volumes()]) {
    names.push(volume.id)
    handles.push(await rig.file(volume, await volume.content.rootHandle(), 'file'))
  }
  const first = rig.aggregate.volume(names[0]!)!
  const directory = await rig.directory(first, 'near')
  const nearHandles: Uint8Array[] = []
  for (let n = 0; n < NEAR; n++) nearHandles.push(await rig.file(first, directory, `file-${n}`))
  const openMs = await reopened(rig)
  const served = rig.aggregate.volume(names[0]!)!
  const near = nearHandles.map((handle) => ({ volume: served, handle }))
  const cp = await points(rig, near, sizes.rounds)
  return {
    kind: 'volumes',
    size,
    createRate,
    openMs,
    ...cp,
    ...(await allWrites(
      rig,
      sizes.writes,
      near,
      (n) => ({ volume: rig.aggregate.volume(names[n]!)!, handle: handles[n]! }),
      size,
    )),
    residentBytes: residentBytes().highest,
    cacheBytes: CACHE_BYTES,
  }
}

async function pointInThisProcess(
  kind: GrowthPoint['kind'],
  size: number,
  sizes: GrowthSizes,
  folder: string,
) {
  const deviceBytes = kind === 'files' ? 16 * GIB : 8 * GIB
  const rig = await Rig.make({ folder, deviceBytes, cacheBytes: CACHE_BYTES, logBytes: 256 * MIB })
  const point = await (kind === 'files' ? filesPoint : volumesPoint)(rig, size, sizes)
  await rig.end()
  return point
}

/** A point in a process of its own. */
function pointInItsProcess(kind: GrowthPoint['kind'], size: number, long: boolean, folder: string) {
  return new Promise<GrowthPoint>((resolve, reject) => {
    const args = [
      ...process.execArgv,
      import.meta.filename,
      'point',
      kind,
      String(size),
      long ? 'long' : 'short',
      folder,
    ]
    // As a filer's process is started.
    const own = Object.fromEntries(frugal(CACHE_BYTES).map(({ name, value }) => [name, value]))
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...own },
    })
    let text = ''
    child.stdout.on('data', (part: Buffer) => (text += part.toString()))
    child.once('error', reject)
    child.once('close', (status) => {
      if (status === 0) resolve(JSON.parse(text) as GrowthPoint)
      else reject(new Error(`growth point ${kind} ${size}: status ${status}`))
    })
  })
}

/** All points, one after the other. */
async function growth(long: boolean, say: (text: string) => void): Promise<GrowthPoint[]> {
  const sizes = long ? LONG : SHORT
  await sweep('growth')
  const folder = stateFolder('growth')
  const result: GrowthPoint[] = []
  try {
    for (const kind of ['files', 'volumes'] as const) {
      for (const size of sizes[kind]) {
        const own = join(folder, `${kind}-${size}`)
        result.push(await pointInItsProcess(kind, size, long, own))
        rmSync(own, { recursive: true, force: true })
        say(`P11 ${size} ${kind}`)
      }
    }
  } finally {
    endFolder(folder, false)
  }
  return result
}

const cells = (point: GrowthPoint): string[] => [
  `${whole(point.size)} ${point.kind}`,
  `${whole(point.near.p50)} / ${whole(point.near.p99)}`,
  whole(point.near.cpu),
  `${whole(point.anywhere.p50)} / ${whole(point.anywhere.p99)}`,
  whole(point.anywhere.cpu),
  `${whole(point.nfsNear.p50)} / ${whole(point.nfsNear.p99)}`,
  `${whole(point.nfsAnywhere.p50)} / ${whole(point.nfsAnywhere.p99)}`,
  whole(point.cpBlocks),
  point.cpCpuMs.toFixed(1),
  whole(point.residentBytes / MIB),
  whole(point.openMs),
  whole(point.createRate),
]

/** The largest point against the smallest, in what has to stay flat. */
function verdictsOf(list: readonly GrowthPoint[]): { verdicts: string[]; failures: string[] } {
  const verdicts: string[] = []
  const failures: string[] = []
  for (const kind of ['files', 'volumes'] as const) {
    const [first, ...rest] = list.filter((point) => point.kind === kind)
    const last = rest.at(-1)
    if (first === undefined || last === undefined) continue
    const ratio = (of: (point: GrowthPoint) => number): number => of(last) / of(first)
    const blocks = ratio((point) => point.cpBlocks)
    const text =
      `${whole(last.size)} ${kind} against ${whole(first.size)}: ` +
      `a write near takes ${ratio((point) => point.near.p50).toFixed(2)}× the time (p50) and ${ratio((point) => point.near.cpu).toFixed(2)}× the CPU, through NFS ${ratio((point) => point.nfsNear.p50).toFixed(2)}× the time, anywhere ${ratio((point) => point.nfsAnywhere.p50).toFixed(2)}×; ` +
      `a consistency point of 1,000 changed blocks writes ${blocks.toFixed(2)}× the blocks with ${ratio((point) => point.cpCpuMs).toFixed(2)}× the CPU`
    verdicts.push(text)
    if (blocks > 1.2) failures.push(`P11, ${text}`)
  }
  return { verdicts, failures }
}

/** Fails when a consistency point writes over a fifth more blocks with many files or volumes than with few. */
export async function growthSection(long: boolean, say: Say): Promise<Section> {
  const list = await growth(long, say)
  return {
    title: 'P11: what stays the same when there is more',
    notes: [
      'One owner in one process, without a partner, over device files on this disk ([`bench/growth.ts`](../bench/growth.ts)). ',
      'A write is 4 KiB, stable, one at a time, to a file chosen by chance among 1,000 (near) or among all (anywhere); through NFS by a client over TCP in the same process. A consistency point is of 1,000 changed blocks, ',
      `one in each of 1,000 files. Memory is the highest resident size, with a cache of ${CACHE_BYTES / MIB} MiB. Medians.`,
    ],
    heads: [
      'With',
      'Write near, p50 / p99 µs',
      'CPU µs',
      'anywhere, p50 / p99 µs',
      'CPU µs',
      'through NFS near, p50 / p99 µs',
      'through NFS anywhere, p50 / p99 µs',
      'Consistency point, blocks',
      'CPU ms',
      'Memory, MiB',
      'Opened in, ms',
      'Made, 1/s',
    ],
    rows: list.map(cells),
    ...verdictsOf(list),
  }
}

if (import.meta.main) {
  const [command = 'short', kind, size, length, folder] = process.argv.slice(2)
  if (command === 'point') {
    const sizes = length === 'long' ? LONG : SHORT
    console.log(
      JSON.stringify(await pointInThisProcess(kind as GrowthPoint['kind'], Number(size), sizes, folder!)),
    )
  } else {
    const say: Say = (text) => console.log(text)
    const section = await growthSection(command === 'long', say)
    say(sectionText(section))
    process.exitCode = section.failures.length === 0 ? 0 : 1
  }
}
