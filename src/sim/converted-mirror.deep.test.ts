/** A mirror is asked for while its source is still a traditional volume, and that is converted: it begins when the conversion is complete, and is one like any other. */
import { expect, test } from '@jest/globals'
import { MirrorRing } from './mirrors.ts'
import { problemsOf, untilEqual } from './pair-check.ts'
import { SETTLE_MS } from './scenario.ts'

test.each([1, 2])(
  'a volume that was converted is mirrored, and lost with its pair nothing of it is lost: seed %d',
  async (seed) => {
    const ring = new MirrorRing({ seed, pairs: 2, closed: false, traditional: true, clients: 2 })
    const [home, away] = [ring.pairs[0]!, ring.destinationOf(0)]
    await ring.start()
    await ring.world.run(800)
    expect(ring.status(0)?.state).not.toBe('InSync')
    home.convert('a', 'Converted')
    let begunEarly = false
    await ring.world.until(
      () => {
        const phase = home.conversionOf('a')?.phase
        begunEarly ||= phase !== 'Complete' && ring.status(0)?.state === 'Baseline'
        return phase === 'Complete'
      },
      SETTLE_MS,
      'conversion complete',
    )
    expect(begunEarly).toBe(false)
    await ring.untilInSync()
    await ring.world.run(500)
    home.crash(home.ownerOf('a'))
    await ring.world.run(1500)
    ring.peace()
    await ring.untilGood()
    await ring.untilInSync()
    await ring.verify(0)
    for (const client of ring.clients[0]!) client.run()
    await ring.world.run(300)
    ring.lose(0)
    await ring.break(0)
    await ring.world.run(300)
    await ring.verify(0)
    expect(ring.operations).toBeGreaterThan(500)
    await untilEqual(away, SETTLE_MS)
    expect(await problemsOf(away)).toEqual([])
  },
  240_000,
)
