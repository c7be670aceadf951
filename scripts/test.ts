/**
 * `make test PARTS="check deep api crash chaos commands grow mirrors convert ring demo kernel e2e bench"`: every part is a make target of the same name; they run one after the
 * other (`deep` beside `kernel`), each into a log of its own. A part that cannot run fails and says why: nothing is left out in silence.
 *
 * At the end a table, and as the last line, alone: `N passed, N failed`. Exit status 1 when anything failed.
 */
import { spawn } from 'node:child_process'
import { createWriteStream, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { count, lastLine, table } from './test-summary.ts'
import type { PartResult } from './test-summary.ts'

const checkout = join(import.meta.dirname, '..')
const all = [
  'check',
  'deep',
  'api',
  'crash',
  'chaos',
  'commands',
  'grow',
  'mirrors',
  'convert',
  'ring',
  'demo',
  'kernel',
  'e2e',
  'bench',
]
/** A part that hangs is ended; the first run of `api` builds Kubernetes. */
const minutesMax: Record<string, number> = {
  check: 15,
  deep: 25,
  api: 45,
  crash: 30,
  chaos: 10,
  commands: 10,
  grow: 10,
  ring: 10,
  mirrors: 10,
  convert: 10,
  demo: 5,
  kernel: 25,
  e2e: 30,
  bench: 20,
}

/** Parts that run beside another one, if that runs: their clock is virtual, so it is all the same to them what else the machine does. */
const beside: Record<string, string> = { deep: 'kernel' }

/** Runs one make target; its output goes to the log, and a dot a minute to the terminal. */
function runPart(part: string, log: string): Promise<number> {
  return new Promise((resolve) => {
    // A group of its own, so that the end of a hanging part reaches all that it started.
    const child = spawn('make', ['--no-print-directory', part], {
      cwd: checkout,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const file = createWriteStream(log)
    child.stdout.pipe(file, { end: false })
    child.stderr.pipe(file, { end: false })
    const signalGroup = (signal: NodeJS.Signals): void => {
      try {
        process.kill(-child.pid!, signal)
      } catch {
        // it has ended meanwhile
      }
    }
    const minutes = minutesMax[part] ?? 30
    const timer = setTimeout(() => {
      file.write(`\nmake test: ${part} did not end within ${minutes} minutes\n`)
      signalGroup('SIGTERM')
      setTimeout(() => signalGroup('SIGKILL'), 20_000).unref()
    }, minutes * 60_000)
    const interrupted = (): void => signalGroup('SIGTERM')
    process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
    child.on('error', (error) => file.write(String(error)))
    child.on('close', (code) => {
      clearTimeout(timer)
      process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
      file.end(() => resolve(code ?? 1))
    })
  })
}

const parts = process.argv.slice(2)
const wanted = parts.length > 0 ? parts : all
const unknown = wanted.filter((part) => !all.includes(part))
if (unknown.length > 0) {
  console.error(`make test: no such part: ${unknown.join(' ')} (parts are ${all.join(' ')})`)
  process.exit(2)
}
const logs = mkdtempSync(join(tmpdir(), 'tandem-test-logs.'))
console.log(`make test: ${wanted.join(' ')}; logs in ${logs}`)
let stop = false
process.once('SIGINT', () => (stop = true))
const results: PartResult[] = []

async function part(name: string): Promise<void> {
  const log = join(logs, `${name}.log`)
  console.log(`\n== ${name} (${log})`)
  const began = performance.now()
  const status = await runPart(name, log)
  const output = readFileSync(log, 'utf8')
  const seconds = (performance.now() - began) / 1000
  results.push({ part: name, status, seconds, ...count(output, status) })
  console.log(
    output
      .trimEnd()
      .split('\n')
      .slice(status === 0 ? -3 : -60)
      .join('\n'),
  )
  console.log(`== ${name}: ${status === 0 ? 'passed' : 'FAILED'} after ${seconds.toFixed(0)} s`)
}

for (const name of wanted) {
  if (stop) break
  if (wanted.includes(beside[name] ?? '')) continue
  await Promise.all([name, ...wanted.filter((other) => beside[other] === name)].map(part))
}
console.log(`\n${table(results)}\n`)
console.log(lastLine(results))
process.exitCode =
  results.length === wanted.length && results.every((result) => result.status === 0 && result.failed === 0)
    ? 0
    : 1
