/**
 * One table for every rule of the API: what is accepted, what is refused, and by which rule. The unit tests run it through `check`
 * and through a CEL evaluator; the tests against an API server apply the same objects.
 */
import { conversionCases } from './conversion.cases.ts'
import { mirrorCases } from './mirror.cases.ts'
import type { RuleCase } from './rule-case.ts'

const set = { name: 'd', count: 2, size: '1Gi' }
const aggregate = { name: 'aggr1', filer: 'a', deviceSets: [set] }
const pair = { aggregates: [aggregate] }
const volume = { pairName: 'east', aggregate: 'aggr1', size: '1Gi' }
/** Over `volume`. */
const traditional = {
  type: 'Traditional',
  aggregate: undefined,
  size: undefined,
  filer: 'a',
  deviceSets: [set],
}

const pairCase = (name: string, spec: Record<string, unknown>, rest: Partial<RuleCase> = {}): RuleCase => ({
  name,
  kind: 'FilerPair',
  spec: { ...pair, ...spec },
  ...rest,
})
const volumeCase = (name: string, spec: Record<string, unknown>, rest: Partial<RuleCase> = {}): RuleCase => ({
  name,
  kind: 'FilerVolume',
  spec: { ...volume, ...spec },
  ...rest,
})
const filers = (...names: string[]) => names.map((name) => ({ name }))

export const ruleCases: readonly RuleCase[] = [
  pairCase('the least pair', {}),
  pairCase('a change of nothing', {}, { old: pair }),
  pairCase('a name of 40 characters', {}, { objectName: 'a'.repeat(40) }),
  pairCase('a name of 41 characters', {}, { objectName: 'a'.repeat(41), refused: 'at most 40' }),
  pairCase('a name with a dot', {}, { objectName: 'a.b', refused: 'metadata.name' }),
  pairCase('three filers', { filers: filers('a', 'b', 'c') }, { refused: 'exactly 2', bySchema: true }),
  pairCase('one filer', { filers: filers('a') }, { refused: 'exactly 2', bySchema: true }),
  pairCase('the same filer twice', { filers: filers('a', 'a') }, { refused: 'twice', bySchema: true }),
  pairCase('a filer of a wrong name', { filers: filers('a', 'B') }, { refused: '1 to 8', bySchema: true }),
  pairCase(
    'a renamed filer',
    { filers: filers('a', 'c') },
    { old: { ...pair, filers: filers('a', 'b') }, refused: 'spec.filers' },
  ),
  pairCase(
    'filers in another order',
    { filers: filers('b', 'a') },
    { old: { ...pair, filers: filers('a', 'b') } },
  ),
  pairCase(
    'a node selector added later',
    { filers: [{ name: 'a', nodeSelector: { x: 'y' } }, { name: 'b' }] },
    { old: pair },
  ),
  pairCase(
    'an aggregate without filer',
    { aggregates: [{ ...aggregate, filer: 'z' }] },
    { refused: 'one of spec.filers' },
  ),
  pairCase(
    'the same aggregate twice',
    { aggregates: [aggregate, aggregate] },
    { refused: 'aggr1" is there twice', bySchema: true },
  ),
  pairCase(
    'an aggregate added later',
    { aggregates: [aggregate, { ...aggregate, name: 'aggr2' }] },
    { old: pair },
  ),
  pairCase(
    'an aggregate taken out',
    {},
    { old: { aggregates: [aggregate, { ...aggregate, name: 'aggr2' }] } },
  ),
  pairCase(
    'more devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, count: 3 }] }] },
    { old: pair },
  ),
  pairCase(
    'a device set appended',
    { aggregates: [{ ...aggregate, deviceSets: [set, { ...set, name: 'e', size: '2Gi' }] }] },
    { old: pair },
  ),
  pairCase(
    'seventeen devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, count: 17 }] }] },
    { refused: 'at most 16', bySchema: true },
  ),
  pairCase(
    'larger devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, size: '2Gi' }] }] },
    { old: pair, refused: 'append a set of another kind' },
  ),
  pairCase(
    'another kind of claim',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, volumeMode: 'Block' }] }] },
    { old: pair, refused: 'volumeMode' },
  ),
  pairCase(
    'an aggregate moved',
    { aggregates: [{ ...aggregate, filer: 'b' }] },
    { old: pair, refused: 'home' },
  ),
  pairCase(
    'a device set renamed',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, name: 'e' }] }] },
    { old: pair, refused: 'device sets may be appended, not taken away' },
  ),
  pairCase(
    'fewer devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, count: 1 }] }] },
    { old: pair, refused: 'may be raised, not lowered' },
  ),
  pairCase(
    'another class of devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, storageClassName: 'fast' }] }] },
    { old: pair, refused: 'storageClassName' },
  ),
  pairCase('no aggregate', { aggregates: [] }),
  pairCase('the last aggregate taken out', { aggregates: [] }, { old: pair }),
  pairCase(
    'seventeen aggregates',
    { aggregates: Array.from({ length: 17 }, (_, i) => ({ ...aggregate, name: `aggr${i}` })) },
    { refused: 'at most 16', bySchema: true },
  ),
  pairCase(
    'a small device',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, size: '63Mi' }] }] },
    { refused: 'at least 64Mi' },
  ),
  pairCase('a size without quotes', { cacheSize: 5 }, { refused: 'quotes', bySchema: true }),
  pairCase('a size that is none', { cacheSize: '1GB' }, { refused: 'quantity', bySchema: true }),
  pairCase('a small log', { log: { size: '1Mi' } }, { refused: 'at least 32Mi' }),
  pairCase('another log size', { log: { size: '2Gi' } }, { old: pair, refused: 'spec.log' }),
  pairCase('a small cache', { cacheSize: '1Mi' }, { refused: 'at least 64Mi' }),
  pairCase('more cache', { cacheSize: '2Gi' }, { old: pair }),
  pairCase('two interconnects', {
    interconnects: [{ name: 'default' }, { name: 'ic1', networkAttachment: { name: 'net' } }],
  }),
  pairCase(
    'a network for the pod network',
    { interconnects: [{ name: 'default', networkAttachment: { name: 'net' } }] },
    { refused: 'default' },
  ),
  pairCase(
    'a delay that is none',
    { takeover: { givebackDelay: '10' } },
    { refused: 'duration', bySchema: true },
  ),
  pairCase(
    'a label of the operator',
    { podTemplate: { labels: { 'tandem.storage/pair': 'x' } } },
    { refused: 'belong to the operator' },
  ),
  pairCase(
    'an annotation of the operator',
    { podTemplate: { annotations: { 'tandem.storage/template': 'x' } } },
    { refused: 'spec.podTemplate.annotations' },
  ),
  pairCase('a label', { podTemplate: { labels: { team: 'x' }, annotations: { team: 'x' } } }),
  pairCase('an unknown field', { cachSize: '1Gi' }, { refused: 'did you mean cacheSize?', bySchema: true }),
  pairCase('memory logs', { log: { durability: 'Memory' } }),
  pairCase(
    'logs in a dream',
    { log: { durability: 'Dream' } },
    { refused: 'not one of Disk, Memory', bySchema: true },
  ),
  pairCase('confirmed reads', { reads: 'Confirmed' }, { old: pair }),
  pairCase(
    'guessed reads',
    { reads: 'Guessed' },
    { refused: 'not one of Leased, Confirmed', bySchema: true },
  ),
  pairCase('a pair at rest', { state: 'Stopped' }, { old: pair }),
  pairCase(
    'a pair in no known state',
    { state: 'Paused' },
    { refused: 'not one of Running, Stopped', bySchema: true },
  ),
  pairCase('maintenance of a filer', { maintenance: { filer: 'b' } }, { old: pair }),
  pairCase('the end of a maintenance', {}, { old: { ...pair, maintenance: { filer: 'b' } } }),
  pairCase(
    'maintenance of a stranger',
    { maintenance: { filer: 'c' } },
    { refused: 'spec.maintenance.filer' },
  ),
  pairCase('maintenance of nobody', { maintenance: {} }, { refused: 'must be given', bySchema: true }),
  pairCase('an accepted loss', { acceptLoss: { filer: 'a', epoch: 7 } }, { old: pair }),
  pairCase(
    'an accepted loss at a stranger',
    { acceptLoss: { filer: 'c', epoch: 7 } },
    { refused: 'spec.acceptLoss.filer' },
  ),
  pairCase(
    'an accepted loss without epoch',
    { acceptLoss: { filer: 'a' } },
    { refused: 'must be given', bySchema: true },
  ),
  pairCase(
    'an accepted loss at epoch 0',
    { acceptLoss: { filer: 'a', epoch: 0 } },
    { refused: 'at least 1', bySchema: true },
  ),
  pairCase(
    'a copy that is burnt',
    { acceptLoss: { filer: 'a', epoch: 7, otherCopy: 'Burnt' } },
    { refused: 'not one of Kept, Discarded', bySchema: true },
  ),

  volumeCase('the least volume', {}),
  volumeCase('a larger volume', { size: '2Gi' }, { old: volume }),
  volumeCase('a small volume', { size: '1Mi' }, { refused: 'at least 16Mi' }),
  volumeCase('another pair', { pairName: 'west' }, { old: volume, refused: 'spec.pairName' }),
  volumeCase('another aggregate', { aggregate: 'aggr2' }, { old: volume, refused: 'spec.aggregate' }),
  volumeCase('another type', traditional, { old: volume, refused: 'spec.type is fixed' }),
  volumeCase('Flexible after a conversion', {}, { old: { ...volume, ...traditional } }),
  volumeCase('a type that is none', { type: 'Thick' }, { refused: 'not one of Flexible', bySchema: true }),
  volumeCase('no aggregate', { aggregate: undefined }, { refused: 'give spec.aggregate and spec.size' }),
  volumeCase('no size', { size: undefined }, { refused: 'give spec.aggregate and spec.size' }),
  volumeCase(
    'devices for a flexible volume',
    { deviceSets: [set] },
    { refused: 'make a Traditional volume' },
  ),
  volumeCase('a home for a flexible volume', { filer: 'a' }, { refused: 'make a Traditional volume' }),
  volumeCase('the least traditional volume', traditional),
  volumeCase(
    'a traditional volume in an aggregate',
    { ...traditional, aggregate: 'aggr1' },
    { refused: 'lives in no aggregate' },
  ),
  volumeCase(
    'a traditional volume of a size',
    { ...traditional, size: '1Gi' },
    { refused: 'as large as its devices' },
  ),
  volumeCase(
    'a traditional volume without devices',
    { ...traditional, deviceSets: undefined },
    { refused: 'give spec.filer and spec.deviceSets' },
  ),
  volumeCase(
    'a traditional volume without home',
    { ...traditional, filer: undefined },
    { refused: 'give spec.filer and spec.deviceSets' },
  ),
  volumeCase(
    'a traditional volume of no devices',
    { ...traditional, deviceSets: [] },
    { refused: 'at least 1', bySchema: true },
  ),
  volumeCase(
    'a traditional volume grows',
    {
      ...traditional,
      deviceSets: [
        { ...set, count: 4 },
        { ...set, name: 'e' },
      ],
    },
    { old: { ...volume, ...traditional } },
  ),
  volumeCase(
    'a traditional volume shrinks',
    { ...traditional, deviceSets: [{ ...set, count: 1 }] },
    { old: { ...volume, ...traditional }, refused: 'may be raised, not lowered' },
  ),
  volumeCase(
    'a traditional volume of other sets',
    { ...traditional, deviceSets: [{ ...set, name: 'e' }] },
    { old: { ...volume, ...traditional }, refused: 'not taken away' },
  ),
  volumeCase(
    'a traditional volume moves',
    { ...traditional, filer: 'b' },
    { old: { ...volume, ...traditional }, refused: 'spec.filer is fixed' },
  ),
  volumeCase(
    'a traditional volume with small devices',
    { ...traditional, deviceSets: [{ ...set, size: '1Mi' }] },
    { refused: 'at least 64Mi' },
  ),
  volumeCase('a traditional volume with a long name', traditional, { objectName: 'x'.repeat(50) }),
  volumeCase('a traditional volume with too long a name', traditional, {
    objectName: 'x'.repeat(51),
    refused: 'at most 51',
  }),
  volumeCase('a traditional volume with a dot in its name', traditional, {
    objectName: 'x.y',
    refused: 'no dot',
  }),
  volumeCase('schedules', {
    snapshotPolicy: {
      schedules: [
        { name: 'hourly', cron: '0 * * * *', keep: 24 },
        { name: 'often', cron: '*/5 8-18 * * 1-5', keep: 1 },
        { name: 'odd', cron: '5,35-59/3 0,12 1-31/2 1,12 0,6', keep: 255 },
      ],
    },
  }),
  ...[
    '0 * * *',
    '60 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * * 13 *',
    '* * * * 7',
    '0  * * * *',
    '*/0 * * * *',
    '5/2 * * * *',
    '0 * * * MON',
    '@hourly *',
  ].map((cron) =>
    volumeCase(
      `the schedule ${cron}`,
      { snapshotPolicy: { schedules: [{ name: 'x', cron, keep: 1 }] } },
      { refused: 'five fields' },
    ),
  ),
  volumeCase(
    'a schedule that keeps too many',
    { snapshotPolicy: { schedules: [{ name: 'x', cron: '0 * * * *', keep: 256 }] } },
    { refused: 'at most 255', bySchema: true },
  ),
  volumeCase(
    'a schedule called as people’s snapshots',
    { snapshotPolicy: { schedules: [{ name: 'manual', cron: '0 * * * *', keep: 1 }] } },
    { refused: 'not called manual' },
  ),
  volumeCase(
    'a schedule with a wrong name',
    { snapshotPolicy: { schedules: [{ name: 'x.y', cron: '0 * * * *', keep: 1 }] } },
    { refused: 'lower-case letters', bySchema: true },
  ),
  volumeCase(
    'nine schedules',
    {
      snapshotPolicy: {
        schedules: Array.from({ length: 9 }, (_, i) => ({ name: `s${i}`, cron: '0 * * * *', keep: 1 })),
      },
    },
    { refused: 'at most 8', bySchema: true },
  ),
  volumeCase('a claim', { claimName: 'home-files' }, { old: volume }),
  volumeCase('no claim any more', {}, { old: { ...volume, claimName: 'x' } }),
  volumeCase(
    'another claim',
    { claimName: 'y' },
    { old: { ...volume, claimName: 'x' }, refused: 'take it out' },
  ),
  volumeCase('rules', { export: { path: '/home', rules: [{ clients: ['10.0.0.0/8', '192.168.1.7'] }] } }),
  volumeCase(
    'a client that is none',
    { export: { rules: [{ clients: ['10.0.0.0/33'] }] } },
    { refused: 'IPv4', bySchema: true },
  ),
  volumeCase('a path that is none', { export: { path: '/../x' } }, { refused: 'a path', bySchema: true }),
  ...mirrorCases,
  ...conversionCases,
]
