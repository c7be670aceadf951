import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { mkdtempSync, openSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_BYTES } from '../../core/env/device.ts'
import { LogFill, LogUse } from './log-fill.ts'
import { openLogFile } from './log-files.ts'

const MIB_BLOCKS = 256

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'log-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const allocated = (path: string): number => statSync(path).blocks * 512

test('the holes of a new log are filled beside the log, and no zero lands on what was written', async () => {
  const path = join(folder, 'log')
  const blocks = 1 + 2 * 64 * MIB_BLOCKS
  const log = openLogFile(path, blocks)
  expect(log.blocks).toBe(blocks)
  const before = allocated(path)
  // Through the hole of the first half in steps that meet the zeros: these begin behind each write, and come to the place of the next one.
  const written = new Map<number, number>()
  for (let block = 32 * MIB_BLOCKS; block < 64 * MIB_BLOCKS; block += 64) {
    const value = 1 + (written.size % 250)
    written.set(block, value)
    await log.write(block, [new Uint8Array(BLOCK_BYTES).fill(value)])
    if (written.size % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await log.filled
  expect(allocated(path)).toBeGreaterThan(before + 40 * MIB_BLOCKS * BLOCK_BYTES)
  for (const [block, value] of written) {
    const into = new Uint8Array(BLOCK_BYTES)
    await log.read(block, into)
    expect(into.every((byte) => byte === value)).toBe(true)
  }
  await log.close()
})

test('a log that nobody writes has no holes in the end, and one that is closed early opens again', async () => {
  const path = join(folder, 'idle')
  const blocks = 1 + 2 * 36 * MIB_BLOCKS
  const log = openLogFile(path, blocks)
  expect(allocated(path)).toBeLessThan(blocks * BLOCK_BYTES)
  await log.filled
  expect(allocated(path)).toBeGreaterThanOrEqual(blocks * BLOCK_BYTES)
  await log.close()

  const early = openLogFile(join(folder, 'early'), blocks)
  await early.write(33 * MIB_BLOCKS, [new Uint8Array(BLOCK_BYTES).fill(9)])
  await early.close()
  const again = openLogFile(join(folder, 'early'), blocks)
  await again.filled
  const into = new Uint8Array(BLOCK_BYTES)
  await again.read(33 * MIB_BLOCKS, into)
  expect(into[0]).toBe(9)
  await again.close()
})

test('a write waits for zeros that are under way where it goes, and only there', async () => {
  const end = 4 * MIB_BLOCKS * BLOCK_BYTES
  const fill = new LogFill(openSync(join(folder, 'fill'), 'w'), [{ at: 0, end }], new LogUse())
  // Its timer is the earlier one: the first zeros are under way.
  await new Promise((resolve) => setTimeout(resolve, 0))
  const zeros = fill.before(BLOCK_BYTES, 2 * BLOCK_BYTES)
  expect(zeros).toBeInstanceOf(Promise)
  expect(fill.before(end - BLOCK_BYTES, end)).toBeUndefined()
  await zeros
  expect(fill.before(BLOCK_BYTES, 2 * BLOCK_BYTES)).toBeUndefined()
  // Nothing is left below the last write.
  await fill.done
  expect(statSync(join(folder, 'fill')).size).toBe(MIB_BLOCKS * BLOCK_BYTES)
})

test('what the log comes to soon is filled first', async () => {
  const path = join(folder, 'near')
  const near = { at: 128 * MIB_BLOCKS * BLOCK_BYTES, end: 130 * MIB_BLOCKS * BLOCK_BYTES }
  const far = { at: 0, end: 2 * MIB_BLOCKS * BLOCK_BYTES }
  const fill = new LogFill(openSync(path, 'w'), [far, near], new LogUse())
  void fill.before(near.at - BLOCK_BYTES, near.at)
  while (statSync(path).size < near.end) await new Promise((resolve) => setImmediate(resolve))
  expect(allocated(path)).toBeLessThan(3 * MIB_BLOCKS * BLOCK_BYTES)
  await fill.done
  expect(allocated(path)).toBeGreaterThanOrEqual(4 * MIB_BLOCKS * BLOCK_BYTES)
})
