import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_BYTES } from '../../core/env/device.ts'
import { openDevice } from './device.ts'
import { jsonLog, nodeClock, nodeRandom } from './env.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'device-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function blockOf(value: number): Uint8Array {
  return new Uint8Array(BLOCK_BYTES).fill(value)
}

describe('a device on a file', () => {
  test('is sparse, keeps what was written, and its size', async () => {
    const path = join(folder, 'one')
    const device = openDevice(path, { bytes: 64 * 2 ** 20 })
    expect(device.blocks).toBe(16384)
    expect(statSync(path).blocks).toBe(0)
    await device.write(7, [blockOf(1), blockOf(2)])
    await device.flush()
    await device.close()
    const again = openDevice(path)
    const into = new Uint8Array(3 * BLOCK_BYTES)
    await again.read(6, into)
    expect([into[0], into[BLOCK_BYTES], into[2 * BLOCK_BYTES], into[3 * BLOCK_BYTES - 1]]).toEqual([
      0, 1, 2, 2,
    ])
    await again.close()
  })

  test('writes lists longer than one system call takes', async () => {
    const device = openDevice(join(folder, 'two'), { bytes: 16 * 2 ** 20 })
    const chunks = Array.from({ length: 2500 }, (_, i) => blockOf(i % 251))
    await device.write(100, chunks)
    const into = new Uint8Array(2500 * BLOCK_BYTES)
    await device.read(100, into)
    for (let i = 0; i < 2500; i++) expect(into[i * BLOCK_BYTES + 17]).toBe(i % 251)
    await device.close()
  })

  test('refuses what is outside, and says why a call failed', async () => {
    const path = join(folder, 'three')
    const device = openDevice(path, { bytes: 4 * BLOCK_BYTES })
    await expect(device.write(3, [blockOf(1), blockOf(1)])).rejects.toThrow(/outside 4 blocks/)
    await expect(device.read(0, new Uint8Array(100))).rejects.toThrow(/outside/)
    truncateSync(path, BLOCK_BYTES)
    await expect(device.read(2, new Uint8Array(BLOCK_BYTES))).rejects.toMatchObject({ code: 'EIO' })
    await device.close()
    const reader = openDevice(path, { readOnly: true })
    await expect(reader.write(0, [blockOf(1)])).rejects.toMatchObject({ code: 'EBADF' })
    await reader.close()
    expect(() => openDevice(join(folder, 'none'))).toThrow(/ENOENT/)
  })
})

test('the wall clock agrees with the host, the logger writes one JSON object a line', () => {
  const { seconds, nanoseconds } = nodeClock.wall()
  expect(Math.abs(seconds + nanoseconds / 1e9 - Date.now() / 1000)).toBeLessThan(2)
  expect(nanoseconds).toBeLessThan(1e9)
  const random = nodeRandom()
  expect(new Set(Array.from({ length: 3000 }, () => random.u32())).size).toBeGreaterThan(2990)
  const lines: string[] = []
  const log = jsonLog((line) => lines.push(line), 'info', { filer: 'a' })
  log('debug', 'not shown')
  log('warn', 'damaged', { error: Object.assign(new Error('no'), { code: 'EIO' }), pvbn: 3 })
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({
    level: 'warn',
    event: 'damaged',
    filer: 'a',
    pvbn: 3,
    error: { message: 'no', code: 'EIO' },
  })
})
