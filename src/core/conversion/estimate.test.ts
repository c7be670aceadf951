/** What the check says that a conversion will write, beside what it writes. */
import { expect, test } from '@jest/globals'
import { indirectOf, samplePlaces } from '../fs/survey.ts'
import { estimateOf, metadataOf, surveyOf } from './check.ts'
import { ConversionBed } from './testing/bed.ts'

const trees: readonly [string, readonly [files: number, blocks: number][]][] = [
  ['small files', [[500, 2]]],
  ['files that need one block of pointers each', [[60, 20]]],
  ['a large file', [[1, 1800]]],
  [
    'small and large ones',
    [
      [300, 1],
      [20, 12],
      [2, 500],
    ],
  ],
]

test.each(trees)('%s: within 20 %% of the estimate', async (_, kinds) => {
  const bed = new ConversionBed(3, [2600, 1400], [2600])
  await bed.format()
  for (const [files, blocks] of kinds) {
    for (let n = 0; n < files; n++)
      for (let fbn = 0; fbn < blocks; fbn++) await bed.write(`${blocks}-${n}`, fbn, 1)
    await bed.consistencyPoint()
  }
  const estimate = estimateOf(bed.source!, bed.volume, await surveyOf(bed.source!, bed.volume))
  await bed.cutOver()
  await bed.scan()
  const written = metadataOf(bed.target, bed.volume)
  expect(Math.abs(estimate - written)).toBeLessThanOrEqual(0.2 * written)
  await bed.join()
  expect(await bed.problems()).toEqual([])
})

test('pointers follow from the fan-outs, and places to look at are spread', () => {
  expect([0, 10, 11, 341, 342, 3410, 3411].map(indirectOf)).toEqual([0, 0, 1, 1, 2, 10, 12])
  expect(samplePlaces(3, 128)).toEqual([0, 1, 2])
  const places = samplePlaces(10_000, 128)
  const gaps = places.slice(1).map((place, n) => place - places[n]!)
  expect(places).toHaveLength(128)
  expect(places.at(-1)).toBeLessThan(10_000)
  expect(Math.min(...gaps)).toBeGreaterThan(0)
  expect(Math.max(...gaps)).toBeLessThan((2 * 10_000) / 128)
  expect(new Set(gaps).size).toBeGreaterThan(1)
})
