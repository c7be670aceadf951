import { describe, expect, test } from '@jest/globals'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { KubeObject } from '../../edge/kube/api.ts'
import { UsageError, helpText, parseArguments, withArguments } from './args.ts'
import type { Usage } from './args.ts'
import { describeObject, isAbout } from './describe.ts'
import { parseSelections } from './kinds.ts'
import { parseManifests, problemsOf, readManifests } from './manifests.ts'
import { pairStatus } from './pair-status.ts'
import { age, jsonPath, objectTable } from './table.ts'
import { parseGoal, parseSeconds } from './wait.ts'
import { columnsOf, findResourceByWord } from './kinds.ts'

const usage: Usage = {
  verb: 'try',
  summary: 'nothing',
  operands: 'NAME [MORE]',
  operandsMin: 1,
  operandsMax: 2,
  flags: {
    state: { kind: 'text', value: 'DIR', meaning: 'where' },
    filename: { kind: 'texts', short: 'f', value: 'FILE', meaning: 'what' },
    force: { kind: 'switch', meaning: 'now' },
    how: { kind: 'text', value: 'HOW', choices: ['a', 'b'], meaning: 'in which way' },
  },
}

describe('arguments', () => {
  test('flags in every form, repeated, mixed with operands', () => {
    const parsed = parseArguments(usage, [
      'x',
      '--state=d',
      '-f',
      'one',
      '--filename',
      'two',
      '-fthree',
      '--force',
      '--',
      '-y',
    ])
    expect(parsed.operands).toEqual(['x', '-y'])
    expect(parsed.text('state')).toBe('d')
    expect(parsed.texts('filename')).toEqual(['one', 'two', 'three'])
    expect(parsed.has('force')).toBe(true)
    expect(parsed.has('how')).toBe(false)
  })

  test.each([
    [['x', '--stat', 'd'], /the nearest is --state/],
    [['x', '-z'], /no flag -z/],
    [['x', '--state'], /--state needs a value: --state DIR/],
    [['x', '--force=1'], /takes no value/],
    [['x', '--how', 'c'], /"c" is not one of a, b/],
    [[], /something is missing: tandem try NAME \[MORE\]/],
    [['x', 'y', 'z'], /"z" is one word too many/],
  ])('%j is wrong, and the message says how', (args, message) => {
    expect(() => parseArguments(usage, args)).toThrow(message)
  })

  test('wrong usage is status 2, --help status 0 even when something is missing', async () => {
    const said: string[] = []
    const print = { out: (text: string) => said.push(text), error: (text: string) => said.push(text) }
    expect(await withArguments(usage, ['--nope'], async () => 0, print)).toBe(2)
    expect(await withArguments(usage, ['--help'], async () => 7, print)).toBe(0)
    expect(said[1]).toBe(helpText(usage))
    expect(said[1]).toContain('-f, --filename FILE')
    await expect(
      withArguments(usage, ['x'], () => Promise.reject(new Error('inner')), print),
    ).rejects.toThrow('inner')
  })
})

describe('kinds and selections', () => {
  test.each(['fp', 'FilerPair', 'filerpairs'])('%s is a FilerPair', (word) => {
    expect(findResourceByWord(word)?.kind).toBe('FilerPair')
  })
  test('KIND NAME…, KIND/NAME…, all of ours, and what is wrong', () => {
    expect(parseSelections(['fv', 'x', 'y'])).toMatchObject([
      { resource: { kind: 'FilerVolume' }, names: ['x', 'y'] },
    ])
    expect(parseSelections(['fv/x', 'fp/y']).map((s) => [s.resource.kind, s.names])).toEqual([
      ['FilerVolume', ['x']],
      ['FilerPair', ['y']],
    ])
    expect(parseSelections(['tandem']).map((s) => s.resource.kind)).toEqual([
      'FilerPair',
      'FilerVolume',
      'Mirror',
      'Conversion',
    ])
    expect(() => parseSelections(['filerpair', 'x/y/z'])).toThrow(UsageError)
    expect(() => parseSelections(['filerpare'])).toThrow(/nearest is filerpair/)
  })
})

describe('manifests', () => {
  const text = `apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: {name: home}
spec: {pairName: east, agregate: aggr1, size: 1Gi}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
`
  test('documents become objects with their line; an unknown field names its neighbour', () => {
    const manifests = parseManifests(text, 'x.yaml')
    expect(manifests.map((m) => [m.object.kind, m.where])).toEqual([
      ['FilerVolume', 'x.yaml:1'],
      ['Secret', 'x.yaml:6'],
    ])
    expect(problemsOf(manifests[0]!)).toMatch(/x.yaml:1: FilerVolume home: .*agregate.*aggregate/)
    expect(problemsOf(manifests[1]!)).toBeUndefined()
  })
  test('every sample is what the rules allow', () => {
    const samples = fileURLToPath(new URL('../../../manifests/samples', import.meta.url))
    const folders = ['', ...readdirSync(samples).filter((name) => !name.endsWith('.yaml'))]
    const manifests = readManifests(folders.map((folder) => join(samples, folder)))
    expect(manifests.length).toBeGreaterThan(folders.length)
    expect(manifests.map(problemsOf).filter((problems) => problems !== undefined)).toEqual([])
  })
  test.each([
    ['{a: 1}', /not an object with apiVersion and kind/],
    ['{apiVersion: tandem.storage/v1alpha1, kind: FilerPear, metadata: {name: x}}', /did you mean FilerPair/],
    ['{apiVersion: v1, kind: Secret}', /without metadata.name/],
    ['a: [', /x.yaml/],
  ])('%s is refused', (bad, message) => {
    expect(() => parseManifests(bad, 'x.yaml')).toThrow(message)
  })
})

const pair: KubeObject = {
  apiVersion: 'tandem.storage/v1alpha1',
  kind: 'FilerPair',
  metadata: {
    name: 'east',
    namespace: 'default',
    uid: 'u',
    generation: 2,
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: { filers: [{ name: 'a' }] },
  status: {
    serving: 'a:a b:b',
    links: '2/2',
    message: 'well',
    conditions: [
      { type: 'Ready', status: 'True', observedGeneration: 2 },
      { type: 'Redundant', status: 'True', observedGeneration: 1 },
    ],
  },
}

describe('output', () => {
  const nowMs = Date.parse('2026-01-01T00:01:30Z')

  test('the columns of the definition, wide ones when asked', () => {
    const columns = columnsOf(findResourceByWord('fp')!)
    const narrow = objectTable([pair], columns, { wide: false, namespaces: false, nowMs })
    expect(narrow.split('\n')[0]).toBe('NAME   READY   REDUNDANT   TAKEOVER   SERVING   LINKS   AGE')
    expect(narrow.split('\n')[1]).toBe('east   True    True                   a:a b:b   2/2     90s')
    expect(objectTable([pair], columns, { wide: true, namespaces: true, nowMs })).toMatch(
      /^NAMESPACE.*MESSAGE\ndefault.*well$/,
    )
  })

  test('paths of printer columns', () => {
    expect(jsonPath(pair, '.status.conditions[?(@.type=="Ready")].status')).toBe('True')
    expect(jsonPath(pair, '.spec.filers[0].name')).toBe('a')
    expect(jsonPath({ a: { 'b.c/d': 1 } }, '.a.b\\.c/d')).toBe(1)
    expect(jsonPath(pair, '.status.nothing.below')).toBeUndefined()
  })

  test('ages', () => {
    expect(age('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:10:00Z'))).toBe('10m')
    expect(age('2026-01-01T00:00:00Z', Date.parse('2026-01-05T00:00:00Z'))).toBe('4d')
    expect(age('', 0)).toBe('<unknown>')
  })

  test('a description has conditions and the events about the object', () => {
    const event = (name: string, uid: string): KubeObject => ({
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name },
      involvedObject: { kind: 'FilerPair', name: 'east', uid },
      type: 'Warning',
      reason: 'TakenOver',
      message: 'b took over',
      lastTimestamp: '2026-01-01T00:01:00Z',
    })
    expect(isAbout(event('1', 'u'), pair)).toBe(true)
    expect(isAbout(event('1', 'an older east'), pair)).toBe(false)
    const text = describeObject(pair, [event('1', 'u')], nowMs)
    expect(text).toMatch(/Ready +True/)
    expect(text).toMatch(/30s +Warning +TakenOver +1 +b took over/)
  })
})

describe('status', () => {
  test('tells why an interconnect is refused', () => {
    const message = 'partner speaks version 2, this filer 1'
    const link = { name: 'ic1', state: 'Down', addresses: [], reason: 'VersionMismatch', message }
    const pair: KubeObject = {
      apiVersion: 'tandem.storage/v1alpha1',
      kind: 'FilerPair',
      metadata: { name: 'east', namespace: 'ns' },
      spec: {},
      status: { interconnects: [{ name: 'default', state: 'Up' }, link] },
    }
    const text = pairStatus(pair, [], 0)
    expect(text).toMatch(/ic1 +Down +VersionMismatch: partner speaks version 2, this filer 1$/m)
    expect(text).toMatch(/default +Up *$/m)
  })
})

describe('goals of wait', () => {
  test('a condition counts for the current generation only', () => {
    expect(parseGoal('condition=Ready')(pair)).toBe(true)
    expect(parseGoal('condition=ready=false')(pair)).toBe(false)
    expect(parseGoal('condition=Redundant')(pair)).toBe(false)
    expect(parseGoal('condition=Ready')(undefined)).toBe(false)
  })
  test('paths, deletion, nonsense', () => {
    expect(parseGoal('jsonpath={.status.serving}=a:a b:b')(pair)).toBe(true)
    expect(parseGoal('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True')(pair)).toBe(true)
    expect(parseGoal('jsonpath=\'{.status.conditions[?(@.type=="Ready")].status}\'=False')(pair)).toBe(false)
    expect(parseGoal('jsonpath=.status.serving=a:a b:b')(pair)).toBe(true)
    expect(parseGoal('delete')(undefined)).toBe(true)
    expect(() => parseGoal('ready')).toThrow(UsageError)
    expect(parseSeconds('2m')).toBe(120)
    expect(() => parseSeconds('soon')).toThrow(/not a time/)
  })
})
