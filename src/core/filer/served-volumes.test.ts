import { expect, test } from '@jest/globals'
import { nodeEnv } from '../../edge/node/env.ts'
import type { AggregateStore } from './aggregate-copy.ts'
import { ServedVolumes } from './served-volumes.ts'

/** A store of one aggregate with volumes of these file-system ids, whose roots are known only when `ready` resolves. */
function storeOf(fsids: readonly number[], ready: Promise<void>): AggregateStore {
  const volumes = fsids.map((fsid) => ({
    fsid,
    name: `v${fsid}`,
    content: { rootHandle: () => ready.then(() => new Uint8Array(32)) },
    properties: { export: { path: `/v${fsid}`, rules: [] } },
  }))
  return { aggregates: new Map([['aggr1', { volumes: () => volumes }]]) } as unknown as AggregateStore
}

test('H1: while a side is being opened, what may be its volume is never called STALE', async () => {
  const stores = new Map<string, AggregateStore>()
  const volumes = new ServedVolumes(nodeEnv(), ['a', 'b'], stores)
  expect(volumes.byFsid(1)).toBe('ELSEWHERE')
  expect(volumes.opening()).toBe(true)

  stores.set('b', storeOf([2], Promise.resolve()))
  await volumes.opened('b')
  expect(volumes.byFsid(2)).toHaveProperty('export.path', '/v2')
  expect(volumes.byFsid(1)).toBe('ELSEWHERE')

  let ready = (): void => undefined
  stores.set('a', storeOf([1], new Promise((resolve) => (ready = resolve))))
  const opening = volumes.opened('a')
  expect(volumes.byFsid(1)).toBe('ELSEWHERE')
  expect(volumes.opening()).toBe(true)
  ready()
  await opening
  expect(volumes.byFsid(1)).toHaveProperty('export.path', '/v1')
  expect(volumes.byFsid(3)).toBeUndefined()
  expect(volumes.opening()).toBe(false)

  stores.delete('a')
  volumes.changed()
  expect(volumes.byFsid(1)).toBe('ELSEWHERE')
})

test('a side that is lost while it is opened leaves nothing behind', async () => {
  const stores = new Map<string, AggregateStore>()
  const volumes = new ServedVolumes(nodeEnv(), ['a'], stores)
  let ready = (): void => undefined
  stores.set('a', storeOf([1, 2], new Promise((resolve) => (ready = resolve))))
  const opening = volumes.opened('a')
  stores.delete('a')
  volumes.changed()
  ready()
  await opening
  expect(volumes.byFsid(1)).toBe('ELSEWHERE')
  expect([...volumes.served()]).toEqual([])
})
