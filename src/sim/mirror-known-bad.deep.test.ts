/** Test 13 of mirrors: builds that leave out one rule must be told from the right one. */
import { expect, test } from '@jest/globals'
import type { BrokenMirror } from '../core/mirror/broken-mirror.ts'
import { parseScenario } from './scenario.ts'
import { simulate } from './simulation.ts'

/**
 * The partner is farther away than the destination: what is in flight is in one log of the source, and at the destination. Behind the takeover it takes long until an image makes log files
 * superfluous; and the mirror came into sync by a record that the takeover finds in the log.
 */
const FAR_PARTNER =
  'option pairs 2\noption clients 4\nslow one 40\nslow two 40\nrun 300\non 1 disks 60 b\non 1 vanish owner a\nrun 800\nbreak 1\nrun 200'
/** The owner hears of neither its partner nor the vote, and nobody tells it that it was taken over; but it greets the destination anew. */
const OLD_OWNER =
  'option pairs 2\nrun 300\non 1 vote silent owner a\ncut one\ncut two\nrun 1500\ncut between\nheal between\nrun 1000'
const LOADED = 'option pairs 2\noption clients 4\nrun 1500'
const CUTS =
  'option pairs 2\noption clients 6\nrepeat 6\nslow between 15\nrun 50..200\ncut between\nrun 5\nheal between\nrun 300\nend\nsync'

/** What is left out, where it shows, in which seed at the latest, and how it is told. */
const builds: readonly (readonly [keyof BrokenMirror, string, number, RegExp])[] = [
  ['answerAlone', 'option pairs 2\nslow between 30\nrun 400\nbreak 1', 3, /expected|\(B7\)/],
  ['noCut', FAR_PARTNER, 3, /./],
  ['noResend', CUTS, 5, /\(B7\)|\(H2, H6\)|expected/],
  ['noFence', OLD_OWNER, 5, /\(B9\)/],
  ['noPin', LOADED, 5, /\(B4, B10\)/],
  ['joinEarly', LOADED, 5, /\(B11\)/],
  ['endEarly', LOADED, 5, /\(B4, B10\)/],
  ['releaseLate', LOADED, 5, /\(B3\)/],
]

test.each(builds)(
  '13: %s is caught, and the right build passes the same run',
  async (rule, text, seeds, found) => {
    for (let seed = 1; seed <= seeds; seed++) {
      const run = async (broken: boolean): Promise<string | undefined> => {
        const options = broken ? { broken: { mirror: { [rule]: true } } } : {}
        return (await simulate(parseScenario(rule, text), seed, options)).failure?.message
      }
      const failure = await run(true)
      if (failure === undefined) continue
      expect(failure).toMatch(found)
      expect(await run(false)).toBeUndefined()
      if (process.env['TANDEM_SHOW'] !== undefined) process.stdout.write(`${rule} seed ${seed}: ${failure}\n`)
      return
    }
    throw new Error(`no run told the build without ${rule} from the right one`)
  },
  240_000,
)
