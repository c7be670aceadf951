/**
 * Scenarios: readable text, one step a line, run against a pair (docs/testing.md lists the steps).
 *
 *     option clients 4
 *     repeat 3
 *       run 200..900
 *       crash owner a
 *       pick
 *         run 0..500
 *       or
 *         settle
 *       end
 *       start all
 *     end
 *
 * A duration or number may be a range; the world's chance picks. Whom: a, b, all, any, victim, `owner SIDE`, `standby SIDE`.
 */
import type { FilerPair } from './filer-pair.ts'
import type { FilerName, SideName } from './names.ts'
import { FILERS, LINKS, other } from './names.ts'
import { checkDown, mend } from './pair-check.ts'

/** The power of the second (the first, if there is none) fails at a moment of the first, while the body is played. */
interface Stretch {
  readonly verb: 'at-every'
  readonly words: readonly string[]
  readonly body: readonly Step[]
  readonly line: number
}

export type Step =
  | Stretch
  | { readonly verb: string; readonly words: readonly string[]; readonly line: number }
  | { readonly verb: 'repeat'; readonly times: string; readonly body: readonly Step[]; readonly line: number }
  | { readonly verb: 'pick'; readonly ways: readonly (readonly Step[])[]; readonly line: number }

export interface Scenario {
  readonly name: string
  readonly options: ReadonlyMap<string, string>
  readonly steps: readonly Step[]
}

const ARGUMENTS: Readonly<Record<string, readonly [number, number]>> = {
  run: [1, 1],
  crash: [1, 2],
  vanish: [1, 2],
  'crash-in': [2, 3],
  start: [1, 2],
  pause: [1, 2],
  resume: [1, 2],
  rate: [2, 3],
  cut: [1, 1],
  silence: [1, 2],
  slow: [2, 3],
  thin: [2, 2],
  heal: [0, 1],
  disks: [2, 3],
  vote: [1, 3],
  giveback: [1, 1],
  grow: [1, 2],
  replace: [1, 2],
  rot: [2, 3],
  'rot-log': [2, 3],
  'rot-root': [1, 2],
  'rot-label': [1, 2],
  unreadable: [2, 3],
  lose: [2, 3],
  misdirect: [2, 3],
  'lose-log': [2, 3],
  scrub: [0, 0],
  cp: [1, 1],
  'check-down': [0, 0],
  convert: [2, 2],
  converted: [1, 1],
  undone: [1, 1],
  clients: [1, 1],
  on: [2, 6],
  sync: [0, 0],
  'lose-pair': [1, 1],
  part: [1, 1],
  reverse: [1, 1],
  break: [1, 1],
  settle: [0, 0],
  peace: [0, 0],
}

export function parseScenario(name: string, text: string): Scenario {
  const options = new Map<string, string>()
  const lines = text
    .split('\n')
    .map((line, n) => ({ words: line.replace(/#.*/, '').trim().split(/\s+/), line: n + 1 }))
  let at = 0
  const wrong = (line: number, what: string): never => {
    throw new Error(`scenario ${name}, line ${line}: ${what}`)
  }
  const block = (ends: readonly string[], from: number): { steps: Step[]; end: string } => {
    const steps: Step[] = []
    for (;;) {
      const next = lines[at++]
      if (!next) return ends.length === 0 ? { steps, end: '' } : wrong(from, 'has no end')
      const [verb = '', ...words] = next.words
      const { line } = next
      if (verb === '') continue
      if (ends.includes(verb)) return { steps, end: verb }
      if (verb === 'option') options.set(words[0] ?? '', words.slice(1).join(' '))
      else if (verb === 'repeat')
        steps.push({ verb, times: words[0] ?? '1', body: block(['end'], line).steps, line })
      else if (verb === 'at-every') {
        if (words.length < 1 || words.length > 2) wrong(line, 'at-every: wrong words')
        steps.push({ verb, words, body: block(['end'], line).steps, line })
      } else if (verb === 'pick') {
        const ways: Step[][] = []
        for (;;) {
          const way = block(['or', 'end'], line)
          ways.push(way.steps)
          if (way.end === 'end') break
        }
        steps.push({ verb, ways, line })
      } else {
        const bounds = ARGUMENTS[verb]
        if (!bounds) wrong(line, `no step ${verb}`)
        else if (words.length < bounds[0] || words.length > bounds[1]) wrong(line, `${verb}: wrong words`)
        steps.push({ verb, words, line })
      }
    }
  }
  return { name, options, steps: block([], 0).steps }
}

/** Of a device that `grow` adds. */
const GROWTH_BLOCKS = 1500

/** Milliseconds after which a pair without faults must be served and mirrored again (H10). */
export const SETTLE_MS = 60_000

/** Moments among which chance picks one, when a run is not told which. */
const SOME_MOMENT = 600

/** The scenario has a stretch of which every moment can be visited. */
export function hasMoments(steps: readonly Step[]): boolean {
  return steps.some((step) => step.verb === 'at-every')
}

/** What clients do all at once; each resolves when they have. */
export interface ClientOrders {
  readonly stop: () => Promise<void>
  readonly go: () => Promise<void>
  /** Everything that they know of, while they are stopped. */
  readonly read: () => Promise<void>
}

export interface PlayOptions {
  /** Of the stretch `at-every`, at which the power fails; else chance picks one. */
  readonly moment: number | undefined
  readonly clients: ClientOrders
}

export class Player {
  readonly #pair: FilerPair
  readonly #options: PlayOptions | undefined

  constructor(pair: FilerPair, options?: PlayOptions) {
    this.#pair = pair
    this.#options = options
  }

  /** `act` does a step; this pair, if nothing else is said. */
  async play(
    steps: readonly Step[],
    act = (verb: string, words: readonly string[]): Promise<void> => this.step(verb, words),
  ): Promise<void> {
    for (const step of steps) {
      if ('body' in step && 'words' in step) await this.#stretch(step)
      else if ('times' in step) {
        for (let n = Math.round(this.#number(step.times)); n > 0; n--) await this.play(step.body, act)
      } else if ('ways' in step) await this.play(this.#pair.world.random.pick(step.ways), act)
      else await act(step.verb, step.words)
    }
  }

  async #stretch({ words, body }: Stretch): Promise<void> {
    const { power, world } = this.#pair
    const [counted = ''] = words
    power.begin(
      this.#whom([counted])[0]!,
      this.#whom([words[1] ?? counted]),
      this.#options?.moment ?? 1 + world.random.below(SOME_MOMENT),
    )
    await this.play(body)
    power.end()
  }

  #number(text: string): number {
    const [low = '', high] = text.split('..')
    const from = Number(low)
    const to = high === undefined ? from : Number(high)
    if (Number.isNaN(from) || Number.isNaN(to)) throw new Error(`${text} is no number or range`)
    return from === to ? from : this.#pair.world.random.between(from, to)
  }

  #whom([who, side]: readonly string[]): readonly FilerName[] {
    const pair = this.#pair
    switch (who) {
      case 'all':
        return FILERS
      case 'any':
        return [pair.world.random.pick(FILERS)]
      case 'owner':
        return [pair.ownerOf(side as SideName)]
      case 'standby':
        return [other(pair.ownerOf(side as SideName))]
      case 'a':
      case 'b':
        return [who]
      case 'victim':
        return [pair.damage.on(pair.world.random.pick(FILERS))]
      default:
        throw new Error(`whom is ${who ?? 'nobody'}?`)
    }
  }

  #links(which: string | undefined): readonly string[] {
    return which === undefined || which === 'all'
      ? LINKS
      : [which === 'any' ? this.#pair.world.random.pick(LINKS) : which]
  }

  async step(verb: string, words: readonly string[]): Promise<void> {
    const pair = this.#pair
    const { world, network } = pair
    world.note(`${verb} ${words.join(' ')}`)
    const [first = '', ...rest] = words
    switch (verb) {
      case 'run':
        return world.run(this.#number(first))
      case 'crash':
        return this.#whom(words).forEach((name) => pair.crash(name))
      case 'vanish':
        return this.#whom(words).forEach((name) => pair.crash(name, true))
      case 'crash-in':
        for (const name of this.#whom(rest)) pair.power.failsAfter(Math.ceil(this.#number(first)), name)
        return
      case 'start':
        return this.#whom(words).forEach((name) => pair.start(name))
      case 'pause':
        return this.#whom(words).forEach((name) => pair.running[name]?.process.pause())
      case 'resume':
        return this.#whom(words).forEach((name) => pair.running[name]?.process.resume())
      case 'rate':
        for (const name of this.#whom(rest)) {
          pair.rates[name] = this.#number(first)
          pair.running[name]?.process.setRate(pair.rates[name])
        }
        return
      case 'cut':
        return this.#links(first).forEach((link) => network.cut(link))
      case 'silence':
        for (const link of this.#links(first))
          network.silence(link, rest.length > 0 ? this.#whom(rest)[0] : undefined)
        return
      case 'slow':
        for (const link of this.#links(first)) {
          const delayMs = this.#number(rest[0] ?? '')
          network.delay(link, delayMs, delayMs)
        }
        return
      case 'thin':
        for (const link of this.#links(first)) network.bandwidth(link, this.#number(rest[0] ?? ''))
        return
      case 'heal':
        for (const link of this.#links(words[0])) {
          network.bandwidth(link, 0)
          network.heal(link)
        }
        return
      case 'disks':
        for (const name of this.#whom(rest)) pair.slowness[name] = this.#number(first)
        return
      case 'vote':
        return this.#vote(first, rest)
      case 'giveback':
        return this.#giveback(first as SideName)
      case 'replace':
        pair.peace()
        await pair.untilGood(SETTLE_MS)
        return this.#whom(words).forEach((name) => pair.replace(name))
      case 'cp':
        return pair.running[pair.ownerOf(first as SideName)]?.filer?.pair.sides.get(first)?.owner?.wantCp()
      case 'check-down':
        return checkDown(pair)
      case 'convert':
        return pair.convert(first as SideName, rest[0] as 'Converted')
      case 'converted':
        // A conversion that is not complete on time fails the run.
        return world.until(
          () => pair.conversionOf(first as SideName)?.phase === 'Complete',
          SETTLE_MS,
          'conversion complete',
        )
      case 'undone':
        return world.until(
          () => pair.conversionOf(first as SideName)?.phase === 'RolledBack',
          SETTLE_MS,
          'conversion undone',
        )
      case 'clients': {
        const order = this.#options?.clients[first as keyof ClientOrders]
        if (order === undefined) throw new Error(`clients ${first}?`)
        return order()
      }
      case 'grow':
        return this.#grow(first as SideName, rest[0] === 'empty' ? 'empty' : 'device')
      case 'rot':
      case 'rot-log':
      case 'unreadable':
      case 'lose':
      case 'misdirect':
      case 'lose-log':
        return this.#damage(verb, this.#number(first), this.#whom(rest)[0]!)
      case 'rot-root':
        return pair.damage.rotRoots(this.#whom(words)[0]!)
      case 'rot-label':
        return pair.damage.rotLabels(this.#whom(words)[0]!)
      case 'scrub':
        pair.peace()
        return mend(pair, SETTLE_MS)
      case 'peace':
        return pair.peace()
      case 'settle':
        pair.peace()
        return pair.untilGood(SETTLE_MS)
      default:
        throw new Error(`${verb} is a step for pairs with mirrors: option pairs`)
    }
  }

  #damage(verb: string, amount: number, whom: FilerName): void {
    const { damage } = this.#pair
    if (verb === 'rot') damage.rot(whom, Math.round(amount))
    else if (verb === 'rot-log') damage.rotLog(whom, Math.round(amount))
    else if (verb === 'unreadable') damage.unreadable(whom, Math.round(amount))
    else {
      damage.on(whom)
      if (verb === 'lose') damage.lose = amount
      else if (verb === 'misdirect') damage.misdirect = amount
      else damage.loseLog = amount
    }
  }

  #vote(how: string, rest: readonly string[]): void {
    const { vote } = this.#pair
    if (how === 'silent') {
      if (rest.length === 0) vote.silent = true
      for (const name of rest.length === 0 ? [] : this.#whom(rest)) vote.silentFor.add(name)
    } else if (how === 'late') {
      vote.late = this.#number(rest[0] ?? '1')
      vote.lateMs = this.#number(rest[1] ?? '3000')
    } else if (how === 'deleted' || how === 'older' || how === 'foreign') vote.lose(how)
    else if (how === 'lossy') vote.loseAnswer = this.#number(rest[0] ?? '0.5')
    else if (how === 'well') {
      vote.silent = false
      vote.silentFor.clear()
      vote.late = 0
      vote.loseAnswer = 0
    } else throw new Error(`vote ${how}?`)
  }

  /** A device more for a side: both filers are renewed with it, one after the other, each when both sides are well. */
  async #grow(side: SideName, what: 'device' | 'empty'): Promise<void> {
    const pair = this.#pair
    pair.add(side, what, GROWTH_BLOCKS)
    for (const name of FILERS) {
      pair.peace()
      await pair.untilGood(SETTLE_MS)
      await pair.renew(name, SETTLE_MS)
    }
  }

  /** Asked and not waited for: what happens meanwhile is the scenario's. */
  #giveback(side: SideName): void {
    const owner = this.#pair.ownerOf(side)
    void this.#pair.running[owner]?.filer?.move(side, 0)
  }
}
