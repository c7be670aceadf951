/** A power cut after every single write of a conversion, on either plex. */
import { expect, test } from '@jest/globals'
import { DeviceError } from '../env/device.ts'
import { ConversionBed } from './testing/bed.ts'
import { changes, filled } from './testing/files.ts'

test('4, 10: power cuts after every write of the scan, the join and the labels: nothing is lost, and it goes on', async () => {
  let cuts = 0
  for (let at = 1; at <= 30; at++) {
    const bed = new ConversionBed(at, [800, 700], [1800])
    await filled(bed)
    await bed.cutOver()
    await changes(bed, 10, () => Promise.resolve())
    let writes = 0
    const cut = {
      onWrite: () => {
        writes += 1
        if (writes === at) throw new PowerCut()
      },
    }
    bed.attach(cut, cut)
    await bed.open()
    let done = false
    try {
      await changes(bed, 5, async () => void (await bed.step(30)))
      await bed.scan(40)
      await bed.join()
      done = true
    } catch (error) {
      if (!isCut(error)) throw error
      cuts += 1
    }
    if (done) continue
    bed.crash()
    bed.attach()
    await bed.open(at % 2)
    expect(await bed.differences()).toEqual([])
    if (bed.target.old!.state === 'absent') await bed.scan()
    await bed.join()
    expect(await bed.differences()).toEqual([])
    for (const plex of [0, 1]) expect(await bed.problems(plex)).toEqual([])
  }
  expect(cuts).toBeGreaterThan(15)
})

class PowerCut extends DeviceError {
  constructor() {
    super('EIO', 'power cut')
  }
}
const isCut = (error: unknown): boolean => error instanceof DeviceError
