/** What a volume and its pair tell of blocks that neither copy has, in a world in memory. */
import { expect, test } from '@jest/globals'
import {
  conditionOf,
  flexible,
  pairStatus,
  report,
  running,
  volumeReport,
  volumeStatus,
} from '../testing/volume-bed.ts'

test('blocks that neither copy has are counted, by volume and aggregate, until they are written anew', () => {
  const w = running()
  for (const name of ['home', 'other']) w.put(flexible(name))
  w.settle()
  const told = (lost: number | undefined) => {
    const blocks = lost === undefined ? {} : { unrepairableBlocks: lost }
    report(w, ({ aggregates }) => ({
      aggregates: aggregates.map(({ unrepairableBlocks: _before, ...one }) => ({ ...one, ...blocks })),
      volumes: [volumeReport('uid-home', blocks), volumeReport('uid-other')],
    }))
    w.settle()
    return conditionOf(volumeStatus(w, 'home'), 'Intact')
  }
  expect(told(undefined)).toMatchObject({ status: 'True', reason: 'Intact' })
  expect(told(3)).toMatchObject({
    status: 'False',
    reason: 'BlocksLost',
    message: expect.stringContaining('neither copy has 3 blocks of the volume'),
  })
  expect(volumeStatus(w, 'home')).toMatchObject({
    unrepairableBlocks: 3,
    message: expect.stringContaining('3 blocks'),
  })
  // It is served all the same.
  expect(conditionOf(volumeStatus(w, 'home'), 'Ready')).toMatchObject({ status: 'True' })
  expect(conditionOf(volumeStatus(w, 'other'), 'Intact')).toMatchObject({ status: 'True' })
  expect(pairStatus(w).aggregates).toMatchObject([{ name: 'aggr1', unrepairableBlocks: 3 }])
  expect(told(undefined)).toMatchObject({ status: 'True' })
  expect(volumeStatus(w, 'home')).not.toHaveProperty('unrepairableBlocks')
  expect(pairStatus(w).aggregates?.[0]).not.toHaveProperty('unrepairableBlocks')

  report(w, ({ sides }) => ({ sides: sides.map((side) => ({ ...side, serving: false })) }))
  w.settle()
  expect(conditionOf(volumeStatus(w, 'home'), 'Intact')).toMatchObject({ status: 'Unknown' })
})
