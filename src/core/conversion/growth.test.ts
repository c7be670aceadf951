/** The aggregate gets devices while it takes a volume in: they lie behind the place that is kept for the volume's own. */
import { describe, expect, test } from '@jest/globals'
import { readLabel } from '../block/label.ts'
import { ConversionBed } from './testing/bed.ts'
import { changes, filled, writesOf } from './testing/files.ts'

/** Every block in use of the old range lies where the address rule says, on both plexes; nothing else does before the join (C5). */
function placesOf(bed: ConversionBed): string[] {
  const { old, layout, space } = bed.target
  const wrong: string[] = []
  for (let pvbn = old!.record.first + 1; pvbn < old!.end; pvbn++) {
    const joined = old!.state === 'joined'
    if (layout.exists(pvbn) !== (joined && old!.exists(pvbn))) wrong.push(`${pvbn} exists`)
    if (!joined && space.isBusy(pvbn) && !old!.exists(pvbn)) wrong.push(`${pvbn} is busy`)
  }
  return wrong
}

describe('11: growth before the join', () => {
  test.each([
    { when: 'absent', restart: false },
    { when: 'absent', restart: true },
    { when: 'scanned', restart: false },
    { when: 'scanned', restart: true },
  ])(
    'new devices come behind B+T, are used at once, and stay where they are: $when, $restart',
    async ({ when, restart }) => {
      const bed = new ConversionBed(21, [1500, 900], [1300])
      await filled(bed)
      bed.add([700, 400])
      bed.attach()
      await bed.open()
      await bed.cutOver()
      await bed.consistencyPoint()
      const { end } = bed.target.old!
      const before = writesOf(bed)
      if (when === 'scanned') await bed.scan()
      const { free } = bed.target.space
      await bed.grow()
      await bed.consistencyPoint()
      expect(bed.target.layout.devices.map(({ first }) => first >= end)).toEqual([false, true, true])
      expect(bed.target.space.free).toBeGreaterThan(free + 1000)
      expect(bed.target.waiting).toEqual([])
      if (restart) {
        bed.attach()
        await bed.open(1)
      }
      // More than the first device could take.
      for (let fbn = 0; fbn < 1100; fbn++) {
        expect(await bed.write('more', fbn, 3)).toBe('OK')
        if (fbn % 200 === 199) await bed.consistencyPoint()
      }
      await bed.consistencyPoint()
      expect(placesOf(bed)).toEqual([])
      expect(await bed.differences()).toEqual([])
      expect(await bed.problems()).toEqual([])
      expect(writesOf(bed)).toBe(before)
      if (when === 'absent') await bed.scan()
      await bed.join()
      expect(bed.target.layout.devices.map(({ first }) => first >= end)).toEqual([
        false,
        true,
        true,
        false,
        false,
      ])
      expect(placesOf(bed)).toEqual([])
      for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
      bed.attach()
      await bed.open(restart ? 0 : 1)
      expect(await bed.differences()).toEqual([])
      // What the scan did not mark is space now, and further devices come behind all of them.
      for (let fbn = 1100; fbn < 1900; fbn++) {
        expect(await bed.write('more', fbn, 4)).toBe('OK')
        if (fbn % 200 === 199) await bed.consistencyPoint()
      }
      bed.add([500])
      bed.attach()
      await bed.open()
      await bed.grow()
      await bed.consistencyPoint()
      expect(bed.target.layout.devices).toHaveLength(6)
      await changes(bed, 30, () => Promise.resolve())
      await bed.consistencyPoint()
      expect(await bed.differences()).toEqual([])
      for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
    },
  )

  test('a program that does not know of gaps is kept away by the labels, on both plexes, before there is one', async () => {
    const bed = new ConversionBed(22, [1500, 900], [2400])
    await filled(bed)
    bed.add([700])
    bed.attach()
    await bed.open()
    await bed.cutOver()
    await bed.consistencyPoint()
    await bed.grow()
    for (const plex of bed.newDevices)
      for (const device of plex) expect(await readLabel(bed.env, device)).toMatchObject({ version: 4 })
  })

  test('undone after it grew, the old volume is as it was, and can be converted again', async () => {
    const bed = new ConversionBed(23, [1500, 900], [1300])
    await filled(bed)
    bed.add([900])
    bed.attach()
    await bed.open()
    await bed.cutOver()
    await bed.consistencyPoint()
    const first = bed.target.old!.record.first
    await bed.grow()
    await bed.scan()
    bed.target.undoAdoption()
    expect(await bed.differences()).toEqual([])
    for (let n = 0; n < 3; n++) await bed.consistencyPoint()
    expect(bed.target.usedBlocks).toBeLessThan(10)
    bed.adoption = undefined
    bed.attach()
    await bed.open()
    await bed.cutOver()
    expect(bed.target.old!.record.first).toBeGreaterThan(first)
    await changes(bed, 60, async () => void (await bed.step(20)))
    await bed.scan()
    await bed.join()
    expect(placesOf(bed)).toEqual([])
    expect(await bed.differences()).toEqual([])
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
  })

  test('devices that were being prepared when the cut-over came are prepared anew, behind the volume', async () => {
    const bed = new ConversionBed(24, [1500, 900], [2400])
    await filled(bed)
    bed.add([700])
    bed.attach()
    await bed.open()
    await bed.consistencyPoint()
    const preparing = bed.grow()
    bed.adoptNow()
    await preparing
    expect(bed.target.growing).toBe(false)
    await bed.grow()
    await bed.consistencyPoint()
    expect(placesOf(bed)).toEqual([])
    await bed.scan()
    await bed.join()
    expect(await bed.differences()).toEqual([])
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
  })
})
