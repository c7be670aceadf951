/**
 * `tandem check`: proves aggregates consistent, offline, from the devices of one copy each or of both. Nothing is written, unless leaks are to be repaired.
 *
 * Operands are devices (files or raw ones), or folders that are searched for files named `device`, and for the side's log beside them. What
 * belongs together is read from the labels.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Aggregate } from '../core/block/aggregate.ts'
import { BufferCache } from '../core/block/buffer-cache.ts'
import type { CheckResult, Leak } from '../core/block/check.ts'
import { compareCopies } from '../core/block/compare-copies.ts'
import { AggregateError } from '../core/block/errors.ts'
import { InodeLists, repairLeaks } from '../core/block/repair-leaks.ts'
import { BLOCK_BYTES, DeviceError } from '../core/env/device.ts'
import type { Device } from '../core/env/device.ts'
import type { Env } from '../core/env/env.ts'
import { getU32 } from '../core/fs/bytes.ts'
import { scanLog } from '../core/nvlog/scan.ts'
import { peekMailbox } from '../core/pair/mailbox.ts'
import type { CopyState } from '../core/pair/mailbox.ts'
import { fenceOf } from '../core/filer/store-conversions.ts'
import { devicesOf, findPlaces, missingFrom, openImages, usersOf } from '../edge/check/images.ts'
import type { PlexFiles } from '../edge/check/images.ts'
import { openReadOnly } from '../edge/check/open.ts'
import { runCheck } from '../edge/check/run-check.ts'
import type { CheckProgress } from '../edge/check/run-check.ts'
import { openDevice } from '../edge/node/device.ts'
import { nodeEnv } from '../edge/node/env.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'

const CACHE_BYTES = 256 * 2 ** 20
/** "Not now": the devices are in use. */
const BUSY = 75
const PROGRESS_MS = 200
/** A pass repairs the leaks that one check tells; more than this many are not made. */
const REPAIR_PASSES = 1000

export interface CheckFlags {
  readonly json: boolean
  readonly force: boolean
  readonly repair?: boolean
  /** Lines of progress even where there is no terminal. */
  readonly progress?: boolean
  readonly threads?: number
}

type Repaired = Record<Exclude<Leak['kind'], 'held'>, number>

interface Report {
  aggregate: string
  id: string
  side: string
  plex: number
  devices: string[]
  image?: string
  cp?: number
  covers?: number
  blocksUsed?: number
  volumes?: number
  /** Records in the log beyond the image; undefined if no log was given. */
  logRecords?: number
  seconds?: number
  notes: string[]
  problems: string[]
  /** How many of the problems are but leaks. */
  leaks: number
  /** What `--repair` gave back. */
  repaired?: Repaired
}

interface ComparisonReport {
  aggregate: string
  id: string
  equalRoots: boolean
  /** Blocks whose contexts were compared. */
  blocks: number
  problems: string[]
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

/** What the filer noted of its copy of the side, in the mailbox beside the log; undefined if there is none, or none that makes sense. */
async function copyState(env: Env, log: string, side: string): Promise<CopyState | undefined> {
  const path = join(dirname(log), 'mailbox')
  if (!existsSync(path)) return undefined
  const device = openDevice(path, { readOnly: true })
  try {
    const blocks = (await peekMailbox(env, device)).filter((block) => block !== undefined)
    return blocks.sort((one, two) => two.generation - one.generation)[0]?.mail?.sides[side]?.state
  } finally {
    await device.close()
  }
}

/** The log of a copy that is about to be filled is emptied first, and what lies behind its beginning says nothing. */
async function checkLog(env: Env, log: string, epoch: number, report: Report): Promise<void> {
  const state = await copyState(env, log, report.side)
  if (state !== undefined && state !== 'Complete') {
    report.notes.push(`by its mailbox this copy is ${state}, not complete: its log was not checked`)
    return
  }
  const records = await recordsInLog(env, log, report.covers ?? 0, epoch)
  if (typeof records === 'string') {
    report.problems.push(`log: ${records}`)
    return
  }
  report.logRecords = records
  if (records > 0) report.notes.push(`the log holds ${records} records that are not in the image yet`)
}

/** Writes the progress of one image to standard error. */
function progressOf(name: string, always: boolean): ((progress: CheckProgress) => void) | undefined {
  const { stderr } = process
  if (!stderr.isTTY && !always) return undefined
  const started = performance.now()
  let told = 0
  return ({ jobs, done, bytes }) => {
    const now = performance.now()
    if (now - told < PROGRESS_MS && done < jobs) return
    told = now
    const rate = bytes / 2 ** 20 / Math.max(0.001, (now - started) / 1000)
    const text = `${name}: ${Math.floor((100 * done) / jobs)} %, ${Math.round(bytes / 2 ** 20)} MiB, ${rate.toFixed(0)} MiB/s`
    stderr.write(stderr.isTTY ? `\r${text}\u001b[K${done === jobs ? '\n' : ''}` : `${text}\n`)
  }
}

const pathsOf = (plex: PlexFiles): string[] => plex.members.map(({ device }) => device.name)

/** How far a conversion is that the image has begun. */
function noteOnConversion({ old }: Aggregate, report: Report): void {
  if (old === undefined || old.state === 'joined') return
  const { aggregate, first } = old.record
  report.notes.push(
    old.holdsDevices
      ? `the volume of ${aggregate} is being converted (${old.state === 'built' ? 'nothing is absent any more' : `${old.built} blocks are built`}); its blocks are read there, as blocks ${first} to ${old.end - 1}`
      : `a conversion of ${aggregate} was undone; what it took is being given back`,
  )
}

async function checkImage(
  env: Env,
  plex: PlexFiles,
  flags: CheckFlags,
): Promise<{ aggregate: Aggregate; result: CheckResult }> {
  const { own, source } = devicesOf(plex)
  const { aggregate } = await openReadOnly(env, devicesOf(plex), CACHE_BYTES)
  const { aggregateName, plex: number } = plex.label
  const progress = progressOf(`${aggregateName}, plex ${number}`, flags.progress === true)
  const names = (devices: readonly Device[]): string[] => devices.map(({ name }) => name)
  const paths = { own: names(own), ...(source && { source: names(source) }) }
  const result = await runCheck(aggregate, paths, {
    cacheBytes: CACHE_BYTES,
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
    ...(progress === undefined ? {} : { progress }),
  })
  return { aggregate, result }
}

async function checkPlex(
  env: Env,
  plex: PlexFiles,
  flags: CheckFlags,
): Promise<{ report: Report; aggregate?: Aggregate; leaks: readonly Leak[] }> {
  const { label } = plex
  const report: Report = {
    aggregate: label.aggregateName,
    id: label.aggregateId,
    side: label.side,
    plex: label.plex,
    devices: pathsOf(plex),
    notes: [],
    problems: [],
    leaks: 0,
  }
  if (plex.members.some((one) => one.label.state !== 'complete')) {
    report.notes.push(
      'being filled by a resync that did not end: its content is of no use and was not checked',
    )
    return { report, leaks: [] }
  }
  const missing = missingFrom(plex)
  if (missing !== undefined) {
    report.problems.push(missing)
    return { report, leaks: [] }
  }
  try {
    const started = performance.now()
    const { aggregate, result } = await checkImage(env, plex, flags)
    const { cp, covers, blocksUsed, volumes } = result
    Object.assign(report, { image: aggregate.root.image, cp, covers, blocksUsed, volumes })
    report.seconds = Math.round(performance.now() - started) / 1000
    report.problems.push(...result.problems)
    report.leaks = result.leaks.length
    noteOnConversion(aggregate, report)
    const takenBy = plex.takenBy ?? fenceOf(aggregate)?.aggregate
    // A fenced volume's image has all that was logged for it, and stays where it is while the log goes on.
    if (takenBy !== undefined)
      report.notes.push(
        `${plex.takenBy === undefined ? 'its volume may be' : 'its volume is'} a part of ${takenBy}: this is its image at the cut-over`,
      )
    else if (plex.log !== undefined) await checkLog(env, plex.log, aggregate.root.epoch, report)
    return { report, aggregate, leaks: result.leaks }
  } catch (error) {
    if (!(error instanceof AggregateError || error instanceof DeviceError)) throw error
    report.problems.push(error.message)
    return { report, leaks: [] }
  }
}

/** One pass over the leaks of an image; `mirror` has the same image. */
async function repairOnce(
  env: Env,
  plex: PlexFiles,
  mirror: PlexFiles | undefined,
  leaks: readonly Leak[],
): Promise<void> {
  const own = pathsOf(plex).map((path) => openDevice(path))
  const other = mirror === undefined ? undefined : pathsOf(mirror).map((path) => openDevice(path))
  try {
    const aggregate = await Aggregate.open<InodeLists>(env, own, {
      cache: new BufferCache(CACHE_BYTES),
      content: (volume, root) => new InodeLists(volume, root),
      ...(other === undefined ? {} : { mirror: other }),
    })
    await repairLeaks(aggregate, leaks)
    await aggregate.close()
  } finally {
    for (const device of [...own, ...(other ?? [])]) await device.close()
  }
}

/** Repairs until nothing leaks, or something else is found wrong. The report is that of the last check. */
async function repair(
  env: Env,
  plex: PlexFiles,
  mirror: PlexFiles | undefined,
  first: { report: Report; leaks: readonly Leak[] },
  flags: CheckFlags,
): Promise<Report> {
  const repaired: Repaired = { block: 0, number: 0, 'free-inode': 0, orphan: 0, count: 0 }
  let { report, leaks } = first
  for (let pass = 0; pass < REPAIR_PASSES && leaks.length > 0; pass++) {
    if (report.problems.length > leaks.length) {
      report.notes.push('not repaired: more is wrong than leaks, and no repair may touch such an image')
      break
    }
    if (plex.taken !== undefined) {
      report.notes.push('not repaired: a conversion is under way; let it end, or undo it, first')
      break
    }
    if (leaks.every(({ kind }) => kind === 'held')) {
      report.notes.push('what leaks in snapshots goes when they are deleted')
      break
    }
    await repairOnce(env, plex, mirror, leaks)
    for (const { kind } of leaks) if (kind !== 'held') repaired[kind] += 1
    ;({ report, leaks } = await checkPlex(env, plex, flags))
  }
  report.repaired = repaired
  if (Object.values(repaired).some((count) => count > 0) && mirror === undefined) {
    report.notes.push(
      'this copy has a new image: if there is another copy, its pair will fill one of them again',
    )
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
  if (report.repaired !== undefined) {
    const { block, number, 'free-inode': free, orphan, count } = report.repaired
    console.log(
      `  repaired: ${block} lost blocks, ${number} lost numbers of volumes, ${free + orphan} lost inodes, ${count} counts`,
    )
  }
  const leaks = report.leaks > 0 ? `, ${report.leaks} of them leaks (--repair gives them back)` : ''
  console.log(problems.length === 0 ? '  consistent' : `  ${problems.length} problems${leaks}`)
  if (report.seconds !== undefined && report.blocksUsed !== undefined) {
    const mib = (report.blocksUsed * BLOCK_BYTES) / 2 ** 20
    console.log(
      `  ${mib.toFixed(0)} MiB in ${report.seconds.toFixed(1)} s, ${(mib / Math.max(0.001, report.seconds)).toFixed(0)} MiB/s`,
    )
  }
}

function printComparison({ aggregate, equalRoots, blocks, problems }: ComparisonReport): void {
  if (!equalRoots) {
    console.log(`copies of ${aggregate}: their images differ; the pair fills one from the other when it runs`)
    return
  }
  console.log(`copies of ${aggregate}: equal roots, ${blocks} blocks compared`)
  for (const problem of problems) console.log(`  PROBLEM: ${problem}`)
  console.log(problems.length === 0 ? '  equal' : `  ${problems.length} problems`)
}

interface Checked {
  readonly plex: PlexFiles
  readonly aggregate: Aggregate | undefined
  readonly leaks: readonly Leak[]
  report: Report
}

const otherCopy = (checked: readonly Checked[], one: Checked): Checked | undefined =>
  checked.find(
    (two) =>
      two.report.id === one.report.id &&
      two.plex.label.pairUid === one.plex.label.pairUid &&
      two.report.plex !== one.report.plex,
  )

async function repairAll(env: Env, checked: readonly Checked[], flags: CheckFlags): Promise<void> {
  const done = new Set<Checked>()
  for (const one of checked) {
    if (one.leaks.length === 0 || done.has(one)) continue
    const two = otherCopy(checked, one)
    const equal = two !== undefined && two.report.image === one.report.image
    if (two !== undefined && !equal) {
      one.report.notes.push('not repaired: the copies differ; let the pair fill one from the other first')
      continue
    }
    one.report = await repair(env, one.plex, two?.plex, one, flags)
    if (two === undefined) continue
    done.add(two)
    two.report = (await checkPlex(env, two.plex, flags)).report
    two.report.notes.push('repaired with the other copy')
  }
}

/** Checks the aggregates on the devices at `paths`; exit status 0 consistent, 1 not, 75 in use. */
export async function check(paths: readonly string[], flags: CheckFlags): Promise<number> {
  const places = findPlaces(paths)
  if (places.devices.length === 0) throw new UsageError(`no devices in ${paths.join(', ')}`)
  const users = usersOf(places.devices)
  if (users.length > 0 && (!flags.force || flags.repair === true)) {
    const hint =
      flags.repair === true
        ? 'what is in use is never repaired'
        : '--force checks what is there at this moment, and may find problems that are none'
    console.error(`tandem check: in use by process ${users.join(', ')}; stop it first (${hint})`)
    return BUSY
  }
  const env = nodeEnv({ write: () => {} })
  const images = await openImages(env, places)
  const checked: Checked[] = []
  const comparisons: ComparisonReport[] = []
  try {
    for (const plex of images.plexes) {
      const { report, aggregate, leaks } = await checkPlex(env, plex, flags)
      if (users.length > 0) report.notes.push(`in use by process ${users.join(', ')}`)
      checked.push({ plex, report, aggregate, leaks })
    }
    for (const one of checked) {
      const two = otherCopy(checked, one)
      if (one.aggregate === undefined || two?.aggregate === undefined) continue
      if (one.report.plex > two.report.plex) continue
      const { equalRoots, blocks, problems } = await compareCopies(one.aggregate, two.aggregate)
      const { aggregate, id } = one.report
      comparisons.push({ aggregate, id, equalRoots, blocks, problems: [...problems] })
    }
    if (flags.repair === true) await repairAll(env, checked, flags)
  } finally {
    await images.close()
  }
  const reports = checked.map(({ report }) => report)
  if (flags.json) {
    console.log(JSON.stringify({ aggregates: reports, copies: comparisons, blank: images.blank }, null, 2))
  } else {
    for (const report of reports) print(report)
    for (const comparison of comparisons) printComparison(comparison)
    for (const name of images.blank) console.log(`${name}: no label (blank, or not of Tandem)`)
  }
  const bad = [...reports, ...comparisons].some(({ problems }) => problems.length > 0)
  return bad || reports.length === 0 ? 1 : 0
}

function threadsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const threads = Number(text)
  if (!Number.isInteger(threads) || threads < 1)
    throw new UsageError(`--threads ${text} is no number from 1 on`)
  return threads
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
        repair: {
          kind: 'switch',
          meaning: 'give back what is taken and unused, if nothing else is wrong; writes a new image',
        },
        progress: { kind: 'switch', meaning: 'tell how far it is, also where standard error is no terminal' },
        threads: { kind: 'text', value: 'N', meaning: 'so many at once (one for each processor)' },
      },
      notes: `Give all devices of one copy, or a folder above them: files named "device" are found in it, and the side's log.
Of both copies (a folder above both filers') it also compares one with the other.
Exit status: 0 consistent, 1 problems (each is listed), 2 wrong usage, 75 in use. docs/tools.md has examples.`,
    },
    args,
    (parsed) => {
      const threads = threadsOf(parsed.text('threads'))
      return check(parsed.operands, {
        json: parsed.has('json'),
        force: parsed.has('force'),
        repair: parsed.has('repair'),
        progress: parsed.has('progress'),
        ...(threads === undefined ? {} : { threads }),
      })
    },
  )
}
