import { describe, expect, test } from '@jest/globals'
import { formatBytes, parseDuration, parseQuantity, roundBytes } from './quantity.ts'
import { columnValue, columnsOf } from './columns.ts'
import { customResourceDefinition } from './crd.ts'
import { nearest } from './nearest.ts'
import { describeProblems, validateObject } from './validate.ts'
import { kinds } from './v1alpha1/kinds.ts'
import { filerPair } from './v1alpha1/filer-pair.ts'
import type { FilerPair } from './v1alpha1/filer-pair.ts'
import { filerVolume } from './v1alpha1/filer-volume.ts'

const least = {
  apiVersion: 'tandem.storage/v1alpha1',
  kind: 'FilerPair',
  metadata: { name: 'east' },
  spec: { aggregates: [{ name: 'aggr1', filer: 'a', deviceSets: [{ name: 'd', size: '1Gi' }] }] },
}

describe('validation', () => {
  test('fills defaults in, also inside of absent objects, and leaves its argument alone', () => {
    const before = JSON.stringify(least)
    const result = validateObject<FilerPair>(filerPair, least)
    expect(result).toMatchObject({
      ok: true,
      value: {
        spec: {
          filers: [{ name: 'a' }, { name: 'b' }],
          log: { size: '1Gi', durability: 'Disk' },
          takeover: { mode: 'Automatic', giveback: 'Automatic', givebackDelay: '10m' },
          aggregates: [{ deviceSets: [{ count: 1, volumeMode: 'Filesystem' }] }],
        },
      },
    })
    expect(JSON.stringify(least)).toBe(before)
  })

  test('names the nearest known field, at every depth', () => {
    const said = (object: unknown) => {
      const result = validateObject(filerPair, object)
      return result.ok ? '' : describeProblems(result.problems)
    }
    expect(said({ ...least, sepc: {} })).toContain('did you mean spec?')
    expect(said({ ...least, spec: { ...least.spec, log: { sise: '1Gi' } } })).toContain(
      'unknown field spec.log.sise; did you mean size?',
    )
    expect(said({ ...least, spec: undefined })).toContain('spec.aggregates: must be given')
    expect(said({ ...least, apiVersion: 'v1' })).toContain('tandem.storage/v1alpha1')
    expect(nearest('agregates', ['aggregates', 'log'])).toBe('aggregates')
    expect(nearest('zzz', ['aggregates', 'log'])).toBeUndefined()
  })

  test('quantities and durations', () => {
    expect(parseQuantity('1.5Gi')).toBe(1.5 * 2 ** 30)
    expect(parseQuantity('1GiB')).toBeUndefined()
    expect(formatBytes(2304 * 2 ** 20)).toBe('2304Mi')
    expect(formatBytes(1000)).toBe('1000')
    expect(roundBytes(1_234_567_890)).toBe('1.15Gi')
    expect(parseDuration('1h30m')).toBe(5_400_000)
    expect(parseDuration('250ms')).toBe(250)
    expect(parseDuration('10')).toBeUndefined()
  })

  test('columns of an object', () => {
    const object = {
      metadata: { name: 'east' },
      status: { serving: 'a:a b:a', conditions: [{ type: 'Ready', status: 'True' }] },
    }
    const shown = columnsOf(filerPair, false).map((c) => columnValue(object, c))
    expect(shown).toEqual(['True', '', '', 'a:a b:a', '', ''])
  })
})

describe('definitions', () => {
  test('are structural: every list says how it merges, every key of a map list is required', () => {
    const visit = (schema: Record<string, unknown>, path: string): void => {
      if (schema['type'] === 'array') {
        expect([path, schema['x-kubernetes-list-type']]).not.toContain(undefined)
        const items = schema['items'] as Record<string, unknown>
        for (const key of (schema['x-kubernetes-list-map-keys'] as string[] | undefined) ?? [])
          expect(items['required']).toContain(key)
        visit(items, `${path}[]`)
      }
      for (const [name, inner] of Object.entries((schema['properties'] as Record<string, never>) ?? {}))
        visit(inner, `${path}.${name}`)
    }
    for (const kind of kinds) {
      const spec = customResourceDefinition(kind)['spec'] as {
        versions: { schema: { openAPIV3Schema: Record<string, unknown> } }[]
      }
      visit(spec.versions[0]!.schema.openAPIV3Schema, kind.kind)
    }
  })

  test('every rule is placed in the definition of its kind', () => {
    for (const kind of [filerPair, filerVolume]) {
      const text = JSON.stringify(customResourceDefinition(kind))
      for (const rule of kind.rules)
        expect(text).toContain(JSON.stringify({ rule: rule.cel, message: rule.message }))
    }
  })
})
