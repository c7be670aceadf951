/** Passes over the mirrors of a namespace: which are accepted, what their conditions say, what filers are told, and how they end. */
import { describe, expect, test } from '@jest/globals'
import type { FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import { filerPair } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { mirror } from '../../api/v1alpha1/mirror.ts'
import type { MirrorStatus } from '../../api/v1alpha1/mirror.ts'
import { validateSpec } from '../../api/validate.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { FILER_VOLUMES } from '../../edge/kube/resources.ts'
import { viewOf } from '../filer-pair/view.ts'
import type { MirrorReport } from '../filer-pair/view.ts'
import { ANNOTATION_ACCEPTED, FINALIZER } from '../names.ts'
import type { Action } from '../runtime/actions.ts'
import { wellStatus } from '../testing/fake-filers.ts'
import { World, mergePatch } from '../testing/world.ts'
import { mirrorContent, mirrorsAt } from './desired.ts'
import type { PeerPair } from './desired.ts'
import { planMirrors } from './plan.ts'
import type { PairObserved } from '../namespace-observed.ts'

const API = 'tandem.storage/v1alpha1'
const SECOND = 1_700_000_000

const pairSpec = ((): FilerPairSpec => {
  const made = validateSpec<FilerPairSpec>(filerPair, 'x', {
    aggregates: [{ name: 'aggr1', filer: 'a', deviceSets: [{ name: 'd', size: '1Gi' }] }],
  })
  if (!made.ok) throw new Error('the pair of the tests is not valid')
  return made.value
})()

function volume(name: string, pairName: string, change: object = {}): KubeObject {
  const spec = { pairName, aggregate: 'aggr1', size: '1Gi', ...change }
  const uid = `id-${name}`
  return {
    apiVersion: API,
    kind: 'FilerVolume',
    metadata: {
      name,
      namespace: 'ns',
      uid,
      annotations: { [ANNOTATION_ACCEPTED]: JSON.stringify({ uid, spec }) },
    },
    spec,
  }
}

const reportOf = (role: MirrorReport['role'], change: Partial<MirrorReport> = {}): MirrorReport => ({
  id: 'uid-m',
  role,
  volumeId: role === 'Source' ? 'id-home' : 'id-home-dr',
  state: 'InSync',
  reason: '',
  message: '',
  connected: true,
  lagSeconds: 0,
  lagBytes: 0,
  logFiles: 2,
  logFilesMax: 16,
  durableImage: 7,
  unacknowledged: 0,
  ...change,
})

/** Mirrors between two pairs, east and west, whose filers say what a test has them say. */
class Mirrors {
  readonly mirrors = new Map<string, KubeObject>()
  volumes = [
    volume('home', 'east'),
    volume('home-dr', 'west'),
    volume('web', 'west'),
    volume('web-dr', 'east'),
  ]
  readonly statuses = new Map<string, FilerStatus>([
    ['east', wellStatus('a')],
    ['west', wellStatus('a')],
  ])
  readonly told = new Map<string, PairObserved['told']>()
  readonly events: string[] = []
  namespaceTerminating = false
  nowMs = Date.UTC(2026, 0, 1)
  #made = 0

  put(name: string, source: string, destination: string, change: object = {}): this {
    this.mirrors.set(name, {
      apiVersion: API,
      kind: 'Mirror',
      metadata: {
        name,
        namespace: 'ns',
        uid: `uid-${name}`,
        generation: 1,
        creationTimestamp: `2026-01-01T00:00:${String(this.#made++).padStart(2, '0')}Z`,
      },
      spec: { source: { volumeName: source }, destination: { volumeName: destination }, ...change },
    })
    return this
  }

  say(pair: string, ...mirrors: MirrorReport[]): this {
    this.statuses.set(pair, { ...this.statuses.get(pair)!, mirrors })
    return this
  }

  change(name: string, spec: object): this {
    this.mirrors.set(name, mergePatch(this.mirrors.get(name), { spec }) as KubeObject)
    return this
  }

  delete(name: string): this {
    const gone = { metadata: { deletionTimestamp: '2026-01-02T00:00:00Z' } }
    this.mirrors.set(name, mergePatch(this.mirrors.get(name), gone) as KubeObject)
    return this
  }

  /** One pass; gives how many writes it made. */
  pass(): number {
    const { actions } = planMirrors({
      mirrors: [...this.mirrors.values()],
      conversions: [],
      volumes: this.volumes,
      pair: (name) => {
        const status = this.statuses.get(name)
        return status && { spec: pairSpec, view: viewOf([status]), told: this.told.get(name) }
      },
      namespaceTerminating: this.namespaceTerminating,
      nowMs: this.nowMs,
      statusWrittenMs: () => 0,
    })
    for (const action of actions) this.#do(action)
    return actions.filter((a) => a.type !== 'event').length
  }

  settle(): this {
    for (let passes = 0; passes < 5; passes++) if (this.pass() === 0) return this
    throw new Error('still writing after 5 passes')
  }

  #do(action: Action): void {
    if (action.type === 'event') this.events.push(`${action.level} ${action.reason}: ${action.message}`)
    if (action.type === 'status') {
      const before = this.mirrors.get(action.object.metadata.name)!
      this.mirrors.set(before.metadata.name, { ...before, status: action.object['status'] })
    }
    if (action.type === 'patch') {
      const after = mergePatch(this.mirrors.get(action.name), action.patch) as KubeObject
      if (after.metadata.deletionTimestamp !== undefined && after.metadata.finalizers?.length === 0)
        this.mirrors.delete(action.name)
      else this.mirrors.set(action.name, after)
    }
  }

  status(name: string): MirrorStatus {
    return this.mirrors.get(name)!['status'] as MirrorStatus
  }
  reason(name: string, type: string): string {
    const found = this.status(name).conditions?.find((c) => c.type === type)
    const sign = { True: '+', False: '-', Unknown: '?' }[found!.status]
    return `${sign}${found!.reason}`
  }
  /** What the filers of a pair are told. */
  content(pair: string) {
    const peer = (name: string): PeerPair | undefined =>
      this.statuses.has(name)
        ? {
            spec: pairSpec,
            ca: `CA of ${name}`,
            addresses: { a: { default: `${name}-a:7400` }, b: { default: `${name}-b:7400` } },
          }
        : undefined
    return mirrorContent('ns', mirrorsAt(pair, [...this.mirrors.values()], this.volumes, peer), peer)
  }
}

const one = (change: object = {}) => new Mirrors().put('m', 'home', 'home-dr', change)

describe('a mirror is accepted', () => {
  test('between volumes of two pairs, and both directions of a pair of pairs', () => {
    const m = one().put('n', 'web', 'web-dr').settle()
    expect([m.reason('m', 'Accepted'), m.reason('n', 'Accepted')]).toEqual(['+Accepted', '+Accepted'])
    expect(m.mirrors.get('m')!.metadata.finalizers).toEqual([FINALIZER])
    expect(m.status('m')).toMatchObject({ source: 'east/home', destination: 'west/home-dr', id: 'uid-m' })
  })

  test.each<[string, string, (m: Mirrors) => unknown]>([
    ['VolumeNotFound', 'no FilerVolume nowhere', (m) => m.put('x', 'nowhere', 'web-dr')],
    [
      'VolumeNotFound',
      'no accepted spec',
      (m) => {
        m.volumes = [
          ...m.volumes,
          {
            ...volume('new', 'west'),
            metadata: { name: 'new', uid: 'u' },
            status: { conditions: [{ type: 'Accepted', status: 'False' }] },
          },
        ]
        m.put('x', 'web-dr', 'new')
      },
    ],
    [
      'VolumeNotFound',
      'is being deleted',
      (m) => {
        m.volumes = m.volumes.map((v) =>
          v.metadata.name === 'web' ? { ...v, metadata: { ...v.metadata, deletionTimestamp: 'now' } } : v,
        )
        m.put('x', 'web', 'web-dr')
      },
    ],
    [
      'VolumeNotFlexible',
      'archive is Traditional',
      (m) => {
        const traditional = {
          type: 'Traditional',
          aggregate: undefined,
          size: undefined,
          filer: 'a',
          deviceSets: [{ name: 'd', size: '1Gi' }],
        }
        m.volumes = [...m.volumes, volume('archive', 'west', traditional)]
        m.put('x', 'web-dr', 'archive')
      },
    ],
    [
      'SameVolume',
      'is the volume of spec.source',
      (m) => {
        m.volumes = [...m.volumes, volume('again', 'west', { adopt: 'id-web' })]
        m.put('x', 'web', 'again')
      },
    ],
    ['SamePair', 'where both filers have it anyway', (m) => m.put('x', 'web', 'home-dr')],
    ['Cycle', 'mirrored to home', (m) => m.put('x', 'home-dr', 'home')],
    [
      'Cycle',
      'back to home-dr',
      (m) => {
        m.volumes = [...m.volumes, volume('third', 'south')]
        m.put('y', 'third', 'web-dr')
        m.put('x', 'home-dr', 'home')
      },
    ],
    ['Cascade', 'home-dr is the destination of Mirror m', (m) => m.put('x', 'home-dr', 'web-dr')],
    ['Cascade', 'home is the source of Mirror m', (m) => m.put('x', 'web', 'home')],
    ['VolumeInUse', 'home is the source of Mirror m already', (m) => m.put('x', 'home', 'web')],
    ['VolumeInUse', 'home-dr is the destination of Mirror m already', (m) => m.put('x', 'web-dr', 'home-dr')],
  ])('not: %s, %s', (reason, message, prepare) => {
    const m = one()
    prepare(m)
    m.settle()
    expect(m.reason('m', 'Accepted')).toBe('+Accepted')
    expect(m.reason('x', 'Accepted')).toBe(`-${reason}`)
    expect(m.reason('x', 'Ready')).toBe('-NotAccepted')
    expect(m.status('x').message).toContain(message)
    expect(JSON.stringify(m.content('west'))).not.toContain('uid-x')
  })

  test('only once its volumes have been looked at', () => {
    const m = new Mirrors().put('m', 'home', 'new')
    m.volumes = [...m.volumes, { ...volume('new', 'west'), metadata: { name: 'new', uid: 'u' } }]
    expect(m.settle().reason('m', 'Accepted')).toBe('?Unknown')
    m.volumes = m.volumes.map((v) => (v.metadata.name === 'new' ? volume('new', 'west') : v))
    expect(m.settle().reason('m', 'Accepted')).toBe('+Accepted')
  })

  test('when what stood in its way is gone', () => {
    const m = one().put('x', 'home', 'web').settle()
    m.namespaceTerminating = true
    m.delete('m').settle()
    expect(m.reason('x', 'Accepted')).toBe('+Accepted')
  })

  test('and reversed only in sync; until then its direction stays', () => {
    const m = one().settle()
    const swap = { source: { volumeName: 'home-dr' }, destination: { volumeName: 'home' } }
    m.say('east', reportOf('Source', { state: 'CatchUp' }))
      .change('m', swap)
      .settle()
    expect([m.reason('m', 'Accepted'), m.reason('m', 'Ready')]).toEqual(['-NotInSync', '-NotInSync'])
    expect(m.content('west').mirrors?.[0]?.role).toBe('Destination')
    m.say('east', reportOf('Source')).settle()
    expect(m.reason('m', 'Accepted')).toBe('+Accepted')
    expect(m.content('west').mirrors?.[0]?.role).toBe('Source')
    expect(m.content('east').mirrors?.[0]).toMatchObject({
      id: 'uid-m',
      role: 'Destination',
      volumeId: 'id-home',
    })
  })

  test('and swapped at any time while it is broken', () => {
    const m = one({ state: 'Broken' }).settle()
    m.change('m', {
      source: { volumeName: 'home-dr' },
      destination: { volumeName: 'home' },
      state: 'Mirrored',
    })
    expect(m.settle().reason('m', 'Accepted')).toBe('+Accepted')
    expect(m.content('west').mirrors?.[0]).toMatchObject({ role: 'Source', state: 'Mirrored' })
  })
})

describe('filers are told', () => {
  test('whom to trust, where they are, and what to mirror', () => {
    const m = one({ policy: 'Strict', logFilesMax: 5, discardChanges: 'd1' }).settle()
    expect(m.content('east')).toEqual({
      peers: [
        {
          name: 'west',
          namespace: 'ns',
          pair: 'west',
          ca: 'CA of west',
          filers: [
            { name: 'a', addresses: { default: 'west-a:7400' } },
            { name: 'b', addresses: { default: 'west-b:7400' } },
          ],
        },
      ],
      mirrors: [
        {
          id: 'uid-m',
          role: 'Source',
          volumeId: 'id-home',
          peers: ['west/a', 'west/b'],
          state: 'Mirrored',
          policy: 'Strict',
          logFilesMax: 5,
          discardChanges: 'd1',
        },
      ],
    })
    expect(m.content('west').mirrors?.[0]).toMatchObject({ role: 'Destination', volumeId: 'id-home-dr' })
    expect(new Mirrors().content('east')).toEqual({})
  })

  test('nothing of a mirror that could go without a trace', () => {
    const m = one()
    expect(m.content('east')).toEqual({})
  })
})

/** What both ends say, and what is made of it: state; Ready, InSync, Broken. */
const cases: [string, object, MirrorReport | undefined, MirrorReport | undefined, string][] = [
  ['nobody says anything', {}, undefined, undefined, '-; -Connecting ?Unknown ?Unknown'],
  [
    'the first image',
    {},
    reportOf('Source', { state: 'Baseline', baselinePercent: 12.7 }),
    reportOf('Destination', { state: 'Baseline' }),
    'Baseline; -Baseline -Baseline -Mirrored',
  ],
  [
    'later images',
    {},
    reportOf('Source', { state: 'CatchUp' }),
    reportOf('Destination', { state: 'CatchUp' }),
    'CatchUp; -Resyncing -CatchingUp -Mirrored',
  ],
  ['in sync', {}, reportOf('Source'), reportOf('Destination'), 'InSync; +Ready +InSync -Mirrored'],
  [
    'out of sync',
    {},
    reportOf('Source', { state: 'OutOfSync', reason: 'DestinationDown' }),
    undefined,
    'OutOfSync; -Connecting -DestinationDown -Mirrored',
  ],
  [
    'out of sync, for no known reason',
    {},
    reportOf('Source', { state: 'OutOfSync' }),
    reportOf('Destination', { state: 'OutOfSync' }),
    'OutOfSync; -OutOfSync -LinkLost -Mirrored',
  ],
  ['the source is silent', {}, undefined, reportOf('Destination'), 'InSync; -Connecting -LinkLost -Mirrored'],
  [
    'a break under way',
    { state: 'Broken' },
    reportOf('Source', { state: 'OutOfSync' }),
    reportOf('Destination', { state: 'Breaking' }),
    'OutOfSync; -Switching -LinkLost -Breaking',
  ],
  [
    'broken',
    { state: 'Broken' },
    undefined,
    reportOf('Destination', { state: 'Broken' }),
    'Broken; +Ready -Broken +Broken',
  ],
  [
    'a resync that would overwrite',
    {},
    reportOf('Source', { state: 'OutOfSync', reason: 'WouldDiscardChanges' }),
    reportOf('Destination', {
      state: 'Broken',
      reason: 'WouldDiscardChanges',
      divergence: { id: 'd1', bytes: 5 << 20, sinceSeconds: SECOND },
    }),
    'Broken; -WouldDiscardChanges -Broken +Broken',
  ],
  [
    'a break that the source heard of first',
    { state: 'Broken' },
    reportOf('Source', { state: 'Broken' }),
    reportOf('Destination', { state: 'Breaking' }),
    'Broken; -Switching -Broken -Breaking',
  ],
  [
    'a reverse under way',
    {},
    reportOf('Source', { state: 'Reversing' }),
    reportOf('Destination'),
    'Reversing; -Switching -CatchingUp -Mirrored',
  ],
  [
    'roles that are not yet what the spec says',
    {},
    reportOf('Destination'),
    reportOf('Source'),
    'InSync; -Switching -CatchingUp -Mirrored',
  ],
  [
    'a baseline that is needed anew',
    {},
    reportOf('Source', { state: 'OutOfSync', reason: 'NotInSync', message: 'no common image' }),
    reportOf('Destination', { state: 'OutOfSync' }),
    'OutOfSync; -NotInSync -LinkLost -Mirrored',
  ],
]

describe('conditions', () => {
  test.each(cases)('%s', (_, spec, source, destination, expected) => {
    const m = one(spec)
    if (source !== undefined) m.say('east', source)
    if (destination !== undefined) m.say('west', destination)
    m.settle()
    const said = ['Ready', 'InSync', 'Broken'].map((type) => m.reason('m', type)).join(' ')
    expect(`${m.status('m').state ?? '-'}; ${said}`).toBe(expected)
  })

  test('a written destination is refused', () => {
    const written = reportOf('Destination', { state: 'Broken', reason: 'DestinationNotEmpty' })
    const m = one().say('west', written).settle()
    expect([m.reason('m', 'Accepted'), m.reason('m', 'Ready')]).toEqual(['-DestinationNotEmpty', '-Failed'])
    expect(m.status('m').message).toContain('home-dr has been written')
  })

  test('a side that nobody serves is named', () => {
    const m = one()
    const well = wellStatus('a')
    m.statuses.set('west', { ...well, sides: well.sides.map((s) => ({ ...s, serving: false })) })
    expect(m.settle().reason('m', 'Ready')).toBe('-PairNotReady')
    expect(m.status('m').message).toContain('filer a of FilerPair west')
  })

  test('filers that do not reach each other say why', () => {
    const m = one()
    const peers = [
      { name: 'west/b', state: 'Down' as const, reason: 'NotTrusted' as const, message: 'another authority' },
    ]
    m.statuses.set('east', wellStatus('a', { peers }))
    m.settle()
    expect(m.status('m').message).toBe('filer east/a does not reach west/b: NotTrusted: another authority')
  })

  test('every reason is one of the documented ones', () => {
    for (const [, spec, source, destination] of cases) {
      const m = one(spec)
      if (source !== undefined) m.say('east', source)
      if (destination !== undefined) m.say('west', destination)
      for (const { type, reason } of m.settle().status('m').conditions ?? []) {
        const documented = Object.keys(mirror.conditions.find((c) => c.type === type)?.reasons ?? {})
        expect(documented).toContain(reason)
      }
    }
  })
})

describe('status', () => {
  test('figures, divergence and the way out', () => {
    const source = { lagSeconds: 45.3, lagBytes: 12 << 20, state: 'CatchUp' as const, logFiles: 3 }
    const m = one().say('east', reportOf('Source', source)).say('west', reportOf('Destination')).settle()
    expect(m.status('m')).toMatchObject({ lagSeconds: 45, lag: '45s 12Mi', logFiles: '3/16' })
    const divergence = { id: 'd1', bytes: 5 << 20, sinceSeconds: SECOND }
    m.say('west', reportOf('Destination', { state: 'Broken', reason: 'WouldDiscardChanges', divergence }))
    m.settle()
    expect(m.status('m').divergence).toEqual({ id: 'd1', bytes: '5Mi', since: '2023-11-14T22:13:20Z' })
    expect(m.status('m').message).toContain('spec.discardChanges: d1')
    expect(m.status('m').lag).toBeUndefined()
  })

  test('Events tell when it comes into sync, leaves it, and is broken', () => {
    const m = one().say('west', reportOf('Destination')).say('east', reportOf('Source')).settle()
    m.say('east', reportOf('Source', { state: 'OutOfSync', reason: 'LinkLost' })).settle()
    m.change('m', { state: 'Broken' })
      .say('west', reportOf('Destination', { state: 'Broken' }))
      .settle()
    expect(m.events.map((e) => e.slice(0, 40))).toEqual([
      'Warning OutOfSync: Ready is False: the t',
      'Warning LinkLost: InSync is False: the t',
      'Normal Ready: the mirror is broken, as s',
      'Warning Broken: InSync is False: the mir',
      'Normal Broken: home-dr is a volume of it',
    ])
  })

  test('an idle mirror is not written', () => {
    const m = one().say('west', reportOf('Destination')).say('east', reportOf('Source')).settle()
    expect(m.pass()).toBe(0)
  })
})

describe('a mirror that is deleted', () => {
  const removing = () => {
    const m = one().say('west', reportOf('Destination')).say('east', reportOf('Source')).settle()
    return m.delete('m').settle()
  }

  test('is told to both pairs, and waits until the filers that serve its ends know it no more', () => {
    const m = removing()
    expect(m.content('east').mirrors?.[0]?.state).toBe('Removed')
    expect(m.reason('m', 'Ready')).toBe('-Removing')
    // Gone from the report, but by a filer that may not have been told yet.
    m.say('east').say('west').settle()
    expect(m.mirrors.has('m')).toBe(true)
    for (const pair of ['east', 'west'])
      m.told.set(pair, { generation: 3, removed: ['uid-m'], conversions: [] })
    m.settle()
    expect(m.mirrors.has('m')).toBe(true)
    m.statuses.set('east', wellStatus('a', { generation: 3 }))
    m.settle()
    expect(m.mirrors.has('m')).toBe(true)
    const unserved = wellStatus('a').sides.map((s) => ({ ...s, serving: false }))
    m.statuses.set('west', wellStatus('a', { generation: 3, sides: unserved }))
    m.settle()
    expect(m.mirrors.has('m')).toBe(true)
    m.statuses.set('west', wellStatus('a', { generation: 3 }))
    m.settle()
    expect(m.mirrors.has('m')).toBe(false)
  })

  test('does not wait for a pair that is gone', () => {
    const m = removing()
    m.statuses.delete('east')
    m.told.set('west', { generation: 3, removed: ['uid-m'], conversions: [] })
    m.statuses.set('west', wellStatus('a', { generation: 3 }))
    m.settle()
    expect(m.mirrors.has('m')).toBe(false)
  })

  test('waits for nobody in a namespace that goes', () => {
    const m = removing()
    m.namespaceTerminating = true
    m.settle()
    expect(m.mirrors.has('m')).toBe(false)
  })
})

describe('the volume of a mirror', () => {
  /** A pair whose volume `home` is the source (or destination) of mirror m. */
  function pairWith(role: 'Source' | 'Destination', report: MirrorReport, change: object = {}): World {
    const w = new World('east')
    w.put({
      apiVersion: API,
      kind: 'FilerPair',
      metadata: { name: 'east', namespace: 'ns' },
      spec: { aggregates: pairSpec.aggregates, exportDefaults: [{ clients: ['0.0.0.0/0'] }] },
    })
    w.put({
      apiVersion: API,
      kind: 'FilerVolume',
      metadata: { name: 'home', namespace: 'ns' },
      spec: { pairName: 'east', aggregate: 'aggr1', size: '1Gi', ...change },
    })
    w.settle()
    w.bindClaims()
    w.runPods()
    w.reports.set('a', wellStatus('a', { mirrors: [report] }))
    const m = one().settle()
    w.mirrors = mirrorsAt('east', [...m.mirrors.values()], m.volumes, () => undefined).map((at) => ({
      ...at,
      role,
      volumeName: 'home',
      desired: { ...at.desired, volumeId: 'uid-home' },
    }))
    w.settle()
    return w
  }
  const conditionOf = (w: World, type: string) =>
    (w.get(FILER_VOLUMES, 'home')!['status'] as MirrorStatus).conditions?.find((c) => c.type === type)

  test('is not exported while it is a destination, unless for reading', () => {
    const w = pairWith('Destination', reportOf('Destination'))
    expect(conditionOf(w, 'Exported')?.reason).toBe('MirrorDestination')
    w.reports.set('a', wellStatus('a', { mirrors: [reportOf('Destination', { state: 'Broken' })] }))
    w.settle()
    expect(conditionOf(w, 'Exported')?.status).toBe('True')
  })

  test.each(['Retain', 'Delete'])(
    'waits for it when it is deleted, and stays what it is (%s)',
    (reclaimPolicy) => {
      const w = pairWith('Source', reportOf('Source'), { reclaimPolicy })
      const object = w.get(FILER_VOLUMES, 'home')!
      w.put({ ...object, metadata: { ...object.metadata, deletionTimestamp: '2026-01-02T00:00:00Z' } })
      w.settle()
      expect(conditionOf(w, 'Ready')?.reason).toBe('InUse')
      expect(conditionOf(w, 'Ready')?.message).toContain('source of Mirror m')
      expect(w.desired.at(-1)?.volumes).toMatchObject([{ id: 'uid-home', state: 'Present' }])
      w.mirrors = []
      w.settle()
      if (reclaimPolicy === 'Retain') expect(w.get(FILER_VOLUMES, 'home')).toBeUndefined()
      else expect(w.desired.map((d) => d.volumes[0]?.state)).toContain('Removed')
    },
  )
})
