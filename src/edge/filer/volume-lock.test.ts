import { expect, test } from '@jest/globals'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { VolumeLock } from './volume-lock.ts'

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), `tandem-lock-${'x'.repeat(100)}-`))
  try {
    await run(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('one holder at a time, free again after release', async () => {
  await inFolder(async (folder) => {
    const first = await VolumeLock.tryTake(folder)
    expect(first).toBeDefined()
    expect(await VolumeLock.tryTake(folder)).toBeUndefined()
    first!.release()
    const second = await VolumeLock.tryTake(folder)
    expect(second).toBeDefined()
    second!.release()
  })
})

test('of many starters at once exactly one holds it', async () => {
  await inFolder(async (folder) => {
    const locks = await Promise.all(Array.from({ length: 8 }, () => VolumeLock.tryTake(folder)))
    const held = locks.filter((lock) => lock !== undefined)
    expect(held).toHaveLength(1)
    held[0]!.release()
  })
})

test('a stopped process keeps it, a killed one gives it back', async () => {
  await inFolder(async (folder) => {
    const source = `import { VolumeLock } from '${import.meta.dirname}/volume-lock.ts'
      const lock = await VolumeLock.tryTake(process.argv[1]); setInterval(() => lock, 1000); console.log('held')`
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', source, folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const dead = new Promise((resolve) => child.once('exit', resolve))
    await new Promise((resolve) => child.stdout.once('data', resolve))
    child.kill('SIGSTOP')
    expect(await VolumeLock.tryTake(folder)).toBeUndefined()
    child.kill('SIGKILL')
    await dead
    const next = await VolumeLock.tryTake(folder)
    expect(next).toBeDefined()
    next!.release()
  })
})
