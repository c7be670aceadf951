import { expect, test } from '@jest/globals'
import type { KubeObject } from '../../edge/kube/api.ts'
import { fieldSelector, labelSelector, selects } from './selectors.ts'

const object: KubeObject = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'n', labels: { 'tandem.storage/pair': 'east', tier: 'filer' } },
  spec: { nodeName: 'one' },
}

test.each([
  ['tandem.storage/pair=east', true],
  ['tandem.storage/pair==east,tier=filer', true],
  ['tandem.storage/pair=west', false],
  ['tier!=operator,absent!=x', true],
  ['tier in (filer, operator)', true],
  ['tier notin (filer),tandem.storage/pair', false],
  ['absent notin (x)', true],
  ['tier', true],
  ['!tier', false],
  ['!absent', true],
])('labels: %s', (selector, matches) => {
  expect(labelSelector(selector)(object)).toBe(matches)
})

test.each([
  ['metadata.name=p', true],
  ['metadata.name=p,spec.nodeName!=one', false],
  ['status.phase=', true],
])('fields: %s', (selector, matches) => {
  expect(fieldSelector(selector)(object)).toBe(matches)
})

test('nonsense is refused, not taken for everything', () => {
  expect(() => labelSelector('a=b=c')).toThrow(/not understood/)
  expect(() => fieldSelector('metadata.name')).toThrow(/not understood/)
})

test('a Service without selector selects nothing', () => {
  expect(selects({}, object)).toBe(false)
  expect(selects({ tier: 'filer' }, object)).toBe(true)
  expect(selects({ tier: 'filer', more: 'x' }, object)).toBe(false)
})
