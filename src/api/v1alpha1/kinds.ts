/** Every kind of the API, and how to find one by what a person types. */
import type { Kind } from '../schema.ts'
import { conversion } from './conversion.ts'
import { filerPair } from './filer-pair.ts'
import { filerVolume } from './filer-volume.ts'
import { mirror } from './mirror.ts'

export const kinds: readonly Kind[] = [filerPair, filerVolume, mirror, conversion]

/** By kind, plural, singular or short name, in any case. */
export function findKind(word: string): Kind | undefined {
  const wanted = word.toLowerCase()
  return kinds.find((k) => [k.kind.toLowerCase(), k.plural, k.singular, ...k.shortNames].includes(wanted))
}
