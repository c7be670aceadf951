/**
 * Label and field selectors as the Kubernetes API writes them: `a=b,c!=d,e in (f,g),h notin (i),j,!k` and `path=value,path!=value`.
 */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject } from '../../edge/kube/api.ts'

export type Matcher = (object: KubeObject) => boolean

function bad(selector: string): KubeError {
  return new KubeError(400, 'BadRequest', `selector ${JSON.stringify(selector)} is not understood`)
}

const REQUIREMENT =
  /^\s*(?:(!)\s*([\w./-]+)|([\w./-]+)(?:\s*(==|=|!=)\s*([\w.-]*)|\s+(in|notin)\s*\(([^)]*)\))?)\s*$/

export function labelSelector(selector: string): Matcher {
  const tests = splitOutsideParentheses(selector).map(
    (part): ((labels: Record<string, string>) => boolean) => {
      const match = REQUIREMENT.exec(part)
      if (match === null) throw bad(selector)
      const [, not, absent, key, operator, value, set, members] = match
      if (not !== undefined) return (labels) => labels[absent!] === undefined
      if (operator === '!=') return (labels) => labels[key!] !== value
      if (operator !== undefined) return (labels) => labels[key!] === value
      if (set !== undefined) {
        const wanted = new Set(members!.split(',').map((member) => member.trim()))
        return (labels) => {
          const label = labels[key!]
          return (label !== undefined && wanted.has(label)) === (set === 'in')
        }
      }
      return (labels) => labels[key!] !== undefined
    },
  )
  return (object) => {
    const labels = object.metadata.labels ?? {}
    return tests.every((test) => test(labels))
  }
}

export function fieldSelector(selector: string): Matcher {
  const tests = selector.split(',').map((part): Matcher => {
    const match = /^\s*([\w./-]+)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part)
    if (match === null) throw bad(selector)
    const [, path, operator, value] = match
    const names = path!.split('.')
    return (object) => {
      let at: unknown = object
      for (const name of names)
        at = at !== null && typeof at === 'object' ? (at as Record<string, unknown>)[name] : undefined
      const text =
        typeof at === 'string' || typeof at === 'number' || typeof at === 'boolean' ? String(at) : ''
      return (text === value) === (operator !== '!=')
    }
  })
  return (object) => tests.every((test) => test(object))
}

/** All of the given selectors; undefined or empty ones select everything. */
export function matcher(labels: string | undefined, fields: string | undefined): Matcher {
  const tests: Matcher[] = []
  if (labels !== undefined && labels.trim() !== '') tests.push(labelSelector(labels))
  if (fields !== undefined && fields.trim() !== '') tests.push(fieldSelector(fields))
  return (object) => tests.every((test) => test(object))
}

/** A Service's plain map of labels; an empty one selects nothing, as in a cluster. */
export function selects(selector: Readonly<Record<string, string>> | undefined, object: KubeObject): boolean {
  const wanted = Object.entries(selector ?? {})
  const labels = object.metadata.labels ?? {}
  return wanted.length > 0 && wanted.every(([key, value]) => labels[key] === value)
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let start = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++
    else if (text[i] === ')') depth--
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i))
      start = i + 1
    }
  }
  parts.push(text.slice(start))
  return parts
}
