import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KubeObject, WatchEvent } from '../../edge/kube/api.ts'
import { findResource } from './resources.ts'
import { Store } from './store.ts'

const leases = findResource('coordination.k8s.io', 'v1', 'leases')!
const me = { manager: 'test' }
let folder: string
const open: Store[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-store-'))
})
afterEach(async () => {
  for (const store of open.splice(0)) await store.close()
  rmSync(folder, { recursive: true })
})

async function openStore(options = {}, at = folder): Promise<Store> {
  const store = await Store.open(
    at,
    [],
    (error) => {
      throw error
    },
    options,
  )
  open.push(store)
  return store
}

function lease(name: string, holder = ''): KubeObject {
  return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name }, spec: { holder } }
}

function holders(store: Store): Record<string, unknown> {
  return Object.fromEntries(
    store.objects.list(leases).map((o) => [o.metadata.name, (o['spec'] as { holder: string }).holder]),
  )
}

describe('durability', () => {
  test('what was settled is there after a restart, and revisions go on', async () => {
    const store = await openStore()
    store.objects.create(leases, 'n', lease('x', '1'), me)
    store.objects.patch(leases, 'n', 'x', { spec: { holder: '2' } }, me)
    store.objects.create(leases, 'n', lease('y'), me)
    store.objects.delete(leases, 'n', 'y')
    await store.settled()
    const copy = join(folder, 'copy')
    mkdirSync(copy)
    copyFileSync(join(folder, 'objects.log'), join(copy, 'objects.log'))
    const again = await openStore({}, copy)
    expect(holders(again)).toEqual({ x: '2' })
    expect(again.objects.revision).toBe(store.objects.revision)
  })

  test('a file torn at any byte of its last line opens as if that line had never been begun', async () => {
    const store = await openStore()
    store.objects.create(leases, 'n', lease('x', '1'), me)
    await store.settled()
    const path = join(folder, 'objects.log')
    const before = statSync(path).size
    store.objects.patch(leases, 'n', 'x', { spec: { holder: '2' } }, me)
    await store.settled()
    const whole = readFileSync(path)
    const cuts = new Set([
      before,
      before + 1,
      before + 8,
      before + 9,
      whole.length - 2,
      whole.length - 1,
      whole.length,
    ])
    for (let bytes = before + 10; bytes < whole.length; bytes += 37) cuts.add(bytes)
    for (const bytes of cuts) {
      const at = join(folder, `torn-${bytes}`)
      mkdirSync(at)
      writeFileSync(join(at, 'objects.log'), whole)
      truncateSync(join(at, 'objects.log'), bytes)
      const torn = await openStore({}, at)
      expect(holders(torn)).toEqual({ x: bytes === whole.length ? '2' : '1' })
      torn.objects.create(leases, 'n', lease('z'), me)
      await torn.settled()
    }
  })

  test('damage that is not a torn end is refused', async () => {
    const store = await openStore()
    for (let i = 0; i < 5; i++) store.objects.create(leases, 'n', lease(`l${i}`), me)
    await store.settled()
    const path = join(folder, 'objects.log')
    const data = readFileSync(path)
    data[data.length >> 1]! ^= 1
    mkdirSync(join(folder, 'bad'))
    writeFileSync(join(folder, 'bad', 'objects.log'), data)
    await expect(openStore({}, join(folder, 'bad'))).rejects.toThrow(/damaged at byte/)
  })

  test('the file is written anew when most of it is history, and holds the same', async () => {
    const store = await openStore({ compactBytes: 20_000 })
    store.objects.create(leases, 'n', lease('x'), me)
    for (let i = 0; i < 500; i++) {
      store.objects.patch(leases, 'n', 'x', { spec: { holder: String(i) } }, me)
      if (i % 20 === 0) await store.settled()
    }
    await store.settled()
    await store.close()
    open.length = 0
    expect(statSync(join(folder, 'objects.log')).size).toBeLessThan(60_000)
    const again = await openStore()
    expect(holders(again)).toEqual({ x: '499' })
    expect(again.objects.revision).toBe(store.objects.revision)
  })
})

describe('watches', () => {
  test('a watch tells everything after its revision, in order, and sees objects enter and leave a selection', async () => {
    const store = await openStore()
    const made = store.objects.create(leases, 'n', lease('x'), me)
    await store.settled()
    const events: WatchEvent[] = []
    store.watches.watch(leases, store.objects.revision, { namespace: 'n', labelSelector: 'in=yes' }, (e) =>
      events.push(e),
    )
    store.objects.patch(leases, 'n', 'x', { metadata: { labels: { in: 'yes' } } }, me)
    store.objects.patch(leases, 'n', 'x', { spec: { holder: 'b' } }, me)
    store.objects.patch(leases, 'n', 'x', { metadata: { labels: null } }, me)
    store.objects.create(leases, 'other', lease('y'), me)
    await store.settled()
    expect(events.map((e) => e.type)).toEqual(['ADDED', 'MODIFIED', 'DELETED'])
    const replay: WatchEvent[] = []
    store.watches.watch(leases, Number(made.metadata.resourceVersion), {}, (e) => replay.push(e))
    expect(replay.map((e) => e.type)).toEqual(['MODIFIED', 'MODIFIED', 'MODIFIED', 'ADDED'])
  })

  test('a revision that is no longer in the history is Expired, also one of before a restart', async () => {
    const store = await openStore({ historyCapacity: 5 })
    store.objects.create(leases, 'n', lease('x'), me)
    for (let i = 0; i < 30; i++) store.objects.patch(leases, 'n', 'x', { spec: { holder: String(i) } }, me)
    await store.settled()
    expect(() => store.watches.watch(leases, 2, {}, () => undefined)).toThrow(
      expect.objectContaining({ code: 410, reason: 'Expired' }),
    )
    await store.close()
    open.length = 0
    const again = await openStore()
    expect(() => again.watches.watch(leases, again.objects.revision - 1, {}, () => undefined)).toThrow(
      /too old/,
    )
    again.watches.watch(leases, again.objects.revision, {}, () => undefined)
  })
})
