/** Builds of the storage that leave out one rule must be told from the right one: a checker that finds nothing proves nothing. */
import { expect, test } from '@jest/globals'
import { readFileSync } from 'node:fs'
import type { BrokenBuild } from '../core/pair/options.ts'
import { parseScenario } from './scenario.ts'
import type { RunOptions } from './simulation.ts'
import { simulate } from './simulation.ts'

interface Run {
  readonly seed: number
  readonly moment?: number
}

const seeds = (count: number): Run[] => Array.from({ length: count }, (_, n) => ({ seed: n + 1 }))
const moments = (from: number, step: number, count: number): Run[] =>
  Array.from({ length: count }, (_, n) => ({ seed: 1, moment: from + n * step }))

/** What is left out, where it shows, in which of these runs at the latest, and how it is told. */
const builds: readonly (readonly [string, BrokenBuild, string, readonly Run[], RegExp])[] = [
  [
    'rootBeforeFlush',
    { storage: { rootBeforeFlush: true } },
    'power-loss',
    moments(64, 7, 45),
    /without power: .*damaged/,
  ],
  [
    'reuseBeforeRoot',
    { storage: { reuseBeforeRoot: true } },
    'power-loss-full',
    moments(52, 3, 100),
    /without power: .*damaged/,
  ],
  [
    'noBudget',
    { storage: { noBudget: true } },
    'full-disk',
    seeds(3),
    /aggregate is full although space was reserved/,
  ],
  [
    'replyNotLogged',
    { storage: { replyNotLogged: true } },
    'lost-answers',
    seeds(5),
    /when repeated \(H8\)|expected/,
  ],
  [
    'replyNotInImage',
    { storage: { replyNotInImage: true } },
    'lost-answers',
    seeds(5),
    /when repeated \(H8\)|expected/,
  ],
  [
    'contextNotVerified',
    { storage: { contextNotVerified: true } },
    'lost-images',
    [{ seed: 42 }, { seed: 3 }, ...seeds(20)],
    /expected/,
  ],
  ['olderRoot', { olderRoot: true }, 'power-loss-root', moments(6, 5, 40), /H10|H2|damaged/],
]

test.each(builds)(
  '%s is caught, and the right build passes the same run',
  async (rule, broken, name, runs, found) => {
    const text = readFileSync(new URL(`./scenarios/${name}.txt`, import.meta.url), 'utf8')
    const failureOf = async ({ seed, ...options }: Run & RunOptions): Promise<string | undefined> =>
      (await simulate(parseScenario(name, text), seed, options)).failure?.message
    for (const run of runs) {
      const failure = await failureOf({ ...run, broken })
      if (failure === undefined) continue
      expect(failure).toMatch(found)
      expect(await failureOf(run)).toBeUndefined()
      return
    }
    throw new Error(`no run told the build without ${rule} from the right one`)
  },
  600_000,
)
