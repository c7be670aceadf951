/** The reference of the API as Markdown, for docs/reference.md. */
import type { Kind, Schema } from './schema.ts'

export function reference(kinds: readonly Kind[]): string {
  const lines = [
    '# Reference of the API',
    '',
    'Written by `make gen` from `src/api`; change it there.',
    '',
    ...kinds.map((k) => `- [${k.kind}](#${k.kind.toLowerCase()}) (\`${k.shortNames.join('`, `')}\`)`),
  ]
  for (const kind of kinds) lines.push('', ...kindReference(kind))
  return lines.join('\n') + '\n'
}

function kindReference(kind: Kind): string[] {
  const lines = [
    `## ${kind.kind}`,
    '',
    `\`${kind.group}/${kind.version}\`, short name \`${kind.shortNames.join('`, `')}\`. ${kind.description}`,
    '',
    '### Spec',
    '',
    '| Field | Type | Default | Meaning |',
    '|---|---|---|---|',
    ...rows(kind.spec, 'spec'),
    '',
    'Rules over these fields:',
    '',
    ...kind.rules.map((r) => `- ${r.path === '' ? '' : `\`${r.path}\`: `}${withoutPath(r.message, r.path)}.`),
    '',
    '### Status',
    '',
    '| Field | Type | Meaning |',
    '|---|---|---|',
    ...rows(kind.status, 'status').map((row) => row.replace(/^(\|[^|]*\|[^|]*\|)[^|]*\|/, '$1')),
    '',
    '### Conditions',
    '',
  ]
  for (const c of kind.conditions) {
    lines.push(`**${c.type}**: ${c.means}`, '', '| Reason | |', '|---|---|')
    for (const [reason, means] of Object.entries(c.reasons)) lines.push(`| \`${reason}\` | ${means} |`)
    lines.push('')
  }
  lines.push('### Columns', '', kind.columns.map((c) => (c.wide ? `${c.name} (wide)` : c.name)).join(', '))
  return lines
}

function withoutPath(message: string, path: string): string {
  return message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message
}

function rows(schema: Schema, path: string): string[] {
  const own: string[] = []
  if (path.includes('.') || path.includes('['))
    own.push(
      `| \`${path.replace(/^(spec|status)\./, '')}\` | ${typeName(schema)} | ${defaultText(schema)} | ${schema.description} |`,
    )
  switch (schema.kind) {
    case 'object':
      for (const [name, field] of Object.entries(schema.fields)) own.push(...rows(field, `${path}.${name}`))
      return own
    case 'list':
      if (path === 'status.conditions') return own
      return schema.item.kind === 'object' ? [...own, ...rows(schema.item, `${path}[]`).slice(1)] : own
    default:
      return own
  }
}

function typeName(schema: Schema): string {
  switch (schema.kind) {
    case 'string':
      if (schema.enum !== undefined) return schema.enum.map((v) => `\`${v}\``).join(' or ')
      return schema.format === 'plain' ? 'string' : schema.format
    case 'list':
      return schema.item.kind === 'object'
        ? `list, ${bounds(schema.minItems, schema.maxItems)}`
        : `list of ${typeName(schema.item)}`
    case 'map':
      return `map of ${typeName(schema.value)}`
    default:
      return schema.kind
  }
}

function bounds(min: number | undefined, max: number | undefined): string {
  if (max === undefined) return 'any number'
  return min === max ? `exactly ${max}` : `${min ?? 0} to ${max}`
}

function defaultText(schema: Schema): string {
  if (schema.default === undefined) return schema.presence === 'required' ? '(needed)' : ''
  return `\`${JSON.stringify(schema.default)}\``
}
