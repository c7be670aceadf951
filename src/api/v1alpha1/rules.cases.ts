/**
 * One table for every rule of the API: what is accepted, what is refused, and by which rule. The unit tests run it through `check`
 * and through a CEL evaluator; the tests against an API server apply the same objects.
 */
export interface RuleCase {
  readonly name: string
  readonly kind: 'FilerPair' | 'FilerVolume'
  /** Name of the object; `case` if absent. */
  readonly objectName?: string
  readonly old?: Record<string, unknown>
  readonly spec: Record<string, unknown>
  /** Part of the message, or undefined: accepted. */
  readonly refused?: string
  /** Refused by the schema, not by a rule: CEL has no say. */
  readonly bySchema?: true
}

const set = { name: 'd', count: 2, size: '1Gi' }
const aggregate = { name: 'aggr1', filer: 'a', deviceSets: [set] }
const pair = { aggregates: [aggregate] }
const volume = { pairName: 'east', aggregate: 'aggr1', size: '1Gi' }

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
    { old: pair, refused: 'spec.aggregates' },
  ),
  pairCase(
    'an aggregate moved',
    { aggregates: [{ ...aggregate, filer: 'b' }] },
    { old: pair, refused: 'home' },
  ),
  pairCase(
    'a device set renamed',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, name: 'e' }] }] },
    { old: pair, refused: 'device sets' },
  ),
  pairCase(
    'fewer devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, count: 1 }] }] },
    { old: pair, refused: 'count' },
  ),
  pairCase(
    'another class of devices',
    { aggregates: [{ ...aggregate, deviceSets: [{ ...set, storageClassName: 'fast' }] }] },
    { old: pair, refused: 'storageClassName' },
  ),
  pairCase('no aggregate', { aggregates: [] }, { refused: 'at least 1', bySchema: true }),
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
  pairCase('memory logs', { log: { durability: 'Memory' } }, { refused: 'not one of Disk', bySchema: true }),

  volumeCase('the least volume', {}),
  volumeCase('a larger volume', { size: '2Gi' }, { old: volume }),
  volumeCase('a small volume', { size: '1Mi' }, { refused: 'at least 16Mi' }),
  volumeCase('another pair', { pairName: 'west' }, { old: volume, refused: 'spec.pairName' }),
  volumeCase('another aggregate', { aggregate: 'aggr2' }, { old: volume, refused: 'spec.aggregate' }),
  volumeCase('another type', { type: 'Traditional' }, { refused: 'not one of Flexible', bySchema: true }),
  volumeCase('rules', { export: { path: '/home', rules: [{ clients: ['10.0.0.0/8', '192.168.1.7'] }] } }),
  volumeCase(
    'a client that is none',
    { export: { rules: [{ clients: ['10.0.0.0/33'] }] } },
    { refused: 'IPv4', bySchema: true },
  ),
  volumeCase('a path that is none', { export: { path: '/../x' } }, { refused: 'a path', bySchema: true }),
  volumeCase('no size', { size: undefined }, { refused: 'spec.size: must be given', bySchema: true }),
]
