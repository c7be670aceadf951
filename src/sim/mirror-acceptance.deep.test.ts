/** Acceptance tests of mirrors that need whole pairs, by their numbers; those of rings, deadlocks and known-bad builds are in ring.deep.test.ts and mirror-known-bad.deep.test.ts. */
import { describe, expect, test } from '@jest/globals'
import { Caller, SideAnswers } from './caller.ts'
import { Client } from './client.ts'
import type { FilerPair } from './filer-pair.ts'
import { MirrorRing, volumeOf } from './mirrors.ts'
import type { RingOptions } from './mirrors.ts'
import { FILERS, LINKS } from './names.ts'
import { SETTLE_MS } from './scenario.ts'
import { OrderedWriter } from './write-order.ts'

async function inSync(
  options: Omit<RingOptions, 'closed'> & { readonly closed?: boolean },
): Promise<MirrorRing> {
  const ring = new MirrorRing({ closed: false, ...options })
  await ring.start()
  await ring.untilInSync()
  return ring
}

const ownerAt = (pair: FilerPair) => pair.running[pair.ownerOf('a')]!.filer!.pair.sides.get('a')!.owner!
const leavings = (ring: MirrorRing) => ring.world.lines.filter(({ event }) => event === 'mirror leaves sync')

function slow(pair: FilerPair, times: number): void {
  for (const name of FILERS) pair.slowness[name] = times
}

/** A consistency point of the side every `ms`, from now on until it is told to end. */
function freezeOften(pair: FilerPair, ms: number): { end(): void } {
  let ended = false
  const again = (): void => {
    if (ended) return
    ownerAt(pair).wantCp()
    pair.world.after(ms, again)
  }
  again()
  return { end: () => (ended = true) }
}

test.each([1, 2, 4])(
  '3: at a destination that is ten times as slow log files come with the freezes of the source, and go again (Q = %d)',
  async (q) => {
    const ring = await inSync({
      seed: q,
      pairs: 2,
      clients: 4,
      limits: { incompleteEpochs: q, logFiles: 64 },
    })
    slow(ring.pairs[1]!, 10)
    const often = freezeOften(ring.pairs[0]!, 20)
    await ring.world.run(4000)
    const { files } = ring.checks.most.get(0)!
    // Never more than W + Q + 1 (B6, looked at all the time); only what is in flight is missing for that many. Explored, it is reached (decisions.test.ts).
    expect(files).toBeGreaterThan(10)
    expect(ring.checks.nearest).toBeLessThanOrEqual(q + 2)
    expect(leavings(ring)).toEqual([])
    often.end()
    slow(ring.pairs[1]!, 1)
    await ring.world.until(() => ring.status(0)!.logFiles <= 2, SETTLE_MS, 'log files gone')
    await ring.part(0)
    await ring.verify(0)
  },
  120_000,
)

test('4: at two log files calls on the volume wait, then it leaves sync; nothing hangs, and another volume feels nothing', async () => {
  const ring = new MirrorRing({ seed: 4, pairs: 2, closed: false, clients: 3, limits: { logFiles: 2 } })
  const [home, away] = [ring.pairs[0]!, ring.pairs[1]!]
  home.copies = [volumeOf('plain', '/plain')]
  const peers: Client[] = []
  const plain = new Client(new Caller(home, 'a', 'plain', new SideAnswers()), '/plain', peers)
  peers.push(plain)
  plain.pauseMs = 4
  await ring.start()
  await ring.untilInSync()
  plain.run()
  const often = freezeOften(home, 20)
  /** Windows of 100 ms in which the mirrored volume stood still and the other one did not, and operations of the other one in a second. */
  const watch = async (windows: number): Promise<{ stalls: number; perSecond: number }> => {
    const begun = plain.caller.operations
    let stalls = 0
    for (let n = 0; n < windows; n++) {
      const [mirrored, other] = [ring.operations, plain.caller.operations]
      await ring.world.run(100)
      if (ring.operations === mirrored && plain.caller.operations > other) stalls += 1
    }
    return { stalls, perSecond: (plain.caller.operations - begun) / (windows / 10) }
  }
  const before = await watch(20)
  slow(away, 60)
  const stalling = await watch(40)
  expect(ring.status(0)!.logFiles).toBeLessThanOrEqual(2)
  expect(stalling.stalls).toBeGreaterThan(5)
  expect(stalling.perSecond).toBeGreaterThan(before.perSecond * 0.8)
  slow(away, 4000)
  await ring.world.until(() => ring.status(0)?.state === 'OutOfSync', 20_000, 'out of sync')
  const alone = await watch(20)
  expect(alone.stalls).toBe(0)
  expect(alone.perSecond).toBeGreaterThan(before.perSecond * 0.8)
  often.end()
  ring.peace()
  await ring.untilInSync()
  await ring.part(0)
  await ring.verify(0)
  plain.stop()
  await ring.world.until(() => plain.idle, SETTLE_MS, 'the other client answered')
  await ring.world.wait(plain.verify(), SETTLE_MS, 'last reads')
}, 240_000)

describe('5: the destination crashes at a message between the pairs, its partner takes over, and the mirror is broken', () => {
  test.each([1, 2, 3, 4, 7, 10, 15, 20])(
    'message %d',
    async (at) => {
      const ring = await inSync({ seed: at, pairs: 2, clients: 3 })
      const { network } = ring.pairs[0]!
      const away = ring.targetOf(0)
      await ring.world.run(200)
      let messages = 0
      network.tap = ({ link, frames }) => {
        if (link === 'between' && frames.some(({ kind }) => !kind.startsWith('heartbeat'))) messages += 1
        if (messages === at) ring.world.after(0, () => away.crash(away.ownerOf('a')))
        return frames
      }
      await ring.world.until(() => away.crashes > 0, SETTLE_MS, 'a crash')
      network.tap = undefined
      // With the partner alone, or when all is well again.
      if (at % 2 === 0) {
        ring.peace()
        await ring.untilGood()
        await ring.untilInSync()
      } else await ring.world.run(100)
      ring.lose(0)
      await ring.break(0)
      await ring.verify(0)
    },
    120_000,
  )
})

test('6: the destination freezes while an image comes in: it keeps the image before, and the log files behind it', async () => {
  const ring = await inSync({ seed: 6, pairs: 2, clients: 4 })
  const [home, away] = [ring.pairs[0]!, ring.pairs[1]!]
  home.network.bandwidth('between', 400)
  const often = [freezeOften(away, 7), freezeOften(home, 200)]
  let [images, freezes, kept] = [0, 0, 0]
  let [image, cp] = [0, 0]
  for (let n = 0; n < 1000; n++) {
    await ring.world.run(2)
    const { durableImage, logFiles } = ring.statusAt(away, 0)!
    const { newestCp } = away.running[away.ownerOf('a')]!.filer!.stores.get('a')!
    if (newestCp !== cp) freezes += 1
    if (durableImage !== image) images += 1
    else if (newestCp !== cp && logFiles > 0) kept += 1
    ;[image, cp] = [durableImage, newestCp]
  }
  expect(images).toBeGreaterThan(2)
  expect(freezes).toBeGreaterThan(5 * images)
  expect(kept).toBeGreaterThan(images)
  for (const one of often) one.end()
  ring.lose(0)
  await ring.break(0)
  await ring.verify(0)
}, 120_000)

describe('7: the source is taken over with operations in the log of only one of its partner and the destination', () => {
  test.each([
    ['the partner is farther away', ['one', 'two']],
    ['the destination is farther away', ['between']],
  ])(
    '%s: nothing is lost, and no baseline is sent',
    async (_, links) => {
      for (const seed of [1]) {
        const ring = await inSync({ seed, pairs: 2, clients: 4 })
        const home = ring.pairs[0]!
        for (const link of links) home.network.delay(link, 30, 30)
        await ring.world.run(400)
        home.crash(home.ownerOf('a'), true)
        for (const link of links) home.network.delay(link, 0.1, 0.1)
        await ring.world.run(1500)
        expect(ring.status(0)).toMatchObject({ state: 'InSync' })
        ring.peace()
        await ring.untilGood()
        await ring.untilInSync()
        expect(leavings(ring)).toEqual([])
        ring.lose(0)
        await ring.break(0)
        await ring.verify(0)
      }
    },
    120_000,
  )
})

test('10: an old owner of the source, which nobody told that it was taken over, greets the destination: refused', async () => {
  const ring = await inSync({ seed: 10, pairs: 2, clients: 3 })
  const home = ring.pairs[0]!
  const { network } = home
  const old = home.ownerOf('a')
  await ring.world.run(300)
  home.vote.silentFor.add(old)
  for (const link of LINKS) network.cut(link)
  await ring.world.until(() => home.ownerOf('a') !== old, SETTLE_MS, 'taken over')
  await ring.world.run(500)
  network.cut('between')
  network.heal('between')
  const refused = (): boolean => {
    const status = home.running[old]?.filer?.mirrors.status().find(({ id }) => id === 'm0')
    return status?.message === 'the destination has heard of a newer owner of this side'
  }
  await ring.world.until(refused, SETTLE_MS, 'the old owner is refused')
  await ring.world.run(500)
  ring.lose(0)
  await ring.break(0)
  // The old source comes back, and changes nothing.
  ring.peace()
  await ring.untilGood()
  await ring.world.run(2000)
  await ring.verify(0)
}, 120_000)

test.each([1, 2, 3, 4])(
  '9: the destination crashes twice while it repeats its log files (seed %d)',
  async (seed) => {
    const ring = await inSync({ seed, pairs: 2, clients: 4 })
    const away = ring.targetOf(0)
    await ring.world.run(1500)
    ring.lose(0)
    ring.order(0, { state: 'Broken' })
    const breaking = (): boolean => ring.statusAt(away, 0)?.state === 'Breaking'
    for (let times = 0; times < 2; times++) {
      await ring.world.until(breaking, SETTLE_MS, 'breaking')
      await ring.world.run(ring.world.random.between(0, 2))
      expect(breaking()).toBe(true)
      away.crash(away.ownerOf('a'))
      // The partner takes over, in the middle of the same; when it crashes too, both start again.
      if (times === 1) for (const name of FILERS) away.start(name)
    }
    await ring.untilBroken(0)
    await ring.verify(0)
  },
  120_000,
)

test('11: logs, receive memory and staging of both pairs are filled at once: every call ends, and nothing leaves sync, without limits of time', async () => {
  const ring = await inSync({
    seed: 11,
    pairs: 2,
    closed: true,
    clients: 6,
    logBlocks: 1 + 2 * 64,
    cacheBytes: 6 << 20,
    limits: { creditBytes: 256 << 10, blocks: 64, patienceMs: 1e9 },
  })
  for (const pair of ring.pairs) slow(pair, 20)
  const callers = ring.clients.flat().map(({ caller }) => caller)
  for (const client of ring.clients.flat()) client.pauseMs = 0
  let full = 0
  for (let n = 0; n < 6; n++) {
    const before = callers.map(({ operations }) => operations)
    for (let at = 0; at < 100; at++) {
      await ring.world.run(20)
      const isFull = (pair: FilerPair): boolean => !ownerAt(pair).log.halfIsFree && ownerAt(pair).waiting > 0
      if (ring.pairs.every(isFull)) full += 1
    }
    for (const [at, { operations, machine }] of callers.entries())
      expect([machine, operations > before[at]!]).toEqual([machine, true])
  }
  if (process.env['TANDEM_SHOW'] !== undefined) process.stdout.write(`full at both: ${full} of 600\n`)
  expect(full).toBeGreaterThan(50)
  expect(leavings(ring)).toEqual([])
  ring.peace()
  for (const n of ring.whole) await ring.verify(n)
}, 240_000)

describe('12: ten volumes of one source', () => {
  async function star(seed: number, pairs: number) {
    const ring = await inSync({ seed, pairs, clients: 0, volumes: 10 })
    const [home] = ring.pairs
    const answers = new SideAnswers()
    const writers = [0, 1, 2].map(
      (k) =>
        new OrderedWriter(
          new Caller(home!, 'a', `w${k}`, answers),
          ring.edges.map(({ path }) => path),
        ),
    )
    for (const writer of writers) writer.run().catch((error: unknown) => ring.world.fail(error))
    await ring.world.run(ring.world.random.between(400, 1500))
    return { ring, writers }
  }
  /** The source is lost at once, all mirrors are broken: how many writes of each client are there. */
  async function found(ring: MirrorRing, writers: readonly OrderedWriter[]): Promise<number[]> {
    for (const writer of writers) writer.stop()
    ring.lose(0)
    for (const n of ring.edges.keys()) ring.order(n, { state: 'Broken' })
    for (const n of ring.edges.keys()) await ring.untilBroken(n)
    const readers = ring.edges.map((_, n) => new Caller(ring.targetOf(n), 'a', `r${n}`, new SideAnswers()))
    const counts: number[] = []
    for (const writer of writers)
      counts.push(
        await ring.world.wait(
          writer.found((n) => readers[n]!),
          SETTLE_MS,
          'reads',
        ),
      )
    return counts
  }

  test.each([
    ['one destination', 2],
    ['three destinations', 4],
  ])(
    '%s: of writes that depend on one another all up to some moment are there, and all that were answered',
    async (_, pairs) => {
      for (const seed of [1, 2]) {
        const { ring, writers } = await star(seed, pairs)
        const counts = await found(ring, writers)
        for (const [k, writer] of writers.entries()) {
          expect(writer.acknowledged).toBeGreaterThan(50)
          expect(counts[k]).toBeGreaterThanOrEqual(writer.acknowledged)
        }
      }
    },
    240_000,
  )

  test('out of sync they left it together: what the destination has is of one moment', async () => {
    const { ring, writers } = await star(3, 2)
    ring.pairs[0]!.network.cut('between')
    await ring.world.until(() => ring.status(0)?.state === 'OutOfSync', SETTLE_MS, 'out of sync')
    const alone = writers.map(({ acknowledged }) => acknowledged)
    await ring.world.run(1000)
    for (const [k, writer] of writers.entries()) expect(writer.acknowledged).toBeGreaterThan(alone[k]!)
    const counts = await found(ring, writers)
    for (const [k, count] of counts.entries()) {
      expect(count).toBeGreaterThan(50)
      expect(count).toBeLessThanOrEqual(alone[k]! + 1)
    }
  }, 240_000)
})

test('14: snapshots and changes of size under load: the destination follows the size, and has what clients were told', async () => {
  const ring = await inSync({ seed: 14, pairs: 2, clients: 3, volumes: 1 })
  const [home, away] = [ring.pairs[0]!, ring.pairs[1]!]
  const filer = () => home.running[home.ownerOf('a')]!.filer!
  const order = async (op: 'Create' | 'Delete', snapshot: string): Promise<void> => {
    const asked = filer().snapshot({ volumeId: 'star-0', op, snapshot, requestId: `${op} ${snapshot}` })
    expect(await ring.world.wait(asked, SETTLE_MS, `${op} ${snapshot}`)).toMatchObject({ accepted: true })
  }
  const sizeAt = (pair: FilerPair, id: string): number | undefined => {
    const store = pair.running[pair.ownerOf('a')]?.filer?.stores.get('a')
    return store?.aggregates.get('aggr-a')?.volume(id)?.sizeBytes
  }
  for (let n = 0; n < 12; n++) {
    await order('Create', `s${n}`)
    if (n >= 3) await order('Delete', `s${n - 3}`)
    const sizeBytes = (8 + (n % 3) * 3) * 2 ** 20
    home.copies = home.copies.map((one) => (one.id === 'star-0' ? { ...one, sizeBytes } : one))
    await ring.world.wait(home.mirror(home.mirrors), SETTLE_MS, 'another size')
    await ring.world.until(() => sizeAt(home, 'star-0') === sizeBytes, SETTLE_MS, 'the size at the source')
    await ring.world.run(150)
  }
  expect(leavings(ring)).toEqual([])
  const size = sizeAt(home, 'star-0')!
  expect(size).not.toBe(8 * 2 ** 20)
  await ring.world.until(() => sizeAt(away, 'copy-0') === size, SETTLE_MS, 'the size at the destination')
  ring.lose(0)
  await ring.break(0)
  await ring.verify(0)
}, 120_000)
