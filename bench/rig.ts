/**
 * One owner in this process, for measuring the storage core without a partner, and without NFS unless that is asked for: an aggregate on device files, its log
 * file, consistency points, one journal. Operations are those of `FileSystem`, as the NFS server calls them.
 *
 * Devices count what is written, so that a cost can be given in blocks and not only in time. Everything lies in one folder.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { BufferCache } from '../src/core/block/buffer-cache.ts'
import type { Device } from '../src/core/env/device.ts'
import { BLOCK_BYTES } from '../src/core/env/device.ts'
import type { Env } from '../src/core/env/env.ts'
import type { AggregateStore, FilerAggregate, FilerVolume } from '../src/core/filer/aggregate-store.ts'
import { AggregateCopy } from '../src/core/filer/aggregate-copy.ts'
import { FilerVfs } from '../src/core/filer/filer-vfs.ts'
import { ServedVolumes } from '../src/core/filer/served-volumes.ts'
import { formatLog } from '../src/core/nvlog/log-device.ts'
import { Lease } from '../src/core/pair/lease.ts'
import { DEFAULT_PAIR_TIMES } from '../src/core/pair/options.ts'
import { Owner } from '../src/core/pair/owner.ts'
import type { LogFile } from '../src/edge/filer/log-files.ts'
import { logBlocks, openLogFile } from '../src/edge/filer/log-files.ts'
import { openDevice } from '../src/edge/node/device.ts'
import { nodeEnv } from '../src/edge/node/env.ts'
import { TcpServer } from '../src/edge/node/tcp-server.ts'
import { NfsClient } from '../src/nfs/client/nfs-client.ts'
import { NfsServer } from '../src/nfs/server/server.ts'
import { seededRandom } from '../src/sim/device.ts'
import type { Caller, DuplicateKey, MakeResult } from '../src/core/vfs/vfs.ts'

export const caller: Caller = { uid: 0, gid: 0, gids: [] }
const ORIGIN = 1
const AGGREGATE = 'aggr1'

/** What went to the devices of the aggregate. */
export class DeviceCounts {
  blocks = 0
  writes = 0
  flushes = 0
  reads = 0

  taken(): DeviceCounts {
    return Object.assign(new DeviceCounts(), this)
  }

  since(before: DeviceCounts): DeviceCounts {
    const result = new DeviceCounts()
    for (const key of ['blocks', 'writes', 'flushes', 'reads'] as const) result[key] = this[key] - before[key]
    return result
  }
}

function counted(device: Device, counts: DeviceCounts): Device {
  return {
    name: device.name,
    blocks: device.blocks,
    read: (block, into) => {
      counts.reads += 1
      return device.read(block, into)
    },
    write: (block, chunks) => {
      counts.writes += 1
      for (const chunk of chunks) counts.blocks += chunk.length / BLOCK_BYTES
      return device.write(block, chunks)
    },
    flush: () => {
      counts.flushes += 1
      return device.flush()
    },
    close: () => device.close(),
  }
}

export interface RigOptions {
  readonly folder: string
  readonly deviceBytes: number
  readonly devices?: number
  readonly cacheBytes: number
  readonly logBytes: number
}

/** CPU of this process in microseconds, threads of the pool included. */
export function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** CPU of another process so far, in microseconds, by the hundredth of a second. */
export function cpuMicrosecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

/** Resident memory of a process in bytes (this one if none is named), and its highest so far. */
export function residentBytes(pid: number | 'self' = 'self'): { now: number; highest: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const of = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024
  return { now: of('VmRSS'), highest: of('VmHWM') }
}

export class Rig {
  readonly counts = new DeviceCounts()
  readonly env: Env
  readonly cache: BufferCache
  store!: AggregateStore
  owner!: Owner
  readonly #log: LogFile
  readonly #devices: Device[]
  readonly #copy: AggregateCopy
  #sequence = 0

  private constructor(options: RigOptions) {
    mkdirSync(options.folder, { recursive: true })
    this.env = { ...nodeEnv({ level: 'warn' }), crc32 }
    this.cache = new BufferCache(Math.floor(options.cacheBytes * 0.6))
    this.#log = openLogFile(join(options.folder, 'log'), logBlocks(options.logBytes))
    this.#devices = Array.from({ length: options.devices ?? 1 }, (_, n) =>
      openDevice(join(options.folder, `device-${n}`), { bytes: options.deviceBytes }),
    )
    this.#copy = new AggregateCopy({
      env: this.env,
      side: 'a',
      home: true,
      pairUid: 'rig',
      cache: this.cache,
      aggregates: [
        {
          name: AGGREGATE,
          devices: this.#devices.map((device, n) => ({
            name: `${AGGREGATE}-d-${n}`,
            device: counted(device, this.counts),
          })),
        },
      ],
      dirtyBytesMax: Math.floor(options.cacheBytes * 0.4),
      opened: () => undefined,
      closed: () => undefined,
      joined: () => undefined,
      onPartnerFailed: (error) => {
        throw error
      },
    })
  }

  /** A new, empty aggregate and log. */
  static async make(options: RigOptions): Promise<Rig> {
    const rig = new Rig(options)
    await rig.#copy.format()
    await formatLog(rig.#log, ORIGIN, rig.env)
    await rig.open()
    return rig
  }

  get aggregate(): FilerAggregate {
    return this.store.aggregates.get(AGGREGATE)!
  }

  /** Opens the newest image and serves it. Everything before was in a consistency point (`close`): there is nothing to replay. */
  async open(): Promise<void> {
    this.store = (await this.#copy.open()) as AggregateStore
    const nextSeq = this.store.covers + 1
    const position = { halfNumber: 0, usedBlocks: 0, nextSeq, otherLastSeq: 0 }
    this.owner = new Owner(
      this.env,
      this.store,
      this.#log,
      ORIGIN,
      position,
      new Lease(DEFAULT_PAIR_TIMES),
      {
        aloneNow: () => true,
        verifyAlone: () => Promise.resolve(),
        confirms: () => false,
        confirm: () => Promise.resolve(true),
        answered: () => undefined,
        fence: () => ({ epoch: 1, incarnation: 1 }),
        fatal: (cause, error) => {
          throw new Error(cause, { cause: error })
        },
        damaged: (cause) => {
          throw new Error(cause)
        },
        afterCp: () => undefined,
      },
      {},
    )
    this.owner.begin()
  }

  /** Ends with a consistency point; files stay. */
  async close(): Promise<void> {
    await this.owner.cpNow()
    await this.owner.cpIdle()
    await this.owner.close()
    // What stood in the log is covered, and the next opening begins at its first half.
    await formatLog(this.#log, ORIGIN, this.env)
  }

  async end(): Promise<void> {
    await this.close()
    await this.#log.close()
    for (const device of this.#devices) await device.close()
  }

  /** A consistency point of what changed so far, and what it cost. */
  async consistencyPoint(): Promise<{ cost: DeviceCounts; cpuMs: number; ms: number }> {
    await this.owner.cpIdle()
    const before = this.counts.taken()
    const cpu = cpuMicroseconds()
    const began = performance.now()
    await this.owner.cpNow()
    await this.owner.cpIdle()
    return {
      cost: this.counts.since(before),
      cpuMs: (cpuMicroseconds() - cpu) / 1000,
      ms: performance.now() - began,
    }
  }

  async volume(index: number, sizeBytes: number): Promise<FilerVolume> {
    const id = `volume-${index}`
    await this.store.change(AGGREGATE, () => ({
      op: 'create',
      id,
      name: id,
      sizeBytes,
      fsid: 0x100000 + index,
      index,
      properties: {
        export: {
          path: `/${id}`,
          rules: [{ clients: ['127.0.0.0/8'], access: 'ReadWrite', squash: 'None' }],
        },
        seed: index,
        seconds: 1_700_000_000,
      },
    }))
    return this.aggregate.volume(id)!
  }

  /** What comes with a call that must not happen twice. */
  duplicate<R>(): { key: DuplicateKey; encode: (result: R) => Uint8Array } {
    this.#sequence += 1
    const key: DuplicateKey = { machine: 'rig', xid: this.#sequence, procedure: 8, checksum: this.#sequence }
    return { key, encode: () => new Uint8Array(120) }
  }

  async directory(volume: FilerVolume, name: string): Promise<Uint8Array> {
    const root = await volume.content.rootHandle()
    return handleOf(await volume.content.mkdir(caller, root, name, {}, this.duplicate<MakeResult>()))
  }

  async file(volume: FilerVolume, directory: Uint8Array, name: string): Promise<Uint8Array> {
    const how = { mode: 'GUARDED' as const, attributes: {} }
    return handleOf(await volume.content.create(caller, directory, name, how, this.duplicate<MakeResult>()))
  }

  /** All volumes served on the loopback, as a filer serves them, and a client of that. */
  async overNfs(): Promise<{ readonly client: NfsClient; close(): void }> {
    const volumes = new ServedVolumes(this.env, ['a'], new Map([['a', this.store]]))
    await volumes.opened('a')
    const tcp = new TcpServer(new NfsServer(this.env, new FilerVfs(volumes)), this.env.log)
    const client = new NfsClient({ host: '127.0.0.1', port: await tcp.listen(0, '127.0.0.1') })
    return {
      client,
      close() {
        client.close()
        tcp.close()
      },
    }
  }

  async write(volume: FilerVolume, handle: Uint8Array, offset: number, data: Uint8Array): Promise<void> {
    const result = await volume.content.write(caller, handle, offset, data, 'FILE_SYNC')
    if (!result.ok) throw new Error(`write: ${result.status}`)
  }
}

function handleOf(result: MakeResult): Uint8Array {
  if (!result.ok || result.object === undefined)
    throw new Error(`create: ${result.ok ? 'no object' : result.status}`)
  return result.object.handle
}

/** `depth` callers work through `count` tasks, each taking the next when its last is done. */
export async function concurrently(
  count: number,
  depth: number,
  task: (n: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await task(next++)
  }
  await Promise.all(Array.from({ length: depth }, worker))
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

/** Chance that is the same in every run: whole numbers from 0 up to what is asked for. */
export function random(seed: number): (below: number) => number {
  const source = seededRandom(seed)
  return (below) => source.u32() % below
}

/** The longest stretch of computing without a turn for anybody else, in CPU milliseconds: what others do on the machine is not in it. */
export class LongestTurn {
  longestMs = 0
  readonly #timer: NodeJS.Timeout
  #last = process.threadCpuUsage()

  constructor() {
    this.#timer = setInterval(() => {
      const { user, system } = process.threadCpuUsage(this.#last)
      this.longestMs = Math.max(this.longestMs, (user + system) / 1000)
      this.#last = process.threadCpuUsage()
    }, 1)
  }

  stop(): number {
    clearInterval(this.#timer)
    return this.longestMs
  }
}
