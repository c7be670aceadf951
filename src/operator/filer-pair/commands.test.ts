/** What a person asks of a pair (to stop, to keep a filer out of service, to accept a loss, to be updated after another pair), and what status tells of filers that refuse each other. */
import { describe, expect, test } from '@jest/globals'
import type { DesiredState, FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import type { FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import { FILER_PAIRS, PODS, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import { ANNOTATION_ACCEPT_LOSS } from '../names.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import { World } from '../testing/world.ts'
import { UpdateTurns } from '../update-turn.ts'
import { plan } from './plan.ts'

const spec = {
  aggregates: [{ name: 'aggr1', filer: 'a', deviceSets: [{ name: 'd', count: 1, size: '256Mi' }] }],
}

function running(more: object = {}): World {
  const w = new World('east')
  w.put({
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'FilerPair',
    metadata: { name: 'east', namespace: 'ns' },
    spec: { ...spec, ...more },
  })
  w.settle()
  w.bindClaims()
  w.runPods()
  w.settle()
  return w
}
const statusOf = (w: World) => w.get(FILER_PAIRS, 'east')!['status'] as FilerPairStatus
const conditionOf = (w: World, type: string) => statusOf(w).conditions?.find((c) => c.type === type)
const replicasOf = (w: World) =>
  ['a', 'b'].map((f) => (w.get(STATEFUL_SETS, `east-${f}`)!['spec'] as { replicas: number }).replicas)
/** What the filers are being asked now, whether they know it already or not. */
function desiredOf(w: World): DesiredState {
  for (const [filer, status] of w.reports) w.reports.set(filer, { ...status, generation: 0 })
  const action = plan(w.observed()).actions.find((a) => a.type === 'desired')
  if (action?.type !== 'desired') throw new Error('nothing is asked of the filers')
  return action.desired
}
function tell(w: World, filer: string, change: Partial<FilerStatus>): void {
  w.reports.set(filer, { ...w.reports.get(filer)!, ...change })
}

describe('state: Stopped', () => {
  test('pods go only when both filers are done, and come back with Running', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', { state: 'Stopped' })
    w.settle()
    expect(desiredOf(w).state).toBe('Stopped')
    expect(replicasOf(w)).toEqual([1, 1])
    expect(conditionOf(w, 'Ready')).toMatchObject({
      reason: 'Stopping',
      message: expect.stringContaining('a, b'),
    })
    tell(w, 'a', { resting: 'DONE' })
    tell(w, 'b', { resting: 'FLUSHING' })
    w.settle()
    expect(replicasOf(w)).toEqual([1, 1])
    expect(conditionOf(w, 'Ready')?.message).toContain('filer b writes')
    tell(w, 'b', { resting: 'DONE' })
    w.settle()
    expect(replicasOf(w)).toEqual([0, 0])
    for (const filer of ['a', 'b']) w.objects.delete(`Pod/east-${filer}-0`)
    w.reports.clear()
    w.settle()
    expect(replicasOf(w)).toEqual([0, 0])
    for (const type of ['Ready', 'Redundant', 'TakeoverPossible', 'LinksUp'])
      expect(conditionOf(w, type)).toMatchObject({ status: 'False', reason: 'Stopped' })
    w.change(FILER_PAIRS, 'east', { state: 'Running' })
    w.settle()
    expect(replicasOf(w)).toEqual([1, 1])
    w.runPods()
    w.settle()
    expect(desiredOf(w)).not.toHaveProperty('state')
    expect(conditionOf(w, 'Ready')?.status).toBe('True')
  })

  test('a filer that does not run is not waited for, one that does not answer is, and status says what to do', () => {
    const w = running()
    w.objects.delete('Pod/east-b-0')
    w.reports.delete('b')
    w.change(FILER_PAIRS, 'east', { state: 'Stopped' })
    w.settle()
    expect(replicasOf(w)).toEqual([1, 1])
    tell(w, 'a', { resting: 'DONE' })
    w.settle()
    expect(replicasOf(w)).toEqual([0, 0])

    const hung = running()
    tell(hung, 'a', { resting: 'DONE' })
    hung.reports.delete('b')
    hung.silent.set('b', 20_000)
    hung.change(FILER_PAIRS, 'east', { state: 'Stopped' })
    hung.settle()
    expect(replicasOf(hung)).toEqual([1, 1])
    expect(conditionOf(hung, 'Ready')?.message).toContain('delete its pod')
  })

  test('taken back before the pods ended has them start anew; a filer that was started anew is told again', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', { state: 'Stopped' })
    w.settle()
    tell(w, 'a', { resting: 'NO' })
    tell(w, 'b', { resting: 'DONE' })
    expect(plan(w.observed()).actions.filter((x) => x.type === 'desired')).toMatchObject([{ filer: 'a' }])
    tell(w, 'a', { resting: 'FLUSHING' })
    w.change(FILER_PAIRS, 'east', { state: 'Running' })
    expect(w.pass()).toContain('delete Pod/east-b-0')
    expect(w.get(PODS, 'east-a-0')).toBeDefined()
  })

  test('of a new pair makes everything but pods', () => {
    const w = new World('east')
    w.put({
      apiVersion: 'tandem.storage/v1alpha1',
      kind: 'FilerPair',
      metadata: { name: 'east', namespace: 'ns' },
      spec: { ...spec, state: 'Stopped' },
    })
    w.settle()
    expect(replicasOf(w)).toEqual([0, 0])
    expect(conditionOf(w, 'Ready')?.reason).toBe('Stopped')
  })
})

describe('maintenance', () => {
  test('is handed to the filers as long as it is there', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', { maintenance: { filer: 'a' } })
    w.settle()
    expect(desiredOf(w).maintenance).toEqual({ filer: 'a' })
    w.change(FILER_PAIRS, 'east', { maintenance: null })
    w.settle()
    expect(desiredOf(w)).not.toHaveProperty('maintenance')
  })

  test('lets only the pod of that filer be replaced', () => {
    const w = running({ maintenance: { filer: 'b' } })
    w.change(FILER_PAIRS, 'east', { cacheSize: '512Mi' })
    w.pass()
    expect(w.pass()).toContain('delete Pod/east-b-0')
    w.runPods()
    w.settle()
    expect(w.get(PODS, 'east-a-0')).toBeDefined()
    expect(conditionOf(w, 'UpToDate')?.message).toContain('spec.maintenance goes')
    w.change(FILER_PAIRS, 'east', { maintenance: null })
    w.pass()
    expect([...w.pass(), ...w.pass()].join()).not.toContain('Pod/east-b-0')
    expect(w.get(PODS, 'east-a-0')).toBeUndefined()
  })
})

describe('takeover.mode: Manual', () => {
  test('takeover is possible, by hand; an update goes on; a lost filer waits for a person', () => {
    const w = running({ takeover: { mode: 'Manual' } })
    for (const filer of ['a', 'b'])
      tell(w, filer, {
        sides: wellStatus(filer).sides.map((s) => ({ ...s, takeoverPossible: false, reason: 'Manual' })),
      })
    w.settle()
    expect(conditionOf(w, 'TakeoverPossible')).toMatchObject({
      status: 'True',
      message: expect.stringContaining('waits for you'),
    })
    w.reports.delete('a')
    tell(w, 'b', {
      sides: wellStatus('b').sides.map((s) =>
        s.side === 'a'
          ? { ...s, takeoverPossible: false, reason: 'Manual', message: 'the owner is silent' }
          : s,
      ),
    })
    w.settle()
    expect(conditionOf(w, 'Ready')).toMatchObject({
      reason: 'Manual',
      message: expect.stringContaining('tandem takeover east a'),
    })
  })
})

describe('acceptLoss', () => {
  const dataFromSeconds = Date.UTC(2026, 0, 1) / 1000
  /** Filer b served everything alone and is lost; a has an old copy of both sides. */
  function lost(): World {
    const w = running()
    w.reports.delete('b')
    tell(w, 'a', {
      sides: wellStatus('a').sides.map((s) => ({
        ...s,
        owner: 'b',
        epoch: s.side === 'a' ? 5 : 2,
        mirrored: false,
        serving: false,
        role: 'Standby' as const,
        takeoverPossible: false,
        reason: 'CopyOutOfDate',
        message: 'b serves alone; waiting to be filled',
        dataFromSeconds,
      })),
    })
    w.settle()
    return w
  }
  const ask = (w: World, epoch: number, more: object = {}): void => {
    w.change(FILER_PAIRS, 'east', { acceptLoss: { filer: 'a', epoch, ...more } })
    w.settle()
  }
  const order = { filer: 'a', sides: { a: 5, b: 2 }, otherCopy: 'Kept' }

  test('status says what may be missing and what to write', () => {
    const w = lost()
    expect(conditionOf(w, 'Ready')).toMatchObject({
      reason: 'CopyOutOfDate',
      message: expect.stringContaining('spec.acceptLoss: {filer: a, epoch: 7}'),
    })
    expect(statusOf(w).outOfDateCopies).toEqual([
      { filer: 'a', side: 'a', dataFrom: '2026-01-01T00:00:00Z' },
      { filer: 'a', side: 'b', dataFrom: '2026-01-01T00:00:00Z' },
    ])
  })

  test('is refused while the pod of the other runs on a node that may be there', () => {
    const w = lost()
    ask(w, 7)
    expect(desiredOf(w)).not.toHaveProperty('acceptLoss')
    expect(conditionOf(w, 'Ready')).toMatchObject({
      reason: 'LossRefused',
      message: expect.stringMatching(/pod east-b-0 runs on node node-b.*delete that pod/),
    })
    w.nodeReady = true
    w.settle()
    expect(conditionOf(w, 'Ready')?.message).toContain('is Ready')
    w.nodeReady = false
    w.settle()
    expect(desiredOf(w).acceptLoss).toEqual(order)
  })

  test('of the epoch that was seen is noted once, and the same is said as long as the spec says it', () => {
    const w = lost()
    w.objects.delete('Pod/east-b-0')
    ask(w, 6)
    expect(desiredOf(w)).not.toHaveProperty('acceptLoss')
    ask(w, 7)
    expect(desiredOf(w).acceptLoss).toEqual(order)
    // It is done: the epochs have moved, and nothing new is given up.
    tell(w, 'a', {
      sides: wellStatus('a').sides.map((s) => ({
        ...s,
        owner: 'a',
        serving: true,
        mirrored: false,
        epoch: s.side === 'a' ? 6 : 3,
        reason: 'LossAccepted',
        lossAccepted: { epoch: s.side === 'a' ? 5 : 2, dataFromSeconds },
      })),
    })
    ask(w, 7, { otherCopy: 'Discarded' })
    expect(desiredOf(w).acceptLoss).toEqual({ ...order, otherCopy: 'Discarded' })
    expect(statusOf(w).acceptedLosses).toHaveLength(2)
    expect(conditionOf(w, 'Redundant')).toMatchObject({ reason: 'LossAccepted' })
    expect(conditionOf(w, 'Ready')?.status).toBe('True')
    const noted = w.get(FILER_PAIRS, 'east')!.metadata.annotations![ANNOTATION_ACCEPT_LOSS]
    expect(JSON.parse(noted!)).toEqual({ filer: 'a', epoch: 7, sides: { a: 5, b: 2 } })
  })

  test('is refused when the other filer answers and serves; what filers refuse themselves is told', () => {
    const w = lost()
    const sides = w.reports.get('a')!.sides
    w.reports.set('b', { ...wellStatus('b'), sides: sides.map((s) => ({ ...s, serving: s.side === 'b' })) })
    w.reports.set('a', { ...w.reports.get('a')!, sides })
    // Filer a's report of side b stands for itself: both name the same epoch and owner b, who speaks.
    ask(w, 7)
    expect(desiredOf(w).acceptLoss?.sides ?? {}).not.toHaveProperty('b')
    w.reports.delete('b')
    w.objects.delete('Pod/east-b-0')
    tell(w, 'a', { sides: sides.map((s) => ({ ...s, lossRefused: 'its beat in the vote moves' })) })
    w.settle()
    expect(conditionOf(w, 'Ready')).toMatchObject({
      reason: 'LossRefused',
      message: expect.stringContaining('its beat in the vote moves'),
    })
  })
})

describe('updates of several pairs', () => {
  test('a pair waits while another has its turn, and says for whom', () => {
    const w = running()
    w.updateTurn = { mine: false, other: 'ns/west' }
    w.change(FILER_PAIRS, 'east', { cacheSize: '512Mi' })
    w.settle()
    expect(w.get(PODS, 'east-a-0')).toBeDefined()
    expect(conditionOf(w, 'UpToDate')).toMatchObject({
      reason: 'WaitingForOtherPair',
      message: expect.stringContaining('ns/west'),
    })
    expect(plan(w.observed()).update).toBe('Waits')
    w.updateTurn = { mine: false, other: undefined }
    expect(plan(w.observed()).update).toBe('Holds')
    expect(w.pass()).toContain('delete Pod/east-a-0')
  })

  test('the turn is kept until the pair is up to date and redundant, also under a new operator', () => {
    const w = running()
    w.change(FILER_PAIRS, 'east', { cacheSize: '512Mi' })
    w.pass()
    expect(w.pass()).toContain('delete Pod/east-a-0')
    w.runPods()
    tell(w, 'b', {
      sides: wellStatus('b').sides.map((s) => ({ ...s, mirrored: false, epoch: 2, owner: 'b' })),
    })
    w.settle()
    expect(w.updateTurn.mine).toBe(false)
    expect(conditionOf(w, 'UpToDate')).toMatchObject({ reason: 'Updating' })
    expect(plan(w.observed()).update).toBe('Holds')
    for (const filer of ['a', 'b'])
      tell(w, filer, { sides: wellStatus(filer).sides.map((s) => ({ ...s, epoch: 3 })) })
    expect(w.pass()).toContain('delete Pod/east-b-0')
    w.runPods()
    w.updateTurn = { mine: true, other: undefined }
    w.settle()
    expect(conditionOf(w, 'UpToDate')?.reason).toBe('UpToDate')
    expect(plan(w.observed()).update).toBeUndefined()
  })

  test('turns go from one to the next; who waits is woken', () => {
    const woken: string[] = []
    const turns = new UpdateTurns((key) => woken.push(key))
    turns.resume(['ns/old'])
    expect(turns.of('ns/x')).toEqual({ mine: false, other: 'ns/old' })
    turns.planned('ns/x', 'Waits')
    turns.planned('ns/y', 'Waits')
    turns.planned('ns/y', undefined)
    turns.planned('ns/old', 'Holds')
    expect(woken).toEqual([])
    turns.planned('ns/old', undefined)
    expect(woken).toEqual(['ns/x'])
    turns.planned('ns/x', 'Holds')
    expect(turns.of('ns/x')).toEqual({ mine: true, other: undefined })
  })
})

describe('interconnects', () => {
  const down = (
    reason?: 'VersionMismatch' | 'CertificateRefused',
    message = '',
  ): FilerStatus['interconnects'][number] => ({
    name: 'default',
    state: 'Down',
    roundTripMicroseconds: 0,
    addresses: ['10.0.0.1:7400'],
    ...(reason && { reason, message }),
  })
  const apart = (w: World, a: FilerStatus['interconnects'][number], b = a): void => {
    for (const [filer, link] of [
      ['a', a],
      ['b', b],
    ] as const) {
      const { sides } = w.reports.get(filer)!
      const alone = sides.map((side) => ({
        ...side,
        mirrored: false,
        takeoverPossible: false,
        reason: 'PartnerDown',
      }))
      tell(w, filer, { interconnects: [link], sides: alone })
    }
    w.settle()
  }

  test('filers of versions that do not go together: status, LinksUp and TakeoverPossible say so, and what to do', () => {
    const w = running()
    apart(w, down('VersionMismatch', 'partner speaks version 2, this filer 1'), down())
    expect(statusOf(w).interconnects).toMatchObject([
      {
        name: 'default',
        state: 'Down',
        reason: 'VersionMismatch',
        message: 'partner speaks version 2, this filer 1',
      },
    ])
    for (const type of ['LinksUp', 'TakeoverPossible']) {
      expect(conditionOf(w, type)).toMatchObject({ status: 'False', reason: 'VersionMismatch' })
      expect(conditionOf(w, type)?.message).toMatch(/version 2, this filer 1.*spec\.image/)
    }
    expect(plan(w.observed()).actions).toEqual([])
  })

  test('a certificate that is refused names the Secrets; a link that is only broken has no reason', () => {
    const w = running()
    apart(w, down('CertificateRefused', 'certificate names nobody'))
    expect(conditionOf(w, 'LinksUp')?.message).toContain('east-<filer>-tls')
    apart(w, down())
    expect(conditionOf(w, 'LinksUp')).toMatchObject({ reason: 'LinkDown' })
    expect(conditionOf(w, 'TakeoverPossible')).toMatchObject({ reason: 'PartnerDown' })
    expect(statusOf(w).interconnects![0]).not.toHaveProperty('reason')
  })
})
