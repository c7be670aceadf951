/**
 * Two filers, a vote, a network and clients in one simulated world; a checker of every client's history. The protocol is the
 * production code, the data a toy (toy-copy.ts).
 *
 * What the checker holds against a history, per register (values only grow, one client each):
 * - a read gives at least what was acknowledged before it began, and at least what any read before it gave (H1, H2, H6);
 * - a read never gives what nobody wrote.
 */
import { SimDevice, SimMedium } from '../../../sim/device.ts'
import type { SimProcess } from '../../../sim/world.ts'
import { World } from '../../../sim/world.ts'
import { DeviceError } from '../../env/device.ts'
import type { LogDevice } from '../../nvlog/log-device.ts'
import { scanLog } from '../../nvlog/scan.ts'
import { Mailbox } from '../mailbox.ts'
import type { BrokenBuild, PairTimes } from '../options.ts'
import { Pair } from '../pair.ts'
import { originOf } from '../side.ts'
import type { PairPolicy } from '../side-context.ts'
import { DEFAULT_POLICY } from '../side-context.ts'
import { SimVoteServer } from './sim-vote.ts'
import { SimWire } from './sim-wire.ts'
import { TOY_DEVICE_BLOCKS, ToyCopy } from './toy-copy.ts'

export const FILERS = ['a', 'b'] as const
export type FilerName = (typeof FILERS)[number]
export const other = (name: FilerName): FilerName => (name === 'a' ? 'b' : 'a')

const LOG_BLOCKS = 1 + 2 * 64

export class Violation extends Error {}

interface Media {
  readonly mailbox: SimMedium
  readonly logs: Record<string, SimMedium>
  readonly plexes: Record<string, SimMedium>
}

export interface SimFiler {
  readonly process: SimProcess
  pair: Pair | undefined
  readonly copies: Record<string, ToyCopy>
}

export interface HarnessOptions {
  readonly seed: number
  readonly broken?: BrokenBuild
  readonly times?: Partial<PairTimes>
  readonly sides?: readonly string[]
  readonly logBlocks?: number
  readonly durability?: 'Disk' | 'Memory'
  /** Milliseconds that a flush of a plex takes. */
  readonly plexFlushMs?: number
}

export class Harness {
  readonly world: World
  readonly vote: SimVoteServer
  readonly wire: SimWire
  readonly filers: Partial<Record<FilerName, SimFiler>> = {}
  readonly fatal: string[] = []
  readonly media: Record<FilerName, Media>
  readonly history: Register[] = []
  readonly #options: HarnessOptions
  readonly sides: readonly string[]
  rates: Record<FilerName, number> = { a: 1, b: 1 }
  policy: PairPolicy = DEFAULT_POLICY
  /** How often a first answer was given since a side was opened. */
  answered = 0
  /** Names of media whose next write fails. */
  readonly failing = new Set<string>()

  constructor(options: HarnessOptions) {
    this.#options = options
    this.world = new World(options.seed)
    this.vote = new SimVoteServer(this.world)
    this.wire = new SimWire(this.world)
    this.sides = options.sides ?? ['a']
    const make = (filer: FilerName): Media => ({
      mailbox: new SimMedium(`${filer}/mailbox`, 2),
      logs: this.#perSide((side) => new SimMedium(`${filer}/log-${side}`, options.logBlocks ?? LOG_BLOCKS)),
      plexes: this.#perSide((side) => new SimMedium(`${filer}/plex-${side}`, TOY_DEVICE_BLOCKS)),
    })
    this.media = { a: make('a'), b: make('b') }
  }

  #perSide<T>(make: (side: string) => T): Record<string, T> {
    return Object.fromEntries(this.sides.map((side) => [side, make(side)]))
  }

  get random() {
    return this.world.random
  }

  #device(process: SimProcess, medium: SimMedium, flushMs = 0.2): SimDevice {
    const random = process.random.fork()
    return new SimDevice(
      medium,
      {
        latencyMs: (what, blocks) => (what === 'flush' ? flushMs + random.between(0, 0.6) : 0.02 * blocks),
        onWrite: () => {
          if (this.failing.delete(medium.name)) throw new DeviceError('EIO', `${medium.name}: write failed`)
        },
      },
      process.env.clock,
    )
  }
  #logDevice(process: SimProcess, medium: SimMedium): LogDevice {
    const device = this.#device(process, medium)
    return {
      blocks: device.blocks,
      read: (block, into) => device.read(block, into),
      write: async (block, chunks) => {
        await device.write(block, chunks)
        await device.flush()
      },
    }
  }

  start(name: FilerName): void {
    const process = this.world.process(name, { rate: this.rates[name] })
    const media = this.media[name]
    const copies = this.#perSide(
      (side) =>
        new ToyCopy(
          `toy-${side}`,
          this.#device(process, media.plexes[side]!, this.#options.plexFlushMs),
          process.env.crc32,
        ),
    )
    const filer: SimFiler = { process, pair: undefined, copies }
    this.filers[name] = filer
    const connection = this.wire.connection(name, process)
    const run = async (): Promise<void> => {
      const mailbox = await Mailbox.open(process.env, this.#logDevice(process, media.mailbox), 'uid-1')
      filer.pair = new Pair({
        env: process.env,
        me: name,
        partner: other(name),
        pairUid: 'uid-1',
        mailbox,
        vote: this.vote.client(process),
        connection,
        sides: this.#perSide((side) => ({
          copy: copies[side]!,
          log: this.#logDevice(process, media.logs[side]!),
        })),
        hooks: {
          serving: () => undefined,
          stopped: () => undefined,
          answered: () => (this.answered += 1),
          fatal: (cause, error) => {
            if (!process.alive) return
            this.fatal.push(`${name} ${cause}: ${error instanceof Error ? error.stack : String(error)}`)
            if (this.filers[name] === filer) this.crash(name)
            else process.kill()
          },
        },
        policy: () => this.policy,
        ...(this.#options.durability === undefined ? {} : { durability: this.#options.durability }),
        times: { startGraceMs: 2000, resyncPauseMs: 200, ...this.#options.times },
        ...(this.#options.broken === undefined ? {} : { broken: this.#options.broken }),
      })
      await filer.pair.start()
    }
    run().catch((error: unknown) => {
      if (process.alive) this.world.fail(error)
    })
  }

  /** kill -9, or a power failure: what was not flushed is kept, lost or torn. */
  crash(name: FilerName): void {
    const filer = this.filers[name]
    if (!filer) return
    delete this.filers[name]
    filer.process.kill()
    const media = this.media[name]
    for (const medium of [media.mailbox, ...Object.values(media.logs), ...Object.values(media.plexes)]) {
      medium.crash(this.random)
    }
  }

  /**
   * Looks at the media of every copy that the record calls complete: each has a root and a log without a gap, and no root is ahead of a log (H2, H3).
   * A copy that counts must hold whenever its filer may die, so this may be asked at any moment.
   */
  async checkCopies(side = 'a'): Promise<void> {
    const record = this.record(side)
    if (!record) return
    const names = record.mirrored ? FILERS : ([record.owner] as FilerName[])
    const { crc32 } = this.world.process('checker').env
    const found: { name: string; root: number; content: number }[] = []
    for (const name of names) {
      const plex = new SimDevice(this.media[name].plexes[side]!.copy())
      const inspection = await new ToyCopy(`toy-${side}`, plex, crc32).inspect()
      if (inspection.state !== 'Complete') {
        throw new Violation(`${name} counts as complete, and its plex is ${inspection.message} (H3)`)
      }
      const { covers, epoch } = inspection.roots[0]!
      const log = new SimDevice(this.media[name].logs[side]!.copy())
      const scan = await scanLog(log, originOf(crc32, 'uid-1', side), crc32, covers, epoch)
      if (!scan.ok)
        throw new Violation(`${name} counts as complete, and its log is damaged: ${scan.message} (H3)`)
      found.push({ name, root: covers, content: scan.tail.lastSeq })
    }
    for (const one of found) {
      for (const two of found) {
        if (one.content >= two.root) continue
        throw new Violation(
          `the root of ${two.name} covers ${two.root}, ${one.name} has records to ${one.content} (H3)`,
        )
      }
    }
  }

  serving(side = 'a'): FilerName[] {
    return FILERS.filter((name) => this.filers[name]?.pair?.sides.get(side)?.serving)
  }
  record(side = 'a') {
    return this.vote.record?.sides[side]
  }
  isGood(side = 'a'): boolean {
    const record = this.record(side)
    if (!record?.mirrored) return false
    return FILERS.every((name) => {
      const one = this.filers[name]?.pair?.sides.get(side)
      return one?.record?.epoch === record.epoch && one.serving === (record.owner === name)
    })
  }
  async untilGood(limitMs = 30_000, side = 'a'): Promise<void> {
    await this.world.until(() => this.isGood(side), limitMs, `side ${side} served and mirrored (H10)`)
  }

  client(key: string, at: FilerName = 'a', side = 'a'): Register {
    const register = new Register(this, key, side, at)
    this.history.push(register)
    return register
  }
  /** The last things that happened and how the sides stand: for a failed run. */
  describe(lines = 30): string {
    const log = this.world.lines
      .slice(-lines)
      .map(
        (line) => `${line.at.toFixed(1)} ${line.process} ${line.event} ${JSON.stringify(line.fields ?? {})}`,
      )
    const sides = FILERS.map((name) => {
      const side = this.filers[name]?.pair?.sides.get('a')
      if (!side) return `${name}: down`
      const { owner, record, decision, mail, resync } = side
      const log = owner?.log
      const facts = {
        record,
        state: mail.state,
        serving: side.serving,
        decision,
        resync,
        waiting: owner?.waiting,
      }
      const more = {
        cp: owner?.cpRunning,
        last: log?.lastSeq,
        durable: log?.durable,
        fill: log?.fill,
        free: log?.halfIsFree,
        lease: side.lease.valid(this.filers[name]!.process.env.clock.now()),
        trouble: owner?.partnership?.trouble,
        slow: owner?.partnership?.slowMs(),
      }
      return `${name}: ${JSON.stringify({ ...facts, ...more })}`
    })
    return [...log, ...sides, `vote ${JSON.stringify(this.vote.record)}`].join('\n')
  }

  /** Every client has its answers, and what was acknowledged is there. */
  async finish(limitMs = 30_000): Promise<void> {
    for (const client of this.history) client.stop()
    await this.world.until(
      () => this.history.every((client) => client.idle),
      limitMs,
      'clients answered (H10)',
    )
    for (const client of this.history) await this.world.wait(client.readOnce(), limitMs, 'last read')
  }
}

/** One client: writes growing values to one register, reads it, goes to the other filer when it gets no answer. */
export class Register {
  readonly #harness: Harness
  readonly #key: string
  readonly #side: string
  #attempted = 0
  #acknowledged = 0
  #seen = 0
  #running = false
  #stopped = true
  #at: FilerName
  acknowledgedCount = 0
  longestGapMs = 0
  #lastAnswer = 0

  constructor(harness: Harness, key: string, side: string, at: FilerName) {
    this.#at = at
    this.#harness = harness
    this.#key = key
    this.#side = side
  }

  get idle(): boolean {
    return !this.#running
  }
  stop(): void {
    this.#stopped = true
  }

  run(): void {
    this.#stopped = false
    if (this.#running) return
    this.#running = true
    this.#lastAnswer = this.#harness.world.now
    void this.#loop().catch((error: unknown) => this.#harness.world.fail(error))
  }

  /** Another client that only reads, wherever it is given an answer: it must not see less than any other was shown before. */
  watch(): void {
    void this.#watch().catch((error: unknown) => this.#harness.world.fail(error))
  }
  async #watch(): Promise<void> {
    const { random } = this.#harness
    while (!this.#stopped) {
      await this.readOnce(random.pick(FILERS))
      await this.#sleep(random.between(0, 5))
    }
  }

  async #loop(): Promise<void> {
    const { random } = this.#harness
    while (!this.#stopped) {
      if (random.chance(0.5)) await this.writeOnce()
      else await this.readOnce()
      await this.#sleep(random.between(0, 2))
    }
    this.#running = false
  }

  async writeOnce(): Promise<void> {
    const value = ++this.#attempted
    await this.#call((store) => store.write(this.#key, value))
    this.#acknowledged = value
    this.acknowledgedCount += 1
  }

  async readOnce(at?: FilerName): Promise<void> {
    const [acknowledged, seen] = [this.#acknowledged, this.#seen]
    const value = await this.#call((store) => store.read(this.#key), at)
    if (value === undefined) return
    if (value < acknowledged) this.#violated(`read ${value}, acknowledged before ${acknowledged} (H2)`)
    if (value < seen) this.#violated(`read ${value}, read before ${seen} (H6)`)
    if (value > this.#attempted) this.#violated(`read ${value}, written at most ${this.#attempted}`)
    this.#seen = Math.max(this.#seen, value)
  }

  #violated(what: string): never {
    throw new Violation(
      `seed ${this.#harness.world.seed} at ${this.#harness.world.now}: ${this.#key}: ${what}`,
    )
  }
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#harness.world.after(ms, resolve))
  }

  /** With `only`, one try there; undefined without an answer. */
  async #call<T>(task: (store: ToyStoreLike) => Promise<T>, only?: FilerName): Promise<T | undefined> {
    const { world } = this.#harness
    for (;;) {
      const filer = this.#harness.filers[only ?? this.#at]
      const side = filer?.pair?.sides.get(this.#side)
      const store = filer?.copies[this.#side]?.store
      if (filer && store && side?.opened) {
        const outcome = await new Promise<{ value: T } | undefined>((resolve) => {
          world.after(300, () => resolve(undefined))
          // An answer of a dead process goes nowhere.
          task(store).then(
            (value) => resolve(filer.process.alive ? { value } : undefined),
            () => resolve(undefined),
          )
        })
        if (outcome) {
          if (only) return outcome.value
          this.longestGapMs = Math.max(this.longestGapMs, world.now - this.#lastAnswer)
          this.#lastAnswer = world.now
          return outcome.value
        }
      } else await this.#sleep(5)
      if (only) return undefined
      if (this.#harness.random.chance(0.5)) this.#at = other(this.#at)
    }
  }
}

/** A pair in its best state, and clients at work. */
export async function settled(options: HarnessOptions, clients = 3): Promise<Harness> {
  const h = new Harness(options)
  h.start('a')
  h.start('b')
  await h.untilGood()
  for (let n = 0; n < clients; n++) h.client(`r${n}`).run()
  await h.world.run(50)
  return h
}

interface ToyStoreLike {
  write(key: string, value: number): Promise<void>
  read(key: string): Promise<number>
}
