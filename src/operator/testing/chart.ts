/**
 * Renders the chart's templates for tests. It knows the part of Helm's language that src/operator/install uses, and refuses the rest:
 * comments, `if`/`else`/`end`, `range` over a list, `toJson`, `fromYaml`, `join`, `replace`, `.Values…`, `.Release.Namespace`, `.Files.Get`, and `.` in a range.
 */
import { parse as parseYaml } from 'yaml'

interface Scope {
  readonly root: Record<string, unknown>
  readonly dot: unknown
}
type Node =
  | { readonly text: string }
  | { readonly expression: string }
  | {
      readonly block: 'if' | 'range'
      readonly expression: string
      readonly body: Node[]
      readonly otherwise: Node[]
    }

export interface ChartContext {
  readonly values: Record<string, unknown>
  readonly namespace: string
  readonly file: (path: string) => string
}

export function renderTemplate(template: string, context: ChartContext): string {
  const root = { Values: context.values, Release: { Namespace: context.namespace }, Files: context.file }
  return render(parse(template), { root, dot: root })
}

function parse(template: string): Node[] {
  // `{{-` and `-}}` take the white space beside them along.
  const tokens = template
    .replaceAll(/\s*\{\{-/g, '{{')
    .replaceAll(/-\}\}\s*/g, '}}')
    .split(/(\{\{.*?\}\})/s)
  let position = 0
  const nodes = (): { list: Node[]; ended: string } => {
    const list: Node[] = []
    while (position < tokens.length) {
      const token = tokens[position++]!
      if (!token.startsWith('{{')) {
        if (token !== '') list.push({ text: token })
        continue
      }
      const inner = token.slice(2, -2).trim()
      if (inner.startsWith('/*')) continue
      if (inner === 'end' || inner === 'else') return { list, ended: inner }
      const block = /^(if|range) (.*)$/.exec(inner)
      if (block === null) {
        list.push({ expression: inner })
        continue
      }
      const body = nodes()
      const otherwise = body.ended === 'else' ? nodes() : { list: [], ended: 'end' }
      if (otherwise.ended !== 'end') throw new Error(`no end of ${inner}`)
      list.push({
        block: block[1] as 'if' | 'range',
        expression: block[2]!,
        body: body.list,
        otherwise: otherwise.list,
      })
    }
    return { list, ended: '' }
  }
  const all = nodes()
  if (all.ended !== '') throw new Error(`${all.ended} without a beginning`)
  return all.list
}

function render(nodes: readonly Node[], scope: Scope): string {
  return nodes
    .map((node) => {
      if ('text' in node) return node.text
      if (!('block' in node)) return String(evaluate(node.expression, scope))
      const value = evaluate(node.expression, scope)
      if (node.block === 'if') return render(isTrue(value) ? node.body : node.otherwise, scope)
      return (value as unknown[]).map((dot) => render(node.body, { ...scope, dot })).join('')
    })
    .join('')
}

function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0
  return Boolean(value)
}

function evaluate(expression: string, scope: Scope): unknown {
  const words = expression.match(/\(.*\)|"[^"]*"|\S+/g) ?? []
  const value = (word: string): unknown => {
    if (word.startsWith('(')) return evaluate(word.slice(1, -1), scope)
    if (word.startsWith('"')) return JSON.parse(word)
    if (word === '.') return scope.dot
    const [start, path] = word.startsWith('$.') ? [scope.root, word.slice(2)] : [scope.dot, word.slice(1)]
    if (!/^\$?\./.test(word)) throw new Error(`unknown word ${word} in {{ ${expression} }}`)
    return path.split('.').reduce<unknown>((from, name) => {
      if (typeof from !== 'object' || from === null || !(name in from))
        throw new Error(`no ${word} in {{ ${expression} }}`)
      return (from as Record<string, unknown>)[name]
    }, start)
  }
  const [first, ...rest] = words as [string, ...string[]]
  if (first === 'toJson' && rest.length === 1) return JSON.stringify(value(rest[0]!))
  if (first === 'join' && rest.length === 2)
    return (value(rest[1]!) as unknown[]).join(value(rest[0]!) as string)
  if (first === 'fromYaml' && rest.length === 1) return parseYaml(value(rest[0]!) as string)
  if (first === 'replace' && rest.length === 3) {
    const [from, to, text] = rest.map((word) => value(word) as string)
    return text!.replaceAll(from!, to!)
  }
  if (first === '.Files.Get' && rest.length === 1)
    return (scope.root['Files'] as ChartContext['file'])(value(rest[0]!) as string)
  if (rest.length > 0) throw new Error(`cannot render {{ ${expression} }}`)
  return value(first)
}
