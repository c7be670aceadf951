/** Tables as people read them, and the JSON paths of printer columns. Pure. */
import type { Column } from '../../api/schema.ts'
import type { KubeObject } from '../../edge/kube/api.ts'

/** The subset of JSONPath that printer columns use: `.a.b`, `.a\.b`, `[0]`, `[?(@.type=="Ready")]`. */
export function jsonPath(object: unknown, path: string): unknown {
  let at: unknown = object
  const steps = path.matchAll(/\.((?:\\.|[^.[\]\\])+)|\[(\d+)\]|\[\?\(@\.([\w.]+)==["']([^"']*)["']\)\]/g)
  for (const [, field, index, filterField, filterValue] of steps) {
    if (field !== undefined) {
      const name = field.replace(/\\(.)/g, '$1')
      at = isFields(at) ? at[name] : undefined
    } else if (index !== undefined) at = Array.isArray(at) ? (at[Number(index)] as unknown) : undefined
    else
      at = Array.isArray(at)
        ? at.find((item) => jsonPath(item, `.${filterField ?? ''}`) === filterValue)
        : undefined
  }
  return at
}

function isFields(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

export function age(since: string, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(since)) / 1000))
  if (!Number.isFinite(seconds)) return '<unknown>'
  if (seconds < 120) return `${String(seconds)}s`
  if (seconds < 2 * 3600) return `${String(Math.floor(seconds / 60))}m`
  if (seconds < 48 * 3600) return `${String(Math.floor(seconds / 3600))}h`
  return `${String(Math.floor(seconds / 86400))}d`
}

function cell(object: KubeObject, column: Column, nowMs: number): string {
  const value = jsonPath(object, column.jsonPath)
  if (value === undefined || value === null) return ''
  if (column.type === 'date' && typeof value === 'string') return age(value, nowMs)
  return typeof value === 'string' ? value : JSON.stringify(value)
}

export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) row.forEach((text, i) => (widths[i] = Math.max(widths[i] ?? 0, text.length)))
  return rows
    .map((row) =>
      row
        .map((text, i) => (i === row.length - 1 ? text : text.padEnd(widths[i]!)))
        .join('   ')
        .trimEnd(),
    )
    .join('\n')
}

export function objectTable(
  objects: readonly KubeObject[],
  columns: readonly Column[],
  options: { wide: boolean; namespaces: boolean; nowMs: number },
): string {
  const shown = columns.filter((column) => options.wide || column.wide !== true)
  const header = [
    ...(options.namespaces ? ['NAMESPACE'] : []),
    'NAME',
    ...shown.map((column) => column.name.toUpperCase()),
  ]
  const rows = objects.map((object) => [
    ...(options.namespaces ? [object.metadata.namespace ?? ''] : []),
    object.metadata.name,
    ...shown.map((column) => cell(object, column, options.nowMs)),
  ])
  return table([header, ...rows])
}
