/**
 * Pairs with mirrors between them: a ring of n pairs, each of which mirrors the volume of its side `a` to the next one, or a star, whose first pair has many volumes that the others mirror,
 * under load and faults. What must hold at any moment is looked at behind every event (mirror-check.ts). At the end mirrors are broken, and every client
 * goes on at the destination: what it was told there must be there, byte by byte.
 */
import { Caller, SideAnswers, Violation } from './caller.ts'
import { Client } from './client.ts'
import type { DesiredMirror, DesiredVolume } from '../core/filer/served-volumes.ts'
import type { MirrorStatus } from '../core/mirror/status.ts'
import type { SourceLimits } from '../core/mirror/source-host.ts'
import type { BrokenBuild } from '../core/pair/options.ts'
import { FilerPair } from './filer-pair.ts'
import type { Edge } from './mirror-check.ts'
import { MirrorChecks } from './mirror-check.ts'
import { describePair } from './describe.ts'
import { FILERS } from './names.ts'
import { problemsOf, untilEqual } from './pair-check.ts'
import { failureOf } from './run-result.ts'
import type { RunResult } from './run-result.ts'
import type { Scenario } from './scenario.ts'
import { Player, SETTLE_MS } from './scenario.ts'

export interface RingOptions {
  readonly seed: number
  readonly pairs: number
  /** False: a chain, the last one mirrors nothing. */
  readonly closed: boolean
  /** A star: so many volumes of the first pair are mirrored to the others, one after the other. */
  readonly volumes?: number
  /** The volumes that are mirrored are traditional ones at first, to be converted. */
  readonly traditional?: boolean
  readonly clients: number
  readonly logBlocks?: number
  readonly cacheBytes?: number
  /** The same pairs, volumes and clients without the mirrors: what is measured beside them. */
  readonly unmirrored?: boolean
  readonly limits?: Partial<SourceLimits>
  readonly broken?: BrokenBuild
}

/** What is wanted of a mirror. `reversed`: its destination is the volume that it began with as the source. */
export interface Way extends Pick<DesiredMirror, 'state' | 'policy' | 'discardChanges'> {
  readonly reversed: boolean
}

const VOLUME_BYTES = 8 * 2 ** 20

/** A volume beside those that every pair has. */
export const volumeOf = (id: string, path: string): DesiredVolume => ({
  id,
  name: path.slice(1),
  type: 'Flexible',
  aggregate: 'aggr-a',
  sizeBytes: VOLUME_BYTES,
  export: { path, rules: [{ clients: ['*'], access: 'ReadWrite', squash: 'None' }] },
  state: 'Present',
})

export class MirrorRing {
  readonly pairs: readonly FilerPair[]
  readonly edges: readonly Edge[]
  readonly checks: MirrorChecks
  readonly clients: readonly (readonly Client[])[]
  readonly #options: RingOptions

  constructor(options: RingOptions) {
    this.#options = options
    const pairs: FilerPair[] = []
    for (let n = 0; n < options.pairs; n++) {
      const first = pairs[0]
      pairs.push(
        new FilerPair({
          seed: options.seed,
          deviceBlocks: [12_000],
          volumeBytes: VOLUME_BYTES,
          logBlocks: options.logBlocks ?? 1 + 2 * 256,
          cacheBytes: options.cacheBytes ?? 16 << 20,
          givebackDelayMs: 2000,
          ...(options.traditional === true ? { traditionalBlocks: [1500], emptyBlocks: 3000 } : {}),
          ...(first === undefined ? {} : { beside: { pair: first, name: `p${n + 1}` } }),
          ...(options.broken === undefined ? {} : { broken: options.broken }),
          ...(options.limits === undefined ? {} : { mirrorLimits: options.limits }),
        }),
      )
    }
    this.pairs = pairs
    for (const pair of pairs) for (const one of pairs) if (one !== pair) pair.neighbours.add(one)
    this.edges = this.#edges()
    this.checks = new MirrorChecks(this, options.limits)
    this.world.watch(() => this.checks.look())
    this.clients = this.edges.map(({ home, path }, n) => {
      const answers = new SideAnswers()
      const peers: Client[] = []
      for (let k = 0; k < options.clients; k++) {
        const client = new Client(new Caller(home, 'a', `m${n}-${k}`, answers), path, peers)
        client.pauseMs = 4
        peers.push(client)
      }
      return peers
    })
  }

  get world() {
    return this.pairs[0]!.world
  }

  #edges(): readonly Edge[] {
    const { pairs } = this
    const { closed, volumes } = this.#options
    if (volumes === undefined)
      return (closed ? pairs : pairs.slice(0, -1)).map((home, n) => ({
        home,
        away: pairs[(n + 1) % pairs.length]!,
        volumeId: this.#options.traditional === true ? 'volume-ta' : home.volumeId('a'),
        path: this.#options.traditional === true ? '/ta' : '/a',
      }))
    const [home, ...others] = pairs
    return Array.from({ length: volumes }, (_, n) => ({
      home: home!,
      away: others[n % others.length]!,
      volumeId: `star-${n}`,
      path: `/star-${n}`,
    }))
  }

  /** Mirrors that were not broken. */
  get whole(): readonly number[] {
    if (this.#options.unmirrored === true) return []
    return this.edges.map((_, n) => n).filter((n) => this.wayOf(n).state === 'Mirrored')
  }
  destinationOf(n: number): FilerPair {
    return this.edges[n]!.away
  }

  /** Volumes of a pair beside those that every pair has. */
  #volumesOf(pair: FilerPair): DesiredVolume[] {
    return this.edges.flatMap(({ home, away, volumeId, path }, n) => [
      ...(pair === home && this.#options.volumes !== undefined ? [volumeOf(volumeId, path)] : []),
      ...(pair === away ? [volumeOf(`copy-${n}`, `/copy-${n}`)] : []),
    ])
  }

  #mirrorsOf(pair: FilerPair): DesiredMirror[] {
    return this.edges.flatMap(({ home, away, volumeId }, n): DesiredMirror[] => {
      if (this.#options.unmirrored === true || (pair !== home && pair !== away)) return []
      const { reversed, ...way } = this.wayOf(n)
      const other = pair === home ? away : home
      return [
        {
          id: `m${n}`,
          role: (pair === home) === reversed ? 'Destination' : 'Source',
          volumeId: pair === home ? volumeId : `copy-${n}`,
          peers: FILERS.map((name) => other.nameOf(name)),
          ...way,
        },
      ]
    })
  }

  wayOf(n: number): Way {
    return this.#ways.get(n) ?? { reversed: false, state: 'Mirrored' }
  }

  /** What the operator wants of a mirror: told to the pairs at both ends. */
  order(n: number, change: Partial<Way>): void {
    this.#ways.set(n, { ...this.wayOf(n), ...change })
    for (const pair of [this.edges[n]!.home, this.destinationOf(n)])
      pair.mirror(this.#mirrorsOf(pair)).catch((error: unknown) => this.world.fail(error))
  }

  /** The pair that is to be the source of mirror n, and the other one. */
  sourceOf(n: number): FilerPair {
    return this.wayOf(n).reversed ? this.destinationOf(n) : this.edges[n]!.home
  }
  targetOf(n: number): FilerPair {
    return this.wayOf(n).reversed ? this.edges[n]!.home : this.destinationOf(n)
  }

  /** What a pair says of its end of mirror n. */
  statusAt(pair: FilerPair, n: number): MirrorStatus | undefined {
    const filer = pair.running[pair.ownerOf('a')]?.filer
    return filer?.mirrors.status().find(({ id }) => id === `m${n}`)
  }

  /** The ends change places; clients go to where the volume is served then. */
  async reverse(n: number): Promise<void> {
    this.order(n, { reversed: !this.wayOf(n).reversed })
    await this.reversed(n)
  }

  /** The source of mirror n is where it is wanted, and in sync. */
  async reversed(n: number): Promise<void> {
    await this.#moved(n)
    await this.untilInSync()
  }

  /** Source of mirror n and its clients are where it is to be. */
  async #moved(n: number): Promise<void> {
    const source = this.sourceOf(n)
    await this.world.until(
      () => this.statusAt(source, n)?.role === 'Source',
      SETTLE_MS,
      `mirror ${n} has its source at ${source.uid}`,
    )
    for (const client of this.clients[n]!) client.caller.move(source, 'a')
  }

  /** Broken while both pairs are well, and nobody writes. */
  async part(n: number): Promise<void> {
    await this.verify(n)
    await this.break(n)
    for (const client of this.clients[n]!) client.run()
  }

  /** Its destination serves; clients go there. */
  async untilBroken(n: number): Promise<void> {
    const target = this.targetOf(n)
    await this.world.until(
      () => this.statusAt(target, n)?.state === 'Broken' && this.serves(target, n),
      SETTLE_MS,
      `mirror ${n} broken`,
    )
    for (const client of this.clients[n]!) client.caller.move(target, 'a')
  }

  /** Clients of an end of mirror n find its volume there. */
  serves(pair: FilerPair, n: number): boolean {
    const { home, path: own } = this.edges[n]!
    const path = pair === home ? own : `/copy-${n}`
    const served = pair.running[pair.ownerOf('a')]?.filer?.volumes.served() ?? []
    return [...served].some(({ export: one }) => one.path === path)
  }

  async start(): Promise<void> {
    for (const pair of this.pairs) {
      pair.mirrors = this.#mirrorsOf(pair)
      pair.copies = [...pair.copies, ...this.#volumesOf(pair)]
      for (const name of FILERS) pair.start(name)
    }
    for (const pair of this.pairs) await pair.untilGood(SETTLE_MS)
    for (const client of this.clients.flat()) client.run()
  }

  /** Of the source. */
  status(n: number): MirrorStatus | undefined {
    const status = this.statusAt(this.sourceOf(n), n)
    return status?.role === 'Source' ? status : undefined
  }

  async untilInSync(limitMs = SETTLE_MS): Promise<void> {
    await this.world.until(
      () => this.whole.every((n) => this.status(n)?.state === 'InSync'),
      limitMs,
      'all mirrors in sync',
    )
  }

  readonly #ways = new Map<number, Way>()

  peace(): void {
    for (const pair of this.pairs) pair.peace()
  }

  async untilGood(): Promise<void> {
    for (const pair of this.pairs) await pair.untilGood(SETTLE_MS)
  }

  /** The whole source pair of mirror n is lost, at this instant. */
  lose(n: number): void {
    for (const name of FILERS) this.sourceOf(n).crash(name, true)
  }

  /** Breaks mirror n; its clients go on at the destination. */
  async break(n: number): Promise<void> {
    this.order(n, { state: 'Broken' })
    await this.untilBroken(n)
  }

  async verify(n: number): Promise<void> {
    const clients = this.clients[n]!
    for (const client of clients) client.stop()
    await this.world.until(() => clients.every((client) => client.idle), SETTLE_MS, 'clients answered')
    for (const client of clients) await this.world.wait(client.verify(), SETTLE_MS, 'last reads')
  }

  get operations(): number {
    return this.clients.flat().reduce((sum, { caller }) => sum + caller.operations, 0)
  }

  describe(): string {
    const mirrors = this.edges.map((_, n) => `mirror ${n}: ${JSON.stringify(this.status(n))}`)
    return [
      describePair(this.pairs[0]!, 80),
      ...this.pairs.slice(1).map((pair) => describePair(pair, 0)),
      ...mirrors,
    ].join('\n')
  }
}

/** Steps of scenarios with several pairs: `on PAIR STEP …` is done at one of them, numbered from 1. */
class RingPlayer {
  readonly #ring: MirrorRing
  readonly #players: readonly Player[]

  constructor(ring: MirrorRing) {
    this.#ring = ring
    this.#players = ring.pairs.map((pair) => new Player(pair))
  }

  play(scenario: Scenario): Promise<void> {
    return this.#players[0]!.play(scenario.steps, (verb, words) => this.#step(verb, words))
  }

  #index(word: string | undefined, of: readonly number[]): number {
    if (word === 'any') return this.#ring.world.random.pick(of)
    const index = Number(word) - 1
    if (!of.includes(index)) throw new Error(`there is no ${word ?? 'number'}: 1 to ${of.length}, or any`)
    return index
  }

  async #step(verb: string, words: readonly string[]): Promise<void> {
    const ring = this.#ring
    switch (verb) {
      case 'on': {
        const pair = this.#index(
          words[0],
          ring.pairs.map((_, n) => n),
        )
        return this.#players[pair]!.step(words[1]!, words.slice(2))
      }
      case 'sync':
        return ring.untilInSync()
      case 'lose-pair':
        return ring.lose(this.#index(words[0], ring.whole))
      case 'break': {
        const n = this.#index(words[0], ring.whole)
        ring.lose(n)
        return ring.break(n)
      }
      case 'part':
        return ring.part(this.#index(words[0], ring.whole))
      case 'reverse':
        return ring.reverse(this.#index(words[0], ring.whole))
      case 'peace':
        return ring.peace()
      case 'settle':
        ring.peace()
        return ring.untilGood()
      default:
        return this.#players[0]!.step(verb, words)
    }
  }
}

/** One run of a scenario with `option pairs N` and `option mirrors chain` or `ring`. */
export async function simulateMirrors(
  scenario: Scenario,
  seed: number,
  broken?: BrokenBuild,
): Promise<RunResult> {
  const number = (name: string, otherwise: number): number => Number(scenario.options.get(name) ?? otherwise)
  const ring = new MirrorRing({
    seed,
    pairs: number('pairs', 2),
    closed: scenario.options.get('mirrors') === 'ring',
    clients: number('clients', 2),
    ...(broken === undefined ? {} : { broken }),
  })
  let failure: RunResult['failure']
  try {
    await ring.start()
    await ring.untilInSync()
    await new RingPlayer(ring).play(scenario)
    await end(ring)
    ring.checks.ended()
  } catch (error) {
    failure = failureOf(error, ring.describe())
  }
  const callers = ring.clients.flat().map(({ caller }) => caller)
  const { world } = ring
  return {
    operations: ring.operations,
    repeated: callers.reduce((sum, { repeated }) => sum + repeated, 0),
    refused: 0,
    crashes: ring.pairs.reduce((sum, { crashes }) => sum + crashes, 0),
    damage: 0,
    takeovers: ring.pairs.reduce((sum, { vote }) => sum + vote.history.length, 0),
    virtualMs: world.now,
    struck: undefined,
    traceHash: world.traceHash,
    failure,
  }
}

/**
 * Peace: all pairs are well, every mirror that is not broken is in sync again; then the source of one is lost with whatever it has not flushed, and its destination must have all that was
 * acknowledged. At last the images of all filers are consistent and equal.
 */
async function end(ring: MirrorRing): Promise<void> {
  ring.peace()
  await ring.untilGood()
  await ring.untilInSync()
  const n = ring.whole.length > 0 ? ring.world.random.pick(ring.whole) : undefined
  if (n !== undefined) {
    ring.lose(n)
    await ring.break(n)
    await ring.world.run(300)
  }
  for (const at of ring.clients.keys()) await ring.verify(at)
  // The old source comes back: it is told that its mirror was broken, and changes nothing any more (B9).
  ring.peace()
  await ring.untilGood()
  if (n !== undefined) {
    await ring.world.until(
      () => ring.statusAt(ring.sourceOf(n), n)?.state === 'Broken',
      SETTLE_MS,
      'the old source knows of the break',
    )
  }
  for (const at of ring.clients.keys()) await ring.verify(at)
  for (const pair of ring.pairs) {
    await untilEqual(pair, SETTLE_MS)
    const problems = await problemsOf(pair)
    if (problems.length > 0) throw new Violation(`${pair.uid} at rest: ${problems.slice(0, 10).join('; ')}`)
  }
}
