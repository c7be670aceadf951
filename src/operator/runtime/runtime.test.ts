import { describe, expect, test } from '@jest/globals'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import { FILER_PAIRS } from '../../edge/kube/resources.ts'
import { roundedUsed } from '../filer-pair/status.ts'
import { StorageClasses } from '../storage-classes.ts'
import { isApplied, stamped } from './compare.ts'
import { tellConditions } from './condition-metrics.ts'
import { fails, holds, steady } from './conditions.ts'
import { KeyedQueue } from './queue.ts'
import { writeStatus } from './status-write.ts'

describe('queue', () => {
  test('works on a key once at a time, and once more when it came again meanwhile', async () => {
    const started: string[] = []
    const gates: (() => void)[] = []
    const queue = new KeyedQueue({
      workers: 2,
      work: (key) => {
        started.push(key)
        return new Promise((resolve) => gates.push(resolve))
      },
      onError: () => undefined,
    })
    for (const key of ['a', 'a', 'b', 'c', 'a']) queue.add(key)
    expect(started).toEqual(['a', 'b'])
    const idle = queue.idle()
    for (let i = 0; i < 4; i++) {
      gates.shift()!()
      await Promise.resolve()
      await new Promise(setImmediate)
    }
    await idle
    expect(started).toEqual(['a', 'b', 'c', 'a'])
  })

  test('repeats what failed, later each time, and forgets that once it works', async () => {
    const pauses: number[] = []
    let failures = 3
    const done = Promise.withResolvers<void>()
    const queue = new KeyedQueue({
      workers: 1,
      work: async () => {
        if (failures-- > 0) throw new Error('no')
        done.resolve()
      },
      onError: (_, __, againInMs) => pauses.push(againInMs),
      backoffMinMs: 1,
    })
    queue.add('a')
    const keepAlive = setInterval(() => undefined, 1000)
    await done.promise
    clearInterval(keepAlive)
    expect(pauses).toEqual([1, 2, 4])
    await queue.stop()
  })
})

describe('status', () => {
  const object = (status: object): KubeObject => ({
    ...{
      apiVersion: 'tandem.storage/v1alpha1',
      kind: 'FilerPair',
      metadata: { name: 'east', generation: 3 },
    },
    status,
  })
  const write = (status: object, figures: object, lastWriteMs: number, verdict = holds('Ready', 'well')) =>
    writeStatus(FILER_PAIRS, object(status), { Ready: verdict }, { ...figures }, 100_000, lastWriteMs)
  const [first] = write({}, { used: '1Gi' }, 0).actions as { object?: KubeObject }[]
  const status = first!.object!['status'] as { conditions: object[] }

  test('is written when a state changes, not when it is the same', () => {
    expect(write(status, { used: '1Gi' }, 99_999).actions).toEqual([])
    const changed = write(status, { used: '1Gi' }, 99_999, fails('Starting', 'not yet')).actions
    expect(changed.map((a) => a.type)).toEqual(['status', 'event'])
  })

  test('figures alone wait for 30 s since the last write', () => {
    expect(write(status, { used: '2Gi' }, 90_000)).toMatchObject({ actions: [], againInMs: 20_000 })
    expect(write(status, { used: '2Gi' }, 60_000).actions).toHaveLength(1)
  })

  test('conditions of other writers do not matter', () => {
    const conditions = [...status.conditions, { type: 'Theirs', status: 'True' }]
    expect(write({ ...status, conditions }, { used: '1Gi' }, 99_999).actions).toEqual([])
  })

  test('figures that tremble stay', () => {
    expect(steady(100, 150, 2)).toBe(100)
    expect(steady(100, 201, 2)).toBe(201)
    expect(steady(undefined, 7, 2)).toBe(7)
    expect(roundedUsed('1Gi', 1.03 * 2 ** 30)).toBe('1Gi')
    expect(roundedUsed('1Gi', 1.2 * 2 ** 30)).toBe('1.2Gi')
  })
})

describe('comparison', () => {
  const wanted = stamped({
    apiVersion: 'v1',
    kind: 'X',
    metadata: { name: 'x' },
    spec: { list: [{ a: 1 }], empty: {} },
  })

  test('what the server added does not matter; what is missing, other or no longer wanted does', () => {
    const there = { ...structuredClone(wanted), status: {}, spec: { list: [{ a: 1, b: 2 }], more: true } }
    expect(isApplied(wanted, there)).toBe(true)
    expect(isApplied(wanted, { ...there, spec: { list: [{ a: 2 }] } })).toBe(false)
    expect(isApplied(wanted, { ...there, spec: { list: [] } })).toBe(false)
    const less = stamped({ apiVersion: 'v1', kind: 'X', metadata: { name: 'x' }, spec: { list: [{ a: 1 }] } })
    expect(isApplied(less, there)).toBe(false)
  })
})

test('a pair whose claims wait is looked at again when StorageClasses change, not before', async () => {
  const names = ['fast']
  let asked = 0
  const api = {
    list: () => {
      asked++
      return Promise.resolve({ resourceVersion: '1', items: names.map((name) => ({ metadata: { name } })) })
    },
  } as unknown as KubeApi
  const woken: string[] = []
  const waked = Promise.withResolvers<void>()
  const classes = new StorageClasses(api, (key) => (woken.push(key), waked.resolve()), 5)
  expect([...(await classes.of('ns/east', true))!.keys()]).toEqual(['fast'])
  expect(await classes.of('ns/west', false)).toBeUndefined()
  while (asked < 4) await new Promise((resolve) => setTimeout(resolve, 1))
  expect(woken).toEqual([])
  names.push('slow')
  await waked.promise
  expect(woken).toEqual(['ns/east'])
  // Looked at, it knows; then it waits no more.
  expect([...(await classes.of('ns/east', true))!.keys()]).toEqual(['fast', 'slow'])
  classes.stop()
})

test('conditions become series that follow them, and go with their object', () => {
  const series = new Map<string, number>()
  const key = (labels: object): string => Object.values(labels).join()
  const gauges = {
    set: (_: string, value: number, labels: object) => void series.set(key(labels), value),
    remove: (_: string, labels: object) => void series.delete(key(labels)),
  }
  const object = (status: string, reason: string): KubeObject => ({
    apiVersion: 'v1',
    kind: 'FilerPair',
    metadata: { name: 'east', namespace: 'ns' },
    status: { conditions: [{ type: 'Ready', status, reason }] },
  })
  tellConditions(gauges, object('False', 'Starting'), undefined)
  expect([...series]).toEqual([['FilerPair,ns,east,Ready,Starting', 0]])
  tellConditions(gauges, object('True', 'Ready'), object('False', 'Starting'))
  expect([...series]).toEqual([['FilerPair,ns,east,Ready,Ready', 1]])
  tellConditions(gauges, undefined, object('True', 'Ready'))
  expect([...series]).toEqual([])
})
