import { expect, test } from '@jest/globals'
import { METRICS } from '../../edge/telemetry/catalogue.ts'
import { ConversionMeters } from './conversion-meters.ts'
import type { ConversionStatus } from './conversions-context.ts'

const status: ConversionStatus = {
  id: 'c',
  volumeId: 'v',
  aggregate: 'aggr2',
  phase: 'Scanning',
  percent: 40,
  inodesDone: 40,
  inodesTotal: 100,
  metadataEstimatedBytes: 8192,
  metadataActualBytes: 4096,
  dataBlocksCopied: 0,
  absentLeft: 1,
  rollback: { possible: true, changedBytes: 7 },
  cutOverId: 'x',
  conditions: [],
}

test('a conversion’s series follow what the filer tells, and all are 0 when its volume is served elsewhere', () => {
  const series = new Map<string, number>()
  const key = (name: string, labels: Readonly<Record<string, string>>): string =>
    `${name} ${Object.values(labels).join(' ')}`
  const meters = new ConversionMeters({
    add: () => undefined,
    set: (name, value, labels = {}) => series.set(key(name, labels), value),
    observe: () => undefined,
  })
  const positive = () =>
    Object.fromEntries(
      [...series].filter(([, value]) => value > 0).map(([name, value]) => [name.slice(18), value]),
    )
  meters.tell([status], () => 'home')
  expect(positive()).toEqual({
    'state home aggr2 Scanning': 1,
    'inodes home aggr2': 100,
    'inodes_done home aggr2': 40,
    'absent_blocks home aggr2': 1,
    'metadata_bytes home aggr2': 4096,
    'metadata_estimated_bytes home aggr2': 8192,
    'changed_bytes home aggr2': 7,
  })
  meters.tell([{ ...status, phase: 'Complete', dataBlocksCopied: 1 }], () => 'home')
  expect(positive()).toMatchObject({ 'state home aggr2 Complete': 1, 'data_blocks_copied home aggr2': 1 })
  expect(positive()).not.toHaveProperty(['state home aggr2 Scanning'])
  meters.tell([], () => 'home')
  expect(positive()).toEqual({})
  const told = new Set([...series.keys()].map((name) => name.split(' ')[0]))
  const declared = [...METRICS.keys()].filter((name) => name.startsWith('tandem_conversion_'))
  expect([...told].sort()).toEqual(declared.sort())
})
