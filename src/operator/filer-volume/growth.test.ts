/** Plans for pairs that grow or shrink, in a world in memory: devices, aggregates, whose pod goes when. */
import { describe, expect, test } from '@jest/globals'
import type { FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import { CLAIMS, FILER_PAIRS, PODS } from '../../edge/kube/resources.ts'
import { plan } from '../filer-pair/plan.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import {
  set,
  aggregate,
  flexible,
  running,
  pairStatus,
  conditionOf,
  upToDate,
  aggregatesOf,
  claimsOf,
  report,
  volumeReport,
  servedBy,
  roll,
} from '../testing/volume-bed.ts'

describe('growth', () => {
  const grown = {
    aggregates: [
      {
        ...aggregate,
        deviceSets: [
          { ...set, count: 3 },
          { ...set, name: 'e' },
        ],
      },
    ],
  }

  test('new claims first, then the template, then one pod after the other, each given back before the next', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', grown)
    expect(w.pass()).toEqual(expect.arrayContaining(['create PersistentVolumeClaim/east-a-aggr-aggr1-d-2']))
    expect(w.pass().filter((a) => a.includes('StatefulSet') || a.includes('Pod/'))).toEqual([])
    w.bindClaims()
    expect(w.pass()).toEqual(expect.arrayContaining(['apply StatefulSet/east-a', 'apply StatefulSet/east-b']))
    expect(w.pass()).toContain('delete Pod/east-a-0')

    // Filer b has taken over; a is back and filled again, its side still at b.
    w.runPods()
    const away = (s: FilerStatus) => ({ sides: servedBy('b', s, 2) })
    report(w, away)
    w.settle()
    const patient = plan(w.observed()).actions
    expect(patient.filter((a) => a.type === 'delete')).toEqual([])
    expect(w.get(PODS, 'east-b-0')).toBeDefined()
    expect(upToDate(w)).toMatchObject({
      reason: 'Updating',
      message: expect.stringContaining('at home again'),
    })
    report(w, () => ({ generation: 0 }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { takeover: { givebackEpoch: 2 } },
    })
    report(w, (s) => ({
      generation: 99,
      sides: wellStatus(s.filer).sides.map((side) => ({ ...side, epoch: 3 })),
    }))
    expect(roll(w)).toEqual(['east-b-0'])
    expect(aggregatesOf(w, 'b', PODS)).toEqual([['aggr1', undefined, 'd:3', 'e:2']])
    expect(upToDate(w)?.reason).toBe('UpToDate')
  })

  test('a filer that ended by itself since is not asked to serve at once; nobody goes while a side is only being opened', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', grown)
    w.settle()
    w.bindClaims()
    w.pass()
    w.pass()
    w.runPods()
    const pod = w.get(PODS, 'east-a-0')!
    w.put({ ...pod, status: { phase: 'Running', containerStatuses: [{ restartCount: 1 }] } })
    report(w, (s) => ({
      generation: 0,
      sides: servedBy('b', s, 2),
    }))
    expect(plan(w.observed()).actions.find((a) => a.type === 'desired')).toMatchObject({
      desired: { takeover: { givebackEpoch: 0 } },
    })
    report(w, (s) => ({
      sides: wellStatus(s.filer).sides.map((side) => ({ ...side, epoch: 3, serving: side.side === 'b' })),
    }))
    w.settle()
    expect(w.get(PODS, 'east-b-0')).toBeDefined()
    expect(upToDate(w)?.reason).toBe('Updating')
    report(w, (s) => ({ sides: wellStatus(s.filer).sides.map((side) => ({ ...side, epoch: 3 })) }))
    expect(roll(w)).toEqual(['east-b-0'])
  })

  test('who gives back by hand is not waited for', () => {
    const w = running({ takeover: { giveback: 'Manual' } })
    w.change(FILER_PAIRS, 'east', grown)
    w.settle()
    w.bindClaims()
    w.pass()
    expect(w.pass()).toContain('delete Pod/east-a-0')
    w.runPods()
    report(w, (s) => ({
      sides: servedBy('b', s, 2),
    }))
    expect(roll(w)).toEqual(['east-b-0'])
  })

  test('with update: Manual nobody deletes a pod, and the condition says whose turn it is', () => {
    const w = running({ update: 'Manual' })
    w.change(FILER_PAIRS, 'east', grown)
    w.settle()
    w.bindClaims()
    expect(roll(w)).toEqual([])
    expect(upToDate(w)).toMatchObject({ reason: 'WaitingForYou' })
  })

  test('claims that cannot be bound hold nobody’s pod, those that wait for a pod do not hold it', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', {
      aggregates: [{ ...aggregate, deviceSets: [set, { ...set, name: 'e', storageClassName: 'slow' }] }],
    })
    w.settle()
    const pending = () => {
      for (const name of claimsOf(w, 'aggr1-e'))
        w.put({ ...w.get(CLAIMS, name)!, status: { phase: 'Pending' } })
      w.settle()
    }
    w.storageClasses = new Map()
    pending()
    expect(upToDate(w)?.reason).toBe('WaitingForClaims')
    w.storageClasses = new Map([['slow', 'Immediate']])
    pending()
    expect(upToDate(w)?.reason).toBe('WaitingForClaims')
    w.storageClasses = new Map([['slow', 'WaitForFirstConsumer']])
    expect(w.pass()).toContain('apply StatefulSet/east-a')
  })

  test('devices that wait are told', () => {
    const w = running()
    const [known] = wellStatus('a').aggregates
    report(w, () => ({
      aggregates: [
        {
          ...known!,
          devices: ['aggr1-d-0', 'aggr1-d-1'],
          waitingDevices: [{ name: 'aggr1-d-2', reason: 'filer b does not have it yet' }],
        },
      ],
    }))
    w.settle()
    expect(upToDate(w)).toMatchObject({
      reason: 'DevicesWaiting',
      message: 'device aggr1-d-2 has not joined yet: filer b does not have it yet',
    })
    expect(pairStatus(w).aggregates).toMatchObject([
      { name: 'aggr1', devices: 2, waitingDevices: [{ name: 'aggr1-d-2' }] },
    ])
  })

  test('an aggregate goes only when it is known to hold nothing; its claims go if the policy says so', () => {
    const second = { ...aggregate, name: 'aggr2' }
    const w = running({ aggregates: [aggregate, second], reclaimPolicy: 'Delete' })
    const tell = (volumes: FilerStatus['volumes']) =>
      report(w, () => ({
        aggregates: ['aggr1', 'aggr2'].map((name) => ({ ...wellStatus('a').aggregates[0]!, name })),
        volumes,
      }))
    w.put(flexible('home', { aggregate: 'aggr2' }))
    w.settle()
    const refused = () => {
      w.settle()
      return conditionOf(pairStatus(w), 'Accepted')
    }
    w.change(FILER_PAIRS, 'east', { aggregates: [aggregate] })
    expect(refused()).toMatchObject({
      reason: 'InUse',
      message: expect.stringContaining('holds FilerVolume home'),
    })
    w.objects.delete('FilerVolume/home')
    expect(refused()?.message).toContain('cannot tell')
    tell([volumeReport('old', { aggregate: 'aggr2', state: 'Retained' })])
    expect(refused()?.message).toContain('retained volume old')
    expect(aggregatesOf(w, 'a')).toHaveLength(2)
    tell([])
    expect(roll(w)).toEqual(['east-a-0', 'east-b-0'])
    expect(aggregatesOf(w, 'a', PODS)).toEqual([['aggr1', undefined, 'd:2']])
    expect(claimsOf(w, 'aggr2')).toEqual([])
    expect(claimsOf(w, 'aggr1')).toHaveLength(4)
    expect(conditionOf(pairStatus(w), 'Accepted')?.status).toBe('True')
  })
})
