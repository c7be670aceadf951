/** Mirrors against a real API server (see operator.api.ts): two pairs whose filers are the test's, from the first manifest to the end. */
import { describe, expect, test } from '@jest/globals'
import type { DesiredState, MirrorReport } from '../api/v1alpha1/filer-config.ts'
import type { KubeObject } from '../edge/kube/api.ts'
import { EVENTS, FILER_VOLUMES, MIRRORS, PODS } from '../edge/kube/resources.ts'
import { breakMirror, reverseMirror } from '../embedded/cli/mirror-moves.ts'
import {
  admin,
  condition,
  create,
  documents,
  freshNamespace,
  inNamespace,
  isReason,
  mirrorStatus,
  namespace,
  passes,
  runBoth,
  sample,
  sampleVolume,
  startOperator,
  until,
  volumeStatus,
} from './testing/api-bed.ts'
import type { FakeFiler } from './testing/fake-filers.ts'

const [destinationVolume, mirror] = documents('manifests/samples/mirror/mirror.yaml') as [
  KubeObject,
  KubeObject,
]

const report = (id: string, role: MirrorReport['role'], volumeId: string): MirrorReport => ({
  id,
  role,
  volumeId,
  state: 'InSync',
  reason: '',
  message: '',
  connected: true,
  lagSeconds: 0,
  lagBytes: 0,
  logFiles: 1,
  logFilesMax: 16,
  durableImage: 1,
  unacknowledged: 0,
})

const idOf = async (volume: string): Promise<string> =>
  (await admin.get(FILER_VOLUMES, namespace, volume)).metadata.uid ?? ''
/** What the filer was told of its mirror last. */
const toldOf = (filer: FakeFiler): Promise<DesiredState> =>
  until(
    () => Promise.resolve(filer.orders.at(-1)!),
    (desired) => (desired?.mirrors?.length ?? 0) > 0,
  )

describe('a mirror', () => {
  test('is made, told to both pairs, reversed, broken, and forgotten', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await create(inNamespace(sample, {}, 'west'))
    await create(inNamespace(sampleVolume))
    await create(inNamespace(destinationVolume))
    await create(inNamespace(mirror))
    const [east] = await runBoth()
    const [west] = await runBoth('west', 3)
    const addresses = { 'tandem.storage/interconnects': '{"default":"10.1.1.1:7400"}' }
    await admin.mergePatch(PODS, namespace, 'west-b-0', { metadata: { annotations: addresses } })

    const { uid: id = '' } = (await admin.get(MIRRORS, namespace, 'home')).metadata
    const told = await until(
      () => toldOf(east),
      (d) => JSON.stringify(d.peers).includes('10.1.1.1'),
    )
    expect(told.mirrors).toMatchObject([
      { id, role: 'Source', volumeId: await idOf('home'), peers: ['west/a', 'west/b'], state: 'Mirrored' },
    ])
    expect(told.peers).toMatchObject([
      { name: 'west', namespace, pair: 'west', ca: expect.stringContaining('BEGIN CERTIFICATE') },
    ])
    expect((await toldOf(west)).mirrors).toMatchObject([
      { id, role: 'Destination', volumeId: await idOf('home-dr'), peers: ['east/a', 'east/b'] },
    ])

    east.tell({ mirrors: [report(id, 'Source', await idOf('home'))] })
    west.tell({ mirrors: [report(id, 'Destination', await idOf('home-dr'))] })
    const status = await until(() => mirrorStatus('home'), isReason('InSync', 'InSync'))
    expect(status).toMatchObject({ state: 'InSync', source: 'east/home', destination: 'west/home-dr' })
    await until(() => volumeStatus('home-dr'), isReason('Exported', 'MirrorDestination'))

    // A reverse, as the filers carry it out.
    const of = { api: admin, namespace, name: 'home' }
    const reversed = reverseMirror(of, 20_000)
    await until(
      () => Promise.resolve(west.orders.at(-1)),
      (d) => d?.mirrors?.[0]?.role === 'Source',
    )
    west.tell({ mirrors: [report(id, 'Source', await idOf('home-dr'))] })
    east.tell({ mirrors: [report(id, 'Destination', await idOf('home'))] })
    expect(await reversed).toEqual({ state: 'Done', source: 'west/home-dr', destination: 'east/home' })

    const broken = breakMirror(of, 20_000)
    await until(
      () => Promise.resolve(east.orders.at(-1)),
      (d) => d?.mirrors?.[0]?.state === 'Broken',
    )
    east.tell({ mirrors: [{ ...report(id, 'Destination', await idOf('home')), state: 'Broken' }] })
    expect(await broken).toMatchObject({ state: 'Done' })
    await until(
      async () => (await admin.list(EVENTS, { namespace })).items,
      (events) => {
        const told = events.filter((e) => (e['involvedObject'] as { kind: string }).kind === 'Mirror')
        return ['InSync', 'Broken'].every((reason) => told.some((e) => e['reason'] === reason))
      },
    )

    // A divergence is shown, and goes again.
    await admin.mergePatch(MIRRORS, namespace, 'home', { spec: { state: 'Mirrored' } })
    const divergence = { id: '1-7', bytes: 4096, sinceSeconds: 1_700_000_000 }
    const end = report(id, 'Destination', await idOf('home'))
    east.tell({ mirrors: [{ ...end, state: 'Broken', reason: 'WouldDiscardChanges', divergence }] })
    const shown = await until(() => mirrorStatus('home'), isReason('Ready', 'WouldDiscardChanges'))
    expect(shown.divergence).toMatchObject({ id: '1-7' })
    east.tell({ mirrors: [end] })
    expect(await until(() => mirrorStatus('home'), isReason('InSync', 'InSync'))).not.toHaveProperty(
      'divergence',
    )

    // A volume waits for its mirror, and that for its filers.
    await admin.delete(FILER_VOLUMES, namespace, 'home-dr')
    await until(() => volumeStatus('home-dr'), isReason('Ready', 'InUse'))
    await admin.delete(MIRRORS, namespace, 'home')
    await until(() => mirrorStatus('home'), isReason('Ready', 'Removing'))
    for (const filer of [east, west]) {
      await until(
        () => Promise.resolve(filer.orders.at(-1)),
        (d) => d?.mirrors?.[0]?.state === 'Removed',
      )
      filer.tell({ mirrors: [] })
    }
    const left = async (resource = MIRRORS): Promise<string[]> =>
      (await admin.list(resource, { namespace })).items.map((o) => o.metadata.name)
    await until(left, (names) => names.length === 0)
    await until(
      () => left(FILER_VOLUMES),
      (names) => names.join() === 'home',
    )
  })

  test('that may not be says why, and costs no writes', async () => {
    await freshNamespace()
    await startOperator()
    await create(inNamespace(sample))
    await create(inNamespace(sampleVolume))
    await create(inNamespace(mirror))
    await until(
      () => mirrorStatus('home'),
      (status) => condition(status, 'Accepted')?.message.includes('no FilerVolume home-dr') === true,
    )
    await create(inNamespace(destinationVolume, { pairName: 'east' }))
    await until(() => mirrorStatus('home'), isReason('Accepted', 'SamePair'))
    await until(
      () => Promise.resolve(passes.findLast(({ key }) => key === `${namespace}/`)),
      (last) => last?.writes === 0,
    )
  })
})
