import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { LIMITS, lowerLimits } from './client-limits.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-limits.'))
})
afterEach(() => rmSync(folder, { recursive: true }))
const put = (...values: number[]): void =>
  LIMITS.forEach((name, i) => writeFileSync(join(folder, name), `${values[i]}\n`))
const there = (): number[] => LIMITS.map((name) => Number(readFileSync(join(folder, name), 'utf8')))

test('limits are lowered, said, and left alone afterwards; lower ones of somebody else stay', () => {
  put(300, 300)
  expect(lowerLimits(2, folder)).toEqual(LIMITS.map((name) => `${name}: 300 s, now 2 s`))
  expect(there()).toEqual([2, 2])
  expect(lowerLimits(2, folder)).toEqual([])
  put(1, 300)
  expect(lowerLimits(2, folder)).toHaveLength(1)
  expect(there()).toEqual([1, 2])
})

test('where nothing tracks connections that is an error', () => {
  expect(() => lowerLimits(2, folder)).toThrow('ENOENT')
})
