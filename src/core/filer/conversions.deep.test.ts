/** What a filer is asked about a conversion, and what of it fits together: snapshots, other volumes, a change of mind, the spec afterwards. */
import { afterEach, expect, test } from '@jest/globals'
import { desiredOf } from '../../sim/desired.ts'
import { FilerPair } from '../../sim/filer-pair.ts'
import { FILERS } from '../../sim/names.ts'
import { problemsOf, untilEqual } from '../../sim/pair-check.ts'
import type { ConversionStatus, DesiredConversion } from './conversions-context.ts'
import type { Desired, DesiredVolume } from './served-volumes.ts'
import type { SnapshotOrder } from './snapshot-orders.ts'

const LIMIT_MS = 60_000
const OPTIONS = {
  deviceBlocks: [3000],
  traditionalBlocks: [1500, 700],
  emptyBlocks: 2500,
  volumeBytes: 4 * 2 ** 20,
  logBlocks: 257,
  cacheBytes: 8 * 2 ** 20,
  givebackDelayMs: 600_000,
}
const CONVERSION: DesiredConversion = {
  id: 'c',
  volumeId: 'volume-ta',
  aggregate: 'empty-a',
  state: 'Converted',
  scanBlocksPerSecond: 20_000,
  discardChanges: '',
}

let pair: FilerPair
let generation = 100

async function started(seed: number): Promise<void> {
  pair = new FilerPair({ seed, ...OPTIONS })
  for (const name of FILERS) pair.start(name)
  await pair.untilGood(LIMIT_MS)
}

async function desire(
  conversions: readonly DesiredConversion[],
  volumes = (all: readonly DesiredVolume[]): readonly DesiredVolume[] => all,
): Promise<void> {
  const base = desiredOf(OPTIONS, () => 0, new Set())
  generation += 1
  const desired: Desired = { ...base, generation, volumes: volumes(base.volumes), conversions }
  for (const name of FILERS)
    await pair.world.wait(pair.running[name]!.filer!.apply(desired), LIMIT_MS, 'the desired state')
}

const filer = () => pair.running.a!.filer!
const status = (): ConversionStatus | undefined => filer().conversions.status()[0]
const until = (what: string, condition: () => boolean): Promise<void> =>
  pair.world.until(condition, LIMIT_MS, what)
const reason = (type: string) => status()?.conditions.find((one) => one.type === type)?.reason
const snapshot = (some: Partial<SnapshotOrder>) =>
  pair.world.wait(
    filer().snapshot({ volumeId: 'volume-ta', op: 'Create', snapshot: 's', requestId: '', ...some }),
    LIMIT_MS,
    'an order',
  )
const typeOf = (): string | undefined => {
  for (const aggregate of pair.running.a!.filer!.stores.get('a')!.aggregates.values()) {
    const volume = aggregate.volume('volume-ta')
    if (volume !== undefined) return volume.type
  }
  return undefined
}

afterEach(async () => {
  await pair.untilGood(LIMIT_MS)
  await untilEqual(pair, LIMIT_MS)
  expect(await problemsOf(pair)).toEqual([])
})

test('12: a volume with snapshots is refused, or they are deleted first; none is made until it is complete', async () => {
  await started(1)
  expect((await snapshot({ snapshot: 'one' })).accepted).toBe(true)
  expect((await snapshot({ snapshot: 'two' })).accepted).toBe(true)
  await desire([CONVERSION])
  await until('refused', () => status()?.phase === 'Refused')
  expect(reason('Checked')).toBe('SnapshotsExist')
  expect(typeOf()).toBe('Traditional')
  await desire([{ ...CONVERSION, snapshots: 'Delete', state: 'Checked' }])
  await until('checked', () => status()?.phase === 'Checked')
  const { snapshots } = filer().stores.get('a')!.aggregates.get('vol-ta')!.volume('volume-ta')!
  expect(snapshots.list()).toHaveLength(2)
  await desire([{ ...CONVERSION, snapshots: 'Delete', scanBlocksPerSecond: 1 }])
  await until('cut over', () => typeOf() === 'Flexible')
  expect((await snapshot({ snapshot: 'three' })).message).toContain('is being converted')
  await desire([CONVERSION])
  await until('complete', () => status()?.phase === 'Complete')
  expect((await snapshot({ snapshot: 'three' })).accepted).toBe(true)
})

test('new volumes in the aggregate wait until it is complete, and are told why', async () => {
  await started(2)
  const more = (all: readonly DesiredVolume[]): readonly DesiredVolume[] => [
    ...all,
    { ...all[0]!, id: 'volume-more', name: 'more', aggregate: 'empty-a', sizeBytes: 2 ** 20 },
  ]
  await desire([{ ...CONVERSION, scanBlocksPerSecond: 1 }])
  await until('cut over', () => typeOf() === 'Flexible')
  await desire([{ ...CONVERSION, scanBlocksPerSecond: 1 }], more)
  await until('refused', () => filer().volumes.failures.get('volume-more') !== undefined)
  expect(filer().volumes.failures.get('volume-more')).toContain('ta is being converted into empty-a')
  await desire([CONVERSION], more)
  await until('complete', () => status()?.phase === 'Complete')
  await until('made', () => filer().volumes.failures.get('volume-more') === undefined)
  const aggregate = filer().stores.get('a')!.aggregates.get('empty-a')!
  expect(aggregate.volume('volume-more')).toBeDefined()
})

test('taken back while its changes are held, nothing is cut over', async () => {
  for (const taken of [[], [{ ...CONVERSION, state: 'Checked' as const }]]) {
    await started(3)
    await desire([CONVERSION])
    await until('cutting over', () => status()?.phase === 'CuttingOver')
    await desire(taken)
    await pair.world.run(5000)
    expect(typeOf()).toBe('Traditional')
    await desire([CONVERSION])
    await until('complete', () => status()?.phase === 'Complete')
  }
})

test('afterwards the volume is as asked for as the traditional one it was, and as the flexible one it is', async () => {
  await started(4)
  await desire([CONVERSION])
  await until('complete', () => status()?.phase === 'Complete')
  const aggregate = () => filer().stores.get('a')!.aggregates.get('empty-a')!
  const { sizeBytes } = aggregate().volume('volume-ta')!
  const flexible =
    (size: number) =>
    (all: readonly DesiredVolume[]): readonly DesiredVolume[] =>
      all.map((one) =>
        one.id === 'volume-ta'
          ? { ...one, type: 'Flexible', aggregate: 'empty-a', sizeBytes: size, name: 'renamed' }
          : one,
      )
  for (const size of [sizeBytes * 2, sizeBytes / 2]) {
    await desire([], flexible(size))
    await until('as flexible', () => aggregate().volume('volume-ta')!.sizeBytes === size)
    expect(aggregate().volume('volume-ta')!.name).toBe('renamed')
    await desire([])
    await until('as traditional', () => aggregate().volume('volume-ta')!.name === 'ta')
    expect(aggregate().volume('volume-ta')!.sizeBytes).toBe(size)
    expect([...filer().volumes.failures]).toEqual([])
  }
})
