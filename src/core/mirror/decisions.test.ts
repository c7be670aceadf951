/** The release rule explored: log files alive at a destination against W, the source's freezes while one consistency point of the destination follows another, and Q. */
import { expect, test } from '@jest/globals'
import { admission, imageToSend, isReleased, logFilesAtMost } from './decisions.ts'

/** One mirror. Epochs count from the image that is durable at the destination. */
interface State {
  readonly epoch: number
  readonly complete: number
  readonly committed: number
  readonly inFlight: number
  readonly sourceCp: boolean
  readonly destinationCp: boolean
  readonly frozen: number
  /** Freezes of the source since the freeze of the destination's last committed consistency point, and since that of the one under way. */
  readonly sinceLast: number
  readonly sinceThis: number
  /** A call has opened the present epoch. */
  readonly dirty: boolean
}

function* steps(s: State, freezes: number, incompleteEpochs: number): Generator<State> {
  const facts = { epochsBeyondDurable: 0, epochsIncomplete: s.epoch - 1 - s.complete, hasCredit: true }
  if (!s.dirty && admission(facts, { logFiles: Infinity, incompleteEpochs }) === undefined)
    yield { ...s, dirty: true }
  if (s.dirty && !s.sourceCp && s.sinceLast < freezes && (!s.destinationCp || s.sinceThis < freezes)) {
    const sinceThis = s.destinationCp ? s.sinceThis + 1 : 0
    yield { ...s, sourceCp: true, epoch: s.epoch + 1, dirty: false, sinceLast: s.sinceLast + 1, sinceThis }
  }
  if (s.sourceCp) yield { ...s, sourceCp: false, committed: s.epoch - 1 }
  const next = imageToSend(s.committed, s.complete, s.inFlight)
  if (next > 0) yield { ...s, inFlight: next }
  if (s.inFlight > 0) yield { ...s, complete: s.inFlight, inFlight: 0 }
  if (!s.destinationCp) yield { ...s, destinationCp: true, frozen: s.complete, sinceThis: 0 }
  else {
    const by = s.frozen
    expect(isReleased(by, by) && !isReleased(by + 1, by)).toBe(true)
    yield {
      ...s,
      destinationCp: false,
      frozen: 0,
      sinceLast: s.sinceThis,
      sinceThis: 0,
      epoch: s.epoch - by,
      complete: s.complete - by,
      committed: Math.max(0, s.committed - by),
      inFlight: Math.max(0, s.inFlight - by),
    }
  }
}

function mostLogFiles(freezes: number, incompleteEpochs: number): number {
  const start: State = {
    epoch: 1,
    complete: 0,
    committed: 0,
    inFlight: 0,
    sourceCp: false,
    destinationCp: false,
    frozen: 0,
    sinceLast: 0,
    sinceThis: 0,
    dirty: false,
  }
  const seen = new Set([JSON.stringify(start)])
  const work = [start]
  let most = 0
  for (let state = work.pop(); state !== undefined; state = work.pop()) {
    most = Math.max(most, state.dirty ? state.epoch : state.epoch - 1)
    for (const to of steps(state, freezes, incompleteEpochs)) {
      const key = JSON.stringify(to)
      if (seen.has(key)) continue
      seen.add(key)
      work.push(to)
    }
  }
  return most
}

const SIZES = [1, 2, 3, 4].flatMap((q) => [1, 2, 3, 4, 5, 6].map((w) => [w, q] as const))

test.each(SIZES)('W = %d, Q = %d: W + Q + 1 log files, reached and never more (B6)', (w, q) => {
  expect(mostLogFiles(w, q)).toBe(logFilesAtMost(w, q))
})

test('a call waits for what is missing, and says for what', () => {
  const limits = { logFiles: 4, incompleteEpochs: 2 }
  const fine = { epochsBeyondDurable: 4, epochsIncomplete: 1, hasCredit: true }
  expect(admission(fine, limits)).toBeUndefined()
  expect(admission({ ...fine, hasCredit: false }, limits)).toBe('CREDIT')
  expect(admission({ ...fine, epochsBeyondDurable: 5 }, limits)).toBe('LOG_FILE')
  expect(admission({ ...fine, epochsIncomplete: 2 }, limits)).toBe('IMAGE')
})
