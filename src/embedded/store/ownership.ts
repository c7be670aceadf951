/**
 * Server-side apply: which manager set which field, and what an apply adds, replaces and removes.
 *
 * A `FieldSet` is the tree of the fields that one manager set, in the notation of FieldsV1: `f:<field>` for a field, `k:{…}` for the
 * item of a list that is a map, `v:<value>` for the item of a list that is a set. A node without children is a leaf: a scalar, an
 * atomic list, or an empty object. Every apply is forced: what it names it owns. A plain update or patch owns what it changed, so an
 * applier that later drops such a field does not remove another's value.
 */
import { equal, isFields } from './values.ts'
import type { Fields } from './values.ts'

export interface FieldSet {
  [segment: string]: FieldSet
}

/** Field sets by manager. */
export type Managers = Readonly<Record<string, FieldSet>>

/** How a list merges: by key fields, as a set, or as a whole. */
export type ListType = readonly string[] | 'set' | 'atomic'
export type ListTypes = (path: readonly string[]) => ListType

function itemSegment(item: unknown, type: ListType): string | undefined {
  if (type === 'set') return `v:${JSON.stringify(item)}`
  if (type === 'atomic' || !isFields(item)) return undefined
  const key: Fields = {}
  for (const name of type) if (item[name] !== undefined) key[name] = item[name]
  return Object.keys(key).length === 0 ? undefined : `k:${JSON.stringify(key)}`
}

/** The list as a map, or undefined when it is atomic (or its items do not have the keys). */
function listItems(list: readonly unknown[], type: ListType): Map<string, unknown> | undefined {
  if (type === 'atomic') return undefined
  const items = new Map<string, unknown>()
  for (const item of list) {
    const segment = itemSegment(item, type)
    if (segment === undefined) return undefined
    items.set(segment, item)
  }
  return items
}

/** The fields that `value` names. */
export function fieldsOf(value: unknown, types: ListTypes, path: readonly string[] = []): FieldSet {
  const set: FieldSet = {}
  if (isFields(value)) {
    for (const [name, child] of Object.entries(value))
      if (child !== undefined) set[`f:${name}`] = fieldsOf(child, types, [...path, name])
  } else if (Array.isArray(value)) {
    for (const [segment, item] of listItems(value, types(path)) ?? [])
      set[segment] = fieldsOf(item, types, path)
  }
  return set
}

/** `applied` laid over `live`. */
function overlay(live: unknown, applied: unknown, types: ListTypes, path: readonly string[]): unknown {
  if (isFields(applied)) {
    const result: Fields = isFields(live) ? { ...live } : {}
    for (const [name, child] of Object.entries(applied))
      if (child !== undefined) result[name] = overlay(result[name], child, types, [...path, name])
    return result
  }
  if (Array.isArray(applied) && Array.isArray(live)) {
    const wanted = listItems(applied, types(path))
    const items = wanted === undefined ? undefined : listItems(live, types(path))
    if (wanted !== undefined && items !== undefined) {
      for (const [segment, item] of wanted) items.set(segment, overlay(items.get(segment), item, types, path))
      return [...items.values()]
    }
  }
  return applied
}

/** Removes from `value` what `prior` names and `kept` does not. Undefined: nothing is left. */
function prune(
  value: unknown,
  prior: FieldSet,
  kept: FieldSet,
  types: ListTypes,
  path: readonly string[],
): unknown {
  if (isFields(value)) {
    const result: Fields = { ...value }
    for (const [segment, priorChild] of Object.entries(prior)) {
      const name = segment.slice(2)
      if (!segment.startsWith('f:') || !(name in result)) continue
      const keptChild = kept[segment]
      const isLeaf = Object.keys(priorChild).length === 0
      if (isLeaf) {
        if (keptChild === undefined) delete result[name]
        continue
      }
      if (keptChild !== undefined && Object.keys(keptChild).length === 0) continue
      const rest = prune(result[name], priorChild, keptChild ?? {}, types, [...path, name])
      if (isEmpty(rest) && keptChild === undefined) delete result[name]
      else result[name] = rest
    }
    return result
  }
  if (Array.isArray(value)) {
    const items = listItems(value, types(path))
    if (items === undefined) return Object.keys(kept).length === 0 ? undefined : value
    for (const [segment, priorChild] of Object.entries(prior)) {
      if (!items.has(segment)) continue
      const keptChild = kept[segment]
      if (keptChild === undefined) items.delete(segment)
      else if (segment.startsWith('k:'))
        items.set(segment, prune(items.get(segment), priorChild, keptChild, types, path))
    }
    return [...items.values()]
  }
  return Object.keys(kept).length === 0 ? undefined : value
}

function isEmpty(value: unknown): boolean {
  return (
    value === undefined ||
    (Array.isArray(value) && value.length === 0) ||
    (isFields(value) && Object.keys(value).length === 0)
  )
}

export function union(sets: readonly FieldSet[]): FieldSet {
  const result: FieldSet = {}
  for (const set of sets)
    for (const [segment, child] of Object.entries(set)) {
      const present = result[segment]
      result[segment] = present === undefined ? child : union([present, child])
    }
  return result
}

/** `set` without the fields of `taken`. */
function without(set: FieldSet, taken: FieldSet): FieldSet {
  const result: FieldSet = {}
  for (const [segment, child] of Object.entries(set)) {
    const takenChild = taken[segment]
    if (takenChild === undefined) result[segment] = child
    else if (Object.keys(takenChild).length > 0 && Object.keys(child).length > 0) {
      const rest = without(child, takenChild)
      if (Object.keys(rest).length > 0) result[segment] = rest
    }
  }
  return result
}

/** The fields in `after` whose value is not that of `before`. */
function changedFields(before: unknown, after: unknown, types: ListTypes, path: readonly string[]): FieldSet {
  const set: FieldSet = {}
  if (isFields(after)) {
    const old = isFields(before) ? before : {}
    for (const [name, child] of Object.entries(after))
      if (!equal(old[name], child)) set[`f:${name}`] = changedFields(old[name], child, types, [...path, name])
  } else if (Array.isArray(after)) {
    const items = listItems(after, types(path))
    const old = Array.isArray(before) ? listItems(before, types(path)) : undefined
    for (const [segment, item] of items ?? [])
      if (!equal(old?.get(segment), item)) set[segment] = changedFields(old?.get(segment), item, types, path)
  }
  return set
}

/** `set` without the fields that `value` no longer has. */
function stillThere(set: FieldSet, value: unknown, types: ListTypes, path: readonly string[]): FieldSet {
  const result: FieldSet = {}
  const items = Array.isArray(value) ? listItems(value, types(path)) : undefined
  for (const [segment, child] of Object.entries(set)) {
    if (segment.startsWith('f:')) {
      const name = segment.slice(2)
      if (isFields(value) && name in value)
        result[segment] = stillThere(child, value[name], types, [...path, name])
    } else if (items?.has(segment) === true) {
      result[segment] = stillThere(child, items.get(segment), types, path)
    }
  }
  return result
}

export function applyFields(
  live: Fields | undefined,
  applied: Fields,
  managers: Managers,
  manager: string,
  types: ListTypes,
): { value: Fields; managers: Managers } {
  const next = fieldsOf(applied, types)
  const others = Object.entries(managers).filter(([name]) => name !== manager)
  const laid = overlay(live ?? {}, applied, types, [])
  const kept = union([next, ...others.map(([, set]) => set)])
  const value = prune(laid, managers[manager] ?? {}, kept, types, []) as Fields
  const taken = changedFields(live ?? {}, value, types, [])
  const result: Record<string, FieldSet> = { [manager]: next }
  for (const [name, set] of others) {
    const rest = stillThere(without(set, taken), value, types, [])
    if (Object.keys(rest).length > 0) result[name] = rest
  }
  return { value, managers: result }
}

export function updateFields(
  before: Fields | undefined,
  after: Fields,
  managers: Managers,
  manager: string,
  types: ListTypes,
): Managers {
  const changed = changedFields(before ?? {}, after, types, [])
  const result: Record<string, FieldSet> = {}
  for (const [name, set] of Object.entries(managers)) {
    const rest = stillThere(name === manager ? set : without(set, changed), after, types, [])
    if (Object.keys(rest).length > 0) result[name] = rest
  }
  if (Object.keys(changed).length > 0) result[manager] = union([result[manager] ?? {}, changed])
  return result
}
