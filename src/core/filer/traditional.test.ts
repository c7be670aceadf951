/** Traditional volumes as the operator asks for them: devices of their own, made by logged operations, over real aggregates. */
import { afterEach, describe, expect, test } from '@jest/globals'
import { nodeEnv } from '../../edge/node/env.ts'
import { SimDevice, SimMedium } from '../../sim/device.ts'
import { BufferCache } from '../block/buffer-cache.ts'
import { ROOT } from '../fs/testing/harness.ts'
import type { Journal } from '../fs/journal.ts'
import type { LogRecord } from '../nvlog/batch.ts'
import { asciiBytes } from '../std/ascii-json.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import type { AggregateDevices, AggregateStore } from './aggregate-store.ts'
import { AggregateCopy } from './aggregate-copy.ts'
import type { Desired, DesiredVolume } from './served-volumes.ts'
import { ServedVolumes } from './served-volumes.ts'

const env = { ...nodeEnv(), log() {} }

/** One filer's copy of a side: a flexible aggregate and the devices of a traditional volume, with a log in memory. */
class OneSide {
  readonly media = new Map([
    ['aggr1', [new SimMedium('aggr1-main-0', 2000)]],
    ['vol-t', [new SimMedium('vol-t-main-0', 1000), new SimMedium('vol-t-main-1', 800)]],
  ])
  readonly records: LogRecord[] = []
  readonly stores = new Map<string, AggregateStore>()
  readonly volumes = new ServedVolumes(env, ['a'], this.stores)
  #generation = 0

  copy(type: 'Flexible' | 'Traditional' = 'Traditional'): AggregateCopy {
    const aggregates = [...this.media].map(([name, media]): AggregateDevices => ({
      name,
      ...(name === 'vol-t' && type === 'Traditional' ? { type } : {}),
      devices: media.map((medium) => ({ name: medium.name, device: new SimDevice(medium) })),
    }))
    return new AggregateCopy({
      env,
      side: 'a',
      home: true,
      pairUid: 'pair-1',
      cache: new BufferCache(4 << 20),
      aggregates,
      opened: (store) => this.stores.set('a', store),
      closed: () => this.stores.delete('a'),
      joined: () => undefined,
      onPartnerFailed: (error) => {
        throw error
      },
      dirtyBytesMax: 4 << 20,
    })
  }

  get store(): AggregateStore {
    return this.stores.get('a')!
  }

  /** Opens the newest image and replays what the log has beyond it. */
  async serve(known?: readonly string[]): Promise<void> {
    const store = await this.copy().open(known)
    for (const record of this.records) expect(await store.replay(record)).toBeUndefined()
    const journal = (aggregate: string): Journal => ({
      admit() {},
      append: (volume, chunks) => {
        const seq = this.records.length + 1
        const body = new Uint8Array(Buffer.concat(chunks))
        this.records.push({ seq, aggregate: env.crc32(asciiBytes(aggregate)), volume, body })
        return seq
      },
      answer() {},
    })
    store.serve(journal, () => undefined)
    await this.volumes.opened('a')
  }

  async consistencyPoint(): Promise<void> {
    const point = this.store.freeze(this.records.length, 1)
    await point.write()
    await point.commitRoot(0)
    await point.complete()
  }

  async desire(...volumes: readonly DesiredVolume[]): Promise<void> {
    const desired: Desired = {
      generation: (this.#generation += 1),
      volumes,
      takeover: { mode: 'Automatic', giveback: 'Manual', givebackDelayMs: 0, givebackEpoch: 0 },
    }
    this.volumes.desire(desired)
    await this.volumes.reconcile('a')
  }

  paths(): readonly string[] {
    return [...this.volumes.served()].map((one) => one.export.path).sort()
  }
}

const wanted = (name: string, more: Partial<DesiredVolume> = {}): DesiredVolume => ({
  id: `id-${name}`,
  name,
  type: 'Traditional',
  aggregate: `vol-${name}`,
  sizeBytes: 0,
  export: { path: `/${name}`, rules: [] },
  state: 'Present',
  ...more,
})
const flexible = wanted('f', { type: 'Flexible', aggregate: 'aggr1', sizeBytes: 1000 * BLOCK_BYTES })

const open: OneSide[] = []
afterEach(async () => {
  for (const side of open.splice(0)) await side.stores.get('a')?.close()
})

async function made(aggregates: readonly string[] = ['aggr1', 'vol-t']): Promise<OneSide> {
  const side = new OneSide()
  for (const name of side.media.keys()) if (!aggregates.includes(name)) side.media.delete(name)
  open.push(side)
  await side.copy().format()
  await side.serve()
  return side
}

describe('a traditional volume', () => {
  test('is made on its devices, has their size, and is there after a crash, whether an image has it or only the log', async () => {
    const side = await made()
    await side.desire(wanted('t'), flexible)
    expect([...side.volumes.failures]).toEqual([])
    expect(side.paths()).toEqual(['/f', '/t'])
    const volume = side.store.aggregates.get('vol-t')!.volume('id-t')!
    expect(volume.type).toBe('Traditional')
    expect(volume.sizeBytes).toBeGreaterThan(1600 * BLOCK_BYTES)
    const handle = await volume.content.rootHandle()
    const { object } = (await volume.content.create(ROOT, handle, 'file', {
      mode: 'GUARDED',
      attributes: { size: 30 * BLOCK_BYTES },
    })) as unknown as { object: { handle: Uint8Array } }
    for (const image of [false, true]) {
      if (image) await side.consistencyPoint()
      await side.store.close()
      await side.serve()
      await side.desire(wanted('t'), flexible)
      expect(side.paths()).toEqual(['/f', '/t'])
      const again = side.store.aggregates.get('vol-t')!.volume('id-t')!
      expect(again.sizeBytes).toBe(volume.sizeBytes)
      expect(await again.content.getattr(object.handle)).toMatchObject({
        ok: true,
        attributes: { size: 30 * BLOCK_BYTES },
      })
    }
    const operations = side.records.filter((record) => record.volume === 0)
    expect(operations).toHaveLength(2)
  })

  test('is asked for again without a change, whatever size is named', async () => {
    const side = await made()
    await side.desire(wanted('t'))
    const { length } = side.records
    await side.desire(wanted('t', { sizeBytes: 5 * BLOCK_BYTES }))
    expect(side.records).toHaveLength(length)
    expect([...side.volumes.failures]).toEqual([])
  })

  test('has its devices alone, and does not go where flexible ones are', async () => {
    const side = await made()
    await side.desire(
      wanted('t'),
      wanted('u', { aggregate: 'vol-t' }),
      wanted('w', { aggregate: 'aggr1' }),
      wanted('x', { type: 'Flexible', aggregate: 'vol-t', sizeBytes: 1 << 20 }),
    )
    expect(side.paths()).toEqual(['/t'])
    expect(Object.fromEntries(side.volumes.failures)).toEqual({
      'id-u': 'the devices of vol-t hold volume t (id-t) already',
      'id-w': 'w does not belong in aggr1, an aggregate of flexible volumes',
      'id-x': 'x does not belong in vol-t, an aggregate of one traditional volume',
    })
    await side.desire(wanted('t', { type: 'Flexible', sizeBytes: 1 << 20 }))
    expect(side.volumes.failures.get('id-t')).toBe('the volume is Traditional, and cannot become Flexible')
    expect(side.paths()).toEqual(['/t'])
  })

  test('that is removed leaves empty devices, on which another can be made', async () => {
    const side = await made()
    await side.consistencyPoint()
    let aggregate = side.store.aggregates.get('vol-t')!
    const { usedBytes } = aggregate.sizes()
    await side.desire(wanted('t'))
    await side.consistencyPoint()
    await side.desire(wanted('t', { state: 'Removed' }))
    expect(side.paths()).toEqual([])
    // Until an image has it a restart has to replay the removal, for which the devices must be there.
    for (let again = 0; again < 2; again++) {
      expect(side.store.removalsInImage).toBe(false)
      await side.store.close()
      await side.serve()
    }
    await side.consistencyPoint()
    expect(side.store.removalsInImage).toBe(true)
    aggregate = side.store.aggregates.get('vol-t')!
    for (let n = 0; n < 3; n++) await side.consistencyPoint()
    expect([...aggregate.volumes(), ...aggregate.removed]).toEqual([])
    // The maps have leaves now.
    expect(aggregate.sizes().usedBytes - usedBytes).toBeLessThan(8 * BLOCK_BYTES)
    await side.desire(wanted('u', { aggregate: 'vol-t' }))
    expect(side.paths()).toEqual(['/u'])
    expect(aggregate.volume('id-u')!.index).toBe(1)
  })

  test('that is removed leaves a side that has nothing else, and the log, which still has what was done to it, can be read', async () => {
    const side = await made(['vol-t'])
    await side.desire(wanted('t'))
    await side.desire(wanted('t', { state: 'Removed' }))
    expect(side.store.leaving(() => false)).toEqual([])
    await side.consistencyPoint()
    expect(side.store.leaving(() => true)).toEqual([])
    expect(side.store.leaving(() => false)).toEqual(['vol-t'])
    side.store.left(['vol-t'])
    await side.store.close()
    side.media.clear()
    await side.serve([])
    expect([...side.store.aggregates.keys()]).toEqual([])
    // As long as the mailbox names it, its devices are missed.
    await side.store.close()
    const store = await side.copy().open(['vol-t'])
    expect(await store.replay(side.records[0]!)).toMatch(/not configured here/)
    await store.close()
  })

  test('keeps its devices from being taken for an aggregate of flexible volumes', async () => {
    const side = await made()
    await side.desire(wanted('t'))
    await side.consistencyPoint()
    await side.store.close()
    expect(await side.copy().inspect()).toMatchObject({ state: 'Complete' })
    expect(await side.copy('Flexible').inspect()).toEqual({
      state: 'Foreign',
      message: 'vol-t-main-0 is of an aggregate of type Traditional, not Flexible',
    })
  })
})
