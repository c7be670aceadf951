import { expect, test } from '@jest/globals'
import { BYTES_ENOUGH, Gathering } from './gathering.ts'

/** A clock that is set, and one timer. */
function bed() {
  const bed = {
    nowMs: 0,
    due: undefined as number | undefined,
    begun: 0,
    advance,
    gathering: undefined! as Gathering,
  }
  let task: (() => void) | undefined
  function advance(ms: number): void {
    bed.nowMs += ms
    if (bed.due === undefined || bed.due > bed.nowMs) return
    bed.due = undefined
    task!()
  }
  const clock = {
    now: () => bed.nowMs,
    wall: () => ({ seconds: 0, nanoseconds: 0 }),
    after(delayMs: number, what: () => void) {
      bed.due = bed.nowMs + delayMs
      task = what
      return { cancel: () => (bed.due = undefined) }
    },
  }
  bed.gathering = new Gathering(clock, () => (bed.begun += 1))
  return bed
}

test('a batch waits for those who were just answered, and for who waits already, but not for a single caller', () => {
  const { gathering, ...rest } = bed()
  expect(gathering.enough(1, 100)).toBe(true)
  gathering.ended(1, 4, 0)
  expect(gathering.enough(1, 100)).toBe(true)
  gathering.ended(3, 4, 2)
  expect([2, 3, 4].map((records) => gathering.enough(records, 100))).toEqual([false, false, false])
  expect(gathering.enough(5, 100)).toBe(true)
  // No longer than until they were there.
  expect(gathering.enough(1, 100)).toBe(true)
  gathering.ended(3, 4, 2)
  expect(gathering.enough(2, BYTES_ENOUGH)).toBe(true)
  expect(rest.begun).toBe(0)
})

test('who does not come in half of a batch is waited for less and less often', () => {
  const b = bed()
  const waits: boolean[] = []
  for (let batch = 0; batch < 20; batch++) {
    b.gathering.ended(4, 6, 0)
    const waited = !b.gathering.enough(1, 100)
    waits.push(waited)
    b.advance(3)
    expect(b.due).toBeUndefined()
    expect(b.gathering.enough(1, 100)).toBe(true)
  }
  expect(b.begun).toBe(waits.filter(Boolean).length)
  // In vain at 0, 2, 5, 10 and 19: each time twice as many begin at once.
  expect(waits.flatMap((waited, n) => (waited ? [n] : []))).toEqual([0, 2, 5, 10, 19])
})

test('those who come late do not pay either, and who comes in time is waited for again', () => {
  const b = bed()
  b.gathering.ended(4, 2, 0)
  b.nowMs += 1.5
  expect(b.gathering.enough(4, 100)).toBe(true)
  b.gathering.ended(4, 2, 0)
  expect(b.gathering.enough(1, 100)).toBe(true)
  for (let batch = 0; batch < 3; batch++) {
    b.gathering.ended(4, 2, 0)
    expect(b.gathering.enough(3, 100)).toBe(false)
    b.advance(0.5)
    expect(b.gathering.enough(4, 100)).toBe(true)
  }
  b.gathering.ended(4, 2, 0)
  b.gathering.stop()
  expect(b.due).toBeUndefined()
})
