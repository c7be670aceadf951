/** The printer columns of a kind for one object, as `kubectl get` shows them; for the command line. */
import type { Column, Kind } from './schema.ts'

export function columnsOf(kind: Kind, wide: boolean): readonly Column[] {
  return kind.columns.filter((c) => wide || !c.wide)
}

/** The value that the column's JSONPath names; '' if there is none. Of JSONPath it knows `.field` and `[?(@.field=="value")]`. */
export function columnValue(object: unknown, column: Column): string {
  let value: unknown = object
  for (const [, field, key, wanted] of column.jsonPath.matchAll(/\.(\w+)|\[\?\(@\.(\w+)=="([^"]*)"\)\]/g)) {
    if (field !== undefined) value = property(value, field)
    else value = Array.isArray(value) ? value.find((item) => property(item, key!) === wanted) : undefined
  }
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
}
