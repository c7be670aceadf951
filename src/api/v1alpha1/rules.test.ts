/** Every rule of the API by one table of cases: `check`, and CEL as an API server evaluates it, say the same. */
import { describe, expect, test } from '@jest/globals'
import { CelScalar, celFunc, celMethod, run } from '@bufbuild/cel'
import type { CelInput } from '@bufbuild/cel'
import { parseQuantity } from '../quantity.ts'
import type { Kind, Schema } from '../schema.ts'
import { applyDefaults, describeProblems, validateSpec } from '../validate.ts'
import { kinds } from './kinds.ts'
import { ruleCases } from './rules.cases.ts'
import type { RuleCase } from './rule-case.ts'

const kindOf = (c: RuleCase): Kind => kinds.find((k) => k.kind === c.kind)!
const withDefaults = (kind: Kind, spec: unknown): unknown =>
  applyDefaults(kind.spec, JSON.parse(JSON.stringify(spec)))

/** The quantity library of Kubernetes, as far as rules use it. */
const quantityFunctions = [
  celFunc('quantity', [CelScalar.STRING], CelScalar.DOUBLE, (text) => parseQuantity(text)!),
  celMethod('compareTo', CelScalar.DOUBLE, [CelScalar.DOUBLE], CelScalar.INT, function (other) {
    return BigInt(Math.sign(this - other))
  }),
]

function celValue(value: unknown): CelInput {
  if (Array.isArray(value)) return value.map(celValue)
  if (typeof value === 'number') return BigInt(value)
  if (typeof value === 'object' && value !== null)
    return new Map(Object.entries(value).map(([k, v]) => [k, celValue(v)]))
  return value as string | boolean
}

/** Messages of the CEL rules that refuse the change. */
function refusedByCel(kind: Kind, name: string, spec: unknown, old: unknown): string[] {
  const root = { metadata: { name }, spec }
  const oldRoot = old === undefined ? undefined : { metadata: { name }, spec: old }
  const messages: string[] = []
  for (const rule of kind.rules)
    for (const { self, was } of visit(kind.spec, rule.path, root, oldRoot)) {
      if (rule.transition && was === undefined) continue
      const bindings = { self: celValue(self), ...(rule.transition ? { oldSelf: celValue(was) } : {}) }
      const result = run(rule.cel, bindings, { funcs: quantityFunctions })
      expect([rule.cel, typeof result === 'boolean' ? '' : result]).toEqual([rule.cel, ''])
      if (result === false) messages.push(rule.message)
    }
  return messages
}

/** Values at a path; entries of a map list correspond by key, as in an API server. */
function visit(spec: Schema, path: string, self: unknown, was: unknown): { self: unknown; was: unknown }[] {
  if (path === '') return [{ self, was }]
  const [step, ...rest] = path.split('.') as [string, ...string[]]
  const name = step.replaceAll('[]', '')
  const inner = (self as Record<string, unknown>)[name]
  const innerWas = (was as Record<string, unknown> | undefined)?.[name]
  if (inner === undefined) return []
  if (!step.endsWith('[]')) return visit(spec, rest.join('.'), inner, innerWas)
  return (inner as { name: string }[]).flatMap((item) =>
    visit(
      spec,
      rest.join('.'),
      item,
      (innerWas as { name: string }[] | undefined)?.find((o) => o.name === item.name),
    ),
  )
}

describe('rules', () => {
  test.each(ruleCases.map((c) => [`${c.kind}: ${c.name}`, c] as const))('%s', (_, c) => {
    const kind = kindOf(c)
    const name = c.objectName ?? 'case'
    const old = c.old === undefined ? undefined : withDefaults(kind, c.old)
    const result = validateSpec(kind, name, JSON.parse(JSON.stringify(c.spec)), old)
    const said = result.ok ? undefined : describeProblems(result.problems)
    if (c.refused === undefined) expect(said).toBeUndefined()
    else expect(said).toContain(c.refused)
    if (c.bySchema) return
    const cel = refusedByCel(kind, name, withDefaults(kind, c.spec), old)
    if (c.refused === undefined) expect(cel).toEqual([])
    else expect(cel.join('; ')).toContain(c.refused)
  })

  test('every rule refuses something in the table', () => {
    const refused = new Set(
      ruleCases.flatMap((c) => {
        const kind = kindOf(c)
        const old = c.old === undefined ? undefined : withDefaults(kind, c.old)
        const result = validateSpec(kind, c.objectName ?? 'case', JSON.parse(JSON.stringify(c.spec)), old)
        return result.ok ? [] : result.problems.map((p) => p.message)
      }),
    )
    const idle = kinds.flatMap((k) => k.rules).filter((r) => !refused.has(r.message))
    expect(idle.map((r) => r.cel)).toEqual([])
  })
})
