/**
 * What is measured, by the numbering of docs/benchmarks.md, and how one run of it is made on one side. Sides that speak NFS are
 * loaded by nfsbench (NFSv3 calls, no client cache); GlusterFS by fio with the same block size, depth and stability on its mount
 * (O_DIRECT and O_SYNC: nothing is answered from the client's memory, nothing unstable counts as written).
 */
import { attempt } from '../e2e/lib/process.ts'
import type { Side, SideName } from './sides.ts'

export interface Sample {
  operationsPerSecond: number
  bytesPerSecond: number
  p50Microseconds: number
  p99Microseconds: number
}

export interface Goal {
  against: SideName
  figure: keyof Sample
  /** ours ÷ theirs must be at least, or at most, this. */
  ratio: { min: number } | { max: number }
}

export interface Measure {
  id: string
  title: string
  /** nfsbench's options. */
  load: string[]
  /** fio's options for the same work; absent: not measured on Gluster. */
  fio?: string[]
  sides: SideName[]
  goals: Goal[]
}

const fioWrite = ['--ioengine=libaio', '--direct=1', '--sync=1']

export const measures: Measure[] = [
  {
    id: 'P1',
    title: '4 KiB random write, stable, 32 in flight',
    load: ['-o', 'write', '-r', '-q', '32'],
    fio: [...fioWrite, '--rw=randwrite', '--bs=4k', '--iodepth=32'],
    sides: ['tandem', 'ganesha', 'gluster'],
    goals: [
      { against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 1.5 } },
      { against: 'gluster', figure: 'operationsPerSecond', ratio: { min: 10 } },
      { against: 'gluster', figure: 'p99Microseconds', ratio: { max: 0.25 } },
    ],
  },
  {
    id: 'P2',
    title: '4 KiB random write, stable, 1 in flight',
    load: ['-o', 'write', '-r', '-q', '1'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'p50Microseconds', ratio: { max: 1.25 } }],
  },
  {
    id: 'P3',
    title: '1 MiB sequential write, stable, 4 in flight',
    load: ['-o', 'write', '-b', '1048576', '-q', '4'],
    fio: [...fioWrite, '--rw=write', '--bs=1M', '--iodepth=4'],
    sides: ['tandem', 'ganesha', 'gluster'],
    goals: [
      { against: 'gluster', figure: 'bytesPerSecond', ratio: { min: 3 } },
      { against: 'ganesha', figure: 'bytesPerSecond', ratio: { min: 0.5 } },
    ],
  },
  {
    id: 'P4a',
    title: '4 KiB random read, cached, 16 in flight',
    load: ['-o', 'read', '-r', '-q', '16'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 2.5 } }],
  },
  {
    id: 'P4b',
    title: '1 MiB sequential read, cached, 4 in flight',
    load: ['-o', 'read', '-b', '1048576', '-q', '4'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'bytesPerSecond', ratio: { min: 1.5 } }],
  },
  {
    id: 'P4c',
    title: 'GETATTR, 16 in flight',
    load: ['-o', 'getattr', '-q', '16'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 2.5 } }],
  },
  {
    id: 'P4d',
    title: 'LOOKUP, 16 in flight',
    load: ['-o', 'lookup', '-q', '16'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 2.5 } }],
  },
  {
    id: 'P5a',
    title: 'CREATE, 16 in flight (Ganesha does not make it durable)',
    load: ['-o', 'create', '-q', '16'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 1.5 } }],
  },
  {
    id: 'P5b',
    title: 'REMOVE of the same, 16 in flight',
    load: ['-o', 'remove', '-q', '16'],
    sides: ['tandem', 'ganesha'],
    goals: [{ against: 'ganesha', figure: 'operationsPerSecond', ratio: { min: 1.5 } }],
  },
]

export interface RunOptions {
  nfsbench: string
  seconds: number
  fileMebibytes: number
  names: number
}

interface FioJob {
  error: number
  write: { iops: number; bw_bytes: number; clat_ns: { percentile: Record<string, number> } }
}

/** One run; throws when the side failed or answered wrongly. */
export async function runOnce(measure: Measure, side: Side, options: RunOptions): Promise<Sample> {
  const timeoutMs = options.seconds * 1000 + 90_000
  if (side.reach.protocol === 'nfs') {
    const sizes = [
      '-t',
      String(options.seconds),
      '-s',
      String(options.fileMebibytes),
      '-n',
      String(options.names),
    ]
    const command = [...side.reach.prefix, options.nfsbench, ...side.reach.address, ...measure.load, ...sizes]
    const result = await attempt(command, { timeoutMs })
    if (result.status !== 0)
      throw new Error(`nfsbench ${measure.load.join(' ')}: status ${result.status} ${result.stderr.trim()}`)
    return JSON.parse(result.stdout) as Sample
  }
  const job = [
    `--name=${measure.id}`,
    `--directory=${side.reach.folder}`,
    '--filename=bench.data',
    `--size=${options.fileMebibytes}M`,
  ]
  const time = [`--runtime=${options.seconds}`, '--time_based', '--output-format=json']
  const result = await attempt([...side.reach.prefix, 'fio', ...job, ...measure.fio!, ...time], { timeoutMs })
  const text = result.stdout.slice(result.stdout.indexOf('{'))
  const first = result.status === 0 ? (JSON.parse(text) as { jobs: FioJob[] }).jobs[0] : undefined
  if (first === undefined || first.error !== 0)
    throw new Error(`fio: status ${result.status} ${result.stderr.trim().slice(-500)}`)
  const percentile = (name: string): number => (first.write.clat_ns.percentile[name] ?? 0) / 1000
  return {
    operationsPerSecond: first.write.iops,
    bytesPerSecond: first.write.bw_bytes,
    p50Microseconds: percentile('50.000000'),
    p99Microseconds: percentile('99.000000'),
  }
}
