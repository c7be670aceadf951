import { expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { testEnv } from '../block/testing/bed.ts'
import { readBatchHeader } from './batch.ts'
import { OperationLog } from './log.ts'

test('records that wait for their batch are bounded: operations wait before they start, and go on in order', async () => {
  const held: (() => void)[] = []
  const device = {
    blocks: 1 + 2 * 16_384,
    read: () => Promise.resolve(),
    write: () => new Promise<void>((resolve) => held.push(resolve)),
  }
  let pressed = 0
  const hooks = {
    onDurable: () => undefined,
    onPressure: () => (pressed += 1),
    onFailure: (error: unknown) => {
      throw error
    },
  }
  const position = { halfNumber: 0, usedBlocks: 0, nextSeq: 1, otherLastSeq: 0 }
  const log = new OperationLog(testEnv(), device, 1, { epoch: 1, incarnation: 1, rootCp: 0 }, position, hooks)
  const record = [new Uint8Array(1 << 20)]
  let accepted = 0
  while (log.admit(1 << 20) === undefined) {
    log.append(1, 1, record)
    accepted += 1
  }
  // The first is under way; what waits behind it is a little over the bound.
  expect(accepted).toBeGreaterThanOrEqual(5)
  expect(accepted).toBeLessThanOrEqual(7)
  const order: number[] = []
  const waiting = [1, 2, 3].map(async (n) => {
    await log.admit(BLOCK_BYTES)
    order.push(n)
  })
  await Promise.resolve()
  expect(order).toEqual([])
  // The log has room, so no consistency point is asked for.
  expect(pressed).toBe(0)
  for (let writes = 0; order.length < 3; writes++) {
    expect(writes).toBeLessThan(20)
    held.shift()?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(waiting)
  expect(order).toEqual([1, 2, 3])
  expect(log.durable).toBeGreaterThan(0)
})

test('what one turn appends is one batch', async () => {
  const counts: number[] = []
  const device = {
    blocks: 1 + 2 * 64,
    read: () => Promise.resolve(),
    write: (_block: number, [batch]: readonly Uint8Array[]) => {
      counts.push(readBatchHeader(batch!, 1)!.count)
      return Promise.resolve()
    },
  }
  const hooks = {
    onDurable: () => undefined,
    onPressure: () => undefined,
    onFailure: (error: unknown) => {
      throw error
    },
  }
  const position = { halfNumber: 0, usedBlocks: 0, nextSeq: 1, otherLastSeq: 0 }
  const log = new OperationLog(testEnv(), device, 1, { epoch: 1, incarnation: 1, rootCp: 0 }, position, hooks)
  for (let n = 0; n < 5; n++) log.append(1, 1, [new Uint8Array(100)])
  expect(log.durable).toBe(0)
  await log.flushed(5)
  expect(counts).toEqual([5])
  await log.stop()
})
