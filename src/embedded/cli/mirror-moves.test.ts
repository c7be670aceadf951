/** Orders about mirrors against the store of an embedded instance; the operator's part is the test's. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import type { MirrorSpec } from '../../api/v1alpha1/mirror.ts'
import type { KubeClient } from '../../edge/kube/client.ts'
import { MIRRORS } from '../../edge/kube/resources.ts'
import { breakMirror, resyncMirror, reverseMirror } from './mirror-moves.ts'
import { startStore } from './testing/store-bed.ts'
import type { StoreBed } from './testing/store-bed.ts'

type Verdict = [type: string, status: string, reason: string]

let bed: StoreBed
let api: KubeClient
let said: Promise<unknown> = Promise.resolve()
/** What the operator says of a spec: conditions, and what else is in the status. */
let operator: (spec: MirrorSpec) => { conditions: Verdict[]; more?: object } | undefined = () => undefined

const OF = { namespace: 'n', name: 'm' }
const inSync: Verdict[] = [
  ['Accepted', 'True', 'Accepted'],
  ['Ready', 'True', 'Ready'],
  ['InSync', 'True', 'InSync'],
]

beforeAll(async () => {
  let seen = -1
  bed = await startStore(MIRRORS, (api, mirror) => {
    const generation = mirror?.metadata.generation ?? 0
    if (mirror === undefined || generation === seen) return
    seen = generation
    const spec = mirror['spec'] as MirrorSpec
    const answer = operator(spec)
    if (answer === undefined) return
    const conditions = answer.conditions.map(([type, status, reason]) => ({
      type,
      status,
      reason,
      message: `because of ${reason}`,
      observedGeneration: generation,
      lastTransitionTime: '2026-01-01T00:00:00Z',
    }))
    const [source, destination] = [spec.source.volumeName, spec.destination.volumeName]
    const status = { conditions, source, destination, ...answer.more }
    said = api.mergePatch(MIRRORS, 'n', 'm', { status }, 'status')
  })
  ;({ api } = bed)
})
afterAll(() => bed.end())
beforeEach(async () => {
  await api.delete(MIRRORS, 'n', 'm').catch(() => undefined)
  const told = Promise.withResolvers<void>()
  operator = () => {
    queueMicrotask(told.resolve)
    return { conditions: inSync }
  }
  await api.create(MIRRORS, {
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'Mirror',
    metadata: { name: 'm', namespace: 'n' },
    spec: { source: { volumeName: 'home' }, destination: { volumeName: 'home-dr' } },
  })
  await told.promise
  await said
})

const spec = async () => (await api.get(MIRRORS, 'n', 'm'))['spec']
const of = () => ({ api, ...OF })

describe('a mirror', () => {
  test('is broken', async () => {
    operator = ({ state }) => ({ conditions: state === 'Broken' ? inSync.slice(0, 2) : inSync })
    expect(await breakMirror(of(), 10_000)).toEqual({ state: 'Done', source: 'home', destination: 'home-dr' })
    expect(await spec()).toMatchObject({ state: 'Broken' })
  })

  test('is reversed in sync, and else not asked to', async () => {
    operator = () => ({ conditions: inSync })
    expect(await reverseMirror(of(), 10_000)).toEqual({
      state: 'Done',
      source: 'home-dr',
      destination: 'home',
    })
    const outOfSync = {
      conditions: [
        { type: 'InSync', status: 'False', reason: 'LinkLost', message: 'x', observedGeneration: 99 },
      ],
    }
    await api.mergePatch(MIRRORS, 'n', 'm', { status: outOfSync }, 'status')
    const before = await spec()
    expect(await reverseMirror(of(), 10_000)).toMatchObject({
      state: 'NotNow',
      message: expect.stringContaining('LinkLost: x'),
    })
    expect(await spec()).toEqual(before)
  })

  test('mirrors again in the direction that is named, once what is lost is named too', async () => {
    const divergence = { id: 'd1', bytes: '5Mi', since: '2026-01-01T00:00:00Z' }
    operator = ({ discardChanges }) =>
      discardChanges === 'd1'
        ? { conditions: inSync }
        : {
            conditions: [inSync[0]!, ['Ready', 'False', 'WouldDiscardChanges']],
            more: { divergence },
          }
    expect(await resyncMirror(of(), 'home-dr', undefined, 10_000)).toEqual({
      state: 'WouldDiscard',
      divergence,
    })
    expect(await resyncMirror(of(), 'home-dr', 'd0', 10_000)).toEqual({ state: 'WouldDiscard', divergence })
    expect(await resyncMirror(of(), 'home-dr', 'd1', 10_000)).toMatchObject({ state: 'Done' })
    expect(await spec()).toMatchObject({
      state: 'Mirrored',
      source: { volumeName: 'home-dr' },
      destination: { volumeName: 'home' },
      discardChanges: 'd1',
    })
  })

  test('that is refused says why, and one that is late how far it is', async () => {
    operator = () => ({ conditions: [['Accepted', 'False', 'NotInSync']] })
    expect(await breakMirror(of(), 10_000)).toEqual({ state: 'Refused', message: 'because of NotInSync' })
    operator = () => ({
      conditions: [inSync[0]!, ['Ready', 'False', 'Resyncing']],
      more: { message: 'the destination is catching up' },
    })
    expect(await resyncMirror(of(), 'home', undefined, 500)).toEqual({
      state: 'Late',
      message: 'the destination is catching up',
    })
  })

  test('that is not there, or a volume that is not its, is an error', async () => {
    await expect(breakMirror({ ...of(), name: 'x' }, 1000)).rejects.toThrow('no Mirror x')
    await expect(resyncMirror(of(), 'x', undefined, 1000)).rejects.toThrow('x is neither')
  })
})
