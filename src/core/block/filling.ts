/**
 * What a copy that is being filled has already, so that a resync which was interrupted goes on where it stopped (docs/SPEC.md, 2 and 3).
 *
 * Its label names the pass of copying and how many groups of it are flushed. The image that it is filled from names the same pass, and the consistency point at
 * which it began: only an image that came from that one does. So neither a device that was put back to an earlier time nor another history is taken for the one that was copied.
 */
import type { Json } from './codec.ts'
import type { Label } from './label.ts'
import { isNamed } from './root.ts'
import type { RootName } from './root.ts'

/**
 * Blocks in use whose contexts are equal on both plexes are equal if they are of consistency point `base` or older, or, in the first `groups` groups, of `cp` or
 * older.
 */
export interface Had {
  readonly base: RootName | undefined
  readonly pass: string
  readonly cp: number
  readonly groups: number
}

export const NOTHING: Had = { base: undefined, pass: '', cp: 0, groups: 0 }

/** Property of an image: the consistency points at which passes began that copy from it, by pass. */
const FILLING = 'filling'
const passes = (properties: Json): Json => (properties[FILLING] ?? {}) as Json

function passBegan(properties: Json, pass: string): number {
  const cp = passes(properties)[pass]
  return typeof cp === 'number' ? cp : 0
}

/** What a plex has of an image, as its label and its newest root tell. */
export function hadBy(
  { state, filling }: Pick<Label, 'state' | 'filling'>,
  newest: RootName | undefined,
  lineage: readonly RootName[],
  properties: Json,
): Had {
  const known = (name: RootName | undefined): RootName | undefined =>
    name !== undefined && lineage.some((one) => isNamed(name, one)) ? name : undefined
  if (state === 'complete') return { ...NOTHING, base: known(newest) }
  if (filling === undefined) return NOTHING
  const { pass } = filling
  const cp = passBegan(properties, pass)
  return { base: known(filling.base), pass, cp, groups: cp > 0 ? filling.groups : 0 }
}

/** Properties with a new pass; one before it is kept while the copy's label names it. */
export function withPass(properties: Json, pass: string, cp: number, had: Had): Json {
  const kept = had.groups > 0 ? { [had.pass]: had.cp } : {}
  return { ...properties, [FILLING]: { ...kept, [pass]: cp } }
}

export function withoutPasses(properties: Json): Json {
  if (properties[FILLING] === undefined) return properties
  const { [FILLING]: _, ...rest } = properties
  return rest
}
