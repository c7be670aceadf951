/**
 * Filers that break a promise, to see that the chaos rounds would notice: a copy of the sources in which one rule is left out, run by the
 * same beds and cases. What is shipped has no switch for it.
 */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BrokenBuild } from '../../src/core/pair/options.ts'
import { Random } from '../../src/nfs/load/random.ts'
import type { FindingKind } from '../../src/nfs/load/worker.ts'
import { endFolder, stateFolder, sweep } from '../lib/state.ts'
import { Bed } from './bed.ts'
import type { Case } from './cases.ts'
import { cases } from './cases.ts'

export interface BadBuild {
  readonly name: string
  /** In which file of the sources what is put in the place of what. */
  readonly file: string
  readonly text: string
  readonly instead: string
  readonly case: Case['name']
  /** What clients must be seen to suffer, one or another. */
  readonly finds: readonly FindingKind[]
}

const replyNotLogged: BrokenBuild = { storage: { replyNotLogged: true } }

export const badBuilds: readonly BadBuild[] = [
  {
    // The survivor of a dead owner does not know what was answered: a call that is sent once more is carried out once more.
    name: 'reply-not-logged',
    file: 'src/edge/filer/filer-process.ts',
    text: 'new Filer({',
    instead: `new Filer({ broken: ${JSON.stringify(replyNotLogged)},`,
    case: 'kill',
    finds: ['duplicated'],
  },
  {
    // The standby says that it has what it has thrown away: the survivor of a dead owner lacks what was acknowledged, or has not what a handle is of.
    name: 'log-not-placed',
    file: 'src/core/pair/regions.ts',
    text: 'await gate.log().place(offset, chunks)',
    instead: "(chunks.length === 0 ? await gate.log().place(offset, chunks) : 'PLACED')",
    case: 'kill',
    finds: ['lost', 'stale'],
  },
]

const ROUNDS_MAX = 10
const checkout = join(import.meta.dirname, '../..')

/** Gives the build's main module. */
function make(folder: string, { file, text, instead }: BadBuild): string {
  mkdirSync(folder)
  cpSync(join(checkout, 'src'), join(folder, 'src'), { recursive: true })
  cpSync(join(checkout, 'package.json'), join(folder, 'package.json'))
  symlinkSync(join(checkout, 'node_modules'), join(folder, 'node_modules'))
  const path = join(folder, file)
  const [before, after, ...more] = readFileSync(path, 'utf8').split(text)
  if (after === undefined || more.length > 0) throw new Error(`${file} has not exactly one "${text}"`)
  writeFileSync(path, before + instead + after)
  return join(folder, 'src/main.ts')
}

/** Plays rounds until the checkers notice; gives what they said, or throws because they did not. */
export async function caught(bad: BadBuild, seed: number): Promise<string> {
  await sweep('bad-build')
  const folder = stateFolder('bad-build')
  const one = cases.find(({ name }) => name === bad.case)!
  let bed: Bed | undefined
  try {
    bed = await Bed.start(seed, { main: make(join(folder, 'build'), bad) })
    const seen: string[] = []
    for (let round = 1; round <= ROUNDS_MAX; round++) {
      try {
        await one.round(bed, new Random(seed + round))
        seen.push(...(await bed.verify()))
      } catch (error) {
        seen.push(bed.load.failure?.message ?? (error instanceof Error ? error.message : String(error)))
      }
      const found = bad.finds.find((kind) => bed!.load.tally[kind] > 0)
      if (found !== undefined) return `${found} in round ${round}: ${seen[0]!.split('\n')[0]}`
      if (seen.length > 0) break
    }
    throw new Error(
      seen.length > 0
        ? `not ${bad.finds.join(' or ')}, but: ${seen.join('; ')}`
        : `nothing was noticed in ${ROUNDS_MAX} rounds of ${bad.case}`,
    )
  } finally {
    // What is on its devices is of no use to anybody.
    await bed?.end(false).catch(() => undefined)
    endFolder(folder, false)
  }
}
