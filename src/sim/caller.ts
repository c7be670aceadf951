/**
 * How an NFS client reaches a side: by its Service, over a connection that may be reset, and again until there is an answer, with the same key
 * for what must not happen twice.
 *
 * What it checks of each answer: none of an older configuration comes to a call that was sent after an answer of a newer one (H1, H6), and what
 * exists is never STALE (its callers say what exists).
 */
import type { Filer } from '../core/filer/filer.ts'
import type { Duplicate, DuplicateKey, Vfs } from '../core/vfs/vfs.ts'
import { NotServedError } from '../core/vfs/vfs.ts'
import type { FilerPair, RunningFiler } from './filer-pair.ts'
import type { FilerName, SideName } from './names.ts'
import { other } from './names.ts'

export class Violation extends Error {}

/** One attempt at one filer; most want to know its files only. */
type Send<R> = (vfs: Vfs, filer: Filer) => R | Promise<R>

/** Of a reply, what is kept and compared: at most 400 bytes. */
export interface Kept {
  readonly status: string
  readonly handle?: string
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const REFUSED_MS = 5
const TIMEOUT_MS = 3000
/** A client that lost its connection with the answer asks again within this time. */
const LOST_ANSWER_MS = 600

/** What the callers of one side share: which configuration has answered already. */
export class SideAnswers {
  newestEpoch = 0
}

export class Caller {
  pair: FilerPair
  side: SideName
  readonly machine: string
  #answers: SideAnswers
  /** Attempts that were given up and may still be executed. */
  readonly #strays = new Set<Promise<unknown>>()
  #xid = 1
  operations = 0
  repeated = 0
  /** Chance that the answer to a call that must happen once is lost on its way, and the client asks again. */
  lostAnswers = 0

  constructor(pair: FilerPair, side: SideName, machine: string, answers: SideAnswers) {
    this.pair = pair
    this.side = side
    this.machine = machine
    this.#answers = answers
  }

  /** The volume is served elsewhere from now on: a mirror was broken. */
  move(pair: FilerPair, side: SideName): void {
    this.pair = pair
    this.side = side
    this.#answers = new SideAnswers()
  }

  get #world() {
    return this.pair.world
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#world.after(ms, resolve))
  }

  violated(what: string): never {
    throw new Violation(`${this.machine} at ${this.#world.now.toFixed(2)} ms: ${what}`)
  }

  /** A call that may be executed twice. */
  async call<R>(send: Send<R>): Promise<R> {
    const answer = await this.#until(send)
    // A stray write that is executed after a later one would undo it: NFS clients over TCP accept that, a model cannot.
    if (this.#strays.size > 0) await this.#strayEnds()
    return answer
  }

  /** A call that must happen once: every attempt has the same key, but behind JUKEBOX, which says that nothing was done: a call of its own. Gives the first answer. */
  async once<R extends { readonly ok: boolean }>(
    procedure: number,
    handle: Uint8Array,
    send: (vfs: Vfs, dup: Duplicate<R>) => R | Promise<R>,
    keep: (result: R) => Kept,
  ): Promise<Kept> {
    const newKey = (): DuplicateKey => ({
      machine: this.machine,
      xid: this.#xid++,
      procedure,
      checksum: this.#xid,
    })
    let key = newKey()
    const encode = (result: R): Uint8Array => Buffer.from(JSON.stringify(keep(result)))
    const attempt = (): Promise<Kept> =>
      this.call(async (vfs) => {
        const known = await vfs.duplicate(handle, key)
        if (known !== undefined) return JSON.parse(Buffer.from(known).toString()) as Kept
        let kept: Uint8Array | undefined
        const result = await send(vfs, { key, encode: (first) => (kept = encode(first)) })
        if (isJukebox(result)) key = newKey()
        return JSON.parse(Buffer.from(kept ?? encode(result)).toString()) as Kept
      })
    const first = await attempt()
    if (this.lostAnswers === 0 || !this.#world.random.chance(this.lostAnswers)) return first
    await this.sleep(this.#world.random.between(0, LOST_ANSWER_MS))
    const second = await attempt()
    if (second.status !== first.status || second.handle !== first.handle)
      this.violated(
        `procedure ${procedure} was answered ${first.status}, and ${second.status} when repeated (H8)`,
      )
    return second
  }

  async #strayEnds(): Promise<void> {
    const strays = Promise.allSettled([...this.#strays])
    await Promise.race([strays, this.sleep(TIMEOUT_MS)])
    this.#strays.clear()
  }

  async #until<R>(send: Send<R>): Promise<R> {
    let name = this.pair.service[this.side]
    for (let tries = 0; ; tries++) {
      const answer = await this.attempt(name, send)
      if (answer !== undefined && !isJukebox(answer.value)) {
        this.operations += 1
        this.repeated += tries
        return answer.value
      }
      await this.sleep(this.#world.random.between(0, REFUSED_MS))
      // A name that the client's resolver or its connection tracking remembers leads to the old place now and then.
      name = this.#world.random.chance(0.8) ? this.pair.service[this.side] : other(name)
    }
  }

  /** One try at one filer; undefined: no answer. */
  async attempt<R>(name: FilerName, send: Send<R>): Promise<{ readonly value: R } | undefined> {
    const running = this.pair.running[name]
    const filer = running?.filer
    if (!running || !filer) return undefined
    const sentAfter = this.#answers.newestEpoch
    const answer = await this.#send(running, send)
    if (answer === undefined) return undefined
    // The answer and what the filer knows of its epoch belong together: both are of the same turn of its loop.
    const epoch = filer.pair.sides.get(this.side)?.record?.epoch ?? 0
    if (epoch < sentAfter) {
      this.violated(
        `${name} answers in epoch ${epoch} what was sent after an answer of epoch ${sentAfter} (H1)`,
      )
    }
    this.#answers.newestEpoch = Math.max(this.#answers.newestEpoch, epoch)
    return answer
  }

  #send<R>(running: RunningFiler, send: Send<R>): Promise<{ readonly value: R } | undefined> {
    return new Promise((resolve) => {
      const end = (answer: { readonly value: R } | undefined): void => {
        running.waiting.delete(reset)
        timer.cancel()
        resolve(answer)
      }
      const attempt = (async () => send(running.filer!.vfs, running.filer!))()
      const reset = (): void => {
        if (running.process.alive) {
          this.#strays.add(attempt)
          const forget = (): void => void this.#strays.delete(attempt)
          attempt.then(forget, forget)
        }
        end(undefined)
      }
      const timer = this.#world.after(TIMEOUT_MS, reset)
      running.waiting.add(reset)
      attempt.then(
        (value) => end(running.process.alive ? { value } : undefined),
        (error: unknown) => {
          if (running.process.alive && !(error instanceof NotServedError)) this.#world.fail(error)
          end(undefined)
        },
      )
    })
  }
}

/** Later, or elsewhere: nothing was done. */
function isJukebox(value: unknown): boolean {
  return (value as { status?: unknown } | undefined)?.status === 'JUKEBOX'
}

export const handleOf = (text: string | undefined): Uint8Array => Buffer.from(text ?? '', 'hex')
export const textOf = hex
