/** What a conversion must keep, by the numbers of the invariants (C1-C12) and tests of docs/conversion.md; those of in-place.test.ts and growth.test.ts apart. */
import { describe, expect, test } from '@jest/globals'
import { GROUP_BLOCKS, Layout } from '../block/layout.ts'
import { BLOCK_BYTES } from '../env/device.ts'
import { ConversionBed } from './testing/bed.ts'
import { changes, filled } from './testing/files.ts'

/** What is in a block of the old devices of a plex, read there. */
async function oldBlocks(bed: ConversionBed, plex: number): Promise<Map<number, string>> {
  const layout = new Layout(bed.oldMedia[plex]!.map(({ blocks }) => blocks))
  const found = new Map<number, string>()
  for (let vbn = 1; vbn < layout.end; vbn++) {
    if (!layout.exists(vbn)) continue
    const { device, block } = layout.locate(vbn)
    const bytes = new Uint8Array(BLOCK_BYTES)
    await bed.oldDevices[plex]![device]!.read(block, bytes)
    found.set(vbn, Buffer.from(bytes).toString('latin1'))
  }
  return found
}

describe('conversion, by number', () => {
  test.each(['absent', 'half built', 'scanned'])(
    '8: files deleted and truncated while they are %s leave nothing behind (C4, C8)',
    async (when) => {
      const bed = new ConversionBed(31, [1500, 900], [2400])
      await filled(bed)
      await bed.cutOver()
      const empty = bed.target.usedBlocks
      if (when === 'half built') for (let n = 0; n < 12; n++) await bed.step(4)
      if (when === 'scanned') await bed.scan()
      await bed.truncate('f13641', 342)
      await bed.truncate('f1162811', 0)
      await bed.truncate('f3411', 11)
      for (const name of ['f20', 'f683', 'f1', 'f13640']) await bed.remove(name)
      await bed.fs.reclaim()
      for (let n = 0; n < 2; n++) await bed.consistencyPoint()
      expect(await bed.differences()).toEqual([])
      expect(await bed.problems()).toEqual([])
      if (bed.target.old!.state === 'absent') await bed.scan()
      await bed.join()
      expect(await bed.differences()).toEqual([])
      for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
      for (const name of [...bed.model.keys()]) await bed.remove(name)
      await bed.fs.reclaim()
      for (let n = 0; n < 3; n++) await bed.consistencyPoint()
      expect(bed.target.usedBlocks).toBeLessThan(empty + 60)
      const { old, space } = bed.target
      let left = 0
      for (let pvbn = old!.record.first; pvbn < old!.end; pvbn++)
        if (old!.exists(pvbn) && space.isBusy(pvbn)) left += 1
      // The folder and the ring of kept replies.
      expect(left).toBeLessThan(20)
      expect(await bed.problems()).toEqual([])
    },
  )

  test('9: on devices of uneven size every block is where the address rule says, on both plexes (C7)', async () => {
    const bed = new ConversionBed(32, [1000, 437, 701], [2000, 300])
    await filled(bed)
    await bed.consistencyPoint()
    const before = [await oldBlocks(bed, 0), await oldBlocks(bed, 1)]
    await bed.cutOver()
    await bed.scan()
    await bed.join()
    const { old, own, partner, layout, space } = bed.target
    expect(old!.record.first % GROUP_BLOCKS).toBe(0)
    let compared = 0
    const wrong: string[] = []
    for (const [plex, read] of [own, partner!].entries()) {
      for (const [vbn, content] of before[plex]!) {
        const pvbn = old!.record.first + vbn
        const bytes = new Uint8Array(BLOCK_BYTES)
        await read.readData(pvbn, bytes)
        if (Buffer.from(bytes).toString('latin1') !== content) wrong.push(`${plex}: ${vbn}`)
        if (space.isBusy(pvbn)) compared += 1
      }
    }
    expect(wrong).toEqual([])
    expect(compared).toBeGreaterThan(200)
    expect(layout.devices.slice(-3).map(({ first }) => first - old!.record.first)).toEqual(
      new Layout([1000, 437, 701]).devices.map(({ first }) => first),
    )
  })

  test('devices do not join while anything is absent, or a plex is not current (C6)', async () => {
    const bed = new ConversionBed(33, [1500, 900], [2400])
    await filled(bed)
    await bed.cutOver()
    await bed.step(10)
    expect(() => bed.target.prepareJoin(bed.source!)).toThrow('nothing is absent')
    await bed.scan()
    for (const aggregate of [bed.target, bed.source!]) {
      const { partner } = aggregate
      partner!.fail(new Error('lost'))
      expect(bed.target.prepareJoin(bed.source!)).toBe(false)
      partner!.failure = undefined
    }
    expect(bed.target.prepareJoin(bed.source!)).toBe(true)
  })

  describe.each(['absent', 'half built', 'scanned'] as const)('15: undone while %s', (when) => {
    test.each(['at once', 'crash before it is in an image', 'crash behind it'] as const)(
      'the old volume is as at the fence, and is converted again: %s (C1, C10)',
      async (crash) => {
        const bed = new ConversionBed(34, [1500, 900], [2400])
        await filled(bed)
        await bed.cutOver()
        const before = new Map([...bed.model].map(([name, blocks]) => [name, new Map(blocks)]))
        await changes(bed, 30, async () => {
          if (when === 'half built') await bed.step(3)
        })
        if (when === 'scanned') await bed.scan()
        if (crash !== 'at once') await bed.consistencyPoint()
        await changes(bed, 5, () => Promise.resolve())
        bed.undo()
        bed.model.clear()
        for (const [name, blocks] of before) bed.model.set(name, blocks)
        if (crash === 'crash behind it') await bed.consistencyPoint()
        if (crash !== 'at once') {
          bed.crash()
          bed.attach()
          await bed.open(1)
        }
        expect(bed.volume.type).toBe('Traditional')
        expect(await bed.differences()).toEqual([])
        await changes(bed, 10, () => Promise.resolve())
        for (let n = 0; n < 4; n++) await bed.consistencyPoint()
        for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
        expect(bed.target.usedBlocks).toBeLessThan(10)
        await bed.cutOver()
        await changes(bed, 20, async () => void (await bed.step(9)))
        await bed.scan()
        await bed.join()
        expect(await bed.differences()).toEqual([])
        for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
      },
    )
  })

  test.each([{ rangeBeforeLabels: true }, {}])(
    '16: the range is handed out before its devices have their labels (C2, C5): %p',
    async (broken) => {
      const bed = new ConversionBed(35, [1500, 900], [1000])
      await filled(bed)
      bed.broken = broken
      bed.attach()
      await bed.open()
      await bed.cutOver()
      await bed.scan()
      expect(bed.target.prepareJoin(bed.source!)).toBe(true)
      // The intent is durable, and no label is written.
      await bed.consistencyPoint({ labels: false })
      expect(bed.target.old!.state).toBe('joined')
      for (let fbn = 0; fbn < 1300; fbn++) if ((await bed.write('big', fbn, 2)) !== 'OK') break
      await bed.consistencyPoint({ labels: false })
      expect(bed.writtenBehindOldLabels > 0).toBe(broken.rangeBeforeLabels === true)
    },
  )
})
