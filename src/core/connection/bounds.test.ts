/** Nothing that a partner sends, or a client asks for, takes more memory than was agreed. */
import { describe, expect, test } from '@jest/globals'
import { WAITING_MAX } from './channel.ts'
import type { Frame } from './frames.ts'
import { codeOf, connected, FENCE, readyLinks } from './testing/filers.ts'

describe('bounds', () => {
  test('of what a client asks for and the partner has no room for, a fixed number waits; the rest was never sent', async () => {
    const { world, ca, cb } = await connected(1, { memoryBytes: 65536 })
    cb.message = (): void | Promise<void> => new Promise(() => undefined)
    const channel = ca.channel!
    const codes: string[] = []
    for (let i = 0; i < WAITING_MAX + 2000; i++)
      channel.send(new Uint8Array(1000)).catch((e: unknown) => codes.push(codeOf(e)))
    await world.run(10)
    const room = Math.floor(65536 / 1064)
    expect(codes).toHaveLength(2000 - room)
    expect(new Set(codes)).toEqual(new Set(['NOT_READY']))
  })

  test('operations without payload cost memory too: a partner that ignores that is cut off', async () => {
    const { bench, world, ca, cb } = await connected(2, { memoryBytes: 65536 })
    let taken = 0
    cb.message = (): void | Promise<void> => {
      taken++
      return new Promise(() => undefined)
    }
    bench.onBatch = ({ frames }) =>
      frames.flatMap((frame): Frame[] =>
        frame.kind !== 'message'
          ? [frame]
          : Array.from({ length: 5000 }, (_, i) => ({ ...frame, seq: frame.seq + i, bytes: 0, payload: [] })),
      )
    const channel = ca.channel!
    channel.send(new Uint8Array(4)).catch(codeOf)
    await world.until(() => ca.live.get(0) !== channel, 500, 'the end')
    expect(taken).toBeLessThanOrEqual(65536 / 64)
    expect(ca.events[1]).toBe('error 0 1')
  })

  test('parts of operations cost memory on all drivers together, also before READY', async () => {
    const { bench, world, a, b, ca } = await connected(3, { policy: 'striped', memoryBytes: 65536 })
    bench.onBatch = ({ frames }) =>
      frames.flatMap((frame): Frame[] =>
        frame.kind !== 'write'
          ? [frame]
          : // Never the last one: what came is kept until it does.
            Array.from({ length: 20 }, () => ({
              ...frame,
              bytes: 1 << 20,
              more: true,
              payload: [new Uint8Array(4096)],
            })),
      )
    const channel = ca.channel!
    for (let i = 0; i < 4; i++) channel.write(0, 0, [new Uint8Array(100)], FENCE).catch(codeOf)
    await world.until(() => ca.live.get(0) !== channel, 500, 'the end')
    bench.onBatch = undefined
    const reasons = world.lines.filter(({ event }) => event === 'interconnect down')
    expect(reasons.map(({ fields }) => fields?.['cause'])).toContain('partner exceeds the memory of log')
    await world.until(() => readyLinks(a) === 2 && readyLinks(b) === 2, 4000, 'return')
  })

  test('a partner that asks and takes no answers is cut off', async () => {
    const { bench, world, a } = await connected(4, {}, ['one'])
    bench.network.bandwidth('one', 1000)
    let flooded = false
    bench.onBatch = ({ from, frames }) => {
      const beat = frames.find((frame) => frame.kind === 'heartbeat')
      if (from !== 'b' || beat === undefined || flooded) return frames
      flooded = true
      return [...frames, ...Array.from({ length: 300_000 }, () => beat)]
    }
    await world.until(() => a.peers.length === 2, 1000, 'the end')
    const [down] = world.lines.filter(
      ({ event, process }) => event === 'interconnect down' && process === 'a',
    )
    expect(down?.fields?.['cause']).toBe('partner takes no answers')
  })

  test('one to eight drivers, each with a name of its own', async () => {
    const names = Array.from({ length: 9 }, (_, i) => `n${i}`)
    await expect(connected(5, {}, names)).rejects.toThrow('1 to 8 drivers, not 9')
    await expect(connected(5, {}, [])).rejects.toThrow('1 to 8 drivers, not 0')
    await expect(connected(5, {}, ['one', 'one'])).rejects.toThrow('two drivers have the same name')
  })
})
