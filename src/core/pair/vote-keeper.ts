/**
 * Changes of the vote, with the outcomes that a lost or late answer leaves open.
 *
 * A swap without an answer is *undecided*: it may be applied later even if a read still shows the old record, until a read shows
 * another version (then a swap on the old version can never succeed, so it either was applied, which the record shows, or is dead).
 * Until then it is repeated or superseded from the same version; which rights bind meanwhile is rules.ts.
 */
import type { Env } from '../env/env.ts'
import type { Change } from './rules.ts'
import { nextRecord } from './rules.ts'
import type { SideRecord, Vote, VoteRecord } from './vote.ts'
import { VoteUnreachable } from './vote.ts'

export type ChangeOutcome =
  /** The record is ours. */
  | 'APPLIED'
  /** The record is another than was thought: decide again. */
  | 'MOVED'
  | 'UNREACHABLE'

/** What was known, per side, before the vote was asked: an answer below it is old, not merely late. */
export interface VoteFloors {
  readonly beat: number
  readonly epochs: Readonly<Record<string, number>>
}
export interface VoteView {
  readonly record: VoteRecord | undefined
  readonly floors: VoteFloors
}
export interface VoteHooks {
  floors(): VoteFloors
  view(view: VoteView): void
}

export class VoteKeeper {
  readonly #env: Env
  readonly #vote: Vote
  readonly #me: string
  readonly #pairUid: string
  readonly #incarnation: number
  readonly #hooks: VoteHooks
  readonly #undecided = new Map<string, { version: string | undefined; changes: Set<Change> }>()
  #attempt = 0
  #last: Promise<unknown> = Promise.resolve()
  #beat: number | undefined
  #otherBeatAt: number
  reachable = true

  constructor(env: Env, vote: Vote, me: string, pairUid: string, incarnation: number, hooks: VoteHooks) {
    this.#env = env
    this.#vote = vote
    this.#me = me
    this.#pairUid = pairUid
    this.#incarnation = incarnation
    this.#hooks = hooks
    this.#otherBeatAt = env.clock.now()
  }

  /** For so long no beat but our own was seen; counted from the start at most. */
  get otherSilentMs(): number {
    return this.reachable ? this.#env.clock.now() - this.#otherBeatAt : 0
  }
  get writerPrefix(): string {
    return `${this.#me}/${this.#incarnation}/`
  }
  isUndecided(side: string, change: Change): boolean {
    return this.#undecided.get(side)?.changes.has(change) ?? false
  }
  /** The epoch of `side` has moved: nothing asked before can be applied any more. */
  settled(side: string): void {
    this.#undecided.delete(side)
  }

  async refresh(): Promise<boolean> {
    return this.#serial(async () => (await this.#read()) !== undefined)
  }

  /**
   * Makes `change` if the record of `side` is still `known` and `allowed` still holds just before the swap. REWRITE and FORCE may be of a record that
   * the vote does not have any more.
   */
  async change(
    side: string,
    known: SideRecord | null,
    change: Change,
    allowed: () => boolean,
  ): Promise<ChangeOutcome> {
    return this.#serial(async () => {
      const found = await this.#read()
      if (!found) return 'UNREACHABLE'
      const { version } = found
      const anew = change === 'REWRITE' || change === 'FORCE'
      const isOurs = found.record?.pairUid === this.#pairUid
      if (found.record && !isOurs && !anew) return 'MOVED'
      const record = isOurs ? found.record : undefined
      const current = record?.sides[side]
      if ((!anew && (current?.epoch ?? 0) !== (known?.epoch ?? 0)) || !allowed()) return 'MOVED'
      this.#attempt += 1
      const next = nextRecord(change, current, this.#me, `${this.writerPrefix}${this.#attempt}`, known)
      if (!next) return 'MOVED'
      const asked = this.#undecided.get(side) ?? { version, changes: new Set<Change>() }
      asked.changes.add(change)
      this.#undecided.set(side, asked)
      const beat = Math.max(record?.beat ?? 0, anew ? this.#hooks.floors().beat + 1 : 0)
      const whole = { pairUid: this.#pairUid, beat, sides: { ...record?.sides, [side]: next } }
      const outcome = await this.#swap(version, whole)
      if (outcome === 'UNREACHABLE') return 'UNREACHABLE'
      if (outcome === 'APPLIED') {
        this.#undecided.delete(side)
        this.#hooks.view({ record: whole, floors: this.#hooks.floors() })
        return 'APPLIED'
      }
      // Not applied: at once see what is there instead. It may be this very change, sent twice by the transport.
      await this.#read()
      return 'MOVED'
    })
  }

  /** Shows readers of the record that a serving filer lives; and that the record moves forward only. */
  async beat(): Promise<void> {
    await this.#serial(async () => {
      const found = await this.#read()
      if (!found?.record || found.record.pairUid !== this.#pairUid) return
      const whole = { ...found.record, beat: found.record.beat + 1 }
      if ((await this.#swap(found.version, whole)) === 'APPLIED') {
        this.#beat = whole.beat
        this.#hooks.view({ record: whole, floors: this.#hooks.floors() })
      }
    })
  }

  async #serial<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#last.then(task)
    this.#last = run.catch(() => undefined)
    return run
  }

  async #read(): Promise<{ version: string | undefined; record: VoteRecord | undefined } | undefined> {
    const floors = this.#hooks.floors()
    try {
      const found = await this.#vote.read()
      this.reachable = true
      for (const [side, asked] of this.#undecided) {
        if (asked.version !== found?.version) this.#undecided.delete(side)
      }
      const beat = found?.record.beat
      if (beat !== this.#beat) {
        this.#beat = beat
        this.#otherBeatAt = this.#env.clock.now()
      }
      this.#hooks.view({ record: found?.record, floors })
      return { version: found?.version, record: found?.record }
    } catch (error) {
      this.#unreachable(error)
      return undefined
    }
  }

  async #swap(
    version: string | undefined,
    record: VoteRecord,
  ): Promise<'APPLIED' | 'REFUSED' | 'UNREACHABLE'> {
    try {
      const answer = await this.#vote.swap(version, record)
      this.reachable = true
      return answer.applied ? 'APPLIED' : 'REFUSED'
    } catch (error) {
      this.#unreachable(error)
      return 'UNREACHABLE'
    }
  }

  #unreachable(error: unknown): void {
    if (!(error instanceof VoteUnreachable)) throw error
    if (this.reachable) this.#env.log('warn', 'vote unreachable', { cause: error.message })
    this.reachable = false
  }
}

/** Of `filer` when it wrote the record; 0 if somebody else did. */
export function incarnationOf(record: SideRecord, filer: string): number {
  const [writer, incarnation] = record.writer.split('/')
  return writer === filer ? Number(incarnation) : 0
}
/** True if this incarnation wrote the record. */
export function writtenBy(record: SideRecord, writerPrefix: string): boolean {
  return record.writer.startsWith(writerPrefix)
}
