/**
 * The folder of one embedded instance: what is in it, the mark by which it is known as ours, and the lock that one `up` holds.
 *
 *   tandem.json     the mark; only a folder with it is ever removed
 *   lock            pid and start time of the `up` that runs here
 *   objects.log     the store's objects          store.sock, control.sock   where the store and `up` listen
 *   network.json    addresses and ports given out, so that they stay the same after a restart
 *   processes.json  what runs, for the next `up` to end what a crash left behind
 *   pods/<namespace>/<pod>/        root of a filer: its certificates, links to its volumes
 *   volumes/<namespace>/<claim>/   what a PersistentVolumeClaim holds
 *   logs/<process>.log
 */
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'

export const STATE_DEFAULT = '.tandem'
/** A Unix socket's path may have 107 bytes. */
const PATH_BYTES_MAX = 107 - '/control.sock'.length

export interface StateDir {
  readonly path: string
  readonly storeSocket: string
  readonly controlSocket: string
  readonly network: string
  readonly processes: string
  readonly logs: string
  readonly pods: string
  readonly volumes: string
}

export function stateDir(path: string): StateDir {
  const at = existsSync(path) ? realpathSync(path) : resolve(path)
  return {
    path: at,
    storeSocket: join(at, 'store.sock'),
    controlSocket: join(at, 'control.sock'),
    network: join(at, 'network.json'),
    processes: join(at, 'processes.json'),
    logs: join(at, 'logs'),
    pods: join(at, 'pods'),
    volumes: join(at, 'volumes'),
  }
}

export function isOurs(dir: StateDir): boolean {
  return existsSync(join(dir.path, 'tandem.json'))
}

/** Makes the folder if need be. A folder that holds other people's files is refused. */
export function prepare(path: string): StateDir {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  const dir = stateDir(path)
  if (Buffer.byteLength(dir.path) > PATH_BYTES_MAX)
    throw new Error(
      `the path ${dir.path} is too long for the sockets in it (at most ${String(PATH_BYTES_MAX)} bytes): choose a shorter --state DIR`,
    )
  if (!isOurs(dir)) {
    const strange = readdirSync(dir.path)
    if (strange.length > 0)
      throw new Error(
        `${dir.path} holds files that are not Tandem's (${strange.slice(0, 3).join(', ')}): choose an empty or new --state DIR`,
      )
    writeFileSync(
      join(dir.path, 'tandem.json'),
      `${JSON.stringify({ format: 1, created: new Date().toISOString() })}\n`,
    )
  }
  chmodSync(dir.path, 0o700)
  for (const folder of [dir.logs, dir.pods, dir.volumes]) mkdirSync(folder, { recursive: true })
  return dir
}

interface Holder {
  readonly pid: number
  /** Field 22 of /proc/PID/stat: tells a process from a later one with the same pid. Empty where there is no /proc. */
  readonly started: string
}

export function processStart(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

function isAlive({ pid, started }: Holder): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return started === '' || processStart(pid) === started
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

/** The `up` that runs here, if one does. */
export function lockHolder(dir: StateDir): Holder | undefined {
  const holder = readHolder(join(dir.path, 'lock'))
  return holder !== undefined && isAlive(holder) ? holder : undefined
}

/** Takes the lock, or throws with the pid of who has it. Returns the release. */
export function lock(dir: StateDir): () => void {
  const path = join(dir.path, 'lock')
  const mine = join(dir.path, `lock.${String(process.pid)}`)
  const me: Holder = { pid: process.pid, started: processStart(process.pid) }
  writeFileSync(mine, JSON.stringify(me))
  try {
    for (let attempt = 0; attempt < 5; attempt++) {
      try {
        // A link appears whole or not at all, so nobody ever reads half a lock.
        linkSync(mine, path)
        return () => rmSync(path, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const holder = readHolder(path)
      if (holder !== undefined && isAlive(holder))
        throw new Error(
          `${dir.path} is in use by \`tandem up\` with pid ${String(holder.pid)}; \`tandem down --state ${dir.path}\` ends it`,
        )
      removeStale(path, holder)
    }
    throw new Error(`${path} keeps changing hands; try again`)
  } finally {
    rmSync(mine, { force: true })
  }
}

/** Moves a dead holder's lock away, and back if it was not his any more. */
function removeStale(path: string, dead: Holder | undefined): void {
  const aside = `${path}.stale.${String(process.pid)}`
  try {
    renameSync(path, aside)
  } catch {
    return
  }
  const moved = readHolder(aside)
  if (moved !== undefined && (moved.pid !== dead?.pid || moved.started !== dead.started)) {
    try {
      linkSync(aside, path)
    } catch {
      // Somebody else has taken it meanwhile.
    }
  }
  rmSync(aside, { force: true })
}
