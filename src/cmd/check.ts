/**
 * `tandem check`: proves aggregates consistent, offline, from the devices of one plex each. Nothing is written.
 *
 * Operands are devices (files or raw ones), or folders that are searched for files named `device`, and for the side's log beside them. What
 * belongs together is read from the labels.
 */
import { readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import { checkAggregate } from '../core/block/check.ts'
import { checkVolumeFiles } from '../core/block/check-files.ts'
import { AggregateError } from '../core/block/errors.ts'
import { readLabel } from '../core/block/label.ts'
import type { Label } from '../core/block/label.ts'
import { BLOCK_BYTES, DeviceError } from '../core/env/device.ts'
import type { Env } from '../core/env/env.ts'
import { getU32 } from '../core/fs/bytes.ts'
import { scanLog } from '../core/nvlog/scan.ts'
import { openDevice } from '../edge/node/device.ts'
import type { FileDevice } from '../edge/node/device.ts'
import { nodeEnv } from '../edge/node/env.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'

const CACHE_BYTES = 256 * 2 ** 20
const SEARCH_DEPTH = 6
/** "Not now": the devices are in use. */
const BUSY = 75

interface Found {
  readonly device: FileDevice
  readonly label: Label
}

interface Report {
  aggregate: string
  id: string
  side: string
  plex: number
  devices: string[]
  cp?: number
  covers?: number
  blocksUsed?: number
  volumes?: number
  /** Records in the log beyond the image; undefined if no log was given. */
  logRecords?: number
  notes: string[]
  problems: string[]
}

/** Devices and logs below `path`. */
function search(path: string, devices: string[], logs: string[], depth = 0): void {
  if (!statSync(path).isDirectory()) {
    if (depth === 0 || basename(path) === 'device') devices.push(path)
    else if (basename(path).startsWith('log-')) logs.push(path)
    return
  }
  if (depth > SEARCH_DEPTH) return
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory() || entry.isFile() || entry.isBlockDevice()) {
      search(join(path, entry.name), devices, logs, depth + 1)
    }
  }
}

/** Processes that have one of `paths` open, as far as /proc tells. */
function usersOf(paths: readonly string[]): number[] {
  const wanted = new Set(paths.map((path) => realpathSync(path)))
  const users = new Set<number>()
  let processes: string[]
  try {
    processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  } catch {
    return []
  }
  for (const pid of processes) {
    if (Number(pid) === process.pid) continue
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        try {
          if (wanted.has(readlinkSync(`/proc/${pid}/fd/${fd}`))) users.add(Number(pid))
        } catch {
          // Closed meanwhile.
        }
      }
    } catch {
      // Gone, or not ours to see.
    }
  }
  return [...users]
}

function groups(found: readonly Found[]): Found[][] {
  const byPlex = new Map<string, Found[]>()
  for (const one of found) {
    const key = `${one.label.pairUid} ${one.label.aggregateId} ${one.label.plex}`
    const group = byPlex.get(key) ?? []
    group.push(one)
    byPlex.set(key, group)
  }
  return [...byPlex.values()]
}

async function recordsInLog(env: Env, path: string, covers: number, epoch: number): Promise<number | string> {
  const log = openDevice(path, { readOnly: true })
  try {
    const head = new Uint8Array(BLOCK_BYTES)
    await log.read(0, head)
    const result = await scanLog(log, getU32(head, 8), env.crc32, covers, epoch)
    return result.ok ? result.tail.lastSeq - covers : result.message
  } finally {
    await log.close()
  }
}

async function checkGroup(env: Env, group: readonly Found[], logs: readonly string[]): Promise<Report> {
  const { label } = group[0]!
  const report: Report = {
    aggregate: label.aggregateName,
    id: label.aggregateId,
    side: label.side,
    plex: label.plex,
    devices: group.map(({ device }) => device.name),
    notes: [],
    problems: [],
  }
  if (group.some((one) => one.label.state !== 'complete')) {
    report.notes.push(
      'being filled by a resync that did not end: its content is of no use and was not checked',
    )
    return report
  }
  try {
    const aggregate = await Aggregate.open(
      env,
      group.map(({ device }) => device),
      {
        cache: new BufferCache(CACHE_BYTES),
        content: (_, root) => ({ freeze: () => root ?? new Uint8Array(0), restored: () => undefined }),
        readOnly: true,
      },
    )
    const result = await checkAggregate(aggregate, { checkFiles: checkVolumeFiles })
    Object.assign(report, {
      cp: result.cp,
      covers: result.covers,
      blocksUsed: result.blocksUsed,
      volumes: result.volumes,
    })
    report.problems.push(...result.problems)
    const log = logs.find((path) => basename(path) === `log-${label.side}`)
    if (log !== undefined) {
      const records = await recordsInLog(env, log, result.covers, aggregate.root.epoch)
      if (typeof records === 'string') report.problems.push(`log: ${records}`)
      else {
        report.logRecords = records
        if (records > 0) report.notes.push(`the log holds ${records} records that are not in the image yet`)
      }
    }
  } catch (error) {
    if (!(error instanceof AggregateError || error instanceof DeviceError)) throw error
    report.problems.push(error.message)
  }
  return report
}

function print(report: Report): void {
  const { aggregate, side, plex, devices, problems } = report
  console.log(`aggregate ${aggregate} of ${side}, plex ${plex} (${devices.join(', ')})`)
  if (report.cp !== undefined) {
    console.log(
      `  consistency point ${report.cp}, log covered to ${report.covers}, ${report.blocksUsed} blocks in use, ${report.volumes} volumes`,
    )
  }
  for (const note of report.notes) console.log(`  note: ${note}`)
  for (const problem of problems) console.log(`  PROBLEM: ${problem}`)
  console.log(problems.length === 0 ? '  consistent' : `  ${problems.length} problems`)
}

/** Checks the aggregates on the devices at `paths`; exit status 0 consistent, 1 not, 75 in use. */
export async function check(
  paths: readonly string[],
  options: { json: boolean; force: boolean },
): Promise<number> {
  const devicePaths: string[] = []
  const logs: string[] = []
  for (const path of paths) search(path, devicePaths, logs)
  if (devicePaths.length === 0) throw new UsageError(`no devices in ${paths.join(', ')}`)
  const users = usersOf(devicePaths)
  if (users.length > 0 && !options.force) {
    console.error(
      `tandem check: in use by process ${users.join(', ')}; stop it first (--force checks what is there at this moment, and may find problems that are none)`,
    )
    return BUSY
  }
  const env = nodeEnv({ write: () => {} })
  const opened = devicePaths.map((path) => openDevice(path, { readOnly: true }))
  const reports: Report[] = []
  const blank: string[] = []
  try {
    const found: Found[] = []
    for (const device of opened) {
      const label = device.blocks === 0 ? undefined : await readLabel(env, device)
      if (label === 'version') throw new Error(`${device.name} has a later format than this program knows`)
      if (label === undefined) blank.push(device.name)
      else found.push({ device, label })
    }
    for (const group of groups(found)) {
      const report = await checkGroup(env, group, logs)
      if (users.length > 0) report.notes.push(`in use by process ${users.join(', ')}`)
      reports.push(report)
    }
  } finally {
    for (const device of opened) await device.close()
  }
  if (options.json) console.log(JSON.stringify({ aggregates: reports, blank }, null, 2))
  else {
    for (const report of reports) print(report)
    for (const name of blank) console.log(`${name}: no label (blank, or not of Tandem)`)
  }
  const bad = reports.some((report) => report.problems.length > 0) || reports.length === 0
  return bad ? 1 : 0
}

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'check',
      summary: 'prove the devices of an aggregate consistent (offline)',
      operands: 'DEVICE… | FOLDER…',
      operandsMin: 1,
      operandsMax: Infinity,
      flags: {
        json: { kind: 'switch', meaning: 'print JSON' },
        force: { kind: 'switch', meaning: 'even while a process has the devices open' },
      },
      notes: `Give all devices of one plex, or a folder above them: files named "device" are found in it, and the side's log.
Exit status: 0 consistent, 1 problems (each is listed), 75 in use.`,
    },
    args,
    (parsed) => check(parsed.operands, { json: parsed.has('json'), force: parsed.has('force') }),
  )
}
