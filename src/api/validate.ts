/**
 * Checks an object against its kind as an API server with CEL would, and says what is wrong in words a person can act on. Used by
 * the operator (servers without CEL let bad changes through), by the embedded store and by the command line. It changes nothing:
 * `value` is a copy with the defaults filled in.
 */
import { nearest } from './nearest.ts'
import type { Kind, ListSchema, ObjectSchema, Schema } from './schema.ts'

export interface Problem {
  /** `spec.aggregates[aggr1].size` */
  readonly path: string
  readonly reason: 'InvalidSpec' | 'ImmutableField'
  readonly message: string
}
type Dictionary = Readonly<Record<string, unknown>>
export type Validated<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problems: readonly Problem[] }

/** `old` is the spec in force, complete with defaults; transition rules compare with it. */
export function validateSpec<T>(kind: Kind, name: string, spec: unknown, old?: unknown): Validated<T> {
  const problems: Problem[] = []
  const value = applyDefaults(kind.spec, spec ?? {})
  checkSchema(kind.spec, value, 'spec', problems)
  if (problems.length === 0) {
    const root = { metadata: { name }, spec: value }
    checkRules(kind, root, old === undefined ? undefined : { metadata: { name }, spec: old }, problems)
  }
  return problems.length === 0 ? { ok: true, value: value as T } : { ok: false, problems }
}

/** A whole object, as it comes from a file: also its outermost fields are checked. */
export function validateObject<T>(kind: Kind, object: unknown, old?: unknown): Validated<T> {
  if (!isDictionary(object)) return failed('', 'must be an object with apiVersion, kind, metadata and spec')
  const known = ['apiVersion', 'kind', 'metadata', 'spec', 'status']
  const problems = unknownFields(object, known, '')
  const apiVersion = `${kind.group}/${kind.version}`
  if (object['apiVersion'] !== apiVersion) return failed('apiVersion', `must be ${apiVersion}`)
  if (object['kind'] !== kind.kind) return failed('kind', `must be ${kind.kind}`)
  const metadata = object['metadata']
  if (!isDictionary(metadata) || typeof metadata['name'] !== 'string')
    return failed('metadata.name', 'must be given')
  const oldSpec = isDictionary(old) ? old['spec'] : undefined
  const spec = validateSpec(kind, metadata['name'], object['spec'], oldSpec)
  if (!spec.ok) return { ok: false, problems: [...problems, ...spec.problems] }
  if (problems.length > 0) return { ok: false, problems }
  return { ok: true, value: { ...object, spec: spec.value } as T }
}

function failed<T>(path: string, message: string): Validated<T> {
  return { ok: false, problems: [{ path, reason: 'InvalidSpec', message }] }
}

/** Several problems in one sentence. */
export function describeProblems(problems: readonly Problem[]): string {
  const shown = problems
    .slice(0, 3)
    .map((p) => (p.path === '' || p.message.startsWith(p.path) ? p.message : `${p.path}: ${p.message}`))
  const rest = problems.length - shown.length
  return shown.join('; ') + (rest > 0 ? `; and ${rest} more` : '')
}

function isDictionary(value: unknown): value is Dictionary {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** As the API server does it: a default is put where the property is absent or null, then what is inside it is defaulted. */
export function applyDefaults(schema: Schema, value: unknown): unknown {
  switch (schema.kind) {
    case 'object': {
      if (!isDictionary(value)) return value
      const result: Record<string, unknown> = {}
      for (const [key, inner] of Object.entries(value)) if (inner !== null) result[key] = inner
      for (const [key, field] of Object.entries(schema.fields)) {
        if (result[key] === undefined && field.default !== undefined)
          result[key] = structuredClone(field.default)
        if (result[key] !== undefined) result[key] = applyDefaults(field, result[key])
      }
      return result
    }
    case 'list':
      return Array.isArray(value) ? value.map((item) => applyDefaults(schema.item, item)) : value
    case 'map':
      if (!isDictionary(value)) return value
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, applyDefaults(schema.value, v)]))
    case 'string':
    case 'integer':
    case 'boolean':
      return value
  }
}

function unknownFields(value: Dictionary, known: readonly string[], path: string): Problem[] {
  const problems: Problem[] = []
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue
    const near = nearest(key, known)
    const hint = near === undefined ? `known fields: ${known.join(', ')}` : `did you mean ${near}?`
    problems.push({
      path: join(path, key),
      reason: 'InvalidSpec',
      message: `unknown field ${join(path, key)}; ${hint}`,
    })
  }
  return problems
}

function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`
}

function checkSchema(schema: Schema, value: unknown, path: string, problems: Problem[]): void {
  const wrong = (message: string): void => {
    problems.push({ path, reason: 'InvalidSpec', message })
  }
  switch (schema.kind) {
    case 'string': {
      if (typeof value !== 'string') return wrong(`must be a string, not ${show(value)}; put it in quotes`)
      if (schema.enum !== undefined && !schema.enum.includes(value))
        return wrong(`${show(value)} is not one of ${schema.enum.join(', ')}`)
      if (schema.maxLength !== undefined && value.length > schema.maxLength)
        return wrong(`must be at most ${schema.maxLength} characters long`)
      if (schema.minLength !== undefined && value.length < schema.minLength)
        return wrong(`must be at least ${schema.minLength} characters long`)
      if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(value))
        return wrong(`${show(value)} is not ${schema.patternMeans ?? `of the form ${schema.pattern}`}`)
      return
    }
    case 'integer':
      if (!Number.isSafeInteger(value)) return wrong(`must be a whole number, not ${show(value)}`)
      if (schema.minimum !== undefined && (value as number) < schema.minimum)
        return wrong(`must be at least ${schema.minimum}`)
      if (schema.maximum !== undefined && (value as number) > schema.maximum)
        return wrong(`must be at most ${schema.maximum}`)
      return
    case 'boolean':
      if (typeof value !== 'boolean') wrong(`must be true or false, not ${show(value)}`)
      return
    case 'list':
      return checkList(schema, value, path, problems)
    case 'map':
      if (!isDictionary(value)) return wrong(`must be a map, not ${show(value)}`)
      if (schema.maxProperties !== undefined && Object.keys(value).length > schema.maxProperties)
        return wrong(`must have at most ${schema.maxProperties} entries`)
      for (const [key, inner] of Object.entries(value))
        checkSchema(schema.value, inner, join(path, key), problems)
      return
    case 'object':
      return checkObject(schema, value, path, problems)
  }
}

function checkObject(schema: ObjectSchema, value: unknown, path: string, problems: Problem[]): void {
  if (!isDictionary(value)) {
    problems.push({ path, reason: 'InvalidSpec', message: `must be an object, not ${show(value)}` })
    return
  }
  problems.push(...unknownFields(value, Object.keys(schema.fields), path))
  for (const [key, field] of Object.entries(schema.fields)) {
    const inner = value[key]
    if (inner !== undefined) checkSchema(field, inner, join(path, key), problems)
    else if (field.presence === 'required')
      problems.push({
        path: join(path, key),
        reason: 'InvalidSpec',
        message: `must be given: ${field.description}`,
      })
  }
}

function checkList(schema: ListSchema, value: unknown, path: string, problems: Problem[]): void {
  const wrong = (message: string): void => {
    problems.push({ path, reason: 'InvalidSpec', message })
  }
  if (!Array.isArray(value)) return wrong(`must be a list, not ${show(value)}`)
  const { minItems, maxItems } = schema
  if (minItems !== undefined && minItems === maxItems && value.length !== minItems)
    return wrong(`must have exactly ${minItems} entries, not ${value.length}`)
  if (minItems !== undefined && value.length < minItems)
    return wrong(`must have at least ${minItems} ${minItems === 1 ? 'entry' : 'entries'}`)
  if (maxItems !== undefined && value.length > maxItems)
    return wrong(`must have at most ${maxItems} entries, not ${value.length}`)
  const seen = new Set<unknown>()
  value.forEach((item: unknown, index) => {
    checkSchema(schema.item, item, `${path}[${entryName(schema, item, index)}]`, problems)
    if (schema.listType === 'atomic') return
    const key = schema.key !== undefined && isDictionary(item) ? item[schema.key] : item
    if (seen.has(key))
      wrong(
        `${show(key)} is there twice; ${schema.key === undefined ? 'entries are' : `${schema.key} is`} unique, remove or rename one`,
      )
    seen.add(key)
  })
}

function entryName(schema: ListSchema, item: unknown, index: number): string {
  const key = schema.key !== undefined && isDictionary(item) ? item[schema.key] : undefined
  return typeof key === 'string' ? key : String(index)
}

function show(value: unknown): string {
  if (typeof value === 'string') return `"${value.slice(0, 60)}"`
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

interface Place {
  readonly path: string
  readonly self: unknown
  readonly old: unknown
}

function checkRules(kind: Kind, root: Dictionary, old: Dictionary | undefined, problems: Problem[]): void {
  for (const rule of kind.rules) {
    for (const place of places(kind.spec, rule.path, root, old)) {
      if (rule.transition && (old === undefined || place.old === undefined)) continue
      if (!rule.check(place.self, place.old))
        problems.push({
          path: place.path,
          reason: rule.transition ? 'ImmutableField' : 'InvalidSpec',
          message: rule.message,
        })
    }
  }
}

/** Every value that a rule's path names, with what it was; entries of map lists are found again by their key. */
function places(spec: Schema, path: string, root: Dictionary, old: Dictionary | undefined): Place[] {
  let found: { place: Place; schema: Schema | undefined }[] = [
    { place: { path: '', self: root, old }, schema: undefined },
  ]
  const steps = path === '' ? [] : path.replaceAll('[]', '.[]').split('.')
  for (const step of steps) {
    const next: typeof found = []
    for (const { place, schema } of found) {
      if (step === '[]' && schema?.kind === 'list') {
        const before: unknown[] = Array.isArray(place.old) ? place.old : []
        ;(place.self as unknown[]).forEach((item, index) => {
          const name = entryName(schema, item, index)
          const was =
            schema.listType === 'map' ? before.find((o, i) => entryName(schema, o, i) === name) : undefined
          next.push({ place: { path: `${place.path}[${name}]`, self: item, old: was }, schema: schema.item })
        })
        continue
      }
      const self = (place.self as Dictionary)[step]
      if (self === undefined) continue
      const was = isDictionary(place.old) ? place.old[step] : undefined
      const inner = schema === undefined ? (step === 'spec' ? spec : undefined) : fieldOf(schema, step)
      next.push({ place: { path: join(place.path, step), self, old: was }, schema: inner })
    }
    found = next
  }
  return found.map((f) => f.place)
}

function fieldOf(schema: Schema, name: string): Schema | undefined {
  return schema.kind === 'object' ? schema.fields[name] : undefined
}
