/**
 * What a pair's filers take of the host's memory: their resident size, as /proc has it, against the configured cache, under what takes most.
 *
 *   node bench/memory.ts NFSBENCH [short|long]
 *
 * Working sets four times the cache, 64 connections, writes of 1 MiB, many small files, and a partner that comes back and is filled
 * again. Fails when a filer takes more than the cache and 200 MiB, or a load fails.
 */
import { readFileSync } from 'node:fs'
import { Embedded } from '../e2e/lib/embedded.ts'
import { attempt, until } from '../e2e/lib/process.ts'
import type { Say, Section } from './report.ts'
import { sectionText, whole } from './report.ts'
import { residentBytes } from './rig.ts'
import { onePair } from '../e2e/lib/one-pair.ts'

const MIB = 2 ** 20
const BEYOND_CACHE = 200 * MIB

interface Sizes {
  readonly cache: number
  readonly file: number
  readonly seconds: number
  readonly names: number
}
/** In MiB. */
const SHORT: Sizes = { cache: 256, file: 1024, seconds: 3, names: 5000 }
const LONG: Sizes = { cache: 256, file: 1024, seconds: 15, names: 50_000 }

const manifests = ({ cache }: Sizes): string =>
  onePair({ devices: { count: 2, size: '3Gi' }, log: '512Mi', cache: `${cache}Mi`, volume: '4Gi' })

interface Load {
  readonly name: string
  readonly options: readonly string[]
}

const loads: readonly Load[] = [
  {
    name: '1 MiB writes, 64 in flight, 16 connections',
    options: ['-o', 'write', '-b', '1048576', '-q', '64', '-c', '16'],
  },
  {
    name: '4 KiB random writes, 256 in flight, 64 connections',
    options: ['-o', 'write', '-r', '-q', '256', '-c', '64'],
  },
  {
    name: '4 KiB random reads, 256 in flight, 64 connections',
    options: ['-o', 'read', '-r', '-q', '256', '-c', '64'],
  },
  {
    name: '1 MiB reads, 64 in flight, 16 connections',
    options: ['-o', 'read', '-b', '1048576', '-q', '64', '-c', '16'],
  },
  { name: 'CREATE, 256 in flight, 64 connections', options: ['-o', 'create', '-q', '256', '-c', '64'] },
  { name: 'REMOVE of the same', options: ['-o', 'remove', '-q', '256', '-c', '64'] },
]

class Watch {
  readonly #pair: Embedded
  readonly rows: string[][] = []
  readonly failures: string[] = []
  /** In bytes, like `highest`, which is that of any filer. */
  readonly #goal: number
  highest = 0

  constructor(pair: Embedded, goal: number) {
    this.#pair = pair
    this.#goal = goal
  }

  /** Of the present processes; a filer that was killed begins anew. */
  note(what: string): void {
    const cells = [what]
    const filers = this.#pair.filers()
    for (const filer of ['a', 'b']) {
      const pid = filers.get(filer)
      if (pid === undefined) {
        cells.push('–', '–')
        continue
      }
      const { now, highest } = residentBytes(pid)
      cells.push(whole(now / MIB), whole(highest / MIB))
      this.highest = Math.max(this.highest, highest)
      if (highest > this.#goal)
        this.failures.push(
          `memory, ${what}: filer ${filer} took ${whole(highest / MIB)} MiB, the goal is ${whole(this.#goal / MIB)}`,
        )
    }
    this.rows.push(cells)
  }
}

export async function memorySection(nfsbench: string, long: boolean, say: Say): Promise<Section> {
  const sizes = long ? LONG : SHORT
  const goal = sizes.cache * MIB + BEYOND_CACHE
  const pair = await Embedded.start('bench-memory', manifests(sizes))
  const watch = new Watch(pair, goal)
  let kept = true
  try {
    await pair.redundant()
    watch.note('at rest')
    const load = async ({ name, options }: Load, attempts = 3): Promise<void> => {
      const mount = await pair.mountPoint()
      const where = ['-h', mount.host, '-p', String(mount.port), '-m', String(mount.port), '-e', mount.path]
      const extent = ['-t', String(sizes.seconds), '-s', String(sizes.file), '-n', String(sizes.names)]
      const result = await attempt([nfsbench, ...where, ...options, ...extent], { timeoutMs: 600_000 })
      if (result.status !== 0 && attempts > 1) {
        // The load does not connect again when a filer closes its connections, as it does when the machine is too busy for its lease.
        say(`memory: ${name}: ${result.stderr.trim()}; again`)
        await pair.ready()
        await load({ name, options }, attempts - 1)
        return
      }
      if (result.status !== 0) watch.failures.push(`memory, ${name}: ${result.stderr.trim()}`)
      watch.note(name)
      say(`memory: ${name}`)
    }
    for (const one of loads) await load(one)
    const before = pair.filers().get('b')
    if (!pair.kill('b')) throw new Error('filer b does not run')
    // Written while it is away, so that there is something to fill.
    await load(loads[1]!)
    await until('filer b runs again', 60_000, () => {
      const pid = pair.filers().get('b')
      return pid !== undefined && pid !== before && readFileSync(`/proc/${pid}/status`, 'utf8') !== ''
    })
    await pair.redundant()
    watch.note('b was killed, came back and was filled')
    kept = watch.failures.length > 0
    return {
      title: 'Memory',
      notes: [
        `Resident size of the filers of a pair in MiB, now and at its highest since each was started, with a cache of ${sizes.cache} MiB and a file of ${sizes.file} MiB`,
        `([\`bench/memory.ts\`](../bench/memory.ts)). More than ${whole(goal / MIB)} MiB is a failure.`,
      ],
      heads: ['After', 'a, now', 'a, highest', 'b, now', 'b, highest'],
      rows: watch.rows,
      verdicts: [
        `The highest was ${whole(watch.highest / MIB)} MiB: ${watch.highest <= goal ? 'within' : 'beyond'} the cache and ${BEYOND_CACHE / MIB} MiB`,
      ],
      failures: watch.failures,
    }
  } finally {
    await pair.stop(kept)
    if (kept) say(`memory: state and logs are kept in ${pair.folder}`)
  }
}

if (import.meta.main) {
  const [nfsbench, length] = process.argv.slice(2)
  const section = await memorySection(nfsbench!, length === 'long', (text) => console.log(text))
  console.log(sectionText(section))
  process.exitCode = section.failures.length === 0 ? 0 : 1
}
