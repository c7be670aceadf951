/**
 * Images of aggregates on this machine, for the offline tools: devices, logs and mailboxes below the paths that a person names, grouped by what their labels say.
 * Everything is opened read-only. Nothing here decides whether an image is good.
 */
import { readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { readLabel } from '../../core/block/label.ts'
import type { Label } from '../../core/block/label.ts'
import type { OldBlocks } from '../../core/block/old-blocks.ts'
import { convertedOn } from '../../core/block/plex-info.ts'
import type { Device } from '../../core/env/device.ts'
import type { Env } from '../../core/env/env.ts'
import { openDevice } from '../node/device.ts'
import type { FileDevice } from '../node/device.ts'
import type { ImageParts } from './open.ts'

const SEARCH_DEPTH = 6

/** What lies below the named paths. */
export interface Places {
  readonly devices: readonly string[]
  readonly logs: readonly string[]
  readonly mailboxes: readonly string[]
}

/** A path that is named itself is a device, unless its name says that it is a log or a mailbox; in folders, files named `device`, `log-*` and `mailbox` count. Throws the host's error. */
export function findPlaces(paths: readonly string[]): Places {
  const found = { devices: [] as string[], logs: [] as string[], mailboxes: [] as string[] }
  const search = (path: string, depth: number): void => {
    const name = basename(path)
    if (!statSync(path).isDirectory()) {
      if (name.startsWith('log-') && !name.endsWith('.new')) found.logs.push(path)
      else if (name === 'mailbox') found.mailboxes.push(path)
      else if (depth === 0 || name === 'device') found.devices.push(path)
      return
    }
    if (depth > SEARCH_DEPTH) return
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory() || entry.isFile() || entry.isBlockDevice()) {
        search(join(path, entry.name), depth + 1)
      }
    }
  }
  for (const path of paths) search(path, 0)
  return found
}

/** Processes that have one of `paths` open, as far as /proc tells. */
export function usersOf(paths: readonly string[]): number[] {
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

export interface LabelledDevice {
  readonly device: FileDevice
  readonly label: Label
}

/** Devices of one plex, in the order of their positions. */
export interface PlexFiles {
  readonly label: Label
  readonly members: readonly LabelledDevice[]
  /** Of the same filer's copy of the side's log; undefined if none was found, or which one is not clear. */
  readonly log: string | undefined
  /** A volume of another aggregate was converted into this one, and the devices of that have not joined. */
  readonly taken: TakenIn | undefined
  /** The aggregate that has this one's volume now, if that is known. */
  readonly takenBy: string | undefined
}

export interface TakenIn {
  /** The aggregate that the volume came from. */
  readonly aggregate: string
  /** The same plex of it; empty if it is not among what was named. */
  readonly members: readonly LabelledDevice[]
}

export const devicesOf = (plex: PlexFiles): ImageParts<FileDevice> => ({
  own: plex.members.map(({ device }) => device),
  ...(plex.taken && { source: plex.taken.members.map(({ device }) => device) }),
})

/** Why the image cannot be read from what was named; undefined if nothing is known to be missing. */
export function missingFrom({ label, taken }: PlexFiles): string | undefined {
  if (taken === undefined || taken.members.length > 0) return undefined
  return `${label.aggregateName} has the volume of ${taken.aggregate}, and the devices of that have not joined it yet: name them, too`
}

export interface Images {
  readonly plexes: readonly PlexFiles[]
  /** Devices without a label. */
  readonly blank: readonly string[]
  close(): Promise<void>
}

/** Opens the devices and reads their labels. Throws if one has a later format, or the host's error. */
export async function openImages(env: Env, places: Places): Promise<Images> {
  const opened: FileDevice[] = []
  const close = async (): Promise<void> => {
    for (const device of opened) await device.close()
  }
  try {
    const blank: string[] = []
    const byPlex = new Map<string, LabelledDevice[]>()
    for (const path of places.devices) {
      const device = openDevice(path, { readOnly: true })
      opened.push(device)
      const label = device.blocks === 0 ? undefined : await readLabel(env, device)
      if (label === 'version') throw new Error(`${path} has a later format than this program knows`)
      if (label === undefined) {
        blank.push(path)
        continue
      }
      const key = `${label.pairUid} ${label.aggregateId} ${label.plex}`
      const members = byPlex.get(key) ?? []
      members.push({ device, label })
      byPlex.set(key, members)
    }
    const groups = [...byPlex.values()]
    for (const members of groups) members.sort((a, b) => a.label.position - b.label.position)
    const plexes = (await related(env, groups)).map(({ members, ...rest }): PlexFiles => {
      const { device, label } = members[0]!
      return { label, members, log: logOf(places.logs, label.side, device.name), ...rest }
    })
    return { plexes, blank, close }
  } catch (error) {
    await close()
    throw error
  }
}

type Related = Pick<PlexFiles, 'members' | 'taken' | 'takenBy'>

/** Plexes as their roots relate them: with the devices that joined one, whose labels may still be those of before, and beside it those that are to join. */
async function related(env: Env, groups: readonly LabelledDevice[][]): Promise<Related[]> {
  const sameCopy = (one: Label, two: Label): boolean => one.pairUid === two.pairUid && one.plex === two.plex
  const result: { members: LabelledDevice[]; taken?: TakenIn; takenBy?: string }[] = groups.map(
    (members) => ({ members }),
  )
  for (const one of [...result]) {
    const { label } = one.members[0]!
    const old = await oldBlocksOn(env, one.members)
    if (old?.holdsDevices !== true) continue
    const { aggregate, aggregateId } = old.record
    const source = result.find(({ members: [first] }) => {
      return first!.label.aggregateId === aggregateId && sameCopy(first!.label, label)
    })
    if (old.state !== 'joined') {
      one.taken = { aggregate, members: source?.members ?? [] }
      if (source !== undefined) source.takenBy = label.aggregateName
    } else if (source !== undefined) {
      one.members.push(...source.members)
      result.splice(result.indexOf(source), 1)
    }
  }
  return result.map(({ members, taken, takenBy }) => ({ members, taken, takenBy }))
}

function oldBlocksOn(env: Env, members: readonly LabelledDevice[]): Promise<OldBlocks | undefined> {
  return convertedOn(
    env,
    members.map(({ device }): Device => device),
  )
}

/**
 * The log that lies nearest to a device: filers keep their copies of a side apart, in folders whose names begin alike (`east-a-0-log…`, `east-a-0-aggr…`).
 */
function logOf(logs: readonly string[], side: string, device: string): string | undefined {
  const candidates = logs.filter((path) => basename(path) === `log-${side}`)
  const alike = (path: string): number => {
    const one = dirname(path)
    let at = 0
    while (at < one.length && one[at] === device[at]) at += 1
    return at
  }
  return candidates.sort((a, b) => alike(b) - alike(a))[0]
}
