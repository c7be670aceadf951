/**
 * A ring of filers, each of which mirrors a volume to the next one, as resources: log space, slots of channels, staging space, log files, consistency points,
 * acknowledgements. What may start is decided by the functions that production asks (decisions.ts). The builds that are known to be bad add waits that ours does not have.
 *
 * A state is *stuck* if no run of the filers' own steps, without a new call, answers every call and lets each filer take one again.
 */
import type { Rank } from '../../std/ranks.ts'
import { mayWait } from '../../std/ranks.ts'
import { admission, imageToSend } from '../decisions.ts'

export interface Build {
  readonly name: string
  /** What a commit waits for: nothing, the image on the destination's disk, or its receipt there. */
  readonly commitAwaits: 'NOTHING' | 'DISK' | 'RECEIPT'
  /** The next freeze waits for the receipt of the image. */
  readonly freezeAwaitsReceipt: boolean
  /** Operations and images share one ordered channel. */
  readonly oneChannel: boolean
  /** An image refers to operations that may still be on their way. */
  readonly unconfirmedReferences: boolean
  /** Staged blocks take space that only a consistency point returns. */
  readonly stagingIsBounded: boolean
  /** Two log files only. */
  readonly twoLogs: boolean
}

export interface Size {
  readonly filers: number
  /** Records that a log half holds. */
  readonly log: number
  /** Unacknowledged operations of a mirror. */
  readonly credit: number
  readonly slots: number
  readonly staging: number
  /** Blocks of an image. */
  readonly image: number
  readonly logFiles: number
  readonly incompleteEpochs: number
  /** There are calls on volumes without a mirror. */
  readonly otherCalls: boolean
}

/** One of everything: the smallest size in which two log files stand still. */
export const SMALL: Size = {
  filers: 2,
  log: 1,
  credit: 1,
  slots: 1,
  staging: 1,
  image: 1,
  logFiles: 3,
  incompleteEpochs: 2,
  otherCalls: true,
}

export const OURS: Build = {
  name: 'ours',
  commitAwaits: 'NOTHING',
  freezeAwaitsReceipt: false,
  oneChannel: false,
  unconfirmedReferences: false,
  stagingIsBounded: true,
  twoLogs: false,
}
export const TWO_LOGS: Build = {
  ...OURS,
  name: 'two logs',
  commitAwaits: 'DISK',
  stagingIsBounded: false,
  twoLogs: true,
}
const RECEIPT: Build = { ...OURS, commitAwaits: 'RECEIPT', stagingIsBounded: false }
export const KNOWN_BAD: readonly Build[] = [
  { ...RECEIPT, name: 'commit after receipt, one channel', oneChannel: true },
  { ...RECEIPT, name: 'commit after receipt, unconfirmed references', unconfirmedReferences: true },
  { ...RECEIPT, name: 'commit after receipt, staging space', stagingIsBounded: true },
  { ...OURS, name: 'freeze after receipt', freezeAwaitsReceipt: true, oneChannel: true },
]

// Of a filer.
const LOG = 0
const CP = 1
const FILER_BYTES = 2
const IDLE = 0
const WRITING = 1
const WRITTEN = 2
// Of the mirror from filer i to its neighbour; epochs count from the image durable there.
const EPOCH = 0
const COMPLETE = 1
const FROZEN = 2
const DIRTY = 3
const PENDING = 4
/** Blocks of the image still to be sent, and one for its end; ALL_SENT: its receipt is awaited; 0: there is none. */
const LEFT = 5
const TARGET = 6
const COMMITTED = 7
const STAGED = 8
const STAGED_COMPLETE = 9
const STAGED_FROZEN = 10
const CHANNELS = 11
const ALL_SENT = 50
const BLOCK = 100
const END = 101
/** An operation of epoch e is OPERATION + e. */
const OPERATION = 10

type State = Uint8Array
export interface Step {
  readonly label: string
  readonly call: boolean
  readonly to: State
}
export interface Wait {
  readonly who: string
  readonly holds: Rank
  readonly what: string
  readonly rank: Rank
}

export class RingModel {
  readonly build: Build
  readonly size: Size
  readonly #mirrorBytes: number

  constructor(build: Build, size: Size) {
    this.build = build
    this.size = size
    this.#mirrorBytes = CHANNELS + 2 * size.slots
  }

  get start(): State {
    const { filers } = this.size
    const state = new Uint8Array(filers * (FILER_BYTES + this.#mirrorBytes))
    for (let i = 0; i < filers; i++) state[this.#mirror(i) + EPOCH] = 1
    return state
  }

  /** Log files at the destination of filer i's mirror. */
  logFiles(state: State, i: number): number {
    return state[this.#mirror(i) + EPOCH]!
  }

  isGood(state: State): boolean {
    for (let i = 0; i < this.size.filers; i++) {
      if (state[this.#mirror(i) + PENDING]! > 0 || this.#refusal(state, i) !== undefined) return false
    }
    return true
  }

  steps(state: State): Step[] {
    const steps: Step[] = []
    for (let i = 0; i < this.size.filers; i++) {
      this.#calls(state, i, steps)
      this.#consistencyPoint(state, i, steps)
      this.#stream(state, i, steps)
      this.#receive(state, i, steps)
    }
    return steps
  }

  /** Who waits for what in a state. */
  waits(state: State): Wait[] {
    const waits: Wait[] = []
    for (let i = 0; i < this.size.filers; i++) this.#waitsOf(state, i, waits)
    return waits
  }

  #mirror(i: number): number {
    const { filers } = this.size
    return filers * FILER_BYTES + ((i + filers) % filers) * this.#mirrorBytes
  }
  #next(i: number): number {
    return (i + 1) % this.size.filers
  }
  #queue(state: State, m: number, channel: number): number[] {
    const { slots } = this.size
    const from = m + CHANNELS + channel * slots
    return [...state.subarray(from, from + slots)].filter((message) => message !== 0)
  }
  #setQueue(state: State, m: number, channel: number, queue: readonly number[]): void {
    for (let k = 0; k < this.size.slots; k++) {
      state[m + CHANNELS + channel * this.size.slots + k] = queue[k] ?? 0
    }
  }

  #refusal(state: State, i: number): 'LOG' | 'CREDIT' | 'LOG_FILE' | 'IMAGE' | undefined {
    const { log, credit, slots, logFiles, incompleteEpochs } = this.size
    if (state[i * FILER_BYTES + LOG]! >= log) return 'LOG'
    const m = this.#mirror(i)
    const epoch = state[m + EPOCH]!
    const ours = this.build.commitAwaits === 'NOTHING' && !this.build.freezeAwaitsReceipt
    return admission(
      {
        epochsBeyondDurable: epoch,
        epochsIncomplete: epoch - 1 - state[m + COMPLETE]!,
        hasCredit: state[m + PENDING]! < credit && this.#queue(state, m, 0).length < slots,
      },
      {
        logFiles: this.build.twoLogs ? 2 : logFiles,
        incompleteEpochs: ours ? incompleteEpochs : Infinity,
      },
    )
  }

  #calls(state: State, i: number, steps: Step[]): void {
    const f = i * FILER_BYTES
    if (this.#refusal(state, i) === undefined) {
      const to = state.slice()
      const m = this.#mirror(i)
      to[f + LOG]! += 1
      to[m + PENDING]! += 1
      to[m + DIRTY] = 1
      this.#setQueue(to, m, 0, [...this.#queue(to, m, 0), OPERATION + to[m + EPOCH]!])
      steps.push({ label: `${nameOf(i)}: call`, call: true, to })
    }
    if (this.size.otherCalls && state[f + LOG]! < this.size.log) {
      const to = state.slice()
      to[f + LOG]! += 1
      steps.push({ label: `${nameOf(i)}: call on another volume`, call: true, to })
    }
  }

  #consistencyPoint(state: State, i: number, steps: Step[]): void {
    const f = i * FILER_BYTES
    const own = this.#mirror(i)
    const incoming = this.#mirror(i - 1)
    const { build } = this
    const to = state.slice()
    switch (state[f + CP]) {
      case IDLE: {
        const something =
          state[f + LOG]! > 0 ||
          state[own + DIRTY]! > 0 ||
          state[incoming + STAGED_COMPLETE]! > 0 ||
          state[incoming + COMPLETE]! > 0
        if (!something) return
        if (build.freezeAwaitsReceipt && state[own + EPOCH]! - 1 > state[own + COMPLETE]!) return
        to[f + LOG] = 0
        to[f + CP] = WRITING
        to[incoming + FROZEN] = to[incoming + COMPLETE]!
        to[incoming + STAGED_FROZEN]! += to[incoming + STAGED_COMPLETE]!
        to[incoming + STAGED_COMPLETE] = 0
        if (to[own + DIRTY]! > 0) {
          to[own + DIRTY] = 0
          to[own + EPOCH]! += 1
          if (build.commitAwaits !== 'NOTHING') {
            to[own + LEFT] = this.size.image + 1
            to[own + TARGET] = to[own + EPOCH]! - 1
          }
        }
        steps.push({ label: `${nameOf(i)}: freeze`, call: false, to })
        return
      }
      case WRITING:
        to[f + CP] = WRITTEN
        steps.push({ label: `${nameOf(i)}: blocks written`, call: false, to })
        return
      default: {
        const closed = state[own + EPOCH]! - 1
        if (build.commitAwaits === 'RECEIPT' && state[own + LEFT]! !== 0) return
        if (build.commitAwaits === 'DISK' && closed > 0) return
        to[f + CP] = IDLE
        to[own + COMMITTED] = closed
        const covered = to[incoming + FROZEN]!
        to[incoming + FROZEN] = 0
        to[incoming + STAGED_FROZEN] = 0
        for (const field of [EPOCH, COMPLETE, TARGET, COMMITTED]) {
          to[incoming + field] = Math.max(0, to[incoming + field]! - covered)
        }
        for (const channel of [0, 1]) {
          const queue = this.#queue(to, incoming, channel).map((message) =>
            message < BLOCK ? Math.max(OPERATION, message - covered) : message,
          )
          this.#setQueue(to, incoming, channel, queue)
        }
        steps.push({ label: `${nameOf(i)}: commit`, call: false, to })
      }
    }
  }

  #stream(state: State, i: number, steps: Step[]): void {
    const m = this.#mirror(i)
    const left = state[m + LEFT]!
    if (this.build.commitAwaits === 'NOTHING') {
      const target = imageToSend(state[m + COMMITTED]!, state[m + COMPLETE]!, left)
      if (target > 0) {
        const to = state.slice()
        to[m + LEFT] = this.size.image + 1
        to[m + TARGET] = target
        steps.push({ label: `${nameOf(i)}: image begins`, call: false, to })
      }
    }
    const channel = this.build.oneChannel ? 0 : 1
    const queue = this.#queue(state, m, channel)
    if (left === 0 || left === ALL_SENT || queue.length >= this.size.slots) return
    const to = state.slice()
    to[m + LEFT] = left === 1 ? ALL_SENT : left - 1
    this.#setQueue(to, m, channel, [...queue, left === 1 ? END : BLOCK])
    steps.push({ label: `${nameOf(i)}: ${left === 1 ? 'end of image' : 'block'} sent`, call: false, to })
  }

  /** Why the neighbour of filer i does not take the first message of a channel. */
  #blocked(
    state: State,
    i: number,
    channel: number,
    message: number,
  ): 'LOG' | 'STAGING' | 'OPERATION' | undefined {
    const m = this.#mirror(i)
    const full = state[this.#next(i) * FILER_BYTES + LOG]! >= this.size.log
    if (message < BLOCK) return full ? 'LOG' : undefined
    if (message !== BLOCK) return undefined
    const staged = state[m + STAGED]! + state[m + STAGED_COMPLETE]! + state[m + STAGED_FROZEN]!
    if (this.build.stagingIsBounded && staged >= this.size.staging) return 'STAGING'
    const refers = this.build.unconfirmedReferences && channel === 1
    const onTheWay = (one: number): boolean => one < BLOCK && one - OPERATION <= state[m + TARGET]!
    return refers && this.#queue(state, m, 0).some(onTheWay) ? 'OPERATION' : undefined
  }

  #receive(state: State, i: number, steps: Step[]): void {
    const m = this.#mirror(i)
    const j = this.#next(i)
    for (const channel of [0, 1]) {
      const [message, ...rest] = this.#queue(state, m, channel)
      if (message === undefined || this.#blocked(state, i, channel, message) !== undefined) continue
      const to = state.slice()
      this.#setQueue(to, m, channel, rest)
      if (message < BLOCK) {
        to[j * FILER_BYTES + LOG]! += 1
        to[m + PENDING]! -= 1
      } else if (message === BLOCK) {
        if (this.build.stagingIsBounded) to[m + STAGED]! += 1
      } else {
        to[m + COMPLETE] = to[m + TARGET]!
        to[m + STAGED_COMPLETE]! += to[m + STAGED]!
        to[m + STAGED] = 0
        to[m + LEFT] = 0
      }
      const what =
        message < BLOCK ? 'operation appended' : message === BLOCK ? 'block staged' : 'image complete'
      steps.push({ label: `${nameOf(j)}: ${what}`, call: false, to })
    }
  }

  #waitsOf(state: State, i: number, waits: Wait[]): void {
    const a = nameOf(i)
    const b = nameOf(this.#next(i))
    const m = this.#mirror(i)
    const add = (who: string, holds: Rank, what: string, rank: Rank): void =>
      void waits.push({ who, holds, what, rank })
    const cp = (of: string): string => `${of}'s consistency point`
    const refusal = this.#refusal(state, i)
    if (refusal === 'LOG') add(`${a}'s next call`, 'call', cp(a), 'space')
    if (refusal === 'LOG_FILE') add(`${a}'s next call`, 'call', `a log file at ${b}`, 'source')
    if (refusal === 'IMAGE') add(`${a}'s next call`, 'call', `an image at ${b}`, 'source')
    if (state[m + PENDING]! > 0) add(`${a}'s call`, 'call', `${b}'s receiving from ${a}`, 'destination')
    add(`a log file at ${b}`, 'source', cp(b), 'space')
    if (state[i * FILER_BYTES + CP] === WRITTEN) {
      if (this.build.commitAwaits === 'DISK' && state[m + EPOCH]! > 1)
        add(cp(a), 'space', `a log file at ${b}`, 'source')
      if (this.build.commitAwaits === 'RECEIPT' && state[m + LEFT]! > 0)
        add(cp(a), 'space', `an image at ${b}`, 'source')
    }
    if (
      this.build.freezeAwaitsReceipt &&
      state[i * FILER_BYTES + CP] === IDLE &&
      state[m + EPOCH]! - 1 > state[m + COMPLETE]!
    ) {
      add(cp(a), 'space', `an image at ${b}`, 'source')
    }
    if (state[m + LEFT]! > 0) add(`an image at ${b}`, 'source', `${b}'s receiving from ${a}`, 'destination')
    for (const channel of [0, 1]) {
      const [message] = this.#queue(state, m, channel)
      if (message === undefined) continue
      const blocked = this.#blocked(state, i, channel, message)
      if (blocked === 'LOG' || blocked === 'STAGING')
        add(`${b}'s receiving from ${a}`, 'destination', cp(b), 'space')
      if (blocked === 'OPERATION') add(`${b}'s receiving from ${a}`, 'destination', cp(b), 'space')
    }
  }
}

const nameOf = (i: number): string => String.fromCharCode('A'.charCodeAt(0) + i)

export interface Found {
  readonly trace: readonly string[]
  readonly state: State
}

export interface Exploration {
  readonly states: number
  readonly logFiles: number
  readonly stuck: Found | undefined
}

/** All states, breadth first. Throws if there are more than `limit`. */
export function explore(model: RingModel, limit: number): Exploration {
  const { start, size } = model
  const ids = new Map<string, number>([[keyOf(start), 0]])
  const states: State[] = [start]
  const parents = [-1]
  const labels = ['']
  const before: number[][] = [[]]
  let logFiles = 0
  for (let at = 0; at < states.length; at++) {
    const state = states[at]!
    for (let i = 0; i < size.filers; i++) logFiles = Math.max(logFiles, model.logFiles(state, i))
    for (const { to, call, label } of model.steps(state)) {
      const key = keyOf(to)
      let id = ids.get(key)
      if (id === undefined) {
        id = states.length
        if (id >= limit) throw new Error(`more than ${limit} states`)
        ids.set(key, id)
        states.push(to)
        parents.push(at)
        labels.push(label)
        before.push([])
      }
      if (!call) before[id]!.push(at)
    }
  }
  const live = new Uint8Array(states.length)
  const work: number[] = []
  for (const [id, state] of states.entries()) {
    if (!model.isGood(state)) continue
    live[id] = 1
    work.push(id)
  }
  for (let id = work.pop(); id !== undefined; id = work.pop()) {
    for (const from of before[id]!) {
      if (live[from] === 1) continue
      live[from] = 1
      work.push(from)
    }
  }
  const first = live.indexOf(0)
  if (first < 0) return { states: states.length, logFiles, stuck: undefined }
  const trace: string[] = []
  for (let id = first; id > 0; id = parents[id]!) trace.unshift(labels[id]!)
  return { states: states.length, logFiles, stuck: { trace, state: states[first]! } }
}

/** The first stuck state, breadth first: for builds that have one near by. Each state's own steps are followed until a good one is found, or there is none. */
export function findStuck(model: RingModel, limit: number): Found | undefined {
  const { start } = model
  const seen = new Set([keyOf(start)])
  const live = new Set<string>()
  let edge: Found[] = [{ trace: [], state: start }]
  while (edge.length > 0) {
    const next: Found[] = []
    for (const found of edge) {
      if (!reachesGood(model, found.state, live)) return found
      for (const { to, label } of model.steps(found.state)) {
        const key = keyOf(to)
        if (seen.has(key)) continue
        if (seen.size >= limit) return undefined
        seen.add(key)
        next.push({ trace: [...found.trace, label], state: to })
      }
    }
    edge = next
  }
  return undefined
}

function reachesGood(model: RingModel, from: State, live: Set<string>): boolean {
  const seen = new Set([keyOf(from)])
  const work = [from]
  for (let state = work.pop(); state !== undefined; state = work.pop()) {
    if (live.has(keyOf(state)) || model.isGood(state)) {
      live.add(keyOf(from))
      return true
    }
    for (const { to, call } of model.steps(state)) {
      if (call || seen.has(keyOf(to))) continue
      seen.add(keyOf(to))
      work.push(to)
    }
  }
  return false
}

/** Where a stuck state ends up when each filer does what it still can. */
export function runOut(model: RingModel, from: State): State {
  const seen = new Set<string>()
  let state = from
  for (;;) {
    seen.add(keyOf(state))
    const step = model.steps(state).find(({ call, to }) => !call && !seen.has(keyOf(to)))
    if (step === undefined) return state
    state = step.to
  }
}

/** A cycle of waits, each for the next; undefined if there is none. */
export function cycleOf(waits: readonly Wait[]): readonly Wait[] | undefined {
  const from = (who: string, path: readonly Wait[]): readonly Wait[] | undefined => {
    for (const wait of waits) {
      if (wait.who !== who) continue
      const at = path.findIndex((one) => one.who === wait.what)
      if (at >= 0) return [...path.slice(at), wait]
      if (wait.what === wait.who) return [wait]
      if (path.length > waits.length) continue
      const found = from(wait.what, [...path, wait])
      if (found !== undefined) return found
    }
    return undefined
  }
  for (const { who } of waits) {
    const found = from(who, [])
    if (found !== undefined) return found
  }
  return undefined
}

/** One line for each wait; those that go upwards are marked. */
export function printWaits(waits: readonly Wait[]): string {
  return waits
    .map(
      ({ who, holds, what, rank }) =>
        `${mayWait(holds, rank) ? '  ' : '↑ '}${who} (${holds}) waits for ${what} (${rank})`,
    )
    .join('\n')
}

const decoder = new TextDecoder('latin1')
const keyOf = (state: State): string => decoder.decode(state)
