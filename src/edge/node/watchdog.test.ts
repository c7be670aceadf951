import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from '@jest/globals'

const NODE24 = new URL('../../../bin/node24', import.meta.url).pathname

/** A process with a watchdog that has 0.5 s of patience, and this to do. */
async function run(body: string): Promise<{ code: number | null; signal: string | null; errors: string }> {
  const source = `import { startWatchdog } from '${import.meta.dirname}/watchdog.ts'
    const watchdog = startWatchdog(50, 10)
    ${body}`
  const child = spawn(NODE24, ['--input-type=module-typescript', '-e', source], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { code, signal, errors }
}

test('a process whose loop hangs is ended, and says why', async () => {
  const { signal, errors } = await run('setTimeout(() => { for (;;); }, 300)')
  expect(signal).toBe('SIGKILL')
  expect(errors).toMatch(/event loop hangs/)
}, 120_000)

test('one whose loop comes round is left alone, and can end by itself', async () => {
  const { code, errors } = await run(`
    let n = 0
    const timer = setInterval(() => {
      const end = performance.now() + 20
      while (performance.now() < end);
      if (++n < 40) return
      clearInterval(timer)
      void watchdog.stop()
    }, 30)`)
  expect({ code, errors }).toEqual({ code: 0, errors: '' })
}, 120_000)
