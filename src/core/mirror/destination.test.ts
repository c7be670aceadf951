import { describe, expect, test } from '@jest/globals'
import type { DestinationHost } from './destination.ts'
import { MirrorDestination } from './destination.ts'
import type { MirrorLogFiles } from './log-files.ts'
import type { ToDestination, ToSource } from './messages.ts'
import { encodeBlocks, MIRROR_VERSION } from './messages.ts'
import type { Pin } from './records.ts'

const pin = (image: number): Pin => ({ image, covers: 0, generation: 1, bytes: 0, sizeBytes: 1 << 20 })
const block = (number: number) => encodeBlocks([{ number, kind: 'data', content: new Uint8Array(4096) }])

/** A destination whose consistency points come when the test says so, with numbers in use as it says. */
function destination() {
  const sent: ToSource['type'][] = []
  const inUse = new Set<number>()
  const seen = { wanted: 0 }
  const host: DestinationHost = {
    crc32: () => 0,
    broken: {},
    send: ({ type }) => void sent.push(type),
    record: () => Promise.resolve(),
    wantCp: () => void seen.wanted++,
    isFree: (number) => !inUse.has(number),
    receive: () => undefined,
    free: () => undefined,
    become: () => undefined,
    room: () => Promise.resolve(),
    consistencyPoint: () => new Promise(() => undefined),
    pin: () => true,
    unpinBelow: () => undefined,
    reset: () => undefined,
    mayReverse: () => false,
    reverse: () => undefined,
    log: () => undefined,
  }
  const logs = {
    open: () => Promise.resolve(),
    frames: () => Promise.resolve([]),
    cut: () => Promise.resolve(),
    remove: () => Promise.resolve(),
  } as unknown as MirrorLogFiles
  const record = {
    id: 'm',
    role: 'Destination',
    state: 'InSync',
    generation: 1,
    base: 0,
    fence: [1, 1],
    opening: 1,
  } as const
  const mirror = new MirrorDestination(host, logs, record, pin(1))
  type Told = ToDestination extends infer T
    ? T extends unknown
      ? Omit<T, 'mirror' | 'session'>
      : never
    : never
  const tell = (head: Told, body: Uint8Array = new Uint8Array()): void =>
    mirror.message({ head: { ...head, mirror: 'm', session: 1 }, body })
  return { mirror, sent, inUse, seen, tell }
}

const RESUME = {
  type: 'resume',
  version: MIRROR_VERSION,
  generation: 1,
  fence: [1, 1],
  opening: 1,
  last: 0,
  images: [],
  has: 0,
} as const

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a mirror’s destination', () => {
  test('an image that comes in one turn, behind one that waits for a freeze, asks for a consistency point', async () => {
    const { mirror, sent, inUse, seen, tell } = destination()
    await mirror.open()
    tell(RESUME)
    await turn()
    tell({ type: 'blocks' }, block(5))
    tell({ type: 'end', pin: pin(2) })
    await turn()
    expect(sent).toEqual(['resumed', 'taken', 'complete'])
    // The next one has a number that comes free with a consistency point only.
    inUse.add(6)
    seen.wanted = 0
    tell({ type: 'blocks' }, block(6))
    tell({ type: 'end', pin: pin(3) })
    await turn()
    expect(sent.filter((type) => type === 'complete')).toHaveLength(1)
    expect(seen.wanted).toBeGreaterThan(0)
    mirror.freezing()
    inUse.clear()
    mirror.frozen()
    await turn()
    expect(sent.filter((type) => type === 'complete')).toHaveLength(2)
  })

  test('a source of a release that says other things is refused, and goes on being heard by nobody', async () => {
    const { mirror, sent, tell } = destination()
    await mirror.open()
    tell({ ...RESUME, version: MIRROR_VERSION + 1 })
    await turn()
    tell({ type: 'blocks' }, block(5))
    tell({ type: 'end', pin: pin(2) })
    await turn()
    expect(sent).toEqual(['refused'])
    tell(RESUME)
    await turn()
    expect(sent).toEqual(['refused', 'resumed'])
  })
})
