/**
 * The faults of `make chaos`. A case plays one round: it waits for both copies, breaks something, waits until clients are served again, mends
 * it, and waits for both copies again. What it gives are the pauses of the client at the Service: of the fault, and of the way back.
 */
import { WHOLE } from '../../src/embedded/up/relay.ts'
import type { LinkState } from '../../src/embedded/up/relay.ts'
import type { Random } from '../../src/nfs/load/random.ts'
import { sleep, until } from '../lib/process.ts'
import { filers, links } from './bed.ts'
import type { Bed } from './bed.ts'

export interface Pause {
  readonly row: string
  readonly faultMs: number
  readonly backMs: number
}

export interface Case {
  readonly name: string
  /** It needs disks that can be filled; devices on them grow, so a bed with them is good for some rounds only. */
  readonly roundsOfDisks?: number
  readonly round: (bed: Bed, random: Random) => Promise<Pause[]>
}

/** The goals for pauses, for the table. */
export const goalsMs: Readonly<Record<string, number>> = {
  'filer killed (-9)': 1000,
  'filer stopped (SIGSTOP)': 3000,
  'both links cut': 3000,
  'one of two links cut': 400,
  'one of two links flapping at 10 Hz': 400,
  'planned takeover': 1000,
  giveback: 1000,
}

interface Fault {
  readonly row: string
  /** Breaks something, with this filer owning the volume; gives how to mend it. */
  readonly begin: (owner: string) => Promise<() => Promise<unknown>>
  /** The longest time that it stays broken after clients are served again; at least half of it. */
  readonly heldMs: number
  /** The volume must move to the partner. */
  readonly moves?: boolean
}

async function play(bed: Bed, random: Random, { row, begin, heldMs, moves }: Fault): Promise<Pause[]> {
  await bed.whole()
  await bed.served()
  await sleep(random.below(500))
  const before = bed.owner
  bed.load.resetPause()
  const mend = await begin(before)
  try {
    if (moves === true && !(await bed.moved(before))) {
      await mend()
      await bed.whole()
      return []
    }
    await bed.served()
    await sleep(heldMs / 2 + random.below(heldMs / 2))
    await bed.served()
  } catch (error) {
    await mend()
    throw error
  }
  const faultMs = bed.load.longestPauseMs
  // Those whose answers the client has not got by now, it believes, though it has.
  await bed.load.repeatAnswered()
  bed.load.resetPause()
  await mend()
  await bed.whole()
  await bed.served()
  return [{ row, faultMs, backMs: bed.load.longestPauseMs }]
}

async function cut(bed: Bed, link: string, state: Partial<LinkState>): Promise<void> {
  await bed.pair.order('/link', { pair: 'east', link, state: { ...WHOLE, ...state } })
}

const kill: Case = {
  name: 'kill',
  round: (bed, random) =>
    play(bed, random, {
      row: 'filer killed (-9)',
      moves: true,
      heldMs: 1000,
      begin: async (filer) => {
        await bed.pair.order('/hold', { filer: `east/${filer}` })
        await bed.signal(filer, 'SIGKILL')
        return () => bed.pair.order('/release', { filer: `east/${filer}` })
      },
    }),
}

/** When it goes on, it must not answer anything new, though it never learned that time passed. */
const hang: Case = {
  name: 'hang',
  round: (bed, random) =>
    play(bed, random, {
      row: 'filer stopped (SIGSTOP)',
      moves: true,
      heldMs: 2000,
      begin: async (filer) => {
        await bed.signal(filer, 'SIGSTOP')
        return () => bed.signal(filer, 'SIGCONT')
      },
    }),
}

const bothLinks: Case = {
  name: 'links',
  round: (bed, random) =>
    play(bed, random, {
      row: 'both links cut',
      heldMs: 2000,
      begin: async () => {
        for (const link of links) await cut(bed, link, { cut: filers })
        return () => bed.restoreLinks()
      },
    }),
}

const oneLink: Case = {
  name: 'link',
  round: (bed, random) => {
    const link = random.pick(links)
    return play(bed, random, {
      row: 'one of two links cut',
      heldMs: 2000,
      begin: async () => {
        await cut(bed, link, { cut: filers })
        return () => bed.restoreLinks()
      },
    })
  },
}

const flap: Case = {
  name: 'flap',
  round: (bed, random) => {
    const link = random.pick(links)
    return play(bed, random, {
      row: 'one of two links flapping at 10 Hz',
      heldMs: 4000,
      begin: async () => {
        await cut(bed, link, { flapMs: 50 })
        return () => bed.restoreLinks()
      },
    })
  },
}

const vote: Case = {
  name: 'vote',
  round: (bed, random) => {
    const silent = random.below(2) === 0
    return play(bed, random, {
      row: silent ? 'vote silent' : 'vote killed',
      heldMs: 3000,
      begin: async () => {
        await bed.signalVote(silent ? 'SIGSTOP' : 'SIGKILL')
        return async () => {
          if (silent) await bed.signalVote('SIGCONT')
        }
      },
    })
  },
}

const nothing = async (): Promise<void> => undefined

async function giveback(bed: Bed): Promise<void> {
  // The epoch that was decided upon may pass before the filers hear of it; it is said again then.
  for (const deadline = performance.now() + 60_000; bed.owner !== 'a';) {
    if (performance.now() > deadline) throw new Error('filer a did not get its volume back in 60 s')
    await bed.pair.tandem('giveback', 'east')
    await until('given back', 3000, () => bed.owner === 'a', 10).catch(nothing)
  }
}

async function takeover(bed: Bed, filer: string): Promise<void> {
  // Refused (75) until the pair's status says that it is possible.
  await until('a takeover is possible', 60_000, async () => {
    const { status, stderr } = await bed.pair.tandem('takeover', 'east', filer)
    if (status !== 0 && status !== 75) throw new Error(`tandem takeover: ${stderr}`)
    return status === 0
  })
}

/** Away from the filer that has the volume; and home, if that is away from home. */
const planned: Case = {
  name: 'planned',
  round: async (bed, random) => {
    const taken = await play(bed, random, {
      row: 'planned takeover',
      moves: true,
      heldMs: 500,
      begin: async (owner) => {
        await takeover(bed, owner)
        return nothing
      },
    })
    if (bed.owner === 'a') return taken
    const given = await play(bed, random, {
      row: 'giveback',
      heldMs: 500,
      begin: async () => {
        await giveback(bed)
        return nothing
      },
    })
    return [...taken, ...given]
  },
}

/** Who is not heard on which link; both directions of everything, one of everything, one of each. */
const partitions: readonly (readonly [readonly string[], readonly string[]])[] = [
  [filers, filers],
  [['a'], ['a']],
  [['b'], ['b']],
  [['a'], ['b']],
  [['b'], ['a']],
  [filers, ['a']],
  [['b'], filers],
]

const partition: Case = {
  name: 'partition',
  round: (bed, random) => {
    const silenced = random.pick(partitions)
    const silentVoteMs = random.below(3) === 0 ? random.below(1500) : 0
    return play(bed, random, {
      row: `partition${silentVoteMs > 0 ? ', vote silent at first' : ''}`,
      heldMs: 3000,
      begin: async () => {
        if (silentVoteMs > 0) await bed.signalVote('SIGSTOP')
        try {
          // In an order and at a distance of their own: links never fail at the same instant.
          for (const n of random.pick([
            [0, 1],
            [1, 0],
          ])) {
            await cut(bed, links[n]!, { cut: silenced[n]! })
            await sleep(random.below(200))
          }
          await sleep(silentVoteMs)
        } finally {
          if (silentVoteMs > 0) await bed.signalVote('SIGCONT')
        }
        return () => bed.restoreLinks()
      },
    })
  },
}

/** Of the serving filer, or of its partner. */
const full: Case = {
  name: 'full',
  roundsOfDisks: 5,
  round: (bed, random) => {
    const serving = random.below(2) === 0
    return play(bed, random, {
      row: `disk full at ${serving ? 'the serving filer' : 'its partner'}`,
      heldMs: 3000,
      begin: async (owner) => {
        const disk = bed.disks.get(filers.find((filer) => (filer === owner) === serving)!)!
        disk.fill()
        await bed.dropped()
        return async () => disk.clear()
      },
    })
  },
}

export const cases: readonly Case[] = [kill, hang, bothLinks, oneLink, flap, vote, planned, partition, full]
