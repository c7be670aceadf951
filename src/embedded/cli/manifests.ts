/**
 * Objects from files, folders and the standard input, and what can be said about them before they are sent: unknown fields and broken
 * rules are found here too, so that a cluster whose server knows no rules refuses the same.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { LineCounter, parseAllDocuments } from 'yaml'
import { nearest } from '../../api/nearest.ts'
import { describeProblems, validateObject } from '../../api/validate.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { RESOURCES, resourceOfKind } from '../store/resources.ts'
import type { StoredResource } from '../store/resources.ts'
import { kindOf } from './kinds.ts'

export interface Manifest {
  readonly object: KubeObject
  readonly resource: StoredResource
  /** `file` or `file:line`, for messages. */
  readonly where: string
}

const SUFFIXES = ['.yaml', '.yml', '.json']

function filesOf(path: string): string[] {
  if (path === '-' || !statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .filter((name) => SUFFIXES.some((suffix) => name.endsWith(suffix)))
    .sort()
    .map((name) => join(path, name))
}

export function readManifests(
  paths: readonly string[],
  stdin: () => string = () => readFileSync(0, 'utf8'),
): Manifest[] {
  const manifests: Manifest[] = []
  for (const path of paths)
    for (const file of filesOf(path)) {
      const text = file === '-' ? stdin() : readFileSync(file, 'utf8')
      manifests.push(...parseManifests(text, file === '-' ? 'standard input' : file))
    }
  if (manifests.length === 0) throw new Error(`no objects in ${paths.join(', ')}`)
  return manifests
}

export function parseManifests(text: string, file: string): Manifest[] {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines })
  if (!Array.isArray(documents)) return []
  return documents.flatMap((document) => {
    const line = lines.linePos(document.contents?.range?.[0] ?? document.range[0]).line
    const where = `${file}:${String(line)}`
    const [error] = document.errors
    if (error !== undefined) throw new Error(`${file}: ${error.message}`)
    const value = document.toJS() as unknown
    if (value === null || value === undefined) return []
    const items = isList(value) ? value.items : [value]
    return items.map((item) => toManifest(item, where))
  })
}

function isList(value: unknown): value is { items: unknown[] } {
  const { kind, items } = value as { kind?: unknown; items?: unknown }
  return typeof kind === 'string' && kind.endsWith('List') && Array.isArray(items)
}

function toManifest(value: unknown, where: string): Manifest {
  const object = value as KubeObject
  if (typeof object !== 'object' || typeof object.apiVersion !== 'string' || typeof object.kind !== 'string')
    throw new Error(`${where}: not an object with apiVersion and kind`)
  if (typeof object.metadata?.name !== 'string')
    throw new Error(`${where}: ${object.kind} without metadata.name`)
  const resource = resourceOfKind(object.apiVersion, object.kind)
  if (resource === undefined) {
    const known = RESOURCES.map((candidate) => candidate.kind)
    const near = known.includes(object.kind) ? undefined : nearest(object.kind, known)
    const hint = near === undefined ? '' : `; did you mean ${near}?`
    throw new Error(`${where}: no kind ${object.kind} in ${object.apiVersion}${hint}`)
  }
  return { object, resource, where }
}

/** What is wrong with the object by itself, in the rules' own words; undefined: nothing. */
export function problemsOf({ object, resource, where }: Manifest): string | undefined {
  const kind = kindOf(resource)
  if (kind === undefined) return undefined
  const result = validateObject(kind, object)
  return result.ok
    ? undefined
    : `${where}: ${object.kind} ${object.metadata.name}: ${describeProblems(result.problems)}`
}
