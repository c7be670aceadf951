import { describe, expect, test } from '@jest/globals'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { entryOf, missing } from './lockfile.ts'
import type { Lock } from './lockfile.ts'

describe('package-lock.json', () => {
  test('has an entry for every optional dependency, also of other platforms: else `npm ci` refuses it (bin/node24 scripts/lockfile.ts adds them)', () => {
    const lock = JSON.parse(readFileSync(join(import.meta.dirname, '../package-lock.json'), 'utf8')) as Lock
    expect(missing(lock).map(({ name }) => name)).toEqual([])
  })

  test('the entry of another platform’s package says where it is for', () => {
    const dev = { version: '1.2.3', dev: true }
    expect(entryOf({ name: '@x/y-darwin-arm64', ...dev })).toEqual({
      version: '1.2.3',
      cpu: ['arm64'],
      dev: true,
      optional: true,
      os: ['darwin'],
    })
    expect(entryOf({ name: '@x/y-linux-aarch64', ...dev })).toMatchObject({ cpu: ['arm64'], os: ['linux'] })
    expect(entryOf({ name: '@x/y-win32-ia32-msvc', ...dev })).toMatchObject({ cpu: ['ia32'], os: ['win32'] })
    expect(() => entryOf({ name: 'fsevents', version: '^2.3.3', dev: true })).toThrow(
      'not a package for one platform',
    )
  })
})
