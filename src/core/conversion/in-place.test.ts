/** A traditional volume becomes a flexible one over simulated media: content, structure, space, and what is written to the old devices. */
import { describe, expect, test } from '@jest/globals'
import type { BrokenStorage } from '../block/broken-storage.ts'
import { ConversionBed } from './testing/bed.ts'
import { changes, filled, writesOf } from './testing/files.ts'

describe('conversion in place', () => {
  test('2, 6, 9: files of all border sizes have their content before, while and after; the old devices are not written until the join (C1, C2, C7, C8, C9)', async () => {
    const bed = new ConversionBed(1, [1500, 900], [2000])
    await filled(bed)
    expect(await bed.differences()).toEqual([])
    await bed.cutOver()
    const before = writesOf(bed)
    expect(await bed.differences()).toEqual([])
    await bed.consistencyPoint()
    expect(await bed.problems()).toEqual([])
    await bed.scan()
    expect(await bed.differences()).toEqual([])
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
    expect(writesOf(bed)).toBe(before)
    await bed.join()
    // Two copies of the label of each device, on both plexes.
    expect(writesOf(bed)).toBe(before + 8)
    expect(bed.target.old!.state).toBe('joined')
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
    bed.attach()
    await bed.open(1)
    expect(await bed.differences()).toEqual([])
    // What it had as metadata is free: there is room for more than the new devices have.
    for (let fbn = 0; fbn < 2100; fbn++) {
      expect(await bed.write('big', fbn, 2)).toBe('OK')
      if (fbn % 200 === 199) await bed.consistencyPoint()
    }
    await bed.consistencyPoint()
    expect(writesOf(bed)).toBeGreaterThan(before + 500)
    expect(await bed.differences()).toEqual([])
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
  })

  test('3: reads and writes at random beside the scan keep every file as its model has it', async () => {
    for (const seed of [1, 2, 3]) {
      const bed = new ConversionBed(seed, [1500, 900], [2400])
      await filled(bed)
      await bed.cutOver()
      await changes(bed, 120, async () => void (await bed.step(1 + (bed.random.u32() % 20))))
      expect(await bed.differences()).toEqual([])
      await bed.consistencyPoint()
      expect(await bed.problems()).toEqual([])
      await bed.scan()
      await bed.join()
      await changes(bed, 40, () => Promise.resolve())
      await bed.consistencyPoint()
      expect(await bed.differences()).toEqual([])
      for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
    }
  })

  test('5, 9: 64 callers at once get equal bytes through one absent block, and nothing of content is copied (C3, C9)', async () => {
    const bed = new ConversionBed(5, [1500, 900], [2400])
    await filled(bed)
    await bed.cutOver()
    const reads = Array.from({ length: 64 }, () => bed.read('f13641', 13640))
    const found = await Promise.all(reads)
    for (const bytes of found) expect(bytes).toEqual(found[0])
    await bed.scan(7)
    expect(await bed.read('f13641', 13640)).toEqual(found[0])
    expect(bed.target.old!.copied).toBe(0)
    expect(bed.target.old!.built).toBeGreaterThan(20)
  })

  test('7: an aggregate that is full before the join refuses cleanly; what was there stays, and it goes on when there is room', async () => {
    const bed = new ConversionBed(6, [1500, 900], [500])
    await filled(bed)
    await bed.cutOver()
    let refused = ''
    for (let fbn = 0; refused === '' && fbn < 2000; fbn++) {
      const status = await bed.write('full', fbn, 1)
      if (status !== 'OK') refused = status
      if (fbn % 50 === 49) await bed.consistencyPoint()
    }
    expect(refused).toBe('NOSPC')
    await bed.consistencyPoint()
    expect(await bed.differences()).toEqual([])
    await expect(bed.scan()).rejects.toThrow('no space')
    await bed.truncate('full', 0)
    await bed.fs.reclaim()
    for (let n = 0; n < 2; n++) await bed.consistencyPoint()
    await bed.scan()
    await bed.join()
    expect(await bed.differences()).toEqual([])
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
  })

  test('14: a cut-over costs the same for any number of files (C12)', async () => {
    const costs: unknown[] = []
    for (const files of [10, 1000]) {
      const bed = new ConversionBed(files, [1500, 900], [2400])
      await bed.format()
      for (let n = 0; n < files; n++) await bed.write(`f${n}`, 0, 1)
      await bed.cutOver()
      const { adoption } = bed.adoption!
      costs.push([bed.volume.freshBlocks, JSON.stringify({ ...adoption, record: 0 }).length])
    }
    expect(costs[0]).toEqual(costs[1])
  })

  test('13: rotten old blocks and blocks that are not the ones asked for are found and mended, before the join and after', async () => {
    const bed = new ConversionBed(7, [1500, 900], [2400])
    await filled(bed)
    await bed.cutOver()
    for (const when of ['absent', 'joined']) {
      if (when === 'joined') {
        await bed.scan()
        await bed.join()
      }
      expect(bed.target.old!.state).toBe(when)
      await bed.target.close()
      await bed.source?.close()
      // Rot in every third block, and every fifth is the one before: on one plex only.
      for (const medium of bed.oldMedia[0]!) {
        for (const [block, content] of [...medium.stable]) {
          if (block < 8 || (block - 8) % 129 === 0 || block === medium.blocks - 1) continue
          const other = medium.stable.get(block - 1)
          if (block % 3 === 0)
            medium.stable.set(
              block,
              content.map((byte, i) => (i === 99 ? byte ^ 1 : byte)),
            )
          else if (block % 5 === 0 && other !== undefined) medium.stable.set(block, other)
        }
      }
      bed.attach()
      await bed.open()
      expect(await bed.differences()).toEqual([])
      const { io } = bed.source ?? bed.target
      expect(io.damaged).toBeGreaterThan(10)
      expect(io.unrepairable.size).toBe(0)
    }
  })

  test('15: undone, the old volume is as it was at the fence, and can be converted again', async () => {
    const bed = new ConversionBed(8, [1500, 900], [2400])
    await filled(bed)
    await bed.cutOver()
    const before = new Map([...bed.model].map(([name, blocks]) => [name, new Map(blocks)]))
    await changes(bed, 30, async () => void (await bed.step(20)))
    await bed.consistencyPoint()
    bed.undo()
    bed.model.clear()
    for (const [name, blocks] of before) bed.model.set(name, blocks)
    expect(await bed.differences()).toEqual([])
    for (let n = 0; n < 3; n++) await bed.consistencyPoint()
    expect(bed.target.usedBlocks).toBeLessThan(10)
    expect(await bed.problems()).toEqual([])
  })

  describe('16: builds that leave out one rule are caught', () => {
    const bad = async (broken: BrokenStorage): Promise<ConversionBed> => {
      const bed = new ConversionBed(9, [1500, 900], [2400])
      await filled(bed)
      bed.broken = broken
      bed.attach()
      await bed.open()
      await bed.cutOver()
      return bed
    }

    test.each([{ joinUnbuilt: true }, {}])(
      'what is not marked counts as free: %p',
      async (broken: BrokenStorage) => {
        const bed = await bad(broken)
        if (broken.joinUnbuilt !== true) await bed.scan()
        await bed.join()
        const fill = async (): Promise<boolean> => {
          for (let fbn = 0; fbn < 2200; fbn++) {
            await bed.write('big', fbn, 2)
            if (fbn % 200 === 199) await bed.consistencyPoint()
          }
          await bed.consistencyPoint()
          return (await bed.differences()).length > 0
        }
        const found = await fill().catch(() => true)
        expect(found).toBe(broken.joinUnbuilt === true)
      },
    )

    test.each([{ labelsBeforeIntent: true }, {}])(
      'labels before the intent: %p',
      async (broken: BrokenStorage) => {
        const bed = await bad(broken)
        await bed.scan()
        bed.target.prepareJoin(bed.source!)
        const point = bed.target.freeze({
          cp: bed.target.root.cp + 1,
          epoch: 1,
          covers: bed.journal.records.length,
        })
        await point.write()
        bed.crash()
        bed.attach()
        const opened = bed.open().then(
          () => 'opened',
          () => 'neither volume can be served',
        )
        expect(await opened).toBe(
          broken.labelsBeforeIntent === true ? 'neither volume can be served' : 'opened',
        )
      },
    )

    test.each([{ oldNumbersReused: true }, {}])(
      'an identity pair is handed out anew: %p',
      async (broken: BrokenStorage) => {
        const bed = await bad(broken)
        const caught = await changes(bed, 200, async () => void (await bed.step(5)))
          .then(() => bed.consistencyPoint())
          .then(() => bed.differences())
          .then(async (found) => found.length > 0 || (await bed.problems()).length > 0)
          .catch(() => true)
        expect(caught).toBe(broken.oldNumbersReused === true)
      },
    )

    test.each([{ oldInPlace: true }, {}])(
      'an old block is overwritten where it lies: %p',
      async (broken: BrokenStorage) => {
        const bed = await bad(broken)
        const before = writesOf(bed)
        await bed.differences()
        for (let fbn = 0; fbn < 10; fbn++) await bed.write('f20', fbn, 5)
        await bed.consistencyPoint()
        expect(writesOf(bed) === before).toBe(broken.oldInPlace !== true)
        bed.attach()
        await bed.open()
        expect((await bed.differences()).length > 0).toBe(broken.oldInPlace === true)
      },
    )
  })
})
