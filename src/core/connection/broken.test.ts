/** Builds that leave out one rule of the connection manager are caught by plays that the right build passes. */
import { describe, expect, test } from '@jest/globals'
import type { Frame } from './frames.ts'
import type { BrokenConnection } from './options.ts'
import { codeOf, connected, FENCE, linksOf } from './testing/filers.ts'

type Play = (seed: number, broken: BrokenConnection) => Promise<void>

/** A6: striped over drivers of very different delay. */
const skewed: Play = async (seed, broken) => {
  const shape = { policy: 'striped', regionBytes: [1 << 16, 4096] } as const
  const { bench, world, ca, cb } = await connected(seed, shape, undefined, { broken })
  await world.until(() => linksOf(ca.channel).length === 2, 5000, 'both drivers')
  bench.network.delay('two', 10, 5)
  const channel = ca.channel!
  const data = Array.from({ length: 16 }, (_, i) =>
    channel.write(0, i * 4096, [new Uint8Array(4096).fill(i + 1)], FENCE),
  )
  await world.wait(channel.barrier())
  await world.wait(channel.write(1, 0, [new Uint8Array(1).fill(9)], FENCE))
  for (let i = 0; i < 16; i++) {
    if (cb.regions[0]!.content[i * 4096 + 4095] !== i + 1)
      throw new Error('A6: metadata is there before its data')
  }
  await world.wait(Promise.all(data))
}

/** A3: completions of a generation that is over arrive while the next has operations of the same number under way. */
const late: Play = async (seed, broken) => {
  const { bench, world, ca, cb } = await connected(seed, {}, undefined, { broken })
  const first = ca.channel!
  bench.recording = true
  const writes = Array.from({ length: 5 }, () => first.write(0, 0, [new Uint8Array(10).fill(1)], FENCE))
  await world.wait(Promise.all(writes))
  const done = bench.frames.filter(({ frame }) => frame.kind === 'done')
  bench.network.cut(done[0]!.link)
  await world.until(() => ca.channel !== undefined && ca.channel !== first, 1000, 'the next generation')
  const second = ca.channel!
  let injected = false
  bench.onBatch = ({ from, frames }): readonly Frame[] => {
    if (from === 'a') return frames.filter((frame) => frame.kind !== 'write')
    if (injected || frames[0]?.kind !== 'heartbeat-reply') return frames
    injected = true
    return [...done.map(({ frame }) => frame), ...frames]
  }
  // These never reach the partner.
  const lost = second.write(0, 0, [new Uint8Array(10).fill(2)], FENCE).then(
    () => 'placed',
    (error: unknown) => codeOf(error),
  )
  await world.until(() => injected, 1000, 'injection')
  await world.run(50)
  bench.onBatch = undefined
  bench.network.cut(bench.links.find((link) => link !== done[0]!.link)!)
  const outcome = await world.wait(lost, 2000)
  if (outcome === 'placed' && cb.regions[0]!.content[0] !== 2)
    throw new Error('A3: a completion of another generation took effect')
}

/** A8: closed with writes in flight, the memory poisoned as soon as it is said to be free. */
const closed: Play = async (seed, broken) => {
  const shape = { memoryBytes: 1 << 18, regionBytes: [1 << 16] }
  const { world, b, ca, cb } = await connected(seed, shape, undefined, { broken })
  const writes = Array.from({ length: 1000 }, (_, i) =>
    ca.channel!.write(0, (i % 64) * 1024, [new Uint8Array(1024)], FENCE).catch(codeOf),
  )
  await world.run(world.random.between(0, 2))
  await world.wait(
    b.manager.unregister('log').then(() => {
      for (const region of cb.regions) region.freed = true
    }),
    3000,
    'close',
  )
  await world.wait(Promise.all(writes), 3000, 'outcomes')
  await world.run(2000)
}

describe('known-bad builds are caught, the right one is not', () => {
  const plays: readonly [string, BrokenConnection, Play, RegExp][] = [
    ['no barrier', { noBarrier: true }, skewed, /^A6/],
    ['no generation check', { noGenerationCheck: true }, late, /^A3/],
    ['memory deregistered first', { memoryFirst: true }, closed, /^A8/],
  ]
  test.each(plays)('%s', async (_name, broken, play, violation) => {
    const caught: string[] = []
    for (let seed = 1; seed <= 5; seed++) {
      await play(seed, {})
      await play(seed, broken).catch((error: unknown) =>
        caught.push(error instanceof Error ? error.message : String(error)),
      )
    }
    expect(caught.filter((message) => violation.test(message))).not.toEqual([])
  })
})
