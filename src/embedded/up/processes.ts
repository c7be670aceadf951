/**
 * Children of `up`. Each has a channel to it, and ends by itself when the channel closes (main.ts), so nothing outlives `up`. Each is
 * the leader of a session of its own: Ctrl-C in a terminal reaches `up` alone, which then ends them in order.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { processStart } from './state-dir.ts'

export const MAIN = fileURLToPath(new URL('../../main.ts', import.meta.url))

/** How a process of this program is started; tests put dummies in its place. */
export type Launch = (
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
) => ChildProcess

/** Variables of the caller that children must not take for theirs. */
const FOREIGN = /^(TANDEM_(?!LOG_LEVEL$)|POD_IP$|NODE_CHANNEL_|NODE_OPTIONS$|NODE_UNIQUE_ID$)/

export function launcher(logs: string, main: string = MAIN): Launch {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !FOREIGN.test(name)))
  return (name, args, env) => {
    const log = openSync(join(logs, `${name}.log`), 'a', 0o600)
    try {
      return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], {
        stdio: ['ignore', log, log, 'ipc'],
        detached: true,
        env: { ...inherited, ...env, TANDEM_CHILD: '1' },
      })
    } finally {
      closeSync(log)
    }
  }
}

/**
 * Remembers every child that `launch` starts in a file, so that the next `up` can end one that did not see its parent die: a process
 * that is stopped sees nothing.
 */
export function remembering(file: string, launch: Launch): Launch {
  const known = new Map<number, string>()
  return (name, args, env) => {
    const child = launch(name, args, env)
    const { pid } = child
    if (pid === undefined) return child
    const save = (): void => writeFileSync(file, JSON.stringify([...known]))
    known.set(pid, processStart(pid))
    save()
    child.once('exit', () => {
      known.delete(pid)
      save()
    })
    return child
  }
}

/** Ends what an `up` before this one left behind. */
export function endLeftovers(file: string, log: (message: string) => void): void {
  let left: [number, string][]
  try {
    left = JSON.parse(readFileSync(file, 'utf8')) as [number, string][]
  } catch {
    return
  }
  for (const [pid, started] of left) {
    // The same pid with another start time is somebody else's process.
    if (started === '' || processStart(pid) !== started) continue
    log(`process ${String(pid)} was left behind by an earlier run; killed`)
    process.kill(pid, 'SIGKILL')
  }
}

export function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null || child.pid === undefined
}

/** Resolves when the child has ended, how and by what. */
export function exited(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    const describe = (): string =>
      child.signalCode !== null ? `signal ${child.signalCode}` : `status ${String(child.exitCode)}`
    if (hasExited(child)) return resolve(describe())
    child.once('exit', () => resolve(describe()))
    child.once('error', (error) => resolve(error.message))
  })
}

/** SIGTERM, and after `graceMs` SIGKILL (a stopped process takes no other). */
export async function end(child: ChildProcess, graceMs: number): Promise<void> {
  if (hasExited(child)) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await exited(child)
  clearTimeout(timer)
}
