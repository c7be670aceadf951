/**
 * Programs that a test bed starts: run to the end, or kept as children. Everything started here ends with the test bed, also
 * when that is killed with -9 (`setpriv --pdeathsig`), and nothing else is ever signalled: children are ended by their
 * handle, never by name.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync, closeSync } from 'node:fs'

export interface Finished {
  status: number
  stdout: string
  stderr: string
}

export interface RunOptions {
  env?: Record<string, string>
  input?: string
  cwd?: string
  timeoutMs?: number
}

/** Runs a program to its end; never throws for its exit status. A program over its time is killed (status 124). */
export async function attempt(command: string[], options: RunOptions = {}): Promise<Finished> {
  const child = spawn(command[0]!, command.slice(1), {
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  let late = false
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  const timer = setTimeout(() => {
    late = true
    child.kill('SIGKILL')
  }, options.timeoutMs ?? 120_000)
  try {
    const status = await new Promise<number>((resolve) => {
      child.on('error', (error) => {
        stderr += String(error)
        resolve(127)
      })
      child.on('close', (code) => resolve(late ? 124 : (code ?? 128)))
    })
    return { status, stdout, stderr }
  } finally {
    clearTimeout(timer)
  }
}

/** Runs a program that must succeed; gives its output. */
export async function run(command: string[], options: RunOptions = {}): Promise<string> {
  const result = await attempt(command, options)
  if (result.status !== 0)
    throw new Error(
      `${command.join(' ').slice(0, 300)}: exit status ${result.status}\n${(result.stderr + result.stdout).slice(-3000)}`,
    )
  return result.stdout
}

/** Starts a program whose output goes to a file and which the kernel kills when this process dies. */
export function keep(command: string[], log: string, options: RunOptions = {}): ChildProcess {
  const file = openSync(log, 'a')
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
    stdio: ['pipe', file, file],
  })
  child.on('error', () => undefined)
  child.stdin?.on('error', () => undefined)
  closeSync(file)
  return child
}

export function ended(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

/** Ends a child of ours: SIGTERM, after the given time SIGKILL; resolves when it is gone. */
export async function end(child: ChildProcess, graceMs = 5000): Promise<void> {
  if (ended(child) || child.pid === undefined) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await gone
  clearTimeout(timer)
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Polls until the condition gives something other than false or undefined; says what it waited for when it never does. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  condition: () => T | false | undefined | Promise<T | false | undefined>,
  intervalMs = 100,
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  let lastError: unknown
  for (;;) {
    try {
      const value = await condition()
      if (value !== false && value !== undefined) return value
      lastError = undefined
    } catch (error) {
      lastError = error
    }
    if (performance.now() > deadline)
      throw new Error(
        `waited ${Math.round(timeoutMs / 1000)} s in vain: ${what}${lastError instanceof Error ? ` (${lastError.message})` : ''}`,
      )
    await sleep(intervalMs)
  }
}
