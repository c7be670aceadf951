/**
 * Manifests that people, or a broken client, write: valid objects with values replaced, removed, added, moved, as text and as values. Each is accepted, or refused with problems that name a field.
 */
import { kinds } from '../../api/v1alpha1/kinds.ts'
import { describeProblems, validateObject } from '../../api/validate.ts'
import { parseManifests, problemsOf } from '../../embedded/cli/manifests.ts'
import { readdirSync, readFileSync } from 'node:fs'
import type { SimRandom } from '../../sim/world.ts'
import type { Target } from '../target.ts'

const TRIES = 200
const SAMPLES = new URL('../../../manifests/samples/', import.meta.url)
const STRANGE: readonly unknown[] = [
  null,
  0,
  -1,
  1e308,
  2 ** 53,
  0.5,
  '',
  'x',
  'x'.repeat(5000),
  '\0',
  '\ud800',
  '1Gi',
  '-1Gi',
  '1e99',
  '999999999999Ei',
  [],
  {},
  [[]],
  [null],
  true,
  '__proto__',
  '127.0.0.1/33',
  '::/129',
  '../..',
  '* * * * *',
  '@every 1ns',
]

function texts(): string[] {
  return (readdirSync(SAMPLES, { recursive: true }) as string[])
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => readFileSync(new URL(name, SAMPLES), 'utf8'))
}
let samples: readonly string[] | undefined

/** Changes one place in a value, in place. */
function disturb(random: SimRandom, value: unknown): void {
  const places: [Record<string, unknown>, string][] = []
  const visit = (one: unknown): void => {
    if (typeof one !== 'object' || one === null) return
    for (const key of Object.keys(one)) {
      places.push([one as Record<string, unknown>, key])
      visit((one as Record<string, unknown>)[key])
    }
  }
  visit(value)
  if (places.length === 0) return
  const [holder, key] = random.pick(places)
  // A copy: what is put in is disturbed itself later, and must not come to hold itself.
  const strange = structuredClone(random.pick(STRANGE))
  switch (random.below(4)) {
    case 0:
      delete holder[key]
      break
    case 1:
      if (Array.isArray(holder)) holder.push(strange)
      else {
        const name = random.pick(['extra', '__proto__', 'constructor', `${key}x`])
        // As a parser does it: a property, whatever its name.
        const property = { value: strange, enumerable: true, writable: true, configurable: true }
        Object.defineProperty(holder, name, property)
      }
      break
    case 2:
      holder[key] = structuredClone(random.pick(places)[0])
      break
    default:
      holder[key] = strange
  }
}

export const manifests: Target = {
  name: 'manifests',
  meaning: 'manifests as text and as values: parse, default, validate',
  run(random) {
    samples ??= texts()
    for (let i = 0; i < TRIES; i++) {
      const text = random.pick(samples)
      if (random.chance(0.2)) {
        const at = random.below(text.length)
        const damaged =
          text.slice(0, at) +
          random.pick([':', '\n', '- ', '{', '&a *a', '\t', '"', '!!js']) +
          text.slice(at + random.below(3))
        tryText(damaged)
        continue
      }
      for (const { object } of parseManifests(text, 'sample')) {
        const copy = structuredClone(object)
        for (let times = 1 + random.below(3); times > 0; times--) disturb(random, copy)
        for (const kind of kinds) {
          const result = validateObject(kind, copy)
          if (!result.ok && describeProblems(result.problems) === '')
            throw new Error('refused without a reason')
        }
      }
    }
    return Promise.resolve(TRIES)
  },
}

function tryText(text: string): void {
  let parsed
  try {
    parsed = parseManifests(text, 'sample')
  } catch (error) {
    if (error instanceof Error && error.message.includes('sample')) return
    throw error
  }
  for (const manifest of parsed) problemsOf(manifest)
}
